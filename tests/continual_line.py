"""A line of versions on the tiny base: what tests of continual learning go on from."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import fitting
from tiny_base import QUICK, make_rows

from trainer.lesson import Earlier, Trained
from trainer.recipe import Recipe
from trainer.recipe.continual import Continual

OLD = make_rows(16, "zebra quux 77")
NEW, VALIDATION = make_rows(32)[:16], make_rows(32)[16:]
TWO_STEPS: Recipe = replace(QUICK, epochs=1.0)
"""Two steps of 8 rows, with dropout, so that equal weights need an equal random state."""

STARTED = Continual()


def learn(
    base: Path,
    folder: Path,
    earlier: Earlier | None,
    continual: Continual = STARTED,
    recipe: Recipe = TWO_STEPS,
    rows: list[dict[str, Any]] = NEW,
    validation: list[dict[str, Any]] = VALIDATION,
    report: Any = fitting.quiet,
    **more: Any,
) -> Trained:
    """Train on after `earlier`."""
    recipe = replace(recipe, continual=continual)
    return fitting.train(base, folder, recipe, rows, validation, report, earlier=earlier, **more)


def version(trained: Trained, name: str = "v1", rows: list[dict[str, Any]] = OLD) -> Earlier:
    """What the next training is given of a trained one."""
    return Earlier(name, trained.folder, rows, [trained.folder])
