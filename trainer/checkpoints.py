"""The checkpoints of one training folder: which are whole, which is the last, which the best."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.callbacks import COMPLETE, Clock


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint.

    Attributes:
        path: its folder.
        state: the trainer's state, as transformers wrote it.
        clock: wall and CPU seconds that led to it.
    """

    path: Path
    state: dict[str, Any]
    clock: dict[str, float]

    @property
    def is_last(self) -> bool:
        """Whether the training ended here: all steps done, or stopped early."""
        control = self.state["stateful_callbacks"]["TrainerControl"]["args"]
        return bool(control["should_training_stop"])

    @property
    def best(self) -> Path:
        """The checkpoint of the lowest validation loss so far; this one without validation."""
        recorded = self.state["best_model_checkpoint"]
        # Only the name counts: the folder may have moved since.
        return self.path.parent / Path(recorded).name if recorded else self.path

    def resumed_clock(self) -> Clock:
        """Return a clock that goes on from here."""
        return Clock(**self.clock)


def latest(folder: Path) -> Checkpoint | None:
    """Return the last whole checkpoint, or None; what a killed worker left half is removed."""
    whole: list[tuple[int, Path]] = []
    for path in folder.glob("checkpoint-*"):
        if (path / COMPLETE).is_file():
            whole.append((int(path.name.rsplit("-", 1)[1]), path))
        else:
            shutil.rmtree(path)
    if not whole:
        return None
    path = max(whole)[1]
    return Checkpoint(
        path,
        json.loads((path / "trainer_state.json").read_text()),
        json.loads((path / COMPLETE).read_text()),
    )
