"""One training without a database: what tests of methods hand to `trainer.fit`."""

from pathlib import Path
from typing import Any

from trainer.lesson import Lesson, Trained
from trainer.recipe import Recipe


def quiet(done: float, total: float, unit: str, **measures: Any) -> None:
    pass


def lesson(
    base: Path | str,
    folder: Path,
    recipe: Recipe,
    rows: list[dict[str, Any]],
    validation: list[dict[str, Any]] | None = None,
    report: Any = quiet,
    **more: Any,
) -> Lesson:
    folder.mkdir(parents=True, exist_ok=True)
    return Lesson(str(base), recipe, rows, validation or [], folder, report, **more)


def train(*args: Any, **more: Any) -> Trained:
    from trainer.fit import fit

    return fit(lesson(*args, **more))
