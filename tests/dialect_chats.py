"""Chats that the dialects are tested with: answers and their streams, as servers send them."""

from typing import Any

from router.dialects import DIALECTS, Asked
from router.dialects.chat import as_event

ARGUMENTS = '{"path": "a\\"b.py", "note": "ünï", "n": 1e-3}'
USAGE = {
    "prompt_tokens": 12,
    "completion_tokens": 5,
    "total_tokens": 17,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
REQUESTS: dict[str, dict[str, Any]] = {
    "chat": {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
    "completions": {"model": "m", "prompt": "hi"},
    "responses": {"model": "m", "input": "hi"},
    "messages": {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]},
}


def asked(dialect: str, **more: Any) -> Asked:
    """The request `hi` in a dialect."""
    return DIALECTS[dialect].read(as_event({**REQUESTS[dialect], **more})[5:])


def call(number: int, name: str = "write", arguments: str = ARGUMENTS) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"id": f"call_{number}", "type": "function", "function": function}


def answer(finish: str | None = "stop", **message: Any) -> dict[str, Any]:
    """A chat completion whose message has these fields."""
    said = {"role": "assistant", "content": None, **message}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 7,
        "model": "served",
        "choices": [{"index": 0, "message": said, "finish_reason": finish}],
        "usage": USAGE,
    }


def chunk(finish: str | None = None, **delta: Any) -> bytes:
    """A chunk of such an answer."""
    return as_event(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 7,
            "model": "served",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        }
    )


def usage() -> bytes:
    """The chunk that states the usage."""
    return as_event({"id": "chatcmpl-1", "created": 7, "model": "served", "choices": [],
                     "usage": USAGE})  # fmt: skip


DONE = b"data: [DONE]\n\n"


def call_chunks(number: int, arguments: str = ARGUMENTS, width: int = 3) -> list[bytes]:
    """The chunks of a tool call, its arguments a few letters at a time."""
    head = {"index": number, **call(number, arguments="")}
    parts = [arguments[i : i + width] for i in range(0, len(arguments), width)]
    said = [chunk(tool_calls=[head])]
    deltas = [{"index": number, "function": {"arguments": part}} for part in parts]
    return said + [chunk(tool_calls=[delta]) for delta in deltas]


STREAMS: dict[str, list[bytes]] = {
    "text": [chunk(role="assistant", content=""), chunk(content="hé"), chunk(content="llo"),
             chunk("stop"), usage(), DONE],
    "reasoned": [chunk(reasoning_content="hm"), chunk(reasoning_content="m"), chunk(content="x"),
                 chunk("stop"), usage(), DONE],
    "one call": [*call_chunks(0), chunk("tool_calls"), usage(), DONE],
    "text and two calls": [chunk(content="I write"), *call_chunks(0), *call_chunks(1, "{}"),
                           chunk("tool_calls"), usage(), DONE],
    "cut at the limit": [chunk(content="so lo"), chunk("length"), usage(), DONE],
    "filtered": [chunk(content="x"), chunk("content_filter"), usage(), DONE],
    "nothing said": [chunk("stop"), usage(), DONE],
    "no last word": [chunk(content="x"), chunk("stop"), usage()],
}  # fmt: skip
"""Streams that end as they should, by what is in them."""
