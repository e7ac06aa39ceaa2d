import json
from pathlib import Path
from typing import Any

import pytest

from collector.importers import get
from collector.importers.lines import Imported, Reject
from collector.importers.registry import guess
from collector.importers.source import Source

CALL = {"id": "call_1", "type": "function", "function": {"name": "bash", "arguments": "{}"}}
HISTORY = [
    {"role": "system", "content": "You fix issues.", "agent": "main"},
    {"role": "assistant", "content": "A shown answer.", "is_demo": True},
    {"role": "user", "content": "Fix it."},
    {"role": "assistant", "content": "Look.", "thought": "Look.", "tool_calls": [CALL]},
    {"role": "tool", "content": "a.py", "tool_call_ids": ["call_1"]},
    {"role": "assistant", "content": "Done.\n```\nsubmit\n```", "action": "submit"},
]
RUN = {
    "environment": "main",
    "trajectory": [{"action": "ls", "observation": "a.py", "response": "Look."}] * 2,
    "history": HISTORY,
    "info": {"exit_status": "submitted", "submission": "diff", "model_stats": {"api_calls": 2}},
    "replay_config": json.dumps(
        {
            "agent": {"model": {"name": "gpt-4o", "temperature": 0.5}},
            "problem_statement": {"id": "i-1"},
        }
    ),
}


def read(tmp_path: Path, run: Any) -> list[Imported | Reject]:
    path = tmp_path / "i-1.traj"
    path.write_text(json.dumps(run, indent=2), encoding="utf-8")
    assert guess(path).name == "swe_agent"
    return list(get("swe_agent")(Source(path)))


def records(tmp_path: Path, run: Any) -> list[dict[str, Any]]:
    found = read(tmp_path, run)
    return [item.interaction for item in found if isinstance(item, Imported)]


def test_each_step_is_asked_with_the_history_and_demonstrations_are_context(tmp_path) -> None:
    first, last = records(tmp_path, RUN)
    assert [m["content"] for m in first["request"]["messages"]] == [
        "You fix issues.",
        "A shown answer.",
        "Fix it.",
    ]
    assert first["response"]["choices"][0]["message"]["tool_calls"] == [CALL]
    assert last["request"]["messages"][-1] == {
        "role": "tool",
        "tool_call_id": "call_1",
        "content": "a.py",
    }
    assert (last["request"]["model"], last["request"]["temperature"]) == ("gpt-4o", 0.5)
    assert last["attributes"] == {
        "instance_id": "i-1",
        "step": 1,
        "exit_status": "submitted",
        "submission": "diff",
        "model_stats": {"api_calls": 2},
        "environment": "main",
    }
    assert "thought" not in json.dumps([first, last])


def test_the_query_of_a_step_is_the_request_where_it_was_kept(tmp_path: Path) -> None:
    sent = [{"role": "user", "content": "Shortened.", "agent": "main"}]
    steps = [{"response": "Look.", "query": sent}, {"response": "Done."}]
    first, last = records(tmp_path, RUN | {"trajectory": steps})
    assert first["request"]["messages"] == [{"role": "user", "content": "Shortened."}]
    assert len(last["request"]["messages"]) == 5


def test_a_run_without_a_history_is_read_from_its_steps(tmp_path: Path) -> None:
    first, last = records(tmp_path, RUN | {"history": []})
    assert first["request"]["messages"] == []
    assert [m["content"] for m in last["request"]["messages"]] == ["Look.", "a.py"]


@pytest.mark.parametrize(
    ("fields", "values"),
    [
        ({"resolved": True}, [1.0]),
        ({"info": {"exit_status": "exit_cost", "resolved": False}}, [0.0]),
        ({"info": {"report": {"resolved": 1}}}, [1.0]),
        ({}, []),
    ],
)
def test_a_verdict_is_a_success_feedback_on_the_episode(tmp_path, fields, values) -> None:
    found = read(tmp_path, RUN | fields)
    feedback = [f for item in found if isinstance(item, Imported) for f in item.feedback]
    assert [statement["value"] for statement in feedback] == values
    assert all(f["source"] == "test" and "interaction_id" not in f for f in feedback)


@pytest.mark.parametrize(
    "broken",
    [
        {"trajectory": [], "history": []},
        {"history": "x"},
        {"history": [1]},
        {"history": HISTORY[:3], "trajectory": []},
    ],
)
def test_what_is_no_run_is_rejected(tmp_path: Path, broken: Any) -> None:
    (only,) = read(tmp_path, RUN | broken)
    assert isinstance(only, Reject)
    assert only.reason.partition(":")[0] in ("malformed", "no_answer")


def test_thoughts_and_a_temperature_of_zero_are_kept(tmp_path: Path) -> None:
    block = {"type": "thinking", "thinking": "hm", "signature": "s"}
    history = [{"role": "user", "content": "u"}, HISTORY[3] | {"thinking_blocks": [block]}]
    config = json.dumps({"agent": {"model": {"name": "m", "temperature": 0.0}}})
    (record,) = records(tmp_path, RUN | {"history": history, "replay_config": config})
    assert record["response"]["choices"][0]["message"]["reasoning_content"] == "hm"
    assert record["request"]["temperature"] == 0.0


def test_a_truncated_file_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "i-1.traj"
    path.write_text(json.dumps(RUN, indent=2)[:-40], encoding="utf-8")
    found = list(get("swe_agent")(Source(path)))
    assert [type(item) for item in found] == [Reject]


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "n_steps", "role"),
    [("humanevalfix_python_0", 5, "user"), ("marshmallow_function_calling", 11, "tool")],
)
def test_the_public_runs_are_read_whole(public_data: Path, name, n_steps, role) -> None:
    path = public_data / "log_samples" / f"sweagent_{name}.traj.json"
    raw = json.loads(path.read_text(encoding="utf-8"))
    found = list(get("swe_agent")(Source(path)))
    assert len(found) == n_steps == len(raw["trajectory"])
    last = found[-1]
    assert isinstance(last, Imported)
    asked = last.interaction["request"]["messages"]
    answers = [m["content"] for m in raw["history"] if m["role"] == "assistant"]
    assert [m["content"] for m in asked if m["role"] == "assistant"] == answers[:-1]
    assert asked[-1]["role"] == role
