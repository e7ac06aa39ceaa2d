"""The whole ramp: the canary form while the shares are uneven, pairs once they are even.

Units of different phases are never compared: shares and base rates were others. Each form is an
e-process over its own units, so their product is one over the whole experiment.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from evaluator.evidence import always_valid_p, log_e_mean_above, log_e_pairs
from router.stats.canary import canary_blocks
from router.stats.pairs import AssignedUnit, Floats, known_last, pair_units, succeeded
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
    events: list[tuple[tuple[datetime, int], float, bool]] = []  # known, difference, of a pair
    for phase, members in _phases(units).items():
        events += _compared(members, shares[phase], with_late)
    events.sort()
    differences = np.array([difference for _, difference, _ in events], dtype=float)
    paired = np.array([of_pair for _, _, of_pair in events], dtype=bool)
    wins, losses = (_counted(paired & (differences * sign > 0)) for sign in (1, -1))
    blocks = np.where(paired, 0.0, differences)
    better = log_e_pairs(wins, losses) + log_e_mean_above(blocks)
    worse = log_e_pairs(losses, wins) + log_e_mean_above(-blocks)
    n_blocks = int((~paired).sum())
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


def _phases(units: Iterable[PhasedUnit]) -> dict[int, list[PhasedUnit]]:
    phases: dict[int, list[PhasedUnit]] = {}
    for unit in units:
        phases.setdefault(unit.phase, []).append(unit)
    return phases


def _compared(
    units: list[PhasedUnit], share: float, with_late: bool
) -> list[tuple[tuple[datetime, int], float, bool]]:
    def value(unit: PhasedUnit) -> float:
        return float(succeeded(unit, with_late))

    if EVEN[0] <= share <= EVEN[1]:
        return [
            (known_last(pair), value(pair[0]) - value(pair[1]), True) for pair in pair_units(units)
        ]
    return [
        (known_last((block.few, *block.many)), block.difference(value), False)
        for block in canary_blocks(units, TREATMENT if share < EVEN[0] else CONTROL)
    ]


def _counted(happened: NDArray[np.bool_]) -> Floats:
    return np.concatenate([[0.0], np.cumsum(happened)])
