"""The wire record as a plain dictionary: built here by the client, the gateway and the importers.

No pydantic: this module runs inside other people's agents. `collector.schemas` states the same
shapes for the server, which checks them.
"""

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

from foundation.chat import answer_text, prompt_messages, text_of, tool_calls
from foundation.version import VERSION

CLIENT_VERSION = VERSION

SUCCESS, ERROR, CUT = "success", "error", "cut"

FEEDBACK_KINDS = ("rating", "success", "metric", "category", "comment", "correction", "preference")
FEEDBACK_SOURCES = ("human", "test", "judge", "user", "role")

CHARACTERS_PER_TOKEN = 4

LONGEST_NAME = 500
"""Characters of a model's or answer's name that its column takes; request and response keep all."""

USAGE_COLUMNS = ("gen_ai_usage_input_tokens", "gen_ai_usage_output_tokens")

_VERSION_7 = 0x7 << 76
_VARIANT = 0b10 << 62


def interaction_record(
    identifier: UUID,
    role: str,
    request: Mapping[str, Any],
    response: Any,
    *,
    started_at: datetime | None = None,
    **columns: Any,
) -> dict[str, Any]:
    """Return one interaction as JSON values, its `gen_ai_*` columns read from request and response.

    `response` may be a dictionary, an object with `model_dump()` (openai, litellm) or None. Columns
    given by the caller win over those read. `started_at` defaults to now, in UTC.
    """
    return built_record(
        str(identifier),
        role,
        plain(request),
        plain(response) if response is not None else None,
        (started_at or datetime.now(UTC)).isoformat(),
        {name: plain(value) for name, value in columns.items() if value is not None},
    )


def built_record(
    identifier: str,
    role: str,
    request: Mapping[str, Any],
    response: Mapping[str, Any] | None,
    started_at: str,
    columns: Mapping[str, Any],
) -> dict[str, Any]:
    """Return one interaction of JSON values; token counts that nobody states are estimated."""
    record: dict[str, Any] = {
        "id": identifier,
        "role": role,
        "started_at": started_at,
        "client_version": CLIENT_VERSION,
        **flat_columns(request, response),
    }
    record |= columns
    if response and not any(record.get(name) is not None for name in USAGE_COLUMNS):
        with suppress(TypeError, AttributeError, KeyError):  # a shape that nobody knows
            record |= estimated_usage(request, response)
    record |= {"request": request, "response": response}
    return record


def flat_columns(request: Mapping[str, Any], response: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the `gen_ai_*` columns that a request and response carry.

    Read are OpenAI's chat and responses shapes and Anthropic's messages.
    """
    answer = _mapping(response)
    columns = {
        "gen_ai_request_model": _text(request.get("model")),
        "gen_ai_request_temperature": _number(request.get("temperature")),
        "gen_ai_request_top_p": _number(request.get("top_p")),
        "gen_ai_request_seed": _integer(request.get("seed"), 63),
        "gen_ai_request_stream": _flag(request.get("stream")),
        "gen_ai_request_max_tokens": _count(
            request.get("max_completion_tokens")
            or request.get("max_output_tokens")
            or request.get("max_tokens")
        ),
        "gen_ai_conversation_id": _conversation(request, answer),
        "gen_ai_response_model": _text(answer.get("model")),
        "gen_ai_response_id": _text(answer.get("id")),
        "gen_ai_response_finish_reasons": finish_reasons(answer) or None,
        "tool_schema_hash": tool_schema_hash(request),
        **usage_columns(_mapping(answer.get("usage"))),
    }
    return {name: value for name, value in columns.items() if value is not None}


def usage_columns(usage: Mapping[str, Any]) -> dict[str, int | None]:
    """Return the token counts of a `usage` object; what it does not say is None.

    Input counts every token of the prompt, those read from a cache too: Anthropic states the cached
    ones beside `input_tokens`, OpenAI within it.
    """
    asked = _count(usage.get("prompt_tokens", usage.get("input_tokens")))
    inner = _mapping(usage.get("prompt_tokens_details") or usage.get("input_tokens_details"))
    outer = _mapping(usage.get("completion_tokens_details") or usage.get("output_tokens_details"))
    cached = _count(inner.get("cached_tokens"))
    if "prompt_tokens" not in usage and cached is None:
        beside = [_count(usage.get(f"cache_{how}_input_tokens")) for how in ("read", "creation")]
        cached = beside[0]
        asked = asked + sum(n or 0 for n in beside) if asked is not None else None
    return {
        "gen_ai_usage_input_tokens": asked,
        "gen_ai_usage_output_tokens": _count(
            usage.get("completion_tokens", usage.get("output_tokens"))
        ),
        "gen_ai_usage_cache_read_input_tokens": cached,
        "gen_ai_usage_reasoning_output_tokens": _count(outer.get("reasoning_tokens")),
    }


def finish_reasons(answer: Mapping[str, Any]) -> list[str]:
    """Return why each choice ended, in the provider's words; empty if it does not say.

    A response of the responses API is one choice: its `incomplete_details.reason`, or `tool_calls`
    or `stop`, as the chat API would have said.
    """
    choices = answer.get("choices")
    if isinstance(choices, list):
        reasons = (_mapping(choice).get("finish_reason") for choice in choices)
        return [str(reason) for reason in reasons if reason]
    if answer.get("stop_reason"):
        return [str(answer["stop_reason"])]
    output = answer.get("output")
    if not isinstance(output, list) or answer.get("status") not in ("completed", "incomplete"):
        return []
    if answer["status"] == "incomplete":
        return [str(_mapping(answer.get("incomplete_details")).get("reason") or "incomplete")]
    called = any(_mapping(item).get("type") == "function_call" for item in output)
    return ["tool_calls" if called else "stop"]


def tool_schema_hash(request: Mapping[str, Any]) -> str | None:
    """Return 16 hexadecimal digits of the SHA-256 of the tools offered; None if there are none.

    The order of the tools counts, since the model saw it; the order of keys does not.
    """
    tools = request.get("tools") or request.get("functions")
    if not tools:
        return None
    canonical = json.dumps(tools, sort_keys=True, separators=(",", ":"))
    return sha256(canonical.encode()).hexdigest()[:16]


def estimated_usage(request: Mapping[str, Any], response: Mapping[str, Any]) -> dict[str, Any]:
    """Return token counts guessed from lengths, four characters to a token, marked as such."""
    asked = sum(len(text_of(m.get("content"))) for m in prompt_messages(dict(request)))
    said = len(answer_text(dict(response)))
    said += sum(len(json.dumps(part.get("function"))) for part in tool_calls(dict(response)))
    said += len(_output_text(response))
    return {
        "gen_ai_usage_input_tokens": -(-asked // CHARACTERS_PER_TOKEN),
        "gen_ai_usage_output_tokens": -(-said // CHARACTERS_PER_TOKEN),
        "usage_estimated": True,
    }


def _output_text(response: Mapping[str, Any]) -> str:
    """Return text and arguments of an answer without `choices`: responses API or Anthropic."""
    items = response.get("output") or response.get("content")
    if not isinstance(items, list):
        return ""
    parts = [_mapping(item) for item in items]
    spoken = (text_of(part.get("content")) + str(part.get("text") or "") for part in parts)
    called = (part.get("arguments") or part.get("input") or "" for part in parts)
    return "".join(spoken) + "".join(x if isinstance(x, str) else json.dumps(x) for x in called)


def _conversation(request: Mapping[str, Any], answer: Mapping[str, Any]) -> str | None:
    given = request.get("conversation") or answer.get("conversation")
    return _text(_mapping(given).get("id") if isinstance(given, Mapping) else given)


def feedback_record(identifier: UUID, kind: str, **columns: Any) -> dict[str, Any]:
    """Return one feedback statement as JSON values; columns that are None are left out."""
    record: dict[str, Any] = {
        "id": str(identifier),
        "kind": kind,
        "created_at": datetime.now(UTC).isoformat(),
    }
    return record | {name: plain(value) for name, value in columns.items() if value is not None}


def derived_id(moment: datetime, *parts: str) -> UUID:
    """Return a UUIDv7 with `moment`'s milliseconds and 74 bits of a hash of `parts`.

    The same moment and parts give the same id, so writing the record again changes nothing.
    """
    milliseconds = int(moment.timestamp() * 1000)
    digest = int.from_bytes(sha256("\x1f".join(parts).encode("utf-8", "replace")).digest()[:10])
    high, low = digest >> 68 & 0xFFF, digest & ((1 << 62) - 1)
    return UUID(int=milliseconds << 80 | _VERSION_7 | high << 64 | _VARIANT | low)


def plain(value: Any) -> Any:
    """Return `value` as JSON values that PostgreSQL can keep.

    Objects with `model_dump()` become dictionaries, ids and times text, other objects their
    `str`. Characters that `jsonb` refuses (NUL, lone surrogates) become U+FFFD, and numbers that
    JSON lacks (NaN, infinities) their names, so that a strange answer is kept and not lost.
    """
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return _storable(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {_storable(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return _storable(value.decode("utf-8", "replace"))
    dump = getattr(value, "model_dump", None)
    return plain(dump()) if callable(dump) else _storable(str(value))


class AsSent(bytes):
    """A JSON object in UTF-8 as it went over the wire, to be kept without reading it again."""


def snapshot(line: Mapping[str, Any]) -> bytes:
    """Return JSON of a line as it is now, in the few microseconds that an agent's thread has.

    What `plain` cleans may still be in it; only where JSON cannot hold a value, `plain` is used.
    Values that are `AsSent` come last, as they are.

    Raises:
        RecursionError: it is nested too deeply, or circular.
    """
    sent = {name: value for name, value in line.items() if type(value) is AsSent}
    if sent:
        line = {name: value for name, value in line.items() if name not in sent}
    try:
        encoded = _encode(line).encode()
    except (ValueError, TypeError, RecursionError):
        encoded = to_json(plain(line))
    if not sent:
        return encoded
    parts = [b'"%b":%b' % (name.encode(), value) for name, value in sent.items()]
    # Between its values JSON may have newlines, which the spool's lines may not; inside none.
    return b",".join([encoded[:-1], *parts]).replace(b"\n", b" ").replace(b"\r", b" ") + b"}"


def _encodable(value: Any) -> Any:
    """Return what the JSON encoder does not know as something that it knows."""
    if isinstance(value, Mapping):
        return {str(key): item for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return list(value)
    dump = getattr(value, "model_dump", None)
    return dump() if callable(dump) else plain(value)


_encode = json.JSONEncoder(check_circular=False, separators=(",", ":"), default=_encodable).encode


def to_json(value: Any) -> bytes:
    """Return compact UTF-8 JSON without newlines.

    Raises:
        ValueError: `value` holds NaN or is circular.
        TypeError: `value` holds an object JSON lacks.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


def _storable(text: str) -> str:
    if text.isascii():
        return text.replace("\x00", "\ufffd") if "\x00" in text else text
    return (
        text.replace("\x00", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if type(value) is dict or isinstance(value, Mapping) else {}


def _text(value: Any) -> str | None:
    return str(value)[:LONGEST_NAME] if isinstance(value, str) and value else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:  # an integer of 309 digits and more
        return None
    return number if math.isfinite(number) else None


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _integer(value: Any, bits: int) -> int | None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and -(2**bits) <= value < 2**bits else None


def _count(value: Any) -> int | None:
    number = _number(value)
    return int(number) if number is not None and 0 <= number < 2**31 else None
