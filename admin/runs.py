"""Jobs: the queue, who works, and one job with what it measures and logs while it runs."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Form, Header, Query, Request, Response
from fastapi.responses import HTMLResponse, StreamingResponse
from sqlalchemy import Select, case, func, select, text
from sqlmodel import Session, col

from admin.charts import Plot, plot
from admin.formats import duration, number
from admin.listing import Asked, Column, Listing, Table
from admin.paging import Narrowing, Slice, newest_first
from admin.rendering import STATEMENT_TIMEOUT_MS, Reading, link_to, render, wants_rows
from admin.streams import Event, EventStream, News
from admin.writing import ByOperator, Reason, see
from curation.tables import Dataset
from evaluator.tables import Evaluation
from foundation import runs
from foundation.database import session_scope
from foundation.errors import BadInput, Conflict, NotFound
from foundation.settings import get_settings
from foundation.tables import (
    CANCELLED,
    DONE,
    FAILED,
    QUEUED,
    RUNNING,
    Run,
    RunLog,
    RunMeasure,
    now,
)
from trainer.tables import TrainingRun

routes = APIRouter(prefix="/runs")

UNFINISHED = (QUEUED, RUNNING)
LINES_SHOWN: Final = 200
LINES_AT_ONCE: Final = 500
"""Of one look of a live page, and of one batch of a download."""
RETRIED_AT_ONCE: Final = 100
WORKERS_SHOWN: Final = 50
HEARD_WITHIN: Final = timedelta(minutes=5)
"""A worker that ended a run so lately counts as there, though it waits for work."""

SHOWN_FIRST: Final[tuple[str, ...]] = (
    "eta_s",
    "tokens_per_s",
    "rows_per_s",
    "memory_mb",
    "loss",
    "validation_loss",
    "lr",
    "grad_norm",
    "epoch",
)
LABELS: Final = {
    "eta_s": "to go",
    "tokens_per_s": "tokens/s",
    "rows_per_s": "rows/s",
    "memory_mb": "peak memory",
    "validation_loss": "validation loss",
    "lr": "learning rate",
    "grad_norm": "gradient norm",
}
LEVELS: Final = ("info", "warning", "error")


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
    def figures(self) -> list[tuple[str, str]]:
        """The latest measurements in words, what people look for first."""
        progress = self.run.progress or {}
        shown = [name for name in SHOWN_FIRST if name in progress]
        others = progress.keys() - {*shown, "done", "total", "unit"}
        shown += sorted(name for name in others if isinstance(progress[name], (int, float, str)))
        if self.run.status != RUNNING:
            shown = [name for name in shown if name != "eta_s"]
        return [(LABELS.get(n, n.replace("_", " ")), _said(n, progress[n])) for n in shown]

    @property
    def took_s(self) -> float | None:
        """Seconds from its start to its end or to now; None before it starts."""
        if self.run.started_at is None or self.run.status == QUEUED:
            return None
        return ((self.run.finished_at or now()) - self.run.started_at).total_seconds()

    @property
    def silent(self) -> bool:
        """Whether its worker has not been heard of for longer than the sweeper allows."""
        return runs.is_silent(self.run)

    @property
    def state(self) -> str:
        """Its status in one word, `silent` for one that lost its worker."""
        return "silent" if self.silent else self.run.status

    @property
    def may_cancel(self) -> bool:
        """Whether there is something to cancel."""
        return self.open

    @property
    def may_retry(self) -> bool:
        """Whether it may be queued again."""
        may = self.silent or self.run.status in (FAILED, CANCELLED)
        return may and not runs.was_no_job(self.run)

    @property
    def headline(self) -> str:
        """What its error comes to, in one line."""
        lines = (self.run.error or "").strip().splitlines()
        return lines[-1] if lines else ""


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
        Column("attempts", "", lambda row: row.run.attempts),
        Column("worker", "", lambda row: row.run.worker),
        Column("error", "", lambda row: row.run.error),
    ],
    key=col(Run.id),
    name="jobs",
)


@dataclass(frozen=True)
class Waiting:
    """What waits and works of one kind of job."""

    kind: str
    queue: str | None
    """None: this process does not know the job, so it cannot say."""
    n_queued: int
    n_running: int
    n_silent: int
    oldest: datetime | None
    """When the one that waits longest was asked for."""


@dataclass(frozen=True)
class Worker:
    """A worker by what it was last heard of."""

    name: str
    run: Run
    silent: bool


@dataclass(frozen=True)
class Queue:
    """The queue as it stands."""

    waiting: Sequence[Waiting]
    workers: Sequence[Worker]
    unheard: Sequence[str]
    """Queues where something waits and no worker has been heard of; empty name: not known."""
    n_failed: Mapping[str, int]
    """Failed runs by kind among the newest, which can be queued again together."""

    @property
    def n_queued(self) -> int:
        """How many runs wait."""
        return sum(row.n_queued for row in self.waiting)

    @property
    def n_running(self) -> int:
        """How many are under way."""
        return sum(row.n_running for row in self.waiting)

    @property
    def n_silent(self) -> int:
        """How many of those have lost their worker."""
        return sum(row.n_silent for row in self.waiting)

    @property
    def oldest(self) -> datetime | None:
        """Since when the one that waits longest does."""
        return min((row.oldest for row in self.waiting if row.oldest), default=None)


@dataclass(frozen=True)
class ListPage:
    """The queue, and runs, newest first."""

    filters: Filters
    queue: Queue
    table: Table[Row]
    kinds: Sequence[str]
    roles: Sequence[str]
    retried_at_once: int = RETRIED_AT_ONCE
    statuses: Sequence[str] = (QUEUED, RUNNING, DONE, FAILED, CANCELLED)


@dataclass(frozen=True)
class RowPage:
    """One row alone, as its own refresh asks for it."""

    row: Row


@dataclass(frozen=True)
class Lines:
    """The newest lines of a run's log, oldest first."""

    lines: Sequence[RunLog]
    older: UUID | None


@dataclass(frozen=True)
class CurvesPage:
    """What a run measures, drawn."""

    plots: Sequence[Plot]


@dataclass(frozen=True)
class LogPage:
    """One run's log, newest line first."""

    row: Row
    lines: Slice[RunLog]
    level: str
    levels: Sequence[str] = LEVELS


@dataclass(frozen=True)
class DetailPage:
    """One run: how far it is, what it measures and says, what it made."""

    row: Row
    cursor: str
    training: TrainingRun | None
    plots: Sequence[Plot]
    log: Lines
    datasets_made: Sequence[Dataset]
    evaluations: Sequence[Evaluation]
    levels: Sequence[str] = LEVELS


@routes.get("", name="runs.list")
def show_list(
    request: Request,
    session: Reading,
    filters: Annotated[Filters, Depends()],
    asked: Annotated[Asked, Depends()],
) -> Response:
    """Show the queue, and runs, newest first."""
    if asked.format:
        return LISTING.export(_matching(filters), asked, _rows)
    template = "runs/_rows.html" if wants_rows(request) else "runs/list.html"
    return render(request, template, list_page(session, filters, asked))


@routes.post("/retry-failed", name="runs.retry_failed")
def retry_failed(
    request: Request, by: ByOperator, kind: Annotated[str, Form()], reason: Reason
) -> Response:
    """Queue the newest failed runs of one kind again."""
    with by.changing("run.retry_failed", "job", kind, reason) as change:
        again = _failed(change.session, kind)
        if not again:
            raise Conflict("failed runs", kind, "a job with failed runs", "Nothing was changed.")
        for identifier in again:
            runs.retry(change.session, identifier)
        change.after({"queued": len(again), "runs": [str(identifier) for identifier in again]})
    return see(
        link_to(request, "runs.list", {"kind": kind}),
        "Queued again: they go on from what they had stored.",
    )


@routes.get("/{id}", name="runs.detail")
def show_detail(request: Request, session: Reading, id: UUID) -> HTMLResponse:
    """Show one run."""
    return render(request, "runs/detail.html", detail(session, id))


@routes.get("/{id}/row", name="runs.row")
def show_row(request: Request, session: Reading, id: UUID) -> HTMLResponse:
    """Answer one row of the list, as an open run asks for every two seconds."""
    return render(request, "runs/_live_row.html", RowPage(Row(get_run(session, id))))


@routes.get("/{id}/curves", name="runs.curves")
def show_curves(request: Request, session: Reading, id: UUID) -> HTMLResponse:
    """Answer the pictures of what a run measures, as a live page asks for when there is more."""
    get_run(session, id)
    return render(request, "runs/_curves.html", CurvesPage(plots(measured(session, id))))


@routes.get("/{id}/events", name="runs.events")
def follow(
    request: Request,
    session: Reading,
    id: UUID,
    after: Annotated[str, Query()] = "",
    last_event_id: Annotated[str, Header()] = "",
) -> EventStream:
    """Stream what is new of a run: how it stands, that it measured more, what it logs."""
    get_run(session, id)
    return EventStream(lambda cursor: look(request, id, cursor), last_event_id or after)


@routes.get("/{id}/log", name="runs.log")
def show_log(
    request: Request, session: Reading, id: UUID, level: str = "", before: UUID | None = None
) -> HTMLResponse:
    """Show a run's log, newest line first."""
    run = get_run(session, id)
    lines = newest_first(session, _lines(id, level), col(RunLog.id), before, LINES_SHOWN)
    template = "runs/_log_rows.html" if wants_rows(request) else "runs/log.html"
    return render(request, template, LogPage(Row(run), lines, level))


@routes.get("/{id}/log.txt", name="runs.log_file")
def download_log(session: Reading, id: UUID) -> StreamingResponse:
    """Answer a run's log as a text file, oldest line first."""
    run = get_run(session, id)
    return StreamingResponse(
        _log_text(id),
        media_type="text/plain; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{_file_name(run)}.log"'},
    )


@routes.post("/{id}/cancel", name="runs.cancel")
def cancel(request: Request, by: ByOperator, id: UUID, reason: Reason) -> Response:
    """Cancel a queued or running run."""
    with by.changing("run.cancel", "run", id, reason) as change:
        change.before(_state(get_run(change.session, id)))
        run = runs.cancel(change.session, id)
        change.after(_state(run))
        page = page_of(request, change.session, run)
    return see(page, "Cancelled. Retry queues it again.")


@routes.post("/{id}/retry", name="runs.retry")
def retry(request: Request, by: ByOperator, id: UUID, reason: Reason) -> Response:
    """Queue a failed, cancelled or lost run again."""
    with by.changing("run.retry", "run", id, reason) as change:
        change.before(_state(get_run(change.session, id)))
        run = runs.retry(change.session, id)
        change.after(_state(run))
        page = page_of(request, change.session, run)
    return see(page, "Queued again: it goes on from what it had stored.")


def page_of(request: Request, session: Session, run: Run) -> str:
    """Return the address of the page that shows a run: of its training, if it is one."""
    one_of = select(col(TrainingRun.id)).where(col(TrainingRun.run_id) == run.id)
    training = session.scalar(one_of.limit(1))
    if training is not None:
        return link_to(request, "trainings.detail", id=training)
    return link_to(request, "runs.detail", id=run.id)


def list_page(session: Session, filters: Filters, asked: Asked) -> ListPage:
    """Return one page of runs."""
    kinds = session.scalars(select(col(Run.kind)).order_by(col(Run.id).desc()).limit(1_000)).all()
    table = LISTING.page(session, _matching(filters), asked, filters.query, _rows)
    roles = get_settings().roles
    return ListPage(filters, queue(session, filters.kind), table, sorted(set(kinds)), roles)


def queue(session: Session, kind: str = "") -> Queue:
    """Return the queue as it stands, from the partial index of unfinished runs.

    Failed runs of `kind`, which can be queued again together, are counted up to what one may.
    """
    lost_before = now() - timedelta(seconds=get_settings().lost_after_s)
    is_queued, is_running = col(Run.status) == QUEUED, col(Run.status) == RUNNING
    is_silent = is_running & (col(Run.heartbeat_at) < lost_before)
    found = session.execute(
        select(
            col(Run.kind),
            func.count().filter(is_queued),
            func.count().filter(is_running),
            func.count().filter(is_silent),
            func.min(case((is_queued, col(Run.created_at)))),
        )
        .where(col(Run.status).in_(UNFINISHED))
        .group_by(col(Run.kind))
        .order_by(col(Run.kind))
    )
    waiting = [Waiting(row[0], runs.queue_of(row[0]), *row[1:]) for row in found]
    busy = session.scalars(
        select(Run).where(is_running).order_by(col(Run.heartbeat_at).desc()).limit(WORKERS_SHOWN)
    )
    workers = [Worker(run.worker or "", run, runs.is_silent(run)) for run in busy]
    counted = len(_failed(session, kind)) if kind else 0
    return Queue(
        waiting, workers, _unheard(session, waiting, workers), {kind: counted} if counted else {}
    )


def _unheard(
    session: Session, waiting: Sequence[Waiting], workers: Sequence[Worker]
) -> Sequence[str]:
    """Return the queues in which something waits that nobody seems to work on."""
    patience = timedelta(seconds=get_settings().lost_after_s)
    stuck = {row.queue or "" for row in waiting if row.oldest and now() - row.oldest > patience}
    if not stuck:
        return []
    heard = {runs.queue_of(worker.run.kind) or "" for worker in workers if not worker.silent}
    lately = session.execute(
        select(col(Run.kind), col(Run.finished_at)).order_by(col(Run.id).desc()).limit(200)
    )
    heard |= {
        runs.queue_of(kind) or ""
        for kind, finished in lately
        if finished is not None and now() - finished < HEARD_WITHIN
    }
    return sorted(stuck - heard)


def detail(session: Session, identifier: UUID) -> DetailPage:
    """Return the page of one run; raises NotFound."""
    run = get_run(session, identifier)
    training = session.scalar(
        select(TrainingRun).where(col(TrainingRun.run_id) == identifier).limit(1)
    )
    points = measured(session, identifier)
    log = newest_lines(session, identifier)
    datasets = session.scalars(select(Dataset).where(col(Dataset.run_id) == identifier)).all()
    evaluations = session.scalars(
        select(Evaluation).where(col(Evaluation.run_id) == identifier)
    ).all()
    return DetailPage(
        Row(run), cursor_of(run, points, log), training, plots(points), log, datasets, evaluations
    )


Points = Sequence[tuple[float, Mapping[str, Any]]]


def measured(session: Session, identifier: UUID) -> Points:
    """Return what a run measured, in order."""
    found = session.execute(
        select(col(RunMeasure.done), col(RunMeasure.measures))
        .where(col(RunMeasure.run_id) == identifier)
        .order_by(col(RunMeasure.done))
    )
    return [(done, measures) for done, measures in found]


def curve(points: Points, name: str) -> list[tuple[float, float]]:
    """Return the curve of one measure, as (done, value)."""
    return [
        (done, float(measures[name]))
        for done, measures in points
        if isinstance(measures.get(name), (int, float))
    ]


def plots(points: Points, more: Mapping[str, Sequence[tuple[float, float]]] = {}) -> list[Plot]:
    """Return the pictures of what a run measured: losses together, then one for each other.

    Args:
        points: of the run.
        more: curves to draw beside its losses, by name.
    """
    losses = {
        "training": curve(points, "loss"),
        "validation": curve(points, "validation_loss"),
        **more,
    }
    drawn = [
        plot(
            losses,
            label="Loss by step",
            x_title="step",
            y_title="loss",
            tones={name: "c-calm before" for name in more},
        )
    ]
    for name, title in (
        ("lr", "learning rate"),
        ("tokens_per_s", "tokens/s"),
        ("rows_per_s", "rows/s"),
    ):
        series = curve(points, name)
        if len(series) > 1:
            drawn.append(
                plot(
                    {title: series},
                    label=f"{title.capitalize()} by step",
                    y_title=title,
                    height=150,
                )
            )
    return [picture for picture in drawn if picture is not None]


def newest_lines(session: Session, identifier: UUID) -> Lines:
    """Return the newest lines of a run's log, oldest first."""
    found = newest_first(session, _lines(identifier), col(RunLog.id), None, LINES_SHOWN)
    return Lines(list(reversed(found.rows)), found.older)


def _lines(identifier: UUID, level: str = "") -> Select[Any]:
    query = select(RunLog).where(col(RunLog.run_id) == identifier)
    if not level:
        return query
    if level not in LEVELS:
        raise BadInput("level", level, f"one of {', '.join(LEVELS)}", "Name one of those.")
    least = {"info": (), "warning": ("DEBUG", "INFO"), "error": ("DEBUG", "INFO", "WARNING")}
    return query.where(col(RunLog.level).not_in(least[level]))


def _log_text(identifier: UUID) -> Iterator[str]:
    after: UUID | None = None
    while True:
        query = _lines(identifier).order_by(col(RunLog.id)).limit(LINES_AT_ONCE)
        with session_scope() as session:
            lines = session.scalars(query.where(col(RunLog.id) > after) if after else query).all()
        if not lines:
            return
        yield "".join(
            f"{line.logged_at:%Y-%m-%dT%H:%M:%S.%f%z} {line.level} {line.message}\n"
            for line in lines
        )
        after = lines[-1].id


def _file_name(run: Run) -> str:
    return f"{''.join(c if c.isalnum() else '-' for c in run.kind)}-{run.id}"


# What is new of a run


def cursor_of(run: Run, points: Points, log: Lines) -> str:
    """Return where a stream goes on from what a page shows."""
    done = points[-1][0] if points else None
    line = log.lines[-1].id if log.lines else None
    return _cursor(_mark(run), done, line)


def look(request: Request, identifier: UUID, cursor: str) -> News:
    """Return what is new of a run since `cursor`: three reads by key, whatever its size."""
    mark, done, line = _parts(cursor)
    with session_scope() as session:
        session.execute(text("SET TRANSACTION READ ONLY"))
        session.execute(text(f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS}"))
        run = session.get(Run, identifier)
        if run is None:
            return News([], cursor, ended=True)
        furthest = session.scalar(
            select(func.max(col(RunMeasure.done))).where(col(RunMeasure.run_id) == identifier)
        )
        query = _lines(identifier).order_by(col(RunLog.id)).limit(LINES_AT_ONCE)
        lines = session.scalars(query.where(col(RunLog.id) > line) if line else query).all()
    row, events = Row(run), []
    new_mark = _mark(run)
    if new_mark != mark:
        events.append(Event("state", _rendered(request, "runs/_live_state.html", RowPage(row))))
    if furthest is not None and furthest != done:  # less is more, too: another start began
        events.append(Event("measures", f"{furthest:g}"))
    if lines:
        events.append(Event("lines", _rendered(request, "runs/_lines.html", Lines(lines, None))))
    last = lines[-1].id if lines else line
    # The last lines are written before a run ends, so this look has seen them or the next will.
    ended = not row.open and len(lines) < LINES_AT_ONCE
    return News(events, _cursor(new_mark, furthest, last), ended)


def _rendered(request: Request, template: str, page: Any) -> str:
    return bytes(render(request, template, page).body).decode()


def _mark(run: Run) -> str:
    """Return what changes whenever the state of a run reads otherwise."""
    said = f"{run.status} {run.progress} {run.attempts} {run.error} {runs.is_silent(run)}"
    return hashlib.sha256(said.encode()).hexdigest()[:12]


def _cursor(mark: str, done: float | None, line: UUID | None) -> str:
    return f"{mark}/{'' if done is None else repr(done)}/{line or ''}"


def _parts(cursor: str) -> tuple[str, float | None, UUID | None]:
    """Return the parts of a cursor; one that is none begins at the start."""
    try:
        mark, done, line = cursor.split("/")
        return mark, float(done) if done else None, UUID(line) if line else None
    except ValueError:
        return "", None, None


def get_run(session: Session, identifier: UUID) -> Run:
    """Return a run by id; raises NotFound."""
    run = session.get(Run, identifier)
    if run is None:
        raise NotFound("run", str(identifier), "the id of a stored run", "See the list.")
    return run


def _failed(session: Session, kind: str) -> Sequence[UUID]:
    return session.scalars(
        select(col(Run.id))
        # One that never started is no job: see `foundation.runs.was_no_job`.
        .where(col(Run.status) == FAILED, col(Run.kind) == kind, col(Run.attempts) > 0)
        .order_by(col(Run.id).desc())
        .limit(RETRIED_AT_ONCE)
    ).all()


def _state(run: Run) -> dict[str, Any]:
    return {"kind": run.kind, "status": run.status, "attempts": run.attempts, "error": run.error}


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


def _said(name: str, value: Any) -> str:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return str(value)
    if name.endswith("_s") and not name.endswith("per_s"):
        return duration(value)
    if name.endswith("_mb"):
        return f"{value / 1024:.1f} GiB" if value >= 1024 else f"{value:.0f} MiB"
    return f"{value:.3g}" if abs(value) < 0.01 and value else number(round(value, 4))
