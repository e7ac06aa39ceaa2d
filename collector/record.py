"""The wire record as a plain dictionary: built here by the client, the gateway and the importers.

No pydantic: this module runs inside other people's agents. `collector.schemas` states the same
shapes for the server, which checks them.
"""

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

CLIENT_VERSION = "0.1.0"

SUCCESS, ERROR, CUT = "success", "error", "cut"

FEEDBACK_KINDS = ("rating", "success", "metric", "category", "comment", "correction", "preference")
FEEDBACK_SOURCES = ("human", "test", "judge", "user", "role")

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
    asked, answered = plain(request), plain(response) if response is not None else None
    record: dict[str, Any] = {
        "id": str(identifier),
        "role": role,
        "started_at": (started_at or datetime.now(UTC)).isoformat(),
        "client_version": CLIENT_VERSION,
        **flat_columns(asked, answered),
    }
    record |= {name: plain(value) for name, value in columns.items() if value is not None}
    record |= {"request": asked, "response": answered}
    return record


def flat_columns(request: Mapping[str, Any], response: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the `gen_ai_*` columns that an OpenAI-shaped request and response carry."""
    answer = response or {}
    usage = _mapping(answer.get("usage"))
    choices = answer.get("choices")
    reasons = [
        str(choice["finish_reason"])
        for choice in (choices if isinstance(choices, list) else [])
        if isinstance(choice, Mapping) and choice.get("finish_reason")
    ]
    columns = {
        "gen_ai_request_model": _text(request.get("model")),
        "gen_ai_request_temperature": _number(request.get("temperature")),
        "gen_ai_request_max_tokens": _count(
            request.get("max_completion_tokens") or request.get("max_tokens")
        ),
        "gen_ai_response_model": _text(answer.get("model")),
        "gen_ai_response_id": _text(answer.get("id")),
        "gen_ai_response_finish_reasons": reasons or None,
        "gen_ai_usage_input_tokens": _count(usage.get("prompt_tokens", usage.get("input_tokens"))),
        "gen_ai_usage_output_tokens": _count(
            usage.get("completion_tokens", usage.get("output_tokens"))
        ),
    }
    return {name: value for name, value in columns.items() if value is not None}


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
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str | None:
    return str(value) if isinstance(value, str) and value else None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _count(value: Any) -> int | None:
    number = _number(value)
    return int(number) if number is not None and 0 <= number < 2**31 else None
