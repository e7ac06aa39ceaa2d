"""The rows of a dataset as the methods read them. No torch."""

import json
from collections.abc import Sequence
from typing import Any

from sqlmodel import Session

from curation.export import load_rows, read
from curation.tables import PREFERENCE, SFT, Dataset
from trainer.methods import METHODS
from trainer.recipe import Recipe

READABLE = {SFT: (SFT, PREFERENCE), PREFERENCE: (PREFERENCE,)}
"""Kinds of datasets that a method can learn from, by what it reads: of pairs, the winners."""


def rows_of(
    session: Session, dataset: Dataset | None, split: str, recipe: Recipe | None = None
) -> list[dict[str, Any]]:
    """Return the rows of a split, answers to learn or pairs; none without a dataset.

    With a recipe, as its method reads them: pairs of the bases that it names, and of these only
    the winners if the method imitates.
    """
    if dataset is None:
        return []
    if dataset.kind == SFT:
        return load_rows(session, dataset.id, split)
    rows = list(read(session, dataset.id, split))
    if recipe is None:
        return rows
    bases = recipe.preference.bases
    rows = [row for row in rows if not bases or row["basis"] in bases]
    return winners(rows) if METHODS[recipe.method].reads == SFT else rows


def winners(pairs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the better answer of each pair as a row to imitate; one of several pairs, once."""
    rows: dict[str, dict[str, Any]] = {}
    for pair in pairs:
        said = json.dumps([pair["prompt"], pair["chosen"]], sort_keys=True)
        rows.setdefault(
            said,
            {
                "prompt": pair["prompt"],
                "completion": pair["chosen"],
                "example_id": pair["winner_id"],
                "task_type": pair.get("task_type"),
            },
        )
    return list(rows.values())
