"""What more machines bring and what a record costs: the figures of docs/scaling.md and sizing.md.

    python -m benchmarks.scale [--quick] [--only costs,workers]     (make bench-scale)

`python -m benchmarks.sizing --take benchmarks/results/scale-costs.json` puts measured costs into
the sizing page.
"""

import sys

from benchmarks.bars import run_parts

PARTS = {"costs": "benchmarks.scale_costs", "workers": "benchmarks.scale_workers"}

if __name__ == "__main__":
    sys.exit(run_parts("scale", PARTS, "Measure what a record costs and what workers bring."))
