"""Attempts and what is said of them, for the tests of scoring."""

from datetime import UTC, datetime, timedelta
from typing import Any

from curation.score.outcome import Attempt, Statement

START = datetime(2026, 1, 1, tzinfo=UTC)


def said(
    kind: str, value: float | None = None, *, source: str = "test", at: int = 0, **rest: Any
) -> Statement:
    fields = {"text": None, "actor": None, "name": None, "direct": True, **rest}
    return Statement(
        kind=kind, value=value, source=source, said_at=START + timedelta(seconds=at), **fields
    )


def reviewed(name: str, value: float, **rest: Any) -> Statement:
    return said("review", value, source="human", name=name, **rest)


def attempt(answer: str = "It is fine now.", **rest: Any) -> Attempt:
    fields = {"status": "success", "completed": True, "finish_reason": "stop", **rest}
    return Attempt(prompt_text=fields.pop("prompt_text", "do it"), answer=answer, **fields)


def tool_attempt(arguments: str = '{"path": "a.py"}', **rest: Any) -> Attempt:
    call = {"id": "1", "type": "function", "function": {"name": "read", "arguments": arguments}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    return attempt("", n_tool_calls=1, message=message, finish_reason="tool_calls", **rest)
