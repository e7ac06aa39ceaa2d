"""One training in several processes: started by torchrun or accelerate, watched from here.

This process keeps the run's row and heartbeat. It writes the lesson down, starts the launcher,
hands on what the processes tell in a file, and ends them all when one fails or the training is
cancelled. The processes share each step's rows, so that the effective batch is the recipe's. What
they leave is a folder of checkpoints like any other, and `trainer.fit` ends it here.
"""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final, TextIO

import torch

from foundation.errors import BadInput, FlywheelError
from foundation.settings import get_settings
from trainer.checkpoints import latest
from trainer.fit import fit
from trainer.guards import OutOfMemory, smaller
from trainer.launch import FSDP2, TORCHRUN, ZERO3, Launch, shared_out
from trainer.lesson import Earlier, Lesson, Report, Trained
from trainer.recipe import Recipe

LOOK_EVERY_S: Final = 0.1
PATIENCE_S: Final = 10.0
"""That processes have to end by themselves before they are killed."""


class LaunchFailed(FlywheelError):
    """One of the processes ended with an error."""

    http_status = 500

    def __init__(self, kind: str, told: str) -> None:
        self.kind, self.told = kind, told
        super().__init__(told)


def launched(lesson: Lesson, launch: Launch) -> Trained:
    """Train in several processes, or go on; as `trainer.fit.fit`, which ends it.

    Raises:
        BadInput: as `shared_out`; DeepSpeed or a GPU is missing; several machines whose first one
            is not named.
        LaunchFailed: a process ended; with its own words where it had any.
        Everything that the lesson's report and check raise, once the processes have ended.
    """
    _require_possible(launch)
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
    spread = {**asdict(launch), "processes": launch.world, "threads": _threads(recipe, launch)}
    return replace(trained, environment={**trained.environment, **spread})


def _require_possible(launch: Launch) -> None:
    if launch.sharding == ZERO3 and importlib.util.find_spec("deepspeed") is None:
        raise BadInput("--sharding", ZERO3, "DeepSpeed", "Run: pip install deepspeed, or say fsdp2")
    if launch.sharding == ZERO3 and not torch.cuda.is_available():
        raise BadInput("--sharding", ZERO3, "a GPU", "Say fsdp2, which needs none.")
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if launch.nodes > 1 and name not in os.environ:
            raise BadInput(name, None, "where the first machine is reached", "Set it.")


def _run(lesson: Lesson, launch: Launch) -> None:
    """Launch the processes, and see them end; raises LaunchFailed."""
    folder = lesson.folder / "launch"
    folder.mkdir(parents=True, exist_ok=True)
    order, told = folder / "lesson.json", folder / "told.jsonl"
    order.write_text(json.dumps(_plain(lesson, launch)))
    told.write_text("")
    if launch.nodes > 1:
        lesson.say("INFO", f"to run on the other machines: python -m trainer.launched {order}")
    with (folder / "output.log").open("w") as output:
        launcher = subprocess.Popen(
            [sys.executable, "-m", "trainer.tether", *command(launch, order)],
            env=_environment(lesson.recipe, launch),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _watch(launcher, told, lesson)
        finally:
            _end(launcher)
    if launcher.returncode:
        last = (folder / "output.log").read_text()[-2000:]
        raise LaunchFailed("exit", f"launched processes: status {launcher.returncode}: {last}")


def _watch(launcher: "subprocess.Popen[bytes]", told: Path, lesson: Lesson) -> None:
    """Hand on what the processes tell, until the launcher ends; raises LaunchFailed."""
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
    """End the launcher, which ends its processes; killed, it takes them with it (`tether`)."""
    for number, patience_s in ((signal.SIGTERM, PATIENCE_S), (signal.SIGKILL, None)):
        if launcher.poll() is not None:
            return
        os.killpg(launcher.pid, number)
        try:
            launcher.wait(patience_s)
        except subprocess.TimeoutExpired:
            continue


def command(launch: Launch, order: Path) -> list[str]:
    """Return the command of the launcher on this machine."""
    module = ["-m", "trainer.launched", str(order)]
    if launch.launcher == TORCHRUN:
        return [sys.executable, "-m", "torch.distributed.run", *_torchrun(launch), *module]
    return [sys.executable, "-m", "accelerate.commands.launch", *_accelerate(launch), *module]


def _torchrun(launch: Launch) -> list[str]:
    count = f"--nproc-per-node={launch.processes}"
    if launch.nodes == 1:
        return ["--standalone", count]
    first = [f"--master-addr={os.environ['MASTER_ADDR']}"]
    first += [f"--master-port={os.environ['MASTER_PORT']}"]
    return [f"--nnodes={launch.nodes}", f"--node-rank={_node()}", *first, count]


def _accelerate(launch: Launch) -> list[str]:
    options = [f"--num_processes={launch.world}", f"--num_machines={launch.nodes}"]
    options += ["--mixed_precision=no", "--dynamo_backend=no"]  # the recipe says them
    if launch.sharding == ZERO3:
        options += ["--use_deepspeed", "--zero_stage=3", "--zero3_save_16bit_model=true"]
    else:
        options += ["--multi_gpu"]  # processes on CPUs, too: its own way there wants MPI
    if launch.nodes == 1:
        return [*options, "--main_process_port=0"]
    options += [f"--main_process_ip={os.environ['MASTER_ADDR']}"]
    options += [f"--main_process_port={os.environ['MASTER_PORT']}"]
    return [*options, f"--machine_rank={_node()}"]


def _node() -> int:
    return int(os.environ.get("NODE_RANK", "0"))


def join(order: Path) -> None:
    """Become the launcher of this machine, in a training that another machine has begun.

    Raises:
        BadInput: nothing says which machine this is, or where the first one is.
    """
    plain = json.loads(order.read_text())
    launch, recipe = Launch(**plain["launch"]), Recipe.from_dict(plain["recipe"])
    if "NODE_RANK" not in os.environ:
        which = f"which of the {launch.nodes} machines this is, from 1"
        raise BadInput("NODE_RANK", None, which, "Set it.")
    _require_possible(launch)
    os.execve(sys.executable, command(launch, order), _environment(recipe, launch))


def _environment(recipe: Recipe, launch: Launch) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "OMP_NUM_THREADS": str(_threads(recipe, launch)),
    }


def _threads(recipe: Recipe, launch: Launch) -> int:
    """Return the torch threads of each process: as ever, or a fair part of the cores."""
    fair = max(1, (os.cpu_count() or 1) // launch.processes)
    return recipe.threads or get_settings().torch_threads or fair


def _plain(lesson: Lesson, launch: Launch) -> dict[str, Any]:
    """Return what the processes need of a lesson, as JSON."""
    earlier = lesson.earlier
    return {
        "launch": asdict(launch),
        "base_model": lesson.base_model,
        "recipe": lesson.recipe.to_dict(),
        "rows": list(lesson.rows),
        "validation": list(lesson.validation),
        "folder": str(lesson.folder),
        "earlier": json.loads(json.dumps(asdict(earlier), default=str)) if earlier else None,
    }


def read_lesson(order: Path, report: Report, say: Callable[[str, str], None]) -> Lesson:
    """Return the lesson that another process wrote down."""
    plain = json.loads(order.read_text())
    launch, earlier = Launch(**plain["launch"]), plain["earlier"]
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
        shards=launch.world if launch.sharding == FSDP2 else 1,
    )
