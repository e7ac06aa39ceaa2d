"""How much of each task type goes into a dataset: quotas, met by the best-scored, then by lot.

Pure and deterministic: the lot is the hash of the recipe's seed and the example's id.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from curation.recipe import CurationRecipe

UNTYPED = "untyped"


@dataclass(frozen=True, slots=True)
class Choice:
    """What balancing looks at: an example, its task type, and its score in 0-1 or None."""

    id: UUID
    task_type: str | None
    score: float | None


def over_quota(choices: Iterable[Choice], recipe: CurationRecipe) -> set[UUID]:
    """Return the ids that the recipe's quotas leave out; empty when there are none or they fit.

    `max_per_task_type` first, then `max_task_type_share` (of what remains; a share below
    1 / number of types is read as that), then `max_examples`, taken from the types in proportion.
    """
    by_type: dict[str, list[Choice]] = defaultdict(list)
    for choice in choices:
        by_type[choice.task_type or UNTYPED].append(choice)
    counts = {kind: len(found) for kind, found in sorted(by_type.items())}
    allowed = allowances(counts, recipe)
    left_out: set[UUID] = set()
    for kind, found in by_type.items():
        if allowed[kind] < len(found):
            ranked = sorted(found, key=lambda c: _place(c, recipe))
            left_out.update(choice.id for choice in ranked[allowed[kind] :])
    return left_out


def allowances(counts: dict[str, int], recipe: CurationRecipe) -> dict[str, int]:
    """Return how many examples of each task type the recipe lets in."""
    allowed = dict(counts)
    if recipe.max_per_task_type is not None:
        allowed = {kind: min(n, recipe.max_per_task_type) for kind, n in allowed.items()}
    allowed = _cap_share(allowed, recipe.max_task_type_share)
    if recipe.max_examples is not None:
        allowed = _cap_total(allowed, recipe.max_examples)
    return allowed


def _cap_share(counts: dict[str, int], share: float) -> dict[str, int]:
    """Return the counts under the largest common cap at which no type exceeds its share."""
    if not counts:
        return {}
    share = max(share, 1 / len(counts))
    low, high = 1, max(counts.values())
    while low < high:
        cap = (low + high + 1) // 2
        fits = cap <= share * sum(min(n, cap) for n in counts.values())
        low, high = (cap, high) if fits else (low, cap - 1)
    fits_uncapped = max(counts.values()) <= share * sum(counts.values())
    return counts if fits_uncapped else {kind: min(n, low) for kind, n in counts.items()}


def _cap_total(counts: dict[str, int], total: int) -> dict[str, int]:
    """Return the counts shrunk in proportion to sum to `total`, by largest remainder."""
    present = sum(counts.values())
    if present <= total:
        return counts
    exact = {kind: n * total / present for kind, n in counts.items()}
    allowed = {kind: int(x) for kind, x in exact.items()}
    by_remainder = sorted(counts, key=lambda kind: (allowed[kind] - exact[kind], kind))
    for kind in by_remainder[: total - sum(allowed.values())]:
        allowed[kind] += 1
    return allowed


def _place(choice: Choice, recipe: CurationRecipe) -> tuple[float, bytes]:
    score = choice.score if recipe.by_outcome else None
    lot = hashlib.sha256(f"{recipe.seed}:{choice.id}".encode()).digest()
    return (-(score or 0.0), lot)
