"""One trace from an agent through gateway and service to the worker; reports; lines of the log.

The receivers are real HTTP servers that parse OTLP's protobuf and Sentry's envelopes.
"""

import gzip
import json
import logging
import sys
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from sqlmodel import Session, select
from upstream_app import Server, create_upstream_app

from collector.client import Flywheel
from collector.tables import InteractionPayload
from flywheel.app import create_app
from foundation import error_reports, log_ids, logs, runs, trace_context, tracing
from foundation.database import session_scope
from foundation.errors import MissingExtra
from foundation.settings import get_settings
from foundation.tables import FAILED, Run
from router.gateway import create_gateway_app
from router.promote import initial
from trainer.tables import ModelVersion


@contextmanager
def receiver() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """Run an HTTP server that keeps what it is sent; its address and the bodies by path."""
    got: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            encoding = self.headers.get("Content-Encoding")
            if encoding == "gzip":
                body = gzip.decompress(body)
            elif encoding == "deflate":
                body = zlib.decompress(body)
            got.append((self.path, body))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", got
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def spans_of(got: list[tuple[str, bytes]]) -> list[Any]:
    found = []
    for path, body in got:
        assert path == "/v1/traces"
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            found += [span for scope in resource.scope_spans for span in scope.spans]
    return found


def attributes(span: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch, settings: object) -> Iterator[list[tuple[str, bytes]]]:
    with receiver() as (url, got):
        monkeypatch.setenv("FLYWHEEL_OTLP_ENDPOINT", url)
        get_settings.cache_clear()
        assert tracing.configure("test")
        yield got
        tracing.stop()


@runs.job("test.traced")
def _traced(run: runs.RunHandle) -> dict[str, Any]:
    return {"traceparent": trace_context.traceparent()}


def test_one_trace_leads_from_the_agent_to_the_job(
    session: Session, traced: list[tuple[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    version = ModelVersion(
        role="coder", number=1, name="m", kind="external", base_model="m", stage="candidate"
    )
    session.add(version)
    session.flush()
    initial(session, "coder", version, reason="test", actor="test")
    session.commit()
    with Server(create_upstream_app()) as provider:
        upstream = {"base_url": f"{provider.url}/v1", "models": ["m"]}
        monkeypatch.setenv("FLYWHEEL_UPSTREAMS", json.dumps({"provider": upstream}))
        get_settings.cache_clear()
        with Server(create_gateway_app()) as gateway, Server(create_app()) as service:
            client = Flywheel(role="coder")
            with tracing.span("agent") as _:
                (told,) = [trace_context.ids()]
                answer = client.completion(
                    messages=[{"role": "user", "content": "say SECRETWORD"}],
                    base_url=f"{gateway.url}/v1",
                )
                header = {"traceparent": trace_context.traceparent() or ""}
            ready = httpx.get(f"{gateway.url}/readyz")
            counted = httpx.get(f"{gateway.url}/metrics").text
            httpx.get(f"{service.url}/v1/model-versions", headers=header)
            client.close()
        sent = dict(provider.app.state.seen[0][0])
    with tracing.span("order", parent=header["traceparent"]), session_scope() as own:
        run = runs.enqueue(own, "test.traced")
    done = runs.execute(run.id)
    assert done is not None
    assert done.result is not None
    tracing.flush()
    found = spans_of(traced)
    names = {span.name for span in found if span.trace_id.hex() == told["trace_id"]}
    assert {"agent", "gateway chat", "gateway try", "service api", "run test.traced"} <= names
    by_id = {span.span_id: span for span in found}

    def above(name: str) -> str:
        (one,) = [span for span in found if span.name == name]
        return by_id[one.parent_span_id].name

    assert above("gateway chat") == "agent"
    assert above("gateway try") == "gateway chat"
    assert above("run test.traced") == "order"
    (called,) = [attributes(span) for span in found if span.name == "gateway chat"]
    assert called["gen_ai.provider.name"] == "provider"
    assert called["gen_ai.usage.output_tokens"] == 3
    assert called["flywheel.interaction_id"] == str(answer.interaction_id)
    assert sent["traceparent"].split("-")[1] == told["trace_id"]
    assert done.result["traceparent"].split("-")[1] == told["trace_id"]
    assert b"SECRETWORD" not in b"".join(body for _, body in traced)
    session.expire_all()
    (payload,) = session.exec(select(InteractionPayload)).all()
    assert payload.attributes is not None
    assert payload.attributes["trace_id"] == told["trace_id"]
    assert ready.json() == {"status": "ready"}
    assert 'flywheel_gateway_tokens_total{direction="output",role="coder"}' in counted


def test_nothing_is_traced_or_reported_unless_it_is_asked_for(
    settings: object, monkeypatch
) -> None:
    assert not tracing.configure("test")
    assert not error_reports.configure("test")
    with tracing.span("x", "server", "00-" + "1" * 32 + "-" + "2" * 16 + "-01") as span:
        span.say(a=1)
        assert trace_context.traceparent() is None
    monkeypatch.setenv("FLYWHEEL_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    get_settings.cache_clear()
    with pytest.raises(MissingExtra, match="observe"):
        tracing.configure("test")


@runs.job("test.broken")
def _broken(run: runs.RunHandle) -> None:
    prompt = "LOCALVALUE"
    raise RuntimeError(f"cannot reach postgresql://me:hunter22@db/x{prompt[:0]}")


def test_a_failed_job_and_a_broken_request_are_reported_without_secrets(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sentry_sdk

    app = create_app()

    @app.get("/v1/broken")
    def broken() -> None:
        secret = "LOCALVALUE"
        raise ValueError(f"Bearer abcdefgh12345678{secret[:0]}")

    with receiver() as (url, got):
        monkeypatch.setenv("FLYWHEEL_SENTRY_DSN", url.replace("://", "://key@") + "/1")
        get_settings.cache_clear()
        assert error_reports.configure("test")
        try:
            with session_scope() as own:
                run = runs.enqueue(own, "test.broken")
            failed = runs.execute(run.id)
            with Server(app) as service:
                assert httpx.get(f"{service.url}/v1/broken?token=QUERYVALUE99").status_code == 500
            sentry_sdk.flush(60)
        finally:
            sentry_sdk.get_client().close()
            sentry_sdk.get_global_scope().set_client(None)
    assert isinstance(failed, Run)
    assert failed.status == FAILED
    events = []
    for _, body in got:
        for line in body.splitlines():
            one = json.loads(line)
            if "exception" in one:
                events.append(one)
    kinds = {one["exception"]["values"][-1]["type"]: one for one in events}
    assert set(kinds) == {"RuntimeError", "ValueError"}
    assert kinds["RuntimeError"]["tags"]["run_id"] == str(run.id)
    assert kinds["RuntimeError"]["exception"]["values"][-1]["value"].endswith("me:***@db/x")
    everything = json.dumps(events)
    for hidden in ("hunter22", "abcdefgh12345678", "LOCALVALUE", "QUERYVALUE99", '"vars"'):
        assert hidden not in everything, hidden


def test_lines_are_json_with_ids_and_without_secrets(
    settings: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLYWHEEL_API_KEY", "key-of-the-service")
    get_settings.cache_clear()
    lines = logs.JsonLines("worker")
    log = logging.getLogger("test.lines")
    with log_ids.binding(run_id="r1", role="coder"):
        try:
            raise RuntimeError("password=hunter2hunter")
        except RuntimeError:
            record = log.makeRecord(
                log.name, 40, "f", 1, "asked with %s", ("key-of-the-service",), sys.exc_info(),
                extra={"url": "amqp://u:pass@h//", "n": 3},
            )  # fmt: skip
        said = json.loads(lines.format(record))
    assert said["message"] == "asked with ***"
    assert (said["run_id"], said["role"], said["n"], said["service"]) == (
        "r1",
        "coder",
        3,
        "worker",
    )
    assert said["url"] == "amqp://u:***@h//"
    assert "hunter2" not in said["exception"]
    assert said["level"] == "ERROR"
    assert "run_id=r1" not in logs.TextLines("worker").format(record)


@pytest.mark.parametrize(
    ("wanted", "status", "n"),
    [("none", 500, 0), ("failures", 200, 0), ("failures", 404, 1), ("all", 200, 1)],
)
def test_requests_that_are_asked_for_get_a_line(
    settings, monkeypatch, caplog, wanted, status, n
) -> None:
    monkeypatch.setenv("FLYWHEEL_ACCESS_LOG", wanted)
    get_settings.cache_clear()
    with caplog.at_level(logging.INFO, "flywheel.access"):
        logs.write_access("GET", "/v1/x", status, 12.34)
    assert [(r.status, r.latency_ms) for r in caplog.records] == [(status, 12.3)] * n
