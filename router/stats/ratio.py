"""Ratios of totals: successes per task, tokens or dollars per success.

The variance of a ratio of sums over units follows from the units (delta method), never from the
tasks, which rise and fall together within a unit; ratios of single tasks are not averaged.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Ratio:
    """A ratio of totals and its variance, from `n_units` units."""

    value: float
    variance: float
    n_units: int


@dataclass(frozen=True)
class RatioDifference:
    """Treatment minus control; `freedom` are Welch's degrees of freedom of its standard error."""

    estimate: float
    standard_error: float
    freedom: float

    @property
    def t(self) -> float:
        """Standard errors from 0; 0 where nothing varies and nothing differs."""
        if self.standard_error > 0:
            return self.estimate / self.standard_error
        return 0.0 if self.estimate == 0 else math.copysign(math.inf, self.estimate)


def ratio_of(amounts: ArrayLike, counts: ArrayLike) -> Ratio | None:
    """Return sum(amounts) / sum(counts) with the variance s^2(X - R N) / (U mean(N)^2).

    Args:
        amounts: X of each unit, [U].
        counts: N of each unit, [U], zero or more.

    Returns:
        None below two units, or where the counts sum to 0: nothing can be said then.
    """
    x, n = np.asarray(amounts, dtype=float), np.asarray(counts, dtype=float)
    if len(x) < 2 or n.sum() <= 0:
        return None
    value = float(x.sum() / n.sum())
    variance = float(np.var(x - value * n, ddof=1)) / (len(x) * float(n.mean()) ** 2)
    return Ratio(value, variance, len(x))


def ratio_difference(treatment: Ratio, control: Ratio) -> RatioDifference:
    """Return the difference of two independent arms with Welch and Satterthwaite's freedom."""
    total = treatment.variance + control.variance
    parts = [arm.variance**2 / (arm.n_units - 1) for arm in (treatment, control)]
    freedom = total**2 / sum(parts) if sum(parts) > 0 else treatment.n_units + control.n_units - 2
    return RatioDifference(treatment.value - control.value, math.sqrt(total), freedom)
