"""Evidence that may be looked at after every outcome: e-processes, all of them as logarithms.

An e-process is a non-negative supermartingale that starts at 1 under its null hypothesis; by the
inequality of Ville the chance that it *ever* reaches 1/alpha is at most alpha, however often one
looks. The router's experiments and guards and the evaluator's watch over drift rest on these.

Everything here is pure: numbers in, numbers out.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincc, betaln, logsumexp

Floats = NDArray[np.float64]

WIN_RATES: Floats = np.array([0.57, 0.62, 0.68, 0.77, 0.87])
WEIGHTS: Floats = np.array([0.3, 0.3, 0.2, 0.1, 0.1])
"""The mixture over how often a discordant pair is a win of the better arm."""

_BETS: Floats = np.array([0.1, 0.2, 0.35, 0.5, 0.7, 0.9]) * 0.999
_LARGEST_LOG = 700.0
_ROUNDING = 1e-9


def log_e_pairs(wins: ArrayLike, losses: ArrayLike) -> Any:
    """Return log E against 'the treatment is not better'; exchange the arguments for harm.

    Under that null a discordant pair is a win with probability <= 1/2, so `(2q)^w (2(1-q))^l` is a
    non-negative supermartingale for every q > 1/2, and so is their mixture. Exact for small counts,
    needs no base rate and no variance. Nine straight wins are the fewest that reach E = 20.

    Args:
        wins: pairs won by the treatment only, a number or an array.
        losses: pairs won by the control only, of the same shape.
    """
    won = np.asarray(wins, dtype=float)[..., None]
    lost = np.asarray(losses, dtype=float)[..., None]
    terms = np.log(WEIGHTS) + won * np.log(2 * WIN_RATES) + lost * np.log(2 * (1 - WIN_RATES))
    highest = terms.max(axis=-1)
    return highest + np.log(np.exp(terms - highest[..., None]).sum(axis=-1))


def log_e_rate(bad: ArrayLike, n: ArrayLike, limit: float, a: float = 1.0, b: float = 10.0) -> Any:
    """Return log E against 'bad events happen at a rate <= limit', for `bad` of `n` events.

    A Beta(a, b) prior on the rate, truncated to rates above `limit`. Serves the SLOs: errors, and
    p95 < 3 s as 'P(latency > 3 s) <= 5 %'. Far below the limit the truncated posterior underflows
    to 0: then E = 0 and the logarithm is -inf. (A rate test cannot say that a rate is fine.)
    """
    x, total = np.asarray(bad, dtype=float), np.asarray(n, dtype=float)
    above = np.asarray(betaincc(a + x, b + total - x, limit))
    log_above = np.log(above, where=above > 0, out=np.full(above.shape, -np.inf))
    return (
        betaln(a + x, b + total - x)
        - betaln(a, b)
        + log_above
        - np.log(betaincc(a, b, limit))
        - x * np.log(limit)
        - (total - x) * np.log1p(-limit)
    )


def log_e_srm(treated: ArrayLike, n: ArrayLike, share: float = 0.5, k: float = 100.0) -> Any:
    """Return log E against 'the split is `share`', with `treated` of `n` units in treatment.

    Sample ratio mismatch: a Beta prior of weight 2k around the planned share, 0 < share < 1
    (Lindon & Malek, arXiv 2011.03567). After a change of share start afresh and add the logarithms.
    """
    x, total = np.asarray(treated, dtype=float), np.asarray(n, dtype=float)
    a, b = 2 * k * share, 2 * k * (1 - share)
    return (
        betaln(a + x, b + total - x)
        - betaln(a, b)
        - x * np.log(share)
        - (total - x) * np.log1p(-share)
    )


def log_e_mean_above(differences: ArrayLike, threshold: float = 0.0) -> Floats:
    """Return log E against 'the differences are `threshold` or less on average', at every moment.

    The mean over six bets of the product of `1 + bet (difference - threshold)`, each bet within
    what the bounds allow. Exact for any differences in [-1, 1] whose mean, given the past, is at
    most the threshold.

    Args:
        differences: in order, [..., n], each in [-1, 1].
        threshold: above -1 and below 1.

    Returns:
        [..., n + 1]: before the first difference (0), and after each.

    Raises:
        ValueError: a difference or the threshold is out of its bounds.
    """
    found = np.asarray(differences, dtype=float)
    if not -1 < threshold < 1:
        raise ValueError(f"threshold is {threshold}, expected a number between -1 and 1")
    if found.size and np.abs(found).max() > 1 + _ROUNDING:
        raise ValueError(f"a difference is {np.abs(found).max()}, expected -1 to 1")
    stakes = np.zeros((len(_BETS), *found.shape[:-1], found.shape[-1] + 1))
    for stake, bet in zip(stakes, _BETS / (1 + threshold), strict=True):
        np.cumsum(np.log1p(bet * (found - threshold)), axis=-1, out=stake[..., 1:])
    log_e: Floats = logsumexp(stakes, axis=0) - math.log(len(_BETS))
    return log_e


def log_e_noninferior(differences: ArrayLike, margin: float) -> float:
    """Return log E against 'the treatment is worse by at least `margin`'.

    Args:
        differences: per pair, bad events of control minus those of treatment, in [-1, 1].
        margin: the tolerated loss as a rate, 0 < margin < 1. Below 0.02 it takes > 1,000 pairs.
    """
    return float(log_e_mean_above(differences, -margin)[-1])


def e_noninferior(differences: ArrayLike, margin: float) -> float:
    """Return E of `log_e_noninferior`, capped at the largest float's order."""
    return e_value(log_e_noninferior(differences, margin))


def e_value(log_e: float) -> float:
    """Return E of its logarithm without overflow: at most e^700."""
    return math.exp(min(log_e, _LARGEST_LOG))


def always_valid_p(max_log_e: float) -> float:
    """Return the p-value that holds at every look: 1 over the largest E so far, at most 1."""
    return min(1.0, math.exp(-min(max_log_e, _LARGEST_LOG))) if max_log_e > 0 else 1.0


@dataclass(frozen=True)
class Restarted:
    """Evidence that failures became more frequent at *some* time, known or not.

    It is a mixture over when the change came, too: the k-th outcome is the first after it with the
    weight `c / ((k + c - 1)(k + c))`, which sums to 1. A long healthy past therefore does not weigh
    against a later break, as it does in a mixture that starts once, and the inequality of Ville
    still holds for the whole life. The recursion needs one number per alternative, however long the
    past (Shiryaev 1963, Roberts 1966; here with weights that sum to 1, so a chance of ever).

    Attributes:
        limit: failure rate (0-1) that is still no change, [...] one per life.
        alternatives: failure rates that are looked for, [..., alternatives], rising.
        growth: weighted likelihood ratio of each alternative, [..., alternatives].
        n: outcomes so far.
    """

    limit: Floats
    alternatives: Floats
    growth: Floats
    n: int = 0

    @classmethod
    def fresh(cls, limit: ArrayLike) -> "Restarted":
        """Return the evidence before any outcome: E = 1."""
        limits = np.asarray(limit, dtype=float)
        worse = np.minimum(limits[..., None] + _WORSE_BY, (limits[..., None] + 1) / 2)
        return cls(limits, worse, np.zeros_like(worse))

    def after(self, failed: ArrayLike) -> "Restarted":
        """Return the evidence after one more outcome of each life."""
        limit, bad = self.limit[..., None], np.asarray(failed, dtype=bool)[..., None]
        ratio = np.where(bad, self.alternatives, 1 - self.alternatives)
        ratio /= np.where(bad, limit, 1 - limit)
        n = self.n + 1
        weight = _START_SCALE / ((n + _START_SCALE - 1) * (n + _START_SCALE))
        growth = np.minimum((self.growth + weight) * ratio, _LARGEST)
        return Restarted(self.limit, self.alternatives, growth, n)

    @property
    def log_e(self) -> Floats:
        """Log E against 'the failure rate never rose above the limit', [...]."""
        not_begun = _START_SCALE / (self.n + _START_SCALE)
        log_e: Floats = np.log(self.growth.mean(axis=-1) + not_begun)
        return log_e


_WORSE_BY: Floats = np.array([0.05, 0.1, 0.2, 0.4])
"""Rises of the failure rate that the mixture looks for, 0-1."""
_START_SCALE = 500.0
"""Outcomes within which half of the weight of the time of change lies."""
_LARGEST = 1e250
"""Keeps the growth finite; far beyond any threshold."""
