"""ASGI in plain functions: headers, bodies within bounds, answers, and a caller who leaves.

The gateway speaks ASGI without a framework: on the way of every call one costs more than all that
the gateway itself does.
"""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.types import Message, Receive, Scope, Send

from foundation.errors import BadInput, TooLarge
from router.call import RawHeaders

BODY_S = 60.0
"""Seconds in which a body must have come; 32 MiB in that time are 0.5 MB/s."""

DISCARDED_TIMES = 4
"""A body beyond the limit is read on, and thrown away, up to so many times the limit, since many
clients listen for the answer only when they have said everything."""

LOOK_AFTER_S = 0.05
"""Age of a call from which on its caller's leaving is looked for; a quicker one costs nothing."""


class TooSlow(BadInput):
    """A caller takes too long to say what it wants."""

    http_status = 408


def headers_of(scope: Scope) -> dict[str, str]:
    """Return the headers of a request by their names in lower case."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


async def read_body(receive: Receive, limit: int) -> bytes:
    """Return the body of a request.

    Raises:
        TooLarge: it is larger than `limit` bytes.
        TooSlow: it has not come within `BODY_S`.
        ConnectionResetError: the caller left before its end.
    """
    try:
        async with asyncio.timeout(BODY_S):
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body"):
                return _bounded(message.get("body", b""), limit)
            return await _read_on(message, receive, limit)
    except TimeoutError:
        raise TooSlow(
            "request body", f"no end after {BODY_S:g} s", "a whole body by then", "Send it faster."
        ) from None


async def _read_on(message: Message, receive: Receive, limit: int) -> bytes:
    pieces, size = list[bytes](), 0
    while True:
        if message["type"] != "http.request":
            raise ConnectionResetError("the caller left before the end of its request")
        piece = message.get("body", b"")
        size += len(piece)
        if size <= limit:
            pieces.append(piece)
        else:
            pieces.clear()
        if not message.get("more_body") or size > DISCARDED_TIMES * limit:
            break
        message = await receive()
    if size > limit:
        raise _too_large(size, limit)
    return b"".join(pieces)


def _bounded(body: bytes, limit: int) -> bytes:
    if len(body) > limit:
        raise _too_large(len(body), limit)
    return body


def _too_large(size: int, limit: int) -> TooLarge:
    return TooLarge(
        "request body",
        f"{size} bytes",
        f"at most {limit} bytes (FLYWHEEL_MAX_PROMPT_BYTES)",
        "Send less at once, or raise the limit.",
    )


async def send_whole(send: Send, status: int, headers: RawHeaders, body: bytes) -> None:
    """Send an answer that is there as a whole."""
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def send_json(
    send: Send, status: int, body: Mapping[str, Any], headers: RawHeaders | None = None
) -> None:
    """Send a JSON object."""
    stated = [(b"content-type", b"application/json"), *(headers or ())]
    try:
        text = orjson.dumps(body)
    except TypeError:  # half a character, which a server has cut in two: JSON can say it, in ASCII
        text = json.dumps(body).encode()
    await send_whole(send, status, stated, text)


async def send_piece(send: Send, piece: bytes) -> None:
    """Send a part of a streamed answer."""
    await send({"type": "http.response.body", "body": piece, "more_body": True})


class Answering:
    """Sends an answer on and notes its status, 0 before there is one."""

    __slots__ = ("_send", "status")

    def __init__(self, send: Send) -> None:
        self._send, self.status = send, 0

    async def __call__(self, message: Message) -> None:
        """Send; part of ASGI."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)


class Departure:
    """Cancels the present task when the caller leaves; `happened` tells why it was cancelled.

    Args:
        receive: of the request, whose body has been read.
    """

    __slots__ = ("_looking", "_receive", "_timer", "_work", "happened")

    def __init__(self, receive: Receive) -> None:
        self.happened = False
        self._receive = receive
        self._work = asyncio.current_task()
        self._looking: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(LOOK_AFTER_S, self._look)

    def _look(self) -> None:
        self._looking = asyncio.create_task(self._wait())

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.happened = True
        assert self._work is not None
        self._work.cancel()

    def stop(self) -> None:
        """Look no more: the last part of the answer is on its way."""
        self._timer.cancel()
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
