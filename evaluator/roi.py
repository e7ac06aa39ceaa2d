"""Does a better model pay: what it costs against the rework, time and tokens that it saves.

Everything comes from whoever asks; what nobody knows is None and named. Each unknown stands for the
whole range that it could have, so a verdict is given only where no value of it could change it.
"""

import math
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import yaml
from sqlmodel import Session

from evaluator.tables import Verdict
from foundation.decisions import Ruling, decide, load, rule
from foundation.errors import BadInput, NotFound
from foundation.tables import Decision

RULE = "evaluator.roi"
PAYS, DOES_NOT_PAY, UNDECIDED, UNKNOWN = "pays", "does_not_pay", "undecided", "unknown"


@dataclass(frozen=True)
class RoiThresholds:
    """Limits of `evaluator.roi`.

    Attributes:
        horizon_months: months within which what is spent once must have come back.
    """

    horizon_months: float = 12.0

    def __post_init__(self) -> None:
        if not self.horizon_months > 0:
            raise BadInput("horizon_months", self.horizon_months, "more than 0", "Use 12.")


@dataclass(frozen=True)
class RoiInputs:
    """Costs and values of replacing a baseline by a candidate; None where nobody knows.

    Attributes:
        training_usd: spent once on training, in US dollars.
        data_usd: spent once on collecting and curating.
        review_usd: spent once on people's review.
        serving_usd_per_month: what serving costs more than before; negative if it costs less.
        tasks_per_month: tasks of the role.
        improvement_points: gain of the success rate, percentage points.
        improvement_low: lower end of its interval; None: the gain is taken as it is.
        improvement_high: upper end.
        rework_usd_per_failure: what a failed task costs to mend.
        seconds_saved_per_task: time that each task ends earlier; negative if later.
        usd_per_hour: what an hour of waiting costs.
        tokens_saved_per_task: tokens that a task needs less; negative if more.
        usd_per_mtok: price of a million tokens.
    """

    training_usd: float | None = None
    data_usd: float | None = None
    review_usd: float | None = None
    serving_usd_per_month: float | None = None
    tasks_per_month: float | None = None
    improvement_points: float | None = None
    improvement_low: float | None = None
    improvement_high: float | None = None
    rework_usd_per_failure: float | None = None
    seconds_saved_per_task: float | None = None
    usd_per_hour: float | None = None
    tokens_saved_per_task: float | None = None
    usd_per_mtok: float | None = None

    def __post_init__(self) -> None:
        for name in _NEVER_NEGATIVE:
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise BadInput(name, value, "0 or more, or nothing if unknown", "Correct it.")
        for name in _GAINS:
            value = getattr(self, name)
            if value is not None and not -100 <= value <= 100:
                raise BadInput(name, value, "percentage points, -100 to 100", "Correct it.")
        given = (self.improvement_low, self.improvement_points, self.improvement_high)
        known = [value for value in given if value is not None]
        if known != sorted(known):
            raise BadInput("improvement", given, "low, estimate and high, rising", "Correct it.")

    def unknown(self) -> list[str]:
        """Return the names of what is not known; an interval of the gain need not be."""
        optional = ("improvement_low", "improvement_high")
        names = [entry.name for entry in fields(self) if entry.name not in optional]
        return [name for name in names if getattr(self, name) is None]


_NEVER_NEGATIVE = (
    *("training_usd", "data_usd", "review_usd", "tasks_per_month"),
    *("rework_usd_per_failure", "usd_per_hour", "usd_per_mtok"),
)
_GAINS = ("improvement_points", "improvement_low", "improvement_high")
_ONCE = ("training_usd", "data_usd", "review_usd")


@dataclass(frozen=True)
class Range:
    """The values that something may have."""

    low: float
    high: float

    def __add__(self, other: "Range") -> "Range":
        return Range(self.low + other.low, self.high + other.high)

    def __mul__(self, other: "Range") -> "Range":
        ends = [_times(a, b) for a in (self.low, self.high) for b in (other.low, other.high)]
        return Range(min(ends), max(ends))

    def __neg__(self) -> "Range":
        return Range(0.0 - self.high, 0.0 - self.low)


def _times(a: float, b: float) -> float:
    return 0.0 if a == 0 or b == 0 else a * b  # nothing of whatever it is, is nothing


@dataclass(frozen=True)
class Worth:
    """Money, in US dollars: spent once, won by each task from each source, paid for serving.

    Every unknown stands in it once, so that the ranges of the sums are exact.
    """

    once: Range
    tasks: Range
    by_task: dict[str, Range]
    serving: Range

    @property
    def per_month(self) -> Range:
        """What a month brings in all."""
        return self.tasks * sum(self.by_task.values(), Range(0.0, 0.0)) + -self.serving

    @property
    def by_source(self) -> dict[str, Range]:
        """What a month brings from each source."""
        won = {name: self.tasks * value for name, value in self.by_task.items()}
        return {**won, "serving": -self.serving}

    def net(self, months: float) -> Range:
        """Return what remains after so many months."""
        return self.per_month * Range(months, months) + -self.once

    def payback_months(self) -> Range:
        """Return after how many months the costs are back; infinite for never."""
        return Range(
            _months(self.once.low, self.per_month.high), _months(self.once.high, self.per_month.low)
        )


def _months(once: float, per_month: float) -> float:
    if once <= 0 and per_month >= 0:
        return 0.0
    if per_month <= 0:
        return math.inf
    return math.inf if math.isinf(once) else once / per_month


def worth_of(known: RoiInputs, gain: Range | None = None) -> Worth:
    """Return costs and monthly values as ranges; an unknown may be all that it could be.

    Args:
        known: what is known.
        gain: of the success rate, percentage points; by default the estimate alone.
    """

    def of(name: str) -> Range:
        value = getattr(known, name)
        if value is not None:
            return Range(value, value)
        return Range(0.0 if name in _NEVER_NEGATIVE else -math.inf, math.inf)

    improvement = known.improvement_points
    likely = Range(-100, 100) if improvement is None else Range(improvement, improvement)
    rate = (gain or likely) * Range(0.01, 0.01)
    hours = of("seconds_saved_per_task") * Range(1 / 3600, 1 / 3600)
    mtok = of("tokens_saved_per_task") * Range(1e-6, 1e-6)
    return Worth(
        sum((of(name) for name in _ONCE), Range(0.0, 0.0)),
        of("tasks_per_month"),
        {
            "rework": rate * of("rework_usd_per_failure"),
            "time": hours * of("usd_per_hour"),
            "tokens": mtok * of("usd_per_mtok"),
        },
        of("serving_usd_per_month"),
    )


@rule(RULE)
def roi_rule(inputs: dict[str, Any], thresholds: dict[str, Any]) -> Ruling:
    """Say `pays`, `does_not_pay`, `undecided` (the gain is too uncertain) or `unknown`."""
    known, limits = load(RoiInputs, inputs), load(RoiThresholds, thresholds)
    unknown, months = known.unknown(), limits.horizon_months
    whole = worth_of(known, _interval_of(known))
    estimate = worth_of(known)
    reasons = (
        *_sources(estimate),
        f"After {months:g} months {_money(estimate.net(months))}; paid back: "
        f"{_back(estimate.payback_months())}.",
        *([f"Unknown: {', '.join(unknown)}."] if unknown else []),
    )
    if whole.net(months).low >= 0:
        return Ruling(PAYS, reasons)
    if whole.net(months).high < 0:
        return Ruling(DOES_NOT_PAY, reasons)
    if unknown:
        settled = estimate.net(months)
        if settled.low < 0 <= settled.high:
            return Ruling(UNKNOWN, (*reasons, "What is unknown could turn it either way."))
    return Ruling(
        UNDECIDED,
        (*reasons, f"Over the gain's interval: {_money(whole.net(months))}, either way."),
    )


def _interval_of(known: RoiInputs) -> Range | None:
    """Return the interval of the gain, an end that is not given being the estimate."""
    estimate = known.improvement_points
    if estimate is None:
        return None
    low, high = known.improvement_low, known.improvement_high
    return Range(estimate if low is None else low, estimate if high is None else high)


def _sources(worth: Worth) -> tuple[str, ...]:
    shown = ", ".join(f"{name} {_money(value)}" for name, value in worth.by_source.items())
    return (f"Once: {_money(-worth.once)}. A month: {shown}.",)


def _money(value: Range) -> str:
    return _span(value, "{:+,.0f} USD")


def _back(months: Range) -> str:
    if math.isinf(months.low):
        return "never"
    if math.isinf(months.high):
        return "unknown" if months.low == 0 else f"after {months.low:.1f} months at the earliest"
    return f"after {_span(months, '{:.1f} months')}"


def _span(value: Range, form: str) -> str:
    if value.low == value.high:
        return form.format(value.low)
    if not math.isfinite(value.low) and not math.isfinite(value.high):
        return "unknown"
    if not math.isfinite(value.high):
        return f"{form.format(value.low)} or more"
    if not math.isfinite(value.low):
        return f"at most {form.format(value.high)}"
    return f"{form.format(value.low)} to {form.format(value.high)}"


def read_inputs(path: Path) -> RoiInputs:
    """Read costs and values from a YAML file of the names of `RoiInputs`; raises BadInput."""
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput("file of costs", str(path), "a file", f"{error.strerror}.") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise BadInput("file of costs", str(path), "YAML", f"Correct it: {reason}") from error
    names = [entry.name for entry in fields(RoiInputs)]
    if not isinstance(loaded, dict) or not set(loaded) <= set(names):
        wrong = sorted(map(str, set(loaded) - set(names))) if isinstance(loaded, dict) else loaded
        raise BadInput(f"names in {path.name}", wrong, f"some of {', '.join(names)}", "Correct it.")
    for name, value in loaded.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (is_number and math.isfinite(value)):
            raise BadInput(name, value, "a number, or nothing if unknown", "Correct it.")
    return RoiInputs(**loaded)


def decide_roi(
    session: Session, known: RoiInputs, months: float, verdict_id: UUID | None = None
) -> Decision:
    """Record whether it pays; the caller commits.

    Args:
        session: an open session.
        known: costs and values.
        months: horizon.
        verdict_id: whose improvement and interval to take instead of those given.

    Raises:
        NotFound: no such verdict.
        BadInput: a horizon of no months.
    """
    role = None
    if verdict_id is not None:
        verdict = session.get(Verdict, verdict_id)
        if verdict is None:
            raise NotFound(
                "verdict", str(verdict_id), "the id of a stored one", "See: GET /v1/verdicts"
            )
        role = verdict.role
        known = replace(
            known,
            improvement_points=verdict.improvement_points,
            improvement_low=verdict.ci_low,
            improvement_high=verdict.ci_high,
        )
    return decide(session, RULE, known, RoiThresholds(months), role=role, subject_id=verdict_id)
