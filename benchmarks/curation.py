"""The figures of curation: how fast repeats are found, how surely, and what a whole build costs.

    python -m benchmarks.curation [--quick] [--only near_dup,accuracy,leak,...]

Parts that read the public data say so where it is absent (FLYWHEEL_TEST_DATA). Run it on a quiet
machine; the parts `index` and `whole` take some minutes each.
"""

import sys

from benchmarks.bars import run_parts

PARTS = {
    "near_dup": "benchmarks.near_dup",
    "accuracy": "benchmarks.dedupe_accuracy",
    "leak": "benchmarks.leak",
    "preferences": "benchmarks.preferences",
    "score": "benchmarks.score_auc",
    "index": "benchmarks.curation_index",
    "whole": "benchmarks.curation_whole",
}

if __name__ == "__main__":
    sys.exit(run_parts("curation", PARTS, "Measure what curation costs and finds."))
