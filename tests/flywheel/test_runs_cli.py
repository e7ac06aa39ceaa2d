import json
from uuid import UUID

import pytest
from sqlmodel import Session
from typer.testing import CliRunner

import flywheel.worker  # noqa: F401  registers every room's jobs
from flywheel.cli import app
from foundation.errors import Conflict, NotFound
from foundation.runs import enqueue, get_run
from foundation.tables import CANCELLED, DONE, QUEUED

NOBODY = "00000000-0000-0000-0000-000000000000"


def say(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["run", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture
def queued(session: Session) -> UUID:
    run = enqueue(session, "curation.build", {"role": "coder"}, role="coder")
    session.commit()
    return run.id


def test_no_jobs_are_said_to_be_none(session: Session) -> None:
    assert "No jobs yet." in say("list")


def test_a_job_is_listed_shown_cancelled_and_queued_again(session: Session, queued: UUID) -> None:
    listed = json.loads(say("list", "--json"))
    assert [(run["id"], run["status"]) for run in listed] == [(str(queued), QUEUED)]
    assert f"{queued}  curation.build  coder  queued" in say("list")
    assert json.loads(say("list", "--status", "failed", "--json")) == []
    say("cancel", str(queued))
    assert json.loads(say("show", str(queued), "--json"))["status"] == CANCELLED
    again = UUID(say("retry", str(queued)).split()[-1])
    session.expire_all()
    assert (again, get_run(session, again).status) == (queued, QUEUED)


def test_a_job_that_waits_is_not_queued_twice_and_an_ended_one_not_cancelled(queued: UUID) -> None:
    with pytest.raises(Conflict, match="queued"):
        say("retry", str(queued))
    say("cancel", str(queued))
    with pytest.raises(Conflict, match="cancelled"):
        say("cancel", str(queued))


def test_a_job_is_done_again_in_this_process(session: Session) -> None:
    run = enqueue(session, "collector.maintain", {})
    session.commit()
    say("cancel", str(run.id))
    assert json.loads(say("retry", str(run.id), "--here", "--json"))["run_id"] == str(run.id)
    assert json.loads(say("show", str(run.id), "--json"))["status"] == DONE


def test_an_unknown_job_is_named() -> None:
    with pytest.raises(NotFound, match=NOBODY):
        say("show", NOBODY)
