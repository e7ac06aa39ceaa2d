"""Callers who say nothing, never finish, or say too much before they begin."""

import socket
import threading

import pytest
from upstream_app import Server

from router import connections
from router.connections import server_options

LONG = 64 << 20
left = threading.Event()


async def hello(scope, receive, send) -> None:
    if scope["type"] == "lifespan":
        for kind in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{kind}.complete"})
        return
    is_long = scope["path"] == "/long"
    length = (b"content-length", b"%d" % (LONG if is_long else 5))
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    if not is_long:
        return await send({"type": "http.response.body", "body": b"hello"})
    await receive()
    await send({"type": "http.response.body", "body": b"x" * (LONG - 1), "more_body": True})
    assert (await receive())["type"] == "http.disconnect"
    left.set()


@pytest.fixture
def server(monkeypatch):
    for name in ("HEAD_S", "REST_S", "UNREAD_S"):
        monkeypatch.setattr(connections, name, 0.6)
    with Server(hello, **server_options()) as running:
        yield running


@pytest.fixture
def caller(server):
    host, port = server.socket.getsockname()
    with socket.create_connection((host, port), timeout=20) as connection:
        yield connection


def everything(caller: socket.socket) -> bytes:
    """What is said until the other end closes."""
    came = b""
    while piece := caller.recv(65536):
        came += piece
    return came


def answered(caller: socket.socket) -> bool:
    """Read one answer to its end."""
    came = b""
    while not came.endswith(b"hello"):
        piece = caller.recv(65536)
        assert piece, "let go before it was answered"
        came += piece
    return came.startswith(b"HTTP/1.1 200 ")


def test_who_says_nothing_is_let_go(caller) -> None:
    assert everything(caller) == b""


def test_who_never_ends_a_head_is_told_so(caller) -> None:
    caller.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n")
    answer = everything(caller)
    assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert b'"type":"invalid_request_error"' in answer


def test_a_second_head_has_a_clock_too(caller) -> None:
    caller.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    assert answered(caller)
    caller.sendall(b"GET / HT")
    assert everything(caller).startswith(b"HTTP/1.1 408 ")


def test_a_kept_connection_may_be_idle_for_longer(caller) -> None:
    caller.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    assert answered(caller)
    caller.settimeout(1.2)
    with pytest.raises(TimeoutError):
        caller.recv(1)
    caller.settimeout(20)
    caller.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    assert answered(caller)


def test_a_head_has_a_limit(caller) -> None:
    caller.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nx-long: " + b"x" * (connections.HEAD_BYTES + 1))
    assert everything(caller).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize(
    "framing", [b"content-length: 100", b"transfer-encoding: chunked"], ids=["length", "chunked"]
)
def test_who_was_answered_early_and_never_ends_is_let_go(caller, framing: bytes) -> None:
    caller.sendall(b"POST / HTTP/1.1\r\nhost: x\r\n" + framing + b"\r\n\r\n")
    assert answered(caller)
    assert everything(caller) == b""


def test_who_was_answered_early_may_end_and_ask_again(caller) -> None:
    caller.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n")
    assert answered(caller)
    caller.sendall(b"hiGET / HTTP/1.1\r\nhost: x\r\n\r\n")
    assert answered(caller)


def test_who_reads_nothing_is_left(caller) -> None:
    left.clear()
    caller.sendall(b"GET /long HTTP/1.1\r\nhost: x\r\n\r\n")
    assert left.wait(20)


def test_a_head_has_a_limit_however_quickly_it_comes(caller) -> None:
    caller.sendall(b"GET / HTTP/1.1\r\nhost: x\r\na: " + b"a" * 70_000 + b"\r\n\r\n")
    assert everything(caller).startswith(b"HTTP/1.1 400 ")
