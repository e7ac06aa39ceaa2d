"""The log sent on: to our own endpoint of another database, and to one that fails."""

import gzip
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import psycopg
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from sqlalchemy import text
from sqlmodel import Session, select
from typer.testing import CliRunner

from collector.ingest import store_batch
from collector.otel import export as exporting
from collector.otel.export import Exporter, ExportRefused, pause_s
from collector.record import feedback_record, interaction_record
from collector.schemas import IngestBatch
from collector.tables import Feedback, Interaction, InteractionPayload, OtelExport
from flywheel.cli import app
from flywheel.processes import free_port
from flywheel.schema import upgrade
from foundation.database import connect, session_scope
from foundation.ids import new_id

CALL: dict[str, Any] = {
    "model": "gpt-x",
    "temperature": 0.5,
    "stop": "END",
    "top_k": 3,
    "messages": [
        {"role": "system", "content": "be exact"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "add", "arguments": '{"a":1,  "ü": [2]}'},
                }
            ],
        },
        {"role": "tool", "content": '{"n": 5}', "tool_call_id": "c1"},
    ],
    "tools": [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}],
}
ANSWER: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-x-1",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "5",
                "reasoning_content": "2 + 3",
                "tool_calls": [
                    {
                        "id": "c2",
                        "type": "function",
                        "function": {"name": "say", "arguments": '{"n": 5}'},
                    }
                ],
            },
            "finish_reason": "tool_calls",
        }
    ],
    "usage": {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17},
}


def put(*records: dict[str, Any], feedback: tuple[dict[str, Any], ...] = ()) -> None:
    batch = IngestBatch(source="test", interactions=list(records), feedback=list(feedback))
    with session_scope() as session:
        results = store_batch(session, batch)
    assert {result.status for result in results} == {"stored"}, results


def call(**columns: Any) -> dict[str, Any]:
    return interaction_record(new_id(), "coder", CALL, ANSWER, latency_ms=1500.0, **columns)


class Backend:
    """An OTLP backend that notes spans, and answers as it is told to."""

    def __init__(self) -> None:
        self.answers: list[httpx.Response] = []
        self.spans: list[Any] = []
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if self.answers:
            return self.answers.pop(0)
        if request.url.path.endswith("/traces"):
            asked = ExportTraceServiceRequest.FromString(gzip.decompress(request.read()))
            self.spans += asked.resource_spans[0].scope_spans[0].spans
        return httpx.Response(200)


@pytest.fixture
def backend() -> Backend:
    return Backend()


def exporter(backend: Backend, **over: Any) -> Exporter:
    waits: list[float] = []
    client = httpx.Client(transport=httpx.MockTransport(backend))
    made = Exporter("http://backend", client=client, wait=waits.append, **over)
    made.waits = waits  # type: ignore[attr-defined]
    return made


@pytest.fixture
def elsewhere(database: str, tmp_path: Path) -> Iterator[SimpleNamespace]:
    """Another flywheel in a process of its own, with another database of the same server."""
    name = f"flywheel_test_{uuid.uuid4().hex[:12]}"
    head, _, query = database.partition("?")
    url = f"{head.rsplit('/', 1)[0]}/{name}" + (f"?{query}" if query else "")
    with psycopg.connect(database, autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{name}"')
    engine = connect(url)
    upgrade(engine)
    env = os.environ | {"FLYWHEEL_DATABASE_URL": url, "FLYWHEEL_HOME": str(tmp_path / "other")}
    port = free_port()
    command = [sys.executable, "-m", "flywheel", "serve", "--port", str(port), "--json"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as serving:
        assert serving.stdout is not None
        assert json.loads(serving.stdout.readline())
        eventually_answers(f"http://127.0.0.1:{port}/healthz")
        yield SimpleNamespace(url=f"http://127.0.0.1:{port}", engine=engine)
        serving.terminate()
    engine.dispose()
    with psycopg.connect(database, autocommit=True) as server:
        server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def eventually_answers(url: str, limit_s: float = 60.0) -> None:
    deadline = time.monotonic() + limit_s
    while True:
        try:
            httpx.get(url).raise_for_status()
            return
        except httpx.TransportError:
            assert time.monotonic() < deadline, f"{url} does not answer"
            time.sleep(0.05)


def rows(session: Session, table: Any) -> dict[uuid.UUID, dict[str, Any]]:
    session.rollback()
    session.expire_all()
    return {row.id: row.model_dump() for row in session.exec(select(table))}


def test_the_log_arrives_whole_in_another_flywheel(session, elsewhere) -> None:
    first = call(episode_id=new_id(), task_type="sum", ttft_ms=250.0, cost_usd=0.25, key="k-1")
    second = call(
        parent_id=first["id"], status="cut", completed=False, error_type="Gone", arm="control"
    )
    failed = interaction_record(
        new_id(), "tester", CALL, None, status="error", completed=False, error_type="429"
    )
    said = (
        feedback_record(new_id(), "metric", interaction_id=first["id"], name="speed", value=3.5),
        feedback_record(new_id(), "rating", interaction_id=first["id"], value=4, source="user"),
        feedback_record(new_id(), "success", episode_id=first["episode_id"], value=1.0),
        feedback_record(new_id(), "category", interaction_id=first["id"], name="tone", text="ok"),
        feedback_record(new_id(), "comment", interaction_id=second["id"], text="fine", actor="ada"),
        feedback_record(new_id(), "correction", interaction_id=second["id"], text="better"),
        feedback_record(
            new_id(),
            "preference",
            interaction_id=first["id"],
            loser_interaction_id=second["id"],
            source="judge",
        ),
    )
    put(first, second, failed, feedback=said)
    with httpx.Client(timeout=30) as client:
        done = Exporter(f"{elsewhere.url}/otlp", content=True, client=client).export()
    assert (done.interactions, done.feedback, done.rejected) == (3, 7, 0), done.message
    with Session(elsewhere.engine) as there:
        for table, differing in (
            (Interaction, DIFFERING),
            (InteractionPayload, {"attributes", "response", "request"}),
            (Feedback, {"ingested_at", "written_xid", "project", "details"}),
        ):
            here, other = rows(session, table), rows(there, table)
            assert here.keys() == other.keys()
            for identifier, row in here.items():
                both = ({**row}, other[identifier])
                for name in differing:
                    both[0].pop(name, None), both[1].pop(name, None)
                assert both[0] == both[1]
        for identifier, payload in rows(session, InteractionPayload).items():
            got = rows(there, InteractionPayload)[identifier]
            assert got["request"]["messages"] == payload["request"]["messages"]
            assert got["request"]["tools"] == CALL["tools"]
            assert (got["request"]["stop"], got["request"]["top_k"]) == (["END"], 3)
            choices = (payload["response"] or {}).get("choices")
            assert (got["response"] or {}).get("choices") == choices
    with httpx.Client(timeout=30) as client:
        again = Exporter(f"{elsewhere.url}/otlp", content=True, client=client)
        again.export(datetime(2000, 1, 1, tzinfo=UTC))
    assert again.done.interactions == 3
    with Session(elsewhere.engine) as there:
        assert len(rows(there, Interaction)) == 3
        assert len(rows(there, Feedback)) == 7


DIFFERING = {
    "written_xid",
    "source",
    "semconv_version",
    "client_version",
    "ingested_at",
    "key",
    "scrub",
}
"""What says how a record came, not what it is."""


def test_without_being_asked_no_content_leaves(session, backend) -> None:
    record = call()
    comment = feedback_record(new_id(), "comment", interaction_id=record["id"], text="be exact")
    rated = feedback_record(new_id(), "rating", interaction_id=record["id"], value=4)
    put(record, feedback=(comment, rated))
    done = exporter(backend).export()
    assert (done.interactions, done.feedback, done.left_out) == (1, 1, 1)
    sent = b"".join(gzip.decompress(request.read()) for request in backend.requests)
    assert b"gpt-x" in sent
    for content in (b"be exact", b"look", b"add", b"2 + 3"):
        assert content not in sent


def test_what_was_sent_is_not_sent_again(session, backend) -> None:
    put(call(), call())
    assert exporter(backend).export().interactions == 2
    assert exporter(backend).export().interactions == 0
    put(call())
    assert exporter(backend).export().interactions == 1
    assert len({span.span_id for span in backend.spans}) == len(backend.spans) == 3
    session.rollback()
    marks = {row.endpoint: row.n_exported for row in session.exec(select(OtelExport))}
    assert marks == {"http://backend/v1/traces": 3, "http://backend/v1/logs": 0}


def test_a_record_that_commits_late_is_sent(session, backend) -> None:
    late = interaction_record(new_id(), "coder", {"model": "m", "messages": []}, None)
    with session_scope() as slow:
        store_batch(slow, IngestBatch(source="slow", interactions=[late]))
        put(call())
        assert exporter(backend).export().interactions == 1
    assert exporter(backend).export().interactions == 1
    assert exporter(backend).export().interactions == 0


def test_the_mark_moves_on_and_forgets_what_has_settled(session, backend, monkeypatch) -> None:
    monkeypatch.setattr(exporting, "MOST_ROWS", 2)
    # an old transaction of somebody else in this database would hold the mark back
    monkeypatch.setattr(exporting, "_horizon", lambda: datetime.now(UTC) - exporting.SETTLE)
    put(*(call() for _ in range(5)))
    assert exporter(backend).export().interactions == 5
    session.execute(text("UPDATE interaction SET ingested_at = ingested_at - interval '1 hour'"))
    session.commit()
    assert exporter(backend).export().interactions == 0
    session.rollback()
    mark = session.get_one(OtelExport, "http://backend/v1/traces")
    assert mark.unsettled == []
    assert mark.exported_until > datetime.now(UTC) - timedelta(minutes=5)


def test_a_settled_backlog_is_sent_in_order_and_resumed(session, backend, monkeypatch) -> None:
    monkeypatch.setattr(exporting, "MOST_ROWS", 2)
    put(*(call() for _ in range(5)))
    session.execute(text("UPDATE interaction SET ingested_at = ingested_at - interval '1 hour'"))
    session.commit()
    backend.answers = [httpx.Response(200), httpx.Response(400, text="no")]
    with pytest.raises(ExportRefused, match="400"):
        exporter(backend).export()
    assert exporter(backend).export().interactions == 3
    assert len(backend.spans) == 3


def test_busy_backends_are_tried_again(session, backend) -> None:
    put(call())
    backend.answers = [httpx.Response(503), httpx.Response(429, headers={"retry-after": "7"})]
    sending = exporter(backend)
    assert sending.export().interactions == 1
    assert sending.waits[1] == 7
    assert len(backend.requests) == 3


def test_a_backend_that_stays_away_is_said_so(session, backend) -> None:
    put(call())
    backend.answers = [httpx.Response(503)] * exporting.TRIES
    sending = exporter(backend)
    with pytest.raises(ExportRefused, match="answered 503"):
        sending.export()
    assert len(sending.waits) == exporting.TRIES - 1
    assert exporter(backend).export().interactions == 1


def test_what_the_backend_rejects_is_counted(session, backend) -> None:
    put(call())
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = 1
    answer.partial_success.error_message = "too old"
    backend.answers = [httpx.Response(200, content=answer.SerializeToString())]
    done = exporter(backend).export()
    assert (done.rejected, done.message) == (1, "too old")


def test_pauses_double_within_bounds() -> None:
    for attempt in range(12):
        longest = min(exporting.FIRST_WAIT_S * 2**attempt, exporting.LONGEST_WAIT_S)
        assert longest / 2 <= pause_s(attempt, None) <= longest
    assert pause_s(0, "9") == 9
    assert pause_s(0, "86400") == exporting.LONGEST_WAIT_S
    assert pause_s(0, "Wed, 21 Oct 2026 07:28:00 GMT") <= exporting.FIRST_WAIT_S


def test_the_command_exports_and_says_how_much(session, service) -> None:
    put(call())
    run = CliRunner().invoke(
        app, ["otel", "export", "--endpoint", f"{service.url}/otlp", "--content", "--json"]
    )
    assert run.exit_code == 0, run.output
    done = json.loads(run.stdout)
    assert (done["interactions"], done["rejected"]) == (1, 0)
    wrong = CliRunner().invoke(app, ["otel", "export", "--endpoint", "http://x", "--header", "y"])
    assert "name=value" in str(wrong.exception)
