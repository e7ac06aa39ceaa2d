"""How a call behaved beside whether it worked: refusals, tool calls that nobody can run. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from foundation.chat import tool_calls

FILTERED = "content_filter"
"""Finish reason of an answer that its provider held back."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What an answer did."""

    refused: bool = False
    tool_calls: int = 0
    bad_tool_calls: int = 0


def behaviour_of(request: Mapping[str, Any], response: Mapping[str, Any] | None) -> Behaviour:
    """Return how an answer in the shape of a chat behaved.

    A refusal is one that says so by the API (`refusal`, or the finish reason `content_filter`);
    words of regret in a text are not looked for. A tool call is bad if its tool was not offered, or
    its arguments are no JSON object.
    """
    if not response:
        return Behaviour()
    choices = [one for one in response.get("choices") or () if isinstance(one, Mapping)]
    refused = any(
        one.get("finish_reason") == FILTERED or (one.get("message") or {}).get("refusal")
        for one in choices
    )
    functions = [call["function"] for call in tool_calls(dict(response)) if call.get("function")]
    offered = _names(request)
    bad = sum(one.get("name") not in offered or not _is_object(one) for one in functions)
    return Behaviour(refused, len(functions), bad)


def _names(request: Mapping[str, Any]) -> set[Any]:
    tools = [one for one in request.get("tools") or () if isinstance(one, Mapping)]
    return {(one.get("function") or {}).get("name") for one in tools}


def _is_object(function: Mapping[str, Any]) -> bool:
    try:
        return isinstance(json.loads(function.get("arguments") or "{}"), dict)
    except (ValueError, TypeError, RecursionError):
        return False
