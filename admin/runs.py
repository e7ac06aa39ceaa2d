"""Runs: long jobs with their progress, and one job with its error and training curve."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse
from sqlalchemy import Select, func, select
from sqlmodel import Session, col

from admin.charts import LineChart, line_chart
from admin.formats import number
from admin.listing import Asked, Column, Listing, Table
from admin.paging import Narrowing
from admin.rendering import Reading, render, wants_rows
from curation.tables import Dataset
from evaluator.tables import Evaluation
from foundation.errors import NotFound
from foundation.settings import get_settings
from foundation.tables import CANCELLED, DONE, FAILED, QUEUED, RUNNING, Run, now
from trainer.tables import ModelVersion, TrainingRun

routes = APIRouter(prefix="/runs")

UNFINISHED = (QUEUED, RUNNING)
CURVES = {"loss": "training", "validation_loss": "validation"}
"""Entries of a training history that are drawn, and what their curves are called."""


@dataclass(frozen=True)
class Filters(Narrowing):
    """What the list is narrowed to; empty means all."""

    status: str = ""
    kind: str = ""
    role: str = ""


@dataclass(frozen=True)
class Row:
    """One run and what can be said of it now."""

    run: Run

    @property
    def open(self) -> bool:
        """Whether it is still queued or running, so that its row refreshes itself."""
        return self.run.status in UNFINISHED

    @property
    def share(self) -> float | None:
        """How far it is, in 0-1; None if it does not say."""
        if self.run.status == DONE:
            return 1.0
        progress = self.run.progress or {}
        done, total = progress.get("done"), progress.get("total")
        if not isinstance(done, (int, float)) or not isinstance(total, (int, float)) or total <= 0:
            return None
        return min(1.0, max(0.0, done / total))

    @property
    def amount(self) -> str:
        """How much is done, in its own unit: `131 of 240 steps`; empty if it does not say."""
        progress = self.run.progress or {}
        if self.share is None or "done" not in progress:
            return ""
        done, total = number(progress["done"]), number(progress["total"])
        return f"{done} of {total} {progress.get('unit', '')}".strip()

    @property
    def measures(self) -> list[tuple[str, Any]]:
        """The latest measurements of its progress."""
        shown = {"done", "total", "unit"}
        return [(k, v) for k, v in (self.run.progress or {}).items() if k not in shown]

    @property
    def took_s(self) -> float | None:
        """Seconds from its start to its end or to now; None before it starts."""
        if self.run.started_at is None:
            return None
        return ((self.run.finished_at or now()) - self.run.started_at).total_seconds()

    @property
    def silent(self) -> bool:
        """Whether its worker has not been heard of for longer than the sweeper allows."""
        heartbeat = self.run.heartbeat_at
        if self.run.status != RUNNING or heartbeat is None:
            return False
        return (now() - heartbeat).total_seconds() > get_settings().lost_after_s


LISTING: Listing[Row] = Listing(
    [
        Column("kind", "Job", lambda row: row.run.kind, col(Run.kind), first="up"),
        Column("role", "Role", lambda row: row.run.role, col(Run.role), first="up"),
        Column("status", "Status", lambda row: row.run.status, col(Run.status), first="up"),
        Column("progress", "Progress", lambda row: row.run.progress),
        Column(
            "took_s",
            "Took",
            lambda row: row.took_s,
            func.extract("epoch", col(Run.finished_at) - col(Run.started_at)),
            numeric=True,
        ),
        Column("created_at", "Asked for", lambda row: row.run.created_at, col(Run.created_at)),
        Column("id", "", lambda row: str(row.run.id)),
        Column("error", "", lambda row: row.run.error),
    ],
    key=col(Run.id),
    name="runs",
)


@dataclass(frozen=True)
class ListPage:
    """Runs, newest first."""

    filters: Filters
    table: Table[Row]
    kinds: Sequence[str]
    roles: Sequence[str]
    statuses: Sequence[str] = (QUEUED, RUNNING, DONE, FAILED, CANCELLED)


@dataclass(frozen=True)
class RowPage:
    """One row alone, as its own refresh asks for it."""

    row: Row


@dataclass(frozen=True)
class DetailPage:
    """One run; for a training also its recipe, metrics, curve and the model it made."""

    row: Row
    training: TrainingRun | None
    curve: LineChart | None
    dataset: Dataset | None
    models: Sequence[ModelVersion]
    datasets_made: Sequence[Dataset]
    evaluations: Sequence[Evaluation]


@routes.get("", name="runs.list")
def show_list(
    request: Request,
    session: Reading,
    filters: Annotated[Filters, Depends()],
    asked: Annotated[Asked, Depends()],
) -> Response:
    """Show runs, newest first."""
    if asked.format:
        return LISTING.export(_matching(filters), asked, _rows)
    template = "runs/_rows.html" if wants_rows(request) else "runs/list.html"
    return render(request, template, list_page(session, filters, asked))


@routes.get("/{id}", name="runs.detail")
def show_detail(request: Request, session: Reading, id: UUID) -> HTMLResponse:
    """Show one run."""
    return render(request, "runs/detail.html", detail(session, id))


@routes.get("/{id}/row", name="runs.row")
def show_row(request: Request, session: Reading, id: UUID) -> HTMLResponse:
    """Answer one row of the list, as an open run asks for every two seconds."""
    return render(request, "runs/_live_row.html", RowPage(Row(_get(session, id))))


def list_page(session: Session, filters: Filters, asked: Asked) -> ListPage:
    """Return one page of runs."""
    kinds = session.scalars(select(col(Run.kind)).order_by(col(Run.id).desc()).limit(1_000)).all()
    table = LISTING.page(session, _matching(filters), asked, filters.query, _rows)
    return ListPage(filters, table, sorted(set(kinds)), get_settings().roles)


def _rows(session: Session, found: Sequence[Run]) -> list[Row]:
    return [Row(run) for run in found]


def _matching(filters: Filters) -> Select[Any]:
    query = select(Run)
    for column, value in (
        (Run.status, filters.status),
        (Run.kind, filters.kind),
        (Run.role, filters.role),
    ):
        if value:
            query = query.where(col(column) == value)
    return query


def detail(session: Session, identifier: UUID) -> DetailPage:
    """Return the page of one run; raises NotFound."""
    run = _get(session, identifier)
    training = session.scalars(
        select(TrainingRun).where(col(TrainingRun.run_id) == identifier)
    ).one_or_none()
    models: Sequence[ModelVersion] = ()
    if training is not None:
        models = session.scalars(
            select(ModelVersion).where(col(ModelVersion.training_run_id) == training.id)
        ).all()
    datasets = session.scalars(select(Dataset).where(col(Dataset.run_id) == identifier)).all()
    evaluations = session.scalars(
        select(Evaluation).where(col(Evaluation.run_id) == identifier)
    ).all()
    return DetailPage(
        row=Row(run),
        training=training,
        curve=line_chart(curves(training.history)) if training else None,
        dataset=session.get(Dataset, training.dataset_id) if training else None,
        models=models,
        datasets_made=datasets,
        evaluations=evaluations,
    )


def curves(history: Iterable[Mapping[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """Return the loss curves of a training history by name, as (step, loss) points."""
    found: dict[str, list[tuple[float, float]]] = {}
    for place, entry in enumerate(history):
        step = entry.get("step", place)
        for key, name in CURVES.items():
            if isinstance(entry.get(key), (int, float)):
                found.setdefault(name, []).append((float(step), float(entry[key])))
    return found


def _get(session: Session, identifier: UUID) -> Run:
    run = session.get(Run, identifier)
    if run is None:
        raise NotFound("run", str(identifier), "the id of a stored run", "See the list.")
    return run
