"""Guardrails: what a treatment may not pay its better answers with.

Errors, slow calls, cost, refusals and bad tool calls are shares of each unit in [0, 1], compared in
pairs. All of them must be shown to be no worse than the control by more than their margin before a
promotion (an intersection-union test: alpha is not split), and each alone can prove harm beyond
that margin. Both are e-processes, so either may be asked at any look.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from evaluator.evidence import log_e_mean_above
from router.stats.pairs import AssignedUnit, pair_units

ERRORS, SLOW, COST, REFUSALS, TOOL_CALLS = "errors", "slow", "cost", "refusals", "tool_calls"

MARGINS: Mapping[str, float] = {
    ERRORS: 0.02,
    SLOW: 0.05,
    COST: 0.05,
    REFUSALS: 0.02,
    TOOL_CALLS: 0.02,
}
"""Tolerated loss of each guardrail, 0-1; below 0.02 it takes more than 1,000 pairs."""


class CountedUnit(AssignedUnit, Protocol):
    """What the guardrails read of an assignment row."""

    @property
    def n_calls(self) -> int:
        """Calls of the unit."""

    @property
    def n_errors(self) -> int:
        """Calls that failed."""

    @property
    def n_slow(self) -> int:
        """Calls over the latency limit."""

    @property
    def n_refusals(self) -> int:
        """Calls that the model would not answer."""

    @property
    def n_tool_calls(self) -> int:
        """Tool calls in its answers."""

    @property
    def n_bad_tool_calls(self) -> int:
        """Of them, of an unknown tool or with arguments that are no JSON."""

    @property
    def n_fallbacks(self) -> int:
        """Calls that another model answered in the end."""

    @property
    def cost_usd(self) -> float:
        """What all its calls cost."""


Counted = TypeVar("Counted", bound=CountedUnit)


@dataclass(frozen=True)
class GuardrailEvidence:
    """What the pairs say of one guardrail; logarithms are natural.

    Attributes:
        name: what is guarded.
        margin: tolerated loss, 0-1.
        n: pairs.
        treatment: mean share of bad in treatment, 0-1; 0 without pairs.
        control: of the control.
        max_log_e_fine: highest log E so far of 'worse by less than the margin'.
        max_log_e_worse: of 'worse by more than the margin'.
    """

    name: str
    margin: float
    n: int
    treatment: float
    control: float
    max_log_e_fine: float
    max_log_e_worse: float


def bad_shares(task_budget_usd: float) -> dict[str, Callable[[CountedUnit], float]]:
    """Return how bad a unit was, 0-1, by the name of the guardrail.

    A call that another model had to answer is an error of the arm that was assigned (intention to
    treat). A unit without calls, or without tool calls, was not bad. Cost is a part of the budget
    of a task, and at most all of it: one runaway episode says no more than that.

    Args:
        task_budget_usd: what a task may cost; 0 guards no cost, and its share is 0.
    """

    def cost(unit: CountedUnit) -> float:
        return min(1.0, unit.cost_usd / task_budget_usd) if task_budget_usd > 0 else 0.0

    return {
        ERRORS: lambda unit: _share(unit.n_errors + unit.n_fallbacks, unit.n_calls),
        SLOW: lambda unit: _share(unit.n_slow, unit.n_calls),
        COST: cost,
        REFUSALS: lambda unit: _share(unit.n_refusals, unit.n_calls),
        TOOL_CALLS: lambda unit: _share(unit.n_bad_tool_calls, unit.n_tool_calls),
    }


def _share(bad: int, n: int) -> float:
    return min(1.0, bad / n) if n else 0.0


def guardrail_evidence(
    units: Iterable[Counted],
    task_budget_usd: float = 0.0,
    margins: Mapping[str, float] = MARGINS,
) -> list[GuardrailEvidence]:
    """Return the evidence of each guardrail in `margins`, of the pairs with known outcomes.

    Args:
        units: in any order.
        task_budget_usd: what a task may cost; without one, cost is not guarded.
        margins: tolerated loss by name, 0 < margin < 1; only what is named is guarded.

    Raises:
        KeyError: a guardrail of that name does not exist.
    """
    pairs = pair_units(units)
    shares = bad_shares(task_budget_usd)
    return [
        compare_bad(
            name,
            [shares[name](treated) for treated, _ in pairs],
            [shares[name](control) for _, control in pairs],
            margin,
        )
        for name, margin in margins.items()
        if name != COST or task_budget_usd > 0
    ]


def compare_bad(
    name: str, treatment: ArrayLike, control: ArrayLike, margin: float
) -> GuardrailEvidence:
    """Return the evidence of paired shares of bad, [n] each, in the order they became known."""
    treated, other = np.asarray(treatment, dtype=float), np.asarray(control, dtype=float)
    return GuardrailEvidence(
        name=name,
        margin=margin,
        n=len(treated),
        treatment=float(treated.mean()) if len(treated) else 0.0,
        control=float(other.mean()) if len(other) else 0.0,
        max_log_e_fine=float(log_e_mean_above(other - treated, -margin).max()),
        max_log_e_worse=float(log_e_mean_above(treated - other, margin).max()),
    )
