"""The deploy rule: what a measured improvement is good for, as a pure function.

Improvement is the candidate's success rate minus the baseline's, in percentage points. On 100 tasks
the plain rule fires for an identical model in 3-30 % of evaluations, so by default it is read with
its paired 95 % interval; both readings are recorded with every decision.
"""

from dataclasses import dataclass
from typing import Any

from foundation.decisions import Ruling, load, rule
from foundation.errors import BadInput

DEPLOY, AB_TEST, ITERATE, STAY = "deploy", "ab_test", "iterate", "stay"
"""Outcomes. The router lets both `deploy` and `ab_test` prove themselves on live traffic first."""

INTERVAL, POINT = "interval", "point"
RULE = "evaluator.deploy"


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
    """What the rule reads (the first six), and what a reader of the decision wants beside it.

    Attributes:
        improvement_points: candidate minus baseline, percentage points.
        ci_low: lower end of its paired 95 % interval, percentage points.
        ci_high: upper end.
        speed_ratio: candidate tokens/s over baseline tokens/s; None if not measured.
        ab_significant: whether an A/B test proved it better; None if none has ended.
        speed_ratio_low: lower end of the speed ratio's 95 % interval; None if it has none.
        evidence: rates, counts, names; not read by the rule.
    """

    improvement_points: float
    ci_low: float
    ci_high: float
    speed_ratio: float | None = None
    ab_significant: bool | None = None
    speed_ratio_low: float | None = None
    evidence: dict[str, Any] | None = None


@rule(RULE)
def deploy_rule(inputs: dict[str, Any], thresholds: dict[str, Any]) -> Ruling:
    """Say deploy, ab_test, iterate or stay; see `DeployThresholds` for the numbers."""
    measured, limits = load(DeployInputs, inputs), load(DeployThresholds, thresholds)
    plain, why = _point_reading(measured, limits)
    careful, doubt = _interval_reading(plain, measured, limits)
    outcome = careful if limits.reading == INTERVAL else plain
    shown = (
        f"Improvement {measured.improvement_points:+.1f} points, 95 % interval "
        f"{measured.ci_low:+.1f} to {measured.ci_high:+.1f}."
    )
    other = f"Readings: interval says {careful}, point says {plain}; used: {limits.reading}."
    reasons = (shown, why, doubt, other) if doubt else (shown, why, other)
    return Ruling(outcome, reasons)


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
    if plain == DEPLOY and _needs_speed(measured, limits) and _may_be_slow(measured, limits):
        return ITERATE, (
            f"The speed's interval begins at {measured.speed_ratio_low:.2f}, below its limit: it "
            "is not proven, and the estimate alone does not deploy."
        )
    if plain != DEPLOY or measured.ci_low > 0 or measured.ab_significant:
        return plain, ""
    if measured.ab_significant is False:
        return ITERATE, "The interval reaches 0 or below and the A/B test did not prove the gain."
    return AB_TEST, "The interval reaches 0 or below: the benchmark alone does not prove a gain."


def _needs_speed(measured: DeployInputs, limits: DeployThresholds) -> bool:
    """Return whether nothing but the speed speaks for deploying."""
    return measured.improvement_points < limits.deploy_points and not measured.ab_significant


def _may_be_slow(measured: DeployInputs, limits: DeployThresholds) -> bool:
    low = measured.speed_ratio_low
    return low is not None and low < limits.speed_ratio
