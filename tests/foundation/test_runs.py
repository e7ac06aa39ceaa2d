"""Runs: claimed once, resumed after a loss, failed after too many, sent after the commit."""

import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from brokers import Broker
from sqlalchemy import text, update
from sqlmodel import Session, col

from foundation.database import explain_row
from foundation.errors import Conflict, NotFound
from foundation.queue import forget_delivered
from foundation.runs import RunHandle, cancel, enqueue, execute, get_run, job, sweep
from foundation.tables import CANCELLED, DONE, FAILED, QUEUED, RUNNING, Run, now

started: list[str] = []


@job("test.count")
def count(run: RunHandle, to: int) -> dict[str, Any]:
    started.append(str(run.id))
    for step in range(to):
        run.progress(step + 1, to, "steps")
    return {"counted": to}


@job("test.fail")
def fail(run: RunHandle) -> None:
    raise ValueError("the disk is full")


@job("test.wait")
def wait(run: RunHandle) -> None:
    for _ in range(2000):
        time.sleep(0.05)
        run.check()


@pytest.fixture
def queue(broker: Broker) -> Broker:
    started.clear()
    return broker


def test_a_run_is_sent_after_the_commit_only(queue: Broker, session: Session) -> None:
    enqueue(session, "test.count", {"to": 2})
    queue.await_messages(0)
    session.commit()
    queue.await_messages(1)


def test_a_run_that_was_just_ordered_can_be_told_whole(queue: Broker, session: Session) -> None:
    run = enqueue(session, "test.count", {"to": 2})
    session.commit()
    told = explain_row(run)  # outside of its session, as routes do
    assert list(told) == list(Run.model_fields)
    assert abs((now() - run.created_at).total_seconds()) < 60


def test_a_rolled_back_run_is_never_sent(queue: Broker, session: Session) -> None:
    enqueue(session, "test.count", {"to": 2})
    session.rollback()
    session.commit()
    queue.await_messages(0)


def test_a_job_runs_and_leaves_its_result(queue: Broker, session: Session) -> None:
    run = enqueue(session, "test.count", {"to": 2})
    session.commit()
    execute(run.id)
    done = get_run(session, run.id)
    assert (done.status, done.result, done.attempts) == (DONE, {"counted": 2}, 1)
    assert done.progress == {"done": 2, "total": 2, "unit": "steps"}


def test_a_message_delivered_twice_runs_once(queue: Broker, session: Session) -> None:
    run = enqueue(session, "test.count", {"to": 1})
    session.commit()
    threads = [threading.Thread(target=execute, args=(run.id,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert started == [str(run.id)]


def test_a_failure_keeps_its_reason(queue: Broker, session: Session) -> None:
    run = enqueue(session, "test.fail")
    session.commit()
    execute(run.id)
    failed = get_run(session, run.id)
    assert failed.status == FAILED
    assert "the disk is full" in (failed.error or "")


def lose(session: Session, run: Run, attempts: int) -> None:
    long_ago = now() - timedelta(hours=1)
    session.execute(
        update(Run)
        .where(col(Run.id) == run.id)
        .values(status=RUNNING, worker="gone:1:1", heartbeat_at=long_ago, attempts=attempts)
    )
    session.commit()


def test_a_run_that_lost_its_worker_is_queued_again(queue: Broker, session: Session) -> None:
    run = enqueue(session, "test.count", {"to": 1})
    session.commit()
    lose(session, run, attempts=1)
    assert sweep().requeued == (run.id,)
    assert get_run(session, run.id).status == QUEUED
    queue.await_messages(2)
    execute(run.id)
    session.rollback()
    assert get_run(session, run.id).attempts == 2


def test_a_run_lost_too_often_fails(queue: Broker, session: Session) -> None:
    run = enqueue(session, "test.count", {"to": 1})
    session.commit()
    lose(session, run, attempts=3)
    assert sweep().failed == (run.id,)
    assert "lost its worker 3 times" in (get_run(session, run.id).error or "")


def test_a_run_whose_message_was_lost_is_sent_again(queue: Broker, session: Session) -> None:
    run = enqueue(session, "test.count", {"to": 1})
    session.commit()
    queue.lose_messages()
    session.execute(update(Run).values(created_at=now() - timedelta(hours=1)))
    session.commit()
    assert sweep().requeued == (run.id,)
    queue.await_messages(1)


def test_a_living_run_is_left_alone(queue: Broker, session: Session) -> None:
    run = enqueue(session, "test.count", {"to": 1})
    session.commit()
    assert sweep().requeued == ()
    assert get_run(session, run.id).status == QUEUED


def test_a_cancelled_run_stops_at_its_next_heartbeat(
    queue: Broker, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    from foundation.settings import get_settings

    monkeypatch.setattr(get_settings(), "heartbeat_s", 0.05)
    run = enqueue(session, "test.wait")
    session.commit()
    worker = threading.Thread(target=execute, args=(run.id,))
    worker.start()
    while get_run(session, run.id).status != RUNNING:
        session.rollback()
        time.sleep(0.02)
    cancel(session, run.id)
    session.commit()
    worker.join(timeout=60)
    assert not worker.is_alive()
    assert get_run(session, run.id).status == CANCELLED
    with pytest.raises(Conflict):
        cancel(session, run.id)


def test_an_unknown_job_is_named(queue: Broker, session: Session) -> None:
    with pytest.raises(NotFound, match=r"test\.count"):
        enqueue(session, "test.none")


def test_delivered_messages_are_forgotten_after_their_days(queue: Broker, session: Session) -> None:
    enqueue(session, "test.count", {"to": 1})
    session.commit()
    if queue.name != "embedded":
        assert forget_delivered() == 0, "a broker of its own keeps none"
        return
    assert forget_delivered() == 0
    session.execute(text("UPDATE kombu_message SET visible = false, timestamp = '2020-01-01'"))
    session.commit()
    assert forget_delivered() == 1
