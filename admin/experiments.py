"""Experiments: live comparisons of two versions, their arms, the evidence so far; accept, stop.

Leads to `router.experiment`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import HTMLResponse
from sqlalchemy import func, select
from sqlmodel import Session, col

from admin.charts import Gauge, IntervalChart, evidence_gauge, interval_chart, wilson
from admin.paging import Narrowing, Slice, newest_first
from admin.rendering import Reading, link_to, render, wants_rows
from admin.standing import Standing, standing_of
from admin.writing import REASON_CHARACTERS, ByOperator, Reason, see
from foundation.errors import NotFound
from foundation.settings import get_settings
from foundation.tables import Decision
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
    Promotion,
)
from serving import deploy
from trainer.tables import ModelVersion

routes = APIRouter(prefix="/experiments")

DEFAULT_ALPHA = 0.05


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


@dataclass(frozen=True)
class ListPage:
    """Experiments, newest first."""

    filters: Filters
    rows: Slice[Row]
    roles: Sequence[str]
    statuses: Sequence[str] = (RUNNING, PROMOTED, STAYED, ROLLED_BACK, HALTED, STOPPED)
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
    policy: str
    """What the role's router does with a proof, in a sentence."""
    arms: Sequence[ArmRow]
    rates: IntervalChart | None
    difference: IntervalChart | None
    decision: Decision | None
    promotions: Sequence[Promotion]
    partner: Experiment | None
    """The hold-back that followed a promotion; of a hold-back, the experiment that was won."""


@routes.get("", name="experiments.list")
def show_list(
    request: Request,
    session: Reading,
    filters: Annotated[Filters, Depends()],
    before: UUID | None = None,
) -> HTMLResponse:
    """Show experiments."""
    query = select(Experiment)
    if filters.role:
        query = query.where(col(Experiment.role) == filters.role)
    if filters.status:
        query = query.where(col(Experiment.status) == filters.status)
    if filters.kind:
        query = query.where(col(Experiment.kind) == filters.kind)
    found: Slice[Experiment] = newest_first(session, query, col(Experiment.id), before)
    rows = Slice(with_versions(session, found.rows), found.older)
    template = "experiments/_rows.html" if wants_rows(request) else "experiments/list.html"
    return render(request, template, ListPage(filters, rows, get_settings().roles))


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
    promotions = session.scalars(
        select(Promotion)
        .where(col(Promotion.experiment_id) == identifier)
        .order_by(col(Promotion.id))
    ).all()
    return DetailPage(
        row=row,
        standing=standing_of(status, experiments.plan_of(experiment)),
        policy=policy.in_words(policy.policy_of(session, experiment.role)),
        arms=arms,
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
        decision=session.get(Decision, experiment.decision_id) if experiment.decision_id else None,
        promotions=promotions,
        partner=_partner(session, experiment),
    )


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
