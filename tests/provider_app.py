"""A loopback stand-in for OpenAI and Anthropic, in plain ASGI so that it runs beside any client.

It answers chat completions, legacy completions, responses, embeddings and messages, whole or as
server-sent events. What it does is asked for in the last user text: `say …` (two letters at a
time), `tools`, `think`, `fail 429`, `flaky 500` (fails once per text), `break` (cut in the middle),
`drip` (never ends), `oops` (an error event in the stream), `wait` (no answer), `garbage`,
`gateway ID` (as our gateway answers), `zip …` (gzip).
"""

import asyncio
import gzip
import json
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import uvicorn

ARGUMENTS = '{"path": "a\\"b.py", "note": "ünï\\n", "n": 1e-3,  "q":[ ]}'
TOOLS = [{"type": "function", "function": {"name": "write", "parameters": {"type": "object"}}}]
INPUT_TOKENS, OUTPUT_TOKENS = 11, 5

Send = Callable[[dict[str, Any]], Awaitable[None]]


class Provider:
    """The ASGI app; `seen` holds the path, headers and JSON body of each request."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self._failed: set[str] = set()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Send) -> None:
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        asked = json.loads(body or b"{}")
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.seen.append((scope["path"], headers, asked))
        await self._answer(scope["path"], asked, receive, send)

    async def _answer(self, path: str, asked: dict[str, Any], receive: Any, send: Send) -> None:
        verb, _, rest = last_text(asked).partition(" ")
        status = self._failure(verb, rest)
        if status:
            error = {"type": "told_to", "code": "told_to", "message": "told to fail", "param": None}
            body = json.dumps({"type": "error", "error": error}).encode()
            await whole(send, body, status, [(b"retry-after-ms", b"1")])
        elif verb == "wait":
            while (await receive())["type"] != "http.disconnect":
                pass
        elif verb == "garbage":
            await whole(send, b'{"choices": [tr')
        elif asked.get("stream"):
            await self._stream(path, asked, verb, rest, receive, send)
        else:
            extra = [(b"x-flywheel-interaction-id", rest.encode())] if verb == "gateway" else []
            answer = json.dumps(SHAPES[path].whole(asked, verb, rest), ensure_ascii=False).encode()
            if verb == "zip":
                answer, extra = gzip.compress(answer), [(b"content-encoding", b"gzip")]
            await whole(send, answer, extra=extra)

    def _failure(self, verb: str, rest: str) -> int | None:
        if verb == "fail":
            return int(rest.split()[0])
        if verb == "flaky" and rest not in self._failed:
            self._failed.add(rest)
            return int(rest.split()[0])
        return None

    async def _stream(
        self, path: str, asked: dict[str, Any], verb: str, rest: str, receive: Any, send: Send
    ) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        if verb == "gateway":
            headers.append((b"x-flywheel-interaction-id", rest.encode()))
        if verb == "zip":
            headers.append((b"content-encoding", b"gzip"))
            body = b"".join(event for event in SHAPES[path].events(asked, verb, rest))
            await whole(send, gzip.compress(body), extra=headers, kind=None)
            return
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        shape = SHAPES[path]
        async for event in paced(shape.events(asked, verb, rest), verb):
            await send({"type": "http.response.body", "body": event, "more_body": True})
        if verb == "break":
            raise ConnectionAbortedError("told to break")
        await send({"type": "http.response.body", "body": b""})


async def paced(events: Iterator[bytes], verb: str) -> AsyncIterator[bytes]:
    for event in events:
        yield event
        await asyncio.sleep(0.01 if verb == "drip" else 0)


async def whole(
    send: Send,
    body: bytes,
    status: int = 200,
    extra: list[tuple[bytes, bytes]] | None = None,
    kind: bytes | None = b"application/json",
) -> None:
    headers = [*(extra or []), (b"content-length", str(len(body)).encode())]
    if kind is not None:
        headers.append((b"content-type", kind))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def last_text(asked: dict[str, Any]) -> str:
    """The text of the last message or of the input."""
    given = asked.get("messages") or asked.get("input") or asked.get("prompt") or ""
    while not isinstance(given, str):
        given = given[-1]
        if isinstance(given, dict):
            given = given.get("content") or given.get("text") or given.get("output") or ""
    return given


def pieces(text: str) -> list[str]:
    """`text`, two characters at a time."""
    return [text[at : at + 2] for at in range(0, len(text), 2)]


def said(verb: str, rest: str) -> Iterator[str]:
    """The pieces of the text that a verb has streamed."""
    if verb == "drip":
        while True:
            yield "x"
    yield from pieces({"break": "half an ans", "oops": "half", "tools": ""}.get(verb, rest))


def sse(data: Any, name: str | None = None) -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


class Chat:
    """POST /v1/chat/completions."""

    USAGE = {
        "prompt_tokens": INPUT_TOKENS,
        "completion_tokens": OUTPUT_TOKENS,
        "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
    }

    def whole(self, asked: dict[str, Any], verb: str, rest: str) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": rest}
        if verb == "tools":
            message = {"role": "assistant", "content": None, "tool_calls": [self._call(ARGUMENTS)]}
        choices = [
            {"index": i, "message": message, "finish_reason": self._reason(verb), "logprobs": None}
            for i in range(asked.get("n") or 1)
        ]
        head = self._head(asked, "chat.completion")
        return {**head, "choices": choices, "usage": self.USAGE, "x_own": {"ä": [1.50, None]}}

    def events(self, asked: dict[str, Any], verb: str, rest: str) -> Iterator[bytes]:
        for index in range(asked.get("n") or 1):
            yield self._chunk(asked, {"role": "assistant", "content": ""}, index=index)
            if verb == "tools":
                yield self._chunk(
                    asked, {"tool_calls": [{"index": 0, **self._call("")}]}, index=index
                )
                for piece in pieces(ARGUMENTS):
                    part = {"index": 0, "function": {"arguments": piece}}
                    yield self._chunk(asked, {"tool_calls": [part]}, index=index)
            for piece in said(verb, rest):
                yield self._chunk(asked, {"content": piece}, index=index)
            if verb in ("break", "oops"):
                break
            yield self._chunk(asked, {}, self._reason(verb), index)
        if verb == "oops":
            yield sse({"error": {"message": "overloaded", "type": "server_error"}})
        if verb in ("break", "oops"):
            return
        if (asked.get("stream_options") or {}).get("include_usage"):
            head = self._head(asked, "chat.completion.chunk")
            yield sse({**head, "choices": [], "usage": self.USAGE})
        yield b"data: [DONE]\n\n"

    def _call(self, arguments: str) -> dict[str, Any]:
        function = {"name": "write", "arguments": arguments}
        return {"id": "call_1", "type": "function", "function": function}

    def _reason(self, verb: str) -> str:
        return "tool_calls" if verb == "tools" else "stop"

    def _head(self, asked: dict[str, Any], kind: str) -> dict[str, Any]:
        return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": asked["model"]}

    def _chunk(
        self, asked: dict[str, Any], delta: Any, finish: str | None = None, index: int = 0
    ) -> bytes:
        choice = {"index": index, "delta": delta, "finish_reason": finish}
        return sse({**self._head(asked, "chat.completion.chunk"), "choices": [choice]})


class Completions:
    """POST /v1/completions."""

    def whole(self, asked: dict[str, Any], verb: str, rest: str) -> dict[str, Any]:
        choice = {"index": 0, "text": rest, "finish_reason": "stop", "logprobs": None}
        return {**self._head(asked), "choices": [choice], "usage": Chat.USAGE}

    def events(self, asked: dict[str, Any], verb: str, rest: str) -> Iterator[bytes]:
        for piece in said(verb, rest):
            choice = {"index": 0, "text": piece, "finish_reason": None, "logprobs": None}
            yield sse({**self._head(asked), "choices": [choice]})
        choice = {"index": 0, "text": "", "finish_reason": "stop", "logprobs": None}
        yield sse({**self._head(asked), "choices": [choice]})
        yield b"data: [DONE]\n\n"

    def _head(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": asked["model"]}


class Embeddings:
    """POST /v1/embeddings."""

    def whole(self, asked: dict[str, Any], verb: str, rest: str) -> dict[str, Any]:
        usage = {"prompt_tokens": 2, "total_tokens": 2}
        item = {"object": "embedding", "index": 0, "embedding": [0.5, -0.25]}
        return {"object": "list", "data": [item], "model": asked["model"], "usage": usage}

    def events(self, asked: dict[str, Any], verb: str, rest: str) -> Iterator[bytes]:
        raise NotImplementedError


class Responses:
    """POST /v1/responses."""

    def whole(
        self, asked: dict[str, Any], verb: str, rest: str, status: str = "completed"
    ) -> dict[str, Any]:
        output = [] if status == "in_progress" else [self._item(verb, rest, done=True)]
        usage = {
            "input_tokens": INPUT_TOKENS,
            "output_tokens": OUTPUT_TOKENS,
            "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
            "input_tokens_details": {"cached_tokens": 4},
            "output_tokens_details": {"reasoning_tokens": 2},
        }
        return {
            "id": "resp_1",
            "object": "response",
            "created_at": 1.0,
            "status": status,
            "model": asked["model"],
            "output": output,
            "usage": usage if output else None,
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": asked.get("tools") or [],
        }

    def events(self, asked: dict[str, Any], verb: str, rest: str) -> Iterator[bytes]:
        number = iter(range(10**9))

        def event(kind: str, **data: Any) -> bytes:
            return sse({"type": kind, "sequence_number": next(number), **data}, kind)

        started = self.whole(asked, verb, rest, "in_progress")
        yield event("response.created", response=started)
        place = {"output_index": 0, "item_id": "item_1"}
        item = self._item(verb, "", done=False)
        yield event("response.output_item.added", output_index=0, item=item)
        if verb == "tools":
            for piece in pieces(ARGUMENTS):
                yield event("response.function_call_arguments.delta", **place, delta=piece)
            yield event("response.function_call_arguments.done", **place, arguments=ARGUMENTS)
        else:
            place |= {"content_index": 0}
            part = {"type": "output_text", "text": "", "annotations": []}
            yield event("response.content_part.added", **place, part=part)
            for piece in said(verb, rest):
                yield event("response.output_text.delta", **place, delta=piece, logprobs=[])
            if verb == "oops":
                yield event("error", code="server_error", message="overloaded", param=None)
            if verb in ("break", "oops"):
                return
            yield event("response.output_text.done", **place, text=rest, logprobs=[])
            part = {"type": "output_text", "text": rest, "annotations": []}
            yield event("response.content_part.done", **place, part=part)
        item = self._item(verb, rest, done=True)
        yield event("response.output_item.done", output_index=0, item=item)
        yield event("response.completed", response=self.whole(asked, verb, rest))

    def _item(self, verb: str, rest: str, done: bool) -> dict[str, Any]:
        status = "completed" if done else "in_progress"
        if verb == "tools":
            arguments = ARGUMENTS if done else ""
            call = {"name": "write", "call_id": "call_1", "arguments": arguments}
            return {"type": "function_call", "id": "item_1", "status": status, **call}
        part = {"type": "output_text", "text": rest, "annotations": []}
        content = [part] if done else []
        message = {"role": "assistant", "content": content, "status": status}
        return {"type": "message", "id": "item_1", **message}


class Messages:
    """POST /v1/messages."""

    def whole(self, asked: dict[str, Any], verb: str, rest: str) -> dict[str, Any]:
        return {
            **self._head(asked),
            "content": self._blocks(verb, rest),
            "stop_reason": "tool_use" if verb == "tools" else "end_turn",
            "stop_sequence": None,
            "usage": {
                "input_tokens": INPUT_TOKENS - 3,
                "cache_read_input_tokens": 3,
                "output_tokens": OUTPUT_TOKENS,
            },
        }

    def events(self, asked: dict[str, Any], verb: str, rest: str) -> Iterator[bytes]:
        usage = {"input_tokens": INPUT_TOKENS, "output_tokens": 1}
        message = {**self._head(asked), "content": [], "stop_reason": None, "stop_sequence": None}
        yield self._event("message_start", message={**message, "usage": usage})
        yield self._event("ping")
        blocks = [{"type": "text", "text": ""}] if verb not in ("tools", "think") else []
        for index, block in enumerate(blocks or self._blocks(verb, rest)):
            yield self._event("content_block_start", index=index, content_block=_emptied(block))
            for delta in self._deltas(block, verb, rest):
                yield self._event("content_block_delta", index=index, delta=delta)
            if verb == "oops":
                error = {"type": "overloaded_error", "message": "overloaded"}
                yield self._event("error", error=error)
            if verb in ("break", "oops"):
                return
            yield self._event("content_block_stop", index=index)
        reason = "tool_use" if verb == "tools" else "end_turn"
        delta = {"stop_reason": reason, "stop_sequence": None}
        usage = {"output_tokens": OUTPUT_TOKENS}
        yield self._event("message_delta", delta=delta, usage=usage)
        yield self._event("message_stop")

    def _head(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {"id": "msg_1", "type": "message", "role": "assistant", "model": asked["model"]}

    def _blocks(self, verb: str, rest: str) -> list[dict[str, Any]]:
        if verb == "tools":
            call = {"id": "toolu_1", "name": "write", "input": json.loads(ARGUMENTS)}
            return [{"type": "text", "text": "I write"}, {"type": "tool_use", **call}]
        if verb == "think":
            thought = {"type": "thinking", "thinking": "hm", "signature": "sig"}
            return [thought, {"type": "text", "text": rest}]
        return [{"type": "text", "text": rest}]

    def _deltas(self, block: dict[str, Any], verb: str, rest: str) -> Iterator[dict[str, Any]]:
        if block["type"] == "tool_use":
            for piece in pieces(ARGUMENTS):
                yield {"type": "input_json_delta", "partial_json": piece}
        elif block["type"] == "thinking":
            yield {"type": "thinking_delta", "thinking": block["thinking"]}
            yield {"type": "signature_delta", "signature": block["signature"]}
        else:
            texts = pieces(block["text"]) if block["text"] else said(verb, rest)
            for piece in texts:
                yield {"type": "text_delta", "text": piece}

    def _event(self, kind: str, **data: Any) -> bytes:
        return sse({"type": kind, **data}, kind)


def _emptied(block: dict[str, Any]) -> dict[str, Any]:
    empty = {"text": "", "thinking": "", "signature": "", "input": {}}
    return {**block, **{name: value for name, value in empty.items() if name in block}}


SHAPES: dict[str, Any] = {
    "/v1/chat/completions": Chat(),
    "/v1/completions": Completions(),
    "/v1/embeddings": Embeddings(),
    "/v1/responses": Responses(),
    "/v1/messages": Messages(),
}


class Serving:
    """A provider on a free loopback port, served by a thread; `url` has no `/v1`."""

    def __init__(self) -> None:
        self.app = Provider()
        # The protocol is named: without it asyncio leaves Nagle on, which costs 40 ms a call.
        self._socket = socket.socket(proto=socket.IPPROTO_TCP)
        self._socket.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(
            self.app, log_level="critical", ws="none", lifespan="off", timeout_graceful_shutdown=2
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        asyncio.run(self._server.serve(sockets=[self._socket]))

    def __enter__(self) -> "Serving":
        self._thread.start()
        while not self._server.started:
            self._thread.join(0.01)
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()


if __name__ == "__main__":  # for benchmarks: in a process of its own, its URL on standard output
    import sys
    import time

    with Serving() as serving:
        sys.stdout.write(serving.url + "\n")
        sys.stdout.flush()
        while True:
            time.sleep(1)
