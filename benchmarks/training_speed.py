"""How fast a supervised training is beside plain TRL, and how soon it begins and goes on.

Both arms learn the same conversations of the demo's tasks, of one to four turns, with the same
adapter, rate, effective batch and seed: ours through `trainer.fit` with the recipe of the demo,
theirs through `SFTTrainer` with its own defaults for all else. Each repetition is a process of its
own, the arms taking turns, so that memory is each one's and other work on the machine meets both.
What is timed is rows to saved adapter, imports apart. The loss on held-out conversations is worked
out anew from the saved adapters, in one way for both.

Seconds are of the wall, so they ask for a machine that does nothing else: two threads that wait for
each other lose far more to other work than one does. Tokens per CPU second are printed beside them;
on one thread those stay comparable on a busy machine.
"""

import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from benchmarks.bars import Figure
from benchmarks.demo_tasks import base_folder
from flywheel.demo.language import tasks
from trainer.recipe import PRESETS

ROWS: Final = 1024
HELD_OUT: Final = 128
REPETITIONS: Final = 5
PROJECT: Final = Path(__file__).resolve().parent.parent
RECIPE: Final = replace(PRESETS["demo"], epochs=1)

LEVERS: Final[dict[str, dict[str, Any]]] = {
    "nothing": {},
    "rows padded": {"packing": "none"},
    "rows packed (bfd)": {"packing": "bfd", "batch_size": 4},
    "in bfloat16": {"precision": "bf16"},
    "one thread": {"threads": 1},
}
"""Ours with one thing changed, for a look at what each brings."""


def measure(quick: bool) -> list[Figure]:
    """Return both arms beside each other, and ours with one thing changed."""
    base = base_folder()
    return [*figures(base, quick), *_levers(base, quick)]


def figures(base: Path, quick: bool, *, threads: int = 2) -> list[Figure]:
    """Measure both arms on a base, and how soon a training begins and goes on."""
    n_rows, repetitions = (192, 1) if quick else (ROWS, REPETITIONS)
    runs: dict[str, list[dict[str, Any]]] = {"ours": [], "trl": []}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(repetitions):
            for arm in sorted(runs, reverse=bool(turn % 2)):
                runs[arm].append(
                    _run(
                        base,
                        Path(folder) / f"{arm}-{turn}",
                        arm,
                        n_rows=n_rows,
                        threads=threads,
                        seed=turn,
                    )
                )
        resumed = _resumed(base, Path(folder) / "killed", threads)
    return [*_beside(runs["ours"], runs["trl"]), *_times(runs["ours"], resumed)]


def conversations(n: int, seed: int = 0) -> list[dict[str, Any]]:
    """Return tasks of the demo as conversations of one to four turns, most of them short."""
    rng = random.Random(f"speed/{seed}")
    pool = tasks("coder", "train", n, seed)
    rows = []
    for task in pool:
        earlier = [rng.choice(pool) for _ in range(min(3, int(rng.expovariate(1.0))))]
        turns = [
            {"role": role, "content": text}
            for one in earlier
            for role, text in (("user", one.prompt), ("assistant", one.reference))
        ]
        rows.append(
            {
                "prompt": [*turns, {"role": "user", "content": task.prompt}],
                "completion": [{"role": "assistant", "content": task.reference}],
            }
        )
    return rows


def _beside(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> list[Figure]:
    faster = [o["tokens_per_s"] / t["tokens_per_s"] for o, t in zip(ours, theirs, strict=True)]
    losses = [
        o["validation_loss"] / t["validation_loss"] for o, t in zip(ours, theirs, strict=True)
    ]
    return [
        Figure(
            "tokens per second, ours over TRL's defaults",
            statistics.median(faster),
            "x",
            at_least=1.3,
            detail={"each": faster, "ours": ours, "trl": theirs},
        ),
        Figure(
            "held-out loss, ours over TRL's",
            statistics.median(losses),
            "x",
            at_most=1.02,
            detail={"each": losses},
        ),
        *(
            Figure(f"{label}, {arm}", _median(runs, name), unit, detail=_spread(runs, name))
            for label, name, unit in (
                ("tokens per second", "tokens_per_s", "tokens/s"),
                ("tokens per CPU second", "tokens_per_cpu_s", "tokens/s"),
                ("share of padding", "padding", "of all tokens"),
                ("peak memory", "peak_mb", "MiB"),
                ("held-out loss", "validation_loss", "nats"),
            )
            for arm, runs in (("ours", ours), ("TRL", theirs))
        ),
    ]


def _times(ours: list[dict[str, Any]], resumed: list[float]) -> list[Figure]:
    share = "checkpoint_share"
    return [
        Figure(
            "new process to first step done",
            _median(ours, "first_step_s"),
            "s",
            at_most=10.0,
            detail=_spread(ours, "first_step_s"),
        ),
        Figure(
            "process that has loaded ahead, rows to first step done",
            _median(ours, "loaded_first_step_s"),
            "s",
            at_most=10.0,
            detail=_spread(ours, "loaded_first_step_s"),
        ),
        Figure(
            "killed, new process to next step done",
            statistics.median(resumed),
            "s",
            at_most=10.0,
            detail={"each": resumed},
        ),
        Figure(
            "checkpoints, of the time of a run",
            _median(ours, share),
            "of the run",
            at_most=0.05,
            detail=_spread(ours, share),
        ),
    ]


def _levers(base: Path, quick: bool, threads: int = 2) -> list[Figure]:
    n_rows = 192 if quick else ROWS
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name, change in LEVERS.items():
            run = _run(
                base,
                Path(folder) / name.replace(" ", "-"),
                "ours",
                n_rows=n_rows,
                threads=threads,
                change=change,
            )
            found.append(
                Figure(
                    f"ours, changed: {name}", run["tokens_per_cpu_s"], "tokens/CPU s", detail=run
                )
            )
    return found


def _resumed(base: Path, folder: Path, threads: int) -> list[float]:
    """Kill a training after a checkpoint, and return the seconds to the end of its next step."""
    killed = _start(base, folder, "ours", n_rows=384, threads=threads, kill_at=12)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL, "it was to be killed"
    return [_run(base, folder, "ours", n_rows=384, threads=threads)["first_step_s"]]


def _run(base: Path, folder: Path, arm: str, **order: Any) -> dict[str, Any]:
    """Train in a process of its own, and return what it measured."""
    process = _start(base, folder, arm, **order)
    printed, said = process.communicate()
    found = [line for line in printed.splitlines() if line.startswith("MEASURED ")]
    if process.returncode or not found:
        raise RuntimeError(f"{arm}: rc {process.returncode}\n{said[-2000:]}")
    measured: dict[str, Any] = json.loads(found[-1].removeprefix("MEASURED "))
    return measured


def _start(
    base: Path,
    folder: Path,
    arm: str,
    *,
    n_rows: int,
    threads: int,
    seed: int = 0,
    change: dict[str, Any] | None = None,
    kill_at: int | None = None,
) -> subprocess.Popen[str]:
    rows = conversations(n_rows + HELD_OUT)
    recipe = replace(RECIPE, **{"seed": seed, "threads": threads} | (change or {}))
    order = {
        "arm": arm,
        "base": str(base),
        "folder": str(folder),
        "recipe": recipe.to_dict(),
        "rows": rows[HELD_OUT:],
        "held_out": rows[:HELD_OUT],
        "kill_at": kill_at,
        "began": time.time(),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.training_speed_arm"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
        env=os.environ
        | {
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "OMP_NUM_THREADS": str(threads),
            "OMP_WAIT_POLICY": "PASSIVE",
        },
    )
    assert process.stdin is not None
    json.dump(order, process.stdin)
    process.stdin.close()
    process.stdin = None  # so that nobody writes there again
    return process


def _median(runs: list[dict[str, Any]], name: str) -> float:
    values: list[float] = [run[name] for run in runs]
    return statistics.median(values)


def _spread(runs: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return {"each": [run[name] for run in runs]}
