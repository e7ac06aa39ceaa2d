"""The deploy rule as a list: each threshold with what was measured, and whether it is met. Pure.

It decides nothing: the rule is `evaluator.decide`, and its outcome stands beside this list.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from evaluator.decide import DeployInputs, DeployThresholds
from evaluator.forgetting import QUARANTINE
from evaluator.report.words import points
from foundation.decisions import load

ONE_OF: Final = "To deploy, one of these"
ALL_OF: Final = "And all of these"
HOLDS_BACK: Final = "What could hold it back"
_EVEN: Final = 0.5


@dataclass(frozen=True)
class Check:
    """One threshold.

    Attributes:
        group: `ONE_OF`, `ALL_OF` or `HOLDS_BACK`.
        name: what is asked.
        needed: the threshold, in words.
        measured: what was found, in words.
        is_met: None where nothing was measured.
        note: what is missing, if that is known.
    """

    group: str
    name: str
    needed: str
    measured: str
    is_met: bool | None
    note: str = ""


def checks_of(inputs: Mapping[str, Any], thresholds: Mapping[str, Any]) -> list[Check]:
    """Return the thresholds of a stored decision of the deploy rule.

    Empty if its inputs are of another version of the rule.
    """
    try:
        measured = load(DeployInputs, dict(inputs))
        limits = load(DeployThresholds, dict(thresholds))
    except TypeError:
        return []
    return [*_one_of(measured, limits), *_all_of(measured, limits), *_holding(measured, limits)]


def _one_of(measured: DeployInputs, limits: DeployThresholds) -> list[Check]:
    gain, least = measured.improvement_points, f"{limits.minimum_points:g}"
    speed, low = measured.speed_ratio, measured.speed_ratio_low
    return [
        Check(
            ONE_OF,
            "a gain that is enough by itself",
            f"{limits.deploy_points:g} points or more",
            f"{points(gain)} points",
            gain >= limits.deploy_points,
            _short(gain, limits.deploy_points),
        ),
        Check(
            ONE_OF,
            f"{least} points, and speed",
            f"{limits.speed_ratio:g} times as fast",
            "not measured"
            if speed is None
            else f"{speed:.2f} times{'' if low is None else f', at least {low:.2f}'}",
            None
            if speed is None
            else speed >= limits.speed_ratio and (low is None or low >= limits.speed_ratio),
        ),
        Check(
            ONE_OF,
            f"{least} points, and live traffic",
            "an A/B test that proves the gain",
            {True: "proven", False: "not proven", None: "none has ended"}[measured.ab_significant],
            measured.ab_significant,
        ),
    ]


def _all_of(measured: DeployInputs, limits: DeployThresholds) -> list[Check]:
    gain = measured.improvement_points
    found = [
        Check(
            ALL_OF,
            "the least gain that matters",
            f"{limits.minimum_points:g} points or more",
            f"{points(gain)} points",
            gain >= limits.minimum_points,
            _short(gain, limits.minimum_points),
        ),
        Check(
            ALL_OF,
            "more than luck",
            "95 % interval above 0",
            f"{points(measured.ci_low)} to {points(measured.ci_high)}",
            measured.ci_low > 0,
        ),
    ]
    low, high = measured.bound_low, measured.bound_high
    if low is not None and high is not None:
        is_told = low > 0 or high < limits.minimum_points
        more = measured.more_tasks
        needs = f"about {more:,} more tasks of the same kind would tell" if more else ""
        found.append(
            Check(
                ALL_OF,
                "enough tasks to tell",
                f"bounds exclude 0 or {limits.minimum_points:g} points",
                f"{points(low)} and {points(high)}",
                is_told,
                "" if is_told else needs,
            )
        )
    return found


def _short(gain: float, limit: float) -> str:
    return f"{limit - gain:.1f} points short" if gain < limit else ""


def _holding(measured: DeployInputs, limits: DeployThresholds) -> list[Check]:
    floor, forgot = measured.noise_floor_points, measured.forgetting
    found = [
        Check(
            HOLDS_BACK,
            "the baseline's own noise",
            "a gain outside it",
            "not measured" if floor is None else f"up to {floor:.1f} points",
            None if floor is None else abs(measured.improvement_points) > floor,
        ),
        Check(
            HOLDS_BACK,
            "forgetting",
            "general tasks are kept",
            "not asked" if forgot is None else forgot.replace("_", " "),
            None if forgot is None else forgot != QUARANTINE,
        ),
    ]
    return [*found, *_grades(measured, limits), *_judges(measured)]


def _grades(measured: DeployInputs, limits: DeployThresholds) -> list[Check]:
    graded = measured.graded_points
    if graded is None:
        return []
    n = measured.ungraded_baseline + measured.ungraded_candidate
    return [
        Check(
            HOLDS_BACK,
            f"{n:,} answers whose grader threw",
            f"{limits.minimum_points:g} points without them",
            f"{points(graded)} points",
            graded >= limits.minimum_points,
        )
    ]


def _judges(measured: DeployInputs) -> list[Check]:
    found = []
    if measured.rubric_may_gate is not None:
        flips = measured.rubric_flip_rate
        found.append(
            Check(
                HOLDS_BACK,
                "grades by rubric",
                "that keep with another wording",
                "flips not measured" if flips is None else f"{flips:.1%} turn",
                measured.rubric_may_gate,
            )
        )
    high = measured.judge_win_high
    if measured.judge_may_gate is not None and high is not None:
        found.append(
            Check(
                HOLDS_BACK,
                "judges of pairs",
                "do not prefer the baseline" if measured.judge_may_gate else "fit to decide",
                f"win rate at most {high:.1%}",
                high >= _EVEN if measured.judge_may_gate else None,
            )
        )
    return found
