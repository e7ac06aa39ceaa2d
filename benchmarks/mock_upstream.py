"""A fast OpenAI-shaped upstream on loopback: whole answers, paced streams, cut streams, errors.

    python -m benchmarks.mock_upstream PORT

What it does is asked for by the last word of the model's name: `…-cut` breaks a stream in the
middle, `…-fail` answers 500; any other name answers at once.
"""

import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

WORDS = "def total ( values ) : return sum ( values ) # the sum of all of them".split()


async def chat(request: Request) -> Response:
    """Answer a chat completion."""
    asked = await request.json()
    model = str(asked["model"])
    if model.endswith("-fail"):
        error = {"message": "told to fail", "type": "server_error", "param": None, "code": None}
        return JSONResponse({"error": error}, 500)
    if asked.get("stream"):
        return StreamingResponse(
            _chunks(model, cut=model.endswith("-cut")), media_type="text/event-stream"
        )
    return JSONResponse(whole_answer(model))


def whole_answer(model: str) -> dict[str, Any]:
    """Return the answer as one chat completion."""
    return {
        "id": "chatcmpl-mock",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": " ".join(WORDS)},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 20, "completion_tokens": len(WORDS), "total_tokens": 36},
    }


async def _chunks(model: str, cut: bool) -> AsyncIterator[bytes]:
    yield _chunk(model, {"role": "assistant", "content": ""})
    for number, word in enumerate(WORDS):
        if cut and number == len(WORDS) // 2:
            raise ConnectionAbortedError("told to cut the stream")
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
    return b"data: " + json.dumps(body).encode() + b"\n\n"


app = Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"])])

if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="critical", access_log=False)
