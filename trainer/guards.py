"""What ends a training before it does harm, or makes it smaller: loss, memory, disk, trackers.

Deciding only: `trainer.callbacks` looks on while a training runs, `trainer.fit` acts.
"""

import errno
import importlib.util
import math
import shutil
import statistics
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch

from foundation.errors import BadInput, FlywheelError
from trainer.recipe import Recipe

WINDOW: Final = 5
"""Logged steps that a loss is averaged over, and that it must stay too high for."""
LOSS_FACTOR, LOSS_SLACK = 3.0, 1.0
GRADIENT_FACTOR = 1000.0
MARGIN_BYTES = 1 << 20
"""Of a checkpoint's small files, and of what else is written meanwhile."""

TRACKERS: Final[dict[str, tuple[str, ...]]] = {
    "tensorboard": ("tensorboard", "tensorboardX"),
    "trackio": ("trackio",),
    "mlflow": ("mlflow",),
    "wandb": ("wandb",),
}
"""Trackers that a recipe may name, with the packages of which one must be installed."""


class Diverged(FlywheelError):
    """The training no longer learns: its loss is no number, or runs away."""

    def __init__(self, step: int, loss: float, lr: float, reason: str) -> None:
        self.step, self.loss, self.lr, self.reason = step, loss, lr, reason
        super().__init__(
            f"training at step {step}, learning rate {lr:g}: {reason}. Nothing of it is kept. "
            "Lower recipe.lr, raise recipe.warmup, or look for broken rows in the dataset."
        )


class OutOfMemory(FlywheelError):
    """Not even one row at a time fits into memory."""

    def __init__(self, rows: int, reason: str) -> None:
        self.rows, self.reason = rows, reason
        super().__init__(
            f"memory: {rows} row(s) of a forward pass do not fit ({reason}). Lower "
            "recipe.max_length or recipe.r, hold the base in fewer bits (recipe.quantization), or "
            "use a machine with more memory."
        )


class DiskFull(FlywheelError):
    """There is no room for the next checkpoint; the one before is whole."""

    def __init__(self, folder: Path, free: int, needed: int | None = None) -> None:
        self.free, self.needed = free, needed
        expected = f", expected {_mib(needed)} for what comes" if needed else ""
        super().__init__(
            f"disk of {folder.name}: {_mib(free)} free{expected}. Make room, or set FLYWHEEL_HOME "
            "to a larger disk, then retry the run: it goes on from its last checkpoint."
        )


def _mib(n_bytes: int) -> str:
    return f"{n_bytes / 2**20:,.1f} MiB"


class Divergence:
    """Judges the logged steps of a training, one after the other.

    A loss diverges when it stays for `WINDOW` logged steps above both where it began and
    `LOSS_FACTOR` times the lowest it has come to, each the mean of `WINDOW` steps, by more than
    `LOSS_SLACK`. A gradient explodes when it stays as long above `GRADIENT_FACTOR` times its median
    so far, or times the length it is cut to if that is more. Infinite gradients alone are no sign:
    in fp16 the scaler makes some.
    """

    def __init__(self, clip: float, *, loss_tells: bool = True) -> None:
        """Begin.

        Args:
            clip: length that gradients are cut to.
            loss_tells: False where the loss is not to fall: of reinforcement.
        """
        self._clip, self._loss_tells = clip, loss_tells
        self._recent: deque[float] = deque(maxlen=WINDOW)
        self._began: float | None = None
        self._lowest = math.inf
        self._gradients: list[float] = []
        self._too_high = self._too_long = 0

    def judge(self, measures: Mapping[str, float]) -> str | None:
        """Return what is wrong after this logged step, or None."""
        for name in ("loss", "validation_loss"):
            if not math.isfinite(measures.get(name, 0.0)):
                return f"the {name.replace('_', ' ')} is {measures[name]}, expected a finite number"
        return self._of_loss(measures) or self._of_gradient(measures)

    def _of_loss(self, measures: Mapping[str, float]) -> str | None:
        loss = measures.get("loss")
        if loss is None or not self._loss_tells:
            return None
        ceiling = math.inf
        if self._began is not None:
            ceiling = max(self._began, LOSS_FACTOR * self._lowest) + LOSS_SLACK
        self._too_high = self._too_high + 1 if loss > ceiling else 0
        if self._too_high == WINDOW:
            return (
                f"the loss is {loss:.4g} and was above {ceiling:.4g} for {WINDOW} logged steps, "
                f"after it had come down to {self._lowest:.4g}"
            )
        self._recent.append(loss)
        if len(self._recent) == WINDOW:
            mean = statistics.fmean(self._recent)
            self._began = mean if self._began is None else self._began
            self._lowest = min(self._lowest, mean)
        return None

    def _of_gradient(self, measures: Mapping[str, float]) -> str | None:
        norm = measures.get("grad_norm", math.inf)
        if not math.isfinite(norm):
            return None
        limit = math.inf
        if len(self._gradients) >= WINDOW:
            limit = GRADIENT_FACTOR * max(statistics.median(self._gradients), self._clip)
        self._too_long = self._too_long + 1 if norm > limit else 0
        if self._too_long == WINDOW:
            return (
                f"the gradient is {norm:.4g} long and was longer than {limit:.4g} for "
                f"{WINDOW} logged steps"
            )
        self._gradients.append(norm)
        return None


def smaller(recipe: Recipe) -> Recipe | None:
    """Return the recipe with the next smaller forward pass and the same effective batch, or None.

    A batch halves and its accumulation doubles; one that cannot be halved goes to the next smaller
    divisor of the effective batch.
    """
    whole = recipe.effective_batch_size
    for rows in range(max(1, recipe.batch_size // 2), 0, -1):
        if rows < recipe.batch_size and whole % rows == 0:
            return replace(recipe, batch_size=rows, gradient_accumulation=whole // rows)
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocator has said no, on a GPU or a CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    told = ("not enough memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(text in str(error) for text in told)


def is_disk_full(error: BaseException) -> bool:
    """Whether a write failed because the disk, or the quota of it, is full.

    torch and safetensors write by themselves and raise errors of their own.
    """
    told = ("No space left on device", "PytorchStreamWriter failed", "Disk quota exceeded")
    return any(
        (isinstance(link, OSError) and link.errno in (errno.ENOSPC, errno.EDQUOT))
        or any(text in str(link) for text in told)
        for link in _chain(error)
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def checkpoint_bytes(model: Any) -> int:
    """Return about how large a checkpoint of a model will be: weights and AdamW's two moments."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return sum(int(p.numel() * (p.element_size() + 8)) for p in trained) + MARGIN_BYTES


def require_room(folder: Path, needed: int) -> None:
    """Check the disk of a folder.

    Raises:
        DiskFull: fewer than `needed` bytes are free.
    """
    free: int = shutil.disk_usage(folder).free
    if free < needed:
        raise DiskFull(folder, free, needed)


def require_trackers(names: tuple[str, ...]) -> None:
    """Check that each tracker is known and installed.

    Raises:
        BadInput: naming the tracker and what to install.
    """
    for name in names:
        if name not in TRACKERS:
            expected = f"some of {', '.join(TRACKERS)}"
            raise BadInput("recipe.report_to", name, expected, "Correct the recipe.")
        if not any(importlib.util.find_spec(package) for package in TRACKERS[name]):
            raise BadInput(
                "recipe.report_to",
                name,
                "a tracker that is installed",
                f"Run: pip install {TRACKERS[name][-1]}",
            )
