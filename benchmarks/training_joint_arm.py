"""One training of some roles in a process of its own, measured: `benchmarks.training_joint`."""

import json
import resource
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import trainer.joint.fit  # noqa: F401  (what is imported once is no part of a training)
from benchmarks.demo_tasks import no_report
from trainer.fit import fit
from trainer.joint.fit import fit_joint
from trainer.lesson import Lesson, Trained
from trainer.recipe import Recipe


def taught(order: dict[str, Any]) -> list[Trained]:
    """Train the roles of an order: several jointly, one as a training of its own."""
    recipe, folder = Recipe.from_dict(order["recipe"]), Path(order["folder"])
    lessons = [
        Lesson(order["base"], recipe, rows, [], folder, no_report)
        for rows in order["rows"].values()
    ]
    folder.mkdir(parents=True)
    if len(lessons) == 1:
        return [fit(lessons[0])]
    return fit_joint(lessons, folder, no_report, names=list(order["rows"]))


def measure(order: dict[str, Any]) -> dict[str, Any]:
    """Do an order, and return what it took and what came of it."""
    wall, cpu = time.perf_counter(), time.process_time()
    trained = taught(order)
    wall_s, cpu_s = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "peak_mb": peak / (2**20 if sys.platform == "darwin" else 2**10),
        "trained": {
            role: {
                "folder": str(one.folder),
                "losses": [line["loss"] for line in one.history if "loss" in line],
            }
            for role, one in zip(order["rows"], trained, strict=True)
        },
    }


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # of libraries, to each other
    measured = measure(json.load(sys.stdin))
    sys.stdout.write(f"\nMEASURED {json.dumps(measured)}\n")
