"""`flywheel spool`: what is shown, what is shipped, and the exit codes."""

import json

import pytest
from sqlmodel import Session, select
from typer.testing import CliRunner

from collector.client import Flywheel
from collector.spool.inspection import inspect
from collector.tables import Interaction, SpoolAccount
from flywheel.cli import app
from foundation.errors import BadInput

REQUEST = {"model": "m", "messages": [{"role": "user", "content": "mail jo@x.org"}]}


def run(*arguments):
    result = CliRunner().invoke(app, ["spool", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_status_shows_the_books_and_drain_ships(session: Session, tmp_path):
    client = Flywheel(spool=tmp_path / "spool", role="coder")
    client.record(request=REQUEST)
    client.record(request=REQUEST)
    client.spool.drop("client_error", "for the test")
    client.close()
    shown = run("status", tmp_path / "spool")
    assert shown.exit_code == 0
    assert "difference 0" in shown.output
    total = json.loads(run("status", tmp_path / "spool", "--json").output)["total"]
    assert (total["seen"], total["waiting"], total["dropped"]) == (3, 2, {"client_error": 1})

    drained = run("drain", tmp_path / "spool")
    assert drained.exit_code == 0
    assert "Nothing is left" in drained.output
    assert len(session.exec(select(Interaction)).all()) == 2
    (account,) = session.exec(select(SpoolAccount)).all()
    assert (account.seen, account.delivered, account.waiting) == (3, 2, 0)
    assert account.dropped == {"client_error": 1}
    assert inspect(tmp_path / "spool") == []


def test_a_living_client_without_a_service_is_drained_too(session: Session, tmp_path):
    client = Flywheel(spool=tmp_path / "spool", role="coder")
    client.record(request=REQUEST)
    client.spool.prepare_all()
    assert run("drain", tmp_path / "spool").exit_code == 0
    assert len(session.exec(select(Interaction)).all()) == 1
    client.record(request=REQUEST)
    client.close()
    assert run("drain", tmp_path / "spool").exit_code == 0
    assert len(session.exec(select(Interaction)).all()) == 2
    (account,) = session.exec(select(SpoolAccount)).all()
    assert (account.seen, account.delivered) == (2, 2)


def test_drain_says_what_it_had_to_leave(tmp_path, settings):
    client = Flywheel(spool=tmp_path / "spool", role="coder")
    client.record(request=REQUEST)
    client.close()
    left = run("drain", tmp_path / "spool", "--url", "http://127.0.0.1:9", "--patience", "0.1")
    assert left.exit_code == 1
    assert "waiting" in left.output


def test_all_spools_of_the_home_by_default(tmp_path, settings):
    assert "Nothing waits" in run("status").output
    home = settings.home / "spool" / "client"
    client = Flywheel(spool=home, role="coder")
    client.record(request=REQUEST)
    client.close()
    (writer,) = json.loads(run("status", "--json").output)["writers"]
    assert writer["folder"] == str(home)
    with pytest.raises(BadInput, match="folder of a spool"):
        run("status", tmp_path / "nowhere")
