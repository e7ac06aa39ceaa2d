"""The whole ramp: the canary form while the shares are uneven, pairs once they are even.

Units of different phases are never compared: shares and base rates were others. Each form is an
e-process over its own units, so their product is one over the whole experiment.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from evaluator.evidence import always_valid_p, log_e_mean_above, log_e_pairs
from router.stats.canary import assigned_blocks
from router.stats.pairs import AssignedUnit, Floats, assigned_pairs, known_last, succeeded
from router.tables import CONTROL, TREATMENT

EVEN = 0.4, 0.6
"""Shares of treatment from and to which units are compared in pairs."""


class PhasedUnit(AssignedUnit, Protocol):
    """What the ramp reads of an assignment row."""

    @property
    def phase(self) -> int:
        """Number of the phase in which the unit was assigned."""


@dataclass(frozen=True)
class RampEvidence:
    """What pairs and canary blocks say together; logarithms are natural."""

    n_pairs: int
    wins: int
    losses: int
    n_blocks: int
    block_mean: float
    """Treatment minus control in the blocks, -1 to 1; 0 without blocks."""
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


def ramp_evidence(
    units: Iterable[PhasedUnit], shares: Mapping[int, float], with_late: bool = True
) -> RampEvidence:
    """Return the evidence of all phases, now and at its best moment so far; no units is e = 1.

    Args:
        units: in any order.
        shares: of treatment, 0-1, by the number of the phase. Units of a phase with a share of 0
            or 1 are compared with nobody.
        with_late: as of `router.stats.pairs.pair_outcomes`.

    Raises:
        KeyError: the share of a unit's phase is missing.
    """

    def value(unit: PhasedUnit) -> float:
        return float(succeeded(unit, with_late))

    known = [one for one in comparisons(units, shares, value) if one.is_known]
    known.sort(key=lambda one: known_last(one.units))
    differences = np.array([one.difference for one in known], dtype=float)
    paired = np.array([one.is_pair for one in known], dtype=bool)
    wins, losses = (_counted(paired & (differences * sign > 0)) for sign in (1, -1))
    better, worse = log_e_path(differences, paired), log_e_path(-differences, paired)
    n_blocks = int((~paired).sum())
    blocks = differences[~paired]
    return RampEvidence(
        n_pairs=int(paired.sum()),
        wins=int(wins[-1]),
        losses=int(losses[-1]),
        n_blocks=n_blocks,
        block_mean=float(blocks.sum() / n_blocks) if n_blocks else 0.0,
        log_e=float(better[-1]),
        max_log_e=float(better.max()),
        log_e_harm=float(worse[-1]),
        max_log_e_harm=float(worse.max()),
    )


Phased = TypeVar("Phased", bound=PhasedUnit)


@dataclass(frozen=True)
class Comparison:
    """A pair, or a block of the canary form: treatment minus control, -1 to 1, of its units."""

    units: tuple[PhasedUnit, ...]
    difference: float
    is_pair: bool

    @property
    def is_known(self) -> bool:
        """Whether the outcomes of all its units are."""
        return all(unit.outcome is not None for unit in self.units)


def comparisons(
    units: Iterable[Phased], shares: Mapping[int, float], value: Callable[[Phased], float]
) -> list[Comparison]:
    """Return every pair and block of all phases, also with open outcomes, in no order.

    Args:
        units: in any order.
        shares: of treatment, 0-1, by the number of the phase.
        value: what is compared, 0-1; asked of open units, too.

    Raises:
        KeyError: the share of a unit's phase is missing.
    """
    return [
        one
        for phase, members in _phases(units).items()
        for one in _compared(members, shares[phase], value)
    ]


def log_e_path(differences: Floats, paired: NDArray[np.bool_]) -> Floats:
    """Return log E of 'better' before the first comparison and after each, [n + 1].

    Args:
        differences: treatment minus control, in order, [n]; negate them for harm.
        paired: whether it is a pair, of which only the sign counts, [n].
    """
    wins, losses = (_counted(paired & (differences * sign > 0)) for sign in (1, -1))
    path: Floats = log_e_pairs(wins, losses) + log_e_mean_above(np.where(paired, 0.0, differences))
    return path


def _phases(units: Iterable[Phased]) -> dict[int, list[Phased]]:
    phases: dict[int, list[Phased]] = {}
    for unit in units:
        phases.setdefault(unit.phase, []).append(unit)
    return phases


def _compared(
    units: list[Phased], share: float, value: Callable[[Phased], float]
) -> list[Comparison]:
    if EVEN[0] <= share <= EVEN[1]:
        return [
            Comparison(pair, value(pair[0]) - value(pair[1]), is_pair=True)
            for pair in assigned_pairs(units)
        ]
    return [
        Comparison(block.units, block.difference(value), is_pair=False)
        for block in assigned_blocks(units, TREATMENT if share < EVEN[0] else CONTROL)
    ]


def _counted(happened: NDArray[np.bool_]) -> Floats:
    return np.concatenate([[0.0], np.cumsum(happened)])
