"""A small OpenAI-shaped upstream on loopback, and servers to run it and the gateway in threads.

What it does is asked for in the last message: `say …` (letter by letter), `piece …` (at once),
`tools`, `fail 429`, `plain failure`, `garbage`, `wait`, `drip` (a stream that never ends) or
`break` (a stream cut in the middle).
"""

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

TOOL_ARGUMENTS = '{"path": "a\\"b.py", "note": "ünï", "n": 1e-3}'


def create_upstream_app(models: tuple[str, ...] = ()) -> FastAPI:
    """Return an app that notes each request in `state.seen`; with `models`, others get a 404.

    Chats after the first `state.most` stay in hand until that is raised, or None again.
    """
    app = FastAPI()
    app.state.seen, app.state.models, app.state.left = [], set(models), threading.Event()
    app.state.most = None

    @app.post("/v1/load_lora_adapter")
    async def load(request: Request) -> Response:
        app.state.models.add((await request.json())["lora_name"])
        return Response("ok")

    @app.get("/v1/models")
    async def list_models() -> dict[str, Any]:
        return {"object": "list", "data": [{"id": name} for name in sorted(app.state.models)]}

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        body = await request.body()
        asked = json.loads(body)
        app.state.seen.append((dict(request.headers), body))
        number = len(app.state.seen)
        while app.state.most is not None and number > app.state.most:
            await asyncio.sleep(0.01)
        if app.state.models and asked["model"] not in app.state.models:
            return _failure(404, "no such model here", "model_not_found")
        verb, _, rest = asked["messages"][-1]["content"].partition(" ")
        if verb == "fail":
            return _failure(int(rest), "told to fail", "told_to")
        if verb == "plain":
            return Response("<h1>bad gateway</h1>", 502, media_type="text/html")
        if verb == "garbage":
            return Response(b'{"choices": [tr', media_type="application/json")
        if asked.get("stream"):
            return StreamingResponse(
                _stream(app, asked, verb, rest), media_type="text/event-stream"
            )
        if verb == "wait":
            await _until_left(app, request)
        return JSONResponse(_whole(asked, verb, rest))

    return app


def _failure(status: int, message: str, code: str) -> Response:
    error = {"message": message, "type": "mock_error", "param": None, "code": code}
    return JSONResponse({"error": error}, status, headers={"retry-after": "0"})


async def _until_left(app: FastAPI, request: Request) -> None:
    while not await request.is_disconnected():
        await asyncio.sleep(0.01)
    app.state.left.set()


def _whole(asked: dict[str, Any], verb: str, text: str) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if verb == "tools":
        function = {"name": "write", "arguments": TOOL_ARGUMENTS}
        message["tool_calls"] = [{"id": "call_1", "type": "function", "function": function}]
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": asked["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }


async def _stream(
    app: FastAPI, asked: dict[str, Any], verb: str, text: str
) -> AsyncIterator[bytes]:
    yield _chunk(asked, {"role": "assistant", "content": ""})
    try:
        while verb == "drip":
            yield _chunk(asked, {"content": "x"})
            await asyncio.sleep(0.01)
    except asyncio.CancelledError:
        app.state.left.set()
        raise
    if verb == "break":
        yield _chunk(asked, {"content": "half an ans"})
        raise ConnectionAbortedError("told to break")
    if verb == "tools":
        for delta in _tool_deltas():
            yield _chunk(asked, delta)
    for part in [text] if verb == "piece" else text:
        yield _chunk(asked, {"content": part})
    yield _chunk(asked, {}, "tool_calls" if verb == "tools" else "stop")
    yield b"data: [DONE]\n\n"


def _tool_deltas() -> list[dict[str, Any]]:
    head = {"index": 0, "id": "call_1", "type": "function"}
    deltas = [{**head, "function": {"name": "write", "arguments": ""}}]
    deltas += [{"index": 0, "function": {"arguments": letter}} for letter in TOOL_ARGUMENTS]
    return [{"tool_calls": [delta]} for delta in deltas]


def _chunk(asked: dict[str, Any], delta: dict[str, Any], finish: str | None = None) -> bytes:
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": asked["model"],
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"


class Server:
    """An ASGI app served on a free loopback port by a thread of this process.

    `options` are uvicorn's.
    """

    def __init__(self, app: Any, **options: Any) -> None:
        self.app = app
        # The protocol is named: without it asyncio leaves Nagle on, which costs 40 ms a call.
        self.socket = socket.socket(proto=socket.IPPROTO_TCP)
        self.socket.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        settings = {"log_level": "error", "ws": "none", "timeout_graceful_shutdown": 5, **options}
        config = uvicorn.Config(app, **settings)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        asyncio.run(self._server.serve(sockets=[self.socket]))

    def __enter__(self) -> "Server":
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise RuntimeError("the server did not start")
            self._thread.join(0.01)
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.should_exit = True
        self._thread.join()
        self.socket.close()
