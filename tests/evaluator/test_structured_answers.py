"""JSON and tool calls as answers: what is right, what only looks right, what cannot be."""

import json

import pytest

from evaluator.graders import GradedTask, json_schema, tool_call
from evaluator.graders.json_values import NotJson, json_of, same_json
from foundation.errors import BadInput

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name"],
    "additionalProperties": False,
}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    },
    {"type": "function", "function": {"name": "now"}},
]


def fits(answer, schema=PERSON, **reference):
    task = GradedTask("t", [], "json_schema", {"schema": schema, **reference})
    (grade,) = json_schema.grade_many([task], [answer], None)
    return grade


@pytest.mark.parametrize(
    "answer",
    ['{"name": "Bo"}', '\n```json\n{"name": "Bo", "age": 4.0}\n```\n', 'So:\n```\n{"name": ""}\n'],
)
def test_json_alone_or_in_a_fence_that_fits(answer) -> None:
    assert fits(answer).passed


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ('{"name": 1}', "$.name: 1 is not of type 'string'"),
        ('{"name": "Bo", "age": true}', "$.age: True is not of type 'integer'"),
        ("{}", "'name' is a required property"),
        ('{"name": "Bo",}', "no JSON"),
        ('Sure! {"name": "Bo"}', "no JSON"),
        ('{"name": "Bo", "name": "Al"}', "a key stands twice"),
        ('{"name": "Bo", "age": NaN}', "NaN is no JSON"),
        ('{"name": "Bo", "age": 1e999}', "1e999 is no JSON"),
        ('```json\n{"name": "A"}\n```\n```json\n{"name": "B"}\n```', "2 fenced blocks"),
        ("[" * 200_000, "nested too deeply"),
    ],
)
def test_json_that_does_not(answer, why) -> None:
    grade = fits(answer)
    assert str(grade.status) == "WRONG"
    assert why in grade.detail
    assert grade.metrics["valid"] == 0


def test_a_value_may_be_asked_for_besides() -> None:
    assert fits("1.0", {"type": "number"}, expected=1).passed
    assert not fits("true", True, expected=1).passed
    assert not fits("null", True, expected=0).passed
    assert fits("null", True, expected=None).passed
    assert not same_json({"a": [1, {"b": False}]}, {"a": [1, {"b": 0}]})
    assert fits("", {}).status == "LOST"


def test_numbers_beyond_a_float_are_graded() -> None:
    assert str(fits("9" * 4000, {"multipleOf": 0.1}).status) == "WRONG"


@pytest.mark.parametrize(
    "schema",
    [
        None,
        {"type": "strin"},
        {"$schema": "http://json-schema.org/draft-07/schema#"},
        {"$ref": "https://example.org/elsewhere.json"},
    ],
)
def test_a_schema_that_is_none_or_stands_elsewhere_is_refused(schema) -> None:
    with pytest.raises(BadInput, match="task t: reference"):
        fits("{}", schema)


def called(answer, *expected, **reference):
    given = {"tools": TOOLS, "expected": list(expected), **reference}
    (grade,) = tool_call.grade_many([GradedTask("t", [], "tool_call", given)], [answer], None)
    return grade


def weather(**arguments):
    return {"name": "weather", "arguments": arguments}


def message(*calls):
    listed = [
        {
            "id": "call_1",
            "type": "function",
            "function": {**call, "arguments": json.dumps(call["arguments"])},
        }
        for call in calls
    ]
    return json.dumps({"role": "assistant", "content": None, "tool_calls": listed})


@pytest.mark.parametrize(
    "answer",
    [
        message(weather(city="Rome")),
        '{"name": "weather", "arguments": {"city": "Rome"}}',
        '[{"name": "weather", "arguments": "{\\"city\\": \\"Rome\\"}"}]',
        'I look:\n<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>',
        '```json\n{"name": "weather", "arguments": {"city": "Rome"}}\n```',
    ],
)
def test_every_shape_of_a_call_is_read(answer) -> None:
    grade = called(answer, weather(city="Rome"))
    assert grade.passed, grade.detail
    assert grade.metrics == {"known": 1, "valid": 1, "matched": 1}


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("Rome is sunny.", "0 of 1 expected calls among 0 made"),
        (message(weather(city="Oslo")), "0 of 1 expected calls among 1"),
        (message(weather(city=1)), "weather $.city: 1 is not of type 'string'"),
        (message(weather(city="Rome", mood="x")), "Additional properties"),
        (message({"name": "rain", "arguments": {}}), "no such tool: rain"),
        (message(weather(city="Rome"), weather(city="Rome")), "2 calls, expected 1"),
        ('{"name": "weather", "arguments": {"city": "Rome"', "no readable call"),
        ('{"tool_calls": [{"function": {}}]}', "a call names no tool"),
        ('{"tool_calls": 3}', "tool_calls is no list"),
        (message({"name": "weather", "arguments": ["Rome"]}), "is not of type 'object'"),
    ],
)
def test_calls_that_are_wrong(answer, why) -> None:
    grade = called(answer, weather(city="Rome"))
    assert str(grade.status) == "WRONG"
    assert why in grade.detail


def test_no_call_can_be_what_is_asked_for() -> None:
    assert called("It is sunny.").passed
    assert called('{"sunny": true, "function": "none"}').passed
    assert not called(message({"name": "now", "arguments": {}})).passed


def test_strictness() -> None:
    made = message(weather(city="Rome", days=3))
    assert not called(made, weather(city="Rome")).passed
    assert called(made, weather(city="Rome"), arguments="subset").passed
    assert not called(made, weather(city="Oslo"), arguments="subset").passed
    assert called(made, weather(city="Oslo"), arguments="valid").passed
    assert called(message(weather(city="Rome", days=3.0)), weather(city="Rome", days=3)).passed


def test_several_calls_in_any_order_or_in_one() -> None:
    one, other = weather(city="Rome"), {"name": "now", "arguments": {}}
    assert called(message(other, one), one, other).passed
    grade = called(message(other, one), one, other, ordered=True)
    assert (grade.passed, grade.score) == (False, 0)
    assert called(message(one), one, other).score == 0.5


def test_calls_are_assigned_so_that_all_fit() -> None:
    """The first expected call fits both; taking the first one made would leave the second alone."""
    made = message(weather(city="Rome", days=3), weather(city="Rome"))
    wanted = [weather(city="Rome"), weather(city="Rome", days=3)]
    assert called(made, *wanted, arguments="subset").passed


@pytest.mark.parametrize(
    "reference",
    [
        {"tools": []},
        {"tools": [{"type": "function"}]},
        {"tools": [{"name": "f", "parameters": {"type": "x"}}]},
        {"expected": None},
        {"expected": [{"name": "rain", "arguments": {}}]},
        {"expected": [weather(city=1)]},
        {"arguments": "strict"},
    ],
)
def test_a_task_that_cannot_be_graded_is_refused(reference) -> None:
    with pytest.raises(BadInput, match="task t: reference"):
        called("x", **reference)


def test_an_endless_fence_is_read_once():
    with pytest.raises(NotJson):
        json_of("```" + "a" * 1_000_000)
