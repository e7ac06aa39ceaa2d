"""An import that is interrupted, refused or sent over HTTP: nothing lost, nothing twice."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest
import uvicorn
from sqlalchemy import func
from sqlmodel import Session, select

from collector import admission
from collector.direct import DirectTransport
from collector.importers.run import Options, run_import
from collector.importers.source import Defaults
from collector.tables import Feedback, Interaction, InteractionPayload
from collector.transport import HttpTransport, Refused, Unreachable
from foundation.errors import BadInput


def chat(number, answer="a"):
    said = [{"role": "user", "content": f"q {number}"}, {"role": "assistant", "content": answer}]
    return {"messages": said}


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def n_stored(session: Session) -> int:
    return session.exec(select(func.count()).select_from(Interaction)).one()


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    """Rejected lines are written to the present folder."""
    monkeypatch.chdir(tmp_path)


class Failing(DirectTransport):
    """Takes some batches, then none."""

    def __init__(self, n_taken: int) -> None:
        super().__init__()
        self.n_left = n_taken

    def send(self, batch):
        if self.n_left == 0:
            raise Unreachable("gone")
        self.n_left -= 1
        return super().send(batch)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with two files, a thousand and eleven chats and one line that is none."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "chats").mkdir()
    written(tmp_path / "chats" / "a.jsonl", [chat(n) for n in range(10)] + [{"no": "chat"}])
    written(tmp_path / "chats" / "b.jsonl", [chat(n) for n in range(10, 1011)])
    return tmp_path / "chats"


def options(tmp_path, **more):
    return Options(marks=tmp_path / "marks", waits_s=(), **more)


def test_a_killed_import_goes_on_after_its_last_batch(session: Session, folder, tmp_path):
    with pytest.raises(Unreachable):
        run_import("chat_jsonl", [folder], Failing(2), options(tmp_path))
    assert n_stored(session) == 510
    report = run_import("chat_jsonl", [folder], DirectTransport(), options(tmp_path))
    assert (report.stored, report.duplicates, report.skipped) == (501, 0, 11 + 500)
    assert n_stored(session) == 1011
    rejects = (tmp_path / "a.jsonl.rejects.jsonl").read_text().splitlines()
    assert [json.loads(line)["line"] for line in rejects] == [11]
    assert list((tmp_path / "marks").iterdir()) == []
    again = run_import("chat_jsonl", [folder], DirectTransport(), options(tmp_path))
    assert (again.stored, again.duplicates, again.skipped) == (0, 1011, 0)


def test_a_mark_holds_for_the_same_file_role_and_target_only(session: Session, folder, tmp_path):
    with pytest.raises(Unreachable):
        run_import("chat_jsonl", [folder / "b.jsonl"], Failing(1), options(tmp_path))
    for changed in (
        {"from_start": True},
        {"target": "elsewhere"},
        {"defaults": Defaults(role="tester")},
    ):
        with pytest.raises(Unreachable):
            run_import("chat_jsonl", [folder / "b.jsonl"], Failing(0), options(tmp_path, **changed))
    report = run_import("chat_jsonl", [folder / "b.jsonl"], DirectTransport(), options(tmp_path))
    assert report.skipped == 500
    with pytest.raises(Unreachable):
        run_import("chat_jsonl", [folder / "b.jsonl"], Failing(1), options(tmp_path))
    with open(folder / "b.jsonl", "a") as file:
        file.write(json.dumps(chat(5000)) + "\n")
    report = run_import("chat_jsonl", [folder / "b.jsonl"], DirectTransport(), options(tmp_path))
    assert (report.skipped, report.stored) == (0, 1)


def test_a_damaged_mark_costs_time_only(session: Session, folder, tmp_path):
    with pytest.raises(Unreachable):
        run_import("chat_jsonl", [folder / "b.jsonl"], Failing(1), options(tmp_path))
    for mark in (tmp_path / "marks").iterdir():
        mark.write_text('{"place": ')
    report = run_import("chat_jsonl", [folder / "b.jsonl"], DirectTransport(), options(tmp_path))
    assert (report.stored, report.duplicates, report.skipped) == (501, 500, 0)


def test_a_dry_run_touches_nothing(session: Session, folder, tmp_path):
    report = run_import("chat_jsonl", [folder], Failing(0), options(tmp_path, dry_run=True))
    assert (report.stored, report.rejected) == (1011, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chats"]
    assert n_stored(session) == 0


def test_a_dry_run_knows_the_files_own_doubles(tmp_path):
    path = written(tmp_path / "a.jsonl", [chat(1), chat(2), chat(1)])
    report = run_import("chat_jsonl", [path], Failing(0), Options(dry_run=True))
    assert (report.stored, report.duplicates) == (2, 1)


def test_a_collector_that_comes_back_is_waited_for(session: Session, tmp_path):
    class Flapping(DirectTransport):
        n_calls = 0

        def send(self, batch):
            self.n_calls += 1
            if self.n_calls % 2:
                raise Unreachable("restarting", retry_after_s=0.0)
            return super().send(batch)

    path = written(tmp_path / "a.jsonl", [chat(n) for n in range(700)])
    report = run_import("chat_jsonl", [path], Flapping(), Options(waits_s=(0.0,)))
    assert report.stored == n_stored(session) == 700


def test_a_batch_that_is_too_much_goes_in_halves(session: Session, tmp_path):
    class Narrow(DirectTransport):
        def send(self, batch):
            if len(batch["interactions"]) > 3 or "bad" in json.dumps(batch["interactions"][1:]):
                raise Refused("413: too large")
            if "bad" in json.dumps(batch):
                raise Refused("400: no")
            return super().send(batch)

    rows = [chat(n) for n in range(9)] + [chat(9, "bad")]
    rows = [row | {"label": True} for row in rows]
    report = run_import("kto", [written(tmp_path / "a.jsonl", rows)], Narrow())
    assert (report.stored, report.rejected) == (9, 1)
    assert report.reasons["refused"] == 1
    assert n_stored(session) == 9


@pytest.mark.parametrize("rejects", ["gone/rejects.jsonl", "."])
def test_where_rejects_cannot_be_written_nothing_is_imported(session: Session, tmp_path, rejects):
    path = written(tmp_path / "a.jsonl", [chat(1), {"no": "chat"}])
    with pytest.raises(BadInput, match="folder that exists"):
        run_import(
            "chat_jsonl", [path], DirectTransport(), Options(rejects_path=tmp_path / rejects)
        )
    assert n_stored(session) == 0


def test_a_file_named_twice_is_read_once(session: Session, tmp_path):
    path = written(tmp_path / "a.jsonl", [chat(1)])
    paths = [path, tmp_path, tmp_path / ".." / tmp_path.name / "a.jsonl"]
    for dry_run in (True, False):
        told = Options(dry_run=dry_run, marks=tmp_path / "marks")
        report = run_import("auto", paths, DirectTransport(), told)
        assert (report.read, report.stored, report.skipped) == (1, 1, 0)


def test_what_cannot_be_read_is_said_before_anything_is_stored(
    session: Session, tmp_path, monkeypatch
):
    good, bad = (written(tmp_path / name, [chat(1)]) for name in ("a.jsonl", "b.jsonl"))
    told = Options(mapping=tmp_path / "gone.yaml", marks=tmp_path / "marks")
    with pytest.raises(BadInput, match=r"gone\.yaml.*readable"):
        run_import("mapped", [good], DirectTransport(), told)
    may = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != bad and may(path, mode))
    with pytest.raises(BadInput, match=r"b\.jsonl.*readable file"):
        run_import("chat_jsonl", [good, bad], DirectTransport())
    assert n_stored(session) == 0


def test_a_line_of_many_answers_is_sent_in_parts(session: Session, tmp_path):
    turns = [{"role": who, "content": f"{n}"} for n in range(2100) for who in ("user", "assistant")]
    path = written(tmp_path / "a.jsonl", [chat(1), {"messages": turns[:200]}, chat(2)])
    sizes = []

    class Counting(DirectTransport):
        def send(self, batch):
            sizes.append(len(batch["interactions"]))
            return super().send(batch)

    assert run_import("chat_jsonl", [path], Counting()).stored == 102
    assert max(sizes) <= 2000


def test_a_feedback_that_is_refused_is_written_aside(session: Session, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mapping = tmp_path / "map.yaml"
    mapping.write_text(
        "prompt: $.q\nanswer: $.a\nfeedback: [{kind: rating, value: $.stars, source: user}]"
    )
    path = written(tmp_path / "a.jsonl", [{"q": "1", "a": "x", "stars": n} for n in (5, 9)])
    for dry_run in (True, False):
        told = Options(mapping=mapping, dry_run=dry_run)
        report = run_import("mapped", [path], DirectTransport(), told)
        assert (report.stored, report.feedback_stored, report.feedback_rejected) == (2, 1, 1)
    (reject,) = map(json.loads, (tmp_path / "a.jsonl.rejects.jsonl").read_text().splitlines())
    assert (reject["line"], "rating" in reject["reason"]) == (2, True)


def test_other_roles_and_projects_make_other_records(session: Session, tmp_path):
    path = written(tmp_path / "a.jsonl", [chat(1)])
    for role, project in (("coder", "default"), ("tester", "default"), ("tester", "shop")):
        told = Options(defaults=Defaults(role=role, project=project, task_type="t"))
        assert run_import("chat_jsonl", [path], DirectTransport(), told).stored == 1
        assert run_import("chat_jsonl", [path], DirectTransport(), told).duplicates == 1
    found = {(i.role, i.project, i.task_type) for i in session.exec(select(Interaction))}
    assert found == {("coder", "default", "t"), ("tester", "default", "t"), ("tester", "shop", "t")}


def test_auto_tells_each_file_and_rejects_what_it_does_not_know(
    session: Session, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "d" / "deeper"
    folder.mkdir(parents=True)
    written(folder / "a.jsonl", [chat(1)])
    written(folder / "b.json", [{"prompt": "p", "chosen": "x", "rejected": "y"}])
    written(folder / "c.jsonl", [{"what": "is this"}])
    (folder / "d.rejects.jsonl").write_text("{}")
    report = run_import("auto", [tmp_path / "d"], DirectTransport())
    assert report.formats == {"chat_jsonl": 1, "dpo": 1}
    assert (report.stored, report.reasons) == (3, {"unknown_format": 1})
    with pytest.raises(BadInput, match="fields what"):
        run_import("auto", [folder / "c.jsonl"], DirectTransport())


@contextmanager
def service():
    """The real app behind a real server on loopback; yields its address."""
    from flywheel.app import create_app

    config = uvicorn.Config(create_app(), port=0, log_level="error", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def test_an_import_over_http_is_scrubbed_before_it_leaves(session: Session, tmp_path):
    sent: list[str] = []

    class Watched(HttpTransport):
        def send(self, batch):
            sent.append(json.dumps(batch))
            return super().send(batch)

    row = chat(1, "write to jane.roe@corp-mail.org") | {"label": False}
    path = written(tmp_path / "a.jsonl", [row])
    with service() as url:
        sink = Watched(url)
        reports = [run_import("kto", [path], sink) for _ in range(2)]
        sink.close()
    assert [(r.stored, r.duplicates, r.feedback_stored) for r in reports] == [(1, 0, 1), (0, 1, 0)]
    assert "jane.roe" not in "".join(sent)
    (payload,) = session.exec(select(InteractionPayload))
    assert "<EMAIL_1>" in json.dumps(payload.response)
    assert len(session.exec(select(Feedback)).all()) == 1


def test_what_cannot_be_scrubbed_stays_here(session: Session, tmp_path, monkeypatch):
    """Fail closed: it is neither sent nor written aside."""
    monkeypatch.chdir(tmp_path)
    scrub = admission.scrub_record

    def scrub_but_one(raw, scrubber):
        if "unlucky" in json.dumps(raw):
            raise ZeroDivisionError
        return scrub(raw, scrubber)

    monkeypatch.setattr(admission, "scrub_record", scrub_but_one)
    rows = [chat(1), chat(2, "unlucky secret"), {"unlucky": "secret"}, chat(3)]
    path = written(tmp_path / "a.jsonl", rows)
    with service() as url:
        sink = HttpTransport(url)
        report = run_import("chat_jsonl", [path], sink)
        sink.close()
    assert (report.stored, n_stored(session)) == (2, 2)
    assert report.reasons == {"scrub_failed": 1, "malformed": 1}
    text = (tmp_path / "a.jsonl.rejects.jsonl").read_text()
    assert len(text.splitlines()) == 2
    assert "secret" not in text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_command_goes_on_after_any_end(session: Session, tmp_path, database, settings, number):
    path = written(tmp_path / "a.jsonl", [chat(n, "x" * 2000) for n in range(10000)])
    command = [sys.executable, "-m", "flywheel", "import", "chat_jsonl", str(path), "--json"]
    running = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ
    )
    marks = settings.home / "imports"
    while running.poll() is None and not (marks.exists() and any(marks.glob("*.json"))):
        time.sleep(0.005)
    running.send_signal(number)
    _, said = running.communicate()
    assert running.returncode == {2: 130, 15: 143, 9: -9}[number], said
    if number != signal.SIGKILL:
        assert b"The same command goes on there" in b" ".join(said.split())
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, env=os.environ, check=True)
    report = json.loads(done.stdout)
    assert report["skipped"] > 0
    assert report["skipped"] + report["stored"] + report["duplicates"] == 10000
    assert n_stored(session) == 10000
