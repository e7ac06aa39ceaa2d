"""Spans of real agent frameworks, as Langfuse stored them, against the messages it read of them.

Langfuse moves content out of a span's attributes into `input` and `output`; here it is put back
under the name that the framework gave it.
"""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from collector.otel.messages import decoded
from collector.otel.read import Defaults, read_spans
from collector.otel.wire import Span

CONTENT = {
    "google-adk-2025-08-28": (None, None),
    "koog-2025-08-26": (None, None),
    "crewai-2025-07-11": (None, None),
    "microsoft-agent-2025-12-17": ("gen_ai.input.messages", "gen_ai.output.messages"),
    "pydantic-ai-2025-06-06": (None, None),
    "pydantic-ai-tools-2025-12-04": ("gen_ai.input.messages", "gen_ai.output.messages"),
    "vercel-aisdk-2025-11-17": ("ai.prompt.messages", "ai.response.toolCalls"),
}
"""Attributes that Langfuse took away, by framework: what was asked and answered."""

LAYOUT = {
    "google-adk-2025-08-28": "openinference/1",
    "koog-2025-08-26": "openllmetry/0.4",
    "crewai-2025-07-11": "openinference/1",
    "microsoft-agent-2025-12-17": "gen_ai/1.37",
    "pydantic-ai-2025-06-06": "gen_ai/1.28",
    "pydantic-ai-tools-2025-12-04": "gen_ai/1.37",
    "vercel-aisdk-2025-11-17": "ai-sdk/5",
}
CALLS = {
    "google-adk-2025-08-28": 2,
    "koog-2025-08-26": 2,
    "crewai-2025-07-11": 1,
    "microsoft-agent-2025-12-17": 2,
    "pydantic-ai-2025-06-06": 1,
    "pydantic-ai-tools-2025-12-04": 4,
    "vercel-aisdk-2025-11-17": 1,
}

READ_OTHERWISE = {"koog-2025-08-26", "google-adk-2025-08-28"}
"""Langfuse leaves the one's tool calls as text and calls the other's tool results a user's."""

ROLES = {"model": "assistant"}


def spans_of(trace: dict[str, Any], framework: str) -> Iterator[Span]:
    asked, answered = CONTENT[framework]
    for row in trace["observations"]:
        metadata = decoded(row["metadata"])
        attributes = dict(decoded(metadata.get("attributes")) or {})
        if asked and row["type"] == "GENERATION":
            given = {asked: decoded(row["input"]), answered: decoded(row["output"])}
            attributes |= {name: json.dumps(value) for name, value in given.items()}
        yield Span(
            trace_id=row["traceId"],
            span_id=row["id"],
            parent_span_id=row["parentObservationId"] or "",
            name=row["name"],
            started_ns=nanoseconds(row["startTime"]),
            ended_ns=nanoseconds(row["endTime"]),
            attributes={name: as_attribute(value) for name, value in attributes.items()},
            events=(),
            failed=False,
            status_message="",
            resource={},
            scope=str((metadata.get("scope") or {}).get("name")),
        )


def as_attribute(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict) else value


def nanoseconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000) * 1_000_000


def essence(message: dict[str, Any]) -> tuple[str, str, list[str]]:
    """Role, text without blanks, and the names of the tools called."""
    content = message.get("content")
    parts = content if isinstance(content, list) else [content]
    text = "".join(p.get("text", "") if isinstance(p, dict) else str(p or "") for p in parts)
    names = [
        call.get("name") or call["function"]["name"] for call in message.get("tool_calls") or []
    ]
    role = str(message.get("role", "assistant"))
    return ROLES.get(role, role), "".join(text.split()), names


@pytest.mark.data
@pytest.mark.parametrize("framework", CONTENT)
def test_real_spans_give_the_messages_that_langfuse_reads(
    public_data: Path, framework: str
) -> None:
    folder = public_data / "traces_langfuse"
    if not folder.is_dir():
        pytest.skip("no traces_langfuse among the public data")
    trace = json.loads((folder / f"{framework}.trace.json").read_text())
    expected = json.loads((folder / f"{framework}.chatml.json").read_text())
    spans = list(spans_of(trace, framework))
    reading = read_spans(spans, Defaults(frozenset({"coder"}), role="coder"))
    assert reading.faults == []
    assert len(reading.interactions) == CALLS[framework]
    assert {r["semconv_version"] for r in reading.interactions} == {LAYOUT[framework]}
    for record in reading.interactions:
        assert record["gen_ai_usage_input_tokens"] > 0
        assert record["latency_ms"] > 0
        assert record["response"]["choices"]
        said = expected.get(record["attributes"]["otel"]["span_id"], {})
        if (said.get("input") or {}).get("success") and framework not in READ_OTHERWISE:
            given = [essence(m) for m in said["input"]["data"]]
            assert [essence(m) for m in record["request"]["messages"]] == given
