"""A process that asks chats of a server over raw connections and times the answers.

    python -m benchmarks.gateway_load

Each line of stdin asks for a round, a JSON object with the fields of `Round`; each is answered by a
line of JSON with the fields of `Answered`. An empty line ends a round before its time. Plain
sockets and prebuilt bytes, since this process shares the cores with what it measures: an ordinary
client would cost more than the gateway.
"""

import asyncio
import json
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import uvloop

ID_HEADER = b"x-flywheel-interaction-id:"
RETRY_HEADER = b"retry-after:"
MODEL = re.compile(rb'"model": ?"([^"]*)"')

STDIN = 0
NO_ANSWER = 0
"""Status of a request whose connection broke."""


@dataclass(frozen=True)
class Round:
    """What is asked: `n` requests, over `concurrency` connections or at `rate` per second.

    Attributes:
        url: of the server, without path.
        path: with `{episode}` where each request's episode goes, if it goes anywhere.
        model: asked for.
        headers: sent with each request.
        n: requests; 0: until the round is told to end.
        concurrency: connections that ask one after the other.
        rate: requests per second, sent when they are due and not when an answer is there, so that
            a slow server cannot slow its own load; 0: as quick as the answers come.
        stream: whether answers are streamed.
        prompt: text of the question; the request's number is put before it.
        max_tokens: that an answer may have; 0: the request does not say.
        per_episode: requests of one episode, one after the other.
        in_turn: episodes that are asked in turn instead; 0: `per_episode` holds.
        episodes: prefix of the episodes' keys.
    """

    url: str
    path: str
    model: str
    headers: dict[str, str] = field(default_factory=dict)
    n: int = 100
    concurrency: int = 1
    rate: float = 0.0
    stream: bool = False
    prompt: str = "Write a function."
    max_tokens: int = 0
    per_episode: int = 5
    in_turn: int = 0
    episodes: str = "episode"


@dataclass
class Answered:
    """What came back, one entry a request in the order in which answers ended.

    Attributes:
        due_s: when the request was due, in seconds since the epoch.
        latency_ms: from when the request was due to the last byte.
        ttft_ms: to the first byte of the body.
        status: of the answer; 0: the connection broke.
        models: who the answer says gave it; empty if it does not.
        retry_after: whether the answer says when to ask again.
        ids: interaction ids of the answers of status 2xx, as the header says them.
        arguments: of tool calls, by interaction id, as the answer's text carries them.
        seconds: from the first request to the last answer.
    """

    due_s: list[float] = field(default_factory=list)
    latency_ms: list[float] = field(default_factory=list)
    ttft_ms: list[float] = field(default_factory=list)
    status: list[int] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    retry_after: list[bool] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    arguments: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def failed(self) -> dict[int, int]:
        """How many answers had a status other than 2xx, by status."""
        return dict(Counter(status for status in self.status if not 200 <= status < 300))


class Connection:
    """One keep-alive connection."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, request: bytes) -> tuple[int, bytes, bytes, float]:
        """Return status, head, body and the clock (s) at the body's first byte."""
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        assert self._reader is not None
        self._writer.write(request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        status = int(head[9:12])
        if b"transfer-encoding: chunked" in head:
            body, first = await _chunked(self._reader)
        else:
            length = int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
            body = await self._reader.readexactly(length)
            first = time.perf_counter()
        if b"connection: close" in head:
            self.close()
        return status, head, body, first

    def close(self) -> None:
        """Drop the connection; the next request opens another one."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


async def _chunked(reader: asyncio.StreamReader) -> tuple[bytes, float]:
    pieces: list[bytes] = []
    first = 0.0
    while True:
        size = int(await reader.readuntil(b"\r\n"), 16)
        piece = await reader.readexactly(size + 2)
        first = first or time.perf_counter()
        if not size:
            return b"".join(pieces), first
        pieces.append(piece[:-2])


async def play(wanted: Round) -> Answered:
    """Ask a round; a line of stdin ends it."""
    found = Answered()
    numbers: list[Iterator[int]] = [iter(range(wanted.n)) if wanted.n else count()]
    started = time.perf_counter()

    def end() -> None:
        _line()
        numbers[0] = iter(())

    async def worker() -> None:
        connection = _connection(wanted)
        with suppress(StopIteration):
            while True:
                number = next(numbers[0])
                due = time.perf_counter()
                if wanted.rate:
                    due = started + number / wanted.rate
                    await asyncio.sleep(max(0.0, due - time.perf_counter()))
                await _one(connection, _request(wanted, number), due, found)
        connection.close()

    loop = asyncio.get_running_loop()
    workers = [loop.create_task(worker()) for _ in range(wanted.concurrency)]
    await asyncio.sleep(0)  # each has begun before any is told to end
    loop.add_reader(STDIN, end)
    await asyncio.gather(*workers)
    loop.remove_reader(STDIN)
    os.set_blocking(STDIN, True)  # the loop had made it otherwise
    found.seconds = time.perf_counter() - started
    return found


def _connection(wanted: Round) -> Connection:
    address = urlsplit(wanted.url)
    return Connection(address.hostname or "", address.port or 80)


async def _one(connection: Connection, request: bytes, due: float, found: Answered) -> None:
    try:
        status, head, body, first = await connection.ask(request)
    except (OSError, asyncio.IncompleteReadError):
        connection.close()
        status, head, body, first = NO_ANSWER, b"", b"", time.perf_counter()
    ended = time.perf_counter()
    model = MODEL.search(body)
    found.due_s.append(time.time() - (ended - due))
    found.latency_ms.append((ended - due) * 1000)
    found.ttft_ms.append((first - due) * 1000)
    found.status.append(status)
    found.models.append(model[1].decode() if model else "")
    found.retry_after.append(RETRY_HEADER in head)
    if 200 <= status < 300 and ID_HEADER in head:
        said = head.split(ID_HEADER, 1)[1].split(b"\r\n", 1)[0].strip().decode()
        found.ids.append(said)
        if b'"arguments"' in body:
            found.arguments[said] = _arguments(body)


def _arguments(body: bytes) -> str:
    """Return the arguments of the only tool call of an answer, whole or streamed."""
    if not body.startswith(b"data:"):
        message = json.loads(body)["choices"][0]["message"]
        return str(message["tool_calls"][0]["function"]["arguments"])
    parts = []
    for line in body.split(b"\n"):
        if line.startswith(b"data: {"):
            for choice in json.loads(line[6:])["choices"]:
                for call in choice["delta"].get("tool_calls") or []:
                    parts.append(call["function"].get("arguments", ""))
    return "".join(parts)


def request_body(wanted: Round, number: int) -> bytes:
    """Return the body of a round's request."""
    question = {"role": "user", "content": f"Task {number}. {wanted.prompt}"}
    asked: dict[str, Any] = {"model": wanted.model, "messages": [question], "temperature": 0.2}
    if wanted.stream:
        asked["stream"] = True
    if wanted.max_tokens:
        asked["max_tokens"] = wanted.max_tokens
    return json.dumps(asked).encode()


def _request(wanted: Round, number: int) -> bytes:
    body = request_body(wanted, number)
    place = number % wanted.in_turn if wanted.in_turn else number // wanted.per_episode
    episode = f"{wanted.episodes}-{place}"
    lines = [
        f"POST {wanted.path.format(episode=episode)} HTTP/1.1",
        f"host: {urlsplit(wanted.url).netloc}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        *(f"{name}: {value}" for name, value in wanted.headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _line() -> bytes:
    """Read a line of stdin, not a byte more: what is left shows that there is another."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(STDIN, 1)
        if not byte:
            break
        line += byte
    return line


def main() -> None:
    """Answer rounds until stdin ends."""
    while line := _line():
        if not line.strip():
            continue  # meant for a round that had ended by itself
        answered = uvloop.run(play(Round(**json.loads(line))))
        sys.stdout.write(json.dumps(asdict(answered)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
