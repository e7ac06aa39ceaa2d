"""A response and the items of its output, whole: as an answer, and as what a stream ends with."""

from collections.abc import Sequence

from collector.record import usage_columns
from collector.shapes import Json
from router.dialects.deltas import CallPart, Chunk
from router.dialects.dialect import Asked

_COMPLETED, _INCOMPLETE = "completed", "incomplete"
_CUT_REASONS = {"length": "max_output_tokens", "content_filter": "content_filter"}
_ECHOED: Json = {
    "instructions": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "temperature": None,
    "top_p": None,
    "tool_choice": "auto",
    "tools": [],
    "max_output_tokens": None,
    "reasoning": {"effort": None, "summary": None},
    "text": {"format": {"type": "text"}},
    "truncation": "disabled",
    "user": None,
}
"""What a response repeats of its request, and what it says where the request says nothing."""


def reasoning_item(identifier: str, text: str) -> Json:
    """Return the item of a model's reasoning, which chats give as one text."""
    summary = [{"type": "summary_text", "text": text}] if text else []
    return {"type": "reasoning", "id": f"rs_{identifier}", "summary": summary}


def message_item(identifier: str, text: str, refusal: str, status: str = _COMPLETED) -> Json:
    """Return the item of what the model said; its parts are none while nothing is said."""
    content = [text_part(text)] if text else []
    content += [refusal_part(refusal)] if refusal else []
    item = {"type": "message", "id": f"msg_{identifier}", "status": status}
    return {**item, "role": "assistant", "content": content}


def text_part(text: str) -> Json:
    """Return a part of text."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def refusal_part(text: str) -> Json:
    """Return a part in which the model refuses."""
    return {"type": "refusal", "refusal": text}


def call_item(identifier: str, call: CallPart, status: str = _COMPLETED) -> Json:
    """Return the item of a tool call; one whose server gave no id is given one."""
    return {
        "type": "function_call",
        "id": f"fc_{identifier}_{call.number}",
        "call_id": call.id or f"call_{identifier}_{call.number}",
        "name": call.name,
        "arguments": call.arguments,
        "status": status,
    }


def response(
    asked: Asked,
    identifier: str,
    chunk: Chunk,
    items: Sequence[Json],
    finish_reason: str | None,
    status: str | None = None,
    error: Json | None = None,
) -> Json:
    """Return a response: `chunk` tells model, time and usage, the reason whether it is whole."""
    cut = _CUT_REASONS.get(finish_reason or "")
    return {
        "id": f"resp_{identifier}",
        "object": "response",
        "created_at": chunk.created,
        "status": status or (_INCOMPLETE if cut else _COMPLETED),
        "error": error,
        "incomplete_details": {"reason": cut} if cut else None,
        "model": chunk.model or asked.model,
        "output": list(items),
        "usage": _usage(chunk.usage) if chunk.usage else None,
        "previous_response_id": None,
        "store": False,
        **{name: _said(asked, name, otherwise) for name, otherwise in _ECHOED.items()},
    }


def _said(asked: Asked, name: str, otherwise: object) -> object:
    value = asked.values.get(name)
    return otherwise if value is None else value


def _usage(usage: Json) -> Json:
    counts = usage_columns(usage)
    n_asked = counts["gen_ai_usage_input_tokens"] or 0
    n_said = counts["gen_ai_usage_output_tokens"] or 0
    n_cached = counts["gen_ai_usage_cache_read_input_tokens"] or 0
    n_reasoned = counts["gen_ai_usage_reasoning_output_tokens"] or 0
    return {
        "input_tokens": n_asked,
        "input_tokens_details": {"cached_tokens": n_cached, "cache_write_tokens": 0},
        "output_tokens": n_said,
        "output_tokens_details": {"reasoning_tokens": n_reasoned},
        "total_tokens": n_asked + n_said,
    }
