"""Always-valid statistics of an experiment: its pairs, what they say, and the difference.

The evidence itself is `evaluator.evidence`, whose functions are offered here too.
`tests/router/test_stats.py` holds the realised error rates against alpha by simulation.

Everything here is pure: numbers in, numbers out.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from evaluator.evidence import always_valid_p as always_valid_p
from evaluator.evidence import e_noninferior as e_noninferior
from evaluator.evidence import e_value as e_value
from evaluator.evidence import log_e_noninferior as log_e_noninferior
from evaluator.evidence import log_e_pairs as log_e_pairs
from evaluator.evidence import log_e_rate as log_e_rate
from evaluator.evidence import log_e_srm as log_e_srm
from router.tables import CONTROL, TREATMENT

Floats = NDArray[np.float64]

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
