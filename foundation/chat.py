"""The chat vocabulary: OpenAI-shaped messages, requests and responses as plain dictionaries.

The exact request and response are the source of truth for training, so these helpers read them and
never rewrite them.
"""

from collections.abc import Iterable
from typing import Any

Message = dict[str, Any]
"""`{"role": system|user|assistant|tool, "content": str | list of parts | None, …}`."""


def message(role: str, content: str) -> Message:
    """Return one plain text message."""
    return {"role": role, "content": content}


def text_of(content: Any) -> str:
    """Return the text of a message content: a string, a list of parts, or nothing."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(_text_of_part(part) for part in content)
    return str(content)


def _text_of_part(part: Any) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, dict):
        return str(part.get("text") or "")
    return ""


def prompt_messages(request: dict[str, Any]) -> list[Message]:
    """Return the messages of a chat request, or its `prompt`/`input` as one user message."""
    messages = request.get("messages")
    if isinstance(messages, list):
        return [m for m in messages if isinstance(m, dict)]
    prompt = request.get("prompt") or request.get("input")
    return [message("user", text_of(prompt))] if prompt else []


def answer_text(response: dict[str, Any] | None) -> str:
    """Return the text of the first choice of a chat or text completion; empty if there is none."""
    return _text_of_choice(_first_choice(response))


def answer_texts(response: dict[str, Any] | None) -> list[str]:
    """Return the texts of all choices, in the order given; empty if there are none."""
    return [_text_of_choice(choice) for choice in (response or {}).get("choices") or []]


def _text_of_choice(choice: dict[str, Any]) -> str:
    if "message" in choice:
        return text_of((choice["message"] or {}).get("content"))
    return text_of(choice.get("text"))


def tool_calls(response: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return the tool calls of the first choice; empty if there are none."""
    return list((_first_choice(response).get("message") or {}).get("tool_calls") or [])


def answer_message(response: dict[str, Any] | None) -> Message | None:
    """Return the message of the first choice as it came, tool calls included, or None."""
    found = _first_choice(response).get("message")
    return found if isinstance(found, dict) else None


def finish_reason(response: dict[str, Any] | None) -> str | None:
    """Return why the first choice ended (`stop`, `length`, `tool_calls`, …), or None."""
    reason = _first_choice(response).get("finish_reason")
    return str(reason) if reason else None


def completion(
    identifier: str,
    model: str,
    text: str,
    finish: str | None,
    input_tokens: int,
    output_tokens: int,
    created: int,
) -> dict[str, Any]:
    """Return an OpenAI chat completion with one text choice."""
    return {
        "id": identifier,
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [{"index": 0, "message": message("assistant", text), "finish_reason": finish}],
        "usage": {
            "prompt_tokens": input_tokens,
            "completion_tokens": output_tokens,
            "total_tokens": input_tokens + output_tokens,
        },
    }


def joined(messages: Iterable[Message], roles: tuple[str, ...] = ("user",)) -> str:
    """Return the texts of the messages of `roles`, one per line: what the task asked."""
    return "\n".join(text_of(m.get("content")) for m in messages if m.get("role") in roles)


def _first_choice(response: dict[str, Any] | None) -> dict[str, Any]:
    choices = (response or {}).get("choices") or [{}]
    first = choices[0]
    return first if isinstance(first, dict) else {}
