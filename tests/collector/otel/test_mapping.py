"""One call written down as each convention has it: the same record must come of all of them."""

import json
from typing import Any

import pytest

from collector.otel.mapping import LAYOUTS, layout_of, operation_of
from collector.otel.read import Defaults, read_spans
from collector.otel.wire import Event, Span

DEFAULTS = Defaults(frozenset({"coder", "tester"}), role="coder")

MESSAGES = [
    {"role": "system", "content": "be exact"},
    {"role": "user", "content": "add 2 and 3"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 2}'}}
        ],
    },
    {"role": "tool", "content": "5", "tool_call_id": "c1"},
]
ANSWER = {"role": "assistant", "content": "it is 5"}
PARAMETERS = {"type": "object", "properties": {"a": {"type": "number"}}}
TOOL = {"type": "function", "function": {"name": "add", "parameters": PARAMETERS}}

PARTS = [
    {"role": "user", "parts": [{"type": "text", "content": "add 2 and 3"}]},
    {
        "role": "assistant",
        "parts": [{"type": "tool_call", "id": "c1", "name": "add", "arguments": {"a": 2}}],
    },
    {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "5"}]},
]
ANSWER_PARTS = [
    {
        "role": "assistant",
        "parts": [{"type": "text", "content": "it is 5"}],
        "finish_reason": "stop",
    }
]
OPENAI_CALL = MESSAGES[2]["tool_calls"][0]


def span(attributes: dict[str, Any], events: tuple[Event, ...] = (), **over: Any) -> Span:
    values: dict[str, Any] = {
        "trace_id": "0" * 31 + "1",
        "span_id": "0" * 15 + "1",
        "parent_span_id": "",
        "name": "chat",
        "started_ns": 1_760_000_000_000_000_000,
        "ended_ns": 1_760_000_001_000_000_000,
        "attributes": attributes,
        "events": events,
        "failed": False,
        "status_message": "",
        "resource": {},
        "scope": "",
    }
    return Span(**values | over)


def read(attributes: dict[str, Any], events: tuple[Event, ...] = (), **over: Any) -> dict[str, Any]:
    reading = read_spans([span(attributes, events, **over)], DEFAULTS)
    assert reading.faults == []
    (record,) = reading.interactions
    return record


def event(name: str, **attributes: Any) -> Event:
    return Event(name, 0, attributes)


def gen_ai(**over: Any) -> dict[str, Any]:
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m",
        "gen_ai.usage.input_tokens": 12,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.response.finish_reasons": ["stop"],
        **over,
    }


STANDARD = gen_ai(
    **{
        "gen_ai.provider.name": "openai",
        "gen_ai.system_instructions": json.dumps([{"type": "text", "content": "be exact"}]),
        "gen_ai.input.messages": json.dumps(PARTS),
        "gen_ai.output.messages": json.dumps(ANSWER_PARTS),
        "gen_ai.tool.definitions": json.dumps([TOOL]),
    }
)
EVENTS = (
    event("gen_ai.system.message", content="be exact"),
    event("gen_ai.user.message", content="add 2 and 3"),
    event("gen_ai.assistant.message", tool_calls=[OPENAI_CALL]),
    event("gen_ai.tool.message", id="c1", content="5"),
    event("gen_ai.choice", index=0, finish_reason="stop", message={"content": "it is 5"}),
)
LOGFIRE = [{**each.attributes, "event.name": each.name} for each in EVENTS]

CALLS: dict[str, tuple[str, dict[str, Any], tuple[Event, ...]]] = {
    "newest": ("gen_ai/1.44", {**STANDARD, "gen_ai.request.stream": False}, ()),
    "structured attributes": (
        "gen_ai/1.37",
        {
            **STANDARD,
            "gen_ai.input.messages": PARTS,
            "gen_ai.output.messages": ANSWER_PARTS,
            "gen_ai.tool.definitions": [TOOL],
        },
        (),
    ),
    "1.37": ("gen_ai/1.37", STANDARD, ()),
    "1.28 events": (
        "gen_ai/1.28",
        gen_ai(
            **{
                "gen_ai.system": "openai",
                "model_request_parameters": json.dumps(
                    {"function_tools": [{"name": "add", "parameters_json_schema": PARAMETERS}]}
                ),
            }
        ),
        EVENTS,
    ),
    "1.28 events in an attribute": (
        "gen_ai/1.28",
        gen_ai(
            **{
                "gen_ai.system": "openai",
                "events": json.dumps(LOGFIRE),
                "model_request_parameters": json.dumps(
                    {"function_tools": [{"name": "add", "parameters_json_schema": PARAMETERS}]}
                ),
            }
        ),
        (),
    ),
    "1.26": (
        "gen_ai/1.26",
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.system": "openai",
            "gen_ai.request.model": "m",
            "gen_ai.usage.prompt_tokens": 12,
            "gen_ai.usage.completion_tokens": 5,
            "gen_ai.response.finish_reasons": ["stop"],
            "gen_ai.prompt": json.dumps(MESSAGES),
            "gen_ai.completion": json.dumps([ANSWER]),
            "gen_ai.tool.definitions": json.dumps([TOOL]),
        },
        (),
    ),
    "openllmetry": (
        "openllmetry/0.4",
        {
            "llm.request.type": "chat",
            "gen_ai.system": "OpenAI",
            "gen_ai.request.model": "m",
            "gen_ai.usage.prompt_tokens": 12,
            "gen_ai.usage.completion_tokens": 5,
            "gen_ai.prompt.0.role": "system",
            "gen_ai.prompt.0.content": "be exact",
            "gen_ai.prompt.1.role": "user",
            "gen_ai.prompt.1.content": "add 2 and 3",
            "gen_ai.prompt.2.role": "assistant",
            "gen_ai.prompt.2.tool_calls.0.id": "c1",
            "gen_ai.prompt.2.tool_calls.0.name": "add",
            "gen_ai.prompt.2.tool_calls.0.arguments": '{"a": 2}',
            "gen_ai.prompt.3.role": "tool",
            "gen_ai.prompt.3.content": "5",
            "gen_ai.prompt.3.tool_call_id": "c1",
            "gen_ai.completion.0.role": "assistant",
            "gen_ai.completion.0.content": "it is 5",
            "gen_ai.completion.0.finish_reason": "stop",
            "llm.request.functions.0.name": "add",
            "llm.request.functions.0.parameters": json.dumps(PARAMETERS),
        },
        (),
    ),
    "openinference": (
        "openinference/1",
        {
            "openinference.span.kind": "LLM",
            "llm.model_name": "m",
            "llm.token_count.prompt": 12,
            "llm.token_count.completion": 5,
            "llm.finish_reason": "stop",
            "llm.input_messages.0.message.role": "system",
            "llm.input_messages.0.message.content": "be exact",
            "llm.input_messages.1.message.role": "user",
            "llm.input_messages.1.message.contents.0.message_content.type": "text",
            "llm.input_messages.1.message.contents.0.message_content.text": "add 2 and 3",
            "llm.input_messages.2.message.role": "assistant",
            "llm.input_messages.2.message.tool_calls.0.tool_call.id": "c1",
            "llm.input_messages.2.message.tool_calls.0.tool_call.function.name": "add",
            "llm.input_messages.2.message.tool_calls.0.tool_call.function.arguments": '{"a": 2}',
            "llm.input_messages.3.message.role": "tool",
            "llm.input_messages.3.message.content": "5",
            "llm.input_messages.3.message.tool_call_id": "c1",
            "llm.output_messages.0.message.role": "assistant",
            "llm.output_messages.0.message.content": "it is 5",
            "llm.tools.0.tool.json_schema": json.dumps(TOOL),
        },
        (),
    ),
    "ai sdk": (
        "ai-sdk/5",
        {
            "ai.operationId": "ai.generateText.doGenerate",
            "ai.model.id": "m",
            "ai.usage.promptTokens": 12,
            "ai.usage.completionTokens": 5,
            "ai.response.finishReason": "stop",
            "ai.response.text": "it is 5",
            "ai.prompt.tools": [
                json.dumps({"type": "function", "name": "add", "inputSchema": PARAMETERS})
            ],
            "ai.prompt.messages": json.dumps(
                [
                    {"role": "system", "content": "be exact"},
                    {"role": "user", "content": [{"type": "text", "text": "add 2 and 3"}]},
                    {
                        "role": "assistant",
                        "content": [
                            {
                                "type": "tool-call",
                                "toolCallId": "c1",
                                "toolName": "add",
                                "input": {"a": 2},
                            }
                        ],
                    },
                    {
                        "role": "tool",
                        "content": [
                            {
                                "type": "tool-result",
                                "toolCallId": "c1",
                                "toolName": "add",
                                "output": {"type": "text", "value": "5"},
                            }
                        ],
                    },
                ]
            ),
        },
        (),
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_same_call_is_the_same_record_in_every_layout(name: str) -> None:
    version, attributes, events = CALLS[name]
    record = read(attributes, events)
    assert record["semconv_version"] == version
    assert record["request"]["messages"] == MESSAGES
    assert record["request"]["tools"] == [TOOL]
    (choice,) = record["response"]["choices"]
    assert choice == {"index": 0, "message": ANSWER, "finish_reason": "stop"}
    assert record["gen_ai_request_model"] == "m"
    assert record["gen_ai_operation_name"] == "chat"
    assert record["gen_ai_usage_input_tokens"] == 12
    assert record["gen_ai_usage_output_tokens"] == 5
    content = json.dumps(record["attributes"])
    assert "be exact" not in content
    assert "it is 5" not in content


def test_every_layout_is_shown_by_a_call() -> None:
    assert {version for version, _, _ in CALLS.values()} == {each.version for each in LAYOUTS}


@pytest.mark.parametrize(
    ("attributes", "operation"),
    [
        ({"gen_ai.operation.name": "invoke_agent", "gen_ai.request.model": "m"}, "invoke_agent"),
        ({"gen_ai.operation.name": "generate_content"}, "generate_content"),
        ({"llm.request.type": "completion"}, "text_completion"),
        ({"openinference.span.kind": "CHAIN"}, "chain"),
        ({"openinference.span.kind": "LLM"}, "chat"),
        ({"openinference.span.kind": "EMBEDDING"}, "embeddings"),
        ({"ai.operationId": "ai.streamText", "gen_ai.operation.name": "chat"}, "ai.streamText"),
        ({"ai.operationId": "ai.streamText.doStream"}, "chat"),
        ({"gen_ai.request.model": "m"}, "chat"),
        ({"http.method": "GET"}, None),
        ({"gen_ai.operation.name": 7}, None),
    ],
)
def test_operations(attributes: dict[str, Any], operation: str | None) -> None:
    assert operation_of(attributes) == operation


def test_a_span_of_other_work_has_no_layout() -> None:
    assert layout_of({"http.method": "GET", "db.system": "postgresql"}) is None


def test_reasoning_images_sounds_and_unknown_parts_are_kept() -> None:
    parts = [
        {"type": "reasoning", "content": "hm"},
        {"type": "text", "content": "look"},
        {"type": "blob", "modality": "image", "mime_type": "image/png", "content": "QUJD"},
        {"type": "uri", "modality": "image", "uri": "https://example.org/a.png"},
        {"type": "blob", "modality": "audio", "mime_type": "audio/wav", "content": "QUJD"},
        {"type": "file", "modality": "document", "file_id": "f1"},
        {"type": "hologram", "depth": 3},
    ]
    record = read(
        gen_ai(**{"gen_ai.input.messages": json.dumps([{"role": "user", "parts": parts}])})
    )
    (message,) = record["request"]["messages"]
    assert message["reasoning_content"] == "hm"
    assert message["content"] == [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        {"type": "input_audio", "input_audio": {"data": "QUJD", "format": "wav"}},
        {"type": "file", "file": {"file_id": "f1"}},
        {"type": "hologram", "depth": 3},
    ]


def test_a_user_message_with_tool_results_becomes_tool_messages_first() -> None:
    parts = [
        {"type": "tool_call_response", "id": "c1", "result": {"n": 5}},
        {"type": "tool_call_response", "id": "c2", "response": "no"},
        {"type": "text", "content": "and now?"},
    ]
    record = read(gen_ai(**{"gen_ai.input.messages": [{"role": "user", "parts": parts}]}))
    assert record["request"]["messages"] == [
        {"role": "tool", "content": '{"n": 5}', "tool_call_id": "c1"},
        {"role": "tool", "content": "no", "tool_call_id": "c2"},
        {"role": "user", "content": "and now?"},
    ]


@pytest.mark.parametrize("text", ['{"a": 1}', '"quoted"', "[1, 2]", "[]", '[{"type": "x"}]', "5"])
def test_a_text_that_is_json_stays_a_text(text: str) -> None:
    messages = [{"role": "user", "content": text}]
    assert (
        read(gen_ai(**{"gen_ai.prompt": json.dumps(messages)}))["request"]["messages"] == messages
    )


def test_events_whose_body_is_one_attribute_or_whose_parts_have_no_type() -> None:
    azure = event("gen_ai.user.message", **{"gen_ai.event.content": '{"content": "hello"}'})
    strands = event(
        "gen_ai.choice", message='[{"text": "hi"}, {"toolUse": {"toolUseId": "t", "name": "f", '
        '"input": {"x": 1}}}]', finish_reason="tool_use",
    )  # fmt: skip
    record = read(gen_ai(**{"gen_ai.system": "x"}), (azure, strands))
    assert record["request"]["messages"] == [{"role": "user", "content": "hello"}]
    (choice,) = record["response"]["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "hi"
    function = {"name": "f", "arguments": '{"x": 1}'}
    assert choice["message"]["tool_calls"] == [
        {"id": "t", "type": "function", "function": function}
    ]


def test_events_without_content_are_no_empty_messages() -> None:
    husks = (
        event("gen_ai.user.message"),
        event("gen_ai.tool.message", id="c1"),
        event(
            "gen_ai.choice",
            finish_reason="tool_calls",
            message={"role": "assistant", "tool_calls": [{"id": "c2", "function": {"name": "f"}}]},
        ),
    )
    record = read(gen_ai(**{"gen_ai.system": "openai"}), husks)
    assert record["request"]["messages"] == []
    assert record["response"]["choices"] == []
    assert record["gen_ai_usage_input_tokens"] == 12


def test_values_of_the_wrong_kind_cost_no_record() -> None:
    strange = {
        "gen_ai.usage.input_tokens": "many",
        "gen_ai.usage.output_tokens": float("nan"),
        "gen_ai.response.finish_reasons": 5,
        "gen_ai.input.messages": '[{"role": 3, "parts": 7}, null, 4]',
        "gen_ai.output.messages": "[" * 5000,
        "gen_ai.response.time_to_first_chunk": -1,
        "gen_ai.tool.definitions": "none",
        "gen_ai.request.stream": "yes",
        "flywheel.episode_id": "pull-17",
        "flywheel.experiment_id": "not an id",
    }
    record = read(gen_ai(**strange))
    assert record["usage_estimated"] is True
    assert "gen_ai_request_stream" not in record
    assert record["request"]["messages"][0] == {"role": "3", "content": "7"}


def test_an_answer_written_down_whole_is_kept_exactly() -> None:
    answer = {
        "id": "chatcmpl-1",
        "model": "m-1",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "5"}, "logprobs": []}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1},
    }
    asked = {"model": "m", "messages": [{"role": "user", "content": "2 + 3"}]}
    attributes = {
        "openinference.span.kind": "LLM",
        "input.value": json.dumps(asked),
        "output.value": json.dumps(answer),
        "llm.output_messages.0.message.content": "5",
    }
    record = read(attributes)
    assert record["response"] == answer
    assert record["request"] == asked
    assert (record["gen_ai_response_id"], record["gen_ai_usage_input_tokens"]) == ("chatcmpl-1", 3)
    assert record["attributes"].keys() == {"otel", "openinference.span.kind"}


def test_first_token_times() -> None:
    assert read(gen_ai(**{"gen_ai.response.time_to_first_chunk": 0.5}))["ttft_ms"] == 500
    assert read(gen_ai(**{"ai.response.msToFirstChunk": 70.5}))["ttft_ms"] == 70.5
    first = Event("First Token Stream Event", 1_760_000_000_300_000_000, {})
    assert read({"openinference.span.kind": "LLM"}, (first,))["ttft_ms"] == 300
