"""The estimate: the difference of success rates with an interval that may be peeked at.

The asymptotic confidence sequence of Waudby-Smith et al. (arXiv 2103.06476) holds at all looks at
once. It is shown, it does not decide: the e-processes are exact for few units, this is not.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from router.stats.pairs import AssignedUnit, Floats
from router.tables import CONTROL, TREATMENT


@dataclass(frozen=True)
class Difference:
    """Treatment minus control success rate (-1 to 1) with an interval that may be peeked at."""

    estimate: float
    low: float
    high: float
    n_units: int


def stratified_difference(
    units: Iterable[AssignedUnit], alpha: float = 0.05, expected_units: int = 500
) -> Difference | None:
    """Return the difference of success rates with its asymptotic confidence sequence.

    Strata are weighted as Mantel and Haenszel do; variances are smoothed by one success and one
    failure per arm, so a stratum without failures does not claim certainty. The interval is
    narrowest, relative to the best, at `expected_units`.

    Returns:
        None if no stratum has a known outcome in both arms.
    """
    counts: dict[str, dict[str, list[int]]] = defaultdict(
        lambda: {TREATMENT: [0, 0], CONTROL: [0, 0]}
    )
    for unit in units:
        if unit.outcome is not None:
            cell = counts[unit.stratum][unit.arm]
            cell[0] += int(unit.outcome)
            cell[1] += 1
    table = np.array(
        [
            (*arms[TREATMENT], *arms[CONTROL])
            for arms in counts.values()
            if arms[TREATMENT][1] and arms[CONTROL][1]
        ],
        dtype=float,
    )
    return _difference(table, alpha, expected_units) if len(table) else None


def _difference(table: Floats, alpha: float, expected_units: int) -> Difference:
    """Evaluate rows (treated successes, treated, control successes, control), one per stratum."""
    good_t, n_t, good_c, n_c = table.T
    weight = n_t * n_c / (n_t + n_c)
    weight = weight / weight.sum()
    estimate = float((weight * (good_t / n_t - good_c / n_c)).sum())
    rate_t, rate_c = (good_t + 1) / (n_t + 2), (good_c + 1) / (n_c + 2)
    variance = rate_t * (1 - rate_t) / n_t + rate_c * (1 - rate_c) / n_c
    standard_error = math.sqrt(float((weight**2 * variance).sum()))
    n_units = int((n_t + n_c).sum())
    half = standard_error * sequence_width(n_units, alpha, expected_units)
    return Difference(estimate, max(-1.0, estimate - half), min(1.0, estimate + half), n_units)


def sequence_width(n: float, alpha: float, expected: float) -> float:
    """Return how many standard errors the confidence sequence spans on each side after n units.

    Args:
        n: units so far, above 0.
        alpha: chance that the interval ever misses the truth.
        expected: units at which it is narrowest relative to the best, fixed beforehand.
    """
    rho2 = (-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / expected
    spread = n * rho2 + 1
    return math.sqrt(2 * spread / (n * rho2) * math.log(math.sqrt(spread) / alpha))
