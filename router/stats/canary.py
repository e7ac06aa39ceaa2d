"""The canary: few units of one arm, each held against all units of the other since the one before.

At a share of 5 % a pair would use one control of nineteen. The mean of the k controls that were
assigned since the last treated unit of the stratum is as near in time and has a k-th of the noise,
so harm is seen after fewer treated units. After a promotion, with 5 % held back on the version
before, it is the control that is few.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic

import numpy as np

from router.stats.bounded import BoundedEvidence, bounded_evidence
from router.stats.pairs import AssignedUnit, Floats, Unit, known_last, strata_of, succeeded
from router.tables import TREATMENT


@dataclass(frozen=True)
class Block(Generic[Unit]):
    """One unit of the smaller arm and its k >= 1 units of the other, all outcomes known."""

    few: Unit
    many: tuple[Unit, ...]

    @property
    def units(self) -> tuple[Unit, ...]:
        """All its units."""
        return (self.few, *self.many)

    def difference(self, value: Callable[[Unit], float]) -> float:
        """Return treatment minus control, the many by their mean."""
        mean = float(np.mean([value(unit) for unit in self.many]))
        return value(self.few) - mean if self.few.arm == TREATMENT else mean - value(self.few)


def canary_blocks(units: Iterable[Unit], few: str = TREATMENT) -> list[Block[Unit]]:
    """Return the blocks whose outcomes are all known, in the order in which they became so.

    A unit of the smaller arm takes those of the other in its stratum that were assigned since the
    one before it; if there are none, the next that nobody took. Only the order of assignment
    decides, so outcomes cannot choose their company. Empty if an arm is.

    Args:
        units: in any order.
        few: the arm with the smaller share.
    """
    known = [
        block
        for block in assigned_blocks(units, few)
        if all(unit.outcome is not None for unit in block.units)
    ]
    return sorted(known, key=lambda block: known_last(block.units))


def assigned_blocks(units: Iterable[Unit], few: str = TREATMENT) -> list[Block[Unit]]:
    """Return every block, also with open outcomes, by stratum and assignment order."""
    return [block for members in strata_of(units).values() for block in _blocks(members, few)]


def _blocks(units: list[Unit], few: str) -> list[Block[Unit]]:
    blocks: list[Block[Unit]] = []
    waiting: list[Unit] = []
    many: list[Unit] = []
    for unit in units:
        (waiting if unit.arm == few else many).append(unit)
        if waiting and many:
            blocks.append(Block(waiting.pop(0), tuple(many)))
            many = []
    return blocks


def canary_differences(
    units: Iterable[Unit], value: Callable[[Unit], float], few: str = TREATMENT
) -> Floats:
    """Return treatment minus control of each block of `canary_blocks`, in order, [n].

    Args:
        units: in any order.
        value: what is compared, 0-1, of a unit with a known outcome.
        few: the arm with the smaller share.
    """
    return np.array([block.difference(value) for block in canary_blocks(units, few)], dtype=float)


def canary_evidence(
    units: Iterable[AssignedUnit], few: str = TREATMENT, with_late: bool = True
) -> BoundedEvidence:
    """Return the evidence of success in a canary, for 'better' and for harm.

    Args:
        units: in any order.
        few: the arm with the smaller share.
        with_late: as of `router.stats.pairs.pair_outcomes`.
    """

    def value(unit: AssignedUnit) -> float:
        return float(succeeded(unit, with_late))

    return bounded_evidence(canary_differences(units, value, few))
