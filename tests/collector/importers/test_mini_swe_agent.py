import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlmodel import Session, col, func, select

from collector.direct import DirectTransport
from collector.importers import get, run_import
from collector.importers.lines import Imported, Reject
from collector.importers.registry import guess
from collector.importers.source import Source
from collector.tables import Feedback, Interaction
from foundation.ids import time_of

MESSAGES = [
    {"role": "system", "content": "Answer with one bash block."},
    {"role": "user", "content": "Fix it."},
    {"role": "assistant", "content": "THOUGHT: look\n```bash\nls\n```"},
    {"role": "user", "content": "<output>a.py</output>"},
    {"role": "assistant", "content": "```bash\nsubmit\n```"},
    {"role": "user", "content": "diff --git a b"},
]
ROW = {"instance_id": "a__b-1", "resolved": True, "exit_status": "Submitted", "cost": 0.5}


def read(path: Path, rows: list[Any]) -> list[Imported | Reject]:
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return list(get("mini_swe_agent")(Source(path)))


def test_each_answer_is_asked_with_the_conversation_so_far(tmp_path: Path) -> None:
    first, last = read(tmp_path / "r.jsonl", [ROW | {"messages": MESSAGES}])
    assert isinstance(first, Imported)
    assert isinstance(last, Imported)
    assert first.interaction["request"]["messages"] == MESSAGES[:2]
    assert last.interaction["request"]["messages"] == MESSAGES[:4]
    answer = first.interaction["response"]["choices"][0]["message"]
    assert answer == MESSAGES[2]
    assert last.interaction["parent_id"] == first.interaction["id"]
    assert first.interaction["role"] == "coder"
    assert first.feedback == []
    (verdict,) = last.feedback
    assert (verdict["kind"], verdict["value"], verdict["source"]) == ("success", 1.0, "test")
    assert verdict["episode_id"] == first.interaction["episode_id"]
    assert last.interaction["attributes"]["exit_status"] == "Submitted"


def test_a_run_without_a_verdict_has_no_feedback(tmp_path: Path) -> None:
    unknown = {k: v for k, v in ROW.items() if k != "resolved"}
    found = read(tmp_path / "r.jsonl", [unknown | {"messages": MESSAGES}])
    assert [item.feedback for item in found if isinstance(item, Imported)] == [[], []]


def test_the_agent_s_own_file_keeps_responses_times_and_costs(tmp_path: Path) -> None:
    response = {
        "id": "chatcmpl-1",
        "model": "gemini-3",
        "choices": [{"message": MESSAGES[2], "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 40, "completion_tokens": 9},
    }
    extra = {"response": response, "cost": 0.01, "timestamp": 1_760_000_000.5}
    messages = [*MESSAGES[:2], MESSAGES[2] | {"extra": extra}, MESSAGES[3]]
    messages.append({"role": "exit", "content": "", "extra": {"exit_status": "LimitsExceeded"}})
    trajectory = {
        "info": {
            "exit_status": "LimitsExceeded",
            "submission": "",
            "config": {"model": {"model_name": "gemini/gemini-3"}},
            "model_stats": {"instance_cost": 0.01, "api_calls": 1},
        },
        "messages": messages,
        "trajectory_format": "mini-swe-agent-1",
    }
    path = tmp_path / "a__b-1.traj.json"
    path.write_text(json.dumps(trajectory, indent=2), encoding="utf-8")
    assert guess(path).name == "mini_swe_agent"
    (only,) = get("mini_swe_agent")(Source(path))
    assert isinstance(only, Imported)
    record = only.interaction
    assert record["response"] == response
    assert record["gen_ai_usage_input_tokens"] == 40
    assert "usage_estimated" not in record
    assert (record["gen_ai_request_model"], record["cost_usd"]) == ("gemini/gemini-3", 0.01)
    assert record["started_at"].startswith("2025-10-09T08:53:20.5")
    assert time_of(UUID(record["id"])).year == 2025
    assert record["attributes"]["instance_id"] == "a__b-1"
    assert record["attributes"]["exit_status"] == "LimitsExceeded"


@pytest.mark.parametrize(
    ("row", "code"),
    [
        (ROW, "malformed"),
        (ROW | {"messages": []}, "malformed"),
        (ROW | {"messages": ["x"]}, "malformed"),
        (ROW | {"messages": MESSAGES[:2]}, "no_answer"),
    ],
)
def test_what_is_no_run_is_rejected_and_the_next_is_read(tmp_path: Path, row, code) -> None:
    found = read(tmp_path / "r.jsonl", [row, ROW | {"messages": MESSAGES}])
    assert isinstance(found[0], Reject)
    assert found[0].reason.partition(":")[0] == code
    assert len(found) == 3


def test_answers_of_the_responses_api_are_read_and_times_go_forward(tmp_path: Path) -> None:
    call = {"type": "function_call", "call_id": "c", "name": "bash", "arguments": "{}"}
    messages: list[Any] = [
        {"role": "user", "content": "Fix it.", "timestamp": 1_750_000_000},
        {"object": "response", "output": [call], "extra": {"timestamp": 1_750_000_009}},
        {"type": "function_call_output", "call_id": "c", "output": "a.py"},
        {"role": "assistant", "content": "Done."},
    ]
    first, last = read(tmp_path / "r.jsonl", [ROW | {"messages": messages}])
    assert isinstance(first, Imported)
    assert isinstance(last, Imported)
    (answer,) = first.interaction["response"]["choices"]
    assert answer["message"]["tool_calls"][0]["id"] == "c"
    assert last.interaction["request"]["messages"][-1] == {
        "role": "tool", "tool_call_id": "c", "content": "a.py",
    }  # fmt: skip
    assert first.interaction["started_at"] < last.interaction["started_at"]


@pytest.mark.data
def test_the_public_runs_are_read_whole(public_data: Path) -> None:
    path = public_data / "swe_trajectories" / "trajectories_a.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    n_answers = sum(m["role"] == "assistant" for row in rows for m in row["messages"])
    episodes: set[str] = set()
    verdicts: Counter[float] = Counter()
    n_read = 0
    for item in get("mini_swe_agent")(Source(path)):
        assert isinstance(item, Imported), item
        n_read += 1
        episodes.add(item.interaction["episode_id"])
        verdicts.update(statement["value"] for statement in item.feedback)
    assert (n_read, len(episodes)) == (n_answers, len(rows))
    resolved = sum(row["resolved"] for row in rows)
    assert verdicts == {1.0: resolved, 0.0: len(rows) - resolved}


def test_importing_twice_stores_nothing_new(session: Session, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps(ROW | {"messages": MESSAGES}), encoding="utf-8")
    first = run_import("mini_swe_agent", [path], DirectTransport())
    again = run_import("mini_swe_agent", [path], DirectTransport())
    assert (first.stored, first.feedback_stored) == (2, 1)
    assert (again.stored, again.duplicates) == (0, 2)
    assert session.exec(select(func.count()).select_from(Interaction)).one() == 2
    (verdict,) = session.exec(select(Feedback).where(col(Feedback.kind) == "success")).all()
    assert verdict.interaction_id is None
    assert verdict.episode_id is not None
