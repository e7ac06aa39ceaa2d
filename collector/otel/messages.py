"""Messages as OpenTelemetry instrumentations write them, turned into OpenAI's chat shape and back.

Instrumentations agree neither on where content is nor on its shape. What a message's parts are
called differs too, so every part is read by its `type`, whoever wrote it; a part of an unknown type
is kept as it came. Nothing here raises: content that cannot be read is kept as text.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from foundation.chat import Message

FINISH_REASONS = {
    "tool_call": "tool_calls",
    "tool-calls": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "content-filter": "content_filter",
    "safety": "content_filter",
}
"""What providers and conventions call the reasons that OpenAI calls `tool_calls`, `stop`, …"""

_ROLES = {"model": "assistant", "human": "user", "ai": "assistant", "function": "tool"}


def finish_reason(reason: Any) -> str | None:
    """Return OpenAI's word for a finish reason, or None for none."""
    if not isinstance(reason, str) or not reason:
        return None
    return FINISH_REASONS.get(reason.lower(), reason.lower())


def decoded(value: Any) -> Any:
    """Return the JSON inside a text that holds an object or array, else `value` itself.

    Span attributes are plain values, so instrumentations write structures as JSON text, some of
    them twice.
    """
    inner = value
    for _ in range(_MOST_WRAPPINGS):
        if not isinstance(inner, str) or inner.lstrip()[:1] not in ("{", "[", '"'):
            break
        try:
            inner = json.loads(inner)
        except (ValueError, RecursionError):
            return value
    return inner if isinstance(inner, dict | list) else value


_MOST_WRAPPINGS = 3


def as_json(value: Any) -> str:
    """Return a text as it is and anything else as JSON text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


# Reading: any message to OpenAI's


def chat_messages(raw: Any, role: str = "user") -> list[Message]:
    """Return content in any known shape as OpenAI chat messages; empty if there is none.

    Args:
        raw: messages, one message, or a text; structures may be JSON text.
        role: who speaks where a message does not say it.
    """
    value = decoded(raw)
    if isinstance(value, Mapping):
        if isinstance(value.get("messages"), list):
            system = [{"role": "system", "content": value["system"]}] if "system" in value else []
            return chat_messages([*system, *value["messages"]], role)
        return _messages_of(value, role)
    if isinstance(value, list):
        if value and all(_is_part(item) for item in value):
            return _messages_of({"role": role, "parts": value}, role)
        return [message for item in value for message in chat_messages(item, role)]
    return [{"role": role, "content": str(value)}] if value not in (None, "") else []


def choices_of(raw: Any, reasons: Sequence[str | None]) -> list[dict[str, Any]]:
    """Return answers in any known shape as the choices of a chat completion.

    Args:
        raw: as for `chat_messages`; each message is one choice.
        reasons: why each choice ended, for those that do not say it.
    """
    value = decoded(raw)
    whole = not isinstance(value, list) or all(_is_part(item) for item in value)
    choices: list[dict[str, Any]] = []
    for item in [value] if whole else value:
        index = len(choices)
        said = item.get("finish_reason") if isinstance(item, Mapping) else None
        reason = finish_reason(said) or (reasons[index] if index < len(reasons) else None)
        for message in chat_messages(item, "assistant")[-1:]:
            choices.append({"index": index, "message": message, "finish_reason": reason})
    return choices


def _is_part(item: Any) -> bool:
    return isinstance(item, Mapping) and "role" not in item and "type" in item


def _messages_of(raw: Mapping[str, Any], role: str) -> list[Message]:
    """Return one message, and before it a tool message per tool result among its parts."""
    inner = raw.get("message")
    if isinstance(inner, Mapping):  # a choice, or OpenInference's nesting
        raw = inner
    said = str(raw.get("role") or role).lower()
    content = _first(raw, "parts", "contents", "content")
    content = inner if isinstance(inner, str) else content
    message = _Reading(_ROLES.get(said, said), raw)
    unwrapped = decoded(content) if _holds_parts(content) else content
    for part in unwrapped if isinstance(unwrapped, list) else [unwrapped]:
        message.add(part)
    for call in _as_list(raw.get("tool_calls")):
        message.add_call(call)
    return message.finished()


def _holds_parts(content: Any) -> bool:
    """Whether a content text is in truth a JSON list of typed parts."""
    if not isinstance(content, str):
        return True
    return content.lstrip().startswith("[") and _all_parts(decoded(content))


def _all_parts(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(item, Mapping) and _kind_of(item) in _PARTS for item in value)
    )


def _kind_of(part: Mapping[str, Any]) -> str:
    """Return a part's type; Amazon's parts have one key, which is it."""
    return str(part.get("type") or next((key for key in _BY_KEY if key in part), ""))


class _Reading:
    """One message being put together from its parts."""

    def __init__(self, role: str, raw: Mapping[str, Any]) -> None:
        self.role, self.raw = role, raw
        self.content: list[dict[str, Any]] = []
        self.reasoning: list[str] = []
        self.calls: list[dict[str, Any]] = []
        self.results: list[Message] = []

    def add(self, part: Any) -> None:
        if part is None:
            return
        if not isinstance(part, Mapping):
            self.add_text(as_json(part))
            return
        inner = part.get("message_content")
        part = inner if isinstance(inner, Mapping) else part
        read = _PARTS.get(_kind_of(part))
        if read is not None:
            read(self, part)
        elif "type" in part:
            self.content.append(dict(part))
        else:
            self.add_text(as_json(part))

    def add_text(self, text: Any) -> None:
        if text not in (None, ""):
            self.content.append({"type": "text", "text": as_json(text)})

    def add_call(self, call: Any) -> None:
        if not isinstance(call, Mapping):
            return
        inner = call.get("tool_call")
        call = inner if isinstance(inner, Mapping) else call
        function = call.get("function")
        function = function if isinstance(function, Mapping) else {}
        name = _first(function, "name") or _first(call, "name", "toolName")
        arguments = _first(function, "arguments")
        if arguments is None:
            arguments = _first(call, "arguments", "args", "input")
        self.calls.append(
            {
                "id": _first(call, "id", "toolCallId", "call_id"),
                "type": "function",
                "function": {
                    "name": str(name or ""),
                    "arguments": "{}" if arguments is None else as_json(arguments),
                },
            }
        )

    def add_result(self, part: Mapping[str, Any]) -> None:
        result = _first(part, "response", "result", "output", "content")
        if isinstance(result, Mapping) and set(result) == {"type", "value"}:  # AI SDK 5
            result = result["value"]
        message: Message = {"role": "tool", "content": as_json("" if result is None else result)}
        call = _first(part, "id", "toolCallId", "tool_call_id", "call_id", "tool_use_id")
        if call is not None:
            message["tool_call_id"] = str(call)
        self.results.append(message)

    def finished(self) -> list[Message]:
        if self.role == "tool" and self.calls:  # who asks for a tool is no tool
            self.role = "assistant"
        message: Message = {"role": self.role, "content": self._content()}
        if self.role == "tool":
            call = _first(self.raw, "tool_call_id", "id")
            if call is not None:
                message["tool_call_id"] = str(call)
        if self.raw.get("name"):
            message["name"] = str(self.raw["name"])
        reasoning = [*self.reasoning, *_texts(self.raw.get("reasoning_content"))]
        if reasoning:
            message["reasoning_content"] = "\n".join(reasoning)
        if self.raw.get("refusal"):
            message["refusal"] = self.raw["refusal"]
        if self.calls:
            message["tool_calls"] = self.calls
        says = self.content or self.calls or reasoning or not self.results
        return [*self.results, *([message] if says else [])]

    def _content(self) -> Any:
        """Return no part as None (an assistant's) or "", one text as text, others as a list."""
        if not self.content:
            return None if self.role == "assistant" else ""
        if len(self.content) == 1 and self.content[0]["type"] == "text":
            return self.content[0]["text"]
        return self.content


def _first(values: Mapping[str, Any], *names: str) -> Any:
    return next((values[name] for name in names if values.get(name) is not None), None)


def _texts(value: Any) -> list[str]:
    return [value] if isinstance(value, str) and value else []


def _as_list(value: Any) -> list[Any]:
    found = decoded(value)
    return found if isinstance(found, list) else []


def _read_text(message: _Reading, part: Mapping[str, Any]) -> None:
    message.add_text(_first(part, "content", "text"))


def _read_reasoning(message: _Reading, part: Mapping[str, Any]) -> None:
    text = _first(part, "content", "text", "thinking")
    if text:
        message.reasoning.append(as_json(text))


def _read_blob(message: _Reading, part: Mapping[str, Any]) -> None:
    """Read base64 content: an image, a sound or a file."""
    data = str(_first(part, "content", "data", "image") or "")
    media_type = str(_first(part, "mime_type", "mediaType", "mimeType") or "")
    kind = part.get("modality") or part["type"]
    kind = media_type.partition("/")[0] if kind in ("blob", "file") and media_type else kind
    url = data if re.match(r"(data|https?):", data) else f"data:{media_type};base64,{data}"
    if kind == "image":
        message.content.append({"type": "image_url", "image_url": {"url": url}})
    elif kind == "audio":
        sound = {"data": data, "format": media_type.partition("/")[2] or "wav"}
        message.content.append({"type": "input_audio", "input_audio": sound})
    else:
        message.content.append({"type": "file", "file": {"file_data": url}})


def _read_image(message: _Reading, part: Mapping[str, Any]) -> None:
    """Read an image that OpenInference nests, or one that the AI SDK writes as data or URL."""
    inner = decoded(part.get("image"))
    while isinstance(inner, Mapping):
        inner = _first(inner, "image", "url", "data")
    _read_blob(message, {**part, "content": inner, "mime_type": _first(part, *_MEDIA_TYPES)})


_MEDIA_TYPES = ("mime_type", "mediaType", "mimeType")


def _read_uri(message: _Reading, part: Mapping[str, Any]) -> None:
    uri = str(part.get("uri") or "")
    if part.get("modality") == "image":
        message.content.append({"type": "image_url", "image_url": {"url": uri}})
    else:
        message.content.append({"type": "file", "file": {"file_data": uri}})


def _read_file(message: _Reading, part: Mapping[str, Any]) -> None:
    if part.get("file_id"):
        message.content.append({"type": "file", "file": {"file_id": part["file_id"]}})
    elif isinstance(part.get("file"), Mapping):
        message.content.append(dict(part))
    else:
        _read_blob(message, part)


def _read_keyed_call(message: _Reading, part: Mapping[str, Any]) -> None:
    call = part["toolUse"] if isinstance(part["toolUse"], Mapping) else {}
    message.add_call({**call, "id": call.get("toolUseId")})


def _read_keyed_result(message: _Reading, part: Mapping[str, Any]) -> None:
    result = part["toolResult"] if isinstance(part["toolResult"], Mapping) else {}
    message.add_result({"id": result.get("toolUseId"), "response": result.get("content")})


_BY_KEY = ("text", "toolUse", "toolResult")

_PARTS: dict[str, Callable[[_Reading, Mapping[str, Any]], None]] = {
    "text": _read_text,
    "output_text": _read_text,
    "input_text": _read_text,
    "reasoning": _read_reasoning,
    "thinking": _read_reasoning,
    "blob": _read_blob,
    "file": _read_file,
    "uri": _read_uri,
    "image": _read_image,
    "tool_call": _Reading.add_call,
    "tool-call": _Reading.add_call,
    "tool_use": _Reading.add_call,
    "function": _Reading.add_call,
    "tool_call_response": _Reading.add_result,
    "tool-result": _Reading.add_result,
    "tool_result": _Reading.add_result,
    "toolUse": _read_keyed_call,
    "toolResult": _read_keyed_result,
}
"""How a part is read, by its type: OpenTelemetry's, the AI SDK's, Anthropic's and OpenAI's."""


def nested(attributes: Mapping[str, Any], prefix: str) -> list[Any]:
    """Return numbered attributes (`prefix.0.role`, `prefix.0.tool_calls.1.name`) as nested values.

    Gaps in the numbers are closed; empty if no attribute starts with the prefix.
    """
    tree: dict[str, Any] = {}
    for name, value in attributes.items():
        path = name.removeprefix(prefix + ".").split(".")
        if name.startswith(prefix + ".") and path[0].isdecimal():
            _plant(tree, path, value)
    return _grown(tree) if tree else []


def _plant(tree: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for step in path[:-1]:
        below = tree.setdefault(step, {})
        if not isinstance(below, dict):
            return  # a value where a branch should be: the first one stays
        tree = below
    tree.setdefault(path[-1], value)


def _grown(tree: Any) -> Any:
    if not isinstance(tree, dict):
        return tree
    if tree and all(key.isdecimal() for key in tree):
        return [_grown(tree[key]) for key in sorted(tree, key=int)]
    return {key: _grown(value) for key, value in tree.items()}


def tool_definitions(raw: Any) -> list[dict[str, Any]]:
    """Return tools in any known shape as OpenAI's; empty if there are none."""
    value = decoded(raw)
    if isinstance(value, Mapping):
        value = [*_as_list(value.get("function_tools")), *_as_list(value.get("output_tools"))]
    tools = (decoded(item) for item in value) if isinstance(value, list) else ()
    return [_tool(tool) for tool in tools if isinstance(tool, Mapping)]


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    inner = tool.get("tool")
    if isinstance(inner, Mapping):  # OpenInference's nesting
        tool = decoded(inner.get("json_schema")) or {}
    if not isinstance(tool, Mapping) or isinstance(tool.get("function"), Mapping):
        return dict(tool) if isinstance(tool, Mapping) else {}
    function = {
        "name": str(tool.get("name") or ""),
        "description": tool.get("description"),
        "parameters": decoded(_first(tool, *_SCHEMAS)),
    }
    present = {name: value for name, value in function.items() if value is not None}
    return {"type": "function", "function": present}


_SCHEMAS = ("parameters", "inputSchema", "input_schema", "parameters_json_schema")


# Writing: OpenAI's messages to parts


def to_parts(message: Message) -> dict[str, Any]:
    """Return an OpenAI chat message in the parts that the conventions ask for."""
    role = str(message.get("role") or "user")
    if role == "tool":
        response = {
            "type": "tool_call_response",
            "id": message.get("tool_call_id"),
            "response": message.get("content"),
        }
        return {"role": role, "parts": [response]} | _named(message)
    parts: list[dict[str, Any]] = []
    if message.get("reasoning_content"):
        parts.append({"type": "reasoning", "content": message["reasoning_content"]})
    content = message.get("content")
    for part in content if isinstance(content, list) else [content]:
        parts += _written_part(part)
    for call in message.get("tool_calls") or []:
        function = call.get("function") or {}
        parts.append(
            {
                "type": "tool_call",
                "id": call.get("id"),
                "name": function.get("name"),
                "arguments": _unquoted(function.get("arguments")),
            }
        )
    return {"role": role, "parts": parts} | _named(message)


def _named(message: Message) -> dict[str, Any]:
    return {"name": message["name"]} if message.get("name") else {}


def _written_part(part: Any) -> Iterable[dict[str, Any]]:
    if part in (None, ""):
        return []
    if isinstance(part, str):
        return [{"type": "text", "content": part}]
    if not isinstance(part, Mapping):
        return [{"type": "text", "content": as_json(part)}]
    url = (part.get("image_url") or {}).get("url") if part.get("type") == "image_url" else None
    if part.get("type") == "text":
        return [{"type": "text", "content": part.get("text")}]
    if isinstance(url, str):
        data = re.match(r"data:([^;,]*);base64,(.*)", url, re.DOTALL)
        if data is None:
            return [{"type": "uri", "modality": "image", "uri": url}]
        blob = {"type": "blob", "modality": "image", "mime_type": data[1], "content": data[2]}
        return [blob]
    return [dict(part)]


def _unquoted(arguments: Any) -> Any:
    """Return arguments as the object that they spell, if reading it back spells them the same."""
    value = decoded(arguments)
    return value if isinstance(value, dict) and as_json(value) == arguments else arguments
