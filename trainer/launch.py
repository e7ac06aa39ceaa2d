"""One training in several processes: started by torchrun or accelerate, watched from here.

This process keeps the run's row and heartbeat. It writes the lesson down, starts the launcher,
hands on what the first process tells in a file, and ends them all when the training is cancelled.
The processes share each step's rows, so that the effective batch is the recipe's. What they leave
is a folder of checkpoints like any other, and `trainer.fit` ends it here.
"""

import ctypes
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, TextIO

import torch

from foundation.errors import BadInput, FlywheelError
from trainer.checkpoints import latest
from trainer.fit import fit
from trainer.guards import OutOfMemory, smaller
from trainer.lesson import Earlier, Lesson, Trained
from trainer.recipe import SFT_FULL, SFT_LORA, Recipe

TORCHRUN, ACCELERATE = "torchrun", "accelerate"
FSDP2, ZERO3 = "fsdp2", "zero3"
PROVEN: Final = (SFT_LORA, SFT_FULL)
"""Methods whose loss in several processes is known to be that of one."""
LOOK_EVERY_S: Final = 0.1
PATIENCE_S: Final = 10.0
"""That processes have to end by themselves before they are killed."""


class LaunchFailed(FlywheelError):
    """One of the processes ended with an error."""

    http_status = 500

    def __init__(self, kind: str, told: str) -> None:
        self.kind, self.told = kind, told
        super().__init__(told if kind != "exit" else f"launched processes: {told}")


@dataclass(frozen=True)
class Launch:
    """How a training is spread.

    Attributes:
        launcher: torchrun or accelerate.
        processes: on each machine; as a rule one for each GPU.
        nodes: machines. On more than one, the launcher's own variables (MASTER_ADDR, MASTER_PORT,
            NODE_RANK) say where the first one is, and the folder of the training is shared.
        sharding: None: each process holds the base; fsdp2: its weights are spread over the GPUs;
            zero3: the same by DeepSpeed.
    """

    launcher: str = TORCHRUN
    processes: int = 1
    nodes: int = 1
    sharding: str | None = None

    def __post_init__(self) -> None:
        """Check every field; raises BadInput."""
        for name, value, expected in (
            ("launcher", self.launcher, (TORCHRUN, ACCELERATE)),
            ("sharding", self.sharding, (None, FSDP2, ZERO3)),
        ):
            if value not in expected:
                shown = f"one of {', '.join(map(str, expected))}"
                raise BadInput(f"--{name}", value, shown, "Correct it.")
        if self.processes < 1 or self.nodes < 1:
            raise BadInput("--processes", self.processes * self.nodes, "at least one", "Name more.")
        if self.sharding and not torch.cuda.is_available():
            raise BadInput("--sharding", self.sharding, "none without a GPU", "Leave it out.")
        if self.sharding and self.launcher != ACCELERATE:
            raise BadInput("--launcher", self.launcher, f"{ACCELERATE} to shard", "Name it.")
        if self.sharding == ZERO3 and importlib.util.find_spec("deepspeed") is None:
            raise BadInput("--sharding", ZERO3, "DeepSpeed", "Run: pip install deepspeed")

    @property
    def world(self) -> int:
        """Processes on all machines."""
        return self.processes * self.nodes


def shared_out(recipe: Recipe, world: int) -> Recipe:
    """Return the recipe of one process, so that all together take the rows of a step.

    Raises:
        BadInput: the effective batch cannot be divided, or the method is not proven in several.
    """
    if recipe.method not in PROVEN:
        shown = f"one of {', '.join(PROVEN)} in several processes"
        raise BadInput("recipe.method", recipe.method, shown, "Train it in one process.")
    whole = recipe.effective_batch_size
    if whole % world:
        raise BadInput(
            "--processes",
            world,
            f"a divisor of the {whole} rows of a step",
            "Change recipe.batch_size or recipe.gradient_accumulation.",
        )
    mine = whole // world
    rows = max(n for n in range(1, min(mine, recipe.batch_size) + 1) if mine % n == 0)
    return replace(recipe, batch_size=rows, gradient_accumulation=mine // rows)


def launched(lesson: Lesson, launch: Launch) -> Trained:
    """Train in several processes, or go on; as `trainer.fit.fit`, which ends it.

    Raises:
        BadInput: as `shared_out`.
        LaunchFailed: a process ended; with its own words where it had any.
        Everything that the lesson's report and check raise, once the processes have ended.
    """
    recipe = shared_out(lesson.recipe, launch.world)
    end = latest(lesson.folder, lesson.say)  # and what is half or damaged is gone
    lesson.say("INFO", f"{launch.world} processes of {recipe.batch_size} rows a pass")
    while end is None or not end.is_last:
        try:
            _run(replace(lesson, recipe=recipe), launch)
        except LaunchFailed as failed:
            less = smaller(recipe) if failed.kind == OutOfMemory.__name__ else None
            if less is None:
                raise
            lesson.say("WARNING", f"out of memory: {less.batch_size} rows a pass, as many a step")
            recipe = less
        end = latest(lesson.folder, lesson.say)
    trained = fit(lesson)
    return replace(trained, environment={**trained.environment, "processes": launch.world})


def _run(lesson: Lesson, launch: Launch) -> None:
    folder = lesson.folder / "launch"
    folder.mkdir(parents=True, exist_ok=True)
    order, told = folder / "lesson.json", folder / "told.jsonl"
    order.write_text(json.dumps(_plain(lesson)))
    told.write_text("")
    with (folder / "output.log").open("w") as output:
        launcher = subprocess.Popen(
            _command(launch, order),
            env=_environment(lesson.recipe, launch),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=end_with_parent,
        )
        try:
            _watch(launcher, told, lesson)
        finally:
            _end(launcher)
    if launcher.returncode:
        last = (folder / "output.log").read_text()[-2000:]
        raise LaunchFailed("exit", f"ended with status {launcher.returncode}: {last}")


def _watch(launcher: "subprocess.Popen[bytes]", told: Path, lesson: Lesson) -> None:
    """Hand on what the first process tells, until the launcher ends; raises LaunchFailed."""
    with told.open() as lines:
        while True:
            has_ended = launcher.poll() is not None  # before the last look at the file
            for line in _new_lines(lines):
                _hand_on(line, lesson)
            if has_ended:
                return
            lesson.check()
            time.sleep(LOOK_EVERY_S)


def _new_lines(lines: TextIO) -> Iterator[dict[str, Any]]:
    while True:
        place = lines.tell()
        line = lines.readline()
        if not line.endswith("\n"):  # none, or half of one
            lines.seek(place)
            return
        yield json.loads(line)


def _hand_on(line: dict[str, Any], lesson: Lesson) -> None:
    match line["kind"]:
        case "report":
            lesson.report(line["done"], line["total"], line["unit"], **line["measures"])
        case "say":
            lesson.say(line["level"], line["text"])
        case "error":
            raise LaunchFailed(line["name"], line["text"])


def _end(launcher: "subprocess.Popen[bytes]") -> None:
    """End the launcher and its processes: they are a session of their own."""
    for number, patience_s in ((signal.SIGTERM, PATIENCE_S), (signal.SIGKILL, None)):
        if launcher.poll() is not None:
            break
        os.killpg(launcher.pid, number)
        try:
            launcher.wait(patience_s)
        except subprocess.TimeoutExpired:
            continue


def _command(launch: Launch, order: Path) -> list[str]:
    module = ["-m", "trainer.launched", str(order)]
    if launch.launcher == TORCHRUN:
        where = ["--standalone"] if launch.nodes == 1 else _nodes(launch)
        count = f"--nproc-per-node={launch.processes}"
        return [sys.executable, "-m", "torch.distributed.run", *where, count, *module]
    options = [f"--num_processes={launch.world}", f"--num_machines={launch.nodes}"]
    options += ["--mixed_precision=no", "--dynamo_backend=no"]
    if launch.nodes > 1:
        options += [f"--machine_rank={os.environ['NODE_RANK']}"]
        options += [f"--main_process_ip={os.environ['MASTER_ADDR']}"]
        options += [f"--main_process_port={os.environ['MASTER_PORT']}"]
    else:
        options += ["--main_process_port=0"]
    if launch.sharding == FSDP2:
        options += ["--use_fsdp", "--fsdp_version=2"]
        options += ["--fsdp_auto_wrap_policy=TRANSFORMER_BASED_WRAP"]
        options += ["--fsdp_state_dict_type=FULL_STATE_DICT"]
    elif launch.sharding == ZERO3:
        options += ["--use_deepspeed", "--zero_stage=3", "--zero3_save_16bit_model=true"]
    else:
        options += ["--multi_gpu"]  # processes on CPUs, too: its own way there wants MPI
    return [sys.executable, "-m", "accelerate.commands.launch", *options, *module]


def _nodes(launch: Launch) -> list[str]:
    return [
        f"--nnodes={launch.nodes}",
        f"--node-rank={os.environ['NODE_RANK']}",
        f"--master-addr={os.environ['MASTER_ADDR']}",
        f"--master-port={os.environ['MASTER_PORT']}",
    ]


def _environment(recipe: Recipe, launch: Launch) -> dict[str, str]:
    threads = recipe.threads or max(1, (os.cpu_count() or 1) // launch.processes)
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "OMP_NUM_THREADS": str(threads),
    }


def _plain(lesson: Lesson) -> dict[str, Any]:
    """Return what the processes need of a lesson, as JSON."""
    earlier = lesson.earlier
    return {
        "base_model": lesson.base_model,
        "recipe": lesson.recipe.to_dict(),
        "rows": list(lesson.rows),
        "validation": list(lesson.validation),
        "folder": str(lesson.folder),
        "earlier": json.loads(json.dumps(asdict(earlier), default=str)) if earlier else None,
    }


def read_lesson(order: Path, report: Any, say: Any) -> Lesson:
    """Return the lesson that another process wrote down."""
    plain = json.loads(order.read_text())
    earlier = plain["earlier"]
    if earlier is not None:
        ancestors = [Path(one) for one in earlier["ancestors"]]
        earlier = Earlier(earlier["name"], Path(earlier["folder"]), earlier["rows"], ancestors)
    return Lesson(
        base_model=plain["base_model"],
        recipe=Recipe.from_dict(plain["recipe"]),
        rows=plain["rows"],
        validation=plain["validation"],
        folder=Path(plain["folder"]),
        report=report,
        say=say,
        earlier=earlier,
    )


def end_with_parent(number: int = signal.SIGTERM) -> None:
    """Ask Linux to send a signal to this process when its parent dies, however it dies."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, number)
