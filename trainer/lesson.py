"""What one training is given, and what comes of it: the words between `run`, `fit` and a method."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from trainer.base import load_tokenizer
from trainer.data import Row
from trainer.recipe import Recipe


class Report(Protocol):
    """Told how far a training is, as `RunHandle.progress`; may raise to stop it."""

    def __call__(self, done: float, total: float, unit: str, **measures: Any) -> None:
        """Take one report."""


Reward = Callable[[Sequence[Mapping[str, Any]], Sequence[str]], list[float | None]]
"""`reward(rows, answers)`: one reward per answer, 0-1 as a rule; None where nothing can be said."""


@dataclass(frozen=True)
class Earlier:
    """What a training goes on from.

    Attributes:
        name: of the version.
        folder: its files: an adapter, and what a continual method stored beside it.
        rows: of the datasets that it and its own ancestors learned from, in a fixed order.
        ancestors: adapter folders of the versions before it, oldest first, its own last.
    """

    name: str
    folder: Path
    rows: Sequence[Row] = ()
    ancestors: Sequence[Path] = ()


@dataclass(frozen=True)
class Lesson:
    """What one training is given.

    Attributes:
        base_model: folder or hub name.
        recipe: all knobs.
        rows: to learn from, as the method reads them (`trainer.methods.METHODS`).
        validation: for early stopping and the best checkpoint; may be empty.
        folder: of this training alone: checkpoints, and what is kept in the end.
        report: told each logged step.
        earlier: the version that it goes on from; None: from the base.
        teacher: of distillation: a base model, and an adapter folder over it or None.
        reward: of reinforcement.
        say: writes a line into the log of the run: (level, text).
        check: asked after each pass; may raise to stop the training there.
        shards: processes that the weights of the base are spread over; 1: each holds them all.
    """

    base_model: str
    recipe: Recipe
    rows: Sequence[Row]
    validation: Sequence[Row]
    folder: Path
    report: Report
    earlier: Earlier | None = None
    teacher: tuple[str, Path | None] | None = None
    reward: Reward | None = None
    say: Callable[[str, str], None] = lambda level, text: None
    check: Callable[[], None] = lambda: None
    shards: int = 1

    @cached_property
    def tokenizer(self) -> Any:
        """The base's tokenizer, loaded once."""
        return load_tokenizer(self.base_model)


@dataclass(frozen=True)
class Prepared:
    """Data as a method's trainer takes it.

    Attributes:
        train: a `datasets.Dataset`, or what else the method's trainer iterates over.
        validation: the same, or None.
        n_rows: rows in `train`, as the steps of an epoch are counted.
        metrics: rows, tokens, and what was left out by reason; stored with the training.
    """

    train: Any
    validation: Any
    n_rows: int
    metrics: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Trained:
    """The outcome of a training.

    Attributes:
        folder: files to keep: an adapter, or a whole model with its tokenizer.
        weights_sha256: of the weight files; equal data, recipe, seed and threads give equal ones.
        metrics: losses, steps, rows and tokens.
        history: logged steps.
        environment: device, precision, threads, wall and CPU seconds.
    """

    folder: Path
    weights_sha256: str
    metrics: dict[str, Any]
    history: list[dict[str, Any]]
    environment: dict[str, Any]
