"""Three roles' adapters trained together, beside three trainings one after the other.

python -m benchmarks.training --only joint [--quick]

Both learn the same rows of three roles with the same recipes. Every training is a process of its
own, so that memory is each one's; the arms take turns, and what is timed is rows to saved adapters,
imports apart. The separate trainings' memory is given twice: of the largest, as they ran here, and
of all three, as they would need at the same time.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from safetensors.torch import load_file

from benchmarks.bars import Figure
from benchmarks.demo_tasks import base_folder
from benchmarks.training_speed import PROJECT, conversations
from trainer.recipe import PRESETS, Recipe

ROLES: Final = ("coder", "tester", "reviewer")
ROWS, ROUNDS = 512, 5
RECIPE: Final = replace(PRESETS["demo"], epochs=1, dropout=0.0, threads=1)

Measured = dict[str, Any]


def measure(quick: bool) -> list[Figure]:
    """Return time, memory and equality of the joint training, as ratios over the rounds."""
    base, rounds = base_folder(), []
    with tempfile.TemporaryDirectory(prefix="bench-joint-") as folder:
        for turn in range(1 if quick else ROUNDS):
            rounds.append(_round(base, Path(folder) / str(turn), 96 if quick else ROWS, turn))
    return figures(rounds)


def figures(rounds: Sequence[Measured]) -> list[Figure]:
    """Return the figures of some rounds: each a median, with every round's value beside it."""

    def figure(name: str, unit: str, key: str, at_most: float | None = None) -> Figure:
        each = [one[key] for one in rounds]
        spread = {"each": each, "least": min(each), "most": max(each)}
        return Figure(name, statistics.median(each), unit, at_most=at_most, detail=spread)

    return [
        figure("three trainings one by one, over jointly: seconds", "x", "faster"),
        figure("the same: CPU seconds", "x", "faster_cpu"),
        figure("peak memory jointly, over three at the same time", "x", "of_three"),
        figure("peak memory jointly, over the largest of three", "x", "of_one"),
        figure("jointly: seconds", "s", "joint_s"),
        figure("jointly: peak memory", "MiB", "joint_mb"),
        figure("logged losses jointly, apart from alone, at most", "of it", "loss", at_most=0.01),
        figure("adapters jointly, apart from alone, of their length", "of it", "weights"),
    ]


def _round(base: Path, folder: Path, n_rows: int, turn: int) -> Measured:
    arms: dict[str, list[tuple[str, ...]]] = {
        "joint": [ROLES],
        "alone": [(role,) for role in ROLES],
    }
    found: dict[str, list[Measured]] = {}
    for arm in sorted(arms, reverse=bool(turn % 2)):
        found[arm] = [
            _trained(base, folder / f"{arm}-{number}", roles, n_rows, turn)
            for number, roles in enumerate(arms[arm])
        ]
    ((joint,), alone) = found["joint"], found["alone"]
    peaks = [one["peak_mb"] for one in alone]
    single = {role: trained for one in alone for role, trained in one["trained"].items()}
    pairs = [(joint["trained"][role], single[role]) for role in ROLES]
    return {
        "faster": sum(one["wall_s"] for one in alone) / joint["wall_s"],
        "faster_cpu": sum(one["cpu_s"] for one in alone) / joint["cpu_s"],
        "of_three": joint["peak_mb"] / sum(peaks),
        "of_one": joint["peak_mb"] / max(peaks),
        "joint_s": joint["wall_s"],
        "joint_mb": joint["peak_mb"],
        "loss": max(_losses_apart(one["losses"], other["losses"]) for one, other in pairs),
        "weights": max(_weights_apart(one["folder"], other["folder"]) for one, other in pairs),
    }


def _losses_apart(joint: Sequence[float], alone: Sequence[float]) -> float:
    return max(abs(one - other) / other for one, other in zip(joint, alone, strict=True))


def _weights_apart(joint: str, alone: str) -> float:
    """Return the length of the difference of two adapters over that of the second."""
    one, other = (
        load_file(Path(folder) / "adapter_model.safetensors") for folder in (joint, alone)
    )
    assert one.keys() == other.keys(), "the same layers"
    apart = sum(float((one[name] - other[name]).square().sum()) for name in other)
    length = sum(float(weight.square().sum()) for weight in other.values())
    return float((apart / length) ** 0.5)


def _trained(base: Path, folder: Path, roles: Sequence[str], n_rows: int, seed: int) -> Measured:
    """Train these roles in a process of its own, and return what it measured."""
    order = {
        "base": str(base),
        "folder": str(folder),
        "recipe": recipe_of(seed).to_dict(),
        "rows": {role: conversations(n_rows, ROLES.index(role)) for role in roles},
    }
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.training_joint_arm"],
        input=json.dumps(order),
        capture_output=True,
        text=True,
        cwd=PROJECT,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
    )
    lines = [line for line in ended.stdout.splitlines() if line.startswith("MEASURED ")]
    if ended.returncode or not lines:
        raise RuntimeError(f"{', '.join(roles)}: rc {ended.returncode}\n{ended.stderr[-2000:]}")
    measured: Measured = json.loads(lines[-1].removeprefix("MEASURED "))
    return measured


def recipe_of(seed: int) -> Recipe:
    """Return the recipe of a round."""
    return replace(RECIPE, seed=seed)
