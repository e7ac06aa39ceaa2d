"""Which calls of openai's client are recorded: chat, responses, legacy completions, embeddings.

`create`, `parse`, `stream` and the raw variants of each send the same requests, so paths name them.
"""

from collections.abc import Sequence
from typing import Any

from collector.streams import assemble
from collector.wrappers import responses_shape
from collector.wrappers.operation import Event, Json, Operation, Told


def operations(embeddings: bool = False) -> list[Operation]:
    """Return what is recorded of openai's client; `embeddings` only if they are asked for."""
    recorded = [
        Operation("/chat/completions", "chat", _tell_chunks, _chunk_speaks),
        Operation("/completions", "text_completion", _tell_chunks, _chunk_speaks),
        Operation(
            "/responses",
            "chat",
            responses_shape.tell,
            responses_shape.speaks,
            api="openai.responses",
            chat_request=responses_shape.chat_request,
            chat_response=responses_shape.chat_response,
        ),
    ]
    if embeddings:
        recorded.append(Operation("/embeddings", "embeddings", _tell_chunks, _chunk_speaks))
    return recorded


def _tell_chunks(events: Sequence[Event]) -> Told:
    """Put the chunks of a chat or text completion together."""
    error = next((event.data["error"] for event in events if event.data.get("error")), None)
    answer = assemble([event.data for event in events if not event.data.get("error")])
    choices = (answer or {}).get("choices") or []
    ended = bool(choices) and all(choice.get("finish_reason") for choice in choices)
    return Told(answer, ended, _as_object(error))


def _chunk_speaks(chunk: Json) -> bool:
    return any(
        choice.get("text") or any((choice.get("delta") or {}).get(name) for name in _SPOKEN)
        for choice in chunk.get("choices") or []
    )


_SPOKEN = ("content", "reasoning_content", "reasoning", "refusal", "tool_calls", "function_call")


def _as_object(error: Any) -> Json | None:
    if error is None or isinstance(error, dict):
        return error
    return {"message": str(error)}
