"""The checkpoints of one training folder: which are whole, which is the last, which the best."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

COMPLETE: Final = "complete.json"
"""Written last into a checkpoint, with what its files are: without it the checkpoint is half."""
BLOCK: Final = 1 << 20
HASHED_WHOLE: Final = 1 << 30
"""Bytes up to which a file is hashed from end to end; of a larger one, its head and its tail."""

Say = Callable[[str, str], None]


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint.

    Attributes:
        path: its folder.
        state: the trainer's state, as transformers wrote it.
        clock: seconds that led to it, as `Clock.read`.
        micro_batch: rows of a forward pass, which may be fewer than the recipe's.
    """

    path: Path
    state: dict[str, Any]
    clock: dict[str, float]
    micro_batch: int

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


def latest(folder: Path, say: Say = lambda level, text: None) -> Checkpoint | None:
    """Return the last whole checkpoint, or None; half and damaged ones are removed, and said.

    A checkpoint whose best one is damaged is of no use: going on from it would keep the damage.
    """
    for path in sorted(folder.glob("checkpoint-*"), key=_step, reverse=True):
        wrong = damage(path)
        if wrong is None:
            found = _read(path)
            wrong = damage(found.best)
            if wrong is None:
                return found
            wrong = f"its best one, {found.best.name}, is not whole: {wrong}"
        if (path / COMPLETE).is_file():  # else a killed worker left half of it, nothing unusual
            say("WARNING", f"{path.name} is not used: {wrong}; looking at the one before")
        shutil.rmtree(path)
    return None


def mark_complete(folder: Path, facts: Callable[[], dict[str, Any]]) -> None:
    """Mark a checkpoint as whole, in one move, with its files' lengths and hashes.

    Args:
        folder: of the checkpoint, all of it written.
        facts: what else the mark says; asked once the files are hashed, which takes time too.
    """
    files = {str(file.relative_to(folder)): _print_of(file) for file in _files_of(folder)}
    unfinished = folder / f"{COMPLETE}.part"
    unfinished.write_text(json.dumps({"files": files, **facts()}))
    os.replace(unfinished, folder / COMPLETE)


def facts_of(folder: Path) -> dict[str, Any]:
    """Return what a whole checkpoint was marked with."""
    facts: dict[str, Any] = json.loads((folder / COMPLETE).read_text())
    return facts


def damage(folder: Path) -> str | None:
    """Return what is wrong with a checkpoint's files, or None."""
    try:
        files = facts_of(folder)["files"]
    except (OSError, ValueError, KeyError):
        return f"{COMPLETE} is missing or damaged"
    for name, expected in files.items():
        file = folder / name
        if not file.is_file():
            return f"{name} is missing"
        found = _print_of(file)
        if found["bytes"] != expected["bytes"]:
            return f"{name} has {found['bytes']:,} bytes, expected {expected['bytes']:,}"
        if found != expected:
            return f"{name} is not what was written"
    return None


def measured_at(checkpoint: Path, name: str) -> float | None:
    """Return what the validation at a checkpoint measured, by its library's name; None: nothing."""
    state = json.loads((checkpoint / "trainer_state.json").read_text())
    for line in reversed(state["log_history"]):
        if line["step"] == state["global_step"] and name in line:
            return float(line[name])
    return None


def remove_half_written(folder: Path) -> None:
    """Remove the checkpoints that were not finished."""
    for path in folder.glob("checkpoint-*"):
        if not (path / COMPLETE).is_file():
            shutil.rmtree(path)


def size_of(folder: Path) -> int:
    """Return the bytes of a checkpoint's files."""
    return sum(file.stat().st_size for file in _files_of(folder))


def _files_of(folder: Path) -> list[Path]:
    """Return its files, and those of folders in it: a continual method keeps its state there."""
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _step(path: Path) -> int:
    return int(path.name.rsplit("-", 1)[1])


def _read(path: Path) -> Checkpoint:
    state = json.loads((path / "trainer_state.json").read_text())
    facts = facts_of(path)
    return Checkpoint(path, state, facts["clock"], facts["micro_batch"])


def _print_of(file: Path) -> dict[str, Any]:
    length = file.stat().st_size
    with file.open("rb") as stream:
        if length <= HASHED_WHOLE:
            return {"bytes": length, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}
        head = stream.read(BLOCK)
        stream.seek(-BLOCK, os.SEEK_END)
        return {"bytes": length, "ends_sha256": hashlib.sha256(head + stream.read()).hexdigest()}
