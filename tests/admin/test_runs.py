"""Jobs: the queue, one job, its log, and what an operator may do with it."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi import FastAPI
from sqlmodel import Session, select
from starlette.testclient import TestClient

from admin import runs
from admin.access import sessions
from admin.pages import create_admin_app
from admin.tables import AuditEntry
from foundation.queue import declare_queues
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

Door = Callable[[str], TestClient]
FORM = {"sec-fetch-site": "same-origin"}


@pytest.fixture
def door(session: Session, signed_in: Callable[..., str]) -> Door:
    """A browser of somebody of a role."""
    declare_queues()

    def opened(role: str) -> TestClient:
        app = FastAPI()
        app.mount("/admin", create_admin_app())
        client = TestClient(app, follow_redirects=False)
        client.cookies.set(sessions.COOKIE, signed_in(session, role, f"{role}-of-test"))
        return client

    return opened


def add(session: Session, **columns: Any) -> Run:
    run = Run(**{"kind": "curation.build", **columns})
    session.add(run)
    session.commit()
    return run


def log(session: Session, run: Run, *lines: tuple[str, str]) -> None:
    session.add_all(RunLog(run_id=run.id, level=level, message=said) for level, said in lines)
    session.commit()


def read(session: Session, run: Run) -> Run:
    session.expire_all()
    return session.get_one(Run, run.id)


def test_the_queue_says_what_waits_and_who_works(session: Session) -> None:
    long_ago = now() - timedelta(hours=1)
    add(session, status=QUEUED, created_at=long_ago)
    add(session, status=QUEUED)
    add(session, kind="trainer.train", status=RUNNING, worker="here:1:1", heartbeat_at=now())
    add(session, kind="trainer.train", status=RUNNING, worker="gone:2:2", heartbeat_at=long_ago)
    add(session, status=DONE)
    queue = runs.queue(session)
    assert (queue.n_queued, queue.n_running, queue.n_silent, queue.oldest) == (2, 2, 1, long_ago)
    assert [(row.kind, row.n_queued, row.n_running) for row in queue.waiting] == [
        ("curation.build", 2, 0),
        ("trainer.train", 0, 2),
    ]
    assert [(worker.name, worker.silent) for worker in queue.workers] == [
        ("here:1:1", False),
        ("gone:2:2", True),
    ]


def test_a_queue_that_nobody_works_on_is_named_with_its_command(
    session: Session, get: Callable[..., httpx.Response]
) -> None:
    import trainer.tasks  # noqa: F401  whose queue is gpu

    assert "flywheel worker --queues" not in get("/admin/runs").text
    add(session, kind="trainer.train", status=QUEUED, created_at=now() - timedelta(minutes=5))
    assert runs.queue(session).unheard == ["gpu"]
    assert "flywheel worker --queues gpu" in get("/admin/runs").text
    add(session, kind="trainer.train", status=DONE, finished_at=now())
    assert runs.queue(session).unheard == [], "one has just ended a training"


def test_one_that_has_only_just_come_alarms_nobody(session: Session) -> None:
    add(session, kind="trainer.train", status=QUEUED)
    assert runs.queue(session).unheard == []


def test_the_page_of_a_run_shows_its_error_figures_and_log(
    session: Session, get: Callable[..., httpx.Response], hostile: str
) -> None:
    run = add(
        session,
        status=FAILED,
        error=f"Traceback\nValueError: {hostile}",
        progress={"done": 3, "total": 12, "unit": "rows", "loss": 0.25, "memory_mb": 2048},
    )
    log(session, run, ("INFO", "it begins"), ("ERROR", hostile))
    session.add(RunMeasure(run_id=run.id, done=1, measures={"loss": 1.0}))
    session.add(RunMeasure(run_id=run.id, done=2, measures={"loss": 0.5}))
    session.commit()
    answer = get(f"/admin/runs/{run.id}")
    assert answer.status_code == 200
    assert "<script>alert" not in answer.text
    assert "3 of 12 rows" in answer.text
    assert "2.0 GiB" in answer.text
    assert "Loss by step" in answer.text
    page = runs.detail(session, run.id)
    assert [line.message for line in page.log.lines] == ["it begins", hostile]
    assert page.row.headline == f"ValueError: {hostile}"
    assert "data-live" not in answer.text, "nothing more will come"


def test_a_log_is_filtered_by_level_paged_and_downloaded(
    session: Session, get: Callable[..., httpx.Response], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "LINES_SHOWN", 3)
    monkeypatch.setattr(runs, "LINES_AT_ONCE", 2)
    run = add(session, status=DONE)
    log(session, run, *[("INFO", f"line {n}") for n in range(4)], ("WARNING", "careful"))
    address = f"/admin/runs/{run.id}/log"
    first = get(address).text
    assert re.findall(r"line \d|careful", first) == ["careful", "line 3", "line 2"]
    more = re.search(r'hx-get="([^"]+)"[^>]*>Older', first)
    assert more is not None
    older = get(more[1].replace("&amp;", "&"), **{"HX-Request-Type": "partial"}).text
    assert re.findall(r"line \d|careful", older) == ["line 1", "line 0"]
    assert re.findall(r"line \d|careful", get(f"{address}?level=warning").text) == ["careful"]
    assert get(f"{address}?level=loud").status_code == 400
    text = get(f"{address}.txt")
    assert "attachment" in text.headers["content-disposition"]
    assert [line.split(" ", 2)[2] for line in text.text.splitlines()] == [
        *(f"line {n}" for n in range(4)),
        "careful",
    ]


def test_an_operator_cancels_and_queues_again_and_it_is_written_down(
    session: Session, door: Door
) -> None:
    run = add(session, status=QUEUED)
    browser = door("operator")
    for verb, status in (("cancel", CANCELLED), ("retry", QUEUED)):
        answer = browser.post(
            f"/admin/runs/{run.id}/{verb}", data={"reason": "because"}, headers=FORM
        )
        assert (answer.status_code, answer.headers["location"]) == (303, f"/admin/runs/{run.id}")
        assert read(session, run).status == status
    entries = session.exec(select(AuditEntry).where(AuditEntry.subject_id == str(run.id))).all()
    assert [(e.action, e.reason, e.actor) for e in entries] == [
        ("run.cancel", "because", "operator-of-test"),
        ("run.retry", "because", "operator-of-test"),
    ]
    assert entries[0].after == {"status": CANCELLED}
    again = browser.post(f"/admin/runs/{run.id}/retry", data={"reason": "twice"}, headers=FORM)
    assert again.status_code == 409, "a double click queues it once"


@pytest.mark.parametrize("role", ["viewer", "reviewer"])
def test_others_may_look_only(session: Session, door: Door, role: str) -> None:
    run = add(session, status=QUEUED)
    browser = door(role)
    page = browser.get(f"/admin/runs/{run.id}")
    assert page.status_code == 200
    assert "cancel-run" not in page.text
    for path in (f"{run.id}/cancel", f"{run.id}/retry", "retry-failed"):
        answer = browser.post(
            f"/admin/runs/{path}", data={"reason": "x", "kind": "curation.build"}, headers=FORM
        )
        assert answer.status_code == 403, path
    assert read(session, run).status == QUEUED


def test_failed_runs_of_a_kind_are_queued_again_together(
    session: Session, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "RETRIED_AT_ONCE", 2)
    failed = [add(session, status=FAILED, attempts=1) for _ in range(3)]
    other = add(session, kind="evaluator.evaluate", status=FAILED, attempts=1)
    browser = door("operator")
    page = browser.get("/admin/runs?kind=curation.build").text
    assert "Queue 2 failed runs of curation.build again?" in page
    form = {"kind": "curation.build", "reason": "the disk has room"}
    assert browser.post("/admin/runs/retry-failed", data=form, headers=FORM).status_code == 303
    assert [read(session, run).status for run in [*failed, other]] == [
        *(FAILED, QUEUED, QUEUED),
        FAILED,
    ]
    entry = session.exec(select(AuditEntry).where(AuditEntry.action == "run.retry_failed")).one()
    assert entry.after is not None
    assert entry.after["queued"] == 2
    browser.post("/admin/runs/retry-failed", data=form, headers=FORM)
    assert browser.post("/admin/runs/retry-failed", data=form, headers=FORM).status_code == 409


def test_a_run_that_no_worker_started_is_not_offered_again(session: Session, door: Door) -> None:
    told = {"kind": "flywheel.backup", "status": FAILED, "error": "no room"}
    left, job = add(session, **told), add(session, **told, attempts=1)
    browser = door("operator")
    offered = ["retry-run" in browser.get(f"/admin/runs/{run.id}").text for run in (left, job)]
    assert offered == [False, True]
    form = {"kind": "flywheel.backup", "reason": "there is room"}
    assert browser.post("/admin/runs/retry-failed", data=form, headers=FORM).status_code == 303
    assert [read(session, run).status for run in (left, job)] == [FAILED, QUEUED]


@pytest.mark.parametrize("part", ["", "/row", "/curves", "/log", "/log.txt", "/events"])
def test_a_run_that_is_not_there(get: Callable[..., httpx.Response], part: str) -> None:
    assert get(f"/admin/runs/{UUID(int=7)}{part}").status_code == 404


def test_an_empty_database_says_what_to_do(get: Callable[..., httpx.Response]) -> None:
    page = get("/admin/runs")
    assert page.status_code == 200
    assert "No job has run yet." in page.text
    assert get(f"/admin/runs?status={uuid4()}").status_code == 200
