"""How many examples of each group a dataset takes: caps on task types, and a total that is spread.

Pure. A group is one combination of what the recipe balances by (task type, difficulty, project,
month); its share of a limited dataset follows its size as it is, the square root of it, or not.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from typing import Final, TypeAlias
from uuid import UUID

from curation.recipe import EQUAL, SQRT, CurationRecipe

UNTYPED: Final = "untyped"
UNDATED: Final = "undated"

Cell: TypeAlias = tuple[str, ...]
"""A task type, then the values of what is balanced by."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What balancing looks at; the score is in 0-1, or None where nobody judged."""

    id: UUID
    task_type: str | None = None
    difficulty: str | None = None
    project: str = "default"
    started_at: datetime | None = None
    score: float | None = None


def cells_of(choices: Iterable[Choice], recipe: CurationRecipe) -> dict[Cell, list[Choice]]:
    """Return the choices by cell, cells in order."""
    found: dict[Cell, list[Choice]] = defaultdict(list)
    for choice in choices:
        found[cell_of(choice, recipe)].append(choice)
    return dict(sorted(found.items()))


def cell_of(choice: Choice, recipe: CurationRecipe) -> Cell:
    """Return the cell that an example is counted in; months are those of UTC."""
    moment = choice.started_at
    values = {
        "task_type": choice.task_type or UNTYPED,
        "difficulty": choice.difficulty or "unknown",
        "project": choice.project,
        "month": UNDATED if moment is None else f"{moment.astimezone(UTC):%Y-%m}",
    }
    return (values["task_type"], *(values[name] for name in recipe.balance_by))


def allowances(counts: Mapping[Cell, int], recipe: CurationRecipe) -> dict[Cell, int]:
    """Return how many examples of each cell the recipe lets in.

    No task type passes `max_per_task_type` or `max_task_type_share` of what is let in (a share
    below 1 / number of types is read as that, and one example is always allowed). Under these caps
    as many as possible are let in, at most `max_examples`, spread over the groups by
    `balance_weight`.
    """
    present: dict[str, int] = defaultdict(int)
    for cell, count in counts.items():
        present[cell[0]] += count
    total, caps = _total_and_caps(present, recipe)
    return _spread_under_caps(total, caps, counts, _weights(counts, recipe))


def _total_and_caps(
    present: Mapping[str, int], recipe: CurationRecipe
) -> tuple[int, dict[str, int]]:
    """Return the largest total that the caps on task types allow, and those caps."""
    most = recipe.max_per_task_type
    caps = {kind: n if most is None else min(n, most) for kind, n in present.items()}
    total = sum(caps.values())
    if recipe.max_examples is not None:
        total = min(total, recipe.max_examples)
    if not caps or recipe.max_task_type_share == 1:
        return total, caps
    # As written: 0.29 of 100 is 29, which its binary fraction is not.
    share = max(Fraction(str(recipe.max_task_type_share)), Fraction(1, len(caps)))
    while True:
        fair = max(1, int(share * total))
        fitting = min(total, sum(min(cap, fair) for cap in caps.values()))
        if fitting == total:
            return total, {kind: min(cap, fair) for kind, cap in caps.items()}
        total = fitting


def _weights(counts: Mapping[Cell, int], recipe: CurationRecipe) -> dict[Cell, float]:
    """Return each cell's part of its group's weight."""
    groups: dict[Cell, int] = defaultdict(int)
    for cell, count in counts.items():
        groups[cell[1:]] += count
    return {cell: _weight(groups[cell[1:]], n, recipe) for cell, n in counts.items()}


def _weight(group: int, count: int, recipe: CurationRecipe) -> float:
    if recipe.balance_weight == EQUAL:
        return count / group
    if recipe.balance_weight == SQRT:
        return math.sqrt(group) * count / group
    return float(count)


def _spread_under_caps(
    total: int,
    caps: Mapping[str, int],
    counts: Mapping[Cell, int],
    weights: Mapping[Cell, float],
) -> dict[Cell, int]:
    """Return `total` spread over the cells so that no task type passes its cap."""
    allowed: dict[Cell, int] = {}
    free, left = set(caps), total
    while free:
        trial = _spread(left, _of_types(counts, free), weights)
        taken: dict[str, int] = defaultdict(int)
        for cell, count in trial.items():
            taken[cell[0]] += count
        over = [kind for kind in sorted(free) if taken[kind] > caps[kind]]
        if not over:
            return allowed | trial
        for kind in over:
            allowed |= _spread(caps[kind], _of_types(counts, {kind}), weights)
            left -= caps[kind]
            free.remove(kind)
    return allowed


def _of_types(counts: Mapping[Cell, int], kinds: set[str]) -> dict[Cell, int]:
    return {cell: count for cell, count in counts.items() if cell[0] in kinds}


def _spread(
    total: int, limits: Mapping[Cell, int], weights: Mapping[Cell, float]
) -> dict[Cell, int]:
    """Return `total` shared out by weight, no cell above its limit, by largest remainder."""
    given: dict[Cell, int] = {}
    free, left = sorted(limits), total
    while free:
        unit = left / sum(weights[cell] for cell in free)
        full = [cell for cell in free if weights[cell] * unit >= limits[cell]]
        if not full:
            break
        for cell in full:
            given[cell] = limits[cell]
            left -= limits[cell]
        free = [cell for cell in free if cell not in given]
    exact = {cell: weights[cell] * unit for cell in free}
    given |= {cell: int(share) for cell, share in exact.items()}
    left -= sum(given[cell] for cell in free)
    by_remainder = sorted(free, key=lambda cell: (int(exact[cell]) - exact[cell], cell))
    for cell in by_remainder[: max(left, 0)]:
        given[cell] += 1
    return given
