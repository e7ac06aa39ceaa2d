"""Pairs of units: who is compared with whom, and what the pairs say.

The i-th treatment meets the i-th control unit of its stratum (task type, difficulty, day, phase of
the ramp) in the order of assignment. Both see the same drift, and neither gains from answering
faster.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from evaluator.evidence import always_valid_p, log_e_pairs
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


Unit = TypeVar("Unit", bound=AssignedUnit)


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


def pair_units(units: Iterable[Unit]) -> list[tuple[Unit, Unit]]:
    """Return (treatment, control) of every pair whose outcomes are both known.

    The i-th treatment meets the i-th control unit of each stratum, by assignment order: pairing by
    completion order would favour the arm that answers faster. Pairs come in the order in which they
    became known, so that a later look extends an earlier one. Empty if an arm is.

    Args:
        units: in any order.
    """
    known = [
        pair for pair in assigned_pairs(units) if all(unit.outcome is not None for unit in pair)
    ]
    return sorted(known, key=known_last)


def assigned_pairs(units: Iterable[Unit]) -> list[tuple[Unit, Unit]]:
    """Return (treatment, control) of every pair, also with open outcomes, by assignment order."""
    pairs = [
        (treated, control)
        for members in strata_of(units).values()
        for treated, control in zip(
            (unit for unit in members if unit.arm == TREATMENT),
            (unit for unit in members if unit.arm == CONTROL),
            strict=False,
        )
    ]
    return sorted(pairs, key=assigned_last)


def strata_of(units: Iterable[Unit]) -> dict[str, list[Unit]]:
    """Return the units of each stratum in the order of assignment."""
    strata: dict[str, list[Unit]] = defaultdict(list)
    for unit in sorted(units, key=lambda unit: unit.sequence or 0):
        strata[unit.stratum].append(unit)
    return strata


def known_last(units: Sequence[AssignedUnit]) -> tuple[datetime, int]:
    """Return when the last of the units' outcomes became known; the last sequence breaks ties."""
    return (
        max(unit.outcome_at or _BEGINNING for unit in units),
        max(unit.sequence or 0 for unit in units),
    )


def assigned_last(units: Sequence[AssignedUnit]) -> int:
    """Return the sequence of the unit that was assigned last."""
    return max(unit.sequence or 0 for unit in units)


def succeeded(unit: AssignedUnit, with_late: bool = True) -> bool:
    """Return whether a unit succeeded; without late feedback, one that had timed out did not."""
    return bool(unit.outcome) and (with_late or unit.late_at is None)


def pair_outcomes(units: Iterable[AssignedUnit], with_late: bool = True) -> list[Pair]:
    """Return the outcomes of the pairs of `pair_units`.

    Args:
        units: in any order.
        with_late: take late feedback for the outcome of a unit that had timed out. Without it such
            a unit stays a failure, and no pair ever changes.
    """
    return [
        Pair(
            treated.stratum,
            succeeded(treated, with_late),
            succeeded(control, with_late),
            *known_last((treated, control)),
        )
        for treated, control in pair_units(units)
    ]


def pair_differences(units: Iterable[Unit], value: Callable[[Unit], float]) -> Floats:
    """Return treatment minus control of each pair, in the order in which they became known, [n].

    Args:
        units: in any order.
        value: what is compared, 0-1, of a unit with a known outcome.
    """
    pairs = pair_units(units)
    return np.array([value(treated) - value(control) for treated, control in pairs], dtype=float)


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
