"""A server on loopback that is as odd as it is told to be; it runs in the loop of its test."""

import asyncio
import json
from contextlib import suppress
from typing import Any

ANSWER = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "ok"}}]}


class OddServer:
    """Answers chats as `mood` says, and notes what it was asked.

    Moods: `answer`, `hang`, `held` (once `go` is set), `stall` (in the middle), `drop` (no byte),
    `cut` (in the middle), or a status such as `503`, with `retry_after` in its headers if set.
    """

    def __init__(self, mood: str = "answer", retry_after: str | None = None) -> None:
        self.mood, self.retry_after = mood, retry_after
        self.looks_hang = False
        self.chats: list[dict[str, Any]] = []
        self.looks = 0
        self.looking_now, self.looked_at_most = 0, 0
        self.left, self.go = asyncio.Event(), asyncio.Event()
        self.port = 0
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def __aenter__(self) -> "OddServer":
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen, again on the same port if it did before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse connections from now on, and end those that there are."""
        if self._server is not None:
            self._server.close()
        for writer in self._open:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = int(head.partition("content-length: ")[2].partition("\r")[0] or 0)
                body = await reader.readexactly(length)
                await self._answer(head.split()[1], body, reader, writer)
        self._open.discard(writer)
        writer.close()

    async def _answer(
        self, path: str, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        asked = json.loads(body) if body else {}
        is_look = path.endswith("/models") or asked.get("max_tokens") == 1
        if is_look:
            self.looks += 1
            self.looking_now += 1
            self.looked_at_most = max(self.looked_at_most, self.looking_now)
        else:
            self.chats.append(asked)
        try:
            await self._act("hang" if is_look and self.looks_hang else self.mood, reader, writer)
        finally:
            self.looking_now -= is_look

    async def _act(
        self, mood: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        whole = json.dumps(ANSWER).encode()
        if mood == "hang":
            await reader.read()
            self.left.set()
            raise ConnectionResetError
        if mood == "held":
            await self.go.wait()
        if mood == "drop":
            raise ConnectionResetError
        if mood.isdigit():
            asked = f"retry-after: {self.retry_after}\r\n" if self.retry_after else ""
            await _send(writer, f"HTTP/1.1 {mood} x\r\n{asked}content-length: 2\r\n\r\n{{}}")
            return
        kind = "content-type: application/json"
        await _send(writer, f"HTTP/1.1 200 OK\r\n{kind}\r\ncontent-length: {len(whole)}\r\n\r\n")
        if mood in ("cut", "stall"):
            await _send(writer, whole[:10].decode())
            if mood == "stall":
                await reader.read()
            raise ConnectionResetError
        await _send(writer, whole.decode())


async def _send(writer: asyncio.StreamWriter, text: str) -> None:
    writer.write(text.encode())
    await writer.drain()
