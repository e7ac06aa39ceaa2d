"""Whether a server is back, by the smallest question."""

import asyncio

from upstream_app import Server, create_upstream_app

from router.upstreams.probe import is_back
from router.upstreams.server import Upstream


def test_a_server_with_a_login_in_its_address_and_a_key_is_found_to_be_back() -> None:
    with Server(create_upstream_app()) as server:
        address = server.url.replace("://", "://user:word@")
        there = Upstream("there", f"{address}/v1", "a-key")
        assert asyncio.run(is_back(there, None, 10))
    assert not asyncio.run(
        is_back(Upstream("gone", "http://user:word@127.0.0.1:9/v1", "k"), None, 1)
    )
