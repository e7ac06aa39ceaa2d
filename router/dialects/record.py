"""What is recorded of a call in whatever dialect: a chat, as everything downstream reads it.

Where the upstream was asked natively, its bytes are read in the caller's dialect; where it was
asked by a chat, in that of chats. The caller's own request and a native answer stay beside it,
exactly as they were, in the attribute `exact`.
"""

from typing import Any, NamedTuple

from collector.shapes import Json, sse
from router.dialects.chat import CHAT
from router.dialects.dialect import Asked


class Recorded(NamedTuple):
    """A call as a chat.

    Attributes:
        request: the chat request; the model is the one that the caller named.
        response: the chat completion as far as it came; None if nothing of it came.
        ended: whether the answer is complete.
        error: what the upstream said went wrong inside its stream.
        exact: `api`, `request` and the native `response`; None where the record is that already.
    """

    request: Json
    response: Json | None
    ended: bool
    error: Json | None
    exact: Json | None


def recorded(asked: Asked, body: bytes, *, is_stream: bool, is_native: bool) -> Recorded:
    """Return the record of a call from the bytes that its upstream answered.

    Args:
        asked: the caller's request.
        body: all of the answer that came; empty if none did.
        is_stream: whether it is a stream of events.
        is_native: whether the upstream was asked in the caller's dialect, not by a chat.
    """
    dialect = asked.dialect if is_native else CHAT
    if is_stream:
        told = dialect.tell(list(sse.events(body)))
        given, ended, error = told.answer, told.ended or sse.is_done(body), told.error
    else:
        given, error = dialect.read_answer(body), None
        ended = given is not None
    request = asked.dialect.chat_request(asked.values) if is_native else asked.chat
    exact: dict[str, Any] | None = None
    if asked.dialect.api is not None:
        exact = {"api": asked.dialect.api, "request": asked.values}
        exact |= {"response": given} if is_native else {}
    response = dialect.chat_response(given) if given is not None else None
    return Recorded(request, response, ended and error is None, error, exact)
