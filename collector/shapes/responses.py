"""OpenAI's Responses API as chat completions: its requests, answers and stream events.

What chat completions have no word for (built-in tools, encrypted reasoning, references to items
kept by the provider) is left out here; the record keeps the exact request and answer beside this.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from collector.shapes import Event, Json, Told

_RENAMED = {"max_output_tokens": "max_completion_tokens"}
_TURNED = frozenset({"input", "instructions", "tools", "text", "reasoning", "tool_choice"})
_LAST_EVENTS = ("response.completed", "response.incomplete", "response.failed")


def chat_request(body: Json) -> Json:
    """Return the chat request that a responses request amounts to."""
    request: Json = {_RENAMED.get(k, k): v for k, v in body.items() if k not in _TURNED}
    messages = _messages(body.get("input"))
    if body.get("instructions"):
        messages.insert(0, {"role": "system", "content": body["instructions"]})
    request["messages"] = messages
    tools = [_tool(tool) for tool in body.get("tools") or [] if tool.get("type") == "function"]
    if tools:
        request["tools"] = tools
    choice = body.get("tool_choice")
    if choice is not None:
        named = isinstance(choice, Mapping) and choice.get("type") == "function"
        request["tool_choice"] = (
            {"type": "function", "function": {"name": choice.get("name")}} if named else choice
        )
    effort = _mapping(body.get("reasoning")).get("effort")
    if effort:
        request["reasoning_effort"] = effort
    response_format = _mapping(_mapping(body.get("text")).get("format"))
    if response_format.get("type") == "json_schema":
        schema = {k: v for k, v in response_format.items() if k != "type"}
        request["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif response_format.get("type") == "json_object":
        request["response_format"] = {"type": "json_object"}
    return request


def chat_response(answer: Json) -> Json:
    """Return the chat completion that a response amounts to."""
    items = answer.get("output") or []
    message = _assistant(items)
    completion: Json = {
        "id": answer.get("id"),
        "object": "chat.completion",
        "created": int(answer.get("created_at") or 0),
        "model": answer.get("model"),
        "choices": [
            {"index": 0, "message": message, "finish_reason": _finish_reason(answer, message)}
        ],
    }
    usage = answer.get("usage")
    if isinstance(usage, Mapping):
        completion["usage"] = _usage(usage)
    return completion


def tell(events: Sequence[Event]) -> Told:
    """Put the events of a streamed response together."""
    answer: Json | None = None
    items: dict[int, Json] = {}
    for event in events:
        kind, data = str(event.data.get("type")), event.data
        if isinstance(data.get("response"), dict):
            answer = data["response"]
        if kind in _LAST_EVENTS:
            return Told(answer, ended=kind != "response.failed", error=_error_of(answer))
        if kind == "error":
            return Told(_with_items(answer, items), ended=False, error=_stream_error(data))
        _add(items, kind, data)
    return Told(_with_items(answer, items), ended=False)


def speaks(event: Json) -> bool:
    """Return whether an event carries text, reasoning or arguments."""
    return str(event.get("type")).endswith(".delta")


# The request


def _messages(given: Any) -> list[Json]:
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    messages: list[Json] = []
    for item in given or []:
        if not isinstance(item, Mapping):
            continue
        kind = item.get("type") or "message"
        if kind == "message":
            messages.append({"role": item.get("role"), "content": _content(item.get("content"))})
        elif kind == "function_call":
            _add_call(messages, _call(item))
        elif kind == "function_call_output":
            output = item.get("output")
            content = output if isinstance(output, str) else _content(output)
            messages.append(
                {"role": "tool", "tool_call_id": item.get("call_id"), "content": content}
            )
    return messages


def _add_call(messages: list[Json], call: Json) -> None:
    """Add a tool call to the assistant's turn that it belongs to."""
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": None})
    messages[-1].setdefault("tool_calls", []).append(call)


def _content(given: Any) -> Any:
    """Return message content as chat parts; only text becomes one string."""
    if not isinstance(given, list):
        return given
    parts = [_part(part) for part in given if isinstance(part, Mapping)]
    if all(part.get("type") == "text" for part in parts):
        return "".join(str(part.get("text") or "") for part in parts)
    return parts


def _part(part: Mapping[str, Any]) -> Json:
    match part.get("type"):
        case "input_text" | "output_text" | "text":
            return {"type": "text", "text": part.get("text")}
        case "refusal":
            return {"type": "text", "text": part.get("refusal")}
        case "input_image":
            image = {"url": part.get("image_url"), "detail": part.get("detail") or "auto"}
            return {"type": "image_url", "image_url": image}
        case "input_file":
            return {"type": "file", "file": {k: v for k, v in part.items() if k != "type"}}
        case _:
            return dict(part)


def _tool(tool: Mapping[str, Any]) -> Json:
    return {"type": "function", "function": {k: v for k, v in tool.items() if k != "type"}}


# The answer


def _assistant(items: Iterable[Mapping[str, Any]]) -> Json:
    texts, reasons, calls, refusals = [], [], [], []
    for item in items:
        match item.get("type"):
            case "message":
                for part in item.get("content") or []:
                    texts.append(str(part.get("text") or ""))
                    refusals.append(str(part.get("refusal") or ""))
            case "reasoning":
                told = [*(item.get("summary") or []), *(item.get("content") or [])]
                reasons += [str(part.get("text") or "") for part in told]
            case "function_call":
                calls.append(_call(item))
    message: Json = {"role": "assistant", "content": "".join(texts) or None}
    if any(refusals):
        message["refusal"] = "".join(refusals)
    if any(reasons):
        message["reasoning_content"] = "\n".join(reasons)
    if calls:
        message["tool_calls"] = calls
    return message


def _call(item: Mapping[str, Any]) -> Json:
    function = {"name": item.get("name"), "arguments": item.get("arguments") or ""}
    return {"id": item.get("call_id"), "type": "function", "function": function}


def _finish_reason(answer: Json, message: Json) -> str | None:
    match answer.get("status"):
        case "completed":
            return "tool_calls" if message.get("tool_calls") else "stop"
        case "incomplete":
            reason = _mapping(answer.get("incomplete_details")).get("reason")
            return "content_filter" if reason == "content_filter" else "length"
        case _:
            return None


def _usage(usage: Mapping[str, Any]) -> Json:
    asked, said = int(usage.get("input_tokens") or 0), int(usage.get("output_tokens") or 0)
    return {
        "prompt_tokens": asked,
        "completion_tokens": said,
        "total_tokens": int(usage.get("total_tokens") or asked + said),
        "prompt_tokens_details": _mapping(usage.get("input_tokens_details")),
        "completion_tokens_details": _mapping(usage.get("output_tokens_details")),
    }


# The stream


def _add(items: dict[int, Json], kind: str, data: Json) -> None:
    """Take one event into the items of the output so far."""
    index = data.get("output_index")
    if not isinstance(index, int):
        return
    if kind in ("response.output_item.added", "response.output_item.done"):
        items[index] = data.get("item") or {}
        return
    item = items.setdefault(index, {})
    delta = data.get("delta")
    if not isinstance(delta, str):
        return
    if kind == "response.function_call_arguments.delta":
        item["arguments"] = (item.get("arguments") or "") + delta
    elif kind in ("response.output_text.delta", "response.refusal.delta"):
        name = "text" if kind == "response.output_text.delta" else "refusal"
        part = _nth(item, "content", data.get("content_index"))
        part[name] = (part.get(name) or "") + delta
    elif kind == "response.reasoning_summary_text.delta":
        part = _nth(item, "summary", data.get("summary_index"))
        part["text"] = (part.get("text") or "") + delta
    elif kind == "response.reasoning_text.delta":
        part = _nth(item, "content", data.get("content_index"))
        part["text"] = (part.get("text") or "") + delta


def _nth(item: Json, name: str, index: Any) -> Json:
    """Return part `index` of a list inside an item, which grows to hold it."""
    parts: list[Json] = item.setdefault(name, [])
    at = index if isinstance(index, int) and 0 <= index < 1000 else 0
    while len(parts) <= at:
        parts.append({})
    return parts[at]


def _with_items(answer: Json | None, items: dict[int, Json]) -> Json | None:
    if answer is None and not items:
        return None
    return {**(answer or {}), "output": [items[index] for index in sorted(items)]}


def _error_of(answer: Json | None) -> Json | None:
    error = (answer or {}).get("error")
    return error if isinstance(error, dict) else None


def _stream_error(data: Json) -> Json:
    inner = data.get("error")
    return inner if isinstance(inner, dict) else data


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
