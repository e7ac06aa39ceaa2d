"""Messages and parts that one framework alone writes, rewritten to the shapes that all share.

What these frameworks call a part is told by a field of its own instead of a `type`: Bedrock and
Strands (`toolUse`), Haystack and OpenInference (`tool_call`), LlamaIndex (`block_type`),
pydantic-ai (`part_kind`), AutoGen (calls without a type). `chat_shapes` reads what comes out.
"""

import json
from collections.abc import Mapping
from typing import Any

_BEDROCK = frozenset({"text", "toolUse", "toolResult", "reasoningContent"})
_PYDANTIC_AI = {
    "system-prompt": "system",
    "text": "text",
    "user-prompt": "text",
    "thinking": "thinking",
    "tool-call": "tool_call",
    "builtin-tool-call": "tool_call",
    "tool-return": "tool_result",
    "builtin-tool-return": "tool_result",
    "retry-prompt": "tool_result",
}
_CONTENT_FIELDS = ("contents", "blocks", "_content")
"""Where frameworks keep the parts of a message, besides `content` and `parts`."""

_TEXT_FIELDS = ("message", "result")
"""Where voice agents keep the text of a message."""

_FLATTENED = ("message.", "message_content.", "tool_call.")
"""How the names of OpenInference's flattened objects begin."""


def as_shared_message(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message with the field names that most frameworks use; others stay as they are."""
    shared = unflattened(row)
    if isinstance(shared.get("messageType"), str):
        shared.setdefault("role", shared["messageType"])
    if "_role" in shared:
        shared = {"role": shared["_role"], "name": shared.get("_name"), **shared}
    if isinstance(shared.get("toolExecutionRequests"), list):
        shared.setdefault("tool_calls", shared["toolExecutionRequests"])
    if isinstance(shared.get("function_calls"), list):
        shared.setdefault("tool_calls", shared["function_calls"])
    if not {"role", "type", "kind"} & shared.keys():
        return shared
    if shared.get("content") is None:
        fields = [name for name in _CONTENT_FIELDS if isinstance(shared.get(name), list)]
        fields += [n for n in _TEXT_FIELDS if "role" in shared and isinstance(shared.get(n), str)]
        shared |= {"content": shared[fields[0]]} if fields else {}
    return (
        shared | {"content": _parts_in_text(shared["content"])} if "content" in shared else shared
    )


def as_shared_part(part: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a part with a `type` and the fields that go with it; others stay as they are."""
    part = unflattened(part)
    if isinstance(inner := part.get("message_content"), Mapping):
        return dict(inner)
    if isinstance(part.get("block_type"), str):
        given = {"args": part["tool_kwargs"]} if "tool_kwargs" in part else {}
        return {**part, "type": part["block_type"], **given}
    if kind := _PYDANTIC_AI.get(str(part.get("part_kind"))):
        return {**part, "type": kind}
    return part if "type" in part else _typed(part)


def _typed(part: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a part that is known by the field that holds it, or by its fields together."""
    for name in ("toolUse", "tool_call"):
        if isinstance(inner := part.get(name), Mapping):
            return {**inner, "type": "tool_call", "id": inner.get("toolUseId") or inner.get("id")}
    if isinstance(inner := part.get("toolResult"), Mapping):
        content = _bedrock_result(inner.get("content"))
        return {"type": "tool_result", "id": inner.get("toolUseId"), "content": content}
    if isinstance(inner := part.get("tool_call_result"), Mapping):
        origin = inner["origin"] if isinstance(inner.get("origin"), Mapping) else {}
        return {"type": "tool_result", "id": origin.get("id"), "content": inner.get("result")}
    for name in ("reasoningContent", "reasoning"):
        if isinstance(inner := part.get(name), Mapping):
            thought = inner.get("reasoningText") or inner.get("reasoning_text")
            return {"type": "thinking", "thinking": thought}
    if {"name", "arguments"} <= part.keys():
        return {**part, "type": "tool_call"}
    if {"call_id", "content"} <= part.keys():
        return {**part, "type": "tool_result"}
    return part


def _bedrock_result(content: Any) -> Any:
    """Return the text of a result's parts; a value that was one JSON part stays a value."""
    rows = content if isinstance(content, list) else []
    if len(rows) == 1 and isinstance(rows[0], Mapping) and "json" in rows[0]:
        return rows[0]["json"]
    texts = [
        r["text"] if "text" in r else json.dumps(r.get("json", r), ensure_ascii=False)
        for r in rows
        if isinstance(r, Mapping)
    ]
    return "".join(map(str, texts)) if texts else content


def _parts_in_text(content: Any) -> Any:
    """Return the parts that Strands logs as JSON text; any other content as it is."""
    if not isinstance(content, str) or not content.startswith('[{"'):
        return content
    try:
        parts = json.loads(content)
    except (ValueError, RecursionError):
        return content
    return parts if all(map(is_bedrock_part, parts)) else content


def is_bedrock_part(part: Any) -> bool:
    """Tell a part of Bedrock's Converse API, which has one field and no type."""
    return isinstance(part, Mapping) and len(part) == 1 and part.keys() <= _BEDROCK


def unflattened(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return OpenInference's `{"message.role": …}` as the nested object that it stands for."""
    if not row or not all(name.startswith(_FLATTENED) for name in row):
        return dict(row)
    nested: dict[str, Any] = {}
    for name, value in row.items():
        *outer, last = name.split(".")
        place = nested
        for step in outer:
            inner = place.setdefault(step, {})
            if not isinstance(inner, dict):
                return dict(row)
            place = inner
        place[last] = value
    return nested
