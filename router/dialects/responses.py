"""OpenAI's Responses: requests as chats, and chats' answers as responses.

https://platform.openai.com/docs/api-reference/responses. Nothing is kept here between two calls, so
what leans on an earlier response (`previous_response_id`, `conversation`, `store`) is refused by
name, and so is what only OpenAI's own servers run (their tools, stored prompts).
"""

import re
from collections.abc import Mapping
from typing import Any

from collector.shapes import Json, responses
from foundation.errors import BadInput
from router.dialects.deltas import ChunkReader
from router.dialects.dialect import Asked, Dialect, LastEvent
from router.dialects.errors import openai_error
from router.dialects.response_items import call_item, message_item, reasoning_item, response
from router.dialects.response_stream import ResponseTranslator, error_event

_KEPT = (
    *("model", "messages", "stream", "temperature", "top_p", "top_k", "user"),
    *("tools", "tool_choice", "parallel_tool_calls", "reasoning_effort", "response_format"),
)
_STATEFUL = ("previous_response_id", "conversation", "background", "store")
_NATIVE_ONLY = ("prompt", "top_logprobs", "max_tool_calls")
_ITEMS = ("message", "function_call", "function_call_output", "reasoning")
_PARTS = ("input_text", "output_text", "text", "refusal", "input_image", "input_file")
_LAST_EVENT = LastEvent(
    b"response.",
    re.compile(rb"[\r\n]event: ?response\.(?:completed|incomplete|failed)"),
    len("\nevent: response.incomplete"),
    has_data=True,
)


def as_chat(values: Json) -> Json:
    """Return the chat that a responses request amounts to.

    Raises:
        BadInput: a part of it is of another kind than expected, or nothing that a chat can do.
    """
    _check(values)
    told = responses.chat_request(values)
    request: Json = {name: told[name] for name in _KEPT if told.get(name) is not None}
    for said in request["messages"]:
        if said.get("role") == "developer":  # templates of open models know no such role
            said["role"] = "system"
    if values.get("max_output_tokens") is not None:
        request["max_tokens"] = values["max_output_tokens"]  # the name that every server knows
    if request.get("stream"):
        request["stream_options"] = {"include_usage": True}
    return request


def _check(values: Json) -> None:
    for name in _STATEFUL:
        if values.get(name):
            remedy = "Send the whole conversation as input, with store=false."
            raise BadInput(name, values[name], "none, since the gateway keeps no response", remedy)
    for name in _NATIVE_ONLY:
        if values.get(name):
            raise _refused(name, values[name], "none")
    given = values.get("input")
    if not isinstance(given, str | list) or not given:
        raise BadInput("input", given, "a text or a list of items", "Send one.")
    for i, item in enumerate(given if isinstance(given, list) else []):
        _check_item(item, f"input[{i}]")
    if not isinstance(values.get("instructions") or "", str):
        raise BadInput("instructions", values["instructions"], "a text", "Correct it.")
    tools = values.get("tools") or []
    for i, tool in enumerate(tools if isinstance(tools, list) else [tools]):
        kind = tool.get("type") if isinstance(tool, Mapping) else tool
        if kind != "function":
            raise _refused(f"tools[{i}].type", kind, "function")
    choice = values.get("tool_choice")
    if isinstance(choice, Mapping) and choice.get("type") != "function":
        raise _refused("tool_choice", choice, "auto, none, required or a function")


def _check_item(item: Any, place: str) -> None:
    kind = (item.get("type") or "message") if isinstance(item, Mapping) else item
    if kind not in _ITEMS:
        raise _refused(f"{place}.type", kind, ", ".join(_ITEMS))
    field = "output" if kind == "function_call_output" else "content"
    if kind in ("function_call", "reasoning"):
        return
    content = item.get(field)
    if not isinstance(content, str | list):
        raise BadInput(f"{place}.{field}", content, "a text or a list of parts", "Correct it.")
    for j, part in enumerate(content if isinstance(content, list) else []):
        kind = part.get("type") if isinstance(part, Mapping) else part
        if kind not in _PARTS:
            raise _refused(f"{place}.{field}[{j}].type", kind, ", ".join(_PARTS))
        if kind == "input_image" and not isinstance(part.get("image_url"), str):
            raise _refused(f"{place}.{field}[{j}]", part, "an image_url")


def _refused(name: str, value: Any, expected: str) -> BadInput:
    remedy = "Leave it out, or name a model whose upstream speaks responses itself."
    return BadInput(name, value, f"{expected}, since this model is asked by chats", remedy)


def answer(chat: Json, asked: Asked, identifier: str) -> Json:
    """Return the response that a chat completion amounts to; of several choices the first."""
    chunk = ChunkReader().read(chat)
    items: list[Json] = []
    reason = None
    for delta in chunk.deltas[:1]:
        reason = delta.finish_reason
        if delta.reasoning:
            items.append(reasoning_item(identifier, delta.reasoning))
        if delta.text or delta.refusal:
            items.append(message_item(identifier, delta.text, delta.refusal))
        items += [call_item(identifier, call) for call in delta.calls]
    return response(asked, identifier, chunk, items, reason)


def _is_answer(values: Json) -> bool:
    output = values.get("output")
    return isinstance(output, list) and all(isinstance(item, dict) for item in output)


RESPONSES = Dialect(
    name="responses",
    path="/v1/responses",
    operation="chat",
    last_event=_LAST_EVENT,
    is_answer=_is_answer,
    tell=responses.tell,
    chat_request=responses.chat_request,
    chat_response=responses.chat_response,
    as_chat=as_chat,
    answer=answer,
    translator=ResponseTranslator,
    error=openai_error,
    error_event=error_event,
    api="openai.responses",
)
