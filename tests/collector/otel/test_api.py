"""The OTLP door, with the real OpenTelemetry SDK and its HTTP exporter on the other side."""

import gzip
import json
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.trace import Status, StatusCode
from upstream_app import Server

from collector.ingest import ingest_counts
from foundation.ids import keyed_episode_id
from foundation.settings import get_settings

ASKED = [{"role": "user", "parts": [{"type": "text", "content": "add 2 and 3"}]}]
ANSWERED = [
    {
        "role": "assistant",
        "parts": [
            {"type": "text", "content": "calling"},
            {"type": "tool_call", "id": "c1", "name": "add", "arguments": {"a": 2, "b": 3}},
        ],
        "finish_reason": "tool_call",
    }
]
CALL = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o-mini",
    "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
    "gen_ai.response.id": "chatcmpl-1",
    "gen_ai.request.temperature": 0.5,
    "gen_ai.request.seed": 7,
    "gen_ai.response.finish_reasons": ["tool_call"],
    "gen_ai.usage.input_tokens": 12,
    "gen_ai.usage.output_tokens": 5,
    "gen_ai.response.time_to_first_chunk": 0.25,
    "gen_ai.system_instructions": json.dumps([{"type": "text", "content": "be exact"}]),
    "gen_ai.input.messages": json.dumps(ASKED),
    "gen_ai.output.messages": json.dumps(ANSWERED),
    "team": "blue",
}


def span_json(**over: Any) -> dict[str, Any]:
    return {
        "traceId": "5b8efff798038103d269b633813fc60c",
        "spanId": "eee19b7ec3c1b174",
        "name": "chat gpt-4o-mini",
        "kind": 3,
        "startTimeUnixNano": "1760000000000000000",
        "endTimeUnixNano": "1760000001500000000",
        "attributes": attributes_json({**CALL, "flywheel.role": "coder"}),
        **over,
    }


def attributes_json(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": name, "value": any_json(value)} for name, value in attributes.items()]


def any_json(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [any_json(item) for item in value]}}
    return {"stringValue": value}


def export_json(*spans: Any, resource: dict[str, Any] | None = None) -> dict[str, Any]:
    described = {"attributes": attributes_json(resource or {})}
    return {"resourceSpans": [{"resource": described, "scopeSpans": [{"spans": list(spans)}]}]}


def post(service: Server, body: Any, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"content-type": "application/json", **headers}
    url = f"{service.url}/otlp/v1/traces"
    return httpx.post(url, content=content, headers=headers, timeout=60)


def test_a_span_of_the_sdk_becomes_an_interaction(sdk, calls) -> None:
    with sdk.tracer.start_as_current_span("invoke", attributes={"gen_ai.agent.name": "x"}) as top:
        attributes = {**CALL, "gen_ai.agent.name": "coder", "gen_ai.conversation.id": "talk-1"}
        with sdk.tracer.start_as_current_span("chat", attributes=attributes) as span:
            pass
    ((row, payload),) = calls()
    assert (row.role, row.source, row.status, row.completed) == ("coder", "otlp", "success", True)
    assert row.semconv_version == "gen_ai/1.44"
    assert (row.gen_ai_provider_name, row.gen_ai_response_id) == ("openai", "chatcmpl-1")
    assert (row.gen_ai_usage_input_tokens, row.gen_ai_usage_output_tokens) == (12, 5)
    assert row.gen_ai_response_finish_reasons == ["tool_calls"]
    assert row.episode_id == keyed_episode_id("default", "talk-1")
    assert row.gen_ai_conversation_id == "talk-1"
    assert row.ttft_ms == 250
    assert row.latency_ms == pytest.approx((span.end_time - span.start_time) / 1e6)
    context = span.get_span_context()
    assert row.key == f"{context.trace_id:032x}:{context.span_id:016x}"
    assert payload.request == {
        "model": "gpt-4o-mini",
        "temperature": 0.5,
        "seed": 7,
        "messages": [
            {"role": "system", "content": "be exact"},
            {"role": "user", "content": "add 2 and 3"},
        ],
    }
    (choice,) = payload.response["choices"]
    assert choice["message"]["content"] == "calling"
    function = {"name": "add", "arguments": '{"a": 2, "b": 3}'}
    assert choice["message"]["tool_calls"] == [
        {"id": "c1", "type": "function", "function": function}
    ]
    assert payload.attributes["team"] == "blue"
    assert payload.attributes["otel"]["service_name"] == "shop"
    assert top.get_span_context().trace_id == context.trace_id


def test_json_gives_the_same_record_and_a_second_export_stores_nothing(
    service, session, calls
) -> None:
    first = post(service, export_json(span_json()))
    assert (first.status_code, first.json()) == (200, {})
    assert first.headers["content-type"] == "application/json"
    again = post(
        service, gzip.compress(json.dumps(export_json(span_json())).encode()),
        **{"content-encoding": "gzip"},
    )  # fmt: skip
    assert again.status_code == 200
    ((row, payload),) = calls()
    assert row.key == "5b8efff798038103d269b633813fc60c:eee19b7ec3c1b174"
    assert (row.latency_ms, row.role) == (1500, "coder")
    assert row.episode_id == keyed_episode_id("default", "5b8efff798038103d269b633813fc60c")
    assert payload.response["choices"][0]["finish_reason"] == "tool_calls"
    (source,) = ingest_counts(session)
    assert (source.source, source.counts) == ("otlp", {"stored": 1, "duplicate": 1})


def test_what_is_refused_is_counted_told_and_costs_nothing_else(service, session, calls) -> None:
    nobody = span_json(spanId="00000000000000a1", attributes=attributes_json(CALL))
    stranger = span_json(
        spanId="00000000000000a2",
        attributes=attributes_json({**CALL, "flywheel.role": "astronaut"}),
    )
    timeless = span_json(spanId="00000000000000a3", startTimeUnixNano="0")
    malformed = span_json(spanId="xyz")
    short = span_json(spanId="a1")
    answer = post(
        service, export_json(nobody, stranger, "no span", timeless, malformed, short, span_json())
    )
    assert answer.status_code == 200
    partial = answer.json()["partialSuccess"]
    assert partial["rejectedSpans"] == "6"
    for word in ("no_role", "invalid_time", "malformed", "invalid_id"):
        assert word in partial["errorMessage"]
    assert len(calls()) == 1


def test_role_and_project_come_from_resource_header_or_setting(service, calls, monkeypatch) -> None:
    plain = attributes_json(CALL)
    post(
        service,
        export_json(
            span_json(spanId="00000000000000b1", attributes=plain),
            resource={"flywheel.role": "tester", "flywheel.project": "shop"},
        ),
    )
    post(
        service,
        export_json(span_json(spanId="00000000000000b2", attributes=plain)),
        **{"x-flywheel-role": "reviewer", "x-flywheel-project": "bank"},
    )
    monkeypatch.setenv("FLYWHEEL_OTLP_ROLE", "researcher")
    get_settings.cache_clear()
    post(service, export_json(span_json(spanId="00000000000000b3", attributes=plain)))
    assert sorted((row.role, row.project) for row, _ in calls()) == [
        ("researcher", "default"),
        ("reviewer", "bank"),
        ("tester", "shop"),
    ]


def test_failed_and_cut_calls_keep_what_there_is(sdk, calls) -> None:
    role = {"flywheel.role": "coder"}
    refused = {name: value for name, value in CALL.items() if "output" not in name} | role
    with sdk.tracer.start_as_current_span("chat", attributes=refused) as span:
        span.set_attribute("error.type", "429")
        span.set_status(Status(StatusCode.ERROR, "slow down"))
    with pytest.raises(ConnectionError), sdk.tracer.start_as_current_span(
        "chat", attributes={**CALL, **role}
    ):  # fmt: skip
        raise ConnectionError("the stream broke")
    (failed, failed_payload), (cut, cut_payload) = calls()
    assert (failed.status, failed.error_type, failed.completed) == ("error", "429", False)
    assert failed_payload.attributes["error"] == "slow down"
    assert failed_payload.request["messages"]
    assert (cut.status, cut.error_type, cut.completed) == ("cut", "ConnectionError", False)
    assert cut_payload.response["choices"][0]["message"]["content"] == "calling"


def test_nested_calls_know_their_parent_and_inherit_the_agents_role(
    service, session, calls
) -> None:
    agent = span_json(
        spanId="00000000000000c1",
        attributes=attributes_json(
            {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "tester"}
        ),
    )
    outer = span_json(
        spanId="00000000000000c2",
        parentSpanId="00000000000000c1",
        attributes=attributes_json(CALL),
    )
    inner = span_json(
        spanId="00000000000000c3",
        parentSpanId="00000000000000c2",
        startTimeUnixNano="1760000000100000000",
        attributes=attributes_json(CALL),
    )
    embedding = span_json(
        spanId="00000000000000c4",
        attributes=attributes_json({"gen_ai.operation.name": "embeddings"}),
    )
    web = span_json(spanId="00000000000000c5", attributes=attributes_json({"http.method": "GET"}))
    assert post(service, export_json(inner, outer, agent, embedding, web)).json() == {}
    (above, _), (below, _) = calls()
    assert (above.role, below.role) == ("tester", "tester")
    assert (above.parent_id, below.parent_id) == (None, above.id)
    assert above.episode_id == below.episode_id
    (source,) = ingest_counts(session)
    assert source.counts == {"stored": 2, "dropped:embeddings": 1}


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"\xff\xff", {"content-type": "application/x-protobuf"}, 400),
        (b"{", {}, 400),
        (b"[]", {}, 400),
        (b"[" * 100_000, {}, 400),
        (b"{}", {"content-type": "text/plain"}, 415),
        (b"{}", {"content-encoding": "br"}, 415),
        (b"{}", {"content-encoding": "gzip"}, 400),
        (gzip.compress(b"{}", mtime=0)[:-4], {"content-encoding": "gzip"}, 400),
        (gzip.compress(b" " * 20_000 + b"{}", mtime=0), {"content-encoding": "gzip"}, 413),
        (b" " * 20_000 + b"{}", {}, 413),
    ],
)
def test_what_cannot_be_read_is_refused_in_the_requests_encoding(
    service, monkeypatch, body, headers, status
) -> None:
    monkeypatch.setenv("FLYWHEEL_MAX_BATCH_BYTES", "10000")
    get_settings.cache_clear()
    if len(body) >= 100_000:
        monkeypatch.delenv("FLYWHEEL_MAX_BATCH_BYTES")
        get_settings.cache_clear()
    answer = post(service, body, **headers)
    assert answer.status_code == status
    if answer.headers["content-type"] == "application/json":
        assert answer.json()["message"]
    else:
        assert answer.headers["content-type"] == "application/x-protobuf"
        assert answer.content


def test_an_empty_export_is_fine_in_protobuf(service) -> None:
    answer = post(service, b"", **{"content-type": "application/x-protobuf"})
    assert answer.status_code == 200
    assert not ExportTraceServiceResponse.FromString(answer.content).HasField("partial_success")
