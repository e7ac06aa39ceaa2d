"""One of the processes of `trainer.launcher`: trains its share, and tells how that goes.

The launcher starts it. Started by hand it joins a training of several machines: it becomes the
launcher of its own. NODE_RANK (from 1), MASTER_ADDR and MASTER_PORT say which one it is, and where
the first one is.

python -m trainer.launched LESSON.json
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from foundation.errors import FlywheelError
from trainer.callbacks import Clock
from trainer.fit import quiet_libraries, torch_threads, train_to_end
from trainer.launcher import join, read_lesson
from trainer.methods import method_module
from trainer.tether import end_with_parent


class Teller:
    """Writes what happens, a line of JSON each, for the process that watches."""

    def __init__(self, file: Path) -> None:
        self._lines = file.open("a", buffering=1)

    def report(self, done: float, total: float, unit: str, **measures: Any) -> None:
        """Tell how far the training is; asked of the first process only."""
        self._tell("report", done=done, total=total, unit=unit, measures=measures)

    def say(self, level: str, text: str) -> None:
        """Tell a line for the log; the first process says it for all."""
        if os.environ["RANK"] == "0":
            self._tell("say", level=level, text=text)

    def error(self, error: Exception) -> None:
        """Tell what ended this process, whichever it is."""
        self._tell("error", name=type(error).__name__, text=str(error) or type(error).__name__)

    def _tell(self, kind: str, **what: Any) -> None:
        self._lines.write(json.dumps({"kind": kind, **what}) + "\n")


def main() -> int:
    """Train, and return the exit status."""
    order = Path(sys.argv[1])
    if "RANK" not in os.environ:
        join(order)
    end_with_parent(signal.SIGKILL)  # the launcher's death must not leave anybody waiting
    teller = Teller(order.with_name("told.jsonl"))
    try:
        _train(order, teller)
    except FlywheelError as error:
        teller.error(error)
        return error.exit_code
    except Exception as error:
        teller.error(error)
        raise
    return 0


def _train(order: Path, teller: Teller) -> None:
    lesson = read_lesson(order, teller.report, teller.say)
    with torch_threads(int(os.environ["OMP_NUM_THREADS"])), quiet_libraries():
        if not torch.cuda.is_available():
            torch.distributed.init_process_group("gloo")
        prepared = method_module(lesson.recipe.method).prepare(lesson)
        train_to_end(lesson, prepared, Clock())
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main())
