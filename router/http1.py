"""A small HTTP/1.1 client for calls to upstreams: connections are kept, bytes come as they arrive.

What a general client does for every request (cookies, redirects, tracing, payload types, header
multi-maps) is most of the time that a gateway would spend. This one sends a POST and hands out the
answer; `httptools`, the parser of the server's side, reads it.
"""

import asyncio
import base64
import ssl
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import lru_cache
from typing import cast
from urllib.parse import quote, unquote, urlsplit

import httptools

KEEP_S = 4.0
"""Seconds that an idle connection is kept: less than the 5 s of uvicorn, ours and vLLM's."""

READ_AHEAD = 256 << 10
"""Bytes of an answer that may wait here for a slow caller."""

MAX_BETWEEN = 256 << 10
"""Bytes that may come without any of the body among them: a head, announcements, trailers. The
parser keeps an unfinished line and copies it for each part that comes."""


class Unreachable(Exception):
    """There is no connection, or it ended before an answer began."""


class Cut(Exception):
    """The connection ended, or spoke no HTTP, in the middle of an answer."""


class TooLong(Exception):
    """A connection, an answer or its next part has not come in time."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Longest waits in seconds: for a connection, the head of an answer, and each next part."""

    connect_s: float = 5.0
    answer_s: float = 600.0
    idle_s: float = 600.0


@dataclass(frozen=True, slots=True)
class Address:
    """Where a URL leads, and the constant beginning of each request's head."""

    host: str
    port: int
    tls: bool
    head: bytes


@lru_cache(maxsize=1024)
def address_of(url: str) -> Address:
    """Return the address of a URL; a name and password in it become a header."""
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    host, port = parts.hostname or "", parts.port or (443 if tls else 80)
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=-._~")
    path += f"?{parts.query}" if parts.query else ""
    shown = f"[{host}]" if ":" in host else host.encode("idna").decode()
    shown += f":{parts.port}" if parts.port else ""
    lines = [f"POST {path} HTTP/1.1", f"host: {shown}"]
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        lines.append(f"authorization: Basic {base64.b64encode(pair.encode()).decode()}")
    return Address(host, port, tls, "\r\n".join([*lines, ""]).encode())


class Answer:
    """An answer as it comes: its head, then the bytes of its body; to be closed in any case.

    Attributes:
        status: of the answer; 0 before its head is there.
        headers: by their names in lower case.
    """

    def __init__(self, connection: "_Connection", timeouts: Timeouts) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.ended = False
        self._connection, self._timeouts = connection, timeouts
        self._pieces: deque[bytes] = deque()
        self._ahead = 0
        self._fault: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def begin(self) -> None:
        """Wait for the head; raises as `Client.post`."""
        try:
            while not self.status:
                if self._fault is not None:
                    raise self._fault
                await self._wait(self._timeouts.answer_s)
        except BaseException:
            self.close()
            raise

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the bytes of the body as they arrive.

        Raises:
            Cut: the connection ended before the body did.
            TooLong: the next part has not come in time.
        """
        while True:
            while self._pieces:
                piece = self._pieces.popleft()
                self._ahead -= len(piece)
                if self._ahead < READ_AHEAD:
                    self._connection.resume()
                yield piece
            if self.ended:
                return
            if self._fault is not None:
                raise Cut(str(self._fault)) from self._fault
            await self._wait(self._timeouts.idle_s)

    def close(self) -> None:
        """Let go of it; unless it is there to its end, its connection is closed."""
        if not self.ended:
            self._connection.abort()

    async def _wait(self, most_s: float) -> None:
        loop = self._connection.loop
        self._waiter = loop.create_future()
        clock = loop.call_later(most_s, self._expire, most_s)
        try:
            await self._waiter
        finally:
            self._waiter = None
            clock.cancel()

    def _expire(self, waited_s: float) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(TooLong(f"nothing within {waited_s:g} s"))

    # For the connection

    def take(self, piece: bytes) -> bool:
        """Add bytes of the body; return whether enough wait to be read."""
        self._pieces.append(piece)
        self._ahead += len(piece)
        return self._ahead > READ_AHEAD

    def fail(self, fault: Exception) -> None:
        """Note that no more will come."""
        self._fault = self._fault or fault

    def wake(self) -> None:
        """Let whoever waits go on."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def is_open_ended(self) -> bool:
        """Say whether the end of the connection is the end of the body."""
        unsaid = "content-length" not in self.headers and "transfer-encoding" not in self.headers
        return bool(self.status) and unsaid


class Client:
    """Sends requests over connections that it keeps."""

    def __init__(self) -> None:
        self._idle: dict[tuple[str, int, bool], list[_Connection]] = {}
        self._tls: ssl.SSLContext | None = None
        self._sweeping: asyncio.TimerHandle | None = None
        self._closed = False

    async def post(
        self, url: str, headers: bytes, body: bytes, timeouts: Timeouts = Timeouts()
    ) -> Answer:
        """Send a request and return its answer once that has begun.

        A kept connection may have been closed at the other end a moment ago; a request that it
        swallows is sent once more over a new one.

        Args:
            url: where to.
            headers: lines that end in CR LF each; host and length are added.
            body: of the request.
            timeouts: how long to wait.

        Raises:
            Unreachable: no connection, or it ended before the answer began.
            Cut: what came is no HTTP.
            TooLong: it was not there in time.
        """
        address = address_of(url)
        request = [address.head, headers, b"content-length: %d\r\n\r\n" % len(body), body]
        kept = self._kept(address)
        if kept is not None:
            try:
                return await kept.ask(request, timeouts)
            except Unreachable:
                pass
        fresh = await self._connect(address, timeouts.connect_s)
        return await fresh.ask(request, timeouts)

    def _kept(self, address: Address) -> "_Connection | None":
        idle = self._idle.get((address.host, address.port, address.tls))
        while idle:
            connection = idle.pop()
            if connection.is_usable():
                return connection
        return None

    async def _connect(self, address: Address, connect_s: float) -> "_Connection":
        key = (address.host, address.port, address.tls)
        loop = asyncio.get_running_loop()
        context = self._context() if address.tls else None
        try:
            async with asyncio.timeout(connect_s):
                _, connection = await loop.create_connection(
                    lambda: _Connection(self, key, loop), address.host, address.port, ssl=context
                )
        except TimeoutError:
            raise TooLong(f"no connection within {connect_s:g} s") from None
        except OSError as error:
            raise Unreachable(str(error)) from error
        return connection

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
            self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls

    def keep(self, connection: "_Connection") -> None:
        """Take a connection back whose answer is over."""
        if self._closed:
            connection.abort()
            return
        self._idle.setdefault(connection.key, []).append(connection)
        if self._sweeping is None:
            self._sweeping = connection.loop.call_later(KEEP_S, self._sweep)

    def _sweep(self) -> None:
        """Close what has been idle for too long."""
        self._sweeping = None
        for key, idle in list(self._idle.items()):
            usable = [one for one in idle if one.is_usable()]
            for one in idle:
                if one not in usable:
                    one.abort()
            self._idle[key] = usable
            if not usable:
                del self._idle[key]
            elif self._sweeping is None:
                self._sweeping = usable[0].loop.call_later(KEEP_S / 2, self._sweep)

    def close(self) -> None:
        """Close the idle connections; those under way end with their answers."""
        self._closed = True
        if self._sweeping is not None:
            self._sweeping.cancel()
        for idle in self._idle.values():
            for connection in idle:
                connection.abort()
        self._idle.clear()


class _Connection(asyncio.Protocol):
    """One connection, with one answer under way at most."""

    def __init__(
        self, client: Client, key: tuple[str, int, bool], loop: asyncio.AbstractEventLoop
    ) -> None:
        self.client, self.key, self.loop = client, key, loop
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: Answer | None = None
        self._headers: dict[str, str] = {}
        self._arriving: list[bytes] = []
        self._idle_since = 0.0
        self._paused = self._begun = self._keeps = self._has_surplus = False
        self._n_between = 0

    def is_usable(self) -> bool:
        """Say whether a request may be sent."""
        assert self._transport is not None
        fresh = self.loop.time() - self._idle_since < KEEP_S
        return fresh and not self._transport.is_closing()

    async def ask(self, request: list[bytes], timeouts: Timeouts) -> Answer:
        """Send a request and wait for the head of its answer; raises as `Client.post`."""
        assert self._transport is not None
        if self._transport.is_closing():
            raise Unreachable("the connection was closed")
        answer = self._answer = Answer(self, timeouts)
        self._begun = self._has_surplus = False
        self._n_between = 0
        self._transport.writelines(request)
        await answer.begin()
        return answer

    def resume(self) -> None:
        """Read on, if reading was paused."""
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    # Of asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Read what came; bytes that nobody asked for end the connection."""
        answer = self._answer
        if answer is None:
            return self.abort()
        self._begun = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            answer.fail(Cut(f"no HTTP: {error}"))
            self.abort()
        self._n_between += len(data)
        if self._n_between > MAX_BETWEEN and not self._arriving and not answer.ended:
            answer.fail(Cut(f"more than {MAX_BETWEEN} bytes of headers"))
            self.abort()
        if self._arriving:
            self._n_between = 0
            full = answer.take(b"".join(self._arriving))
            self._arriving.clear()
            if full and not answer.ended and not self._paused:
                assert self._transport is not None
                self._paused = True
                self._transport.pause_reading()
        if answer.ended:
            self._hand_back()
        answer.wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """End; a body that says no length ends with its connection."""
        answer, self._answer = self._answer, None
        if answer is None:
            return
        if exc is None and answer.is_open_ended():
            answer.ended = True
        else:
            words = str(exc) if exc is not None else "the connection was closed"
            answer.fail(Cut(words) if self._begun else Unreachable(words))
        answer.wake()

    def _hand_back(self) -> None:
        assert self._transport is not None
        self._answer = None
        self.resume()
        unsent = self._transport.get_write_buffer_size()
        is_clean = self._keeps and not self._has_surplus and not unsent
        if is_clean and not self._transport.is_closing():
            self._idle_since = self.loop.time()
            self.client.keep(self)
        else:
            self._transport.close()

    # Of the parser

    def on_message_begin(self) -> None:
        """Begin an answer; one that nobody asked for is left out, and its connection closed."""
        if self._answer is not None and self._answer.ended:
            self._has_surplus = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Take the head; a status below 200 only announces another one."""
        status, headers = self._parser.get_status_code(), self._headers
        self._headers = {}
        if status >= 200 and self._answer is not None and not self._has_surplus:
            self._answer.status, self._answer.headers = status, headers

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        if not self._has_surplus:
            self._arriving.append(body)

    def on_message_complete(self) -> None:
        """End the answer."""
        if self._answer is not None and self._answer.status and not self._has_surplus:
            self._answer.ended = True
            self._keeps = self._parser.should_keep_alive()
