"""Chunks are done once, by whoever is there; what a dead worker held is free again."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import psycopg
import pytest
from by_hand import environment_with, wait_until
from sqlalchemy import text
from sqlmodel import Session, select

from curation import chunks
from curation.chunks import JUDGE
from curation.tables import CurationBuild, CurationChunk
from foundation.database import session_scope
from foundation.runs import RunCancelled

NUMBERS = "SELECT generate_series(1, :n) AS id"


@pytest.fixture
def build(session: Session) -> UUID:
    row = CurationBuild(
        role="coder",
        variant="default",
        recipe={},
        recipe_fingerprint="f",
        everything=True,
        until_xid=1,
    )
    session.add(row)
    session.commit()
    return row.id


def cut(build_id: UUID, n: int, rows_each: int = 10) -> int:
    with session_scope() as session:
        return chunks.cut(session, build_id, JUDGE, NUMBERS, {"n": n}, rows_each)


def stored(session: Session) -> list[CurationChunk]:
    session.rollback()
    query = select(CurationChunk).order_by(CurationChunk.number)
    return list(session.exec(query.execution_options(populate_existing=True)))


class Worker:
    """Notes what it did; the counts are how many rows."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, session: Session, ids: Sequence[str]) -> dict[str, Any]:
        self.seen += ids
        return {"rows": len(ids), "samples": [ids[0]]}


def test_rows_are_cut_in_order_and_more_can_follow(session: Session, build: UUID) -> None:
    assert cut(build, 25) == 25
    assert [chunk.n_rows for chunk in stored(session)] == [10, 10, 5]
    assert cut(build, 0) == 0
    assert cut(build, 3) == 3
    assert [chunk.number for chunk in stored(session)] == [0, 1, 2, 3]
    assert stored(session)[3].ids == ["1", "2", "3"]


def test_each_row_is_worked_on_once_and_told(session: Session, build: UUID) -> None:
    cut(build, 25)
    worker, told = Worker(), []
    chunks.work_off(build, JUDGE, worker, progress=lambda *at, **more: told.append((at, more)))
    assert sorted(map(int, worker.seen)) == list(range(1, 26))
    assert [at for at, _ in told] == [(n, 25, "interactions") for n in (10, 20, 25)]
    assert all(more["rows_per_s"] > 0 and more["step"] == JUDGE for _, more in told)
    assert told[-1][1]["eta_s"] == 0
    assert chunks.counts_of(session, build) == {"rows": 25, "samples": ["1", "11", "21"]}
    chunks.work_off(build, JUDGE, worker)
    assert len(worker.seen) == 25


def test_two_workers_share_and_the_first_waits_for_the_second(build: UUID) -> None:
    cut(build, 40)
    begun, let_go = threading.Event(), threading.Event()
    slow, quick = Worker(), Worker()

    def dawdle(session: Session, ids: Sequence[str]) -> dict[str, Any]:
        begun.set()
        let_go.wait(30)
        return slow(session, ids)

    with ThreadPoolExecutor(2) as pool:
        helper = pool.submit(chunks.help_with, build, JUDGE, dawdle)
        assert begun.wait(30)
        main = pool.submit(chunks.work_off, build, JUDGE, quick)
        wait_until(lambda: len(quick.seen) == 30, "the chunks that nobody held")
        with session_scope() as session:
            assert chunks.n_open(session, build, JUDGE) == 1
        assert not main.done()
        let_go.set()
        main.result(30)
        assert helper.result(30) == 1
    assert len(slow.seen) == 10


def test_a_failure_leaves_its_chunk_and_keeps_the_others(session: Session, build: UUID) -> None:
    cut(build, 30)

    def fail_at_the_second(session: Session, ids: Sequence[str]) -> dict[str, Any]:
        if stored(session)[0].done_at is not None:
            raise ValueError("a bad row")
        return {"rows": len(ids)}

    with pytest.raises(ValueError, match="a bad row"):
        chunks.work_off(build, JUDGE, fail_at_the_second)
    assert [chunk.done_at is not None for chunk in stored(session)] == [True, False, False]
    chunks.work_off(build, JUDGE, Worker())
    assert all(chunk.done_at for chunk in stored(session))


def test_a_cancellation_is_heard_between_chunks(session: Session, build: UUID) -> None:
    cut(build, 30)
    worker = Worker()

    def check() -> None:
        if worker.seen:
            raise RunCancelled("cancelled")

    with pytest.raises(RunCancelled):
        chunks.work_off(build, JUDGE, worker, check=check)
    assert [chunk.done_at is not None for chunk in stored(session)] == [True, False, False]


def test_a_deadlock_frees_the_chunk_for_another_try(build: UUID) -> None:
    cut(build, 1)
    tries = []

    def deadlock_once(session: Session, ids: Sequence[str]) -> dict[str, Any]:
        tries.append(ids)
        if len(tries) == 1:
            raise_deadlock(session)
        return {}

    chunks.work_off(build, JUDGE, deadlock_once)
    assert len(tries) == 2


WAITING = text(
    "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database ="
    " (SELECT oid FROM pg_database WHERE datname = current_database())"
)


def raise_deadlock(session: Session) -> None:
    """Let two transactions wait for each other until the server ends this one."""
    lock = "SELECT pg_advisory_xact_lock({})"
    session.execute(text("SET LOCAL deadlock_timeout = '10ms'"))
    session.execute(text(lock.format(1)))
    url = session.get_bind().engine.url.set(drivername="postgresql")
    other = psycopg.connect(url.render_as_string(hide_password=False))
    other.execute("SET LOCAL deadlock_timeout = '60s'")
    other.execute(lock.format(2))
    waiting = threading.Thread(target=other.execute, args=(lock.format(1),))
    waiting.start()
    wait_until(lambda: session.execute(WAITING).first(), "the other transaction")
    try:
        session.execute(text(lock.format(2)))
    finally:
        session.rollback()
        waiting.join()
        other.close()


KILLED = """
import sys, time
from uuid import UUID
from curation import chunks

def work(session, ids):
    print("begun", flush=True)
    time.sleep(600)

chunks.work_on_one(UUID(sys.argv[1]), "judge", work)
"""


def test_what_a_killed_worker_held_is_free_again(session: Session, build: UUID) -> None:
    cut(build, 20)
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(build)],
        stdout=subprocess.PIPE,
        env=environment_with(),
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        assert chunks.help_with(build, JUDGE, Worker()) == 1, "the other chunk is held"
        os.killpg(process.pid, signal.SIGKILL)
    worker = Worker()
    chunks.work_off(build, JUDGE, worker)
    assert len(worker.seen) == 10


def test_counts_add_up_and_samples_are_few() -> None:
    one = {"n": 1, "by": {"a": 1}, "hot": [1] * 15}
    other = {"n": 2, "by": {"a": 1, "b": 2}, "hot": [2] * 15, "m": 3}
    added = chunks.added([one, other])
    assert added == {"n": 3, "by": {"a": 2, "b": 2}, "hot": [1] * 15 + [2] * 5, "m": 3}
    assert one["by"] == {"a": 1}
