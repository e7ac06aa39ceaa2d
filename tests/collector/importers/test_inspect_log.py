import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import Session, select

from collector.direct import DirectTransport
from collector.importers import get, inspect_log, run_import
from collector.importers.lines import Imported, Reject
from collector.importers.registry import guess
from collector.importers.source import Source
from collector.tables import Feedback, Interaction

HEADER = {
    "version": 2,
    "status": "success",
    "eval": {"run_id": "r1", "task": "t", "model": "openai/m", "created": "2025-05-01T08:00:00Z"},
}
USER = {"id": "m1", "role": "user", "content": "attachment://abc", "source": "input"}
CALL = {"id": "c1", "function": "bash", "arguments": {"cmd": "ls"}, "type": "function"}
ANSWER = {"id": "m2", "role": "assistant", "content": "Look", "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "c1", "function": "bash", "content": ""}
RESULT |= {"error": {"type": "timeout", "message": "too slow"}}


def output(message: Any, stop: str = "stop") -> dict[str, Any]:
    usage = {"input_tokens": 9, "output_tokens": 4, "total_tokens": 13, "reasoning_tokens": 2}
    return {"model": "m-1", "choices": [{"message": message, "stop_reason": stop}], "usage": usage}


def event(**fields: Any) -> dict[str, Any]:
    return {
        "event": "model",
        "model": "openai/m",
        "timestamp": "2025-05-01T08:00:01Z",
        "completed": "2025-05-01T08:00:02.500Z",
        "input": [USER],
        "tools": [{"name": "bash", "description": "run", "parameters": {"type": "object"}}],
        "config": {"temperature": 0.1, "stop_seqs": ["END"]},
        "output": output(ANSWER, "tool_calls"),
        **fields,
    }


def sample(**fields: Any) -> dict[str, Any]:
    return {
        "id": 7,
        "epoch": 1,
        "target": "a.py",
        "messages": [USER, ANSWER],
        "attachments": {"abc": "List the files."},
        "events": [event()],
        "scores": {"includes": {"value": "C", "answer": "a.py"}},
        **fields,
    }


def write(path: Path, samples: list[Any], header: dict[str, Any] | None = None) -> Path:
    log = HEADER if header is None else header
    if path.suffix == ".json":
        path.write_text(json.dumps(log | {"samples": samples}, indent=1), encoding="utf-8")
        return path
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        if log:
            archive.writestr("header.json", json.dumps(log))
        for number, item in enumerate(samples):
            text = item if isinstance(item, str) else json.dumps(item)
            archive.writestr(f"samples/{number}_epoch_1.json", text)
    return path


def read(path: Path) -> list[Imported | Reject]:
    return list(get("inspect")(Source(path)))


def records(path: Path) -> list[dict[str, Any]]:
    return [item.interaction for item in read(path) if isinstance(item, Imported)]


@pytest.mark.parametrize("name", ["log.json", "log.eval"])
def test_a_model_event_becomes_an_interaction_of_its_sample(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, [sample()])
    assert guess(path).name == "inspect"
    (imported,) = read(path)
    assert isinstance(imported, Imported)
    record = imported.interaction
    assert record["request"] == {
        "model": "openai/m",
        "messages": [{"role": "user", "content": "List the files."}],
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "bash",
                    "description": "run",
                    "parameters": {"type": "object"},
                },
            }
        ],
        "temperature": 0.1,
        "stop": ["END"],
    }
    (choice,) = record["response"]["choices"]
    (call,) = choice["message"]["tool_calls"]
    assert call["function"] == {"name": "bash", "arguments": '{"cmd":"ls"}'}
    assert choice["finish_reason"] == "tool_calls"
    assert (record["latency_ms"], record["gen_ai_usage_input_tokens"]) == (1500, 9)
    assert record["started_at"] == "2025-05-01T08:00:01+00:00"
    assert record["attributes"]["sample_id"] == 7
    (score,) = imported.feedback
    assert (score["kind"], score["value"], score["source"]) == ("success", 1.0, "test")
    assert score["interaction_id"] == record["id"]


def test_a_log_gives_the_same_records_as_a_document_and_as_a_zip(tmp_path: Path) -> None:
    samples = [sample(), sample(id=8)]
    assert records(write(tmp_path / "a.json", samples)) == records(
        write(tmp_path / "a.eval", samples)
    )


def test_the_provider_s_own_request_and_response_are_kept(tmp_path: Path) -> None:
    sent = {"model": "m", "messages": [{"role": "user", "content": "attachment://abc"}]}
    got = {"id": "x", "choices": [{"message": {"role": "assistant", "content": "raw"}}]}
    raw = {"request": sent | {"tools": None, "extra_headers": {"k": "v"}}, "response": got}
    (record,) = records(write(tmp_path / "a.json", [sample(events=[event(call=raw)])]))
    assert record["request"] == {
        "model": "m",
        "messages": [{"role": "user", "content": "List the files."}],
    }
    assert record["response"] == got


def test_input_kept_in_a_pool_is_put_together(tmp_path: Path) -> None:
    pooled = event(input=[], input_refs=[[0, 1], [2, 3]])
    pool = [{"role": "system", "content": "S"}, RESULT, USER]
    log = [sample(events=[pooled], events_data={"messages": pool})]
    (record,) = records(write(tmp_path / "a.json", log))
    assert [m["content"] for m in record["request"]["messages"]] == ["S", "List the files."]


def test_a_sample_without_events_is_read_from_its_messages(tmp_path: Path) -> None:
    parts = [{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": "a.py"}]
    final = {"role": "assistant", "content": parts}
    bare = sample(events=[], messages=[USER, ANSWER, RESULT, final], output=output(final))
    first, last = records(write(tmp_path / "a.json", [bare]))
    assert first["response"]["choices"][0]["message"]["content"] == "Look"
    said = last["response"]["choices"][0]["message"]
    assert said == {"role": "assistant", "content": "a.py", "reasoning_content": "hm"}
    assert last["request"]["messages"][-1]["content"] == "too slow"
    assert last["gen_ai_usage_output_tokens"] == 4
    assert last["parent_id"] == first["id"]


def test_calls_of_a_scorer_and_of_a_model_role_are_not_the_agent_s(tmp_path: Path) -> None:
    events = [
        {"event": "span_begin", "id": "s1", "type": "scorers"},
        {"event": "span_begin", "id": "s2", "type": "scorer", "parent_id": "s1"},
        event(),
        event(span_id="s2"),
        event(role="grader"),
        event(role="tester"),
        event(role="red_team"),
    ]
    found = records(write(tmp_path / "a.json", [sample(events=events)]))
    assert [record["role"] for record in found] == [
        *("coder", "reviewer", "reviewer", "tester", "coder")
    ]


def test_failed_and_cancelled_calls_say_so(tmp_path: Path) -> None:
    events = [
        event(error="RateLimitError", output={"model": "m", "choices": []}),
        event(pending=True, output={"model": "m", "choices": []}),
    ]
    log = HEADER | {"status": "cancelled"}
    found = read(write(tmp_path / "a.json", [sample(events=events, error={"message": "x"})], log))
    failed, cut = [item for item in found if isinstance(item, Imported)]
    assert (failed.interaction["status"], failed.interaction["error_type"]) == (
        "error",
        "RateLimitError",
    )
    assert (cut.interaction["status"], cut.lost, failed.lost) == ("cut", True, False)
    assert cut.interaction["attributes"]["log_status"] == "cancelled"
    assert cut.interaction["attributes"]["error"] == "x"


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ({"m": {"value": "I"}}, [("m", "success", 0.0, None, "test")]),
        ({"m": {"value": "P"}}, [("m", "metric", 0.5, None, "test")]),
        ({"m": {"value": 0.25}}, [("m", "metric", 0.25, None, "test")]),
        ({"m": {"value": True}}, [("m", "success", 1.0, None, "test")]),
        ({"m": {"value": "good"}}, [("m", "category", None, "good", "test")]),
        ({"model_graded_qa": {"value": "C"}}, [("model_graded_qa", "success", 1.0, None, "judge")]),
        (
            {"m": {"value": {"a": 1, "b": "C"}}},
            [("m.a", "metric", 1.0, None, "test"), ("m.b", "success", 1.0, None, "test")],
        ),
        ({"m": {"value": None}}, []),
    ],
)
def test_scores_become_feedback(tmp_path: Path, scores: Any, said: Any) -> None:
    (imported,) = read(write(tmp_path / "a.json", [sample(scores=scores)]))
    assert isinstance(imported, Imported)
    assert [
        (f["name"], f["kind"], f.get("value"), f.get("text"), f["source"])
        for f in imported.feedback
    ] == said


def test_an_unfinished_log_is_read_by_what_was_noted_at_its_start(tmp_path: Path) -> None:
    path = write(tmp_path / "a.eval", [sample()], {})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("_journal/start.json", json.dumps({"version": 2, "eval": HEADER["eval"]}))
    (record,) = records(path)
    assert record["attributes"]["log_status"] == "started"


def test_a_damaged_sample_is_rejected_and_the_others_are_read(tmp_path: Path) -> None:
    deep = "[" * 100_000
    found = read(write(tmp_path / "a.eval", ['{"id"', sample(), deep, "7", sample(events=[7])]))
    reasons = [item.reason.partition(":")[0] for item in found if isinstance(item, Reject)]
    assert reasons == ["unreadable", "too_deep", "malformed"]
    assert sum(isinstance(item, Imported) for item in found) == 2


def test_a_zip_bomb_is_rejected_before_it_is_unpacked(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(inspect_log, "MAX_ROW_BYTES", 100_000)
    path = write(tmp_path / "a.eval", ["0" * 50_000_000, sample()])
    rejected, imported = read(path)
    assert isinstance(rejected, Reject)
    assert "more than 100000 bytes" in rejected.reason
    assert isinstance(imported, Imported)
    monkeypatch.setattr(inspect_log, "MAX_LOG_BYTES", 4_000)
    many = read(write(tmp_path / "b.eval", [sample(id=n) for n in range(9)]))
    assert 0 < sum(isinstance(item, Imported) for item in many) < 9
    assert isinstance(many[-1], Reject)


@pytest.mark.parametrize("n_bytes", [4, 60, 400, -30])
def test_a_truncated_zip_is_rejected(tmp_path: Path, n_bytes: int) -> None:
    path = write(tmp_path / "a.eval", [sample()])
    path.write_bytes(path.read_bytes()[:n_bytes])
    (only,) = read(path)
    assert isinstance(only, Reject)
    assert only.reason.startswith("unreadable")


def test_a_log_without_samples_says_its_status(tmp_path: Path) -> None:
    for name in ("a.json", "a.eval"):
        (only,) = read(write(tmp_path / name, [], HEADER | {"status": "error"}))
        assert isinstance(only, Reject)
        assert only.reason == "no_answer: the log has no samples, its status is 'error'"


@pytest.mark.parametrize("value", [None, 7, "x", [], {}, [[]], [None, 1, {}], [[1, 2, 3]]])
def test_odd_values_are_kept_or_rejected_and_never_raise(tmp_path: Path, value: Any) -> None:
    fields = ("events", "messages", "scores", "attachments", "output", "error", "events_data")
    odd = [sample(**{name: value}) for name in fields]
    fields = ("input", "tools", "config", "output", "call", "timestamp", "span_id", "input_refs")
    odd += [sample(events=[event(**{name: value})]) for name in fields]
    found = read(write(tmp_path / "a.json", [*odd, sample()]))
    assert isinstance(found[-1], Imported)


@pytest.mark.data
@pytest.mark.parametrize(("name", "n_calls"), [("log_read_sample", 1), ("popularity_cancelled", 3)])
def test_the_public_logs_are_read(public_data: Path, name: str, n_calls: int) -> None:
    path = public_data / "log_samples" / f"inspect_{name}.json"
    found = [item for item in read(path) if isinstance(item, Imported)]
    assert len(found) == n_calls
    raw = json.loads(path.read_text(encoding="utf-8"))
    for item, logged in zip(found, raw["samples"], strict=True):
        messages = [message["content"] for message in logged["messages"]]
        asked = [message["content"] for message in item.interaction["request"]["messages"]]
        said = item.interaction["response"]["choices"][0]["message"]["content"]
        assert [*asked, said] == messages
        (score,) = item.feedback
        assert score["value"] == float(logged["scores"]["match"]["value"] == "C")


def test_importing_twice_stores_nothing_new(session: Session, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "a.eval", [sample(), sample(id=8)])
    first = run_import("inspect", [path], DirectTransport())
    again = run_import("inspect", [path], DirectTransport())
    assert (first.stored, first.feedback_stored) == (2, 2)
    assert (again.stored, again.duplicates) == (0, 2)
    rows = session.exec(select(Interaction)).all()
    assert len({row.episode_id for row in rows}) == 2
    assert len(session.exec(select(Feedback)).all()) == 2
