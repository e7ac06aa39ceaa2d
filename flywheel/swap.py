"""May a candidate serve at once, under the guard: the rule of a guarded swap, as a pure function.

A swap is no promotion by merit: the few rows of a correction prove nothing on a benchmark. What is
asked is that nothing was lost, by a bound and not by an estimate. What the benchmark cannot see is
the guard's to catch (`router.guard`), which rolls back.
"""

from dataclasses import dataclass
from typing import Any, Final

from evaluator.forgetting import QUARANTINE
from foundation.decisions import Ruling, load, rule

RULE: Final = "flywheel.swap"
SWAP, HOLD = "swap", "hold"


@dataclass(frozen=True)
class SwapThresholds:
    """Limits of `flywheel.swap`.

    Attributes:
        margin_points: most success on the role's suite (percentage points) that a swap may cost.
        without_suite: swap though nothing was measured: the guard alone watches.
    """

    margin_points: float = 10.0
    without_suite: bool = False


@dataclass(frozen=True)
class SwapInputs:
    """What a benchmark said of the candidate beside who serves; None where it was not asked.

    Attributes:
        candidate: name.
        baseline: name of who serves.
        suite: of the role.
        improvement_points: candidate minus baseline, percentage points.
        bound_low: its one-sided 95 % lower bound.
        n_tasks: tasks that both answered.
        forgetting: outcome of `evaluator.forgetting`.
    """

    candidate: str
    baseline: str
    suite: str | None = None
    improvement_points: float | None = None
    bound_low: float | None = None
    n_tasks: int = 0
    forgetting: str | None = None


@rule(RULE)
def swap_rule(inputs: dict[str, Any], thresholds: dict[str, Any]) -> Ruling:
    """Say `swap` or `hold`."""
    seen, limits = load(SwapInputs, inputs), load(SwapThresholds, thresholds)
    if seen.suite is None:
        words = "The role has no benchmark suite, so nothing tells whether something was lost."
        if limits.without_suite:
            return Ruling(SWAP, (words, "The schedule allows that: the guard watches."))
        return Ruling(HOLD, (words, "Name one (--suite), or allow it (--without-suite)."))
    if seen.forgetting == QUARANTINE:
        return Ruling(HOLD, ("It forgot what it knew of general tasks.",))
    shown = (
        f"{seen.candidate} against {seen.baseline} on {seen.n_tasks} tasks of {seen.suite}: "
        f"{_points(seen.improvement_points)} points, at least {_points(seen.bound_low)} by the "
        f"one-sided 95 % bound; it may lose {limits.margin_points:g}."
    )
    if seen.bound_low is None or seen.bound_low < -limits.margin_points:
        return Ruling(HOLD, (shown, "That it lost no more is not shown: ask more tasks."))
    return Ruling(SWAP, (shown, "It lost no more than it may: it serves, and the guard watches."))


def _points(value: float | None) -> str:
    return "unknown" if value is None else f"{value:+.1f}"
