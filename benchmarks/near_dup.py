"""Near duplicates per CPU-second, from text to decision; beside datasketch, rensa, Daft, datatrove.

Every tool gets the same texts: slices of 120 to 280 words of the Python source and the prose that
this environment came with, under a made-up line, one in ten a repeat of an earlier one (edited by a
few words, or not at all). The rounds of the tools alternate, CPU time is of all threads. What a
repeat is, is said in `benchmarks/near_dup_host.py`.

The peers (`benchmarks/peers-dedupe.txt`) run in a venv of their own, see `make bench-venv`; without
it our figure stands alone and the ratios count as missed.
"""

import json
import os
import random
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain, islice
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.bars import Figure

PROJECT = Path(__file__).resolve().parent.parent
PEER_PYTHON = Path(
    os.environ.get("FLYWHEEL_BENCH_DEDUPE_PYTHON", PROJECT / ".venv-bench-dedupe/bin/python")
)
OURS = "flywheel"
PEERS = ("datasketch", "rensa", "daft", "datatrove")
N_TEXTS, ROUNDS = 20_000, 5
DOCS_PER_CPU_S = 25_000.0
RATIOS = {"datasketch": 3.0, "daft": 1.0}
SHARE_OF_PROSE = 0.2
SHARE_REPEATED = 0.1


def measure(quick: bool = False) -> list[Figure]:
    """Return the figures; quick takes a fifth of the texts and one round."""
    n_texts, rounds = (N_TEXTS // 5, 1) if quick else (N_TEXTS, ROUNDS)
    peers = PEERS if PEER_PYTHON.exists() else ()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        path = Path(folder) / "texts.json"
        path.write_text(json.dumps(code_and_prose(n_texts, seed=0)), encoding="utf-8")
        hosts = {
            name: stack.enter_context(_Host(name, path, Path(folder))) for name in (OURS, *peers)
        }
        done: dict[str, list[dict[str, Any]]] = {name: [] for name in hosts}
        for _ in range(rounds):
            for name, host in hosts.items():
                done[name].append(host.round())
    rates = {name: [one["n_read"] / one["cpu_s"] for one in found] for name, found in done.items()}
    found = {name: len(each[0]["repeats"]) for name, each in done.items()}
    return [
        *(_rate(name, rates[name], found[name], n_texts) for name in hosts),
        *(_ratio(peer, rates) for peer in RATIOS),
    ]


def code_and_prose(n: int, seed: int) -> list[str]:
    """Return n texts of some two hundred words, the same for the same environment and seed."""
    rng = random.Random(seed)
    n_fresh = round(n * (1 - SHARE_REPEATED))
    prose = list(islice(_slices(("METADATA", "*.rst", "*.md", "*.txt"), rng), round(n_fresh / 5)))
    fresh = [*prose, *islice(_slices(("*.py",), rng), n_fresh - len(prose))]
    if len(fresh) < n_fresh:
        raise RuntimeError(f"only {len(fresh)} of {n_fresh} texts in the installed packages")
    texts = [f"Request {number}: {_asked(rng)}\n{text}" for number, text in enumerate(fresh)]
    texts += [_edited(rng.choice(texts), rng) for _ in range(n - n_fresh)]
    rng.shuffle(texts)
    return texts


def _slices(patterns: tuple[str, ...], rng: random.Random) -> Iterator[str]:
    """Yield the installed texts, cut by lines into slices of 120 to 280 words."""
    paths = sysconfig.get_paths()
    found = chain.from_iterable(Path(paths["purelib"]).rglob(pattern) for pattern in patterns)
    library = chain.from_iterable(Path(paths["stdlib"]).glob(pattern) for pattern in patterns)
    files = sorted({*found, *library})
    rng.shuffle(files)
    for file in files:
        lines, n_words, wanted = [], 0, rng.randint(120, 280)
        for line in file.read_text(encoding="utf-8", errors="replace").split("\n"):
            lines.append(line[:1000])
            n_words += len(lines[-1].split())
            if n_words >= wanted:
                yield "\n".join(lines)
                lines, n_words, wanted = [], 0, rng.randint(120, 280)


def _asked(rng: random.Random) -> str:
    verb = rng.choice(("write", "fix", "explain", "review", "shorten", "test"))
    thing = rng.choice(("parser", "cache", "queue", "client", "index", "report"))
    return f"{verb} the {thing} so that it takes {rng.randrange(10_000)} rows at once."


def _edited(text: str, rng: random.Random) -> str:
    words = text.split(" ")
    for _ in range(rng.randrange(4)):
        words[rng.randrange(len(words))] = f"edited_{rng.randrange(1000)}"
    return " ".join(words)


def _rate(name: str, rates: list[float], n_found: int, n_texts: int) -> Figure:
    known = {
        OURS: "ours",
        "datasketch": "datasketch, bulk, xxh32",
        "rensa": "rensa, plain path",
        "daft": "Daft, native minhash, xxhash",
        "datatrove": "datatrove, signatures alone",
    }
    return Figure(
        f"near-dup, {n_texts:,} texts of 200 words, normalise to decision: {known[name]}",
        median(rates),
        "texts/CPU-s",
        at_least=DOCS_PER_CPU_S if name == OURS else None,
        detail={"least": min(rates), "greatest": max(rates), "repeats_found": n_found},
    )


def _ratio(peer: str, rates: dict[str, list[float]]) -> Figure:
    name = f"near-dup, ours to {peer}, median of rounds"
    if peer not in rates:
        note = f"no {PEER_PYTHON}: make bench-venv"
        return Figure(name, None, "", at_least=RATIOS[peer], note=note)
    ratios = [ours / theirs for ours, theirs in zip(rates[OURS], rates[peer], strict=True)]
    return Figure(name, median(ratios), "", at_least=RATIOS[peer], detail={"rounds": ratios})


class _Host:
    """A process that dedupes with one tool, and does a round when it is asked."""

    def __init__(self, subject: str, texts: Path, folder: Path) -> None:
        python = sys.executable if subject == OURS else str(PEER_PYTHON)
        self._stderr = folder / f"{subject}.stderr"
        self._log = self._stderr.open("wb")
        self._process = subprocess.Popen(
            [python, "-P", str(PROJECT / "benchmarks/near_dup_host.py"), subject, str(texts)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, "PYTHONPATH": str(PROJECT), "DAFT_PROGRESS_BAR": "0"},
            text=True,
        )

    def __enter__(self) -> "_Host":
        self._answer()
        return self

    def round(self) -> dict[str, Any]:
        """Have a round done and return its times."""
        assert self._process.stdin is not None
        self._process.stdin.write("round\n")
        self._process.stdin.flush()
        measured: dict[str, Any] = json.loads(self._answer())
        return measured

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a tool's process has ended: {self._stderr.read_text()[-2000:]}")
        return line

    def __exit__(self, *exc: object) -> None:
        self._process.communicate()
        self._log.close()
