"""The lane of bytes against upstreams that answer what no gateway should pass on."""

import asyncio
from typing import Any

import pytest
from upstream_app import Server

from router import lanes
from router.dialects import CHAT
from router.lanes import Client, UpstreamFailed, open_answer
from router.roster import Target
from router.upstreams.server import Upstream

ASKED = CHAT.read(b'{"model": "m", "messages": []}')
HERE = {"location": "/elsewhere", "content-type": "application/json"}


def opened(
    status: int, headers: dict[str, str], body: bytes = b"{}", proxied: bool = False
) -> bytes:
    """What is read of an upstream that answers so."""

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            given = [(name.encode(), value.encode()) for name, value in headers.items()]
            await send({"type": "http.response.start", "status": status, "headers": given})
            await send({"type": "http.response.body", "body": body})

    async def scene(upstream: Upstream) -> bytes:
        client = Client()
        try:
            target = Target("m", upstream)
            return await (await open_answer(client, target, ASKED)).read()
        finally:
            await client.close()

    with Server(answer) as server:
        upstream = Upstream("one", server.url)
        if proxied:
            upstream = Upstream("one", "http://nowhere.invalid")
            upstream.__dict__["proxy"] = server.url
        return asyncio.run(scene(upstream))


@pytest.mark.parametrize("proxied", [False, True], ids=["direct", "proxied"])
@pytest.mark.parametrize(
    ("status", "headers"),
    [(307, HERE), (302, HERE), (200, {"content-encoding": "gzip"})],
    ids=["307", "302", "gzip"],
)
def test_what_was_not_asked_for_is_garbage(status, headers, proxied) -> None:
    with pytest.raises(UpstreamFailed) as caught:
        opened(status, headers, proxied=proxied)
    assert (caught.value.kind, caught.value.status) == ("upstream_garbage", 502)


def test_an_answer_has_a_limit(monkeypatch) -> None:
    monkeypatch.setattr(lanes, "MAX_ANSWER_BYTES", 100)
    assert opened(200, {}, b"x" * 100) == b"x" * 100
    with pytest.raises(UpstreamFailed, match="more than 100 bytes") as caught:
        opened(200, {}, b"x" * 101)
    assert caught.value.kind == "upstream_too_large"
