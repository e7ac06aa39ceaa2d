"""Answers in OpenAI's shapes: whole completions, streams of server-sent events, errors."""

import json
import secrets
import time
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

from foundation.chat import completion, message
from foundation.errors import FlywheelError
from serving.batching import Row
from serving.schemas import ChatRequest

if TYPE_CHECKING:
    from serving.engine import Engine, Generation, Scored


def whole(model: str, answers: "list[Generation]") -> dict[str, Any]:
    """Return the chat completion of one or more choices."""
    first = answers[0]
    output_tokens = sum(answer.output_tokens for answer in answers)
    body = completion(
        f"chatcmpl-{secrets.token_hex(12)}",
        model,
        first.text,
        first.finish_reason,
        first.input_tokens,
        output_tokens,
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


def echoed(model: str, texts: "list[str]", scored: "list[Scored]", n_best: int) -> dict[str, Any]:
    """Return the text completion that echoes scored prompts, with nothing after them.

    Args:
        model: as it was asked for.
        texts: the prompts.
        scored: one for each.
        n_best: likeliest tokens beside the text's own in `top_logprobs`, 0 or 1.
    """
    n_tokens = sum(len(one.tokens) for one in scored)
    return {
        "id": f"cmpl-{secrets.token_hex(12)}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": model,
        "choices": [
            {
                "index": index,
                "text": text,
                "logprobs": {
                    "tokens": one.tokens,
                    "token_logprobs": one.logprobs,
                    "top_logprobs": _top(one, n_best),
                    "text_offset": one.offsets,
                },
                "finish_reason": "length",
            }
            for index, (text, one) in enumerate(zip(texts, scored, strict=True))
        ],
        "usage": {"prompt_tokens": n_tokens, "completion_tokens": 0, "total_tokens": n_tokens},
    }


def _top(scored: "Scored", n_best: int) -> list[dict[str, float] | None]:
    """Return, as vLLM does, each token with its log-probability beside the `n_best` likeliest."""
    return [
        None if own is None or best is None else {token: own, **dict([best] * n_best)}
        for token, own, best in zip(scored.tokens, scored.logprobs, scored.best, strict=True)
    ]


def events(asked: ChatRequest, rows: list[Row], engine: "Engine") -> Iterator[str]:
    """Yield a stream's events: the choices one after the other, usage if asked for, `[DONE]`."""
    head = {
        "id": f"chatcmpl-{secrets.token_hex(12)}",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": asked.model,
    }
    input_tokens = output_tokens = 0
    for index, row in enumerate(rows):
        yield _chunk(head, index, message("assistant", ""), None)
        pieces = engine.stream(
            row.messages,
            adapter=row.adapter,
            max_new_tokens=row.max_new_tokens,
            temperature=row.temperature,
            top_p=row.top_p,
            seed=row.seed,
            stop=row.stop,
        )
        try:
            answer = yield from _pieces(pieces, head, index)
        except FlywheelError as error:  # the answer has begun: the error is its last event
            yield _event(error_body(error, error.http_status))
            return
        input_tokens, output_tokens = answer.input_tokens, output_tokens + answer.output_tokens
    if asked.stream_options is not None and asked.stream_options.include_usage:
        usage = {
            "prompt_tokens": input_tokens,
            "completion_tokens": output_tokens,
            "total_tokens": input_tokens + output_tokens,
        }
        yield _event({**head, "choices": [], "usage": usage})
    yield "data: [DONE]\n\n"


def _pieces(
    pieces: "Generator[str, None, Generation]", head: dict[str, Any], index: int
) -> "Generator[str, None, Generation]":
    """Yield the chunks of one answer and return its `Generation`."""
    while True:
        try:
            piece = next(pieces)
        except StopIteration as end:
            answer: Generation = end.value
            yield _chunk(head, index, {}, answer.finish_reason)
            return answer
        yield _chunk(head, index, {"content": piece}, None)


def _chunk(head: dict[str, Any], index: int, delta: dict[str, Any], finish: str | None) -> str:
    return _event({**head, "choices": [{"index": index, "delta": delta, "finish_reason": finish}]})


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"


def error_body(error: Exception, status: int) -> dict[str, Any]:
    """Return an error as OpenAI's API words it."""
    codes = {401: "invalid_api_key", 404: "model_not_found"}
    return {
        "error": {
            "message": str(error),
            "type": "server_error" if status >= 500 else "invalid_request_error",
            "param": getattr(error, "what", None),
            "code": codes.get(status),
        }
    }
