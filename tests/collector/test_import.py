import gzip
import json
from collections import Counter
from pathlib import Path

import pytest
from sqlmodel import Session, select

from collector.direct import DirectTransport
from collector.importers import formats, get, run_import
from collector.importers.run import Options
from collector.importers.source import Source
from collector.tables import Feedback, Interaction, InteractionPayload
from collector.transport import Unreachable
from foundation.errors import BadInput
from foundation.runs import execute, get_run
from foundation.tables import QUEUED, Run

ROW = {
    "run": "r1",
    "model": "gpt-x",
    "strategy": "simple",
    "dataset": "humaneval",
    "task_id": "HumanEval/1",
    "solution": "def f():\n    return 1  # jo@x.org",
    "label_reported": True,
    "exec_pass": True,
    "source": "s",
}


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.fixture
def answers(tmp_path, monkeypatch):
    """Four good rows (one lost, one failed) and three bad ones, with prompts beside."""
    monkeypatch.chdir(tmp_path)
    write(
        tmp_path / "humaneval" / "tasks.jsonl", [{"task_id": "HumanEval/1", "prompt": "def f():"}]
    )
    return write(
        tmp_path / "coder_outputs" / "answers.jsonl.gz",
        [
            ROW,
            ROW | {"run": "r2", "exec_pass": False},
            '{"run": "r3", "model"',
            ROW | {"task_id": "HumanEval/3", "solution": "  \n"},
            "",
            ROW | {"run": "r4", "exec_pass": None, "solution": "pw jo@x.org"},
            "[1, 2]",
            ROW | {"task_id": "HumanEval/5", "exec_pass": True},
        ],
    )


def test_answers_become_interactions_with_the_tests_feedback(session: Session, answers, tmp_path):
    progress: list = []
    report = run_import("coder_outputs", [answers], DirectTransport(), progress=progress.append)
    assert (report.read, report.stored, report.duplicates, report.rejected) == (7, 4, 0, 3)
    assert (report.lost, report.feedback_stored) == (1, 3)
    assert [place.line for place in progress] == [8, 8]
    assert progress[-1].done_bytes == progress[-1].total_bytes == answers.stat().st_size
    rows = session.exec(select(Interaction)).all()
    assert {row.role for row in rows} == {"coder"}
    assert {row.source for row in rows} == {"import:coder_outputs"}
    assert len({row.episode_id for row in rows}) == 4
    (lost,) = [row for row in rows if not row.completed]
    assert (lost.error_type, lost.status) == ("lost_answer", "cut")
    opinions = session.exec(select(Feedback)).all()
    assert Counter(f.value for f in opinions) == {1.0: 2, 0.0: 1}
    assert {f.source for f in opinions} == {"test"}
    assert lost.id not in {f.interaction_id for f in opinions}
    prompts = {
        p.attributes["task_id"]: p.request["messages"][0]["content"]
        for p in session.exec(select(InteractionPayload))
    }
    assert prompts["HumanEval/1"] == "def f():"
    assert prompts["HumanEval/5"] == "HumanEval/5"


def test_rejected_lines_are_written_aside_scrubbed(session: Session, answers, tmp_path):
    report = run_import("coder_outputs", [answers], DirectTransport())
    rejects = [json.loads(line) for line in Path(report.rejects_file).read_text().splitlines()]
    assert [(r["line"], r["reason"].partition(":")[0]) for r in rejects] == [
        (3, "not_json"),
        (6, "malformed"),
        (7, "not_an_object"),
    ]
    assert "<EMAIL_1>" in rejects[1]["text"]
    assert report.reasons == {"not_json": 1, "malformed": 1, "not_an_object": 1}


def test_importing_again_stores_nothing(session: Session, answers):
    run_import("coder_outputs", [answers], DirectTransport())
    report = run_import("coder_outputs", [answers.parent], DirectTransport())
    assert (report.stored, report.duplicates, report.feedback_stored) == (0, 4, 0)
    assert len(session.exec(select(Feedback)).all()) == 3


def test_dry_run_stores_and_writes_nothing(session: Session, answers, tmp_path):
    report = run_import("coder_outputs", [answers], DirectTransport(), Options(dry_run=True))
    assert (report.read, report.stored, report.rejected, report.lost) == (7, 4, 3, 1)
    assert report.rejects_file is None
    assert session.exec(select(Interaction)).all() == []
    assert list(tmp_path.glob("*.rejects.jsonl")) == []


def test_an_interrupted_import_is_started_again(session: Session, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "d" / "a.jsonl", [ROW | {"run": f"r{n}"} for n in range(1200)])

    class Breaking(DirectTransport):
        batches = 0

        def send(self, batch):
            self.batches += 1
            if self.batches == 2:
                raise Unreachable("gone")
            return super().send(batch)

    with pytest.raises(Unreachable):
        run_import("coder_outputs", [path], Breaking(), Options(waits_s=()))
    report = run_import("coder_outputs", [path], DirectTransport())
    assert (report.stored, report.duplicates) == (950, 250)


@pytest.mark.parametrize(
    ("format", "name", "match"),
    [
        (
            "nonsense",
            "a.jsonl",
            "import format: got 'nonsense', expected one of alpaca",
        ),
        ("chat_jsonl", "absent.jsonl", "import path"),
        ("chat_jsonl", "empty", "import path"),
        ("chat_jsonl", "a.jsonl", "2 rejected of 2 lines"),
        ("chat_jsonl", "cut.jsonl.gz", "unreadable"),
    ],
)
def test_bad_input_is_named(session: Session, tmp_path, monkeypatch, format, name, match):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    write(tmp_path / "a.jsonl", ["{", '{"messages": []}'])
    (tmp_path / "cut.jsonl.gz").write_bytes(b"not gzip at all")
    with pytest.raises(BadInput, match=match):
        run_import(format, [tmp_path / name], DirectTransport())
    assert session.exec(select(Interaction)).all() == []


def test_unknown_role_is_rejected_in_a_dry_run_too(session: Session, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    chat = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    path = write(
        tmp_path / "a.jsonl", [{"messages": chat}, {"messages": chat, "agent_role": "wizard"}]
    )
    for dry_run in (True, False):
        report = run_import("chat_jsonl", [path], DirectTransport(), Options(dry_run=dry_run))
        assert (report.stored, report.rejected) == (1, 1)
        assert report.reasons == {"unknown_role": 1}


def test_every_answer_of_a_chat_becomes_an_interaction(tmp_path):
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    chat = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "1"},
        {"role": "assistant", "content": "a", "weight": 0},
        {"role": "user", "content": "q2"},
        {"role": "assistant", "content": "b", "weight": 1},
    ]
    path = write(tmp_path / "a.jsonl", [{"messages": chat, "tools": [{"type": "function"}]}])
    first, second = get("chat_jsonl")(Source(path))
    assert first.interaction["request"]["messages"] == chat[:2]
    assert first.interaction["gen_ai_response_finish_reasons"] == ["tool_calls"]
    seen = [{k: v for k, v in said.items() if k != "weight"} for said in chat]
    assert second.interaction["request"]["messages"] == seen[:6]
    assert second.interaction["parent_id"] == first.interaction["id"]
    assert second.interaction["response"]["choices"][0]["message"] == {
        "role": "assistant", "content": "b",
    }  # fmt: skip
    assert first.interaction["episode_id"] == second.interaction["episode_id"]
    assert first.interaction["request"]["tools"] == [{"type": "function"}]


def test_jobs_import_and_maintain(session: Session, answers, settings):
    import collector.tasks  # noqa: F401  registers the jobs

    params = {"format": "coder_outputs", "paths": [str(answers)]}
    runs = [
        Run(kind="collector.import", params=params, status=QUEUED),
        Run(kind="collector.maintain", status=QUEUED),
    ]
    session.add_all(runs)
    session.commit()
    for run in runs:
        execute(run.id)
    session.expire_all()
    imported, maintained = (get_run(session, run.id) for run in runs)
    assert (imported.status, imported.result["stored"]) == ("done", 4)
    assert (maintained.status, maintained.result) == ("done", {"partitions_made": []})


def test_formats_are_listed():
    assert formats() == sorted(formats())
    assert "coder_outputs" in formats()


@pytest.mark.data
def test_public_answers(session: Session, public_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = run_import("coder_outputs", [public_data / "coder_outputs"], DirectTransport())
    assert (report.read, report.stored, report.rejected) == (2181, 2181, 0)
    assert (report.lost, report.feedback_stored) == (155, 2026)
    requests = session.exec(select(InteractionPayload.request)).all()
    prompts = [request["messages"][0]["content"] for request in requests]
    assert sum(len(prompt) > 20 for prompt in prompts) > 2000
