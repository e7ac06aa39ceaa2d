"""The ways to combine adapters, known without torch or numpy: what an order may ask for."""

from collections.abc import Sequence
from math import isfinite
from typing import Final

from foundation.errors import BadInput
from trainer.recipe import SERVABLE_RANKS

CAT, SVD, LINEAR, TIES, DARE = "cat", "svd", "linear", "ties", "dare"
WAYS: Final = {
    CAT: "exact: ranks add up; cut by SVD only beyond rank 64",
    SVD: "the nearest of a rank",
    LINEAR: "A and B averaged by themselves: very rough",
    TIES: "trimmed, signs elected, means of those that agree",
    DARE: "half of each change dropped at random, the rest doubled",
}
"""What each does with the true weighted sum of the changes."""


def require_way(how: str, weights: Sequence[float], n_parts: int, rank: int | None) -> None:
    """Check an order to combine.

    Raises:
        BadInput: another way, fewer than two parts, weights that are none, a rank nobody serves.
    """
    if how not in WAYS:
        raise BadInput("way to combine", how, f"one of {', '.join(WAYS)}", "Name one of those.")
    if n_parts < 2 or len(weights) != n_parts:
        raise BadInput("adapters", n_parts, "two or more, each with a weight", "Name more.")
    if not all(map(isfinite, weights)) or not any(weights):
        raise BadInput("weights", list(weights), "finite numbers, not all 0", "Correct them.")
    if rank is not None and rank not in SERVABLE_RANKS:
        ranks = ", ".join(map(str, SERVABLE_RANKS))
        raise BadInput("rank", rank, f"one that servers take: {ranks}", "Name one of those.")
