"""What single frameworks write, by the fields that their own code gives a message and its parts."""

import json
from typing import Any

import pytest

from collector.importers.chat_shapes import messages_of

ASKED = {"role": "user", "content": "hi"}
CALLED = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    ],
}
GOT = {"role": "tool", "tool_call_id": "c", "content": "r"}

CONVERSATIONS: dict[str, Any] = {
    "bedrock": [
        {"role": "user", "content": [{"text": "hi"}]},
        {"role": "assistant", "content": [_use := {"toolUse": {
            "toolUseId": "c", "name": "f", "input": {"a": 1}}}]},
        {"role": "user", "content": [_result := {"toolResult": {
            "toolUseId": "c", "content": [{"text": "r"}], "status": "success"}}]},
    ],
    "strands": [
        {"role": "user", "content": json.dumps([{"text": "hi"}])},
        {"role": "assistant", "content": json.dumps([_use])},
        {"role": "tool", "content": json.dumps([_result])},
    ],
    "livekit": {"items": [
        {"type": "message", "role": "user", "content": ["hi"], "interrupted": False},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"a":1}'},
        {"type": "function_call_output", "call_id": "c", "output": "r", "is_error": False},
    ]},
    "openinference": [
        {"message": {"role": "user", "contents": [
            {"message_content": {"type": "text", "text": "hi"}}]}},
        {"message": {"role": "assistant", "tool_calls": [
            {"tool_call": {"id": "c", "function": {"name": "f", "arguments": '{"a":1}'}}}]}},
        {"message": {"role": "tool", "content": "r", "tool_call_id": "c"}},
    ],
    "openinference flattened": [
        {"message.role": "user", "message.content": "hi"},
        {"message.role": "assistant", "message.tool_calls": [{
            "tool_call.id": "c",
            "tool_call.function.name": "f",
            "tool_call.function.arguments": '{"a":1}',
        }]},
        {"message.role": "tool", "message.content": "r", "message.tool_call_id": "c"},
    ],
    "autogen": {"messages": [
        {"type": "UserMessage", "content": "hi", "source": "user"},
        {"type": "AssistantMessage", "source": "a", "content": [
            {"id": "c", "name": "f", "arguments": '{"a":1}'}]},
        {"type": "FunctionExecutionResultMessage", "content": [
            {"call_id": "c", "content": "r", "name": "f", "is_error": False}]},
    ]},
    "llamaindex": [
        {"role": "user", "blocks": [{"block_type": "text", "text": "hi"}]},
        {"role": "assistant", "blocks": [{"block_type": "tool_call", "tool_call_id": "c",
                                          "tool_name": "f", "tool_kwargs": {"a": 1}}]},
        {"role": "tool", "blocks": [{"block_type": "text", "text": "r"}],
         "tool_call_id": "c"},
    ],
    "haystack": [
        {"role": "user", "meta": {}, "name": None, "content": [{"text": "hi"}]},
        {"_role": "assistant", "_content": [
            {"tool_call": {"tool_name": "f", "arguments": {"a": 1}, "id": "c"}}]},
        {"role": "tool", "content": [{"tool_call_result": {
            "result": "r", "error": False, "origin": {"tool_name": "f", "id": "c"}}}]},
    ],
    "pydantic-ai": [
        {"kind": "request", "parts": [{"content": "hi", "part_kind": "user-prompt"}]},
        {"kind": "response", "parts": [{"tool_name": "f", "args": '{"a":1}', "tool_call_id": "c",
                                        "part_kind": "tool-call"}]},
        {"kind": "request", "parts": [{"tool_name": "f", "content": "r", "tool_call_id": "c",
                                       "part_kind": "tool-return"}]},
    ],
    "langchain4j": [
        {"type": "USER", "contents": [{"type": "TEXT", "text": "hi"}]},
        {"type": "AI", "toolExecutionRequests": [{"id": "c", "name": "f", "arguments": '{"a":1}'}]},
        {"type": "TOOL_EXECUTION_RESULT", "id": "c", "toolName": "f", "text": "r"},
    ],
    "vapi": [
        {"role": "user", "message": "hi", "time": 1},
        {"role": "tool_calls", "toolCalls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}]},
        {"role": "tool_call_result", "toolCallId": "c", "result": "r"},
    ],
    "semantic-kernel": [
        {"role": "user", "gen_ai.event.content": json.dumps({"role": "User", "content": "hi"})},
        {"role": "assistant", "gen_ai.event.content": json.dumps(CALLED)},
        {"role": "tool", "gen_ai.event.content": json.dumps(
            {"role": "tool", "content": "r", "id": "c"})},
    ],
    "opentelemetry": [
        {"role": "user", "parts": [{"type": "text", "content": "hi"}]},
        {"role": "assistant", "parts": [
            {"type": "tool_call", "id": "c", "name": "f", "arguments": {"a": 1}}]},
        {"role": "tool", "parts": [
            {"type": "tool_call_response", "id": "c", "response": [{"text": "r"}]}]},
    ],
}  # fmt: skip


@pytest.mark.parametrize("framework", CONVERSATIONS)
def test_a_framework_s_messages_are_openai_s(framework: str) -> None:
    assert messages_of(json.dumps(CONVERSATIONS[framework])) == [ASKED, CALLED, GOT]


ANSWERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "bedrock": (
        {"output": {"message": {"role": "assistant", "content": [
            {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "s"}}},
            {"text": "a"}]}}, "stopReason": "end_turn"},
        {"content": "a", "reasoning_content": "hm"},
    ),
    "strands": (
        {"message": json.dumps([{"text": "a"}, _use]), "finish_reason": "tool_use"},
        {"content": "a", "tool_calls": CALLED["tool_calls"]},
    ),
    "livekit": (
        {"text": "a", "function_calls": [{"call_id": "c", "name": "f", "arguments": '{"a":1}'}]},
        {"content": "a", "tool_calls": CALLED["tool_calls"]},
    ),
    "ollama": (
        {"message": {"role": "assistant", "content": "a", "thinking": "hm"}, "done": True},
        {"content": "a", "reasoning_content": "hm"},
    ),
    "autogen": (
        {"content": [{"id": "c", "name": "f", "arguments": '{"a":1}'}], "thought": "hm"},
        {"content": None, "tool_calls": CALLED["tool_calls"], "reasoning_content": "hm"},
    ),
    "openai sound": (
        {"role": "assistant", "content": None, "audio": {"id": "x", "transcript": "a"}},
        {"content": "a"},
    ),
    "openai before tools": (
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"content": None, "tool_calls": [
            {"id": "", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("framework", ANSWERS)
def test_a_framework_s_answer_is_openai_s(framework: str) -> None:
    logged, expected = ANSWERS[framework]
    assert messages_of(logged, "assistant") == [{"role": "assistant", **expected}]


def test_what_stands_beside_the_messages_belongs_to_them() -> None:
    cohere = {"message": "hi", "chat_history": [{"role": "CHATBOT", "message": "b"}]}
    assert messages_of(cohere) == [{"role": "assistant", "content": "b"}, ASKED]
    opened = {"system_instructions": [{"type": "text", "content": "s"}], "messages": [ASKED]}
    assert messages_of(opened) == [{"role": "system", "content": "s"}, ASKED]
    dspy = {"prompt": None, "messages": [ASKED], "kwargs": {"temperature": 0}}
    assert messages_of(dspy) == [ASKED]
    parts = [{"part_kind": "system-prompt", "content": "s"}, {"part_kind": "text", "content": "x"}]
    assert messages_of([{"kind": "request", "parts": parts}])[0] == {
        "role": "system", "content": "s",
    }  # fmt: skip


def test_a_text_that_only_looks_like_parts_stays() -> None:
    for text in ('[{"text": "a", "n": 1}]', '[{"a"', "[1]", '[{"x": 1}]'):
        assert messages_of([{"role": "user", "content": text}])[0]["content"] == text


@pytest.mark.parametrize("kind", [[], {}, 7, None, True])
def test_a_type_that_is_no_name_is_no_type(kind: Any) -> None:
    part = {"type": kind, "part_kind": kind, "text": "a", "function_call": kind}
    for logged in ([part], {"role": "user", "content": [part]}, part, {"tool_calls": [part]}):
        assert "a" in json.dumps(messages_of(logged)) or "tool_calls" in logged
