"""How much of rewritten benchmark tasks is recognised: `benchmark_leak`, by kind, with false hits.

    python -m benchmarks.leak

Positives are tasks of HumanEval and MBPP as rewritten by MultiPL-E for typed Python and Rust, held
against the original tasks. Negatives are each rewrite against the originals of all other tasks. A
false hit is counted per pair and per rewrite, and named: the public sets hold some tasks twice.
"""

import argparse
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import UUID

from rich.console import Console

from benchmarks.bars import Figure, report
from curation.decontaminate import Guard, Hit, ProtectedItem, Suspect
from evaluator.suites.jsonl import read_rows

DATA = Path(
    os.environ.get("FLYWHEEL_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
)
ROWS = "benchmark_leak/rewrites_odd.jsonl.gz"
LEAST_CAUGHT, MOST_FALSE = 95.0, 1.0


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Measure what decontamination recognises.")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of public data")
    given = parser.parse_args()
    return report("leak", measure(data=given.data))


def measure(quick: bool = False, data: Path = DATA) -> list[Figure]:
    """Return caught and false shares by kind; `quick` changes nothing, it takes a second."""
    path = data / ROWS
    if not path.is_file():
        return [Figure("benchmark_leak", None, "%", at_least=LEAST_CAUGHT, note=f"no {path}")]
    rows = [row for _, row in read_rows(path)]
    items = originals(rows)
    guard = Guard(items)
    started = time.process_time()
    hits = guard.check([Suspect(row["text_b"]) for row in rows])
    seconds = time.process_time() - started
    task_of = {item.id: item.item_id for item in items}
    figures = []
    for kind in sorted({row["kind"] for row in rows}):
        some = [(row, hit) for row, hit in zip(rows, hits, strict=True) if row["kind"] == kind]
        figures += _figures(kind, some, task_of)
    return [*figures, Figure("rate, all of them repeats", len(rows) / seconds, "texts/CPU-s")]


def originals(rows: list[dict[str, Any]]) -> list[ProtectedItem]:
    """Return the original tasks, one list per benchmark."""
    texts = {(row["kind"].partition("_")[0], row["task_id"]): row["text_a"] for row in rows}
    return [
        ProtectedItem(UUID(int=number), source, task_id, text, "", ())
        for number, ((source, task_id), text) in enumerate(texts.items(), start=1)
    ]


def _figures(
    kind: str, some: list[tuple[dict[str, Any], list[Hit]]], task_of: dict[UUID, str]
) -> list[Figure]:
    methods: Counter[str] = Counter()
    missed, false_hits = [], []
    for row, hits in some:
        own = [hit for hit in hits if task_of[hit.protected_id] == row["task_id"]]
        methods.update(hit.method for hit in own[:1])
        missed += [] if own else [row["task_id"]]
        false_hits += [
            f"{row['task_id']} for {task_of[hit.protected_id]} ({hit.method})"
            for hit in hits
            if task_of[hit.protected_id] != row["task_id"]
        ]
    n_pairs = len(some) * (len(task_of) - 1)
    n_false_rows = len({hit.partition(" ")[0] for hit in false_hits})
    caught = len(some) - len(missed)
    detail = {
        "true_positives": caught,
        "false_negatives": len(missed),
        "false_positives": len(false_hits),
        "true_negatives": n_pairs - len(false_hits),
        "rewrites_with_a_false_hit": n_false_rows,
        "by_method": dict(methods),
        "missed": missed,
        "false_hits": false_hits,
    }
    Console().print(f"{kind}: {detail}", highlight=False, soft_wrap=True)
    note = f"tp {caught}, fn {len(missed)}, fp {len(false_hits)}, tn {n_pairs - len(false_hits)}"
    return [
        Figure(
            f"{kind}: rewrites caught",
            100 * caught / len(some),
            "%",
            at_least=LEAST_CAUGHT,
            detail=detail,
            note=note,
        ),
        Figure(f"{kind}: false pairs", 100 * len(false_hits) / n_pairs, "%", at_most=MOST_FALSE),
        Figure(f"{kind}: rewrites with a false hit", 100 * n_false_rows / len(some), "%"),
    ]


if __name__ == "__main__":
    sys.exit(main())
