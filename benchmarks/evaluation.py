"""The figures of evaluation: sandbox, harness, mutants, errors of the decision, real answers.

    python -m benchmarks.evaluation [--quick] [--only sandbox,harness,mutation,errors,real]

Parts that read the public data say so where it is absent (FLYWHEEL_TEST_DATA); the peers run in a
venv of their own (make bench-venv). Run it on a quiet machine.
"""

import sys

from benchmarks.bars import run_parts

PARTS = {
    "sandbox": "benchmarks.evaluation_sandbox",
    "harness": "benchmarks.evaluation_harness",
    "mutation": "benchmarks.evaluation_mutation",
    "errors": "benchmarks.evaluation_errors",
    "real": "benchmarks.evaluation_real",
}

if __name__ == "__main__":
    sys.exit(
        run_parts("evaluation", PARTS, "Measure what evaluation costs and how surely it says.")
    )
