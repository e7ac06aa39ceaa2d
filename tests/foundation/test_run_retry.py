"""A run that ended badly is queued again: the same row, which its next worker takes up."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from brokers import Broker
from sqlalchemy import text
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlmodel import Session

from foundation import runs
from foundation.database import get_engine, session_scope
from foundation.errors import Conflict, NotFound
from foundation.ids import new_id
from foundation.runs import RunHandle, cancel, enqueue, execute, get_run, job, retry, sweep
from foundation.settings import get_settings
from foundation.tables import CANCELLED, DONE, FAILED, QUEUED, RUNNING, Run, now

broken = [True]


@job("test.mend")
def mend(run: RunHandle) -> dict[str, Any]:
    if broken:
        raise ValueError("not yet")
    return {"attempts": run.attempts}


@pytest.fixture(autouse=True)
def queue(broker: Broker) -> Broker:
    broken[:] = [True]
    return broker


def stored(session: Session, status: str, **columns: Any) -> Run:
    run = Run(**{"kind": "test.mend", "status": status, "attempts": 1, **columns})
    session.add(run)
    session.commit()
    return run


def test_a_failed_run_goes_on_as_itself(queue: Broker, session: Session) -> None:
    run = enqueue(session, "test.mend")
    session.commit()
    execute(run.id)
    assert get_run(session, run.id).status == FAILED
    broken.clear()
    again = retry(session, run.id)
    assert (again.id, again.status, again.error, again.finished_at) == (run.id, QUEUED, None, None)
    queue.await_messages(1)
    session.commit()
    queue.await_messages(2)
    done = execute(run.id)
    assert done is not None
    assert (done.status, done.result) == (DONE, {"attempts": 1})


def test_a_lost_run_is_not_waited_for(session: Session) -> None:
    run = stored(
        session,
        RUNNING,
        attempts=3,
        worker="gone:1:1",
        heartbeat_at=now() - timedelta(hours=1),
    )
    assert retry(session, run.id).status == QUEUED
    session.commit()
    assert sweep().failed == ()


@pytest.mark.parametrize("status", [QUEUED, RUNNING, DONE])
def test_what_waits_works_or_is_done_is_left_alone(session: Session, status: str) -> None:
    run = stored(session, status, worker="here:1:1", heartbeat_at=now())
    with pytest.raises(Conflict, match=f"is {status}"):
        retry(session, run.id)
    session.rollback()
    assert get_run(session, run.id).status == status


def test_a_cancelled_run_is_retried_once_its_worker_has_stopped(session: Session) -> None:
    run = stored(session, CANCELLED, worker="here:1:1", heartbeat_at=now())
    with pytest.raises(Conflict, match="still held by here:1:1"):
        retry(session, run.id)
    session.rollback()
    handle = RunHandle(get_run(session, run.id), "here:1:1")
    session.rollback()
    runs._let_go(handle)
    assert retry(session, run.id).status == QUEUED


def test_a_worker_that_stops_for_a_cancelled_run_lets_it_go(session: Session) -> None:
    @job("test.cancelled_inside")
    def cancelled_inside(run: RunHandle) -> None:
        cancel(session, run.id)
        session.commit()
        run.progress(1, 2, "steps")

    run = enqueue(session, "test.cancelled_inside")
    session.commit()
    assert execute(run.id) is None
    assert get_run(session, run.id).worker is None
    assert retry(session, run.id).status == QUEUED


def test_two_who_retry_at_once_queue_it_once(queue: Broker, session: Session) -> None:
    run = stored(session, FAILED)
    retry(session, run.id)
    with pytest.raises(Conflict, match="is queued"):
        retry(session, run.id)
    session.commit()
    queue.await_messages(1)


def test_a_job_that_this_process_does_not_know_is_sent_by_the_sweeper(
    queue: Broker, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = stored(session, FAILED)
    with monkeypatch.context() as elsewhere:
        elsewhere.delitem(runs._jobs, "test.mend")
        retry(session, run.id)
        session.commit()
        queue.await_messages(0)
    assert sweep().requeued == (run.id,)
    queue.await_messages(1)


def test_what_a_command_left_behind_is_no_job_to_queue_again(session: Session) -> None:
    run = stored(session, FAILED, kind="flywheel.backup", attempts=0)
    with pytest.raises(Conflict, match="was no job of a worker"):
        retry(session, run.id)
    session.rollback()
    assert get_run(session, run.id).status == FAILED


def test_an_unknown_run_is_named(session: Session) -> None:
    nobody = new_id()
    with pytest.raises(NotFound, match=str(nobody)):
        retry(session, nobody)


def test_a_run_that_ends_while_somebody_cancels_it_stays_done(session: Session) -> None:
    run = stored(session, RUNNING, worker="w", heartbeat_at=now())
    ending = Session(get_engine())
    ending.execute(
        text("UPDATE run SET status = 'done', finished_at = now() WHERE id = :id"), {"id": run.id}
    )

    waiting = text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )

    def cancel_it() -> str:
        with session_scope() as other:
            return cancel(other, run.id).status

    with ThreadPoolExecutor(1) as threads:
        cancelling = threads.submit(cancel_it)
        while not session.scalar(waiting):
            assert not cancelling.done()
        ending.commit()
        ending.close()
        with pytest.raises(Conflict, match="is done"):
            cancelling.result()
    assert get_run(session, run.id).status == DONE


def test_what_goes_wrong_with_a_heartbeat_does_not_end_it(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run without heartbeats is taken for lost, and done twice."""
    monkeypatch.setattr(get_settings(), "heartbeat_s", 0.02)
    run = stored(session, RUNNING, worker="w", heartbeat_at=now())
    handle = RunHandle(run, "w")
    beats = threading.Semaphore(0)
    beat = handle._beat

    def stumble(progress: dict[str, Any] | None) -> None:
        beats.release()
        handle._beat = beat_again  # type: ignore[method-assign]
        raise PoolTimeout("QueuePool limit reached")

    def beat_again(progress: dict[str, Any] | None) -> None:
        beat(progress)
        beats.release()

    handle._beat = stumble  # type: ignore[method-assign, assignment]
    with handle.alive():
        assert beats.acquire(timeout=30)
        assert beats.acquire(timeout=30)
