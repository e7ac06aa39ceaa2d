"""Any table by a mapping file: what columns become, and how its mistakes are named."""

import csv
import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlmodel import Session, select

from collector.direct import DirectTransport
from collector.importers.lines import Reject
from collector.importers.registry import find
from collector.importers.run import Options, run_import
from collector.importers.source import Source
from collector.tables import Feedback, Interaction, InteractionPayload
from foundation.chat import answer_text, prompt_messages
from foundation.errors import BadInput
from foundation.ids import keyed_episode_id

PROJECT = Path(__file__).resolve().parents[2]
KINDS = ("yaml", "csv")
MAPPING = """
role: $.agent
task_type: code review
started_at: $.when
episode: $.ticket
model: $.meta.model
system: Be brief.
prompt: $.question
answer: $.reply[0].text
cost_usd: $.meta.cost
input_tokens: $.meta['tokens in']
attributes: {ticket: $.ticket}
feedback:
  - {kind: rating, name: stars, value: $.stars, source: user, actor: $.who}
  - {kind: success, name: resolved, value: $.state, values: {open: 0, closed: 1}}
  - {kind: comment, text: $.remark}
"""
ROW = {
    "agent": "reviewer",
    "when": "2025-02-03T04:05:06Z",
    "ticket": "T-7",
    "meta": json.dumps({"model": "m", "cost": 0.25, "tokens in": 9}),
    "question": "q",
    "reply": [{"text": "a"}],
    "stars": 4,
    "state": "closed",
    "who": "u1",
    "remark": None,
}


@pytest.fixture
def mapping(tmp_path):
    """Write a mapping file; returns its path."""

    def write(text):
        path = tmp_path / "map.yaml"
        path.write_text(text)
        return path

    return write


def items(tmp_path, mapping, *rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return list(find("mapped").read(Source(path, mapping=mapping)))


def test_columns_become_an_interaction_and_its_feedback(tmp_path, mapping):
    (item,) = items(tmp_path, mapping(MAPPING), ROW)
    record = item.interaction
    assert [(m["role"], m["content"]) for m in prompt_messages(record["request"])] == [
        ("system", "Be brief."),
        ("user", "q"),
    ]
    assert answer_text(record["response"]) == "a"
    assert (record["role"], record["task_type"]) == ("reviewer", "code review")
    assert (record["gen_ai_request_model"], record["cost_usd"]) == ("m", 0.25)
    assert record["gen_ai_usage_input_tokens"] == 9
    assert record["started_at"] == "2025-02-03T04:05:06+00:00"
    assert record["episode_id"] == str(keyed_episode_id("default", "T-7"))
    assert record["attributes"] == {"ticket": "T-7"}
    assert [(f["kind"], f["name"], f["value"], f["source"]) for f in item.feedback] == [
        ("rating", "stars", 4.0, "user"),
        ("success", "resolved", 1.0, "human"),
    ]
    assert {f["episode_id"] for f in item.feedback} == {record["episode_id"]}
    assert item.feedback[0]["actor"] == "u1"


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.jsonl"])
def test_tables_of_any_kind_say_the_same(session: Session, tmp_path, mapping, name):
    path = tmp_path / name
    rows = [
        {"Question": f"q{n}", "Answer": f"a{n}", "Good?": n % 2 == 0, "at": 1_700_000_000 + n}
        for n in range(600)
    ]
    if name == "a.csv":
        with open(path, "w", newline="") as file:
            table = csv.DictWriter(file, rows[0])
            table.writeheader()
            table.writerows(rows)
    elif name == "a.parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = mapping(
        "prompt: $.Question\nanswer: $.Answer\nstarted_at: $.at\n"
        "feedback: [{kind: success, value: \"$['Good?']\"}]"
    )
    report = run_import("mapped", [path], DirectTransport(), Options(mapping=said))
    assert (report.stored, report.feedback_stored, report.rejected) == (600, 600, 0)
    again = run_import("mapped", [path], DirectTransport(), Options(mapping=said))
    assert (again.stored, again.duplicates, again.feedback_duplicates) == (0, 600, 600)
    assert sum(f.value for f in session.exec(select(Feedback))) == 300
    first = min(session.exec(select(Interaction)), key=lambda row: row.started_at)
    payload = session.get(InteractionPayload, first.id)
    assert payload is not None
    assert payload.request["messages"][0]["content"] == "q0"
    assert first.started_at.timestamp() == 1_700_000_000


def test_messages_requests_and_responses_are_read_whole(tmp_path, mapping):
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}] * 2
    found = items(tmp_path, mapping("messages: $.chat\ntools: $.tools"), {"chat": turns})
    assert [len(i.interaction["request"]["messages"]) for i in found] == [1, 3]
    (item,) = items(
        tmp_path,
        mapping("request: $.in\nresponse: $.out"),
        {
            "in": {"model": "m", "messages": turns[:1], "temperature": 0.5},
            "out": json.dumps({"choices": [{"message": turns[1]}], "usage": {"prompt_tokens": 3}}),
        },
    )
    assert item.interaction["gen_ai_request_temperature"] == 0.5
    assert item.interaction["gen_ai_usage_input_tokens"] == 3


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"when": "yesterday"}, "malformed: $.when: got 'yesterday', expected a time"),
        ({"question": None}, "malformed: $.question: is empty"),
        ({"reply": []}, "no_answer: $.reply[0].text: is empty"),
        ({"stars": "many"}, "malformed: $.stars: got 'many', expected a number"),
        ({"state": "lost"}, "malformed: $.state: got 'lost', expected one of open, closed"),
        ({"ticket": ["x"]}, "malformed: $.ticket: got ['x'], expected a text"),
    ],
)
def test_a_rows_mistake_names_its_column(tmp_path, mapping, changed, reason):
    (found,) = items(tmp_path, mapping(MAPPING), ROW | changed)
    assert isinstance(found, Reject)
    assert found.reason.startswith(reason)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("answer: [", "YAML"),
        ("just words", "names with paths"),
        ("prompt: $.q", "expected messages, or prompt"),
        ("promt: $.q\nanswer: $.a", "got 'promt', expected one of messages"),
        ("prompt: $.q..x\nanswer: $.a", r"prompt: got '\$.q..x', expected a path"),
        ("messages: $.m\nfeedback: {kind: rating}", "feedback as a list"),
        ("messages: $.m\nfeedback: [{kind: stars, value: $.s}]", "kind: got 'stars'"),
        ("messages: $.m\nfeedback: [{kind: rating}]", "a value or a text"),
        ("messages: $.m\nfeedback: [{kind: rating, worth: $.s}]", "got 'worth'"),
        ("messages: $.m\nfeedback: [{kind: success, value: $.s, values: 1}]", "words with"),
    ],
)  # fmt: skip
def test_a_mapping_files_mistake_is_named_before_the_first_row(tmp_path, mapping, text, match):
    with pytest.raises(BadInput, match=match):
        items(tmp_path, mapping(text), ROW)


def test_a_mapping_is_needed_and_must_exist(tmp_path):
    for mapping in (None, tmp_path / "absent.yaml"):
        with pytest.raises(BadInput, match="mapping file"):
            items(tmp_path, mapping, ROW)


def test_the_example_of_the_documentation_does_what_it_says(session: Session, tmp_path, mapping):
    page = (PROJECT / "docs" / "importing.md").read_text()
    said, table = (re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL)[0] for kind in KINDS)
    path = tmp_path / "reviews.csv"
    path.write_text(table)
    report = run_import("mapped", [path], DirectTransport(), Options(mapping=mapping(said)))
    assert (report.stored, report.feedback_stored, report.rejected) == (2, 3, 0)
    assert {row.role for row in session.exec(select(Interaction))} == {"reviewer"}
    assert sorted(f.kind for f in session.exec(select(Feedback))) == [
        "rating",
        "success",
        "success",
    ]
