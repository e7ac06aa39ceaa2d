"""Server-sent events: what is new of something, asked for once a second, sent while a page is open.

The database is asked in a short transaction of its own: between two looks a stream holds neither a
connection nor a thread. A stream ends by itself after a while; the browser comes again with the id
of the last event, which is where the next one begins, and passes the door anew.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

EVERY_S: Final = 1.0
LONGEST_S: Final = 9.0
"""Less than a service that is stopped gives its requests: a page never holds a stop up."""
BEAT_EVERY_S: Final = 5.0
"""Without news: a line that keeps proxies from closing a silent connection."""
MOST_STREAMS: Final = 32
"""At once in one process; who comes then is told to come later."""
COME_AGAIN_MS: Final = 500

_open: set[int] = set()


@dataclass(frozen=True)
class Event:
    """One event: what it is, and its text, which may have several lines."""

    name: str
    data: str

    def encoded(self, identifier: str) -> str:
        """Return it as the event stream format of HTML has it."""
        lines = "".join(f"data: {line}\n" for line in self.data.splitlines() or [""])
        return f"event: {self.name}\nid: {identifier}\n{lines}\n"


@dataclass(frozen=True)
class News:
    """What one look found."""

    events: Sequence[Event]
    cursor: str
    """Where the next look begins: the id of the events."""
    ended: bool = False
    """Whether nothing will be new any more."""


Look = Callable[[str], News]
"""From a cursor (empty: from the start) to what is new since."""


class EventStream(StreamingResponse):
    """The answer to an EventSource: events until nothing more can come, or it has lasted enough."""

    def __init__(self, look: Look, cursor: str) -> None:
        headers = {"X-Accel-Buffering": "no"}
        super().__init__(_told(look, cursor), media_type="text/event-stream", headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream, or answer 503 where too many do already."""
        if len(_open) >= MOST_STREAMS:
            refusal = PlainTextResponse(
                "Too many pages watch runs at once.", 503, {"Retry-After": "10"}
            )
            await refusal(scope, receive, send)
            return
        _open.add(id(self))
        try:
            await super().__call__(scope, receive, send)
        finally:
            _open.discard(id(self))


async def _told(look: Look, cursor: str) -> AsyncIterator[str]:
    yield f"retry: {COME_AGAIN_MS}\n\n"
    began = spoke = time.monotonic()
    while True:
        news = await run_in_threadpool(look, cursor)
        cursor = news.cursor
        if news.events:
            yield "".join(event.encoded(cursor) for event in news.events)
            spoke = time.monotonic()
        if news.ended:
            yield Event("end", "").encoded(cursor)
            return
        if time.monotonic() - began > LONGEST_S:
            return
        if time.monotonic() - spoke > BEAT_EVERY_S:
            yield ": still here\n\n"
            spoke = time.monotonic()
        await asyncio.sleep(EVERY_S)
