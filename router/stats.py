"""Always-valid statistics of an experiment: e-processes that may be looked at after every outcome.

An e-process is a non-negative supermartingale that starts at 1 under its null hypothesis; by the
inequality of Ville the chance that it *ever* reaches 1/alpha is at most alpha, however often one
looks. All of them are kept as natural logarithms. `tests/router/test_stats.py` holds the realised
error rates against alpha by simulation.

Everything here is pure: numbers in, numbers out.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincc, betaln, logsumexp

from router.tables import CONTROL, TREATMENT

Floats = NDArray[np.float64]

WIN_RATES: Floats = np.array([0.57, 0.62, 0.68, 0.77, 0.87])
WEIGHTS: Floats = np.array([0.3, 0.3, 0.2, 0.1, 0.1])
"""The mixture over how often a discordant pair is a win of the better arm."""

_BETS: Floats = np.array([0.1, 0.2, 0.35, 0.5, 0.7, 0.9]) * 0.999
_LARGEST_LOG = 700.0
_BEGINNING = datetime.min.replace(tzinfo=UTC)


class AssignedUnit(Protocol):
    """What the statistics read of an assignment row."""

    @property
    def sequence(self) -> int | None:
        """Order of assignment."""

    @property
    def arm(self) -> str:
        """`control` or `treatment`."""

    @property
    def stratum(self) -> str:
        """Units are compared within their stratum only."""

    @property
    def outcome(self) -> bool | None:
        """Success; a time-out is False; None until known."""

    @property
    def outcome_at(self) -> datetime | None:
        """When the outcome became known."""

    @property
    def late_at(self) -> datetime | None:
        """When feedback came for a unit that had timed out; its outcome is that feedback's."""


@dataclass(frozen=True)
class Pair:
    """One treatment and one control unit of the same stratum, both outcomes known."""

    stratum: str
    treatment: bool
    control: bool
    known_at: datetime
    sequence: int


@dataclass(frozen=True)
class PairEvidence:
    """What the pairs say, now and at the best moment so far; logarithms are natural."""

    n_pairs: int
    wins: int
    losses: int
    ties: int
    log_e: float
    max_log_e: float
    log_e_harm: float
    max_log_e_harm: float

    @property
    def p_value(self) -> float:
        """Always-valid p-value of 'the treatment is not better'."""
        return always_valid_p(self.max_log_e)

    @property
    def harm_p_value(self) -> float:
        """Always-valid p-value of 'the treatment is not worse'."""
        return always_valid_p(self.max_log_e_harm)


@dataclass(frozen=True)
class Difference:
    """Treatment minus control success rate (-1 to 1) with an interval that may be peeked at."""

    estimate: float
    low: float
    high: float
    n_units: int


def pair_outcomes(units: Iterable[AssignedUnit], with_late: bool = True) -> list[Pair]:
    """Pair the i-th treatment with the i-th control unit of each stratum, by assignment order.

    A pair exists once both outcomes are known. Pairing by completion order would favour the arm
    that answers faster. Pairs come in the order in which they became known, so that the evidence of
    a later look extends that of an earlier one. Empty if an arm is empty.

    Args:
        units: in any order.
        with_late: take late feedback for the outcome of a unit that had timed out. Without it such
            a unit stays a failure, and no pair ever changes.
    """

    def succeeded(unit: AssignedUnit) -> bool:
        return bool(unit.outcome) and (with_late or unit.late_at is None)

    arms: dict[str, dict[str, list[AssignedUnit]]] = defaultdict(
        lambda: {TREATMENT: [], CONTROL: []}
    )
    for unit in sorted(units, key=lambda u: u.sequence or 0):
        arms[unit.stratum][unit.arm].append(unit)
    pairs = [
        Pair(
            stratum,
            succeeded(treated),
            succeeded(control),
            max(treated.outcome_at or _BEGINNING, control.outcome_at or _BEGINNING),
            max(treated.sequence or 0, control.sequence or 0),
        )
        for stratum, members in arms.items()
        for treated, control in zip(members[TREATMENT], members[CONTROL], strict=False)
        if treated.outcome is not None and control.outcome is not None
    ]
    return sorted(pairs, key=lambda pair: (pair.known_at, pair.sequence))


def pair_evidence(pairs: Sequence[Pair]) -> PairEvidence:
    """Return the evidence for superiority and for harm of the pairs in order; no pairs is e = 1."""
    treatment = np.array([pair.treatment for pair in pairs], dtype=bool)
    control = np.array([pair.control for pair in pairs], dtype=bool)
    wins = np.concatenate([[0], np.cumsum(treatment & ~control)])
    losses = np.concatenate([[0], np.cumsum(control & ~treatment)])
    better, worse = log_e_pairs(wins, losses), log_e_pairs(losses, wins)
    return PairEvidence(
        n_pairs=len(pairs),
        wins=int(wins[-1]),
        losses=int(losses[-1]),
        ties=len(pairs) - int(wins[-1]) - int(losses[-1]),
        log_e=float(better[-1]),
        max_log_e=float(better.max()),
        log_e_harm=float(worse[-1]),
        max_log_e_harm=float(worse.max()),
    )


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


def log_e_noninferior(differences: ArrayLike, margin: float) -> float:
    """Return log E against 'the treatment is worse by at least `margin`'.

    Args:
        differences: per pair, bad events of control minus those of treatment, in [-1, 1].
        margin: the tolerated loss as a rate, 0 < margin < 1. Below 0.02 it takes > 1,000 pairs.
    """
    bets = _BETS / (1 - margin)
    growth = np.log1p(bets[:, None] * (np.asarray(differences, dtype=float) + margin))
    return float(logsumexp(growth.sum(axis=1)) - math.log(len(bets)))


def e_noninferior(differences: ArrayLike, margin: float) -> float:
    """Return E of `log_e_noninferior`, capped at the largest float's order."""
    return e_value(log_e_noninferior(differences, margin))


def e_value(log_e: float) -> float:
    """Return E of its logarithm without overflow: at most e^700."""
    return math.exp(min(log_e, _LARGEST_LOG))


def always_valid_p(max_log_e: float) -> float:
    """Return the p-value that holds at every look: 1 over the largest E so far, at most 1."""
    return min(1.0, math.exp(-min(max_log_e, _LARGEST_LOG))) if max_log_e > 0 else 1.0


def stratified_difference(
    units: Iterable[AssignedUnit], alpha: float = 0.05, expected_units: int = 500
) -> Difference | None:
    """Return the difference of success rates with its asymptotic confidence sequence.

    Strata are weighted as Mantel and Haenszel do; variances are smoothed by one success and one
    failure per arm, so a stratum without failures does not claim certainty. Waudby-Smith et al.,
    arXiv 2103.06476; the interval is narrowest, relative to the best, at `expected_units`.

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
    half = standard_error * _sequence_width(n_units, alpha, expected_units)
    return Difference(estimate, max(-1.0, estimate - half), min(1.0, estimate + half), n_units)


def _sequence_width(n: int, alpha: float, expected: int) -> float:
    """Return how many standard errors the confidence sequence spans on each side after n units."""
    rho2 = (-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / expected
    spread = n * rho2 + 1
    return math.sqrt(2 * spread / (n * rho2) * math.log(math.sqrt(spread) / alpha))
