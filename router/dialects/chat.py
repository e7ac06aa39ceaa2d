"""Chat completions: the dialect that every upstream speaks, so that nothing is to be translated.

https://platform.openai.com/docs/api-reference/chat
"""

import json
import re
from collections.abc import Sequence

from collector.shapes import Event, Json, Told, completions
from router.dialects.dialect import Asked, Dialect, LastEvent
from router.dialects.errors import openai_error

DONE = LastEvent(b"[DONE]", re.compile(rb"[\r\n]data: ?\[DONE\]"), len("\ndata: [DONE]"))
"""At the start of a line, where no JSON text can put it."""


class PassedOn:
    """The translator of a stream that needs none."""

    ended = False

    def __init__(self, asked: Asked, identifier: str) -> None:
        """Begin; what was asked and the id make no difference."""

    def feed(self, piece: bytes) -> bytes:
        """Return the piece."""
        return piece

    def end(self) -> bytes:
        """Return nothing more."""
        return b""

    def fail(self, message: str, code: str) -> bytes:
        """Return the error that ends the stream."""
        return error_event(message, code)


def error_event(message: str, code: str) -> bytes:
    """Return the event by which a stream of chunks ends with an error.

    A blank line goes before it: the event that was being said may have been cut in its middle.
    """
    return b"\n\n" + as_event(openai_error(message, "upstream_error", code, 500))


def as_event(values: Json, name: str | None = None) -> bytes:
    """Return one server-sent event.

    In ASCII: a server may have cut a character in two, and half of one has no UTF-8.
    """
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(values)}\n\n".encode()


def tell_chunks(events: Sequence[Event]) -> Told:
    """Put the chunks of a stream together; those of another shape are left out."""
    return completions.tell([event for event in events if has_choices(event.data, some=False)])


def has_choices(values: Json, *, some: bool = True) -> bool:
    """Return whether JSON values are a completion, or without `some` may be a part of one."""
    choices = values.get("choices")
    if choices is None:
        return not some
    return isinstance(choices, list) and all(isinstance(choice, dict) for choice in choices)


def _same(values: Json) -> Json:
    return values


def _same_answer(chat: Json, asked: Asked, identifier: str) -> Json:
    return chat


CHAT = Dialect(
    name="chat",
    path="/v1/chat/completions",
    operation="chat",
    last_event=DONE,
    is_answer=has_choices,
    tell=tell_chunks,
    chat_request=_same,
    chat_response=_same,
    as_chat=_same,
    answer=_same_answer,
    translator=PassedOn,
    error=openai_error,
    error_event=error_event,
)
