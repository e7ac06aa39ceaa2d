"""The figures of the collector: what logging costs the caller, what ingest takes, what scrub finds.

    python -m benchmarks.capture [--quick] [--only client,wrappers,ingest,scrub]

Each part measures in interleaved rounds; run it on a quiet machine.
"""

import argparse
import sys
from collections.abc import Callable
from importlib import import_module

from rich.console import Console

from benchmarks.bars import Figure, report

PARTS = {
    "client": "benchmarks.client_cost",
    "wrappers": "benchmarks.wrappers",
    "ingest": "benchmarks.ingest",
    "scrub": "benchmarks.scrub",
}


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Measure what capturing costs.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, for a look")
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
    return report("capture" if chosen == list(PARTS) else f"capture-{'-'.join(chosen)}", figures)


if __name__ == "__main__":
    sys.exit(main())
