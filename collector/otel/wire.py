"""OTLP over HTTP: export requests in protobuf or JSON, and the answers in the encoding asked in.

Follows the OTLP specification 1.x, "OTLP/HTTP" and "JSON Protobuf Encoding": ids are hexadecimal
there, not base64 as protobuf's own JSON has them. In JSON each span is read on its own, so a
malformed one costs no other.
"""

import base64
import binascii
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage
from opentelemetry.proto.trace.v1.trace_pb2 import Status

PROTOBUF, JSON = "application/x-protobuf", "application/json"


class Refused(Exception):
    """A request that cannot be read at all, with the HTTP status that says why."""

    def __init__(self, status: int, message: str) -> None:
        self.status, self.message = status, message
        super().__init__(message)


@dataclass(frozen=True)
class Event:
    """A moment inside a span, or a log record: a name, attributes, and a body if it has one."""

    name: str
    time_ns: int
    attributes: dict[str, Any]
    body: Any = None
    trace_id: str = ""
    span_id: str = ""
    resource: Mapping[str, Any] = field(default_factory=dict)
    scope: str = ""


@dataclass(frozen=True)
class Span:
    """A span with its resource; ids in hexadecimal, times in nanoseconds since 1970."""

    trace_id: str
    span_id: str
    parent_span_id: str
    name: str
    started_ns: int
    ended_ns: int
    attributes: dict[str, Any]
    events: tuple[Event, ...]
    failed: bool
    status_message: str
    resource: Mapping[str, Any]
    scope: str


@dataclass
class Spans:
    """The spans of a request, and why others in it could not be read."""

    spans: list[Span] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


@dataclass
class Events:
    """The events among the log records of a request, and why others could not be read."""

    events: list[Event] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def inflated(body: bytes, encoding: str | None, limit: int) -> bytes:
    """Return the body of a request, decompressed; at most `limit` bytes of it.

    Raises:
        Refused: 415 for a content encoding other than gzip, 413 for more bytes, 400 for garbage.
    """
    if encoding in (None, "", "identity"):
        return body
    if encoding != "gzip":
        raise Refused(415, f"content encoding {encoding!r}, expected gzip or none")
    inflater = zlib.decompressobj(wbits=31)
    try:
        text = inflater.decompress(body, limit + 1)
    except zlib.error as error:
        raise Refused(400, f"the body is no gzip ({error})") from None
    if len(text) > limit:
        raise Refused(413, f"the body inflates to more than the limit of {limit} bytes")
    if not inflater.eof:
        raise Refused(400, "the gzip body ends too early")
    return text


def encoding_of(content_type: str | None) -> str:
    """Return the media type of a request's encoding.

    Raises:
        Refused: it is neither protobuf nor JSON.
    """
    media_type = (content_type or "").partition(";")[0].strip().lower()
    if media_type not in (PROTOBUF, JSON):
        raise Refused(415, f"content type {media_type!r}, expected {PROTOBUF} or {JSON}")
    return media_type


def read_traces(body: bytes, encoding: str) -> Spans:
    """Read a trace export request.

    Raises:
        Refused: the body is not what its content type says.
    """
    found = Spans()
    for resource, scope, message in _items(body, encoding, _TRACES, found.faults):
        assert isinstance(message, SpanMessage)
        fault = _id_fault(message.trace_id, message.span_id)
        if fault:
            found.faults.append(fault)
        else:
            found.spans.append(_span(message, resource, scope))
    return found


def read_logs(body: bytes, encoding: str) -> Events:
    """Read the events of a log export request; raises as `read_traces`."""
    found = Events()
    for resource, scope, message in _items(body, encoding, _LOGS, found.faults):
        assert isinstance(message, LogRecord)
        found.events.append(_logged_event(message, resource, scope))
    return found


@dataclass(frozen=True)
class _Signal:
    """What the messages of one signal are called, in JSON and in protobuf."""

    request: type[Message]
    resources: str
    scopes: str
    items: str
    item: type[Message]


_TRACES = _Signal(ExportTraceServiceRequest, "resourceSpans", "scopeSpans", "spans", SpanMessage)
_LOGS = _Signal(ExportLogsServiceRequest, "resourceLogs", "scopeLogs", "logRecords", LogRecord)

_Item = tuple[Mapping[str, Any], str, Message]


def _items(body: bytes, encoding: str, signal: _Signal, faults: list[str]) -> Iterator[_Item]:
    """Yield each span or log record with its resource's attributes and its scope's name."""
    if encoding == JSON:
        yield from _json_items(body, signal, faults)
        return
    request: Any = signal.request()
    try:
        request.ParseFromString(body)
    except DecodeError as error:
        raise Refused(400, f"the body is no {signal.request.__name__} ({error})") from None
    for per_resource in getattr(request, _snake(signal.resources)):
        resource = attributes_of(per_resource.resource.attributes)
        for per_scope in getattr(per_resource, _snake(signal.scopes)):
            scope = f"{per_scope.scope.name} {per_scope.scope.version}".strip()
            for item in getattr(per_scope, _snake(signal.items)):
                yield resource, scope, item


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def _json_items(body: bytes, signal: _Signal, faults: list[str]) -> Iterator[_Item]:
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(400, f"the body is no JSON ({error})") from None
    if not isinstance(request, dict):
        raise Refused(400, "the body is no JSON object")
    for per_resource in _objects(request.get(signal.resources), faults):
        try:
            said = json_format.ParseDict(
                per_resource.get("resource") or {}, Resource(), ignore_unknown_fields=True
            )
        except (json_format.ParseError, ValueError) as error:
            faults.append(f"malformed: resource: {error}")
            continue
        resource = attributes_of(said.attributes)
        for per_scope in _objects(per_resource.get(signal.scopes), faults):
            scope = per_scope.get("scope")
            named = scope if isinstance(scope, dict) else {}
            name = f"{named.get('name') or ''} {named.get('version') or ''}".strip()
            for item in _objects(per_scope.get(signal.items), faults):
                try:
                    yield resource, name, _from_json(item, signal.item())
                except (json_format.ParseError, binascii.Error, ValueError) as error:
                    faults.append(f"malformed: {str(error)[:300]}")


def _objects(value: Any, faults: list[str]) -> Iterable[dict[str, Any]]:
    if value is None:
        return []
    items = value if isinstance(value, list) else [value]
    objects = [item for item in items if isinstance(item, dict)]
    if len(objects) < len(items) or not isinstance(value, list):
        faults.append("malformed: a JSON object was expected in a list")
    return objects


def _from_json(item: dict[str, Any], message: Message) -> Message:
    known = {name: value for name, value in item.items() if name != "links"}
    for name in _HEXADECIMAL:
        if isinstance(known.get(name), str):
            known[name] = base64.b64encode(bytes.fromhex(known[name])).decode()
    return json_format.ParseDict(known, message, ignore_unknown_fields=True)


_HEXADECIMAL = ("traceId", "spanId", "parentSpanId")


def _id_fault(trace_id: bytes, span_id: bytes) -> str | None:
    if len(trace_id) != 16 or not any(trace_id):
        return f"invalid_id: trace id {trace_id.hex()!r}, expected 16 bytes"
    if len(span_id) != 8 or not any(span_id):
        return f"invalid_id: span id {span_id.hex()!r}, expected 8 bytes"
    return None


def _span(message: SpanMessage, resource: Mapping[str, Any], scope: str) -> Span:
    return Span(
        trace_id=message.trace_id.hex(),
        span_id=message.span_id.hex(),
        parent_span_id=message.parent_span_id.hex(),
        name=message.name,
        started_ns=message.start_time_unix_nano,
        ended_ns=message.end_time_unix_nano,
        attributes=attributes_of(message.attributes),
        events=tuple(
            Event(event.name, event.time_unix_nano, attributes_of(event.attributes))
            for event in message.events
        ),
        failed=message.status.code == Status.STATUS_CODE_ERROR,
        status_message=message.status.message,
        resource=resource,
        scope=scope,
    )


def _logged_event(message: LogRecord, resource: Mapping[str, Any], scope: str) -> Event:
    attributes = attributes_of(message.attributes)
    return Event(
        name=message.event_name or str(attributes.get("event.name") or ""),
        time_ns=message.time_unix_nano or message.observed_time_unix_nano,
        attributes=attributes,
        body=value_of(message.body),
        trace_id=message.trace_id.hex(),
        span_id=message.span_id.hex(),
        resource=resource,
        scope=scope,
    )


def attributes_of(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    """Return key-value messages as a dictionary of plain values."""
    return {pair.key: value_of(pair.value) for pair in pairs}


def value_of(value: AnyValue) -> Any:
    """Return the plain value in an AnyValue: bytes as base64 text, nothing as None."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [value_of(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return attributes_of(value.kvlist_value.values)
    if kind == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    return getattr(value, kind)


def traces_answer(rejected: int, message: str, encoding: str) -> bytes:
    """Return the answer to a trace export, with a partial success where something was rejected."""
    answer = ExportTraceServiceResponse()
    if rejected:
        answer.partial_success.rejected_spans = rejected
        answer.partial_success.error_message = message
    return encoded(answer, encoding)


def logs_answer(rejected: int, message: str, encoding: str) -> bytes:
    """Return the answer to a log export; as `traces_answer`."""
    answer = ExportLogsServiceResponse()
    if rejected:
        answer.partial_success.rejected_log_records = rejected
        answer.partial_success.error_message = message
    return encoded(answer, encoding)


def error_answer(message: str, encoding: str) -> bytes:
    """Return the `google.rpc.Status` of a refused request.

    A span's Status has its message under the same number, 2, and OTLP lets a server omit the rest;
    so no further package is needed.
    """
    return encoded(Status(message=message), encoding)


def encoded(message: Message, encoding: str) -> bytes:
    """Return a message's bytes in the encoding of the request."""
    if encoding == JSON:
        return orjson.dumps(json_format.MessageToDict(message))
    return bytes(message.SerializeToString())
