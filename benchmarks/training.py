"""The trainer's figures: speed, what each method changes, forgetting, parity, the smaller copies.

python -m benchmarks.training [--quick] [--only PART,PART]     (make bench-training)

All of it on the demo's tiny base, which is built first unless FLYWHEEL_BENCH_BASE names its folder.
What needs a GPU stands apart: python -m benchmarks.training_gpu.
"""

import sys

from benchmarks.bars import run_parts

PARTS = {
    "speed": "benchmarks.training_speed",
    "joint": "benchmarks.training_joint",
    "effects": "benchmarks.training_effects",
    "preference": "benchmarks.training_preference",
    "constitution": "benchmarks.training_constitution",
    "rl": "benchmarks.training_rl",
    "distill": "benchmarks.training_distill",
    "continual": "benchmarks.training_continual",
    "compress": "benchmarks.training_compress",
    "export": "benchmarks.training_export",
    "online": "benchmarks.training_online",
}

if __name__ == "__main__":
    sys.exit(run_parts("training", PARTS, __doc__ or ""))
