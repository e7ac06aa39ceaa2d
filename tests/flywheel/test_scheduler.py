"""Two schedulers on one database: one leads, the other takes over; a lost run is queued again."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from by_hand import environment_with, wait_until
from sqlalchemy import text

import flywheel.worker  # noqa: F401  registers every room's jobs
from flywheel import scheduler
from flywheel.scheduler import LEADER_LOCK, PACE, Duty, Standing
from foundation.database import get_engine, session_scope
from foundation.queue import declare_queues
from foundation.runs import get_run
from foundation.tables import QUEUED, RUNNING, Run, now

_LEADER = text(
    """
    SELECT activity.application_name FROM pg_locks
    JOIN pg_stat_activity AS activity USING (pid)
    WHERE locktype = 'advisory' AND granted AND objid::bigint = :lock AND classid = 0
      AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    """
)


@pytest.fixture
def start(database: str, tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen]]:
    """`start(name)`: a scheduler process whose database connections carry its name."""
    declare_queues()
    processes = []

    def run(name: str) -> subprocess.Popen:
        with (tmp_path / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "flywheel", "scheduler"],
                cwd=tmp_path,
                env=environment_with(PGAPPNAME=name),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        process.wait()


def connected(name: str) -> bool:
    with get_engine().connect() as connection:
        found = text("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = :name)")
        return connection.execute(found, {"name": name}).scalar_one()


def leader() -> str | None:
    with get_engine().connect() as connection:
        return connection.execute(_LEADER, {"lock": LEADER_LOCK}).scalar_one_or_none()


def lost_run() -> Run:
    """Add a run whose worker fell silent an hour ago."""
    ago = now() - timedelta(hours=1)
    with session_scope() as session:
        run = Run(kind="curation.build", params={"role": "coder"}, status=RUNNING, attempts=1)
        run.worker, run.heartbeat_at, run.created_at = "gone:1:1", ago, ago
        session.add(run)
    return run


def state_of(run: Run) -> str:
    with session_scope() as session:
        return get_run(session, run.id).status


def messages() -> int:
    with get_engine().connect() as connection:
        found = text("SELECT count(*) FROM kombu_message WHERE visible")
        return connection.execute(found).scalar_one()


@pytest.mark.slow
def test_another_scheduler_takes_over_and_sweeps(
    start: Callable[[str], subprocess.Popen], tmp_path: Path
) -> None:
    first = start("first")
    wait_until(lambda: leader() == "first", "the first scheduler's lead")
    before = lost_run()
    wait_until(lambda: state_of(before) == QUEUED, "the first sweep")
    second = start("second")
    wait_until(lambda: connected("second"), "the second scheduler's look")
    assert leader() == "first"

    first.kill()
    wait_until(lambda: leader() == "second", "the second scheduler's lead")
    after = lost_run()
    wait_until(lambda: state_of(after) == QUEUED, "the second sweep")
    wait_until(lambda: messages() >= 2, "a message for each run")  # each may be sent again

    second.send_signal(signal.SIGTERM)
    assert second.wait(timeout=60) == 0
    assert leader() is None
    for name in ("first", "second"):
        assert "Traceback" not in (tmp_path / f"{name}.log").read_text()


def test_a_duty_that_takes_long_comes_less_often() -> None:
    quick, slow = Duty("quick", 5.0, lambda: None), Duty("slow", 0.01, lambda: time.sleep(0.05))
    failing = Duty("failing", 5.0, lambda: 1 / 0)
    begun = time.monotonic()
    for duty in (quick, slow, failing):
        scheduler._perform(duty, Standing())
    assert quick.due >= begun + 5.0
    assert failing.due >= begun + 5.0
    assert slow.due >= begun + PACE * 0.05


def test_a_duty_that_waited_long_comes_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([1000.0, 1600.0, *[1600.0] * 9])
    monkeypatch.setattr(scheduler.time, "monotonic", lambda: next(clock))
    loading = Duty("loading", 5.0, lambda: None)
    scheduler._perform(loading, Standing())
    assert loading.due == 1600.0 + 30.0
