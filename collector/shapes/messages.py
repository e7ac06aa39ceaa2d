"""Anthropic's Messages API as chat completions: its requests, answers and stream events.

What chat completions have no word for (signatures of thinking, cache marks, citations, server
tools) is left out here; the record keeps the exact request and answer beside this.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from collector.shapes import Event, Json, Told

_RENAMED = {"stop_sequences": "stop"}
_TURNED = frozenset({"messages", "system", "tools", "tool_choice"})
_FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_TOOL_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
_PARTIAL = "partial_json"
"""Key of a tool block that holds the text of its input as it was streamed, to the byte."""


def chat_request(body: Json) -> Json:
    """Return the chat request that a messages request amounts to."""
    request: Json = {_RENAMED.get(k, k): v for k, v in body.items() if k not in _TURNED}
    messages: list[Json] = []
    if body.get("system"):
        messages.append({"role": "system", "content": _content(body["system"])})
    for message in body.get("messages") or []:
        messages += _chat_messages(message)
    request["messages"] = messages
    tools = [_tool(tool) for tool in body.get("tools") or [] if "input_schema" in tool]
    if tools:
        request["tools"] = tools
    choice = body.get("tool_choice")
    if isinstance(choice, Mapping):
        request["tool_choice"] = _tool_choice(choice)
        if choice.get("disable_parallel_tool_use"):
            request["parallel_tool_calls"] = False
    return request


def chat_response(answer: Json) -> Json:
    """Return the chat completion that a message amounts to."""
    reason = answer.get("stop_reason")
    return {
        "id": answer.get("id"),
        "object": "chat.completion",
        "model": answer.get("model"),
        "choices": [
            {
                "index": 0,
                "message": _assistant(answer.get("content") or []),
                "finish_reason": _FINISH_REASONS.get(str(reason), reason),
            }
        ],
        "usage": _usage(answer.get("usage") or {}),
    }


def tell(events: Sequence[Event]) -> Told:
    """Put the events of a streamed message together."""
    answer: Json | None = None
    blocks: dict[int, Json] = {}
    ended, error = False, None
    for event in events:
        data = event.data
        match data.get("type"):
            case "message_start":
                answer = dict(data.get("message") or {})
            case "content_block_start":
                blocks[int(data["index"])] = dict(data.get("content_block") or {})
            case "content_block_delta":
                _extend(blocks.setdefault(int(data["index"]), {}), data.get("delta") or {})
            case "message_delta":
                answer = {**(answer or {}), **(data.get("delta") or {})}
                answer["usage"] = {**(answer.get("usage") or {}), **_given(data.get("usage"))}
            case "message_stop":
                ended = True
            case "error":
                error = data.get("error") or {}
    if answer is not None:
        answer["content"] = [_with_input(blocks[index]) for index in sorted(blocks)]
    return Told(answer, ended, error)


def speaks(event: Json) -> bool:
    """Return whether an event carries text, thinking or the input of a tool."""
    return event.get("type") == "content_block_delta"


# The request


def _chat_messages(message: Any) -> list[Json]:
    """Return one message as chat messages: results of tools stand alone there."""
    if not isinstance(message, Mapping):
        return []
    content, role = message.get("content"), message.get("role")
    if not isinstance(content, list):
        return [{"role": role, "content": content}]
    blocks = [block for block in content if isinstance(block, Mapping)]
    if role == "assistant":
        return [_assistant(blocks)]
    results = [_result(block) for block in blocks if block.get("type") == "tool_result"]
    rest = [block for block in blocks if block.get("type") != "tool_result"]
    return results + ([{"role": role, "content": _content(rest)}] if rest else [])


def _result(block: Mapping[str, Any]) -> Json:
    return {
        "role": "tool",
        "tool_call_id": block.get("tool_use_id"),
        "content": _content(block.get("content") or ""),
    }


def _content(given: Any) -> Any:
    """Return content as chat parts; only text becomes one string."""
    if not isinstance(given, list):
        return given
    parts = [_part(block) for block in given if isinstance(block, Mapping)]
    if all(part.get("type") == "text" for part in parts):
        return "\n".join(str(part.get("text") or "") for part in parts)
    return parts


def _part(block: Mapping[str, Any]) -> Json:
    source = block.get("source")
    if block.get("type") == "text":
        return {"type": "text", "text": block.get("text")}
    if block.get("type") == "image" and isinstance(source, Mapping):
        url = source.get("url") or f"data:{source.get('media_type')};base64,{source.get('data')}"
        return {"type": "image_url", "image_url": {"url": url}}
    return dict(block)


def _tool(tool: Mapping[str, Any]) -> Json:
    function = {
        "name": tool.get("name"),
        "description": tool.get("description"),
        "parameters": tool.get("input_schema"),
    }
    given = {name: value for name, value in function.items() if value is not None}
    return {"type": "function", "function": given}


def _tool_choice(choice: Mapping[str, Any]) -> Any:
    if choice.get("type") == "tool":
        return {"type": "function", "function": {"name": choice.get("name")}}
    return _TOOL_CHOICES.get(str(choice.get("type")), "auto")


# The answer


def _assistant(blocks: Sequence[Mapping[str, Any]]) -> Json:
    texts = [str(block.get("text") or "") for block in blocks if block.get("type") == "text"]
    thoughts = [str(b.get("thinking") or "") for b in blocks if b.get("type") == "thinking"]
    calls = [_call(block) for block in blocks if block.get("type") == "tool_use"]
    message: Json = {"role": "assistant", "content": "".join(texts) or None}
    if any(thoughts):
        message["reasoning_content"] = "\n".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    return message


def _call(block: Mapping[str, Any]) -> Json:
    arguments = block.get(_PARTIAL)
    if not arguments:
        arguments = json.dumps(block.get("input") or {}, ensure_ascii=False)
    function = {"name": block.get("name"), "arguments": arguments}
    return {"id": block.get("id"), "type": "function", "function": function}


def _usage(usage: Mapping[str, Any]) -> Json:
    """Return usage as OpenAI counts it: input includes what came from or went to the cache."""
    read = int(usage.get("cache_read_input_tokens") or 0)
    written = int(usage.get("cache_creation_input_tokens") or 0)
    asked = int(usage.get("input_tokens") or 0) + read + written
    said = int(usage.get("output_tokens") or 0)
    return {
        "prompt_tokens": asked,
        "completion_tokens": said,
        "total_tokens": asked + said,
        "prompt_tokens_details": {"cached_tokens": read},
    }


# The stream


def _extend(block: Json, delta: Mapping[str, Any]) -> None:
    match delta.get("type"):
        case "text_delta":
            block.setdefault("type", "text")
            block["text"] = (block.get("text") or "") + (delta.get("text") or "")
        case "thinking_delta":
            block["thinking"] = (block.get("thinking") or "") + (delta.get("thinking") or "")
        case "signature_delta":
            block["signature"] = delta.get("signature")
        case "input_json_delta":
            block[_PARTIAL] = (block.get(_PARTIAL) or "") + (delta.get("partial_json") or "")
        case "citations_delta":
            block["citations"] = [*(block.get("citations") or []), delta.get("citation")]


def _with_input(block: Json) -> Json:
    """Return a tool block with its input read, if all of it came."""
    if _PARTIAL not in block:
        return block
    try:
        return {**block, "input": json.loads(block[_PARTIAL] or "{}")}
    except ValueError:
        return block


def _given(usage: Any) -> Json:
    """Return the counts that a delta gives; those it leaves out keep their first value."""
    counts = usage if isinstance(usage, Mapping) else {}
    return {name: value for name, value in counts.items() if value is not None}
