"""The figures of the collector: what logging costs the caller, what ingest takes, what scrub finds.

    python -m benchmarks.capture [--quick] [--only client,wrappers,ingest,scrub]

Each part measures in interleaved rounds; run it on a quiet machine.
"""

import sys

from benchmarks.bars import run_parts

PARTS = {
    "client": "benchmarks.client_cost",
    "wrappers": "benchmarks.wrappers",
    "ingest": "benchmarks.ingest",
    "scrub": "benchmarks.scrub",
}

if __name__ == "__main__":
    sys.exit(run_parts("capture", PARTS, "Measure what capturing costs."))
