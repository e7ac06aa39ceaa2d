"""Preference pairs from real answers: how many, and whether execution agrees with every one.

    python -m benchmarks.preferences [--quick]

`coder_outputs` goes through the real importer and the real `flywheel curate --kind preference` into
a database of its own. The truth is read from the file itself, not from what was stored of it: of
each pair the winner must have passed there (`exec_pass`) and the loser failed, and an empty answer,
which the recording lost, must be in none.
"""

import gzip
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.bars import Figure, report
from foundation.embedded import start_embedded

DATA = Path(
    os.environ.get("FLYWHEEL_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
)
FLYWHEEL = (sys.executable, "-m", "flywheel")

_PAIRS = """
    SELECT p.task_key, p.split, p.split_key, p.chosen, p.rejected,
           winner.attributes, loser.attributes
    FROM preference_pair p
    JOIN interaction_payload winner ON winner.id = p.winner_id
    JOIN interaction_payload loser ON loser.id = p.loser_id
    WHERE p.status = 'kept'
"""
_TORN_TASKS = """
    SELECT count(*) FROM (
        SELECT task_key FROM (
            SELECT task_key, split FROM preference_pair WHERE status = 'kept'
            UNION
            SELECT 'task:' || (scores->>'task_key'), split FROM example WHERE status = 'kept'
        ) AS places GROUP BY task_key HAVING count(DISTINCT split) > 1
    ) AS torn
"""
"""Tasks that stand in two splits, over pairs and examples together."""


def measure(quick: bool = False) -> list[Figure]:
    """Return the figures; there is nothing to shorten for `quick`."""
    if not (DATA / "coder_outputs").is_dir():
        note = "the public data is absent (FLYWHEEL_TEST_DATA)"
        return [Figure("pairs that execution agrees with", None, "%", at_least=100.0, note=note)]
    with tempfile.TemporaryDirectory(prefix="bench-preferences-") as folder:
        home = Path(folder) / "home"
        url = start_embedded(home)
        places = {"FLYWHEEL_HOME": str(home), "FLYWHEEL_DATABASE_URL": url}
        _run(Path(folder), places, "db", "upgrade")
        _run(Path(folder), places, "import", "coder_outputs", str(DATA / "coder_outputs"))
        _run(Path(folder), places, "curate", "--role", "coder", "--kind", "preference", "--json")
        with psycopg.connect(url) as connection:
            pairs = connection.execute(_PAIRS).fetchall()
            torn = connection.execute(_TORN_TASKS).fetchone()
    return _figures(pairs, _truth(), 0 if torn is None else int(torn[0]))


def _figures(
    pairs: list[tuple[Any, ...]], truth: dict[tuple[str, str], tuple[bool, str]], torn: int
) -> list[Figure]:
    tasks = Counter(task for task, *_ in pairs)
    agreed = Counter[str]()
    for *_, winner, loser in pairs:
        passed, won = truth[winner["run"], winner["task_key"]]
        did_pass, lost = truth[loser["run"], loser["task_key"]]
        agreed["winner passed"] += passed
        agreed["loser failed"] += not did_pass
        agreed["same task"] += winner["task_key"] == loser["task_key"]
        agreed["both answered"] += bool(won.strip() and lost.strip())
        agreed["all four"] += (
            passed and not did_pass and bool(won.strip() and lost.strip())
        ) and winner["task_key"] == loser["task_key"]
    spread = {"tasks": len(tasks), "most_of_one": max(tasks.values(), default=0)}
    splits = Counter(split for _, split, *_ in pairs)
    return [
        Figure(
            "preference pairs from coder_outputs",
            float(len(pairs)),
            "pairs",
            at_least=1.0,
            detail={**spread, "splits": dict(splits), "possible_tasks": _possible(truth)},
        ),
        Figure(
            "of them, passing winner and failing loser by execution",
            100.0 * agreed["all four"] / len(pairs) if pairs else None,
            "%",
            at_least=100.0,
            detail=dict(agreed),
        ),
        Figure("tasks in two splits, pairs and examples together", float(torn), "", at_most=0.0),
    ]


def _possible(truth: dict[tuple[str, str], tuple[bool, str]]) -> int:
    """Return how many tasks have an answer that passed and one that failed."""
    seen: dict[str, set[bool]] = {}
    for (_, task), (passed, answer) in truth.items():
        if answer.strip():
            seen.setdefault(task, set()).add(passed)
    return sum(len(outcomes) == 2 for outcomes in seen.values())


def _truth() -> dict[tuple[str, str], tuple[bool, str]]:
    """Return what really happened, and the answer, by run and task."""
    return {
        (row["run"], row["task_id"]): (row["exec_pass"], row["solution"]) for row in _recorded()
    }


def _recorded() -> Iterator[dict[str, Any]]:
    for path in sorted((DATA / "coder_outputs").glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            yield from map(json.loads, lines)


def _run(folder: Path, places: dict[str, str], *arguments: str) -> None:
    """Run a command of ours to its end.

    Raises:
        RuntimeError: it failed; with what it said.
    """
    done = subprocess.run(
        [*FLYWHEEL, *arguments],
        cwd=folder,
        env=os.environ | places | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])},
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise RuntimeError(f"flywheel {' '.join(arguments)}: {done.stderr[-2000:]}")


if __name__ == "__main__":
    sys.exit(report("curation-preferences", measure("--quick" in sys.argv)))
