"""Anthropic's Messages: requests as chats, and chats' answers as messages.

https://docs.anthropic.com/en/api/messages. What a chat has no word for and would change the answer
(server tools, documents in PDF, containers) is refused by name; what only a later turn needs
(signatures of thinking, marks of a cache) is left out.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from collector.shapes import Json, messages
from foundation.chat import text_of
from foundation.errors import BadInput
from router.dialects.deltas import ChunkReader, Delta
from router.dialects.dialect import Asked, Dialect, LastEvent
from router.dialects.errors import anthropic_error
from router.dialects.message_stream import (
    MessageTranslator,
    error_event,
    stop_of,
    tool_id,
    usage_of,
)

VERSION = "2023-06-01"
COUNT_PATH = "/v1/messages/count_tokens"

_KEPT = (
    *("model", "messages", "max_tokens", "stop", "stream", "temperature", "top_p", "top_k"),
    *("tools", "tool_choice", "parallel_tool_calls"),
)
_BLOCKS = ("text", "image", "tool_use", "tool_result", "thinking", "redacted_thinking")
_NATIVE_ONLY = ("mcp_servers", "container", "context_management")
_EFFORT_OF_BUDGET = ((4096, "low"), (16384, "medium"))
"""Most tokens of a thinking budget, and the effort that chats call it; beyond the last: high."""
_EFFORTS = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
_CHARACTERS_PER_TOKEN = 4
_TOKENS_PER_IMAGE = 1_500
_LAST_EVENT = LastEvent(
    b"message_stop",
    re.compile(rb"[\r\n]event: ?message_stop"),
    len("\nevent: message_stop"),
    has_data=True,
)
UNREADABLE = "unreadable_arguments"
"""Key of a tool's input whose text, which is kept under it, is no JSON object."""


def as_chat(values: Json) -> Json:
    """Return the chat that a messages request amounts to.

    Raises:
        BadInput: a part of it is of another kind than expected, or nothing that a chat can do.
    """
    _check(values)
    told = messages.chat_request(values)
    request: Json = {name: told[name] for name in _KEPT if told.get(name) is not None}
    for said in request["messages"]:
        said.pop("reasoning_content", None)  # servers of chats refuse it in what they are asked
    if request.get("stream"):
        request["stream_options"] = {"include_usage": True}
    effort = _effort(values)
    if effort:
        request["reasoning_effort"] = effort
    output = _mapping(_mapping(values.get("output_config")).get("format"))
    if output.get("type") == "json_schema":
        schema = {"name": "answer", "schema": output.get("schema"), "strict": True}
        request["response_format"] = {"type": "json_schema", "json_schema": schema}
    user = _mapping(values.get("metadata")).get("user_id")
    if isinstance(user, str):
        request["user"] = user
    return request


def _check(values: Json) -> None:
    given = values.get("messages")
    if not isinstance(given, list) or not given:
        raise BadInput("messages", given, "a list of at least one message", "Send one.")
    for name in _NATIVE_ONLY:
        if values.get(name):
            raise _refused(name, values[name], "none")
    for i, message in enumerate(given):
        role = message.get("role") if isinstance(message, Mapping) else message
        if role not in ("user", "assistant", "system"):
            raise BadInput(f"messages[{i}].role", role, "user or assistant", "Correct it.")
        _check_content(message.get("content"), f"messages[{i}].content")
    _check_content(values.get("system") or "", "system")
    tools = values.get("tools") or []
    for i, tool in enumerate(tools if isinstance(tools, list) else [tools]):
        if not isinstance(tool, Mapping) or "input_schema" not in tool:
            kind = tool.get("type") if isinstance(tool, Mapping) else tool
            raise _refused(f"tools[{i}]", kind, "a tool with an input_schema")


def _check_content(content: Any, place: str) -> None:
    if isinstance(content, str):
        return
    if not isinstance(content, list):
        raise BadInput(place, content, "a text or a list of blocks", "Correct it.")
    for i, block in enumerate(content):
        kind = block.get("type") if isinstance(block, Mapping) else block
        if kind not in _BLOCKS:
            raise _refused(f"{place}[{i}].type", kind, ", ".join(_BLOCKS))
        if kind == "image" and _mapping(block.get("source")).get("type") not in ("base64", "url"):
            raise _refused(f"{place}[{i}].source", block.get("source"), "base64 or url")
        if kind == "tool_result":
            _check_content(block.get("content") or "", f"{place}[{i}].content")


def _refused(name: str, value: Any, expected: str) -> BadInput:
    remedy = "Leave it out, or name a model whose upstream speaks messages itself."
    return BadInput(name, value, f"{expected}, since this model is asked by chats", remedy)


def _effort(values: Json) -> str | None:
    """Return how hard a model is to think, in the words of chats; None if nothing is said."""
    said = _mapping(values.get("output_config")).get("effort")
    if isinstance(said, str) and said in _EFFORTS:
        return _EFFORTS[said]
    thinking = _mapping(values.get("thinking"))
    budget = thinking.get("budget_tokens")
    if thinking.get("type") != "enabled" or not isinstance(budget, int):
        return None
    return next((effort for most, effort in _EFFORT_OF_BUDGET if budget <= most), "high")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def answer(chat: Json, asked: Asked, identifier: str) -> Json:
    """Return the message that a chat completion amounts to; of several choices the first."""
    chunk = ChunkReader().read(chat)
    delta = next(iter(chunk.deltas), None)
    reason, sequence = stop_of(
        asked, delta and delta.finish_reason, delta and delta.stop, bool(delta and delta.calls)
    )
    blocks = _blocks(delta, identifier) if delta else []
    return {
        "id": f"msg_{identifier}",
        "type": "message",
        "role": "assistant",
        "model": chunk.model or asked.model,
        "content": blocks,
        "stop_reason": reason,
        "stop_sequence": sequence,
        "usage": usage_of(chunk.usage, asked, _n_characters(blocks)),
    }


def _blocks(delta: Delta, identifier: str) -> list[Json]:
    blocks: list[Json] = []
    if delta.reasoning:
        blocks.append({"type": "thinking", "thinking": delta.reasoning, "signature": ""})
    if delta.text or delta.refusal:
        blocks.append({"type": "text", "text": delta.text or delta.refusal})
    for call in delta.calls:
        name = {"id": call.id or tool_id(identifier, call.number), "name": call.name}
        blocks.append({"type": "tool_use", **name, "input": _input(call.arguments)})
    return blocks


def _input(arguments: str) -> Json:
    try:
        values: Any = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        values = None
    return values if isinstance(values, dict) else {UNREADABLE: arguments}


def _n_characters(blocks: Sequence[Json]) -> int:
    return sum(len(text_of([block])) + len(json.dumps(block.get("input", ""))) for block in blocks)


def count_tokens(values: Json) -> Json:
    """Return about how many tokens a messages request has: the answer of `COUNT_PATH`.

    An estimate, four characters to a token and 1,500 tokens to an image: which tokenizer counts is
    known to the upstream alone.

    Raises:
        BadInput: it is no request that can be understood.
    """
    _check(values)
    told = messages.chat_request(values)
    n_tokens, n_characters = 0, len(json.dumps(values.get("tools") or "")) - 2
    for said in told["messages"]:
        content = said.get("content")
        parts = content if isinstance(content, list) else []
        n_tokens += _TOKENS_PER_IMAGE * sum(part.get("type") == "image_url" for part in parts)
        n_characters += len(text_of(content)) + len(json.dumps(said.get("tool_calls") or "")) - 2
    return {"input_tokens": n_tokens + -(-n_characters // _CHARACTERS_PER_TOKEN)}


def _is_answer(values: Json) -> bool:
    content = values.get("content")
    return isinstance(content, list) and all(isinstance(block, dict) for block in content)


MESSAGES = Dialect(
    name="messages",
    path="/v1/messages",
    operation="chat",
    last_event=_LAST_EVENT,
    is_answer=_is_answer,
    tell=messages.tell,
    chat_request=messages.chat_request,
    chat_response=messages.chat_response,
    as_chat=as_chat,
    answer=answer,
    translator=MessageTranslator,
    error=anthropic_error,
    error_event=error_event,
    api="anthropic.messages",
    key_header="x-api-key",
    passed_headers=("anthropic-version", "anthropic-beta"),
    upstream_headers={"anthropic-version": VERSION},
)
