"""What the formats say of a row: the names that trainers and labelling tools look for."""

import json
from typing import Any
from uuid import UUID
from xml.etree import ElementTree

import pytest

from curation.publish.formats import FORMATS, get_format, stars
from curation.publish.rows import Row, make_row
from foundation.chat import message
from foundation.errors import BadInput

CALLS = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "ls", "arguments": "{}"}}],
}
DIALOGUE = [
    message("system", "Be brief."),
    message("user", "hello"),
    message("assistant", "hi"),
    message("user", "2 + 2?"),
]


def example(prompt: list[dict[str, Any]], answer: str, **columns: Any) -> Row:
    ids = {"id": UUID(int=1), "interaction_id": UUID(int=2)}
    return make_row({**ids, "prompt": prompt, "answer": answer, "score": 0.8, **columns})


def pair(prompt: str, chosen: str, rejected: str, number: int = 1) -> Row:
    ids = {"id": UUID(int=number), "winner_id": UUID(int=2), "loser_id": UUID(int=3)}
    texts = {"prompt": [message("user", prompt)], "chosen": chosen, "rejected": rejected}
    return make_row({**ids, **texts, "basis": "outcome", "margin": 1.0})


def records(name: str, *rows: Row) -> list[dict[str, Any]]:
    made = FORMATS[name].records
    assert made is not None
    return list(made(lambda: iter(rows)))


def test_chat_is_the_whole_conversation():
    (record,) = records("chat", example(DIALOGUE, "4"))
    assert record == {"messages": [*DIALOGUE, message("assistant", "4")]}


def test_tool_calls_stay_whole_where_messages_do():
    row = example(DIALOGUE, "", answer_message=CALLS)
    assert records("chat", row)[0]["messages"][-1] == CALLS
    assert records("prompt_completion", row)[0]["completion"] == [CALLS]


def test_alpaca_has_the_last_question_the_turns_before_and_the_system():
    (record,) = records("alpaca", example(DIALOGUE, "4"))
    assert record == {
        "instruction": "2 + 2?",
        "input": "",
        "output": "4",
        "system": "Be brief.",
        "history": [["hello", "hi"]],
    }
    assert records("alpaca", example([message("user", "2 + 2?")], "4")) == [
        {"instruction": "2 + 2?", "input": "", "output": "4"}
    ]


def test_alpaca_leaves_out_what_it_cannot_say():
    assert records("alpaca", example(DIALOGUE, "", answer_message=CALLS)) == []


def test_dpo_has_the_columns_of_trl():
    (record,) = records("dpo", pair("sort", "sorted(x)", "x"))
    assert record == {
        "prompt": [message("user", "sort")],
        "chosen": [message("assistant", "sorted(x)")],
        "rejected": [message("assistant", "x")],
    }


def test_kto_has_each_answer_once_and_none_that_both_won_and_lost():
    rows = [pair("sort", "a", "b"), pair("sort", "a", "c"), pair("sort", "c", "b")]
    found = [(r["completion"][0]["content"], r["label"]) for r in records("kto", *rows)]
    assert found == [("a", True), ("b", False)]


def test_argilla_records_name_the_fields_and_questions_of_their_settings():
    for kind, row in (("sft", example(DIALOGUE, "4")), ("preference", pair("s", "a", "b"))):
        made = get_format("argilla", kind)
        assert made.beside is not None
        name, text = made.beside(kind)
        settings = json.loads(text)
        (record,) = records("argilla", row)
        assert name == "settings.json"
        assert record["fields"].keys() == {field["name"] for field in settings["fields"]}
        (question,) = settings["questions"]
        suggestion = record["suggestions"][question["name"]]
        options = [option["value"] for option in question["settings"]["options"]]
        assert suggestion["value"] in options
        assert record["id"] == str(UUID(int=1))


def test_label_studio_tasks_name_the_parts_of_their_configuration():
    for kind, row in (("sft", example(DIALOGUE, "4")), ("preference", pair("s", "a", "b"))):
        made = get_format("label_studio", kind)
        assert made.beside is not None
        config = ElementTree.fromstring(made.beside(kind)[1])
        (task,) = records("label_studio", row)
        shown = {tag.get("value") for tag in config if (tag.get("value") or "").startswith("$")}
        assert {name.removeprefix("$") for name in shown} <= task["data"].keys()
        (result,) = task["predictions"][0]["result"]
        (control,) = [tag for tag in config if tag.get("name") == result["from_name"]]
        assert (control.tag.lower(), control.get("toName")) == (result["type"], result["to_name"])


def test_the_better_answer_of_a_pair_stands_first_by_chance():
    rows = [pair("sort", "good", "bad", number) for number in range(1, 41)]
    tasks = records("argilla", *rows)
    better = [task["suggestions"]["better"]["value"] for task in tasks]
    assert {task["fields"][name] for task, name in zip(tasks, better, strict=True)} == {"good"}
    assert 5 < better.count("answer_1") < 35


def test_a_row_without_a_score_suggests_nothing():
    row = example(DIALOGUE, "4", score=None)
    assert records("argilla", row)[0]["suggestions"] == {}
    assert records("label_studio", row)[0]["predictions"] == []


@pytest.mark.parametrize(("score", "rating"), [(0.0, 1), (0.5, 3), (1.0, 5), (None, None)])
def test_a_score_is_told_in_stars(score, rating):
    assert stars(score) == rating


@pytest.mark.parametrize(("name", "kind"), [("dpo", "sft"), ("chat", "preference"), ("x", "sft")])
def test_a_format_that_does_not_fit_is_refused_with_those_that_do(name, kind):
    with pytest.raises(BadInput, match="expected one of parquet"):
        get_format(name, kind)
