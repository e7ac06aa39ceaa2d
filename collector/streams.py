"""Put the chunks of a streamed chat completion together, for the record of a stream."""

from collections.abc import Iterable, Mapping
from typing import Any


def assemble(chunks: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the chat completion that the chunks spell, or None if there are none.

    Text, reasoning and the arguments of tool calls are joined in order; id, model and usage are
    taken where they appear. A choice whose stream was cut has no `finish_reason`.
    """
    answer: dict[str, Any] = {"object": "chat.completion", "choices": []}
    choices: dict[int, dict[str, Any]] = {}
    some = False
    for chunk in chunks:
        some = True
        for name in ("id", "created", "model", "system_fingerprint", "usage"):
            if chunk.get(name):
                answer[name] = chunk[name]
        for part in chunk.get("choices") or []:
            _add_part(choices, part)
    if not some:
        return None
    answer["choices"] = [_finished(choices[index]) for index in sorted(choices)]
    return answer


def _add_part(choices: dict[int, dict[str, Any]], part: Mapping[str, Any]) -> None:
    index = int(part.get("index") or 0)
    choice = choices.setdefault(
        index,
        {"index": index, "message": {"role": "assistant", "content": None}, "finish_reason": None},
    )
    message = choice["message"]
    delta = part.get("delta") or {}
    for name in ("content", "reasoning_content", "refusal"):
        if delta.get(name):
            message[name] = (message.get(name) or "") + delta[name]
    if delta.get("role"):
        message["role"] = delta["role"]
    for call in delta.get("tool_calls") or []:
        _add_call(message.setdefault("tool_calls", {}), call)
    choice["finish_reason"] = part.get("finish_reason") or choice["finish_reason"]


def _add_call(calls: dict[int, dict[str, Any]], part: Mapping[str, Any]) -> None:
    call = calls.setdefault(
        int(part.get("index") or 0),
        {"id": None, "type": "function", "function": {"name": "", "arguments": ""}},
    )
    call["id"] = part.get("id") or call["id"]
    function = part.get("function") or {}
    call["function"]["name"] += function.get("name") or ""
    call["function"]["arguments"] += function.get("arguments") or ""


def _finished(choice: dict[str, Any]) -> dict[str, Any]:
    calls = choice["message"].get("tool_calls")
    if calls:
        choice["message"]["tool_calls"] = [calls[index] for index in sorted(calls)]
    return choice
