"""Experiments: live comparisons of two versions, the evidence against time; accept, stop.

Leads to `router.experiment`. What is started, and the units of one, have their own files
(`admin.starting`, `admin.units`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import HTMLResponse
from sqlalchemy import Select, and_, func, or_, select
from sqlmodel import Session, col

from admin.charts import Gauge, IntervalChart, Plot, evidence_gauge, interval_chart, wilson
from admin.evidence import estimate_plot, evidence_plot, share_plot
from admin.listing import Asked, Column, Listing, Table
from admin.paging import Narrowing
from admin.rendering import Reading, link_to, render, wants_rows
from admin.standing import Aftermath, Standing, aftermath_of, standing_of
from admin.writing import REASON_CHARACTERS, ByOperator, Reason, see
from foundation.errors import NotFound
from foundation.settings import get_settings
from foundation.tables import Decision, now
from router import experiment as experiments
from router import policy
from router.tables import (
    AB,
    CONTROL,
    HALTED,
    HOLD_BACK,
    PROMOTED,
    ROLLED_BACK,
    RUNNING,
    STAYED,
    STOPPED,
    TREATMENT,
    Assignment,
    Experiment,
    ExperimentPhase,
    Promotion,
)
from serving import deploy
from trainer.tables import ModelVersion

routes = APIRouter(prefix="/experiments")

DEFAULT_ALPHA, DEFAULT_HARM_E = 0.05, 20.0
PROPOSED = "proposed"
"""What a list calls a running experiment that waits for a person."""
DECISIONS_SHOWN = 30
ALARM_DAYS = 7
"""Days that the end of an experiment stays an alarm, where it ended badly."""
ALARMS_SHOWN = 20


@dataclass(frozen=True)
class Filters(Narrowing):
    """What the list is narrowed to; empty means all."""

    role: str = ""
    status: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Evidence:
    """What an experiment's stored state says, read in one place; None where it says nothing."""

    wins: float | None
    losses: float | None
    ties: float | None
    e_value: float | None
    threshold: float
    estimate: float | None
    low: float | None
    high: float | None
    reasons: Sequence[str] = ()

    @property
    def gauge(self) -> Gauge | None:
        """The e-value against its threshold on a logarithmic axis."""
        return evidence_gauge(self.e_value, self.threshold)


@dataclass(frozen=True)
class Row:
    """One experiment with the names of both versions."""

    experiment: Experiment
    control: ModelVersion
    treatment: ModelVersion

    @property
    def evidence(self) -> Evidence:
        """The evidence in its state."""
        return read_evidence(self.experiment.state, self.experiment.plan)

    @property
    def status(self) -> str:
        """Its status; `proposed` where it waits for a person."""
        is_proposed = self.experiment.proposed_at is not None
        return PROPOSED if is_proposed and self.is_running else self.experiment.status

    @property
    def is_running(self) -> bool:
        """Whether it goes on."""
        return self.experiment.status == RUNNING

    @property
    def units(self) -> int | None:
        """Units assigned as of the latest look; None before it."""
        assigned = self.experiment.state.get("assigned")
        return sum(assigned.values()) if isinstance(assigned, dict) else None

    @property
    def needed(self) -> float:
        """The e-value that decides, by the plan: for a promotion, or to put the other back."""
        if self.experiment.kind == HOLD_BACK:
            return _number(self.experiment.plan, "harm_e") or DEFAULT_HARM_E
        return self.evidence.threshold

    @property
    def n_phases(self) -> int:
        """Phases of its ramp."""
        return len(self.experiment.plan.get("ramp") or ()) or 1

    @property
    def reason(self) -> str:
        """What the latest look said first; empty before it."""
        return (self.evidence.reasons or ("",))[0]


def _assigned() -> Any:
    counts = col(Experiment.state)["assigned"]
    return counts[CONTROL].as_float() + counts[TREATMENT].as_float()


LISTING: Listing[Row] = Listing(
    [
        Column("treatment", "Treatment", lambda row: row.treatment.name),
        Column("control", "", lambda row: row.control.name),
        Column("role", "Role", lambda row: row.experiment.role, col(Experiment.role), first="up"),
        Column("status", "Status", lambda row: row.status, col(Experiment.status), first="up"),
        Column("kind", "", lambda row: row.experiment.kind, col(Experiment.kind), first="up"),
        Column(
            "share",
            "Share",
            lambda row: row.experiment.treatment_share,
            col(Experiment.treatment_share),
            numeric=True,
        ),
        Column("phase", "", lambda row: row.experiment.phase),
        Column("units", "Units", lambda row: row.units, _assigned(), numeric=True),
        Column(
            "e_value",
            "E-value",
            lambda row: row.evidence.e_value,
            col(Experiment.state)["e_value"].as_float(),
            numeric=True,
        ),
        Column("needed", "", lambda row: row.needed),
        Column(
            "started_at",
            "Started",
            lambda row: row.experiment.started_at,
            col(Experiment.started_at),
        ),
        Column("ended_at", "Ended", lambda row: row.experiment.ended_at, col(Experiment.ended_at)),
        Column("reason", "Outcome", lambda row: row.reason),
        Column("id", "", lambda row: str(row.experiment.id)),
    ],
    key=col(Experiment.id),
    name="experiments",
)


@dataclass(frozen=True)
class ListPage:
    """Experiments, newest first."""

    filters: Filters
    table: Table[Row]
    roles: Sequence[str]
    statuses: Sequence[str] = (RUNNING, PROPOSED, PROMOTED, STAYED, ROLLED_BACK, HALTED, STOPPED)
    kinds: Sequence[str] = (AB, HOLD_BACK)


@dataclass(frozen=True)
class ArmRow:
    """One arm, counted from its assignments."""

    arm: str
    version: ModelVersion
    units: int
    known: int
    successes: int
    calls: int
    errors: int
    slow: int
    timed_out: int

    @property
    def rate(self) -> float | None:
        """Share of known outcomes that are successes."""
        return self.successes / self.known if self.known else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson 95 % interval of the rate, for one look only."""
        return wilson(self.successes, self.known)


@dataclass(frozen=True)
class DetailPage:
    """One experiment."""

    row: Row
    standing: Standing
    after: Aftermath | None
    """What its end did; None while it runs."""
    policy: str
    """What the role's router does with a proof, in a sentence."""
    arms: Sequence[ArmRow]
    sources: Sequence[experiments.Voice]
    """Whose word the evidence rests on; empty: the machine's alone."""
    rates: IntervalChart | None
    difference: IntervalChart | None
    against_time: Plot | None
    """The e-value of each look; None before there are two."""
    estimates: Plot | None
    shares: Plot | None
    decisions: Sequence[Decision]
    """About it, newest first."""
    decision: Decision | None
    """That of its end."""
    promotions: Sequence[Promotion]
    partner: Experiment | None
    """The hold-back that followed a promotion; of a hold-back, the experiment that was won."""


@routes.get("", name="experiments.list")
def show_list(
    request: Request,
    session: Reading,
    filters: Annotated[Filters, Depends()],
    asked: Annotated[Asked, Depends()],
) -> Response:
    """Show experiments."""
    if asked.format:
        return LISTING.export(_matching(filters), asked, with_versions)
    template = "experiments/_rows.html" if wants_rows(request) else "experiments/list.html"
    return render(request, template, list_page(session, filters, asked))


def list_page(session: Session, filters: Filters, asked: Asked) -> ListPage:
    """Return one page of experiments."""
    table = LISTING.page(session, _matching(filters), asked, filters.query, with_versions)
    return ListPage(filters, table, get_settings().roles)


def _matching(filters: Filters) -> Select[Any]:
    query = select(Experiment)
    if filters.role:
        query = query.where(col(Experiment.role) == filters.role)
    if filters.status == PROPOSED:
        waits = col(Experiment.proposed_at).is_not(None)
        query = query.where(col(Experiment.status) == RUNNING, waits)
    elif filters.status:
        query = query.where(col(Experiment.status) == filters.status)
    if filters.kind:
        query = query.where(col(Experiment.kind) == filters.kind)
    return query


@routes.get("/{id}", name="experiments.detail")
def show_detail(request: Request, session: Reading, id: UUID) -> HTMLResponse:
    """Show one experiment."""
    return render(request, "experiments/detail.html", detail(session, id))


@routes.post("/{id}/accept", name="experiments.accept")
def accept(
    request: Request,
    by: ByOperator,
    id: UUID,
    reason: Annotated[str, Form(max_length=REASON_CHARACTERS)] = "",
) -> Response:
    """Promote what an experiment proposes: the one click."""
    why = reason.strip() or "accepted"
    with by.changing("experiment.accept", "experiments", id, why) as change:
        row = experiments.get_experiment(change.session, id)
        change.before({"status": row.status})
        experiments.accept(change.session, row, by.name, why, deploy.prepare)
        change.after({"status": row.status})
    return see(link_to(request, "experiments.detail", id=id))


@routes.post("/{id}/stop", name="experiments.stop")
def stop(request: Request, by: ByOperator, id: UUID, reason: Reason) -> Response:
    """End an experiment; who serves goes on serving."""
    with by.changing("experiment.stop", "experiments", id, reason) as change:
        change.alone(f"experiment {id}")
        row = experiments.get_experiment(change.session, id)
        change.before({"status": row.status})
        experiments.stop(change.session, row, reason, by.name)
        change.after({"status": row.status})
    return see(link_to(request, "experiments.detail", id=id))


def with_versions(session: Session, experiments: Sequence[Experiment]) -> list[Row]:
    """Return experiments with both their model versions, in one query for any number."""
    wanted = {e.control_model_version_id for e in experiments} | {
        e.treatment_model_version_id for e in experiments
    }
    versions = {
        row.id: row
        for row in session.scalars(select(ModelVersion).where(col(ModelVersion.id).in_(wanted)))
    }
    return [
        Row(e, versions[e.control_model_version_id], versions[e.treatment_model_version_id])
        for e in experiments
    ]


def detail(session: Session, identifier: UUID) -> DetailPage:
    """Return the page of one experiment; raises NotFound."""
    experiment = session.get(Experiment, identifier)
    if experiment is None:
        raise NotFound("experiment", str(identifier), "the id of an experiment", "See the list.")
    row = with_versions(session, [experiment])[0]
    status = experiments.status(session, experiment)
    arms = count_arms(session, row)
    standing = standing_of(status, experiments.plan_of(experiment))
    looks = experiments.read_looks(session, experiment)
    return DetailPage(
        row=row,
        standing=standing,
        after=aftermath_of(status),
        policy=policy.in_words(policy.policy_of(session, experiment.role)),
        arms=arms,
        sources=experiments.read_voices(session, experiment),
        rates=interval_chart(
            [
                (
                    arm.arm,
                    "candidate" if arm.arm == TREATMENT else "baseline",
                    arm.rate,
                    *(arm.interval or (None, None)),
                )
                for arm in arms
            ],
            bounds=(0, 100),
        ),
        difference=interval_chart(
            [("difference", "gain", status.gain, status.gain_low, status.gain_high)],
            unit="",
            include_zero=True,
        ),
        against_time=evidence_plot(
            looks, standing.needed, "puts back" if standing.is_hold_back else "promotes"
        ),
        estimates=estimate_plot(looks, status.confidence),
        shares=share_plot(_phases(session, experiment), experiment.ended_at or now()),
        decisions=_decisions(session, experiment),
        decision=session.get(Decision, experiment.decision_id) if experiment.decision_id else None,
        promotions=_promotions(session, experiment),
        partner=_partner(session, experiment),
    )


def _phases(session: Session, experiment: Experiment) -> Sequence[ExperimentPhase]:
    return session.scalars(
        select(ExperimentPhase)
        .where(col(ExperimentPhase.experiment_id) == experiment.id)
        .order_by(col(ExperimentPhase.number))
    ).all()


def _decisions(session: Session, experiment: Experiment) -> Sequence[Decision]:
    return session.scalars(
        select(Decision)
        .where(col(Decision.subject_id) == experiment.id)
        .order_by(col(Decision.id).desc())
        .limit(DECISIONS_SHOWN)
    ).all()


def _promotions(session: Session, experiment: Experiment) -> Sequence[Promotion]:
    return session.scalars(
        select(Promotion)
        .where(col(Promotion.experiment_id) == experiment.id)
        .order_by(col(Promotion.id))
    ).all()


def _partner(session: Session, experiment: Experiment) -> Experiment | None:
    """Return the hold-back after a promotion, or the experiment that a hold-back follows."""
    query = select(Experiment).where(col(Experiment.role) == experiment.role)
    if experiment.kind == HOLD_BACK:
        query = query.where(
            col(Experiment.kind) == AB,
            col(Experiment.status) == PROMOTED,
            col(Experiment.treatment_model_version_id) == experiment.control_model_version_id,
            col(Experiment.id) < experiment.id,
        ).order_by(col(Experiment.id).desc())
    else:
        query = query.where(
            col(Experiment.kind) == HOLD_BACK,
            col(Experiment.control_model_version_id) == experiment.treatment_model_version_id,
            col(Experiment.id) > experiment.id,
        ).order_by(col(Experiment.id))
    return session.scalars(query.limit(1)).first() if _was_promoted(experiment) else None


def _was_promoted(experiment: Experiment) -> bool:
    return experiment.kind == HOLD_BACK or experiment.status == PROMOTED


def count_arms(session: Session, row: Row) -> list[ArmRow]:
    """Count the assignments of an experiment by arm; an arm without any counts zero."""
    a = Assignment
    rows = session.execute(
        select(
            col(a.arm),
            func.count(),
            func.count(col(a.outcome)),
            func.count().filter(col(a.outcome).is_(True)),
            func.coalesce(func.sum(col(a.n_calls)), 0),
            func.coalesce(func.sum(col(a.n_errors)), 0),
            func.coalesce(func.sum(col(a.n_slow)), 0),
            func.count().filter(col(a.timed_out).is_(True)),
        )
        .where(col(a.experiment_id) == row.experiment.id)
        .group_by(col(a.arm))
    ).all()
    counts = {found[0]: [int(n) for n in found[1:]] for found in rows}
    return [
        ArmRow(arm, version, *counts.get(arm, [0] * 7))
        for arm, version in ((CONTROL, row.control), (TREATMENT, row.treatment))
    ]


def read_evidence(state: Mapping[str, Any], plan: Mapping[str, Any]) -> Evidence:
    """Read what `router.experiment` keeps of its latest look; empty before the first one."""
    difference = state.get("difference") or {}
    return Evidence(
        wins=_number(state, "wins"),
        losses=_number(state, "losses"),
        ties=_number(state, "ties"),
        e_value=_number(state, "e_value"),
        threshold=1.0 / (_number(plan, "alpha") or DEFAULT_ALPHA),
        estimate=_number(difference, "estimate"),
        low=_number(difference, "low"),
        high=_number(difference, "high"),
        reasons=tuple(str(reason) for reason in state.get("reasons") or ()),
    )


def _number(source: Mapping[str, Any], name: str) -> float | None:
    value = source.get(name)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


@dataclass(frozen=True)
class Alarm:
    """An experiment that a person should look at, and why."""

    experiment: Experiment
    what: str
    """`proposed`, or how it ended: `halted` or `rolled_back`."""
    words: str


def alarms(session: Session) -> list[Alarm]:
    """Return what of the experiments asks for a person, in one query, newest first.

    A proposal waits until somebody accepts it. A broken split halts an experiment and a guardrail
    that is worse rolls it back, both by themselves within seconds; they are told for a week.
    """
    since = now() - timedelta(days=ALARM_DAYS)
    waits = and_(col(Experiment.status) == RUNNING, col(Experiment.proposed_at).is_not(None))
    ended_badly = and_(
        col(Experiment.status).in_((HALTED, ROLLED_BACK)), col(Experiment.ended_at) >= since
    )
    rows = session.scalars(
        select(Experiment)
        .where(or_(waits, ended_badly))
        .order_by(col(Experiment.id).desc())
        .limit(ALARMS_SHOWN)
    ).all()
    return [_alarm(row) for row in rows]


def _alarm(experiment: Experiment) -> Alarm:
    what = PROPOSED if experiment.status == RUNNING else experiment.status
    words = {
        PROPOSED: "A candidate is proven better and waits for a person.",
        HALTED: "Its split was broken, so nothing is concluded.",
        ROLLED_BACK: "Its version did harm; the one before it serves.",
    }[what]
    return Alarm(experiment, what, words)
