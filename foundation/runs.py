"""Long jobs as rows: queued, claimed by one worker, kept alive by heartbeats, resumed after a loss.

A job is a function `(run, **params) -> result`, registered by `@job(name)`. `enqueue` adds its row
and sends the message only after the commit; a worker claims the row, so a message delivered twice
runs once; `sweep` re-queues rows whose worker fell silent. Jobs must be idempotent: they may be
started again from the top and should find what they had done. What a run measures and logs is
kept beside it (`foundation.run_measures`, `foundation.run_log`).

A run whose database goes away is no failure: it goes back to the queue when that answers again.
Whether a worker is silent is told by the database's clock alone, since those of machines differ.
"""

import logging
import os
import socket
import threading
import traceback
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from kombu.exceptions import KombuError as BrokerError
from sqlalchemy import DateTime, event, func, or_, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session as SqlAlchemySession
from sqlmodel import Session, col, select

from foundation import run_meters
from foundation.database import session_scope
from foundation.errors import Conflict, DatabaseUnavailable, FlywheelError, NotFound
from foundation.outage import first_line, is_outage, patiently
from foundation.queue import QUEUES, get_queue, queue_name
from foundation.redaction import redact
from foundation.run_log import RunLines, collecting
from foundation.run_measures import RunMeasures, finite
from foundation.settings import get_settings
from foundation.tables import CANCELLED, DONE, FAILED, QUEUED, RUNNING, Run, now
from foundation.trace_context import traceparent

log = logging.getLogger(__name__)

JobFunction = Callable[..., dict[str, Any] | None]


class RunCancelled(FlywheelError):
    """Somebody cancelled the run, or another worker took it over."""


@dataclass(frozen=True)
class Job:
    """A registered job: its function and the queue its messages go to."""

    name: str
    queue: str
    function: JobFunction


_jobs: dict[str, Job] = {}
UNSENT_FACTOR = 10
"""A queued run is sent again after this many times `lost_after_s`."""

_ERROR_CHARACTERS = 4_000
"""Kept of what went wrong."""

_UNSENT = "flywheel.unsent_runs"


def clock() -> Any:
    """Return the database's time, as an expression: of its machine, whichever worker asks."""
    return func.now(type_=DateTime(timezone=True))


def job(name: str, queue: str = "cpu") -> Callable[[JobFunction], JobFunction]:
    """Register `function(run: RunHandle, **params)` as the job `name` on `queue`."""

    def register(function: JobFunction) -> JobFunction:
        _jobs[name] = Job(name, queue, function)
        return function

    return register


def register_tasks() -> None:
    """Bind every known job to the Celery application; the worker calls this after its imports."""
    queue = get_queue()
    for known in _jobs.values():
        queue.task(name=known.name)(_message_handler())


def _message_handler() -> Callable[[str], None]:
    def take_up(run_id: str) -> None:
        execute(UUID(run_id))

    return take_up


class RunHandle:
    """What a job sees of its run: report progress, notice a cancellation."""

    def __init__(self, run: Run, worker: str) -> None:
        self.id, self.kind, self.role, self.attempts = run.id, run.kind, run.role, run.attempts
        self.worker = worker
        self.lines = RunLines(run.id)
        self._measures = RunMeasures(run.id, run.attempts)
        self._stop = threading.Event()
        self._lost = threading.Event()
        self._is_cut_off = False

    def progress(self, done: float, total: float, unit: str, **measures: Any) -> None:
        """Store how far the job is, with its latest measurements; also a heartbeat.

        What is new of the measurements becomes a point of the run's curves (`RunMeasure`). A
        database that is away costs this report; the next one says all that it would have.

        Raises:
            RunCancelled: the run is no longer this worker's.
        """
        measures = finite(measures)
        self._measures.add(done, measures)
        with self._forgiving("its progress"):
            self._beat({"done": done, "total": total, "unit": unit, **measures})
        self.check()

    def check(self) -> None:
        """Raise RunCancelled if somebody cancelled the run or another worker holds it."""
        if self._lost.is_set():
            raise RunCancelled(f"run {self.id}: cancelled or taken over, this worker stops here.")

    @contextmanager
    def alive(self) -> Iterator[None]:
        """Send heartbeats from a thread for as long as the block runs."""
        thread = threading.Thread(target=self._beat_until_stopped, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join(timeout=10)

    def _beat_until_stopped(self) -> None:
        while not self._stop.wait(get_settings().heartbeat_s):
            # Whatever it was: without this thread the run would be taken for lost, and done twice.
            with self._forgiving("its heartbeat"):
                self._beat(None)
            self.write_lines()

    def write_lines(self) -> None:
        """Write what the run has logged; a database that is away costs no more than a warning."""
        with self._forgiving("its log"), session_scope() as session:
            self.lines.write(session)

    def write_rest(self) -> None:
        """Write what the run has measured and logged and not written yet, before it ends."""
        with self._forgiving("its last measures"):
            self._beat(None, at_once=True)
        self.write_lines()

    @contextmanager
    def _forgiving(self, what: str) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, DatabaseUnavailable) as error:
            if not self._is_cut_off:  # said once, however often a job reports
                log.warning(
                    "run %s: %s could not be written (%s)", self.id, what, first_line(error)
                )
            self._is_cut_off = True
        else:
            self._is_cut_off = False

    def _beat(self, progress: dict[str, Any] | None, *, at_once: bool = False) -> None:
        values: dict[str, Any] = {"heartbeat_at": clock()}
        if progress is not None:
            values["progress"] = progress
        with session_scope() as session:
            mine = session.execute(
                update(Run)
                .where(
                    col(Run.id) == self.id,
                    col(Run.status) == RUNNING,
                    col(Run.worker) == self.worker,
                )
                .values(**values)
            )
            is_mine: bool = mine.rowcount > 0  # type: ignore[attr-defined]
            if is_mine and (at_once or self._measures.due):
                self._measures.write(session)
        if not is_mine:
            self._lost.set()


def enqueue(
    session: Session, kind: str, params: dict[str, Any] | None = None, role: str | None = None
) -> Run:
    """Add a queued run and send its message once the session has committed.

    Raises:
        NotFound: no job `kind` is registered in this process.
    """
    known = _job(kind)
    run = _queued(kind, params, role)
    session.add(run)
    session.flush()
    session.refresh(run, ["created_at"])  # which the database has said
    send_after_commit(session, known, run.id)
    return run


def _queued(kind: str, params: dict[str, Any] | None, role: str | None) -> Run:
    """Return the row of a run that is ordered now, with the trace of who orders it."""
    run = Run(kind=kind, role=role, params=params or {}, status=QUEUED, created_at=clock())
    run.traceparent = traceparent()
    return run


def send_after_commit(session: Session, known: Job, run_id: UUID) -> None:
    """Send a run's message when the surrounding transaction commits, never if it rolls back."""
    session.info.setdefault(_UNSENT, []).append((known, run_id))


@event.listens_for(SqlAlchemySession, "after_commit")
def _send_unsent(session: SqlAlchemySession) -> None:
    if session.in_nested_transaction():
        return  # a savepoint was released; the transaction goes on
    for known, run_id in session.info.pop(_UNSENT, []):
        _send(known, run_id)


@event.listens_for(SqlAlchemySession, "after_rollback")
def _forget_unsent(session: SqlAlchemySession) -> None:
    if not session.in_nested_transaction():
        session.info.pop(_UNSENT, None)


def _send(known: Job, run_id: UUID) -> None:
    try:
        get_queue().send_task(known.name, args=[str(run_id)], queue=queue_name(known.queue))
    except (OSError, BrokerError, SQLAlchemyError) as error:
        reason = str(error).partition("\n")[0]
        log.warning(
            "run %s: broker not reachable (%s); the sweeper will send it again", run_id, reason
        )


def run_here(kind: str, params: dict[str, Any] | None = None, role: str | None = None) -> Run:
    """Do a job in this process, with a row like any other; its error is raised here as well.

    Raises:
        NotFound: no job `kind` is registered in this process.
        RunCancelled: somebody cancelled it meanwhile.
    """
    _job(kind)
    with session_scope() as session:
        run = _queued(kind, params, role)
        session.add(run)
        session.flush()
        session.refresh(run, ["created_at"])
    finished = execute(run.id, reraise=True)
    if finished is None:
        raise RunCancelled(f"run {run.id}: cancelled or taken over by a worker.")
    return finished


def execute(run_id: UUID, *, reraise: bool = False) -> Run | None:
    """Claim a run and do its job here; return the finished row, or None if it was not claimable.

    A failure is stored in the row; `reraise` raises it here too, for a caller in the foreground.
    A worker whose database goes away waits for it, with what it has in hand: to claim, to say how
    the job ended, or to put it back into the queue if that could not do without.
    """
    worker = f"{socket.gethostname()}:{os.getpid()}:{threading.get_ident()}"
    run = patiently(lambda: _claim(run_id, worker), _unsent_after_s(), f"run {run_id}")
    if run is None:
        log.info("run %s: already taken, finished or cancelled", run_id)
        return None
    with run_meters.watching(run) as ended:
        finished = _do(run, worker, reraise=reraise)
        ended(finished)
    return finished


def _do(run: Run, worker: str, *, reraise: bool) -> Run | None:
    handle = RunHandle(run, worker)
    log.info("run %s: %s starts, attempt %d", run.id, run.kind, run.attempts)
    handle.lines.say("INFO", f"{run.kind} starts on {worker}, attempt {run.attempts}")
    try:
        with collecting(handle.lines), handle.alive():
            result = _job(run.kind).function(handle, **run.params)
    except RunCancelled as error:
        log.warning("%s", error)
        handle.lines.say("WARNING", "stopped here: cancelled, or taken over by another worker")
        handle.write_rest()
        _let_go(handle)
        return None
    except Exception as error:
        if is_outage(error) and not reraise:
            return _put_back(handle, error)
        reason = _describe(error)
        handle.lines.say("ERROR", reason)
        handle.write_rest()
        failed = _finish(handle, FAILED, None, reason)
        if reraise:
            raise
        log.exception("run %s: %s failed", run.id, run.kind)
        return failed
    handle.lines.say("INFO", f"{run.kind} is done")
    handle.write_rest()
    return _finish(handle, DONE, result, None)


def _describe(error: Exception) -> str:
    """Return what went wrong, without secrets that a library has put into its words."""
    if isinstance(error, FlywheelError):
        return redact(str(error)[: 2 * _ERROR_CHARACTERS])[:_ERROR_CHARACTERS]
    told = "".join(traceback.format_exception(error))  # may hold a whole statement or dataset
    return redact(told[-2 * _ERROR_CHARACTERS :])[-_ERROR_CHARACTERS:]


def _claim(run_id: UUID, worker: str) -> Run | None:
    with session_scope() as session:
        return session.execute(
            update(Run)
            .where(
                col(Run.id) == run_id,
                # Its own: an earlier try whose answer was lost on the way.
                or_(col(Run.status) == QUEUED, _is_lost(), _is_held_by(worker)),
            )
            .values(
                status=RUNNING,
                worker=worker,
                heartbeat_at=clock(),
                started_at=clock(),
                attempts=Run.attempts + 1,
            )
            .returning(Run)
        ).scalar_one_or_none()


def _is_lost() -> Any:
    lost_before = clock() - timedelta(seconds=get_settings().lost_after_s)
    return (col(Run.status) == RUNNING) & (col(Run.heartbeat_at) < lost_before)


def _is_held_by(worker: str) -> Any:
    return (col(Run.status) == RUNNING) & (col(Run.worker) == worker)


def _finish(
    handle: RunHandle, status: str, result: dict[str, Any] | None, error: str | None
) -> Run | None:
    def write() -> Run | None:
        with session_scope() as session:
            return session.execute(
                update(Run)
                .where(
                    col(Run.id) == handle.id,
                    col(Run.status).in_([RUNNING, status]),  # a commit's answer may be lost
                    col(Run.worker) == handle.worker,
                )
                .values(status=status, result=result, error=error, finished_at=clock())
                .returning(Run)
            ).scalar_one_or_none()

    return patiently(write, _unsent_after_s(), f"run {handle.id}")


def _put_back(handle: RunHandle, error: Exception) -> Run | None:
    """Queue a run again whose database went away, or fail it after too many starts."""
    reason = first_line(error)
    log.warning("run %s: the database went away in its middle (%s)", handle.id, reason)
    if handle.attempts >= get_settings().max_attempts:
        told = f"lost its database {handle.attempts} times, the last time: {reason}"
        return _finish(handle, FAILED, None, told)
    handle.lines.say("WARNING", f"the database went away, so it is queued again: {reason}")

    def write() -> Run | None:
        with session_scope() as session:
            run = session.execute(
                update(Run)
                .where(col(Run.id) == handle.id, _is_held_by(handle.worker))
                .values(status=QUEUED, worker=None, heartbeat_at=clock())
                .returning(Run)
            ).scalar_one_or_none()
            if run is not None:
                send_after_commit(session, _job(run.kind), run.id)
            return run

    put_back = patiently(write, _unsent_after_s(), f"run {handle.id}")
    handle.write_lines()
    return put_back


def _let_go(handle: RunHandle) -> None:
    """Say in the row of a cancelled run that its worker has stopped, so that it may be retried."""
    with suppress(SQLAlchemyError), session_scope() as session:
        session.execute(
            update(Run)
            .where(
                col(Run.id) == handle.id,
                col(Run.status) == CANCELLED,
                col(Run.worker) == handle.worker,
            )
            .values(worker=None)
        )


@dataclass(frozen=True)
class Swept:
    """What one sweep did: runs sent again, and runs given up after too many starts."""

    requeued: tuple[UUID, ...]
    failed: tuple[UUID, ...]


def sweep() -> Swept:
    """Re-queue runs whose worker fell silent and runs whose message was lost.

    A run that was started `max_attempts` times fails instead. Safe to call from several processes:
    rows are locked and skipped.
    """
    settings = get_settings()
    # A queued run may just wait its turn, so its message is presumed lost only much later.
    told_at = func.coalesce(col(Run.heartbeat_at), col(Run.created_at))
    unsent_since = clock() - timedelta(seconds=_unsent_after_s())
    unsent = (col(Run.status) == QUEUED) & (told_at < unsent_since)
    requeued, failed = [], []
    with session_scope() as session:
        rows = session.exec(
            select(Run).where(or_(_is_lost(), unsent)).with_for_update(skip_locked=True)
        ).all()
        for run in rows:
            if run.status == RUNNING:
                run_meters.lost.inc(run.kind)
            if run.attempts >= settings.max_attempts:
                run.status, run.finished_at = FAILED, clock()
                run.error = f"lost its worker {run.attempts} times; see the worker's log"
                failed.append(run.id)
            elif run.kind in _jobs:
                run.status, run.heartbeat_at, run.worker = QUEUED, clock(), None
                send_after_commit(session, _jobs[run.kind], run.id)
                requeued.append(run.id)
            session.add(run)
    run_meters.swept.inc("requeued", by=len(requeued))
    run_meters.swept.inc("failed", by=len(failed))
    return Swept(tuple(requeued), tuple(failed))


def cancel(session: Session, run_id: UUID) -> Run:
    """Cancel a queued or running run; its worker notices at its next heartbeat.

    Raises:
        NotFound: no such run.
        Conflict: it has already ended.
    """
    run = _locked(session, run_id)
    if run.status not in (QUEUED, RUNNING):
        raise Conflict(
            "run",
            f"{run_id} is {run.status}",
            "a queued or running run",
            "There is nothing left to cancel.",
        )
    run.status, run.finished_at = CANCELLED, clock()
    session.add(run)
    session.flush()
    session.refresh(run)
    return run


def retry(session: Session, run_id: UUID) -> Run:
    """Queue a failed, cancelled or lost run again: the same row, which goes on from what it left.

    Its starts are counted anew. A run whose job this process does not know is sent by the sweeper.

    Raises:
        NotFound: no such run.
        Conflict: it is done, waits, or a worker holds it (a cancelled one's may not have stopped),
            or no worker ever started it: a command has told of itself, and no job would take it up.
    """
    run = _locked(session, run_id)
    is_old = not _has_beaten_lately(session, run)
    if run.status not in (FAILED, CANCELLED) and not (run.status == RUNNING and is_old):
        raise Conflict(
            "run",
            f"{run_id} is {run.status}",
            "a failed, cancelled or lost run",
            "Order another one."
            if run.status == DONE
            else "Wait for it, or cancel it. A worker "
            f"that died is known by {get_settings().lost_after_s:g} s of silence.",
        )
    if was_no_job(run):
        raise Conflict(
            "run",
            f"{run_id} was no job of a worker",
            "a run that a worker started",
            "Give its command again.",
        )
    if run.status == CANCELLED and run.worker is not None and not is_old:
        raise Conflict(
            "run",
            f"{run_id} is still held by {run.worker}",
            "a run that its worker has let go",
            "It stops at its next safe point: try again in a moment.",
        )
    run_meters.retried.inc(run.kind)
    run.status, run.attempts, run.worker = QUEUED, 0, None
    run.error = run.result = run.finished_at = None
    known = _jobs.get(run.kind)
    run.heartbeat_at = clock() if known else clock() - timedelta(seconds=_unsent_after_s())
    session.add(run)
    session.flush()
    session.refresh(run)
    if known is not None:
        send_after_commit(session, known, run.id)
    return run


def was_no_job(run: Run) -> bool:
    """Say whether a command left this run behind when it failed: each job has started once."""
    return run.status == FAILED and run.attempts == 0


def _locked(session: Session, run_id: UUID) -> Run:
    """Return a run by id as it is now, locked: its worker may be ending it; raises NotFound."""
    run = session.get(Run, run_id, with_for_update=True, populate_existing=True)
    return get_run(session, run_id) if run is None else run  # which says how to find one


def is_silent(run: Run) -> bool:
    """Say whether a running run's worker has not been heard of for `lost_after_s`.

    By this machine's clock, to be shown: what acts upon silence asks the database.
    """
    lost_after = timedelta(seconds=get_settings().lost_after_s)
    is_old = run.heartbeat_at is None or now() - run.heartbeat_at > lost_after
    return run.status == RUNNING and is_old


def works_anybody(session: Session) -> bool:
    """Say whether some worker holds a run and is heard of; an idle one is not seen."""
    lost_before = clock() - timedelta(seconds=get_settings().lost_after_s)
    found = select(Run.id).where(col(Run.status) == RUNNING, col(Run.heartbeat_at) >= lost_before)
    return session.exec(found.limit(1)).first() is not None


def _has_beaten_lately(session: Session, run: Run) -> bool:
    lost_before = clock() - timedelta(seconds=get_settings().lost_after_s)
    found = select(Run.id).where(col(Run.id) == run.id, col(Run.heartbeat_at) >= lost_before)
    return session.exec(found).first() is not None


def _unsent_after_s() -> float:
    """Return how long a message is believed in, and a database that is away waited for."""
    return UNSENT_FACTOR * get_settings().lost_after_s


def queue_of(kind: str) -> str | None:
    """Return the queue that a job's messages go to; None if this process does not know the job."""
    return _jobs[kind].queue if kind in _jobs else None


def kinds(queues: Collection[str] = QUEUES) -> list[str]:
    """Return the jobs of some queues that this process knows."""
    return [known.name for known in _jobs.values() if known.queue in queues]


def get_run(session: Session, run_id: UUID) -> Run:
    """Return a run by id; raises NotFound."""
    run = session.get(Run, run_id, populate_existing=True)
    if run is None:
        raise NotFound(
            "run", str(run_id), "the id of a stored run", "List them with: flywheel run list"
        )
    return run


def _job(kind: str) -> Job:
    try:
        return _jobs[kind]
    except KeyError:
        raise NotFound(
            "job",
            kind,
            f"one of {', '.join(sorted(_jobs)) or 'none registered'}",
            "Import the room's tasks module first.",
        ) from None
