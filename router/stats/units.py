"""Sticky units: users or agents that keep their arm over many tasks, analysed one a unit.

The tasks of one agent rise and fall together, so tests that count tasks find differences between
equal models in 25 to 70 % of experiments. Here each unit brings its totals, and the difference of
the two arms' ratios has as many degrees of freedom as there are units.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from router.stats.planned import OBRIEN_FLEMING, Look, bounds, equal_looks, for_few, tail
from router.stats.ratio import Ratio, RatioDifference, ratio_difference, ratio_of
from router.stats.sequence import sequence_width
from router.tables import CONTROL, TREATMENT

LEAST_UNITS = 20
"""Units per arm below which nothing is said of sticky units."""


class StickyUnit(Protocol):
    """What the analysis reads of an assignment row of a user or an agent."""

    @property
    def arm(self) -> str:
        """`control` or `treatment`."""

    @property
    def n_tasks(self) -> int:
        """Tasks with a known outcome."""

    @property
    def n_successes(self) -> int:
        """Of them, tasks that succeeded."""


@dataclass(frozen=True)
class UnitAnalysis:
    """Two arms of sticky units: success rates over all tasks of an arm, errors over its units.

    Attributes:
        n_treatment: units with at least one task.
        n_control: of the control.
        treatment: success rate, 0-1.
        control: of the control.
        difference: treatment minus control.
        standard_error: by the delta method over units.
        freedom: Welch's degrees of freedom.
        p_value: one-sided, of 'not better', for one look at a time fixed beforehand (Welch's t).
        low: lower end of the interval that may be peeked at.
        high: upper end.
    """

    n_treatment: int
    n_control: int
    treatment: float
    control: float
    difference: float
    standard_error: float
    freedom: float
    p_value: float
    low: float
    high: float


def too_few_units(n_treatment: int, n_control: int) -> str | None:
    """Return why sticky units cannot be analysed, or None; to be asked before a start, too."""
    if min(n_treatment, n_control) >= LEAST_UNITS:
        return None
    return (
        f"{n_treatment} units in treatment and {n_control} in control, at least {LEAST_UNITS} in "
        "each are needed: the tasks of one user or agent rise and fall together, so a few of them "
        "say nothing of a model. Assign by episode instead."
    )


def analyse_units(
    units: Iterable[StickyUnit], alpha: float = 0.05, expected_units: int = 100
) -> UnitAnalysis | str:
    """Return what the sticky units say now, or the reason why nothing can be said.

    Args:
        units: those without a task are left out.
        alpha: chance that the interval ever misses the truth.
        expected_units: of both arms; the interval is narrowest there.
    """
    arms = _ratios(units)
    if isinstance(arms, str):
        return arms
    treatment, control = arms
    found = ratio_difference(treatment, control)
    n_units = treatment.n_units + control.n_units
    half = found.standard_error * sequence_width(n_units, alpha, expected_units)
    return UnitAnalysis(
        n_treatment=treatment.n_units,
        n_control=control.n_units,
        treatment=treatment.value,
        control=control.value,
        difference=found.estimate,
        standard_error=found.standard_error,
        freedom=found.freedom,
        p_value=tail(found.t, found.freedom),
        low=max(-1.0, found.estimate - half),
        high=min(1.0, found.estimate + half),
    )


def unit_look(
    units: Iterable[StickyUnit],
    number: int,
    n_looks: int,
    alpha: float = 0.05,
    spending: str = OBRIEN_FLEMING,
) -> Look | str:
    """Return look `number` of `n_looks` at the sticky units, or why it cannot be taken.

    Looks are taken on fixed days, the last at the planned end; a look that was missed is left out,
    which spends nothing. Units return, so later looks see the same units with more tasks: they
    are more alike than the bounds assume, which makes the whole careful.

    Args:
        units: as they are on the day of the look.
        number: from 1.
        n_looks: as planned.
        alpha: one-sided, over all looks.
        spending: as of `router.stats.planned.bounds`.
    """
    arms = _ratios(units)
    if isinstance(arms, str):
        return arms
    found = ratio_difference(*arms)
    return look_at(found, sum(arm.n_units for arm in arms), number, n_looks, alpha, spending)


def look_at(
    found: RatioDifference,
    n_units: int,
    number: int,
    n_looks: int,
    alpha: float,
    spending: str = OBRIEN_FLEMING,
) -> Look:
    """Return look `number` of `n_looks` at a difference, with the bound that its freedom asks."""
    fractions = equal_looks(n_looks)
    bound = for_few(bounds(alpha, fractions, spending)[number - 1], found.freedom)
    return Look(number, n_units, fractions[number - 1], found.t, bound)


def _ratios(units: Iterable[StickyUnit]) -> tuple[Ratio, Ratio] | str:
    known = [unit for unit in units if unit.n_tasks > 0]
    arms = {arm: [unit for unit in known if unit.arm == arm] for arm in (TREATMENT, CONTROL)}
    refused = too_few_units(len(arms[TREATMENT]), len(arms[CONTROL]))
    if refused is not None:
        return refused
    treatment, control = (
        ratio_of(
            np.array([unit.n_successes for unit in members]),
            np.array([unit.n_tasks for unit in members]),
        )
        for members in arms.values()
    )
    if treatment is None or control is None:
        raise ValueError("units with tasks have no ratio, expected one")
    return treatment, control
