"""Does a candidate still know what its baseline knew: the general suite, and the rule on it.

What is kept is the candidate's success as a share of the baseline's, on tasks that have nothing to
do with the role. It is a ratio of two means over the same tasks, so its interval is Fieller's
(1954) for paired values, with the error taken over clusters of tasks.
"""

from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foundation.decisions import Ruling, load, rule
from foundation.errors import BadInput

RULE = "evaluator.forgetting"
OK, QUARANTINE, UNDECIDED = "ok", "quarantine", "undecided"

Floats = NDArray[np.float64]

_BOUND = 0.95
_NO_SPREAD = 1e-12


@dataclass(frozen=True)
class ForgettingThresholds:
    """Limit of `evaluator.forgetting`.

    Attributes:
        max_drop: share (0-1) of the baseline's general success that may be lost.
    """

    max_drop: float = 0.10

    def __post_init__(self) -> None:
        if not 0 < self.max_drop < 1:
            raise BadInput(
                "max_drop of forgetting", self.max_drop, "a share between 0 and 1", "Use 0.10."
            )


@dataclass(frozen=True)
class ForgettingInputs:
    """What a general suite said of both; the share kept is None if the baseline solved nothing.

    Attributes:
        baseline_rate: success of the baseline, 0-1.
        candidate_rate: success of the candidate, 0-1.
        kept: candidate over baseline.
        kept_low: its one-sided 95 % lower bound; None if the tasks do not bound it.
        kept_high: its one-sided 95 % upper bound; None if the tasks do not bound it.
        n_tasks: tasks that both answered.
        suite: name@version of the general suite.
    """

    baseline_rate: float
    candidate_rate: float
    kept: float | None
    kept_low: float | None
    kept_high: float | None
    n_tasks: int
    suite: str = ""


@rule(RULE)
def forgetting_rule(inputs: dict[str, Any], thresholds: dict[str, Any]) -> Ruling:
    """Say `ok`, `quarantine` or `undecided`."""
    seen, limits = load(ForgettingInputs, inputs), load(ForgettingThresholds, thresholds)
    if seen.kept is None:
        return Ruling(
            UNDECIDED, (f"The baseline solved none of {seen.n_tasks} general tasks: no measure.",)
        )
    least = 1 - limits.max_drop
    shown = (
        f"General success {seen.candidate_rate:.1%} against {seen.baseline_rate:.1%} over "
        f"{seen.n_tasks} tasks: {seen.kept:.1%} of it kept, one-sided 95 % bounds "
        f"{_share(seen.kept_low)} and {_share(seen.kept_high)}; {least:.0%} must be."
    )
    if seen.kept_low is not None and seen.kept_low >= least:
        return Ruling(OK, (shown, "No more than tolerated was forgotten."))
    if seen.kept_high is not None and seen.kept_high < least:
        return Ruling(QUARANTINE, (shown, "More than tolerated was forgotten."))
    return Ruling(
        UNDECIDED, (shown, "The bounds hold the limit: ask more general tasks or more samples.")
    )


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1%}"


def share_kept(
    baseline: Floats, candidate: Floats, clusters: NDArray[np.int64]
) -> tuple[float | None, float | None, float | None]:
    """Return the share of the baseline's success that is kept, with one-sided 95 % bounds.

    All None if the baseline solved nothing; a bound is None where the data set none, as with a
    single cluster. Each bound is the more careful of two: as measured, and with the spread of two
    imaginary tasks more, one lost and one gained. Where losses are few and whole, as from 100 % to
    90 %, the measured spread alone says "no more than tolerated" in 13 of 100 cases instead of 5.

    Args:
        baseline: [tasks], mean success of each, 0-1.
        candidate: [tasks].
        clusters: [tasks], number of the cluster of each.
    """
    if baseline.sum() == 0:
        return None, None, None
    kept = float(candidate.mean() / baseline.mean())
    measured = _moments(baseline, candidate, clusters)
    if measured is None:
        return kept, None, None
    imagined = _moments(
        np.append(baseline, [0.0, 1.0]),
        np.append(candidate, [1.0, 0.0]),
        np.append(clusters, clusters.max() + np.array([1, 2])),
    )
    spreads = [imagined, *([measured] if _error(kept, measured) > _NO_SPREAD else [])]
    means = float(baseline.mean()), float(candidate.mean())
    bounds = [_fieller(*means, spread) for spread in spreads if spread is not None]
    lows, highs = [low for low, _ in bounds], [high for _, high in bounds]
    if None in lows or None in highs:
        return kept, None, None
    return kept, min(low for low in lows if low is not None), max(h for h in highs if h is not None)


@dataclass(frozen=True)
class _Moments:
    """Variances and covariance of two means, and the degrees of freedom behind them."""

    baseline: float
    candidate: float
    both: float
    freedom: int


def _moments(baseline: Floats, candidate: Floats, clusters: NDArray[np.int64]) -> _Moments | None:
    n_clusters = len(np.unique(clusters))
    if n_clusters < 2:
        return None
    first, second = (
        np.bincount(clusters, weights=values - values.mean()) for values in (baseline, candidate)
    )
    scale = n_clusters / (n_clusters - 1) / len(baseline) ** 2
    return _Moments(
        float(first @ first) * scale,
        float(second @ second) * scale,
        float(first @ second) * scale,
        n_clusters - 1,
    )


def _error(ratio: float, spread: _Moments) -> float:
    """Return the standard error of `candidate - ratio * baseline`."""
    squared = spread.candidate - 2 * ratio * spread.both + ratio**2 * spread.baseline
    return sqrt(max(0.0, squared))


def _fieller(
    baseline: float, candidate: float, spread: _Moments
) -> tuple[float | None, float | None]:
    """Return the ratios at which `candidate - ratio * baseline` is one bound away from 0."""
    from scipy.special import stdtrit

    t2 = float(stdtrit(spread.freedom, _BOUND)) ** 2
    a = baseline**2 - t2 * spread.baseline
    b = baseline * candidate - t2 * spread.both
    c = candidate**2 - t2 * spread.candidate
    under = b * b - a * c
    if a <= 0 or under < 0:  # the baseline's own rate is not told from 0: any ratio would do
        return None, None
    return max(0.0, (b - sqrt(under)) / a), (b + sqrt(under)) / a
