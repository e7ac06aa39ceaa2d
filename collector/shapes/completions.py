"""OpenAI's chunks of chat and text completions, put together."""

from collections.abc import Sequence
from typing import Any

from collector.shapes import Event, Json, Told
from collector.streams import assemble

_SPOKEN = ("content", "reasoning_content", "reasoning", "refusal", "tool_calls", "function_call")


def tell(events: Sequence[Event]) -> Told:
    """Put the chunks of a chat or text completion together."""
    error = next((event.data["error"] for event in events if event.data.get("error")), None)
    answer = assemble([event.data for event in events if not event.data.get("error")])
    choices = (answer or {}).get("choices") or []
    ended = bool(choices) and all(choice.get("finish_reason") for choice in choices)
    return Told(answer, ended, _as_object(error))


def speaks(chunk: Json) -> bool:
    """Return whether a chunk carries text, reasoning or a tool call."""
    return any(
        choice.get("text") or any((choice.get("delta") or {}).get(name) for name in _SPOKEN)
        for choice in chunk.get("choices") or []
    )


def _as_object(error: Any) -> Json | None:
    if error is None or isinstance(error, dict):
        return error
    return {"message": str(error)}
