"""One of the processes of `trainer.launch`: trains its share, and tells if it is the first.

torchrun … -m trainer.launched LESSON.json
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
from trainer.launch import end_with_parent, read_lesson
from trainer.methods import method_module


class Teller:
    """Writes what happens, a line of JSON each, for the process that started all."""

    def __init__(self, file: Path) -> None:
        self._lines = file.open("a", buffering=1)

    def report(self, done: float, total: float, unit: str, **measures: Any) -> None:
        """Tell how far the training is."""
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
    end_with_parent(signal.SIGKILL)  # the launcher's death must not leave anybody waiting
    order = Path(sys.argv[1])
    teller = Teller(order.with_name("told.jsonl"))
    lesson = read_lesson(order, teller.report, teller.say)
    recipe = lesson.recipe
    try:
        with torch_threads(recipe.threads or int(os.environ["OMP_NUM_THREADS"])), quiet_libraries():
            if not torch.cuda.is_available():
                torch.distributed.init_process_group("gloo")
            prepared = method_module(recipe.method).prepare(lesson)
            train_to_end(lesson, prepared, Clock())
            if torch.distributed.is_initialized():
                torch.distributed.barrier()
                torch.distributed.destroy_process_group()
    except FlywheelError as error:
        teller.error(error)
        return error.exit_code
    except Exception as error:
        teller.error(error)
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
