"""Put the chunks of a streamed completion together, for the record of a stream."""

from collections.abc import Iterable, Mapping
from typing import Any

Json = dict[str, Any]

_ABOUT_ALL = ("id", "created", "model", "system_fingerprint", "service_tier", "usage")
_NEVER_JOINED = frozenset({"role", "id", "type", "index", "name"})
"""Text that some servers repeat in each chunk, where others say it once."""


def assemble(chunks: Iterable[Mapping[str, Any]]) -> Json | None:
    """Return the completion, of chat or text, that the chunks spell; None if there are none.

    Text, reasoning and the arguments of tool calls are joined in order, byte for byte; id, model
    and usage are taken where they appear. A choice whose stream was cut has no `finish_reason`.
    """
    answer: Json = {"object": "chat.completion", "choices": []}
    choices: dict[int, Json] = {}
    some = False
    for chunk in chunks:
        some = True
        for name in _ABOUT_ALL:
            if chunk.get(name):
                answer[name] = chunk[name]
        if chunk.get("object") == "text_completion":
            answer["object"] = "text_completion"
        for part in chunk.get("choices") or []:
            _add_part(choices, part)
    if not some:
        return None
    answer["choices"] = [_finished(choices[index]) for index in sorted(choices)]
    return answer


def _add_part(choices: dict[int, Json], part: Mapping[str, Any]) -> None:
    index = int(part.get("index") or 0)
    choice = choices.get(index)
    if choice is None:
        said: Json = {"role": "assistant", "content": None}
        start: Json = {"text": ""} if "text" in part else {"message": said}
        choice = choices[index] = {"index": index, **start, "finish_reason": None}
    if part.get("text") and "text" in choice:
        choice["text"] += part["text"]
    if part.get("delta") and "message" in choice:
        _add_delta(choice["message"], part["delta"])
    if part.get("logprobs"):
        _merge(choice.setdefault("logprobs", {}), part["logprobs"])
    choice["finish_reason"] = part.get("finish_reason") or choice["finish_reason"]


def _add_delta(message: Json, delta: Mapping[str, Any]) -> None:
    for name, value in delta.items():
        if name == "tool_calls":
            for call in value or []:
                _add_call(message.setdefault("tool_calls", {}), call)
        elif value:
            _merge(message, {name: value})


def _add_call(calls: dict[Any, Json], part: Mapping[str, Any]) -> None:
    """Take a part of a tool call; a server that gives no index sends calls whole."""
    key = part.get("index")
    if key is None:
        key = len(calls) if part.get("id") else max(len(calls) - 1, 0)
    call = calls.get(key)
    if call is None:
        call = calls[key] = {"id": None, "type": "function"}
        if "custom" not in part:
            call["function"] = {"name": "", "arguments": ""}
    call["id"] = part.get("id") or call["id"]
    call["type"] = part.get("type") or call["type"]
    function = part.get("function") or {}
    if "function" in call:
        call["function"]["name"] += function.get("name") or ""
        call["function"]["arguments"] += function.get("arguments") or ""
    if part.get("custom"):
        _merge(call.setdefault("custom", {}), part["custom"])


def _merge(whole: Json, part: Mapping[str, Any]) -> None:
    """Grow `whole` by a delta: text and lists are joined, objects merged, the rest replaced."""
    for name, value in part.items():
        present = whole.get(name)
        if isinstance(value, str) and isinstance(present, str) and name not in _NEVER_JOINED:
            whole[name] = present + value
        elif isinstance(value, list) and isinstance(present, list):
            whole[name] = present + value
        elif isinstance(value, Mapping):
            inner = dict(present) if isinstance(present, Mapping) else {}
            _merge(inner, value)
            whole[name] = inner
        elif value is not None:
            whole[name] = value


def _finished(choice: Json) -> Json:
    calls = (choice.get("message") or {}).get("tool_calls")
    if calls:
        choice["message"]["tool_calls"] = [calls[index] for index in sorted(calls)]
    return choice
