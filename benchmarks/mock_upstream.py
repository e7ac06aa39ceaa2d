"""A fast OpenAI-shaped upstream on loopback: whole answers, streams, tool calls, cuts, errors.

    python -m benchmarks.mock_upstream PORT

What it does is asked for by the last word of the model's name: `…-cut` breaks a stream in the
middle, `…-fail` answers 500, `…-tools` calls a tool whose arguments are hard to carry, `…-spends`
takes its time and all the tokens that it may; any other name answers at once. GET lists no models.
A raw ASGI application, so that what stands in front of it is the bottleneck.
"""

import asyncio
import json
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any

import uvicorn

WORDS = "def total ( values ) : return sum ( values ) # the sum of all of them".split()
TOOL_ARGUMENTS = '{"path": "a\\"b\\\\c.py", "note": "ünï\\u2028 \U0001f600", "n": 1e-3, "n": 2}'
"""Twice the same key, escapes, a float as nobody would print it: to be carried byte by byte."""

SPENDING_S = 0.02
"""Time that an answer takes which uses up what it may: long enough that many run at once."""
BYTES_PER_TOKEN = 4

Receive = Any
Send = Any


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Answer a chat completion; part of ASGI."""
    if scope["type"] != "http":
        return
    if scope["method"] == "GET":
        return await _answer(send, 200, b"application/json", [_MODELS])
    body = await _body(receive)
    asked = json.loads(body)
    model, stream = str(asked["model"]), bool(asked.get("stream"))
    if model.endswith("-fail"):
        await _answer(send, 500, b"application/json", [_FAILURE])
    elif model.endswith("-spends"):
        await asyncio.sleep(SPENDING_S)
        answer = whole_answer(model, len(body) // BYTES_PER_TOKEN, int(asked["max_tokens"]))
        await _answer(send, 200, b"application/json", [json.dumps(answer).encode()])
    elif stream:
        pieces = _pieces(model)
        if model.endswith("-cut"):
            await _start(send, 200, b"text/event-stream")
            for piece in pieces[: len(pieces) // 2]:
                await _piece(send, piece)
            raise ConnectionAbortedError("told to cut the stream")
        await _answer(send, 200, b"text/event-stream", pieces)
    else:
        await _answer(send, 200, b"application/json", [_whole(model)])


async def _body(receive: Receive) -> bytes:
    body: bytes = b""
    while True:
        event: dict[str, Any] = await receive()
        body += bytes(event.get("body", b""))
        if not event.get("more_body"):
            return body


async def _answer(send: Send, status: int, kind: bytes, pieces: list[bytes]) -> None:
    if len(pieces) == 1:
        length = (b"content-length", str(len(pieces[0])).encode())
        headers = [(b"content-type", kind), length]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": pieces[0]})
        return
    await _start(send, status, kind)
    for piece in pieces:
        await _piece(send, piece)
        await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": b""})


async def _start(send: Send, status: int, kind: bytes) -> None:
    headers = [(b"content-type", kind)]
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _piece(send: Send, piece: bytes) -> None:
    await send({"type": "http.response.body", "body": piece, "more_body": True})


_FAILURE = json.dumps(
    {"error": {"message": "told to fail", "type": "server_error", "param": None, "code": None}}
).encode()


_MODELS = json.dumps({"object": "list", "data": []}).encode()


def whole_answer(
    model: str, prompt_tokens: int = 20, answer_tokens: int = len(WORDS)
) -> dict[str, Any]:
    """Return the answer as one chat completion that says it took so many tokens."""
    message: dict[str, Any] = {"role": "assistant", "content": " ".join(WORDS)}
    if model.endswith("-tools"):
        function = {"name": "write", "arguments": TOOL_ARGUMENTS}
        call = {"id": "call_1", "type": "function", "function": function}
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
    reason = "tool_calls" if model.endswith("-tools") else "stop"
    return {
        "id": "chatcmpl-mock",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": answer_tokens,
            "total_tokens": prompt_tokens + answer_tokens,
        },
    }


@cache
def _whole(model: str) -> bytes:
    return json.dumps(whole_answer(model), ensure_ascii=False).encode()


@cache
def _pieces(model: str) -> list[bytes]:
    return list(_chunks(model))


def _chunks(model: str) -> Iterator[bytes]:
    yield _chunk(model, {"role": "assistant", "content": ""})
    if model.endswith("-tools"):
        head = {"index": 0, "id": "call_1", "type": "function"}
        yield _chunk(model, {"tool_calls": [{**head, "function": {"name": "write"}}]})
        for start in range(0, len(TOOL_ARGUMENTS), 7):
            function = {"arguments": TOOL_ARGUMENTS[start : start + 7]}
            yield _chunk(model, {"tool_calls": [{"index": 0, "function": function}]})
        yield _chunk(model, {}, "tool_calls")
    else:
        for word in WORDS:
            yield _chunk(model, {"content": f"{word} "})
        yield _chunk(model, {}, "stop")
    yield b"data: [DONE]\n\n"


def _chunk(model: str, delta: dict[str, Any], finish: str | None = None) -> bytes:
    body = {
        "id": "chatcmpl-mock",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": model,
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="critical", access_log=False, lifespan="off")
