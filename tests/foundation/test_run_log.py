"""What a run logs: its own lines and nobody else's, without secrets, whatever the database does."""

import logging
import threading
import warnings
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError
from sqlmodel import Session, col, select

from foundation import run_log, runs
from foundation.redaction import redact
from foundation.runs import RunHandle, enqueue, execute, get_run, job
from foundation.settings import get_settings
from foundation.tables import DONE, FAILED, Run, RunLog

log = logging.getLogger("room.of.the.job")
meeting = threading.Barrier(2, timeout=30)


@job("test.talk")
def talk(run: RunHandle, say: list[str], fails: str | None = None) -> None:
    for line in say:
        log.warning("%s", line)
    if fails is not None:
        raise ValueError(f"{fails} \x00")  # PostgreSQL stores no NUL


@job("test.talk_together")
def talk_together(run: RunHandle, name: str) -> None:
    meeting.wait()
    log.warning("I am %s", name)
    meeting.wait()


@job("test.talk_by_thread")
def talk_by_thread(run: RunHandle) -> None:
    thread = threading.Thread(target=lambda: log.warning("from a thread of its own"))
    thread.start()
    thread.join()


@job("test.warn")
def warn(run: RunHandle) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("this will be removed", FutureWarning, stacklevel=1)


@pytest.fixture
def unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a warning of a job from pytest, which would sum it up."""
    monkeypatch.setattr(warnings, "showwarning", lambda *_, **__: None)


@job("test.talk_aside")
def talk_aside(run: RunHandle) -> None:
    aside = logging.getLogger("test_aside")
    aside.propagate = False
    run_log.listen_to("test_aside")
    logging.getLogger("test_aside.inner").warning("kept from the root")


@pytest.fixture(autouse=True)
def queue(database: str) -> None:
    from foundation.queue import declare_queues

    declare_queues()


def order(session: Session, kind: str, **params: Any) -> Run:
    run = enqueue(session, kind, params)
    session.commit()
    return run


def lines(session: Session, run: Run) -> list[tuple[str, str]]:
    query = select(RunLog).where(RunLog.run_id == run.id).order_by(col(RunLog.id))
    return [(row.level, row.message) for row in session.exec(query)]


def test_a_run_keeps_its_lines_in_order(session: Session) -> None:
    run = order(session, "test.talk", say=["one", "two"])
    execute(run.id)
    found = lines(session, run)
    assert found[0][1].startswith("test.talk starts on ")
    assert found[1:] == [
        ("WARNING", "room.of.the.job: one"),
        ("WARNING", "room.of.the.job: two"),
        ("INFO", "test.talk is done"),
    ]


def test_runs_of_one_process_do_not_mix(session: Session) -> None:
    ordered = [order(session, "test.talk_together", name=name) for name in ("ada", "bob")]
    threads = [threading.Thread(target=execute, args=(run.id,)) for run in ordered]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    said = [[text for _, text in lines(session, run) if "I am" in text] for run in ordered]
    assert said == [["room.of.the.job: I am ada"], ["room.of.the.job: I am bob"]]


def test_threads_and_warnings_and_shy_loggers_of_a_job_are_its_own(
    session: Session, unseen: None
) -> None:
    by_thread = order(session, "test.talk_by_thread")
    warned = order(session, "test.warn")
    aside = order(session, "test.talk_aside")
    for run in (by_thread, warned, aside):
        execute(run.id)
    assert ("WARNING", "room.of.the.job: from a thread of its own") in lines(session, by_thread)
    assert any("FutureWarning: this will be removed" in text for _, text in lines(session, warned))
    assert ("WARNING", "test_aside.inner: kept from the root") in lines(session, aside)


def test_nothing_listens_when_no_run_is_under_way(session: Session) -> None:
    before = (list(logging.getLogger().handlers), warnings.showwarning)
    run = order(session, "test.talk", say=["one"])
    execute(run.id)
    n_lines = len(lines(session, run))
    log.warning("after the run")
    assert (list(logging.getLogger().handlers), warnings.showwarning) == before
    assert len(lines(session, run)) == n_lines


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("at postgresql://me:hunter2@db:5432/x", "at postgresql://me:***@db:5432/x"),
        ("Authorization: Bearer abcdefghijkl.mno", "Authorization: Bearer ***"),
        ("the key is the-key-of-this-service.", "the key is ***."),
        ('{"api_key": "abcdefgh1"}', '{"api_key": "***"}'),
        ("HF said hf_abcdefghijklmnopq is wrong", "HF said hf_*** is wrong"),
        ("password=correct-horse&x=1", "password=***&x=1"),
        ("n_token=123456789 total_tokens: 12345678", "n_token=123456789 total_tokens: 12345678"),
        ("half a pair \ud800 and \x00", "half a pair ? and ␀"),
        ("http://host:8000/path/user@example.org", "http://host:8000/path/user@example.org"),
    ],
)
def test_what_is_hidden(said: str, kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYWHEEL_API_KEY", "the-key-of-this-service")
    get_settings.cache_clear()
    assert redact(said) == kept


def test_neither_lines_nor_the_error_of_a_run_hold_a_secret(session: Session) -> None:
    secret = "postgresql://me:hunter2@db/x"
    run = order(session, "test.talk", say=[secret], fails=f"cannot reach {secret}")
    execute(run.id)
    failed = get_run(session, run.id)
    assert failed.status == FAILED
    assert failed.error is not None
    assert "cannot reach postgresql://me:***@db/x" in failed.error
    assert "hunter2" not in failed.error + str(lines(session, run))


@pytest.mark.parametrize("piece", ["a-", "a.", "token=1&", "://a:", "basic "])
def test_a_long_text_without_secrets_is_looked_through_once(piece: str) -> None:
    """Looked through from each of its places, it would take hours, and every thread with it."""
    text = piece * (200_000 // len(piece))
    assert redact(text) == text


def test_a_secret_across_the_cut_of_a_line_leaves_no_part(session: Session) -> None:
    filler = "x" * (run_log.MOST_CHARACTERS - len("room.of.the.job:  api_key=sk-abcd"))
    run = order(session, "test.talk", say=[f"{filler} api_key=sk-abcdefghijklmnop{'y' * 50}"])
    execute(run.id)
    (line,) = [text for _, text in lines(session, run) if "xxx" in text]
    assert "abcd" not in line
    assert line.endswith("characters)")


def test_the_error_of_a_run_is_not_as_long_as_what_a_library_says(session: Session) -> None:
    run = order(session, "test.talk", say=[], fails="a-" * 500_000)
    execute(run.id)
    failed = get_run(session, run.id)
    assert failed.status == FAILED
    assert len(failed.error or "") == 4_000


def test_the_newest_lines_stay(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_log, "MOST_LINES", 30)
    run = order(session, "test.talk", say=[f"line {n}" for n in range(100)])
    execute(run.id)
    found = lines(session, run)
    assert len(found) == 30
    assert found[-2][1] == "room.of.the.job: line 99"
    kept = run_log.RunLines(run.id)
    for n in range(20):
        kept.say("INFO", f"more {n}")
    kept.write(session)
    assert [text for _, text in lines(session, run)][-1] == "more 19"
    assert len(lines(session, run)) == 30


def test_a_database_that_is_away_costs_the_job_nothing(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = run_log.RunLines._trim
    failing = [True]

    def fail_once(self: run_log.RunLines, to: Session, n_new: int) -> None:
        if failing:
            failing.pop()
            raise OperationalError("INSERT", {}, ConnectionError("the server went away"))
        honest(self, to, n_new)

    monkeypatch.setattr(run_log.RunLines, "_trim", fail_once)
    run = order(session, "test.talk", say=["before the break"])
    handle = None

    def keep(handle_of: RunHandle) -> None:
        nonlocal handle
        handle = handle_of
        write_rest(handle_of)

    write_rest = runs.RunHandle.write_rest
    monkeypatch.setattr(runs.RunHandle, "write_rest", keep)
    execute(run.id)
    assert get_run(session, run.id).status == DONE
    assert lines(session, run) == []
    assert handle is not None
    handle.write_lines()
    assert ("WARNING", "room.of.the.job: before the break") in lines(session, run)
