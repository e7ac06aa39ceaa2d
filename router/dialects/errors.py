"""Errors as OpenAI's and Anthropic's APIs word them, and those of upstreams read.

https://platform.openai.com/docs/guides/error-codes and
https://docs.anthropic.com/en/api/errors, by which their clients choose the exception they raise.
"""

import json
from typing import Any, NamedTuple

from collector.shapes import Json

_ANTHROPIC_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_LONGEST_TEXT = 500
_LONGEST_KIND = 100


class UpstreamError(NamedTuple):
    """What an upstream says went wrong: its words, its kind for the record, and its own object."""

    message: str
    kind: str
    given: Json


def openai_error(message: str, kind: str, code: str | None, status: int) -> Json:
    """Return an error in OpenAI's shape; its clients look at the status alone."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def anthropic_error(message: str, kind: str, code: str | None, status: int) -> Json:
    """Return an error in Anthropic's shape, its `type` one of theirs; `code` stays as ours."""
    known = _ANTHROPIC_KINDS.get(status)
    word = known or ("invalid_request_error" if status < 500 else "api_error")
    error = {"type": word, "message": message}
    return {"type": "error", "error": error | ({"code": code} if code else {})}


def read_error(status: int, body: bytes) -> UpstreamError:
    """Read an upstream's refusal, of whatever shape; one without a word is given some."""
    found = _error_in(body)
    if isinstance(found, dict):
        kind = str(found.get("code") or found.get("type") or f"http_{status}")[:_LONGEST_KIND]
        message = str(found.get("message") or f"the upstream answered {status}: {kind}")
        return UpstreamError(message, kind, found)
    text = found if isinstance(found, str) else body[:_LONGEST_TEXT].decode("utf-8", "replace")
    message = text.strip() or f"the upstream answered {status} without a word"
    kind = "upstream_error" if status >= 500 else "invalid_request_error"
    given = openai_error(message, kind, f"http_{status}", status)["error"]
    return UpstreamError(message, f"http_{status}", given)


def _error_in(body: bytes) -> Any:
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return values.get("error") if isinstance(values, dict) else None
