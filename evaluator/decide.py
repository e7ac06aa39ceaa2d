"""The deploy rule: what a measured improvement is good for, as a pure function.

Improvement is the candidate's success rate minus the baseline's, in percentage points. On 100 tasks
the plain rule fires for an identical model in 3-30 % of evaluations, so by default it is read with
its paired interval; both readings are recorded with every decision.

Two things are asked of the interval. Nothing deploys on the benchmark alone unless the two-sided
95 % interval is above 0. And where nothing is to be deployed, the one-sided 95 % bounds tell what
is known from what is not: a gain is *shown* if its lower bound is above 0 and *excluded* if its
upper bound is below the least gain that matters; between the two the answer is `undecided`.
"""

import math
from dataclasses import dataclass
from typing import Any

from evaluator.forgetting import QUARANTINE
from foundation.decisions import Ruling, load, rule
from foundation.errors import BadInput

DEPLOY, AB_TEST, ITERATE, STAY = "deploy", "ab_test", "iterate", "stay"
UNDECIDED = "undecided"
"""Outcomes. The router lets both `deploy` and `ab_test` prove themselves on live traffic first; the
others start nothing by themselves."""

INTERVAL, POINT = "interval", "point"
RULE = "evaluator.deploy"
_EVEN = 0.5


@dataclass(frozen=True)
class DeployThresholds:
    """Thresholds of the deploy rule.

    Attributes:
        deploy_points: improvement in percentage points that deploys on its own.
        minimum_points: improvement in percentage points below which the baseline stays.
        speed_ratio: candidate tokens/s over baseline tokens/s that makes the minimum enough.
        reading: `interval`, or `point` for the plain rule on the estimate alone.
    """

    deploy_points: float = 10.0
    minimum_points: float = 5.0
    speed_ratio: float = 1.5
    reading: str = INTERVAL

    def __post_init__(self) -> None:
        if self.reading not in (INTERVAL, POINT):
            raise BadInput(
                "reading of the deploy rule",
                self.reading,
                f"{INTERVAL} or {POINT}",
                f"Use {INTERVAL} unless you want the plain rule.",
            )
        if not 0 < self.minimum_points <= self.deploy_points:
            raise BadInput(
                "minimum_points of the deploy rule",
                self.minimum_points,
                f"a number above 0 and not above deploy_points ({self.deploy_points})",
                "The issue's values are 5 and 10.",
            )


@dataclass(frozen=True)
class DeployInputs:
    """What the rule reads, and (last) what a reader of the decision wants beside it.

    Attributes:
        improvement_points: candidate minus baseline, percentage points.
        ci_low: lower end of its paired 95 % interval, percentage points.
        ci_high: upper end.
        speed_ratio: candidate tokens/s over baseline tokens/s; None if not measured.
        ab_significant: whether an A/B test proved it better; None if none has ended.
        speed_ratio_low: lower end of the speed ratio's 95 % interval; None if it has none.
        bound_low: one-sided 95 % lower bound, percentage points; None in decisions that were taken
            before there were bounds, and were never `undecided`.
        bound_high: one-sided 95 % upper bound.
        more_tasks: tasks to add for the bounds to decide; None if no number of them would.
        noise_floor_points: what the baseline differs from itself by; None if not measured.
        forgetting: outcome of `evaluator.forgetting`; None if general tasks were not asked.
        ungraded_baseline: answers of the baseline whose grader threw; they count as failures.
        ungraded_candidate: the same of the candidate.
        ungraded_left_out: of both, those that are left out, as the grader threw at both sides.
        graded_points: improvement where both answers were graded, percentage points; None if no
            ungraded answer counts as a failure.
        rubric_may_gate: whether scores by rubric are fit to decide; None if nothing was graded so.
        rubric_flip_rate: share of them (0-1) that turns with the wording; None if not measured.
        judge_may_gate: whether the judges of pairs are fit to decide; None if none was asked.
        judge_win_rate: candidate's win rate by the judges, 0-1.
        judge_win_high: upper end of its 95 % interval.
        evidence: rates, counts, names; not read by the rule.
    """

    improvement_points: float
    ci_low: float
    ci_high: float
    speed_ratio: float | None = None
    ab_significant: bool | None = None
    speed_ratio_low: float | None = None
    bound_low: float | None = None
    bound_high: float | None = None
    more_tasks: int | None = None
    noise_floor_points: float | None = None
    forgetting: str | None = None
    ungraded_baseline: int = 0
    ungraded_candidate: int = 0
    ungraded_left_out: int = 0
    graded_points: float | None = None
    rubric_may_gate: bool | None = None
    rubric_flip_rate: float | None = None
    judge_may_gate: bool | None = None
    judge_win_rate: float | None = None
    judge_win_high: float | None = None
    evidence: dict[str, Any] | None = None


@rule(RULE)
def deploy_rule(inputs: dict[str, Any], thresholds: dict[str, Any]) -> Ruling:
    """Say deploy, ab_test, iterate, stay or undecided; see `DeployThresholds` for the numbers."""
    measured, limits = load(DeployInputs, inputs), load(DeployThresholds, thresholds)
    plain, why = _point_reading(measured, limits)
    careful, doubt = _interval_reading(plain, measured, limits)
    outcome = careful if limits.reading == INTERVAL else plain
    readings = f"Readings: interval says {careful}, point says {plain}; used: {limits.reading}."
    reasons = [
        *(_shown(measured), *_noise(measured), *_ungraded(measured), *_judged(measured)),
        *(why, *([doubt] if doubt else []), readings),
    ]
    held = _held_back(measured, limits) if outcome == DEPLOY else []
    if held:
        outcome = AB_TEST if measured.ab_significant is None else UNDECIDED
        reasons += [*held, f"So it is held back: {outcome} instead of {DEPLOY}."]
    if measured.forgetting == QUARANTINE and outcome in (DEPLOY, AB_TEST):
        outcome = STAY
        reasons.append(f"It forgot what it knew of general tasks, so it is not {careful}: stay.")
    return Ruling(outcome, tuple(reasons))


def _shown(measured: DeployInputs) -> str:
    words = (
        f"Improvement {measured.improvement_points:+.1f} points, 95 % interval "
        f"{measured.ci_low:+.1f} to {measured.ci_high:+.1f}"
    )
    if measured.bound_low is None or measured.bound_high is None:
        return f"{words}."
    return (
        f"{words}; one-sided 95 % bounds {measured.bound_low:+.1f} and {measured.bound_high:+.1f}."
    )


def _noise(measured: DeployInputs) -> list[str]:
    floor = measured.noise_floor_points
    if floor is None:
        return []
    words = f"The baseline differs from itself by up to {floor:.1f} points"
    if abs(measured.improvement_points) <= floor:
        return [f"{words}: the improvement is within that noise."]
    return [f"{words}; the improvement is outside that noise."]


def _ungraded(measured: DeployInputs) -> list[str]:
    n_baseline, n_candidate = measured.ungraded_baseline, measured.ungraded_candidate
    if not n_baseline + n_candidate:
        return []
    said = (
        f"Warning: graders threw on {n_baseline:,} answers of the baseline and {n_candidate:,} of "
        "the candidate, which count as failures"
    )
    if measured.ungraded_left_out:
        said += (
            f", but for {measured.ungraded_left_out:,} on tasks where they threw at both sides and "
            "which are left out"
        )
    if measured.graded_points is None:
        return [f"{said}."]
    return [f"{said}; without any of them the improvement is {measured.graded_points:+.1f} points."]


def _judged(measured: DeployInputs) -> list[str]:
    rate = measured.judge_win_rate
    if measured.judge_may_gate is None or rate is None:
        return []
    said = f"By the judges of pairs the candidate's win rate is {rate:.1%}"
    if measured.judge_may_gate:
        return [f"{said}; they are fit to hold a deployment back."]
    return [f"{said}, which decides nothing: none of them is fit to (see the section on judges)."]


def _held_back(measured: DeployInputs, limits: DeployThresholds) -> list[str]:
    """Return why what the numbers would deploy may not be deployed; empty if it may.

    None of it can help a candidate. Proof by live traffic stands whatever a judge or grader did.
    """
    if measured.ab_significant:
        return []
    held, graded, high = [], measured.graded_points, measured.judge_win_high
    if graded is not None and graded < limits.minimum_points:
        held.append(
            f"Where both answers were graded the improvement is {graded:+.1f} points, below "
            f"{limits.minimum_points:g}: the rest is graders that threw."
        )
    if measured.rubric_may_gate is False:
        flips = measured.rubric_flip_rate
        shown = "was not measured" if flips is None else f"is {flips:.1%}"
        held.append(
            f"The suite is graded by rubric, and how often a grade turns with the wording {shown}: "
            "such grades are not fit to deploy."
        )
    if measured.judge_may_gate and high is not None and high < _EVEN:
        held.append(f"Judges that are fit to decide prefer the baseline (at most {high:.1%}).")
    return held


def _point_reading(measured: DeployInputs, limits: DeployThresholds) -> tuple[str, str]:
    """Return the plain rule's outcome and its reason, from the estimate alone."""
    gain, least = measured.improvement_points, limits.minimum_points
    if gain >= limits.deploy_points:
        return DEPLOY, f"The estimate reaches {limits.deploy_points:g} points."
    if gain < least:
        return STAY, f"The estimate is below {least:g} points."
    if measured.speed_ratio is not None and measured.speed_ratio >= limits.speed_ratio:
        return DEPLOY, (
            f"The estimate reaches {least:g} points and the candidate is "
            f"{measured.speed_ratio:.2f} times as fast (limit {limits.speed_ratio:g})."
        )
    if measured.ab_significant:
        return DEPLOY, f"The estimate reaches {least:g} points and the A/B test is significant."
    speed = "unknown" if measured.speed_ratio is None else f"{measured.speed_ratio:.2f}"
    test = "unknown" if measured.ab_significant is None else "not significant"
    return ITERATE, (
        f"The estimate lies between {least:g} and {limits.deploy_points:g} points; speed ratio "
        f"{speed} (limit {limits.speed_ratio:g}), A/B test {test}."
    )


def _interval_reading(
    plain: str, measured: DeployInputs, limits: DeployThresholds
) -> tuple[str, str]:
    """Return the outcome that the intervals allow, with the reason if it differs.

    An A/B test that already proved the gain is evidence beyond the benchmark and stands; one that
    ended without proof is not repeated. A speed whose interval reaches below its limit is none.
    """
    if plain != DEPLOY:
        return _when_not_deployed(plain, measured, limits)
    if _needs_speed(measured, limits) and _may_be_slow(measured, limits):
        outcome, unknown = _when_not_deployed(ITERATE, measured, limits)
        doubt = (
            f"The speed's interval begins at {measured.speed_ratio_low:.2f}, below its limit: it "
            "is not proven, and the estimate alone does not deploy."
        )
        return outcome, f"{doubt} {unknown}".rstrip()
    if measured.ci_low > 0 or measured.ab_significant:
        return plain, ""
    if measured.ab_significant is False:
        return ITERATE, "The interval reaches 0 or below and the A/B test did not prove the gain."
    return AB_TEST, (
        "The interval reaches 0 or below: the benchmark alone does not prove a gain"
        + (f"; {measured.more_tasks:,} more tasks would decide it." if measured.more_tasks else ".")
    )


def _when_not_deployed(
    plain: str, measured: DeployInputs, limits: DeployThresholds
) -> tuple[str, str]:
    """Tell stay and iterate from undecided: neither no gain nor one that matters is excluded."""
    low, high = measured.bound_low, measured.bound_high
    if low is None or high is None or measured.ab_significant is not None:
        return plain, ""
    if low > 0 or high < limits.minimum_points:
        return plain, ""
    needed = (
        f"{measured.more_tasks:,} more tasks needed"
        if measured.more_tasks
        else "tasks of further families needed, however many of these were added"
    )
    return UNDECIDED, (
        f"The bounds exclude neither a gain of 0 nor one of {limits.minimum_points:g} points: "
        f"undecided, {needed}."
    )


def more_tasks_needed(
    bound_low: float, bound_high: float, n_tasks: int, minimum_points: float
) -> int | None:
    """Return how many further tasks of the same kind bring the bounds less than the minimum apart.

    Then they cannot hold both 0 and `minimum_points`, so that the rule decides whichever way the
    truth lies. Their distance shrinks with the square root of the number of tasks; where tasks
    belong to families, as many more families are meant.

    Args:
        bound_low: one-sided bound, percentage points.
        bound_high: one-sided bound, percentage points.
        n_tasks: tasks behind them.
        minimum_points: of the deploy rule.

    Returns:
        0 if they are closer already; None if the bounds say nothing (-100 to 100): the tasks are of
        one family, which no number of them mends.
    """
    if bound_low <= -100 and bound_high >= 100:
        return None
    ratio = (bound_high - bound_low) / minimum_points
    return 0 if ratio < 1 else max(1, math.ceil(n_tasks * (ratio**2 - 1)))


def _needs_speed(measured: DeployInputs, limits: DeployThresholds) -> bool:
    """Return whether nothing but the speed speaks for deploying."""
    return measured.improvement_points < limits.deploy_points and not measured.ab_significant


def _may_be_slow(measured: DeployInputs, limits: DeployThresholds) -> bool:
    low = measured.speed_ratio_low
    return low is not None and low < limits.speed_ratio
