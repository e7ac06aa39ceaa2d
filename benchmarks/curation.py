"""The figures of curation: how fast repeats are found, how surely, and what a whole build costs.

    python -m benchmarks.curation [--quick] [--only near_dup,accuracy,leak,...]

Parts that read the public data say so where it is absent (FLYWHEEL_TEST_DATA). Run it on a quiet
machine; the parts `index` and `whole` take some minutes each.
"""

import argparse
import sys
from collections.abc import Callable
from importlib import import_module

from rich.console import Console

from benchmarks.bars import Figure, report

PARTS = {
    "near_dup": "benchmarks.near_dup",
    "accuracy": "benchmarks.dedupe_accuracy",
    "leak": "benchmarks.leak",
    "preferences": "benchmarks.preferences",
    "score": "benchmarks.score_auc",
    "index": "benchmarks.curation_index",
    "whole": "benchmarks.curation_whole",
}


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Measure what curation costs and finds.")
    parser.add_argument("--quick", action="store_true", help="fewer rows and rounds, for a look")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between")
    given = parser.parse_args()
    chosen = given.only.split(",")
    unknown = [name for name in chosen if name not in PARTS]
    if unknown:
        parser.error(f"--only: got {', '.join(unknown)}, expected some of {', '.join(PARTS)}")
    figures: list[Figure] = []
    for name in chosen:
        Console(stderr=True).print(f"measuring {name} …")
        measure: Callable[[bool], list[Figure]] = import_module(PARTS[name]).measure
        figures += measure(given.quick)
    return report("curation" if chosen == list(PARTS) else f"curation-{'-'.join(chosen)}", figures)


if __name__ == "__main__":
    sys.exit(main())
