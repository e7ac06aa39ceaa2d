"""When a role is trained by itself: its schedule, and the rule on whether it is due. Pure but rows.

What is due is told by a calendar (UTC) or by what happened since: new examples, corrections, drift.
`flywheel.scheduling` gathers that, and orders what is due.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlmodel import Session, select

from foundation.decisions import Ruling, load, rule
from foundation.errors import BadInput, NotFound
from foundation.tables import now
from trainer.recipe import METHODS, Recipe
from trainer.recipe.by_role import recipe_of
from trainer.recipe.continual import Continual
from trainer.registry import require_role
from trainer.tables import TrainingSchedule

RULE: Final = "trainer.schedule"
EVERY: Final = ("hourly", "daily", "weekly", "monthly")

WAIT, ASKED, TIME = "wait", "asked", "time"
DRIFT, CORRECTIONS, NEW_EXAMPLES = "drift", "corrections", "new_examples"
"""Outcomes of the rule: to wait, or the trigger that fires."""

OFF, EXPERIMENT, GUARDED = "off", "experiment", "guarded"
PROMOTIONS: Final = (OFF, EXPERIMENT, GUARDED)
"""What becomes of a candidate: it waits for a person, is compared on live traffic, or serves at
once under the guard if the benchmark finds that it lost nothing."""

MICRO: Final[Mapping[str, Any]] = {"max_steps": 30, "warmup": 0}
"""Changes of the recipe for the few rows that corrections are; its rate is halved, too."""
MICRO_ROWS: Final = 64
"""More new rows than that get the whole recipe, whatever fired."""
_REPLAY: Final[Mapping[str, Any]] = {"method": "replay", "replay_share": 0.5}
_MICRO_REPLAY: Final[Mapping[str, Any]] = {"method": "replay", "replay_share": 0.875}


@dataclass(frozen=True)
class Triggers:
    """What happens that a training is to follow; thresholds of `trainer.schedule`.

    Attributes:
        every: hourly, daily, weekly, monthly, or None.
        new_examples: answered calls of the role since the last training; None: they do not count.
        corrections: corrected, preferred or badly rated answers (1-2 stars) since; None: likewise.
        drift: an alarm of `evaluator.drift` on who serves.
        backoff_s: seconds that a failed one waits; doubled by each failure after it.
        backoff_most_s: longest such wait.
    """

    every: str | None = None
    new_examples: int | None = None
    corrections: int | None = None
    drift: bool = False
    backoff_s: float = 300.0
    backoff_most_s: float = 86_400.0

    def __post_init__(self) -> None:
        if self.every is not None and self.every not in EVERY:
            raise BadInput("cadence", self.every, f"one of {', '.join(EVERY)}", "Name one.")
        for name in ("new_examples", "corrections"):
            least = getattr(self, name)
            if least is not None and (not isinstance(least, int) or least < 1):
                raise BadInput(f"trigger {name}", least, "1 or more", "Leave it out for never.")
        if not 0 < self.backoff_s <= self.backoff_most_s:
            raise BadInput(
                "backoff_s of a schedule",
                self.backoff_s,
                f"above 0, up to backoff_most_s ({self.backoff_most_s:g})",
                "300 is the default.",
            )


@dataclass(frozen=True)
class ScheduleInputs:
    """What is known of a role's schedule at a moment; times are ISO 8601 in UTC.

    Attributes:
        moment: the present time.
        due_at: next time by the calendar; None: there is none.
        n_new_examples: answered calls since the last training.
        n_corrections: corrections, preferences and bad ratings since.
        drift_alarm: id of an alarm that no training has answered; None: none.
        under_way: the run of a training that has not ended; None: none.
        failures: how often it failed in a row.
        failed_at: when it did last.
        asked_by: who wants it now, whatever the triggers say; None: nobody.
    """

    moment: str
    due_at: str | None = None
    n_new_examples: int = 0
    n_corrections: int = 0
    drift_alarm: str | None = None
    under_way: str | None = None
    failures: int = 0
    failed_at: str | None = None
    asked_by: str | None = None


@rule(RULE)
def schedule_rule(inputs: dict[str, Any], thresholds: dict[str, Any]) -> Ruling:
    """Say `wait`, or which trigger fires: asked, drift, corrections, new_examples or time."""
    seen, limits = load(ScheduleInputs, inputs), load(Triggers, thresholds)
    if seen.under_way is not None:
        return Ruling(WAIT, (f"One is under way: run {seen.under_way}.",))
    found = list(_fired(seen, limits))
    if not found:
        return Ruling(WAIT, ("No trigger fired.",))
    reasons = tuple(reason for _, reason in found)
    again = retry_at(seen, limits)
    if again is not None and datetime.fromisoformat(seen.moment) < again and not seen.asked_by:
        wait = f"It failed {seen.failures} times in a row: tried again at {_said(again)}."
        return Ruling(WAIT, (*reasons, wait))
    return Ruling(found[0][0], reasons)


def _fired(seen: ScheduleInputs, limits: Triggers) -> list[tuple[str, str]]:
    """Return the triggers that hold, each with its reason; a whole training is first."""
    found = []
    if seen.asked_by is not None:
        found.append((ASKED, f"{seen.asked_by} asked for it."))
    if limits.drift and seen.drift_alarm is not None:
        found.append((DRIFT, f"Who serves has drifted: alarm {seen.drift_alarm}."))
    if limits.new_examples is not None and seen.n_new_examples >= limits.new_examples:
        counted = f"{seen.n_new_examples:,} new examples since the last one"
        found.append((NEW_EXAMPLES, f"{counted}, {limits.new_examples:,} are enough."))
    if limits.every is not None and _is_past(seen.due_at, seen.moment):
        found.append((TIME, f"It is trained {limits.every}, and was due at {seen.due_at}."))
    if limits.corrections is not None and seen.n_corrections >= limits.corrections:
        counted = f"{seen.n_corrections:,} corrections since the last one"
        found.append((CORRECTIONS, f"{counted}, {limits.corrections:,} are enough."))
    return found


def _is_past(due_at: str | None, moment: str) -> bool:
    # Compared as times: a database may tell its own in a zone of its own.
    return due_at is not None and datetime.fromisoformat(due_at) <= datetime.fromisoformat(moment)


def retry_at(seen: ScheduleInputs, limits: Triggers) -> datetime | None:
    """Return when a schedule that failed may fire again; None if it did not fail."""
    if not seen.failures or seen.failed_at is None:
        return None
    wait = min(limits.backoff_s * 2.0 ** min(seen.failures - 1, 60), limits.backoff_most_s)
    return datetime.fromisoformat(seen.failed_at) + timedelta(seconds=wait)


def next_time(every: str | None, after: datetime) -> datetime | None:
    """Return the first time by the calendar after a moment, UTC; None without a cadence.

    Full hours, midnights, Mondays, firsts of a month. Times that were missed are one: the next is
    counted from now.
    """
    after = after.astimezone(UTC)
    hour = after.replace(minute=0, second=0, microsecond=0)
    midnight = hour.replace(hour=0)
    if every == "hourly":
        return hour + timedelta(hours=1)
    if every == "daily":
        return midnight + timedelta(days=1)
    if every == "weekly":
        return midnight + timedelta(days=7 - midnight.weekday())
    if every == "monthly":
        return (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)
    return None


_GOES_ON: Final = tuple(
    method for method in METHODS if method.startswith("sft-") and method != "sft-full"
)
"""Methods that learn from examples and make an adapter that a next one can go on from."""


@dataclass(frozen=True)
class Orders:
    """What a schedule orders when it fires.

    Attributes:
        recipe: fields of a recipe, `preset` among them; it goes with replay unless it says else.
            Empty: the role's own recipe, as it is when the schedule fires.
        micro: changes of the recipe where corrections fired: few rows, hence few steps.
        base_model: folder or hub name; None: that of who serves.
        suite: the role's benchmark, NAME or NAME@VERSION; None: there is none.
        general: suite to see what was forgotten by; None: `general`, where that is stored.
        promote: off, experiment or guarded.
        without_suite: swap though no benchmark can tell anything: the guard alone watches.
        margin_points: most success on the role's suite (percentage points) that a guarded swap may
            cost, by the one-sided 95 % bound.
        samples_per_task: answers to each task of the benchmark.
        temperature: of those answers; 0 is greedy.
        max_tokens: of the longest answer.
        experiment: name of the experiment's plan.
    """

    recipe: Mapping[str, Any] = field(default_factory=dict)
    micro: Mapping[str, Any] = field(default_factory=dict)
    base_model: str | None = None
    suite: str | None = None
    general: str | None = None
    promote: str = OFF
    without_suite: bool = False
    margin_points: float = 10.0
    samples_per_task: int = 1
    temperature: float = 0.0
    max_tokens: int = 512
    experiment: str = "default"

    def __post_init__(self) -> None:
        if self.promote not in PROMOTIONS:
            raise BadInput(
                "promote of a schedule",
                self.promote,
                f"one of {', '.join(PROMOTIONS)}",
                "Name one.",
            )
        if not 0 < self.margin_points <= 100:
            raise BadInput(
                "margin_points of a schedule", self.margin_points, "above 0, up to 100", "Use 10."
            )
        if self.suite is None and (
            self.promote == EXPERIMENT or self.promote == GUARDED and not self.without_suite
        ):
            raise BadInput(
                "suite of a schedule",
                None,
                f"the role's benchmark, which promote {self.promote} goes by",
                "Say --suite NAME; or --promote guarded --without-suite, to leave it to the guard.",
            )
        for trigger in (TIME, CORRECTIONS):
            for goes_on in (False, True):
                self.recipe_for(trigger, goes_on=goes_on)

    def recipe_for(self, trigger: str, *, goes_on: bool, n_rows: int = 1) -> Recipe:
        """Return the recipe of a training.

        Args:
            trigger: what fired.
            goes_on: whether it goes on from a version, and replays what that learned from.
            n_rows: new rows to learn.

        Raises:
            BadInput: a field of the recipe is unknown or out of range.
        """
        is_micro = trigger == CORRECTIONS and goes_on and n_rows <= MICRO_ROWS
        micro = {**MICRO, **self.micro} if is_micro else {}
        values = {"preset": "default", **self.recipe}
        if is_micro:
            values |= {"lr": Recipe.from_dict(values).lr / 2, **micro}
        replay = {**(_MICRO_REPLAY if is_micro else _REPLAY)}
        replay |= _said_of_forgetting(self.recipe) | micro.get("continual", {})
        if goes_on:
            values["continual"] = replay
        else:
            values.pop("continual", None)
        recipe = Recipe.from_dict(values)
        if recipe.method not in _GOES_ON:
            raise BadInput(
                "method of a schedule", recipe.method, f"one of {', '.join(_GOES_ON)}", "Name one."
            )
        return recipe


def _said_of_forgetting(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a recipe says of earlier skills; a whole one names every default, too."""
    defaults = asdict(Continual())
    said = recipe.get("continual", {})
    return {name: value for name, value in said.items() if value != defaults.get(name)}


def with_recipe_of(role: str, orders: Orders) -> Orders:
    """Return orders that name a recipe: the role's own where they name none.

    Raises:
        BadInput: the role's own recipe is not one that a schedule can order.
    """
    return orders if orders.recipe else replace(orders, recipe=recipe_of(role).to_dict())


def set_schedule(
    session: Session,
    role: str,
    triggers: Triggers,
    orders: Orders,
    *,
    actor: str = "flywheel",
    moment: datetime | None = None,
) -> TrainingSchedule:
    """Store when and how a role is trained by itself; what it has counted stays.

    What failed before is tried again at once: what was wrong may be set right by this.

    Raises:
        BadInput: an unknown role, or no trigger at all.
    """
    require_role(role)
    if not (triggers.every or triggers.new_examples or triggers.corrections or triggers.drift):
        raise BadInput(
            "triggers of a schedule", None, "a cadence, or something that happens",
            "Say --every, --on-new-examples, --on-corrections or --on-drift.",
        )  # fmt: skip
    with_recipe_of(role, orders)
    moment = moment or now()
    row = held(session, role) or TrainingSchedule(role=role)
    said = asdict(triggers)
    row.every, row.triggers = said.pop("every"), said
    row.training, row.is_on = asdict(orders), True
    row.due_at = next_time(triggers.every, moment)
    row.seen = {**row.seen, "failures": 0, "failed_at": None}
    row.changed_by, row.changed_at = actor, moment
    session.add(row)
    session.flush()
    return row


def turn_on(session: Session, role: str, actor: str = "flywheel") -> TrainingSchedule:
    """Let a role's schedule hold again, as it was set; a missed time stays missed.

    Raises NotFound.
    """
    row, moment = get_schedule(session, role), now()
    row.is_on, row.changed_by, row.changed_at = True, actor, moment
    row.due_at = next_time(row.every, moment)
    session.add(row)
    session.flush()
    return row


def turn_off(session: Session, role: str, actor: str = "flywheel") -> TrainingSchedule:
    """Let a role be trained by hand alone from now on; a run under way goes on. Raises NotFound."""
    row = get_schedule(session, role)
    row.is_on, row.changed_by, row.changed_at = False, actor, now()
    session.add(row)
    session.flush()
    return row


def get_schedule(session: Session, role: str) -> TrainingSchedule:
    """Return a role's schedule, locked until the transaction ends; raises NotFound."""
    row = held(session, role)
    if row is None:
        raise NotFound(
            "schedule",
            role,
            "a role that has one",
            f"Make it: flywheel schedule set {role} --every daily",
        )
    return row


def held(session: Session, role: str) -> TrainingSchedule | None:
    """Return a role's schedule, locked until the transaction ends; None where it has none."""
    return session.get(TrainingSchedule, role, with_for_update=True, populate_existing=True)


def list_schedules(session: Session) -> list[TrainingSchedule]:
    """Return all schedules, by role."""
    return list(session.exec(select(TrainingSchedule).order_by(TrainingSchedule.role)).all())


def triggers_of(row: TrainingSchedule) -> Triggers:
    """Return when a schedule fires."""
    return Triggers(every=row.every, **row.triggers)


def orders_of(row: TrainingSchedule) -> Orders:
    """Return what a schedule orders."""
    return Orders(**row.training)


def _said(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
