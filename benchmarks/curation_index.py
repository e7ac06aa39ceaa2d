"""The near-duplicate index in PostgreSQL: documents per CPU-second, bytes, and cost as it grows.

    python -m benchmarks.curation_index [--quick]

Texts of about 200 words (a made-up request and blocks of the standard library's source, one in
twenty an edited repeat) go the way that a build takes them: normalised, indexed with their prompts,
committed, compared with all that is there. CPU is of this process and of its PostgreSQL backend;
making the texts and storing the examples that they belong to is not counted. A million documents
take some minutes and 6 GB of disk.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import psycopg
from sqlalchemy import Connection, text
from sqlmodel import Session

from benchmarks.bars import Figure, report
from curation.boilerplate import NO_TEMPLATES
from curation.dedupe.index import compare_texts, index_texts
from curation.normalize import normalize_all
from curation.recipe import CurationRecipe
from foundation.chat import message
from foundation.database import connect
from foundation.embedded import start_embedded
from foundation.ids import new_id

SIZES, QUICK_SIZES = (100_000, 300_000, 1_000_000), (20_000, 50_000)
SMALL, QUICK_SMALL = 10_000, 5_000
"""Documents beside which the cost of some new ones is measured first."""
BATCH = 2_000
NEW_ROWS, ROUNDS = 1_000, 9
MOST_GROWTH = 2.0
ROLE = "coder"
RECIPE = CurationRecipe()

_VERBS = ("Fix", "Refactor", "Document", "Test", "Speed up", "Rewrite", "Port", "Review")
_DEFAULTS = {
    "role": ROLE,
    "variant": RECIPE.variant,
    "project": "default",
    "corrected": "false",
    "polarity": "positive",
    "status": "kept",
    "scores": "{}",
    "norm_hash": "",
    "row_hash": "",
    "split": "train",
    "split_key": "",
    "n_tokens": "0",
    "protection": "",
    "needs_judging": "false",
    "needs_settling": "false",
    "created_at": "now",
}
"""Of the columns of an example that neither indexing nor comparing reads."""
_UNMEASURED_INDEXES = (
    "ix_example_role_status",
    "ix_example_cluster_id",
    "ix_example_episode_id",
    "ix_example_split_key",
    "ix_example_unsettled",
    "ix_example_needs_judging",
)


@dataclass
class Cost:
    """CPU seconds of some documents by step."""

    n: int = 0
    client_s: dict[str, float] = field(default_factory=dict)
    backend_s: dict[str, float] = field(default_factory=dict)

    @property
    def cpu_s(self) -> float:
        """All of it."""
        return sum(self.client_s.values()) + sum(self.backend_s.values())

    def add(self, step: str, client_s: float, backend_s: float) -> None:
        """Add what a step cost here and in the backend."""
        self.client_s[step] = self.client_s.get(step, 0.0) + client_s
        self.backend_s[step] = self.backend_s.get(step, 0.0) + backend_s

    def per_document_us(self) -> dict[str, float]:
        """Return microseconds per document, by step and process."""
        return {
            f"{step}, {process}": round(1e6 * seconds / max(self.n, 1), 1)
            for process, steps in (("client", self.client_s), ("backend", self.backend_s))
            for step, seconds in steps.items()
        }


class Index:
    """A database that takes in documents, and what they have cost."""

    def __init__(self, connection: Connection) -> None:
        self.session = Session(connection, expire_on_commit=False)
        pid = self.session.execute(text("SELECT pg_backend_pid()")).scalar_one()
        self._backend = psutil.Process(pid)
        self._texts = documents(seed=0)
        for name in _UNMEASURED_INDEXES:
            self.session.execute(text(f"DROP INDEX {name}"))
        for column, value in _DEFAULTS.items():
            self.session.execute(
                text(f"ALTER TABLE example ALTER COLUMN {column} SET DEFAULT '{value}'")
            )
        self.session.commit()
        self.n = 0

    def take_in(self, n: int, batch: int = BATCH) -> Cost:
        """Index and compare `n` further documents; return what that cost."""
        cost = Cost()
        while cost.n < n:
            some = [next(self._texts) for _ in range(min(batch, n - cost.n))]
            self._take_in_batch(some, cost)
            cost.n += len(some)
        self.n += n
        return cost

    def _take_in_batch(self, some: Sequence[tuple[str, str]], cost: Cost) -> None:
        prompts = [[message("user", prompt)] for prompt, _ in some]
        with self._timed("normalise", cost):
            pairs = zip(prompts, (answer for _, answer in some), strict=True)
            texts = normalize_all(list(pairs))
        with self._timed("index", cost):
            ids = index_texts(self.session, ROLE, RECIPE, texts)
            self.session.commit()
        self._store_examples(some, prompts, ids)
        with self._timed("compare", cost):
            compare_texts(self.session, ROLE, RECIPE, NO_TEMPLATES, [whole for whole, _ in ids])
            self.session.commit()

    def _store_examples(
        self,
        some: Sequence[tuple[str, str]],
        prompts: Sequence[list[dict[str, Any]]],
        ids: Sequence[tuple[int, int]],
    ) -> None:
        connection = self.session.connection().connection.driver_connection
        assert isinstance(connection, psycopg.Connection)
        with connection.cursor() as cursor, cursor.copy(_COPY_EXAMPLES) as copy:
            for prompt, (_, answer), (whole, asked) in zip(prompts, some, ids, strict=True):
                copy.write_row((new_id(), new_id(), json.dumps(prompt), answer, whole, asked))
        self.session.commit()

    def _timed(self, step: str, cost: Cost) -> "_Timed":
        return _Timed(self._backend, step, cost)

    def bytes_per_document(self) -> dict[str, float]:
        """Return the bytes on disk, indexes included, by table."""
        sizes = self.session.execute(
            text(
                "SELECT name, pg_total_relation_size(name::regclass) "
                "FROM unnest(ARRAY['text_band', 'indexed_text', 'text_edge']) AS name"
            )
        ).all()
        self.session.commit()
        return {name: size / self.n for name, size in sizes}


class _Timed:
    """Adds the CPU of a block, here and in the backend, to a cost."""

    def __init__(self, backend: psutil.Process, step: str, cost: Cost) -> None:
        self._backend, self._step, self._cost = backend, step, cost

    def __enter__(self) -> None:
        self._started = time.process_time(), _cpu_s(self._backend)

    def __exit__(self, *_: object) -> None:
        client_s, backend_s = self._started
        self._cost.add(
            self._step, time.process_time() - client_s, _cpu_s(self._backend) - backend_s
        )


def measure(quick: bool = False) -> list[Figure]:
    """Return the figures; quick stops at 50,000 documents."""
    sizes, small = (QUICK_SIZES, QUICK_SMALL) if quick else (SIZES, SMALL)
    with tempfile.TemporaryDirectory(prefix="bench-index-") as folder:
        home = Path(folder)
        url = start_embedded(home)
        subprocess.run(
            [sys.executable, "-m", "flywheel", "db", "upgrade", "--json"],
            env={**os.environ, "FLYWHEEL_HOME": str(home), "FLYWHEEL_DATABASE_URL": url},
            check=True,
            capture_output=True,
        )
        engine = connect(url)
        with engine.connect() as connection:
            figures = _measure(Index(connection), sizes, small)
        engine.dispose()
    return figures


def _measure(index: Index, sizes: Sequence[int], small: int) -> list[Figure]:
    index.take_in(small)
    first = [index.take_in(NEW_ROWS, NEW_ROWS) for _ in range(ROUNDS)]
    figures = []
    for size in sizes:
        n = size - index.n
        cost = index.take_in(n)
        figures.append(
            Figure(
                f"into PostgreSQL, up to {size:,} documents",
                n / cost.cpu_s,
                "docs/CPU-s",
                detail={
                    "documents": n,
                    "us_per_document": cost.per_document_us(),
                    "bytes_per_document": index.bytes_per_document(),
                },
            )
        )
    last = [index.take_in(NEW_ROWS, NEW_ROWS) for _ in range(ROUNDS)]
    sizes_of = index.bytes_per_document()
    costs = {"small": first, "large": last}
    growth = median(c.cpu_s for c in last) / median(c.cpu_s for c in first)
    return [
        *figures,
        Figure(
            f"cost of {NEW_ROWS:,} new documents, at {sizes[-1]:,} over at {small:,}",
            growth,
            "",
            at_most=MOST_GROWTH,
            detail={
                name: {
                    "cpu_s": [round(c.cpu_s, 4) for c in each],
                    "us_per_document": each[len(each) // 2].per_document_us(),
                }
                for name, each in costs.items()
            },
        ),
        Figure(
            f"index, bytes per document at {sizes[-1]:,}",
            sum(sizes_of.values()),
            "bytes",
            detail=sizes_of,
        ),
    ]


def documents(seed: int) -> Iterator[tuple[str, str]]:
    """Yield (prompt, answer) pairs without end; one in twenty repeats an earlier one."""
    draw = random.Random(seed)
    lines = _library_lines()
    words = sorted({word for line in lines for word in line.split() if word.isalpha()})
    earlier: list[tuple[str, str]] = []
    while True:
        if len(earlier) > 100 and draw.random() < 0.05:
            prompt, answer = draw.choice(earlier)
            yield prompt, _edited(answer, draw)
            continue
        made = (_request(words, draw), _blocks(lines, draw))
        if len(earlier) < 10_000:
            earlier.append(made)
        else:
            earlier[draw.randrange(len(earlier))] = made
        yield made


def _request(words: Sequence[str], draw: random.Random) -> str:
    """Return a line of 8 to 25 words that asks for something no other line asks for."""
    about = (draw.choice(words) for _ in range(draw.randrange(6, 23)))
    return f"{draw.choice(_VERBS)} {' '.join(about)}, please."


def _blocks(lines: Sequence[str], draw: random.Random) -> str:
    """Return blocks of three to six lines, 120-280 words: like code, and like no other text."""
    wanted, n_words = draw.randrange(120, 280), 0
    taken: list[str] = []
    while n_words < wanted:
        start = draw.randrange(len(lines) - 6)
        block = lines[start : start + draw.randrange(3, 7)]
        taken += block
        n_words += sum(len(line.split()) for line in block)
    return "\n".join(taken)


def _edited(answer: str, draw: random.Random) -> str:
    """Return the text with one to four words exchanged."""
    words = answer.split(" ")
    for _ in range(draw.randrange(1, 5)):
        words[draw.randrange(len(words))] = f"edited{draw.randrange(1000)}"
    return " ".join(words)


def _library_lines() -> list[str]:
    folder = Path(sysconfig.get_paths()["stdlib"])
    return [
        line
        for path in sorted(folder.glob("*.py"))
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines()
        if line.strip()
    ]


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


_COPY_EXAMPLES = """
    COPY example (id, interaction_id, prompt, answer, text_id, prompt_text_id) FROM STDIN
"""


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Measure the near-duplicate index in PostgreSQL.")
    parser.add_argument("--quick", action="store_true", help="fewer documents, for a look")
    return report("curation-index", measure(parser.parse_args().quick))


if __name__ == "__main__":
    sys.exit(main())
