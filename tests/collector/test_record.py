"""What is read out of requests and responses of the three shapes, and what is estimated."""

import json
from uuid import uuid4

import pytest

from collector.record import (
    finish_reasons,
    flat_columns,
    interaction_record,
    snapshot,
    tool_schema_hash,
    usage_columns,
)
from collector.schemas import MAX_NAME
from collector.spool.prepare import Preparer

TOOLS = [{"type": "function", "function": {"name": "run", "parameters": {"type": "object"}}}]


def test_parameters_of_a_request_become_columns():
    columns = flat_columns(
        {
            "model": "m",
            "temperature": 0.5,
            "top_p": 0.9,
            "seed": 2**40,
            "stream": True,
            "max_completion_tokens": 100,
            "conversation": {"id": "conv-1"},
            "tools": TOOLS,
        },
        None,
    )
    assert columns == {
        "gen_ai_request_model": "m",
        "gen_ai_request_temperature": 0.5,
        "gen_ai_request_top_p": 0.9,
        "gen_ai_request_seed": 2**40,
        "gen_ai_request_stream": True,
        "gen_ai_request_max_tokens": 100,
        "gen_ai_conversation_id": "conv-1",
        "tool_schema_hash": tool_schema_hash({"tools": TOOLS}),
    }


def test_nonsense_in_a_request_is_left_out():
    request = {"model": 3, "temperature": "hot", "seed": 2**70, "stream": "yes", "top_p": True}
    assert flat_columns(request, {"usage": "much", "choices": "two"}) == {}
    assert len(flat_columns({"model": "m" * 9000}, None)["gen_ai_request_model"]) == MAX_NAME
    beyond = {"temperature": 10**400, "top_p": float("inf"), "max_tokens": 10**400}
    assert flat_columns(beyond, {"usage": {"prompt_tokens": 10**400}}) == {}


def test_tool_hash_goes_by_content_not_by_the_order_of_keys():
    turned = [{"function": dict(reversed(TOOLS[0]["function"].items())), "type": "function"}]
    assert tool_schema_hash({"tools": turned}) == tool_schema_hash({"tools": TOOLS})
    assert tool_schema_hash({"tools": [*TOOLS, *TOOLS]}) != tool_schema_hash({"tools": TOOLS})
    assert len(tool_schema_hash({"tools": TOOLS})) == 16
    assert tool_schema_hash({"tools": []}) is None


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (  # OpenAI chat
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "prompt_tokens_details": {"cached_tokens": 4},
                "completion_tokens_details": {"reasoning_tokens": 2},
            },
            (10, 5, 4, 2),
        ),
        (  # OpenAI responses
            {
                "input_tokens": 10,
                "output_tokens": 5,
                "input_tokens_details": {"cached_tokens": 4},
                "output_tokens_details": {"reasoning_tokens": 2},
            },
            (10, 5, 4, 2),
        ),
        (  # Anthropic: cached tokens stand beside the others
            {
                "input_tokens": 10,
                "output_tokens": 5,
                "cache_read_input_tokens": 100,
                "cache_creation_input_tokens": 20,
            },
            (130, 5, 100, None),
        ),
        ({}, (None, None, None, None)),
    ],
)
def test_usage_of_three_shapes(usage, expected):
    assert tuple(usage_columns(usage).values()) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"choices": [{"finish_reason": "stop"}, {"finish_reason": "length"}]}, ["stop", "length"]),
        ({"stop_reason": "tool_use", "content": []}, ["tool_use"]),
        ({"status": "completed", "output": [{"type": "message"}]}, ["stop"]),
        ({"status": "completed", "output": [{"type": "function_call"}]}, ["tool_calls"]),
        (
            {
                "status": "incomplete",
                "output": [],
                "incomplete_details": {"reason": "max_output_tokens"},
            },
            ["max_output_tokens"],
        ),
        ({"status": "in_progress", "output": []}, []),
        ({}, []),
    ],
)
def test_finish_reasons_of_three_shapes(answer, expected):
    assert finish_reasons(answer) == expected


def test_usage_that_nobody_states_is_estimated_and_marked():
    request = {"messages": [{"role": "user", "content": "x" * 41}]}
    response = {"choices": [{"message": {"content": "y" * 8}}]}
    record = interaction_record(uuid4(), "coder", request, response)
    assert record["usage_estimated"] is True
    assert record["gen_ai_usage_input_tokens"] == 11
    assert record["gen_ai_usage_output_tokens"] == 2
    stated = interaction_record(uuid4(), "coder", request, response, gen_ai_usage_input_tokens=7)
    assert stated["gen_ai_usage_input_tokens"] == 7
    assert "usage_estimated" not in stated
    assert "usage_estimated" not in interaction_record(uuid4(), "coder", request, None)


def test_output_items_are_estimated_too():
    response = {
        "output": [
            {"type": "message", "content": [{"type": "output_text", "text": "y" * 8}]},
            {"type": "function_call", "arguments": "z" * 4},
        ]
    }
    record = interaction_record(uuid4(), "coder", {"input": "x" * 4}, response)
    assert record["gen_ai_usage_input_tokens"] == 1
    assert record["gen_ai_usage_output_tokens"] == 3


@pytest.mark.parametrize("response", [{"choices": {"a": 1}}, {"choices": [3]}, {"output": [None]}])
def test_answers_of_unknown_shape_make_records_all_the_same(response):
    record = interaction_record(uuid4(), "coder", {"model": "m"}, response)
    assert record["response"] == response


def test_snapshots_are_cleaned_when_they_are_prepared():
    raw = snapshot(
        {
            "kind": "interaction",
            "id": str(uuid4()),
            "role": "coder",
            "at": 1.0,
            "columns": {},
            "request": {"text": "nul \x00 half \ud800 pair 😀", "n": float("-inf")},
            "response": None,
        }
    )
    assert b"\n" not in raw
    record = json.loads(Preparer()(raw))["record"]
    assert record["request"] == {"text": "nul \ufffd half \ufffd pair 😀", "n": "-inf"}
    assert record["started_at"] == "1970-01-01T00:00:01+00:00"
