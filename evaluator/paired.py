"""How far two models differ on the same tasks: interval, bounds and p-value of paired differences.

The difference is taken within each task, and its error is estimated over clusters: families of
tasks that rise and fall together, or the tasks themselves. Samples of one task are not independent;
they only sharpen that task's mean (Miller, "Adding Error Bars to Evals", arXiv 2411.00640).

Every end of an interval is the most careful of what the methods at hand say: the cluster-robust t
interval (the jackknife's error, with the degrees of freedom of the clusters' effective number: one
large family among small ones is worth few), the BCa bootstrap over clusters (Efron 1987), and, with
one answer a task, the exact interval of the discordant tasks, which agrees with McNemar's exact
test. No method alone keeps its promise for few clusters, rare differences and skew alike.

All of it is pure and works on many comparisons at once, one a row, so that the error rates can be
simulated with the code that decides (`benchmarks/evaluation_errors.py`). Resampling is seeded: the
same answers always give the same numbers.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, betaincinv, ndtr, ndtri, stdtrit

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

CONFIDENCE = 0.95
"""Of the interval that is shown (two-sided), and of each bound that decides (one-sided)."""
POWER = 0.80
RESAMPLES = 2_000
FLIPS = 9_999

_TAIL, _BOUND = (1 - CONFIDENCE) / 2, 1 - CONFIDENCE
_NO_SPREAD = 1e-12
_TIE = 1e-9
_FLIPPED_EXACTLY = 14
"""Clusters that differ, up to which all 2^n sign flips are looked at."""
_ROWS_AT_ONCE = 1_000
_ENTRIES_AT_ONCE = 4_000_000
_SEED = 20_240


@dataclass(frozen=True)
class Interval:
    """Mean paired difference of each comparison (row), as shares of -1 to 1.

    Attributes:
        mean: over tasks.
        error: cluster-robust standard error of the mean; infinite for one cluster.
        n_clusters: families, or tasks where there are none.
        freedom: degrees of freedom: clusters that count as much as equal ones would, less one.
        low: lower end of the two-sided 95 % interval.
        high: upper end.
        bound_low: one-sided 95 % lower bound: above 0, the gain is shown.
        bound_high: one-sided 95 % upper bound.
        bootstrap_low: lower end of the bootstrap's own 95 % interval; NaN without spread.
        bootstrap_high: upper end.
    """

    mean: Floats
    error: Floats
    n_clusters: int
    freedom: float
    low: Floats
    high: Floats
    bound_low: Floats
    bound_high: Floats
    bootstrap_low: Floats
    bootstrap_high: Floats

    @property
    def smallest_detectable(self) -> Floats:
        """Gain that would be shown in 4 of 5 cases, 0-1; 1 if nothing could be."""
        if self.n_clusters == 1:
            return np.ones_like(self.mean)
        multiple = stdtrit(self.freedom, CONFIDENCE) + stdtrit(self.freedom, POWER)
        gain: Floats = np.minimum(1.0, multiple * self.error)
        return gain


def interval(differences: Floats, clusters: Integers, one_answer: bool) -> Interval:
    """Estimate the mean of each row of `differences` with its interval and bounds.

    Args:
        differences: [comparisons, tasks], candidate minus baseline, at least one task.
        clusters: [tasks], number of the cluster of each task, from 0 without gaps.
        one_answer: every task was answered once and is its own cluster: differences are -1, 0, 1.
    """
    sizes = np.bincount(clusters).astype(float)
    sums, freedom = _cluster_sums(differences, clusters), effective_number(sizes) - 1
    mean, error = sums.sum(axis=1) / sizes.sum(), _standard_error(sums, sizes)
    resampled = _bca(sums, sizes, mean, (_TAIL, _BOUND))
    ends = {
        tail: _most_careful(
            [
                _t_ends(mean, error, freedom, tail),
                *([_exact_ends(differences, tail)] if one_answer else []),
                resampled[tail],
            ]
        )
        for tail in (_TAIL, _BOUND)
    }
    return Interval(
        mean, error, len(sizes), freedom, *ends[_TAIL], *ends[_BOUND], *resampled[_TAIL]
    )


def effective_number(sizes: Floats) -> float:
    """Return how many clusters of equal size would weigh as much, the largest counting most."""
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def _cluster_sums(differences: Floats, clusters: Integers) -> Floats:
    order = np.argsort(clusters, kind="stable")
    starts = np.searchsorted(clusters[order], np.arange(clusters.max() + 1))
    sums: Floats = np.add.reduceat(differences[:, order], starts, axis=1)
    return sums


def _standard_error(sums: Floats, sizes: Floats) -> Floats:
    """Return the cluster-robust error of each row's mean; with clusters of one it is s / sqrt(n).

    It is the jackknife's (CV3 of MacKinnon, Nielsen & Webb 2023), which holds for unequal clusters.

    If no cluster differs from the others there is no spread to estimate from; two imaginary tasks,
    one gained and one lost, then stand for what was not seen (Bonett & Price 2012).
    """
    error = _clustered_error(sums, sizes)
    imaginary = np.tile([1.0, -1.0], (len(sums), 1))
    seen_more = _clustered_error(np.hstack([sums, imaginary]), np.append(sizes, [1.0, 1.0]))
    return np.where(error > _NO_SPREAD, error, seen_more)


def _clustered_error(sums: Floats, sizes: Floats) -> Floats:
    n_clusters = len(sizes)
    if n_clusters == 1:
        return np.full(len(sums), np.inf)
    mean = sums.sum(axis=1, keepdims=True) / sizes.sum()
    without = (sums - mean * sizes) / (sizes.sum() - sizes)
    spread: Floats = np.sqrt((n_clusters - 1) / n_clusters * (without**2).sum(axis=1))
    return spread


def _t_ends(mean: Floats, error: Floats, freedom: float, tail: float) -> tuple[Floats, Floats]:
    if np.isinf(error).all():
        return np.full_like(mean, -1.0), np.ones_like(mean)
    half = stdtrit(freedom, 1 - tail) * error
    return mean - half, mean + half


def _exact_ends(differences: Floats, tail: float) -> tuple[Floats, Floats]:
    """Return the ends that go by the discordant tasks alone (Clopper & Pearson 1934).

    A lower end is above 0 if and only if McNemar's exact one-sided p-value is below `tail`.
    """
    better, worse = (differences > 0).sum(axis=1), (differences < 0).sum(axis=1)
    share = (better + worse) / differences.shape[1]
    least = np.where(better > 0, betaincinv(np.maximum(better, 1), worse + 1, tail), 0.0)
    most = np.where(worse > 0, betaincinv(better + 1, np.maximum(worse, 1), 1 - tail), 1.0)
    return (2 * least - 1) * share, (2 * most - 1) * share


def _most_careful(ends: list[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    """Return the lowest low and the highest high; a method that says nothing (NaN) is left out."""
    low = np.fmin.reduce([low for low, _ in ends])
    high = np.fmax.reduce([high for _, high in ends])
    return np.maximum(-1.0, low), np.minimum(1.0, high)


def _bca(
    sums: Floats, sizes: Floats, mean: Floats, tails: tuple[float, ...]
) -> dict[float, tuple[Floats, Floats]]:
    """Return the ends of the bias-corrected, accelerated bootstrap over clusters, by tail.

    NaN where nothing differs between resamples.
    """
    levels = [level for tail in tails for level in (tail, 1 - tail)]
    found = np.full((len(sums), len(levels)), np.nan)
    if len(sizes) > 1:
        times = _resamples(len(sizes))
        for start in range(0, len(sums), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            resampled = np.sort(_means(sums[rows], sizes, times), axis=1)
            found[rows] = _bca_quantiles(resampled, sums[rows], sizes, mean[rows], levels)
    return {tail: (found[:, 2 * i], found[:, 2 * i + 1]) for i, tail in enumerate(tails)}


def _means(sums: Floats, sizes: Floats, times: NDArray[np.uint8]) -> Floats:
    """Return [rows, resamples]: the mean of each resample."""
    means = np.empty((len(sums), len(times)))
    for drawn in _blocks(len(times), len(sizes)):
        weights = times[drawn].astype(float)
        means[:, drawn] = sums @ weights.T / (weights @ sizes)
    return means


def _blocks(n_rows: int, n_columns: int) -> Iterator[slice]:
    """Yield slices of rows that have some million entries: memory must not grow with the tasks."""
    size = max(1, _ENTRIES_AT_ONCE // n_columns)
    for start in range(0, n_rows, size):
        yield slice(start, min(n_rows, start + size))


@lru_cache(maxsize=4)
def _resamples(n_clusters: int) -> NDArray[np.uint8]:
    """Return [resamples, clusters]: how often each cluster is drawn."""
    random, shares = np.random.default_rng(_SEED), np.full(n_clusters, 1 / n_clusters)
    times = np.empty((RESAMPLES, n_clusters), np.uint8)
    for drawn in _blocks(RESAMPLES, n_clusters):
        times[drawn] = random.multinomial(n_clusters, shares, size=drawn.stop - drawn.start)
    return times


def _bca_quantiles(
    resampled: Floats, sums: Floats, sizes: Floats, mean: Floats, levels: list[float]
) -> Floats:
    """Return [rows, levels] of sorted [rows, resamples]."""
    below = (resampled < mean[:, None] - _TIE).mean(axis=1)
    tied = (np.abs(resampled - mean[:, None]) <= _TIE).mean(axis=1)
    has_spread = resampled[:, -1] - resampled[:, 0] > _TIE
    bias = ndtri(np.clip(below + tied / 2, 1 / RESAMPLES, 1 - 1 / RESAMPLES))[:, None]
    reach = bias + ndtri(np.array(levels))
    shrunk = 1 - _acceleration(sums, sizes)[:, None] * reach
    corrected = ndtr(bias + reach / np.maximum(shrunk, _TIE))
    place = corrected * (resampled.shape[1] - 1)
    under = np.floor(place).astype(int)
    over = np.minimum(under + 1, resampled.shape[1] - 1)
    first = np.take_along_axis(resampled, under, axis=1)
    second = np.take_along_axis(resampled, over, axis=1)
    quantiles: Floats = first + (place - under) * (second - first)
    return np.where(has_spread[:, None], quantiles, np.nan)


def _acceleration(sums: Floats, sizes: Floats) -> Floats:
    """Return the skew of the estimate, from leaving out one cluster at a time."""
    without = (sums.sum(axis=1, keepdims=True) - sums) / (sizes.sum() - sizes)
    apart = without.mean(axis=1, keepdims=True) - without
    squares = (apart**2).sum(axis=1)
    cubes = (apart**3).sum(axis=1)
    skew: Floats = cubes / (6 * np.where(squares > 0, squares, 1.0) ** 1.5)
    return skew


def sign_flip_p(differences: Floats, clusters: Integers) -> float:
    """Return the two-sided p-value of 'it is the same model', by exchanging the models' names.

    If the models are the same, each cluster's difference is as likely with the other sign. Up to 14
    clusters that differ all flips are looked at, else 9,999 random ones; 1 for one cluster.

    Args:
        differences: [tasks], candidate minus baseline.
        clusters: [tasks], as in `interval`.
    """
    sums = np.bincount(clusters, weights=differences)
    sums = sums[np.abs(sums) > _TIE]
    if len(sums) <= _FLIPPED_EXACTLY:
        numbers = np.arange(2 ** len(sums))
        signs = 1.0 - 2.0 * (numbers[:, None] >> np.arange(len(sums)) & 1)
        return float((np.abs(signs @ sums) >= abs(sums.sum()) - _TIE).mean())
    random, as_far = np.random.default_rng(_SEED), 0
    for flips in _blocks(FLIPS, len(sums)):
        is_kept = random.integers(0, 2, (flips.stop - flips.start, len(sums)))
        as_far += int((np.abs((2.0 * is_kept - 1.0) @ sums) >= abs(sums.sum()) - _TIE).sum())
    return (as_far + 1) / (FLIPS + 1)


def mcnemar_exact(better: int, worse: int) -> float:
    """Return the exact two-sided McNemar p-value of discordant counts; 1 if there are none."""
    discordant = better + worse
    if discordant == 0:
        return 1.0
    return min(1.0, float(2 * bdtr(min(better, worse), discordant, 0.5)))


def holm(p_values: list[float]) -> list[float]:
    """Return p-values adjusted for their number (Holm 1979): any of them below 5 % may be named."""
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    for place, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[i]))
        adjusted[i] = largest
    return adjusted
