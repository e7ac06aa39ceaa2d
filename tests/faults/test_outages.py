"""A database that goes away in the middle of a job, without any process of its own."""

import logging
import threading
from typing import Any

import httpx
import psycopg
import pytest
from brokers import Broker
from by_hand import wait_until
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlmodel import Session

from benchmarks.faults_servers import Wire
from flywheel import cycle
from flywheel.app import create_app
from foundation import runs
from foundation.database import forget_connections, get_engine, session_scope
from foundation.outage import is_outage, patiently
from foundation.runs import RunHandle, enqueue, execute, get_run, job, sweep
from foundation.settings import get_settings
from foundation.tables import DONE, FAILED, QUEUED, RUNNING

hurt: list[Any] = []


@job("test.loses_its_connection")
def lose_connection(run: RunHandle, times: int) -> dict[str, Any]:
    if run.attempts <= times:
        with session_scope() as session:
            session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    return {"attempts": run.attempts}


@job("test.reports_without_a_database")
def report(run: RunHandle) -> dict[str, Any]:
    hurt[0].cut()
    run.progress(1, 2, "steps")
    hurt[0].mend()
    run.progress(2, 2, "steps")
    hurt[0].cut()
    threading.Timer(1.0, hurt[0].mend).start()
    return {}


@pytest.fixture
def wired(wired_url: str, database: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """This process reaches its database over the wire."""
    get_engine().dispose()
    monkeypatch.setenv("FLYWHEEL_DATABASE_URL", wired_url)
    get_settings.cache_clear()
    forget_connections()
    yield
    get_engine().dispose()
    monkeypatch.setenv("FLYWHEEL_DATABASE_URL", database)
    get_settings.cache_clear()
    forget_connections()


def test_a_job_that_loses_its_connection_is_queued_again(broker: Broker, session: Session) -> None:
    run = enqueue(session, "test.loses_its_connection", {"times": 1})
    session.commit()
    put_back = execute(run.id)
    assert put_back is not None
    assert (put_back.status, put_back.worker, put_back.attempts) == (QUEUED, None, 1)
    broker.await_messages(2)
    done = execute(run.id)
    assert done is not None
    assert (done.status, done.result) == (DONE, {"attempts": 2})


def test_one_that_loses_it_at_every_start_fails_and_says_why(
    broker: Broker, session: Session
) -> None:
    run = enqueue(session, "test.loses_its_connection", {"times": 9})
    session.commit()
    last = [execute(run.id) for _ in range(get_settings().max_attempts)][-1]
    assert last is not None
    assert last.status == FAILED
    assert "lost its database 3 times" in (last.error or "")


def test_a_report_costs_nothing_where_the_database_is_away(
    broker: Broker, wire: Wire, wired: None, caplog: pytest.LogCaptureFixture
) -> None:
    if broker.name == "embedded":
        pytest.skip("the database is the broker, which cannot be reached by another wire here")
    hurt[:] = [wire]
    with session_scope() as session:
        run = enqueue(session, "test.reports_without_a_database")
    done = execute(run.id)
    assert done is not None
    assert (done.status, done.attempts) == (DONE, 1)
    assert done.progress == {"done": 2, "total": 2, "unit": "steps"}
    assert "its progress could not be written" in caplog.text


def test_a_claim_waits_for_the_database(broker: Broker, wire: Wire, wired: None) -> None:
    if broker.name == "embedded":
        pytest.skip("the database is the broker")
    with session_scope() as session:
        run = enqueue(session, "test.loses_its_connection", {"times": 0})
    wire.cut()
    threading.Timer(1.0, wire.mend).start()
    done = execute(run.id)
    assert done is not None
    assert done.status == DONE


def test_a_machine_whose_clock_is_wrong_takes_no_run_away(
    broker: Broker, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = enqueue(session, "test.loses_its_connection", {"times": 0})
    session.commit()
    assert runs._claim(run.id, "host:1:1") is not None
    ahead = runs.now().replace(year=2100)
    monkeypatch.setattr(runs, "now", lambda: ahead)
    assert sweep().requeued == ()
    assert get_run(session, run.id).status == RUNNING
    assert runs._claim(run.id, "other:2:2") is None


def test_a_claim_whose_answer_was_lost_is_still_ones_own(broker: Broker, session: Session) -> None:
    run = enqueue(session, "test.loses_its_connection", {"times": 0})
    session.commit()
    assert runs._claim(run.id, "host:1:1") is not None
    again = runs._claim(run.id, "host:1:1")
    assert again is not None
    assert runs._claim(run.id, "host:2:2") is None


def test_only_an_outage_is_waited_out(database: str) -> None:
    with pytest.raises(psycopg.errors.SyntaxError) as mistake, psycopg.connect(database) as one:
        one.execute("SELEC")
    assert not is_outage(mistake.value)
    left = [refused, refused]

    def back_soon() -> str:
        if left:
            left.pop()()
        return "back"

    assert patiently(back_soon, 60, "a test") == "back"
    with pytest.raises(psycopg.OperationalError) as error:
        patiently(refused, 0.5, "a test")
    assert is_outage(error.value)
    with pytest.raises(ValueError, match="a mistake"):
        patiently(mistaken, 0.5, "a test")


def refused() -> None:
    psycopg.connect("postgresql://nobody@127.0.0.1:1/none")


def mistaken() -> None:
    raise ValueError("a mistake")


def test_the_service_says_503_while_the_database_is_away(wire: Wire, wired: None) -> None:
    with TestClient(create_app(), base_url="http://127.0.0.1") as client:
        run = "/v1/runs/01a1fd57-1352-7000-8000-000000000000"
        assert [client.get(path).status_code for path in ("/readyz", run)] == [200, 404]
        wire.cut()
        for path in ("/readyz", run):
            answer: httpx.Response = client.get(path)
            assert answer.status_code == 503, path
        assert "expected a running PostgreSQL" in answer.json()["error"]["message"]
        assert client.get("/healthz").status_code == 200
        wire.mend()
        wait_until(lambda: client.get("/readyz").status_code == 200, "the service's return")


def test_who_waits_for_a_job_that_nobody_takes_up_is_told(
    broker: Broker, session: Session, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setattr(cycle, "NOBODY_AFTER_S", 0.3)
    run = enqueue(session, "test.loses_its_connection", {"times": 0})
    session.commit()
    with caplog.at_level(logging.WARNING):
        waiting = threading.Thread(
            target=cycle.wait_for, args=({"it": run}, "curate", lambda *_: None)
        )
        waiting.start()
        wait_until(lambda: "flywheel worker" in caplog.text, "the hint")
        execute(run.id)
        waiting.join()
