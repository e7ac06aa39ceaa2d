"""What is recorded of a call in whatever dialect: a chat, as everything downstream reads it.

Where the upstream was asked natively, its bytes are read in the caller's dialect; where it was
asked by a chat, in that of chats. The caller's own request and a native answer stay beside it,
exactly as they were, in the attribute `exact`.
"""

from typing import Any, NamedTuple

from collector.shapes import Json, sse
from foundation.errors import BadInput
from router.dialects.chat import CHAT
from router.dialects.dialect import Dialect


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


def recorded_answer(
    dialect: Dialect, values: Json, answer: Json | None, *, is_native: bool
) -> Recorded:
    """Return the record of a call that was answered whole, or not at all.

    Args:
        dialect: the caller's.
        values: the caller's request.
        answer: the upstream's answer, in the dialect if `is_native`, else a chat completion.
        is_native: whether the upstream was asked in the caller's dialect, not by a chat.
    """
    return _recorded(dialect, values, answer, answer is not None, None, is_native)


def recorded_stream(dialect: Dialect, values: Json, body: bytes, *, is_native: bool) -> Recorded:
    """Return the record of a call from the bytes of its stream, as far as they came.

    As `recorded_answer` otherwise.
    """
    told = (dialect if is_native else CHAT).tell(list(sse.events(body)))
    ended = told.error is None and (told.ended or sse.is_done(body))
    return _recorded(dialect, values, told.answer, ended, told.error, is_native)


def _recorded(
    dialect: Dialect,
    values: Json,
    answer: Json | None,
    ended: bool,
    error: Json | None,
    is_native: bool,
) -> Recorded:
    exact: dict[str, Any] | None = None
    if dialect.api is not None:
        exact = {"api": dialect.api, "request": values}
        exact |= {"response": answer} if is_native else {}
    response = answer
    if answer is not None and is_native:
        response = dialect.chat_response(answer)
    return Recorded(_request(dialect, values, is_native), response, ended, error, exact)


def _request(dialect: Dialect, values: Json, is_native: bool) -> Json:
    """Return the chat that was sent; what comes nearest to it if none could be."""
    if not is_native:
        try:
            return dialect.as_chat(values)
        except BadInput:
            pass
    return dialect.chat_request(values)
