"""Feedback and metrics from the command line, into the database or through the service."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvicorn
from by_hand import Said

from flywheel.app import create_app

Command = Callable[..., Said]

REPORT = (
    '<testsuite name="s"><testcase name="a"/><testcase name="b"><failure/></testcase></testsuite>'
)


@pytest.fixture
def service(database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a running service, which commands are told of."""
    server = uvicorn.Server(uvicorn.Config(create_app(), port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        thread.join(0.05)
    port = server.servers[0].sockets[0].getsockname()[1]
    monkeypatch.setenv("FLYWHEEL_URL", f"http://127.0.0.1:{port}")
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


def round_trip(command: Command, folder: Path) -> None:
    report = folder / "report.xml"
    report.write_text(REPORT)
    about = ("--episode-key", "PR-12", "--project", "p")
    added = command("feedback", "add", "rating", "--value", "4", *about, "--json").json
    assert [one["status"] for one in added["results"]] == ["stored"]
    ran = command("feedback", "ci", str(report), str(report), *about, "--json").json
    assert (ran["passed"], ran["failed"], len(ran["failing"])) == (2, 2, 2)
    again = command("feedback", "ci", str(report), str(report), *about, "--json").json
    assert [one["status"] for one in again["results"]] == ["duplicate", "duplicate"]
    listed = command("feedback", "list", *about, "--json").json
    assert [(one["kind"], one["value"]) for one in listed] == [
        ("rating", 4.0),
        ("success", 0.0),
        ("metric", 0.5),
    ]
    by_id = command("feedback", "list", listed[0]["episode_id"], "--json").json
    assert by_id == listed
    assert "episode" in command("feedback", "list", *about).out
    for words in (("feedback", "add", "rating", "--value", "6", *about), ("feedback", "list")):
        said = command(*words)
        assert (said.code, said.out) == (2, "")
        assert said.err.startswith("Error: ")


def test_into_the_database(database: str, command: Command, tmp_path: Path) -> None:
    round_trip(command, tmp_path)


def test_through_the_service(service: str, command: Command, tmp_path: Path) -> None:
    round_trip(command, tmp_path)


def test_a_service_that_is_away_is_named(
    database: str, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLYWHEEL_URL", "http://127.0.0.1:9")
    said = command("feedback", "add", "rating", "--value", "4", "--episode-key", "k")
    assert (said.code, said.out) == (2, "")
    assert "http://127.0.0.1:9" in said.err


def test_bad_reports_are_named(database: str, command: Command, tmp_path: Path) -> None:
    broken = tmp_path / "broken.xml"
    broken.write_text(REPORT[:-5])
    for path, word in ((broken, "well-formed XML"), (tmp_path / "none.xml", "none.xml")):
        said = command("feedback", "ci", str(path), "--episode-key", "k")
        assert (said.code, said.out) == (2, "")
        assert word in said.err


def test_metrics(database: str, command: Command) -> None:
    bounds = ("--direction", "min", "--low", "0", "--high", "9")
    assert command("metric", "declare", "bugs", *bounds, "--json").json["direction"] == "min"
    about = ("metric", "--name", "bugs", "--episode-key", "k")
    assert command("feedback", "add", *about, "--value", "3").code == 0
    refused = command("feedback", "add", *about, "--value", "10")
    assert refused.code == 2
    assert "out_of_range" in refused.err
    (listed,) = command("metric", "list", "--json").json
    assert (listed["name"], listed["n"], listed["high"]) == ("bugs", 1, 9.0)
    assert "0 to 9" in command("metric", "list").out
    assert command("metric", "withdraw", "bugs").code == 0
    assert command("metric", "withdraw", "bugs").code == 2
    assert command("feedback", "join", "--json").json == {"joined": 0}


def test_a_source_left_out_is_listed_by_its_name(database: str, command: Command) -> None:
    command("key", "create", "eve", "--json")
    gone = command("feedback", "distrust", "key:eve", "--reason", "it lies").out
    assert "key:eve" in gone
    assert "key:eve" in command("feedback", "sources").out
    assert "key:eve" in command("feedback", "undo", "key:eve", "--reason", "it did not").out
    assert "key:eve" not in command("feedback", "sources").out
