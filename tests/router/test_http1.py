"""The client for upstreams against servers that speak HTTP word by word, or do not."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from router.http1 import (
    MAX_BETWEEN,
    READ_AHEAD,
    Answer,
    Client,
    Cut,
    Timeouts,
    TooLong,
    Unreachable,
    address_of,
)

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\n"
QUICK = Timeouts(connect_s=5, answer_s=0.2, idle_s=0.2)


async def heard(reader: asyncio.StreamReader) -> bytes:
    """One request, its head and body; empty at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    return head + await reader.readexactly(length)


def said(*parts: bytes) -> tuple[list[bytes], Handler]:
    """A server that answers each request by the next of `parts`, and what it was asked."""
    asked, left = list[bytes](), list(parts)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := await heard(reader):
            asked.append(request)
            writer.write(left.pop(0))
            if b"keep" not in request:
                break
        writer.close()

    return asked, serve


def against(handler: Handler, scene: Callable[[Client, str], Awaitable[None]]) -> None:
    serving = set[asyncio.Task[None]]()

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        try:
            await handler(reader, writer)
        finally:
            writer.close()

    async def play() -> None:
        server = await asyncio.start_server(served, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        client = Client()
        try:
            async with asyncio.timeout(30):
                await scene(client, f"http://127.0.0.1:{port}/v1/chat")
        finally:
            client.close()
            server.close()
            await asyncio.wait(serving)
            await asyncio.sleep(0.01)  # transports close in the turn after

    asyncio.run(play())


async def whole(answer: Answer) -> bytes:
    try:
        return b"".join([piece async for piece in answer.pieces()])
    finally:
        answer.close()


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (OK + b"content-length: 2\r\n\r\nhi", b"hi"),
        (OK + b"transfer-encoding: chunked\r\n\r\n1\r\nh\r\n1\r\ni\r\n0\r\n\r\n", b"hi"),
        (OK + b"connection: close\r\n\r\nhi", b"hi"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"content-length: 0\r\n\r\n", b""),
    ],
    ids=["length", "chunked", "until-close", "continue"],
)
def test_an_answer_is_read_in_every_framing(answer: bytes, body: bytes) -> None:
    asked, handler = said(answer)

    async def scene(client: Client, url: str) -> None:
        got = await client.post(url, b"x-a: 1\r\n", b'{"a": 1}')
        assert (got.status, await whole(got)) == (200, body)

    against(handler, scene)
    assert asked[0].startswith(b"POST /v1/chat HTTP/1.1\r\nhost: 127.0.0.1:")
    assert asked[0].endswith(b'x-a: 1\r\ncontent-length: 8\r\n\r\n{"a": 1}')


def test_a_connection_is_kept_and_used_again() -> None:
    connections = 0
    _, answering = said(*[OK + b"content-length: 2\r\n\r\nhi"] * 3)

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await answering(reader, writer)

    async def scene(client: Client, url: str) -> None:
        for _ in range(3):
            assert await whole(await client.post(url, b"x: keep\r\n", b"{}")) == b"hi"

    against(handler, scene)
    assert connections == 1


def test_a_request_that_a_closed_connection_swallowed_is_sent_again() -> None:
    asked = list[bytes]()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await heard(reader))
        writer.write(OK + b"content-length: 2\r\n\r\nhi")
        if len(asked) == 1:
            await heard(reader)  # a second one comes, and is not answered any more
        writer.close()

    async def scene(client: Client, url: str) -> None:
        for _ in range(2):
            assert await whole(await client.post(url, b"", b"{}")) == b"hi"

    against(handler, scene)
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (b"", Unreachable),
        (b"not http at all\r\n\r\n", Cut),
        (OK + b"content-", Cut),
        (OK + b"x: y\r\n" * MAX_BETWEEN, Cut),
        (OK + b"x: " + b"y" * 2 * MAX_BETWEEN, Cut),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * MAX_BETWEEN, Cut),
    ],
    ids=["nothing", "garbage", "half-a-head", "many-headers", "long-header", "announcements"],
)
def test_what_is_no_answer_is_told_apart(answer: bytes, fault: type[Exception]) -> None:
    _, handler = said(answer)

    async def scene(client: Client, url: str) -> None:
        with pytest.raises(fault):
            await client.post(url, b"", b"{}")

    against(handler, scene)


def test_a_second_answer_to_one_request_is_left_out_and_its_connection_closed() -> None:
    good = OK + b"content-length: 2\r\n\r\nhi"
    for surplus in (b"HTTP/1.1 500 No\r\ncontent-length: 4\r\n\r\nevil", b"HTTP/1.1 2"):
        _, handler = said(good + surplus, good)

        async def scene(client: Client, url: str) -> None:
            for _ in range(2):
                got = await client.post(url, b"", b"{}")
                assert (got.status, await whole(got)) == (200, b"hi")

        against(handler, scene)


def test_a_body_that_breaks_gives_what_had_come() -> None:
    _, handler = said(OK + b"content-length: 9\r\n\r\nhalf")

    async def scene(client: Client, url: str) -> None:
        answer, came = await client.post(url, b"", b"{}"), list[bytes]()

        async def take() -> None:
            async for piece in answer.pieces():
                came.append(piece)

        with pytest.raises(Cut):
            await take()
        assert came == [b"half"]

    against(handler, scene)


@pytest.mark.parametrize("begun", [b"", OK + b"content-length: 9\r\n\r\nhalf"])
def test_waiting_has_an_end(begun: bytes) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await heard(reader)
        writer.write(begun)
        await reader.read()  # until the client gives up
        writer.close()

    async def scene(client: Client, url: str) -> None:
        with pytest.raises(TooLong, match=r"nothing within 0\.2 s"):
            await whole(await client.post(url, b"", b"{}", QUICK))

    against(handler, scene)


def test_nobody_there() -> None:
    async def scene() -> None:
        with pytest.raises(Unreachable) as caught:
            await Client().post("http://127.0.0.1:9/v1", b"", b"{}")
        assert isinstance(caught.value.__cause__, OSError)

    asyncio.run(scene())


def test_an_answer_that_nobody_reads_does_not_fill_the_memory() -> None:
    size = 64 * READ_AHEAD
    written = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await heard(reader)
        writer.write(OK + b"content-length: %d\r\n\r\n" % size)
        for _ in range(64):
            writer.write(b"x" * READ_AHEAD)
            await writer.drain()
        written.set()
        writer.close()

    async def scene(client: Client, url: str) -> None:
        answer = await client.post(url, b"", b"{}")
        await asyncio.sleep(0.3)
        assert not written.is_set(), "all of it waits in this process"
        assert len(await whole(answer)) == size

    against(handler, scene)


def test_an_answer_that_is_left_ends_its_connection() -> None:
    gone = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await heard(reader)
        writer.write(OK + b"content-length: 9\r\n\r\nhalf")
        try:
            await reader.read()
        except ConnectionResetError:
            pass
        gone.set()
        writer.close()

    async def scene(client: Client, url: str) -> None:
        answer = await client.post(url, b"", b"{}")
        answer.close()
        await gone.wait()

    against(handler, scene)


@pytest.mark.parametrize(
    ("url", "head"),
    [
        ("http://h/v1", b"POST /v1 HTTP/1.1\r\nhost: h\r\n"),
        ("http://h:81/a b?x=1", b"POST /a%20b?x=1 HTTP/1.1\r\nhost: h:81\r\n"),
        ("http://[::1]:81/", b"POST / HTTP/1.1\r\nhost: [::1]:81\r\n"),
        (
            "https://u:p%40@h/",
            b"POST / HTTP/1.1\r\nhost: h\r\nauthorization: Basic dTpwQA==\r\n",
        ),
    ],
)
def test_addresses(url: str, head: bytes) -> None:
    assert address_of(url).head == head
    assert address_of(url).port == (81 if "81" in url else 443 if "https" in url else 80)
