"""A recorded request and its response, of any provider's shape, as OpenAI's chat completions.

What is OpenAI-shaped already stays as it is; Anthropic, Responses and Gemini bodies, bare texts and
lists of messages are repacked, their text unchanged.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from collector.importers.chat_shapes import finish_reason_of, messages_of
from collector.importers.lines import Malformed, parsed
from collector.importers.messages import asked_with, openai_messages
from collector.importers.row import Row
from foundation.chat import Message, message, text_of

_REPACKED = ("messages", "input", "instructions", "system", "contents", "tools", "functions")


def request_of(raw: Any, where: str = "request") -> dict[str, Any]:
    """Return a request with OpenAI messages (or a completion's `prompt`) and tools.

    Raises:
        Malformed: it asks nothing.
    """
    value = parsed(raw)
    if isinstance(value, str) and value.strip():
        return {"messages": [message("user", value)]}
    if isinstance(value, list):
        return {"messages": [said for said, _ in openai_messages(value, where)]}
    if not isinstance(value, Mapping):
        raise Malformed(f"{where}: got {raw!r:.80}, expected a request, messages or a text")
    kept = {name: item for name, item in value.items() if name not in _REPACKED}
    asked = _asked(value, where)
    if not asked and not kept.get("prompt"):
        raise Malformed(
            f"{where}: has no messages, prompt or input, or empty ones: {_fields(value)}"
        )
    tools = asked_with(tools=value.get("tools") or value.get("functions"))
    return kept | ({"messages": asked} if asked else {}) | tools


def response_of(raw: Any, row: Row, number: int, model: Any = None) -> dict[str, Any] | None:
    """Return a response as a chat completion; None if nothing was answered.

    Raises:
        Malformed: it is of no shape that we know of.
    """
    value = parsed(raw)
    if not value:
        return None
    if isinstance(value, Mapping) and isinstance(value.get("choices"), list):
        return {**value, "choices": [_choice(c) for c in value["choices"]]}
    if isinstance(value, Mapping) and value.get("error") and len(value) == 1:
        return None
    answer = _answer(value)
    if answer is None:
        return None
    given = value if isinstance(value, Mapping) else {}
    own_model = given.get("model") if isinstance(given.get("model"), str) else model
    finish = given.get("finish_reason") or given.get("stop_reason")
    response = row.response(number, answer, own_model, finish_reason_of(finish))
    kept = {name: given[name] for name in ("id", "usage") if given.get(name)}
    return response | kept


def says_something(response: Mapping[str, Any] | None) -> bool:
    """Tell whether the first choice of a response holds words or calls."""
    choices = (response or {}).get("choices") or [{}]
    first = choices[0] if isinstance(choices[0], Mapping) else {}
    said = first.get("message") or {}
    return bool(text_of(first.get("text") or said.get("content")).strip() or said.get("tool_calls"))


def _asked(value: Mapping[str, Any], where: str) -> list[Message]:
    messages = parsed(value.get("messages"))
    if isinstance(messages, str) and messages.strip():
        return [message("user", messages)]
    if messages:
        said = [said for said, _ in openai_messages(messages, f"{where}.messages")]
        system = text_of(value.get("system"))
        return [message("system", system), *said] if system else said
    return messages_of(dict(value)) if value.get("input") or value.get("contents") else []


def _choice(choice: Any) -> Any:
    """Return a choice whose calls have their arguments as text, as OpenAI sends them."""
    if not isinstance(choice, Mapping) or not isinstance(choice.get("message"), Mapping):
        return choice
    said = {"role": "assistant", **choice["message"]}
    return {**choice, "message": openai_messages([said], "message")[0][0]}


def _answer(value: Any) -> Message | None:
    if isinstance(value, Mapping) and value.get("role") and "content" in value:
        found = [said for said, _ in openai_messages([dict(value)], "response")]
    else:
        found = messages_of(value, "assistant")
    said = [m for m in found if m["role"] == "assistant"]
    return one_answer(said) if said else None


def one_answer(said: Sequence[Message]) -> Message:
    """Return the messages of one turn (thoughts, words and calls as items) as one message."""
    calls = [call for m in said for call in m.get("tool_calls") or []]
    texts = [text_of(m.get("content")) for m in said]
    thoughts = [m["reasoning_content"] for m in said if m.get("reasoning_content")]
    content = said[0].get("content") if len(said) == 1 else "".join(texts)
    answer: Message = {"role": "assistant", "content": content or (None if calls else "")}
    answer |= {"tool_calls": calls} if calls else {}
    return answer | ({"reasoning_content": "\n".join(thoughts)} if thoughts else {})


def _fields(value: Mapping[str, Any]) -> str:
    return f"its fields are {', '.join(sorted(map(str, value))) or 'none'}"
