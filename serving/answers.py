"""Answers in OpenAI's shapes: whole completions, streams of server-sent events, errors."""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncGenerator
from typing import Any

from foundation.chat import completion, message
from foundation.errors import FlywheelError
from serving.batching import Batcher
from serving.requests import Wanted
from serving.rows import Generation, Scored
from serving.schemas import ChatRequest, CompletionRequest


def whole_chat(model: str, answers: list[Generation]) -> dict[str, Any]:
    """Return the chat completion of one or more choices."""
    first = answers[0]
    body = completion(
        f"chatcmpl-{secrets.token_hex(12)}",
        model,
        first.text,
        first.finish_reason,
        first.input_tokens,
        sum(answer.output_tokens for answer in answers),
        int(time.time()),
    )
    for index, answer in enumerate(answers[1:], start=1):
        body["choices"].append(
            {
                "index": index,
                "message": message("assistant", answer.text),
                "finish_reason": answer.finish_reason,
            }
        )
    return body


def whole_text(asked: CompletionRequest, answers: list[Generation]) -> dict[str, Any]:
    """Return the text completion of one or more choices of one or more prompts."""
    return {
        **_head(asked),
        "choices": [
            {
                "index": index,
                "text": answer.text,
                "logprobs": None,
                "finish_reason": answer.finish_reason,
            }
            for index, answer in enumerate(answers)
        ],
        "usage": _usage(answers, asked.n),
    }


def echoed(asked: CompletionRequest, scored: list[Scored]) -> dict[str, Any]:
    """Return the text completion that echoes scored prompts, with nothing after them."""
    n_tokens = sum(len(one.tokens) for one in scored)
    return {
        **_head(asked),
        "choices": [
            {
                "index": index,
                "text": text,
                "logprobs": {
                    "tokens": one.tokens,
                    "token_logprobs": one.logprobs,
                    "top_logprobs": _top(one, asked.logprobs or 0),
                    "text_offset": one.offsets,
                },
                "finish_reason": "length",
            }
            for index, (text, one) in enumerate(zip(asked.texts, scored, strict=True))
        ],
        "usage": {"prompt_tokens": n_tokens, "completion_tokens": 0, "total_tokens": n_tokens},
    }


def _top(scored: Scored, n_best: int) -> list[dict[str, float] | None]:
    """Return, as vLLM does, each token with its log-probability beside the `n_best` likeliest."""
    return [
        None if own is None or best is None else {token: own, **dict([best] * n_best)}
        for token, own, best in zip(scored.tokens, scored.logprobs, scored.best, strict=True)
    ]


async def events(
    asked: ChatRequest | CompletionRequest, wanted: Wanted, batcher: Batcher
) -> AsyncGenerator[str, None]:
    """Yield a stream's events: the choices as they come, usage if asked for, `[DONE]`.

    Leaving the stream gives its answers up.

    Raises:
        Overloaded: too many wait; before the first event.
    """
    head, is_chat = _head(asked), isinstance(asked, ChatRequest)
    loop = asyncio.get_running_loop()
    heard: asyncio.Queue[tuple[int, str, Generation | None] | None] = asyncio.Queue()

    def listen(*said: Any) -> None:
        loop.call_soon_threadsafe(heard.put_nowait, said)

    future = batcher.submit(wanted.engine, wanted.rows, listen)
    future.add_done_callback(lambda _: loop.call_soon_threadsafe(heard.put_nowait, None))
    try:
        for index in range(len(wanted.rows) if is_chat else 0):
            yield _event(head, index, {"delta": message("assistant", "")}, None)
        while (said := await heard.get()) is not None:
            index, piece, answer = said
            if piece:
                yield _event(head, index, _said(piece, is_chat), None)
            if answer is not None:
                yield _event(head, index, _said("", is_chat), answer.finish_reason)
        error = future.exception()
        if error is not None:  # the answer has begun: the error is its last event
            yield _data(error_body(error, getattr(error, "http_status", 500)))
            return
        if asked.stream_options is not None and asked.stream_options.include_usage:
            yield _data({**head, "choices": [], "usage": _usage(future.result(), asked.n)})
        yield "data: [DONE]\n\n"
    finally:
        future.cancel()


def _head(asked: ChatRequest | CompletionRequest) -> dict[str, Any]:
    """Return what a text completion and each chunk of a stream begin with."""
    is_chat = isinstance(asked, ChatRequest)
    return {
        "id": f"{'chatcmpl' if is_chat else 'cmpl'}-{secrets.token_hex(12)}",
        "object": "chat.completion.chunk" if is_chat else "text_completion",
        "created": int(time.time()),
        "model": asked.model,
    }


def _said(piece: str, is_chat: bool) -> dict[str, Any]:
    if is_chat:
        return {"delta": {"content": piece} if piece else {}}
    return {"text": piece}


def _usage(answers: list[Generation], n: int) -> dict[str, int]:
    """Return the tokens of answers, of which each `n` share a prompt."""
    input_tokens = sum(answer.input_tokens for answer in answers[::n])
    output_tokens = sum(answer.output_tokens for answer in answers)
    return {
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
    }


def _event(head: dict[str, Any], index: int, said: dict[str, Any], finish: str | None) -> str:
    return _data({**head, "choices": [{"index": index, **said, "finish_reason": finish}]})


def _data(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"


def error_body(error: BaseException, status: int) -> dict[str, Any]:
    """Return an error as OpenAI's API words it; what is no known one only by its kind."""
    codes = {401: "invalid_api_key", 404: "model_not_found", 503: "engine_overloaded"}
    is_known = isinstance(error, FlywheelError)
    text = str(error) if is_known else f"the engine failed: {type(error).__name__}; see its log"
    return {
        "error": {
            "message": text,
            "type": "server_error" if status >= 500 else "invalid_request_error",
            "param": getattr(error, "what", None),
            "code": codes.get(status),
        }
    }
