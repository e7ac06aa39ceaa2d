"""Connections of callers, with an end to those who say nothing or never finish.

uvicorn waits for ever for the first byte of a connection and for the last one of a request's head,
so that a few thousand silent callers (slow-loris) would take every descriptor it has. A request's
body has its own clock, see `router.asgi`.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_S = 10.0
"""Seconds in which the head of a request must have come, counted from the connection or from the
first byte of a later request."""

HEAD_BYTES = 64 << 10
"""Bytes of a request's head at most."""

REST_S = 10.0
"""Seconds in which the rest of a request must have come that is answered before its end, as one
with a wrong key is."""

UNREAD_S = 120.0
"""Seconds in which a caller must have taken what waits for it, 64 KiB and what its system holds."""

KEEP_S = 75
"""Seconds that an idle connection is kept: longer than clients keep theirs, who would otherwise
send into a closed one."""


MOST_CONNECTIONS = 2_000
"""Connections that a process of the service holds; the next one is answered 503."""


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with clocks for all that a caller can let it wait for but bodies."""

    _clock: asyncio.TimerHandle | None = None
    _unread_clock: asyncio.TimerHandle | None = None
    _in_head = True
    _head_bytes = 0
    _header_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock; part of asyncio."""
        super().connection_made(transport)
        self._clock = self.loop.call_later(HEAD_S, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks; part of asyncio."""
        self._stop_clock()
        self._stop_unread_clock()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Wait for the caller to read; part of asyncio."""
        super().pause_writing()
        self._stop_unread_clock()
        self._unread_clock = self.loop.call_later(UNREAD_S, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on; part of asyncio."""
        self._stop_unread_clock()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        """Take bytes; part of asyncio."""
        super().data_received(data)
        if not self._in_head:
            return
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_BYTES:
            self._end(b"431 Request Header Fields Too Large", b"headers of more than 64 KiB")
        elif self._clock is None:
            self._clock = self.loop.call_later(HEAD_S, self._too_slow)

    def on_message_begin(self) -> None:
        """Begin a head; called by the parser."""
        self._in_head, self._head_bytes, self._header_bytes = True, 0, 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; called by the parser.

        Raises:
            ValueError: the head is too large, and came so quickly that `data_received` saw its end
                first. The parser ends the request with 400.
        """
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > HEAD_BYTES:
            raise ValueError("headers of more than 64 KiB")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """End the head; called by the parser."""
        self._in_head = False
        self._stop_clock()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """End a request; called by the parser."""
        self._stop_clock()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """End an answer; what is left of its request must come soon, and is thrown away."""
        is_early = self.cycle is not None and self.cycle.more_body and not self.pipeline
        super().on_response_complete()
        if is_early and not self.transport.is_closing():
            self._stop_clock()
            self._clock = self.loop.call_later(REST_S, self.transport.close)

    def _stop_unread_clock(self) -> None:
        if self._unread_clock is not None:
            self._unread_clock.cancel()
            self._unread_clock = None

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _too_slow(self) -> None:
        self._clock = None
        if self._head_bytes:
            self._end(b"408 Request Timeout", b"no whole request within 10 s")
        else:
            self.transport.close()

    def _end(self, status: bytes, why: bytes) -> None:
        """Answer what is no request yet, and close."""
        self._stop_clock()
        if self.transport.is_closing():
            return
        body = b'{"error":{"message":"%b","type":"invalid_request_error","param":null,' % why
        body += b'"code":null}}'
        head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\nconnection: close\r\n" % status
        self.transport.write(head + b"content-length: %d\r\n\r\n%b" % (len(body), body))
        self.transport.close()


def bounded_options() -> dict[str, Any]:
    """Return what uvicorn is told to serve anything with."""
    return {"http": BoundedProtocol, "ws": "none", "timeout_keep_alive": KEEP_S}


def server_options() -> dict[str, Any]:
    """Return what uvicorn is told to serve the gateway with; it keeps its own log of calls."""
    return {**bounded_options(), "lifespan": "on", "access_log": False, "proxy_headers": False}
