"""Messages and tools of any provider or framework, read as OpenAI chat messages.

Agent frameworks log one and the same conversation in a dozen shapes: OpenAI chat and Responses
items, Anthropic blocks, Gemini contents, Vercel AI SDK parts, OpenTelemetry and pydantic-ai parts,
LangChain messages. A shape is known by its fields, never by the framework's name, so that a log of
an unknown framework is read too. Text is taken over exactly; only its packing changes.
"""

import ast
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from collector.importers.dialects import (
    as_shared_message,
    as_shared_part,
    is_bedrock_part,
    unflattened,
)
from foundation.chat import Message

_ROLES = {
    "human": "user",
    "humanmessage": "user",
    "ai": "assistant",
    "aimessage": "assistant",
    "aimessagechunk": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "chatbot": "assistant",
    "systemmessage": "system",
    "toolmessage": "tool",
    "assistantmessage": "assistant",
    "usermessage": "user",
    "functionexecutionresultmessage": "tool",
    "function": "tool",
    "tool_calls": "assistant",
    "tool-call": "assistant",
    "tool-response": "user",
    "tool_result": "tool",
    "tool_call_result": "tool",
    "tool_execution_result": "tool",
    "toolresult": "tool",
    "tool-result": "tool",
}
"""Other words for roles; smolagents sends its `tool-call` and `tool-response` as turns of text."""

_KNOWN_ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
_TEXT_TYPES = frozenset({"text", "input_text", "output_text", "summary_text"})
_CALL_TYPES = frozenset({"tool_call", "tool-call", "tool_use", "function_call", "toolcall"})
_RESULT_TYPES = frozenset(
    {"tool_call_response", "tool-result", "tool_result", "function_call_output"}
)
_THINKING_TYPES = frozenset({"thinking", "reasoning", "redacted_thinking"})
_FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "eos": "stop",
    "completed": "stop",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "tool_call": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "safety": "content_filter",
}
_REPR = re.compile(r"role='\w+' content=")
_REPR_FIELDS = ("role", "content", "name", "tool_call_id", "tool_calls")
_MAX_REPR_FIELDS = 50
_MAX_JSON_LAYERS = 3
_MAX_DEPTH = 8


def decoded(value: Any) -> Any:
    """Return the list or object inside JSON text, up to three layers of it; other values as is."""
    for _ in range(_MAX_JSON_LAYERS):
        if not isinstance(value, str) or value.lstrip()[:1] not in ("{", "[", '"'):
            return value
        try:
            inner = json.loads(value)
        except (ValueError, RecursionError):
            return value
        if not isinstance(inner, dict | list | str):
            return value
        value = inner
    return value


def messages_of(value: Any, default_role: str = "user") -> list[Message]:
    """Return the messages of a logged input or output; empty if it holds nothing.

    Args:
        value: a request, a response, a list of messages or parts, one message, or a text.
        default_role: of a text or a message that names no role.
    """
    return list(_messages(value, default_role, _MAX_DEPTH))


def tools_of(value: Any) -> list[dict[str, Any]]:
    """Return tool definitions of any shape as OpenAI function tools, each name once."""
    tools: dict[str, dict[str, Any]] = {}
    for tool in _tools(decoded(value), _MAX_DEPTH):
        tools.setdefault(tool["function"]["name"], tool)
    return list(tools.values())


def tools_in_messages(value: Any) -> list[dict[str, Any]]:
    """Return the tools that LangChain's callback logs as messages of the role `tool`."""
    rows = value.get("messages") if isinstance(value, Mapping) else value
    rows = rows if isinstance(rows, list) else []
    return tools_of([row["content"] for row in rows if _is_tool_definition(row)])


def finish_reason_of(value: Any) -> str | None:
    """Return OpenAI's word for why an answer ended, from any provider's word; None if unknown."""
    if not isinstance(value, str) or not value:
        return None
    word = value.rpartition(".")[2].lower().replace("-", "_")
    return _FINISH_REASONS.get(word, word)


def json_text(value: Any) -> str:
    """Return a text as it is and other values as compact JSON, as providers write arguments."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _messages(value: Any, role: str, depth: int) -> Iterable[Message]:
    value = decoded(value)
    if value is None or depth == 0:
        return
    if isinstance(value, list):
        yield from _of_list(value, role, depth)
    elif isinstance(value, Mapping):
        yield from _of_object(value, role, depth)
    else:
        yield from _of_text(json_text(value), role)


def _of_list(rows: list[Any], role: str, depth: int) -> Iterable[Message]:
    if _is_tagged_text(rows):
        yield {"role": _role(rows[0], role), "content": rows[1]}
    elif rows and all(_is_part(row) for row in rows):
        yield from _with_parts({"role": role}, rows)
    else:
        for row in rows:
            if isinstance(row, str):
                yield from _of_text(row, role)
            elif not _is_tool_definition(row):
                yield from _messages(row, role, depth - 1)


def _of_text(text: str, role: str) -> Iterable[Message]:
    shown = _fields_of_repr(text) if _REPR.match(text) else {}
    if "role" in shown:
        yield from _of_message(shown, role)
    else:
        yield {"role": role, "content": text}


def _fields_of_repr(text: str) -> dict[str, Any]:
    """Return the first fields of a Python object that was logged as `role='user' content='…'`.

    A piece that is no literal yet is one whose text holds ` word=` itself; the next piece ends it.
    """
    fields: dict[str, Any] = {}
    pending = ""
    for piece in re.split(r" (?=\w+=)", text)[:_MAX_REPR_FIELDS]:
        pending = f"{pending} {piece}" if pending else piece
        name, _, literal = pending.partition("=")
        try:
            value = ast.literal_eval(literal)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if name in _REPR_FIELDS and value is not None:
            fields[name] = value
        pending = ""
    return fields


def _of_object(value: Mapping[str, Any], role: str, depth: int) -> Iterable[Message]:
    """Unwrap what holds messages; an object that holds none is a message or a plain value."""
    value = as_shared_message(value)
    if isinstance(value.get("kwargs"), Mapping) and "messages" not in value:
        yield from _messages({**_class_of(value), **value["kwargs"]}, role, depth - 1)
    elif isinstance(value.get("choices"), list):
        for choice in value["choices"]:
            yield from _of_choice(choice, depth)
    elif isinstance(value.get("candidates"), list):
        for candidate in value["candidates"]:
            content = candidate.get("content") if isinstance(candidate, Mapping) else None
            yield from _messages(content, "assistant", depth - 1)
    elif isinstance(value.get("generations"), list):
        for generation in _flat(value["generations"]):
            yield from _of_choice(generation, depth)
    elif isinstance(value.get("contents"), list | str) and "role" not in value:
        yield from _system_of(value)
        yield from _messages(value["contents"], "user", depth - 1)
    elif rows := next((value[n] for n in _LISTS if _is_list_of_messages(value.get(n))), None):
        yield from _system_of(value)
        yield from _messages(rows, role, depth - 1)
        if value.get("chat_history") is rows:
            yield from _messages(value.get("message"), role, depth - 1)
    elif _is_message(value):
        yield from _of_message(value, role)
    else:
        yield from _of_wrapper(value, role, depth)


_LISTS = ("messages", "items", "chat_history")


def _is_list_of_messages(rows: Any) -> bool:
    return isinstance(rows, list) and all(isinstance(row, Mapping | list | str) for row in rows)


def _of_choice(choice: Any, depth: int) -> Iterable[Message]:
    if not isinstance(choice, Mapping):
        return
    inner = next((choice[name] for name in ("message", "delta", "text") if choice.get(name)), None)
    yield from _messages(inner, "assistant", depth - 1)


def _of_wrapper(value: Mapping[str, Any], role: str, depth: int) -> Iterable[Message]:
    said = {"role": "assistant"} if role == "assistant" else {}
    for name in ("message", "new_message", "newMessage", "gen_ai.event.content"):
        if isinstance(value.get(name), Mapping | list | str) and value[name]:
            yield from _messages(value[name], role, depth - 1)
            return
    if isinstance(value.get("output"), list | Mapping) and role == "assistant":
        yield from _messages(value["output"], role, depth - 1)
    elif value.get("prompt") or isinstance(value.get("input"), list | str):
        yield from _system_of(value)
        yield from _messages(value.get("prompt") or value["input"], role, depth - 1)
    elif texts := [value[name] for name in _TEXT_FIELDS if isinstance(value.get(name), str)]:
        calls = _calls(value.get("toolCalls") or value.get("tool_calls"))
        yield {"role": role, "content": texts[0], **({"tool_calls": calls} if calls else {})}
    elif calls := _calls(value.get("toolCalls") or value.get("tool_calls")):
        yield {**said, "role": "assistant", "content": None, "tool_calls": calls}
    elif value:
        yield {"role": role, "content": json_text(value)}


_TEXT_FIELDS = ("text", "completion", "response", "output_text", "generated_text", "answer")


_SYSTEM_FIELDS = (
    "system",
    "system_instruction",
    "system_instructions",
    "systemInstruction",
    "instructions",
)


def _system_of(value: Mapping[str, Any]) -> Iterable[Message]:
    """Yield the system prompt that Anthropic, Gemini, Vercel and Responses keep beside messages."""
    config = value.get("config") if isinstance(value.get("config"), Mapping) else {}
    for place in (value, config):
        for name in _SYSTEM_FIELDS:
            if isinstance(place, Mapping) and place.get(name):
                text = _text_of_parts(place[name])
                if text:
                    yield {"role": "system", "content": text}
                return


def _of_message(row: Mapping[str, Any], role: str) -> Iterable[Message]:
    kind = str(row.get("type") or "").lower()
    named = row.get("role") or row.get("author") if "role" in row else row.get("type")
    if kind in _CALL_TYPES | _RESULT_TYPES | _THINKING_TYPES and "role" not in row:
        yield from _with_parts({"role": "assistant"}, [row])
        return
    message: Message = {"role": _role(named, role)}
    if isinstance(row.get("name"), str) and row["name"]:
        message["name"] = row["name"]
    extra = row.get("additional_kwargs")
    calls = _calls(
        row.get("tool_calls")
        or row.get("toolCalls")
        or (extra.get("tool_calls") if isinstance(extra, Mapping) else None)
    )
    if calls:
        message["tool_calls"] = calls
    elif call := _call(row.get("function_call")):
        message["tool_calls"] = [call]
    if thought := next((row[name] for name in _THOUGHT_FIELDS if row.get(name)), None):
        message["reasoning_content"] = _thought_text(thought)
    if isinstance(row.get("refusal"), str):
        message["refusal"] = row["refusal"]
    if message["role"] == "tool" and (identifier := _call_id(row)):
        message["tool_call_id"] = identifier
    yield from _with_content(message, row)


_THOUGHT_FIELDS = ("reasoning_content", "thinking_blocks", "reasoning", "thinking", "thought")


def _thought_text(value: Any) -> str:
    blocks = value if isinstance(value, list) else []
    thoughts = [thought for block in blocks if (thought := _thought_of_part(block))]
    return "\n".join(thoughts) if thoughts else _text_of_parts(value)


def _with_content(message: Message, row: Mapping[str, Any]) -> Iterable[Message]:
    content = row["parts"] if isinstance(row.get("parts"), list) else row.get("content")
    if content is None and "gen_ai.event.content" in row:
        yield from messages_of(row["gen_ai.event.content"], message["role"])
        return
    if content is None and isinstance(row.get("text"), str | list):
        content = row["text"]
    if content is None and isinstance(row.get("audio"), Mapping):
        content = row["audio"].get("transcript")
    if isinstance(content, Mapping) and isinstance(content.get("parts"), list):
        inner = _role(content.get("role"), message["role"])
        yield from _with_parts({**message, "role": inner}, content["parts"])
    elif isinstance(content, list):
        yield from _with_parts(message, content)
    elif content is None:
        yield {**message, "content": None if message.get("tool_calls") else ""}
    else:
        yield {**message, "content": json_text(content)}


def _with_parts(message: Message, parts: list[Any]) -> Iterable[Message]:
    """Yield a message with its parts sorted out, and its tool results as messages of their own."""
    kept, calls, results, thoughts = [], list(message.get("tool_calls") or []), [], []
    for part in [as_shared_part(p) if isinstance(p, Mapping) else p for p in parts]:
        if (result := _result_of_part(part)) is not None:
            results.append(result)
        elif (call := _call_of_part(part)) is not None:
            calls.append(call)
        elif (thought := _thought_of_part(part)) is not None:
            thoughts.append(thought)
        elif (content := _content_part(part)) is not None:
            kept.append(content)
    if message["role"] == "tool" and not results:
        yield {**message, "content": _joined(kept, parts)}
        return
    yield from results
    if kept or calls or thoughts or not results:
        role = "user" if message["role"] == "tool" else message["role"]
        said: Message = {**message, "role": "assistant" if calls else role}
        said["content"] = _joined(kept, parts) if kept else (None if calls else "")
        if calls:
            said["tool_calls"] = calls
        if text := "\n".join(thought for thought in thoughts if thought):
            said["reasoning_content"] = text
        yield said


def _joined(kept: list[dict[str, Any]], parts: list[Any]) -> Any:
    """Return OpenAI parts as they were sent; texts of other shapes joined into one text."""
    all_text = all(part["type"] == "text" for part in kept)
    if all_text and (len(kept) != len(parts) or kept != parts):
        return "".join(part["text"] for part in kept)
    return kept


def _content_part(part: Any) -> dict[str, Any] | None:
    """Return a text, image, sound or file part in OpenAI's shape; None for an empty part."""
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if not isinstance(part, Mapping):
        return None
    kind = _kind(part)
    if kind in _TEXT_TYPES or (not kind and "text" in part):
        text = part.get("text", part.get("content"))
        if kind == "text" and isinstance(text, str) and "content" not in part:
            return dict(part)
        return None if text is None else {"type": "text", "text": json_text(text)}
    if kind == "refusal":
        return {"type": "text", "text": json_text(part.get("refusal"))}
    return _image_part(part) or {**part, "type": kind or "other"}


def _image_part(part: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return Anthropic's, Gemini's, Responses' and Vercel's images as OpenAI's `image_url`."""
    source = part.get("source")
    blob = part.get("inline_data") or part.get("inlineData")
    if isinstance(source, Mapping) and part.get("type") == "image":
        url = source.get("url") or _data_url(source.get("media_type"), source.get("data"))
    elif isinstance(blob, Mapping):
        url = _data_url(blob.get("mime_type") or blob.get("mimeType"), blob.get("data"))
    elif part.get("type") == "input_image" or isinstance(part.get("image"), str):
        url = part.get("image_url") or part.get("image")
    else:
        return None
    return {"type": "image_url", "image_url": {"url": str(url)}}


def _data_url(media_type: Any, data: Any) -> str:
    return f"data:{media_type or 'application/octet-stream'};base64,{data or ''}"


def _thought_of_part(part: Any) -> str | None:
    if not isinstance(part, Mapping):
        return None
    if _kind(part) in _THINKING_TYPES:
        names = ("thinking", "content", "text", "reasoning", "summary")
        return next((_text_of_parts(part[name]) for name in names if part.get(name)), "")
    return json_text(part.get("text") or "") if part.get("thought") is True else None


def _call_of_part(part: Any) -> dict[str, Any] | None:
    if not isinstance(part, Mapping):
        return None
    inner = part.get("function_call") or part.get("functionCall")
    if isinstance(inner, Mapping) and "type" not in part:
        return _call(inner)
    if _kind(part) in _CALL_TYPES or {"toolCallId", "toolName"} <= part.keys():
        return None if "result" in part else _call(part)
    return None


def _calls(value: Any) -> list[dict[str, Any]]:
    value = decoded(value)
    rows = value if isinstance(value, list) else []
    return [call for row in rows if (call := _call(row)) is not None]


def _call(row: Any) -> dict[str, Any] | None:
    """Return a tool call in OpenAI's shape, from any of its shapes; None if it names no tool."""
    row = decoded(row)
    if not isinstance(row, Mapping):
        return None
    row = unflattened(row)
    row = row["tool_call"] if isinstance(row.get("tool_call"), Mapping) else row
    inner = row["function"] if isinstance(row.get("function"), Mapping) else row
    name = inner.get("name") or inner.get("toolName") or inner.get("tool_name")
    name = name or (row["function"] if isinstance(row.get("function"), str) else None)
    if not isinstance(name, str):
        return None
    fields = ("arguments", "args", "input", "parameters")
    given: Any = next((inner[field] for field in fields if inner.get(field) is not None), {})
    function = {"name": name, "arguments": json_text(given)}
    return {"id": _call_id(row) or "", "type": "function", "function": function}


def _call_id(row: Mapping[str, Any]) -> str | None:
    names = ("tool_call_id", "toolCallId", "call_id", "tool_use_id", "tool_call_ids", "id")
    value = next((row[name] for name in names if row.get(name)), None)
    if isinstance(value, list):
        texts = [item for item in value if isinstance(item, str)]
        value = next(
            (text for text in texts if text.startswith("call_")), texts[-1] if texts else None
        )
    return value if isinstance(value, str) else None


def _result_of_part(part: Any) -> Message | None:
    if not isinstance(part, Mapping):
        return None
    if part.get("type") == "system":
        return {"role": "system", "content": _text_of_parts(part.get("content"))}
    inner = part.get("function_response") or part.get("functionResponse")
    if isinstance(inner, Mapping):
        return _result(inner, inner.get("response"))
    if _kind(part) in _RESULT_TYPES or ({"toolCallId", "result"} <= part.keys()):
        names = ("result", "response", "output", "content")
        return _result(part, next((part[name] for name in names if part.get(name) is not None), ""))
    return None


def _result(row: Mapping[str, Any], value: Any) -> Message:
    if isinstance(value, Mapping) and _kind(value) in ("text", "json") and "value" in value:
        value = value["value"]
    content = _text_of_parts(value) if _is_texts(value) else json_text(value)
    return {"role": "tool", "tool_call_id": _call_id(row) or "", "content": content}


def _text_of_parts(value: Any) -> str:
    if isinstance(value, Mapping):
        inner = value.get("text", value.get("content", value.get("parts")))
        return json_text(value) if inner is None else _text_of_parts(inner)
    if isinstance(value, list):
        return "".join(_text_of_parts(item) for item in value)
    return json_text(value)


def _tools(value: Any, depth: int) -> Iterable[dict[str, Any]]:
    value = decoded(value)
    if depth == 0:
        return
    if isinstance(value, list):
        for item in value:
            yield from _tools(item, depth - 1)
    elif isinstance(value, Mapping):
        nested = value.get("function_declarations") or value.get("functionDeclarations")
        if isinstance(nested, list):
            yield from _tools(nested, depth - 1)
        elif (tool := _tool(value)) is not None:
            yield tool
        else:
            for name, item in value.items():
                item = decoded(item)
                if isinstance(item, Mapping) and "name" not in item:
                    yield from _tools({"name": name, **item}, 1)


def _tool(value: Mapping[str, Any]) -> dict[str, Any] | None:
    inner = value.get("function")
    if isinstance(inner, Mapping) and isinstance(inner.get("name"), str):
        return {"type": "function", "function": dict(inner)}
    if not isinstance(value.get("name"), str):
        return None
    function = {"name": value["name"]}
    if value.get("description") is not None:
        function["description"] = value["description"]
    names = ("parameters", "input_schema", "inputSchema", "parameters_json_schema", "schema")
    schema = next((value[name] for name in names if value.get(name) is not None), None)
    if schema is not None:
        function["parameters"] = decoded(schema)
    return {"type": "function", "function": function}


def _is_tool_definition(row: Any) -> bool:
    content = row.get("content") if isinstance(row, Mapping) else None
    return (
        isinstance(content, Mapping)
        and row.get("role") == "tool"
        and content.get("type") == "function"
        and isinstance(content.get("function"), Mapping)
        and not row.get("tool_call_id")
    )


def _is_message(value: Mapping[str, Any]) -> bool:
    kind = str(value.get("type") or value.get("class") or "").lower()
    body = value.keys() & {"content", "parts", "tool_calls", "toolCalls", "text"}
    return (
        isinstance(value.get("role"), str)
        or kind in _CALL_TYPES | _RESULT_TYPES
        or (kind in _THINKING_TYPES)
        or (bool(body) and (kind in _ROLES or kind in _KNOWN_ROLES))
        or (isinstance(value.get("content"), Mapping | list) or "parts" in value)
        or ("content" in value and not value.keys() & {"messages", "prompt"})
    )


def _is_part(row: Any) -> bool:
    """Tell a part of one message from a message: parts have a type or a call, and no role."""
    if not isinstance(row, Mapping) or "role" in row:
        return False
    kind = _kind(row)
    return (
        (kind in _TEXT_TYPES | {"image", "image_url", "tool_use", "tool-call", "thinking"})
        or {"toolCallId", "toolName"} <= row.keys()
        or is_bedrock_part(row)
        or bool(row.keys() & {"functionCall", "function_call", "functionResponse"})
        and not kind
    )


def _kind(part: Mapping[str, Any]) -> str:
    """Return a part's type; empty if it names none."""
    return part["type"] if isinstance(part.get("type"), str) else ""


def _is_tagged_text(rows: list[Any]) -> bool:
    return (
        len(rows) == 2
        and all(isinstance(row, str) for row in rows)
        and (rows[0].lower() in _ROLES or rows[0] in _KNOWN_ROLES)
    )


def _is_texts(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(item, Mapping) and item.get("type", "text") == "text" for item in value)
        and all(isinstance(item.get("text"), str) for item in value)
    )


def _class_of(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return the message type that a serialised LangChain object names in its `id`."""
    path = value.get("id")
    name = path[-1] if isinstance(path, list) and path else None
    return {"type": name} if isinstance(name, str) else {}


def _flat(rows: list[Any]) -> Iterable[Any]:
    for row in rows:
        yield from row if isinstance(row, list) else [row]


def _role(value: Any, default: str) -> str:
    if not isinstance(value, str) or not value:
        return default
    word = value.rpartition(".")[2].lower()
    word = _ROLES.get(word, word)
    return word if word in _KNOWN_ROLES else default
