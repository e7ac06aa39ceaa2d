"""Decisions: the ledger as a list with filters, and one decision with all it was made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse
from sqlalchemy import select
from sqlmodel import Session, SQLModel, col

from admin.paging import Narrowing, Slice, newest_first
from admin.rendering import Reading, render, wants_rows
from curation.tables import Dataset
from evaluator.tables import Evaluation, Verdict
from foundation.errors import NotFound
from foundation.settings import get_settings
from foundation.tables import Decision
from router.tables import Experiment
from trainer.tables import ModelVersion, TrainingRun

routes = APIRouter(prefix="/decisions")


@dataclass(frozen=True)
class Filters(Narrowing):
    """What the ledger is narrowed to; empty means all."""

    kind: str = ""
    role: str = ""
    outcome: str = ""


@dataclass(frozen=True)
class ListPage:
    """The ledger."""

    filters: Filters
    rows: Slice[Decision]
    kinds: Sequence[str]
    outcomes: Sequence[str]
    roles: Sequence[str]


@dataclass(frozen=True)
class Subject:
    """The row a decision was about: what it is, its name, and the route that shows it."""

    noun: str
    name: str
    route: str
    id: UUID


@dataclass(frozen=True)
class DetailPage:
    """One decision."""

    decision: Decision
    subject: Subject | None

    @property
    def by_rule(self) -> bool:
        """Whether a rule with thresholds made it, so that it can be replayed."""
        return bool(self.decision.rule)

    @property
    def replay_command(self) -> str:
        """The command that recomputes it from what is stored."""
        return f"flywheel decide replay {self.decision.id}"


@routes.get("", name="decisions.list")
def show_list(
    request: Request,
    session: Reading,
    filters: Annotated[Filters, Depends()],
    before: UUID | None = None,
) -> HTMLResponse:
    """Show the ledger, newest first."""
    template = "decisions/_rows.html" if wants_rows(request) else "decisions/list.html"
    return render(request, template, list_page(session, filters, before))


@routes.get("/{id}", name="decisions.detail")
def show_detail(request: Request, session: Reading, id: UUID) -> HTMLResponse:
    """Show one decision."""
    decision = session.get(Decision, id)
    if decision is None:
        raise NotFound("decision", str(id), "the id of a stored decision", "See the list.")
    page = DetailPage(decision, subject_of(session, decision))
    return render(request, "decisions/detail.html", page)


def list_page(session: Session, filters: Filters, before: UUID | None = None) -> ListPage:
    """Return one page of the ledger."""
    query = select(Decision)
    for column, value in (
        (Decision.kind, filters.kind),
        (Decision.role, filters.role),
        (Decision.outcome, filters.outcome),
    ):
        if value:
            query = query.where(col(column) == value)
    recent = session.execute(
        select(col(Decision.kind), col(Decision.outcome))
        .order_by(col(Decision.id).desc())
        .limit(1_000)
    ).all()
    return ListPage(
        filters,
        newest_first(session, query, col(Decision.id), before),
        sorted({row[0] for row in recent}),
        sorted({row[1] for row in recent}),
        get_settings().roles,
    )


def subject_of(session: Session, decision: Decision) -> Subject | None:
    """Find the row that `subject_id` names, in the tables that decisions are made about."""
    if decision.subject_id is None:
        return None
    for table, noun, route in (
        (ModelVersion, "model version", "models.detail"),
        (Experiment, "experiment", "experiments.detail"),
        (Verdict, "verdict", "verdicts.detail"),
        (Evaluation, "evaluation", "evaluations.detail"),
        (Dataset, "dataset", "datasets.detail"),
    ):
        row = session.get(table, decision.subject_id)
        if row is not None:
            return Subject(noun, _name_of(row), route, decision.subject_id)
    training = session.get(TrainingRun, decision.subject_id)
    if training is not None:
        return Subject("training run", training.base_model, "runs.detail", training.run_id)
    return None


def _name_of(row: SQLModel) -> str:
    if isinstance(row, ModelVersion):
        return row.name
    if isinstance(row, Dataset):
        return f"{row.role} {row.variant} v{row.number}"
    if isinstance(row, Evaluation):
        return row.subject
    return str(getattr(row, "role", ""))
