"""Public samples of the formats: every row is stored or rejected for a reason, and only once."""

import gzip
import json
from pathlib import Path

import pytest
from sqlmodel import Session, select

from collector.direct import DirectTransport
from collector.importers.run import run_import
from collector.tables import Feedback, Interaction, InteractionPayload
from foundation.chat import answer_text, prompt_messages, tool_calls

pytestmark = pytest.mark.data


def rows_of(path: Path) -> list[dict]:
    with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
        return [json.loads(line) for line in file]


def distinct(rows: list[dict]) -> list[dict]:
    return list({json.dumps(row, sort_keys=True): row for row in rows}.values())


def imported(format: str, path: Path):
    """Import a file twice; the second time nothing is new."""
    first = run_import(format, [path], DirectTransport())
    second = run_import("auto", [path], DirectTransport()) if format != "nvidia_flywheel" else None
    again = second or run_import(format, [path], DirectTransport())
    assert (again.stored, again.feedback_stored) == (0, 0)
    assert again.duplicates == first.stored + first.duplicates
    assert again.formats == {format: 1}
    return first


@pytest.fixture
def sharegpt(public_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return public_data / "feedback_sharegpt"


@pytest.fixture
def samples(public_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return public_data / "log_samples"


def test_preference_pairs(session: Session, sharegpt):
    path = sharegpt / "dpo_en_demo_a.jsonl.gz"
    rows = distinct(rows_of(path))
    report = imported("dpo", path)
    assert (report.read, report.rejected) == (300, 0)
    assert (report.stored, report.feedback_stored) == (2 * len(rows), len(rows))
    answers = {p.id: answer_text(p.response) for p in session.exec(select(InteractionPayload))}
    wins = {
        (answers[f.interaction_id], answers[f.loser_interaction_id])
        for f in session.exec(select(Feedback).where(Feedback.kind == "preference"))
    }
    assert len(wins) == len(rows)
    unscrubbed = {(row["chosen"]["value"], row["rejected"]["value"]) for row in rows}
    assert len(wins & unscrubbed) > 0.9 * len(rows)


def test_thumbs(session: Session, sharegpt):
    path = sharegpt / "kto_en_demo_a.jsonl.gz"
    report = imported("kto", path)
    assert (report.read, report.stored, report.feedback_stored) == (150, 150, 150)
    said = [f.value for f in session.exec(select(Feedback))]
    assert sum(said) == sum(row["label"] for row in rows_of(path))


def test_tool_conversations(session: Session, sharegpt):
    path = sharegpt / "glaive_toolcall_en_demo_a.jsonl.gz"
    every = rows_of(path)
    report = imported("sharegpt", path)
    n_turns = sum(t["from"] in ("gpt", "function_call") for r in every for t in r["conversations"])
    assert (len(every), report.read, report.rejected) == (150, n_turns, 0)
    rows = distinct(every)
    n_calls = sum(t["from"] == "function_call" for row in rows for t in row["conversations"])
    n_answers = sum(t["from"] == "gpt" for row in rows for t in row["conversations"])
    payloads = session.exec(select(InteractionPayload)).all()
    assert report.stored == len(payloads) == n_calls + n_answers
    calls = [call for p in payloads for call in tool_calls(p.response)]
    assert len(calls) == n_calls
    assert all(isinstance(json.loads(c["function"]["arguments"]), dict) for c in calls)
    assert all(prompt_messages(p.request) for p in payloads)
    episodes = {row.episode_id for row in session.exec(select(Interaction))}
    assert len(episodes) == len(rows)


def test_a_litellm_payload(session: Session, samples):
    report = imported("litellm", samples / "litellm_standard_logging_payload.json")
    assert (report.read, report.stored) == (1, 1)
    (row,) = session.exec(select(Interaction))
    (payload,) = session.exec(select(InteractionPayload))
    assert answer_text(payload.response) == "hi"
    assert payload.request["messages"] == [{"role": "user", "content": "Hello, world!"}]
    assert (row.gen_ai_usage_input_tokens, row.gen_ai_usage_output_tokens) == (10, 20)
    assert (row.cost_usd, row.gen_ai_provider_name) == (0.00022500000000000002, "openai")
    assert row.latency_ms == pytest.approx(4.583)


def test_nvidia_records(session: Session, samples):
    report = imported("nvidia_flywheel", samples / "nvidia_flywheel_recorded_chat.json")
    assert (report.read, report.stored) == (3, 3)
    payloads = session.exec(select(InteractionPayload)).all()
    (called,) = [p for p in payloads if tool_calls(p.response)]
    assert called.request["tools"][0]["function"]["name"] == "get_weather"


def test_tensorzero_datapoints(session: Session, samples):
    path = samples / "tensorzero_chat_datapoints.jsonl"
    rows = rows_of(path)
    report = imported("tensorzero", path)
    with_output = [row for row in rows if row["output"]]
    assert (report.read, report.stored) == (len(rows), len(with_output))
    assert report.reasons == {"no_answer": len(rows) - len(with_output)}
    found = {(r.task_type, str(r.episode_id)) for r in session.exec(select(Interaction))}
    known = {(r["function_name"], r["episode_id"]) for r in with_output if r["episode_id"]}
    assert known <= found
