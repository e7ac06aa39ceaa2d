"""Start an experiment: choose a version and a plan, see what it could show, start exactly that.

Leads to `router.experiment`. The plan that is started is the one that the preview showed: it goes
with the form, and is checked again.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import HTMLResponse
from sqlalchemy import select
from sqlmodel import Session, col

from admin.access.people import OPERATOR
from admin.rendering import Reading, link_to, render, wants_rows
from admin.writing import ByOperator, Reason, needs, see
from foundation.errors import BadInput, FlywheelError
from router import experiment as experiments
from router import promote
from router.experiment import PLANS, ExperimentPlan, Outlook
from router.tables import HOLD_BACK, Experiment, RoleServing
from serving import deploy
from trainer import registry
from trainer.tables import QUARANTINED, ModelVersion

routes = APIRouter(prefix="/experiments/new")

VERSIONS_OFFERED = 200
MOST_GIVEN = 4_000
"""Characters of what was typed, together."""

NUMBER, PERCENT, RAMP, CHOICE = "number", "percent", "ramp", "choice"


@dataclass(frozen=True)
class Knob:
    """One field of the plan that a person may set; left empty it is as in the profile."""

    name: str
    """Of the field of `ExperimentPlan`; `share` sets its share and leaves out the ramp."""
    label: str
    explained: str
    kind: str = NUMBER
    choices: Sequence[str] = ()
    most: float = 1e6
    """Highest number that is taken: more could not be reckoned with in time."""

    def in_plan(self, plan: ExperimentPlan) -> str:
        """Return what a plan says of it, as it would be typed."""
        if self.name == "share":
            return "" if plan.ramp else f"{100 * plan.treatment_share:g}"
        value = getattr(plan, self.name)
        if self.kind == RAMP:
            return ", ".join(f"{100 * share:g}" for share in value)
        if self.kind == CHOICE:
            return str(value)
        return f"{100 * value:g}" if self.kind == PERCENT else f"{value:g}"


ESSENTIAL: Final = (
    Knob(
        "unit_kind",
        "Unit",
        "what keeps its arm; users and agents are sticky: no ramp, 20 or more per arm",
        CHOICE,
        ("episode", "user", "agent"),
    ),
    Knob(
        "outcome_kind",
        "Outcome",
        "what is compared: success, a score, or a user's choice of two",
        CHOICE,
        ("success", "score", "preference"),
    ),
    Knob(
        "ramp",
        "Ramp, %",
        "shares of the treatment, one phase each, growing; 0 first is shadow",
        RAMP,
    ),
    Knob(
        "share",
        "Fixed share, %",
        "instead of the ramp: this share at once; 50 decides soonest",
        PERCENT,
    ),
    Knob(
        "max_per_arm",
        "Most units per arm",
        "known outcomes at which it ends undecided, as “stayed”; up to 50,000",
        most=50_000,
    ),
    Knob("min_days", "Least days", "7 covers a weekly cycle"),
)
"""What most people want to look at."""

FURTHER: Final = (
    Knob("alpha", "Alpha, %", "chance of ever promoting what is not better", PERCENT),
    Knob(
        "alpha_unattended",
        "Alpha where nobody looks, %",
        "holds instead where the role promotes alone",
        PERCENT,
    ),
    Knob("min_per_arm", "Least units per arm", "with a known outcome, before a promotion"),
    Knob(
        "min_improvement",
        "Least gain of the score, %",
        "that a promotion must prove; of scores only",
        PERCENT,
    ),
    Knob(
        "mode",
        "Mode",
        "sequential: look whenever you like; planned: at fixed looks only",
        CHOICE,
        ("sequential", "planned"),
    ),
    Knob(
        "looks", "Planned looks", "of the planned mode, and of users or agents; up to 50", most=50
    ),
    Knob("planned_days", "Days of sticky units", "until the last look at users or agents"),
    Knob("ramp_units", "Units per phase", "of the treatment, before the next share"),
    Knob("ramp_days", "Days per phase", "before the next share"),
    Knob(
        "outcome_timeout_s",
        "Time-out of an outcome, s",
        "a unit without one has failed by then",
        most=1e8,
    ),
    Knob("slow_limit_ms", "Slow above, ms", "of one call"),
    Knob("error_margin", "Margin of failed calls, %", "tolerated rise per unit", PERCENT),
    Knob("slow_margin", "Margin of slow calls, %", "tolerated rise per unit", PERCENT),
    Knob("cost_budget_usd", "Budget of a unit, $", "its cost is guarded as a share of it; 0: not"),
    Knob("hold_back_days", "Days of the hold-back", "after a promotion; 0: none"),
    Knob("cooldown_h", "Cooldown, h", "after a rollback, in which nothing is promoted by itself"),
)
"""What stands below a fold."""

KNOBS: Final = {knob.name: knob for knob in (*ESSENTIAL, *FURTHER)}


@dataclass(frozen=True)
class Wanted:
    """What the address asks for; empty fields are as in the profile."""

    version: str
    profile: str
    baseline: str
    """Success rate to reckon with, in percent; empty: the present one."""
    given: Mapping[str, str]

    @property
    def plan(self) -> ExperimentPlan:
        """The plan; raises NotFound or BadInput."""
        return experiments.plan_from(self.profile, **changes_of(self.given))


def wanted_of(request: Request) -> Wanted:
    """Read what the address asks for."""
    query = request.query_params
    given = {name: query[name].strip()[:100] for name in KNOBS if query.get(name, "").strip()}
    return Wanted(
        query.get("version", "")[:200],
        query.get("profile", "") or "default",
        query.get("baseline", "").strip()[:20],
        given,
    )


def changes_of(given: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields of the plan that were typed; raises BadInput.

    Shares and margins are typed in percent. A fixed share leaves out the ramp.
    """
    changes = {name: _read(KNOBS[name], said) for name, said in given.items()}
    if "share" in changes:
        if "ramp" in changes:
            raise BadInput(
                "share and ramp", given["share"], "one of the two", "Leave the other empty."
            )
        changes |= {"treatment_share": changes.pop("share"), "ramp": ()}
    return changes


def _read(knob: Knob, said: str) -> Any:
    if knob.kind == CHOICE:
        return said
    try:
        numbers = [float(part.strip().removesuffix("%")) for part in said.split(",")]
    except ValueError:
        numbers = []
    is_list = knob.kind == RAMP
    if not numbers or not all(abs(number) <= knob.most for number in numbers):
        numbers = []
    if not numbers or (len(numbers) > 1 and not is_list):
        expected = f"a number up to {knob.most:,g}" if not is_list else "numbers, such as 5, 25, 50"
        raise BadInput(knob.label, said, expected, f"It is: {knob.explained}.")
    if is_list:
        return tuple(round(number / 100, 6) for number in numbers)
    (number,) = numbers
    if knob.kind == PERCENT:
        return round(number / 100, 8)
    return _whole(knob, number) if isinstance(getattr(PLANS["default"], knob.name), int) else number


def _whole(knob: Knob, number: float) -> int:
    if not number.is_integer():
        raise BadInput(knob.label, number, "a whole number", f"It is: {knob.explained}.")
    return int(number)


@dataclass(frozen=True)
class Choice:
    """A version that may be compared with who serves its role."""

    version: ModelVersion
    obstacle: str
    """Why not now; empty: it may."""


@dataclass(frozen=True)
class Preview:
    """What the plan could show, and exactly what would be started."""

    version: ModelVersion
    plan: ExperimentPlan
    outlook: Outlook | None
    obstacle: str
    running: Experiment | None
    """What runs for the role: a hold-back ends for the new experiment, another is in the way."""
    given: str
    """What was typed, as JSON: what the form sends."""

    @property
    def ends_hold_back(self) -> bool:
        """Whether a hold-back runs that would end."""
        return self.running is not None and self.running.kind == HOLD_BACK


@dataclass(frozen=True)
class NewPage:
    """The form, and the preview of what it says."""

    wanted: Wanted
    choices: Mapping[str, Sequence[Choice]]
    """By role."""
    base: ExperimentPlan
    """Of the profile, which empty fields are taken from."""
    preview: Preview | None
    problem: str
    """Why there is no preview, in words; empty: there is one, or no version was chosen."""
    profiles: Sequence[str] = tuple(PLANS)
    essential: Sequence[Knob] = ESSENTIAL
    further: Sequence[Knob] = FURTHER

    @property
    def is_further_open(self) -> bool:
        """Whether something below the fold is set."""
        return any(knob.name in self.wanted.given for knob in self.further)


@routes.get("", name="experiments.new", dependencies=[Depends(needs(OPERATOR))])
def show_new(request: Request, session: Reading) -> HTMLResponse:
    """Show the form, or to htmx the preview of what it says."""
    page = new_page(session, wanted_of(request))
    template = "experiments/_preview.html" if wants_rows(request) else "experiments/new.html"
    return render(request, template, page)


@routes.post("", name="experiments.start")
def start(
    request: Request,
    by: ByOperator,
    version: Annotated[UUID, Form()],
    profile: Annotated[str, Form(max_length=100)],
    reason: Reason,
    given: Annotated[str, Form(max_length=MOST_GIVEN)] = "{}",
) -> Response:
    """Make the version answerable, and give it its first share of the role's traffic."""
    plan = experiments.plan_from(profile, **changes_of(_given(given)))
    with by.changing("experiment.start", "experiments", "", reason) as change:
        session = change.session
        treatment = registry.get_version(session, str(version))
        promote.require_servable(treatment.role, treatment)
        deploy.prepare(session, treatment)
        row = experiments.start(session, treatment.role, treatment, plan, by.name, reason)
        change.about("experiments", row.id)
        change.after({"role": row.role, "treatment": treatment.name, "plan": row.plan})
        identifier = row.id
    return see(link_to(request, "experiments.detail", id=identifier))


def _given(said: str) -> dict[str, str]:
    try:
        found = json.loads(said)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not all(
        name in KNOBS and isinstance(value, str) for name, value in found.items()
    ):
        raise BadInput("plan", said[:100], "the fields of this form", "Send the form again.")
    return found


def new_page(session: Session, wanted: Wanted) -> NewPage:
    """Return the page; what is wrong with the plan is said on it."""
    choices = offered(session)
    base = PLANS.get(wanted.profile, PLANS["default"])
    try:
        preview, problem = _preview(session, wanted), ""
    except FlywheelError as error:
        preview, problem = None, str(error)
    return NewPage(wanted, choices, base, preview, problem)


def offered(session: Session) -> dict[str, list[Choice]]:
    """Return the versions that may be compared, newest first, by role, in two queries."""
    serving = {row.role: row.model_version_id for row in session.scalars(select(RoleServing))}
    rows = session.scalars(
        select(ModelVersion)
        .where(
            col(ModelVersion.is_control).is_(False),
            col(ModelVersion.stage) != QUARANTINED,
            col(ModelVersion.id).not_in(list(serving.values())),
        )
        .order_by(col(ModelVersion.id).desc())
        .limit(VERSIONS_OFFERED)
    ).all()
    busy = {row.role for row in experiments.running_experiments(session) if row.kind != HOLD_BACK}
    found: dict[str, list[Choice]] = {}
    for row in rows:
        obstacle = "an experiment runs" if row.role in busy else ""
        obstacle = obstacle if row.role in serving else "nobody serves the role"
        found.setdefault(row.role, []).append(Choice(row, obstacle))
    return dict(sorted(found.items()))


def _preview(session: Session, wanted: Wanted) -> Preview | None:
    if not wanted.version:
        return None
    version = registry.get_version(session, wanted.version)
    promote.require_servable(version.role, version)
    plan = wanted.plan
    running = promote.running_experiment(session, version.role)
    obstacle = _obstacle(session, version, running)
    outlook = experiments.outlook(session, version.role, plan, _baseline(wanted.baseline))
    return Preview(version, plan, outlook, obstacle, running, json.dumps(wanted.given))


def _baseline(said: str) -> float | None:
    return _read(Knob("baseline", "Success rate, %", "such as 85", PERCENT), said) if said else None


def _obstacle(session: Session, version: ModelVersion, running: Experiment | None) -> str:
    """Return in words what is in the way of a start now; empty: nothing."""
    serving = promote.serving_version(session, version.role)
    if serving is None:
        return f"Nobody serves {version.role} yet: promote its first version on the role's page."
    if serving.id == version.id:
        return f"{version.name} serves {version.role} already."
    if promote.is_stopped(session, version.role):
        return f"{version.role} is stopped by an emergency. Resume it first."
    if running is not None and running.kind != HOLD_BACK:
        return f"Another experiment of {version.role} runs: stop it, or wait for its end."
    return ""
