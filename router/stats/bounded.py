"""Outcomes between 0 and 1: scores, shares of bad calls, costs as a part of the task's budget.

A gambler who bets on 'the difference is above d' can double a stake of 1 only with luck while it is
not: the stake is an e-process (Waudby-Smith & Ramdas, arXiv 2010.09686), here the mean over a grid
of bets. It needs no variance and no distribution, only the bounds.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from evaluator.evidence import always_valid_p, log_e_mean_above


@dataclass(frozen=True)
class BoundedEvidence:
    """What bounded differences say, now and at the best moment so far; logarithms are natural."""

    n: int
    mean: float
    """Treatment minus control, -1 to 1; 0 without differences."""
    minimum: float
    """The improvement that `log_e` proves."""
    log_e: float
    max_log_e: float
    log_e_harm: float
    max_log_e_harm: float

    @property
    def p_value(self) -> float:
        """Always-valid p-value of 'the treatment is not better by more than the minimum'."""
        return always_valid_p(self.max_log_e)

    @property
    def harm_p_value(self) -> float:
        """Always-valid p-value of 'the treatment is not worse'."""
        return always_valid_p(self.max_log_e_harm)


def bounded_evidence(differences: ArrayLike, minimum: float = 0.0) -> BoundedEvidence:
    """Return the evidence of differences in order; none is e = 1.

    Args:
        differences: treatment minus control of each pair or block, in [-1, 1].
        minimum: improvement that must be surpassed, 0 <= minimum < 1. Harm is always against 0.

    Raises:
        ValueError: a difference or the minimum is out of its bounds.
    """
    found = np.asarray(differences, dtype=float)
    if not 0 <= minimum < 1:
        raise ValueError(f"minimum improvement is {minimum}, expected 0 <= minimum < 1")
    better = log_e_mean_above(found, minimum)
    worse = log_e_mean_above(-found, 0.0)
    return BoundedEvidence(
        n=len(found),
        mean=float(found.mean()) if len(found) else 0.0,
        minimum=minimum,
        log_e=float(better[-1]),
        max_log_e=float(better.max()),
        log_e_harm=float(worse[-1]),
        max_log_e_harm=float(worse.max()),
    )
