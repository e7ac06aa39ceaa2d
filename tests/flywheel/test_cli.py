"""The command line: the wheel turned by hand, and one clear message for each bad input.

Most commands run as processes; some in this one, where starting one would prove nothing more.
"""

import importlib.metadata
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from by_hand import PROJECT, Said, python, recorded, write_lines, write_log
from sqlalchemy import text
from upstream_app import Server

from evaluator.suites import READERS
from evaluator.suites.built_in import BUILT_IN
from flywheel.cli.suites import FORMATS
from foundation.database import get_engine
from foundation.queue import declare_queues
from foundation.settings import get_settings
from serving.api import create_engine_app

Command = Callable[..., Said]

NOBODY = "00000000-0000-0000-0000-000000000000"
RIGHT = "def total(xs):\n    return sum(xs)\n"
WRONG = "def total(xs):\n    return 0\n"
RECIPE = {"preset": "demo", "epochs": 1, "lr": 0.02, "batch_size": 8, "eval_steps": 4, "threads": 1}


def count(table: str) -> int:
    with get_engine().connect() as connection:
        return connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()


def refused(said: Said, *words: str) -> None:
    """Check: code 2, nothing on stdout, one message without a traceback that has the words."""
    assert said.code == 2, said
    assert said.out == ""
    assert "Traceback" not in said.err
    assert said.err.count("Error: ") == 1, said.err
    assert said.err.startswith("Error: "), said.err
    for word in words:
        assert word in said.err, said.err


def test_a_file_that_cannot_be_is_said_in_a_line_and_before_anything_is_erased(
    command: Command, database: str, tmp_path: Path
) -> None:
    nowhere = str(tmp_path / "nowhere" / "erased.json")
    for arguments in (
        ("erase", "--unit", "ada", "--yes", "--certificate", nowhere),
        ("erase", "--again", "--certificates", nowhere),
    ):
        said = command(*arguments)
        assert (said.code, said.out) == (1, "")
        assert said.err.startswith(f"Error: {nowhere}: No such file"), said.err
    assert count("erasure") == 0


# The wheel by hand


@pytest.fixture
def engine(settings: object, tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An engine that runs the tiny base, where the settings say it is."""
    with Server(create_engine_app(tiny_base, 1)) as server:
        monkeypatch.setenv("FLYWHEEL_ENGINE_URL", f"{server.url}/v1")
        get_settings.cache_clear()
        yield


@pytest.mark.slow
def test_the_wheel_turned_by_hand(
    database: str,
    process: Command,
    command: Command,
    tmp_path: Path,
    tiny_base: Path,
    engine: None,
) -> None:
    declare_queues()
    log = write_log(tmp_path / "log.jsonl")
    report = process("import", "coder_outputs", str(log), "--json").json
    assert (report["stored"], report["rejected"], report["feedback_stored"]) == (60, 0, 60)

    dataset = process("curate", "--role", "coder", "--json").json
    assert dataset["card"]["kept"] == 60
    assert (
        command("curate", "--role", "coder", "--json").json["dataset_id"] == (dataset["dataset_id"])
    ), "an unchanged log makes no new version"

    (tmp_path / "recipe.yaml").write_text(json.dumps(RECIPE))
    order = ("train", "--role", "coder", "--base", str(tiny_base), "--recipe", "recipe.yaml")
    assert process(*order, "--json").json["name"] == "coder-v1"
    assert command(*order, "--json").json["name"] == "coder-v2"

    base = command("model", "add", "coder", str(tiny_base), "--json").json
    command("promote", base["name"], "--reason", "what we use today", "--json")
    versions = command("model", "list", "--role", "coder", "--json").json
    assert [v["name"] for v in versions] == [base["name"], "coder-v2", "coder-v1"]
    first = process("promote", "coder-v1", "--reason", "better", "--json").json
    started = command("experiment", "start", "coder-v2", "--profile", "demo", "--json").json
    assert started["status"] == "running"
    assert [e["id"] for e in command("experiment", "list", "--json").json] == [started["id"]]
    shown = command("experiment", "show", started["id"], "--json").json
    assert shown["evidence"]["pairs"] == 0
    status = process("status", "--json").json
    assert status["roles"]["coder"]["serving"] == "coder-v1"
    assert status["roles"]["coder"]["experiment"] == started["id"]
    assert status["roles"]["coder"]["logged"] == 60
    command("experiment", "stop", started["id"], "--reason", "enough seen", "--json")

    second = command("promote", "coder-v2", "--reason", "newer", "--json").json
    assert second["to_model_version_id"] != first["to_model_version_id"]
    back = command("rollback", "coder", "--reason", "it was worse", "--json").json
    assert back["to_model_version_id"] == first["to_model_version_id"]

    decided = command("decide", "list", "--role", "coder", "--json").json
    by_people = [d for d in decided if d["kind"] not in ("review.fill", "trainer.fits")]
    assert {d["actor"] for d in by_people} == {get_settings().admin_user}
    assert command("decide", "show", decided[0]["id"], "--json").json == decided[0]
    refused(command("decide", "replay", decided[0]["id"]), "decision rule", "people")


@pytest.mark.slow
def test_recorded_answers_are_compared_and_the_decision_replayed(
    database: str, process: Command, command: Command, tmp_path: Path
) -> None:
    tasks = [
        {
            "task_id": f"t{i}",
            "prompt": f"Sum the list, variant {i}.",
            "grader": "calls",
            "reference": {"entry_point": "total", "inputs": [[[i, 2]], [[3]]], "code": RIGHT},
        }
        for i in range(20)
    ]
    answers = [
        recorded(run, task["task_id"], RIGHT if i < right else WRONG, i < right)
        for run, right in (("old", 4), ("new", 18))
        for i, task in enumerate(tasks)
    ]
    write_lines(tmp_path / "tasks.jsonl", tasks)
    write_lines(tmp_path / "answers.jsonl", answers)
    suite = command("suite", "add", "sums", "tasks.jsonl", "--json").json
    assert (suite["version"], suite["n_tasks"]) == (1, 20)
    assert command("suite", "add", "sums", "tasks.jsonl", "--json").json["id"] == suite["id"]
    assert [s["name"] for s in command("suite", "list", "--json").json] == ["sums"]
    recorded_runs = ("--suite", "sums", "--answers", "answers.jsonl")
    report = process("compare", "old", "new", *recorded_runs, "--json").json
    assert report["verdict"]["improvement_points"] == pytest.approx(70)
    assert report["verdict"]["outcome"] == "deploy"
    assert [e["agreement"] for e in report["evaluations"]] == [1, 1]
    refused(command("compare", "old", "new", "--answers", "answers.jsonl"), "--suite")
    refused(command("compare", "older", "new", *recorded_runs), "older", "new, old")
    replayed = command("decide", "replay", report["verdict"]["decision_id"], "--json").json
    assert replayed["agrees"] is True
    with get_engine().begin() as connection:
        connection.execute(text("UPDATE decision SET outcome = 'stay'"))
    assert command("decide", "replay", report["verdict"]["decision_id"]).code == 1


def test_suites_are_shown_grown_and_frozen(database: str, command: Command, tmp_path: Path) -> None:
    task = {"task_id": "t", "prompt": "p", "grader": "exact", "reference": {"answer": "a"}}
    write_lines(tmp_path / "tasks.jsonl", [task | {"attributes": {"difficulty": "easy"}}])
    assert command("suite", "add", "own", "tasks.jsonl", "--draft", "--json").json["version"] == 1
    assert "draft" in command("suite", "list").out
    write_lines(tmp_path / "more.jsonl", [task | {"task_id": "u"}])
    assert command("suite", "add", "own", "more.jsonl", "--draft", "--json").json["n_tasks"] == 2
    refused(command("suite", "add", "own", "tasks.jsonl"), "a draft", "flywheel suite freeze own")
    assert command("suite", "freeze", "own", "--json").json["frozen_at"]
    shown = command("suite", "show", "own", "--json").json
    assert shown["counts"]["difficulty"] == {"easy": 1, "–": 1}
    assert shown["sample_task"]["task_id"] == "t"
    assert "user: p" in command("suite", "show", "own@1").out
    refused(command("suite", "grow", "own", "--role", "coder"), "fresh tasks of coder")
    refused(command("suite", "add", "own"), "--built-in")
    refused(command("suite", "add", "nothing", "--built-in"), "coder-easy")
    assert command("suite", "add", "general", "--built-in", "--json").json["role"] == "general"
    assert "general" in command("suite", "list", "--built-in").out


def test_built_in_suites_are_listed_and_stored_all_at_once(database: str, command: Command) -> None:
    listed = command("suite", "add", "--built-in", "--json").json
    assert {"name": "safety", "role": "safety", "n_tasks": 129, "stored": None} in listed
    assert count("suite") == 0
    refused(
        command("suite", "add", "generl", "--built-in"), "generl", "general (general, 128 tasks)"
    )
    refused(command("suite", "add", "all", "--built-in", "--role", "coder"), "--role")
    refused(command("suite", "add"), "name of the suite")
    stored = command("suite", "add", "all", "--built-in", "--json").json
    assert [suite["name"] for suite in stored] == list(BUILT_IN)
    said = " ".join(command("suite", "list", "--built-in").out.split())
    assert "general general 128 general@1" in said


def test_the_help_names_every_format_of_tasks() -> None:
    assert sorted(FORMATS) == sorted(READERS)


def test_a_report_is_written_by_its_suffix(database: str, command: Command, tmp_path: Path) -> None:
    task = {"task_id": "t", "prompt": "p", "grader": "exact", "reference": {"answer": "a"}}
    hostile = "<script>alert(1)</script>"
    write_lines(tmp_path / "tasks.jsonl", [task, task | {"task_id": "u"}])
    answers = [recorded(run, t, text) for run, t, text in (
        ("old", "t", hostile), ("old", "u", "a"), ("new", "t", "a"), ("new", "u", "a"),
    )]  # fmt: skip
    write_lines(tmp_path / "answers.jsonl", answers)
    command("suite", "add", "own", "tasks.jsonl", "--json")
    runs = ("--suite", "own", "--answers", "answers.jsonl")
    asked = ("evaluate", "own", "old", "new", "--answers", "answers.jsonl", "--report", "e.html")
    graded = command(*asked, "--json").json
    assert hostile not in (tmp_path / "e.html").read_text()
    assert [e["success_rate"] for e in graded["evaluations"]] == [0.5, 1]
    for suffix in ("md", "html", "json"):
        said = command("compare", "old", "new", *runs, "--report", f"r.{suffix}")
        assert said.code == 0, said
    page = (tmp_path / "r.html").read_text()
    assert "&lt;script&gt;" in page
    assert hostile not in page
    assert "# new against old" in (tmp_path / "r.md").read_text()
    assert json.loads((tmp_path / "r.json").read_text())["differing"][0]["task_id"] == "t"
    refused(command("compare", "old", "new", *runs, "--report", "r.pdf"), ".md, .html, .json")


def test_people_get_tables_and_a_hint_when_there_are_none(database: str, command: Command) -> None:
    for asked, hint in (
        (("status",), "No runs under way."),
        (("suite", "list"), "flywheel suite add"),
        (("experiment", "list"), "flywheel experiment start"),
        (("model", "list"), "flywheel model add"),
        (("decide", "list"), "No decisions yet."),
    ):
        said = command(*asked)
        assert (said.code, said.err) == (0, "")
        assert hint in said.out


@pytest.mark.parametrize(("port", "bound"), [("65536", "65535"), ("-1", "0")])
def test_a_port_that_no_machine_has_is_refused(process: Command, port: str, bound: str) -> None:
    said = process("gateway", f"--port={port}")
    assert said.code == 2, said
    assert "--port" in said.err
    assert bound in said.err


def test_a_queued_job_is_left_to_the_workers(
    database: str, command: Command, tmp_path: Path
) -> None:
    declare_queues()
    command("import", "coder_outputs", str(write_log(tmp_path / "log.jsonl", 3)))
    answer = command("curate", "--role", "coder", "--queue", "--json").json
    assert answer["status"] == "queued"
    assert [run["id"] for run in command("status", "--json").json["runs"]] == [answer["run_id"]]
    assert count("dataset") == 0


# Bad input


@pytest.mark.slow
def test_an_empty_database_is_upgraded_once_asked_for(
    empty_database: str, process: Command
) -> None:
    here = {"FLYWHEEL_DATABASE_URL": empty_database}
    refused(process("status", **here), "revision none", "Run: flywheel db upgrade")
    with psycopg.connect(empty_database) as server:
        tables = server.execute("SELECT FROM pg_tables WHERE schemaname = 'public'").rowcount
    assert tables == 0, "a refused command makes no table"
    revision = process("db", "upgrade", "--json", **here).json["revision"]
    assert process("db", "check", "--json", **here).json == {
        "revision": revision,
        "differences": [],
    }
    with psycopg.connect(empty_database, autocommit=True) as server:
        server.execute("ALTER TABLE suite DROP COLUMN origin")
    differing = process("db", "check", "--json", **here)
    assert differing.code == 1
    assert "origin" in json.loads(differing.out)["differences"][0]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("PORT", "abc", ("got 'abc'", "a valid integer")),
        ("ROLES", "coder,tester", ("got 'coder,tester'", "JSON")),
        ("UPSTREAMS", '{"a": {"api_key": "sk-secret"}', ("JSON", "not shown")),
        ("DATABASE_URL", "mysql://me:sk-secret@host/x", ("me:***@host", "postgresql://")),
        ("BROKER_URL", "kafka://me:sk-secret@host", ("me:***@host", "redis://")),
    ],
)
def test_a_wrong_setting(
    settings: object,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
    words: tuple[str, ...],
) -> None:
    monkeypatch.setenv(f"FLYWHEEL_{name}", value)
    get_settings.cache_clear()
    said = command("serve")
    refused(said, f"FLYWHEEL_{name}: got ", *words, "See docs/settings.md")
    assert "sk-secret" not in said.err


@pytest.mark.slow
def test_a_server_that_cannot_be_used(process: Command, tmp_path: Path) -> None:
    refused(process("status", FLYWHEEL_PORT="abc"), "FLYWHEEL_PORT")
    said = process("status", FLYWHEEL_DATABASE_URL="postgresql://me:sk-secret@127.0.0.1:1/x")
    refused(said, "me:***@127.0.0.1:1/x", "cannot connect", "Check FLYWHEEL_DATABASE_URL")
    assert "sk-secret" not in said.err
    (tmp_path / "file").write_text("not a folder")
    said = process("status", FLYWHEEL_DATABASE_URL=None, FLYWHEEL_HOME=str(tmp_path / "file"))
    refused(said, "FLYWHEEL_HOME", "a folder that can be made")


@pytest.mark.parametrize("service", ["serve", "gateway", "up"])
def test_beyond_loopback_a_key_is_needed(
    database: str, command: Command, monkeypatch: pytest.MonkeyPatch, service: str
) -> None:
    monkeypatch.setenv("FLYWHEEL_HOST", "0.0.0.0")
    get_settings.cache_clear()
    refused(command(service), "FLYWHEEL_HOST: got '0.0.0.0'", "Set FLYWHEEL_API_KEY")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("curate", "--role", "plumber"), ("'plumber'", "coder, tester", "FLYWHEEL_ROLES")),
        (("curate", "--role", "tester"), ("'tester'", "at least one logged", "flywheel import")),
        (("curate", "--role", "coder", "--variant", "best"), ("'best'", "sabotage")),
        (("train", "--role", "plumber"), ("'plumber'", "coder, tester", "FLYWHEEL_ROLES")),
        (("train", "--role", "coder"), ("dataset", "Run: flywheel curate --role coder")),
        (("train", "--role", "coder", "--preset", "best"), ("'best'", "plan, hafs, default, demo")),
        (("train", "--role", "coder", "--recipe", "none.yaml"), ("'none.yaml'", "YAML")),
        (("train", "--role", "coder", "--recipe", "lrr.yaml"), ("'lrr'", "batch_size", "preset")),
        (("train", "--role", "coder", "--recipe", "high.yaml"), ("recipe.lr", "7")),
        (("train", "--role", "coder", "--dataset", "7"), ("dataset: got '7'", "an id")),
        (("train", "--role", "coder", "--dataset", NOBODY, "--base", "b"), (NOBODY, "dataset")),
        (("evaluate", "none", "x"), ("'none'", "flywheel suite add")),
        (("suite", "add", "s", "none.jsonl"), ("'none.jsonl'", "Check the path")),
        (("suite", "add", "s", "bad.jsonl"), ("bad.jsonl line 2", "nothing of the file")),
        (("suite", "add", "s", "bad.jsonl", "--format", "csv"), ("'csv'", "humaneval")),
        (("suite", "add", "s", "bad.jsonl", "--role", "plumber"), ("'plumber'", "coder")),
        (("import", "parquet", "bad.jsonl"), ("'parquet'", "chat_jsonl, coder_outputs")),
        (("import", "chat_jsonl", "none.jsonl"), ("'none.jsonl'", "Check its name")),
        (("promote", "coder-v7", "--reason", "r"), ("'coder-v7'", "flywheel model list")),
        (("rollback", "plumber", "--reason", "r"), ("'plumber'", "FLYWHEEL_ROLES")),
        (("rollback", "coder", "--reason", "r"), ("coder", "flywheel promote VERSION --reason")),
        (("experiment", "start", "coder-v7"), ("'coder-v7'", "flywheel model list")),
        (("experiment", "show", "7"), ("experiment: got '7'", "Copy it whole")),
        (("experiment", "stop", NOBODY, "--reason", "r"), (NOBODY,)),
        (("turn", "plumber"), ("'plumber'", "coder, tester", "FLYWHEEL_ROLES")),
        (("turn", "coder"), ("'coder'", "nobody serves it", "flywheel promote VERSION")),
        (("turn", "coder", "--suite", "sums"), ("'sums'", "role=suite")),
        (("turn", "coder", "--suite", "coder=none"), ("'none'", "flywheel suite add")),
        (("turn", "coder", "--profile", "best"), ("'best'", "standard, demo")),
        (("turn", "coder", "--preset", "best"), ("'best'", "plan, hafs, default, demo")),
        (("model", "add", "plumber", "a-model"), ("'plumber'", "coder, tester")),
        (("decide", "show", NOBODY), (NOBODY, "flywheel decide list")),
        (("decide", "replay", NOBODY), (NOBODY, "flywheel decide list")),
        (("engine",), ("base model", "FLYWHEEL_BASE_MODEL")),
        (("worker", "--queues", "cpu,tpu"), ("'tpu'", "ingest, cpu, gpu")),
        (("demo", "--rounds", "0"), ("--rounds: got 0", "1 or more")),
        (("demo", "--seed", "-1"), ("--seed: got -1", "0 or more")),
        (("demo", "--sabotage", "nobody"), ("'nobody'", "coder, tester, reviewer")),
    ],
    ids=lambda value: " ".join(value) if value and value[0][0].islower() else "",
)
def test_bad_input(
    database: str,
    command: Command,
    tmp_path: Path,
    arguments: tuple[str, ...],
    words: tuple[str, ...],
) -> None:
    (tmp_path / "lrr.yaml").write_text("lrr: 3")
    (tmp_path / "high.yaml").write_text("lr: 7")
    task = {"task_id": "t", "prompt": "p", "grader": "exact", "reference": {"answer": "a"}}
    (tmp_path / "bad.jsonl").write_text(f'{json.dumps(task)}\n{{"task_id":\n')
    refused(command(*arguments), *words)
    for table in ("run", "decision", "dataset", "suite", "interaction"):
        assert count(table) == 0, f"a refused command left a row in {table}"


def test_bad_lines_are_written_beside_and_the_good_ones_stored(
    database: str, process: Command, command: Command, tmp_path: Path
) -> None:
    chat = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]}
    other = {
        "messages": [{"role": "user", "content": "ho"}, {"role": "assistant", "content": "ya"}]
    }
    lines = [json.dumps(chat), '{"messages": [', "", json.dumps({"messages": 3}), json.dumps(other)]
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    said = process("import", "chat_jsonl", "log.jsonl", "--json")
    report = json.loads(said.out)
    refused(
        replace(said, out=""),
        "2 rejected of 4 lines",
        "The others are stored; see log.jsonl.rejects.jsonl",
    )
    assert (report["read"], report["stored"], report["rejected"]) == (4, 2, 2)
    assert count("interaction") == 2
    rejects = tmp_path / "log.jsonl.rejects.jsonl"
    assert report["rejects_file"] == rejects.name
    rows = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert [(row["line"], row["text"]) for row in rows] == [(2, lines[1]), (4, lines[3])]
    assert [row["reason"].partition(":")[0] for row in rows] == ["not_json", "malformed"]

    (tmp_path / "bad.jsonl").write_text("not json\n{}\n")
    refused(
        command("import", "chat_jsonl", "bad.jsonl"),
        "2 rejected of 2 lines",
        "lines of the format 'chat_jsonl'",
        "See bad.jsonl.rejects.jsonl",
    )
    assert count("interaction") == 2


def test_the_demo_refuses_a_real_log_and_touches_nothing(
    database: str, command: Command, tmp_path: Path
) -> None:
    command("import", "coder_outputs", str(write_log(tmp_path / "log.jsonl", 3)))
    home = get_settings().home
    (home / "spool").mkdir(parents=True)
    (home / "spool" / "unsent").write_text("somebody's record")
    before = {table: count(table) for table in ("interaction", "feedback", "ingest_count")}
    assert before["interaction"] == 3
    kept = sorted(home.rglob("*"))
    said = command("demo", "--json")
    refused(said, f"got '{home}'", "real records", "FLYWHEEL_HOME=.flywheel-demo flywheel demo")
    assert {table: count(table) for table in before} == before
    assert sorted(home.rglob("*")) == kept


def test_the_demo_refuses_to_drop_a_real_suite(
    database: str, command: Command, tmp_path: Path
) -> None:
    task = {"task_id": "t", "prompt": "p", "grader": "exact", "reference": {"answer": "a"}}
    write_lines(tmp_path / "tasks.jsonl", [task])
    command("suite", "add", "mine", "tasks.jsonl", "--json")
    refused(command("demo", "--json"), "real records")
    assert count("suite") == 1


def test_an_unreachable_broker_keeps_the_order_and_says_so(
    database: str, process: Command, command: Command, tmp_path: Path
) -> None:
    command("import", "coder_outputs", str(write_log(tmp_path / "log.jsonl", 3)))
    said = process(
        "curate", "--role", "coder", "--queue", "--json", FLYWHEEL_BROKER_URL="redis://127.0.0.1:1"
    )
    assert said.json["status"] == "queued"
    assert "the sweeper will send it again" in said.err
    assert "Traceback" not in said.err


# The base install


@pytest.fixture(scope="session")
def base_install(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the distributions of the base install only, as links to those of this one."""
    folder = tmp_path_factory.mktemp("base-install")
    for distribution in closure("agent-flywheel", {}).values():
        names = {file.parts[0] for file in distribution.files or []} - {"..", "__pycache__"}
        for name in names:
            source = Path(str(distribution.locate_file(name)))
            if "__editable__" not in name and not (folder / name).exists() and source.exists():
                (folder / name).symlink_to(source)
    return folder


def closure(
    name: str, found: dict[str, importlib.metadata.Distribution]
) -> dict[str, importlib.metadata.Distribution]:
    """Return a distribution and what it requires, without extras."""
    if name in found:
        return found
    try:
        found[name] = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return found  # for another Python or system
    for requirement in found[name].requires or []:
        required = re.match(r"[\w.-]+", requirement)
        if required and "extra ==" not in requirement:
            closure(re.sub(r"[-_.]+", "-", required.group()).lower(), found)
    return found


def base_command(base_install: Path, folder: Path, *arguments: str) -> Said:
    path = os.pathsep.join((str(PROJECT), str(base_install)))
    return python("-S", "-m", "flywheel", *arguments, folder=folder, PYTHONPATH=path)


def test_help_needs_the_base_install_only(base_install: Path, tmp_path: Path) -> None:
    for asked in ((), ("demo",), ("db",), ("evaluate",)):
        said = base_command(base_install, tmp_path, *asked, "--help")
        assert (said.code, said.err) == (0, "")
        assert "Usage" in said.out


@pytest.mark.parametrize(
    "arguments",
    [
        ("status",),
        ("serve",),
        ("engine",),
        ("worker",),
        ("scheduler",),
        ("up",),
        ("demo",),
        ("turn", "coder"),
        ("model", "list"),
        ("import", "chat_jsonl", "log.jsonl"),
        ("curate", "--role", "coder"),
        ("train", "--role", "coder"),
        ("suite", "list"),
        ("evaluate", "s", "c"),
        ("promote", "v", "--reason", "r"),
        ("decide", "list"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_missing_extra(base_install: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    said = base_command(base_install, tmp_path, *arguments)
    refused(
        said, "is not installed", "the extra [service]", "pip install 'agent-flywheel[service]'"
    )
    assert list(tmp_path.iterdir()) == []
