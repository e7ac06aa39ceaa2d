"""Send the log on to any OpenTelemetry backend: interactions as spans, feedback as events.

Spans are written in the newest layout of `mapping`, with `flywheel.*` for what it has no names for,
and messages only if they are asked for. What has been sent is known by when it was ingested. The
clock of a record runs before its transaction commits, so whatever is newer than the horizon, before
which no transaction is under way any more, is remembered by its id until the horizon has passed it.
"""

import gzip
import json
import random
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

import httpx
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from sqlalchemy import text
from sqlmodel import Session, col, select

from collector.otel.mapping import EVALUATION_EVENT, LAYOUTS, OURS
from collector.otel.messages import to_parts
from collector.otel.wire import PROTOBUF
from collector.record import CLIENT_VERSION
from collector.tables import ERROR, Feedback, Interaction, InteractionPayload, OtelExport
from foundation.chat import prompt_messages
from foundation.database import session_scope
from foundation.errors import FlywheelError
from foundation.tables import now

SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"
MOST_ROWS = 200
MOST_BYTES = 4 << 20
"""Rows and bytes of one request; many backends refuse larger ones."""

SETTLE = timedelta(seconds=60)
"""A record is committed at the latest this long after the oldest open transaction began."""

MOST_UNSETTLED = 10_000
"""Ids remembered beyond the horizon; further records wait until it has passed them."""

RETRIED = frozenset({429, 502, 503, 504})
TRIES, FIRST_WAIT_S, LONGEST_WAIT_S = 8, 0.5, 30.0
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ExportRefused(FlywheelError):
    """The other end does not take what is sent."""

    exit_code = 1
    http_status = 502

    def __init__(self, url: str, found: str) -> None:
        super().__init__(
            f"{url}: {found}, expected an OTLP/HTTP endpoint that takes protobuf. "
            "Check --endpoint and --header; what was sent so far is not sent again."
        )


@dataclass
class Exported:
    """What one export did, in records.

    Attributes:
        interactions: sent as spans.
        feedback: sent as events.
        left_out: feedback whose text is all it says, where content is not sent.
        rejected: refused by the other end, of those sent; its last words are in `message`.
    """

    interactions: int = 0
    feedback: int = 0
    left_out: int = 0
    rejected: int = 0
    message: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the counts as JSON values."""
        return dict(self.__dict__)


@dataclass
class Exporter:
    """Sends what is new in the log to one endpoint.

    Attributes:
        endpoint: base URL; `/v1/traces` and `/v1/logs` are added.
        headers: of every request, such as the backend's key.
        content: whether messages, tools and texts are sent too.
        client: whose connections are used.
        wait: makes a pause of so many seconds between two tries.
    """

    endpoint: str
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bool = False
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=30.0))
    wait: Callable[[float], None] = time.sleep
    done: Exported = field(default_factory=Exported)

    def export(self, since: datetime | None = None) -> Exported:
        """Send everything that has not been sent; with `since`, what was ingested from then on.

        Raises:
            ExportRefused: the other end refuses, or is not reached after `TRIES` tries.
        """
        self._export(Interaction, "traces", self._send_interactions, since)
        self._export(Feedback, "logs", self._send_feedback, since)
        return self.done

    def _export(
        self,
        table: type[Interaction] | type[Feedback],
        signal: str,
        send: Callable[[str, Session, Sequence[UUID]], None],
        since: datetime | None,
    ) -> None:
        url = f"{self.endpoint.rstrip('/')}/v1/{signal}"
        mark = _read_mark(url, since)
        horizon = _horizon()
        known = set(mark.unsettled)
        with closing(_settled(table, mark, horizon)) as settled:
            for rows in settled:
                self._send_rows(url, [row for row in rows if str(row.id) not in known], mark, send)
                mark.reach(rows[-1].ingested_at, rows[-1].id)
                mark.store()
        mark.forget_settled(table, horizon)
        while len(mark.unsettled) < MOST_UNSETTLED:
            rows = _unsettled(table, mark, horizon)
            if not rows:
                break
            self._send_rows(url, rows, mark, send)
            mark.unsettled += [str(row.id) for row in rows]
            mark.store()
        mark.store()

    def _send_rows(
        self,
        url: str,
        rows: Sequence["_Place"],
        mark: "_Mark",
        send: Callable[[str, Session, Sequence[UUID]], None],
    ) -> None:
        with session_scope() as session:
            send(url, session, [row.id for row in rows])
        mark.n_exported += len(rows)

    def _send_interactions(self, url: str, session: Session, ids: Sequence[UUID]) -> None:
        rows = _by_id(session, Interaction, ids)
        payloads = _by_id(session, InteractionPayload, ids)
        parents = _places(session, [row.parent_id for row in rows.values() if row.parent_id])
        spans = [
            span_of(row, payloads.get(row.id), parents.get(row.parent_id), self.content)
            for row in rows.values()
        ]
        for group in _in_pieces(spans):
            request = ExportTraceServiceRequest()
            resource = request.resource_spans.add(schema_url=SCHEMA_URL)
            _describe(resource.resource.attributes)
            scope = resource.scope_spans.add(schema_url=SCHEMA_URL)
            scope.scope.name, scope.scope.version = "flywheel", CLIENT_VERSION
            scope.spans.extend(group)
            answer = ExportTraceServiceResponse()
            self._post(url, request, answer)
            self.done.rejected += answer.partial_success.rejected_spans
            self._note(answer.partial_success.error_message)
        self.done.interactions += len(spans)

    def _send_feedback(self, url: str, session: Session, ids: Sequence[UUID]) -> None:
        rows = list(_by_id(session, Feedback, ids).values())
        told = [row for row in rows if self.content or row.kind not in _ONLY_TEXT]
        places = _places(session, [row.interaction_id for row in told if row.interaction_id])
        events = [event_of(row, places.get(row.interaction_id), self.content) for row in told]
        for group in _in_pieces(events):
            request = ExportLogsServiceRequest()
            resource = request.resource_logs.add(schema_url=SCHEMA_URL)
            _describe(resource.resource.attributes)
            scope = resource.scope_logs.add(schema_url=SCHEMA_URL)
            scope.scope.name, scope.scope.version = "flywheel", CLIENT_VERSION
            scope.log_records.extend(group)
            answer = ExportLogsServiceResponse()
            self._post(url, request, answer)
            self.done.rejected += answer.partial_success.rejected_log_records
            self._note(answer.partial_success.error_message)
        self.done.feedback += len(events)
        self.done.left_out += len(rows) - len(told)

    def _note(self, message: str) -> None:
        self.done.message = message or self.done.message

    def _post(self, url: str, request: Any, answer: Any) -> None:
        """Send one request, trying again with growing pauses; fill in the answer."""
        body = gzip.compress(request.SerializeToString(), compresslevel=1)
        headers = {**self.headers, "content-type": PROTOBUF, "content-encoding": "gzip"}
        found = "no answer"
        for attempt in range(TRIES):
            try:
                response = self.client.post(url, content=body, headers=headers)
            except httpx.TransportError as error:
                found, asked_s = f"not reached ({error})", None
            else:
                if response.is_success:
                    _read(response.content, answer, url)
                    return
                found = f"answered {response.status_code} ({response.text[:200]!r})"
                if response.status_code not in RETRIED:
                    break
                asked_s = response.headers.get("retry-after")
            if attempt < TRIES - 1:
                self.wait(pause_s(attempt, asked_s))
        raise ExportRefused(url, found)


def pause_s(attempt: int, asked_s: str | None) -> float:
    """Return the seconds to wait before the next try: those asked for, else doubling with jitter.

    At most `LONGEST_WAIT_S`; what is asked for as a date is not read.
    """
    if asked_s is not None and asked_s.isdecimal():
        return min(float(asked_s), LONGEST_WAIT_S)
    doubled_s: float = FIRST_WAIT_S * 2**attempt
    return min(doubled_s, LONGEST_WAIT_S) * random.uniform(0.5, 1.0)


def _read(body: bytes, answer: Any, url: str) -> None:
    try:
        answer.ParseFromString(body)
    except DecodeError as error:
        raise ExportRefused(url, f"answered something else than OTLP ({error})") from error


# What has been sent


@dataclass(frozen=True)
class _Place:
    """Where a row stands in the order of ingestion."""

    ingested_at: datetime
    id: UUID


@dataclass
class _Mark:
    """How far an endpoint's signal has been sent, and which rows beyond that."""

    endpoint: str
    reached: datetime
    last_id: UUID
    unsettled: list[str]
    n_exported: int

    def reach(self, moment: datetime, last_id: UUID) -> None:
        self.reached, self.last_id = moment, last_id

    def forget_settled(self, table: type[Interaction] | type[Feedback], horizon: datetime) -> None:
        """Move to the horizon, since all before it is sent; forget the ids that it has passed."""
        if horizon > self.reached:
            self.reach(horizon, UUID(int=2**128 - 1))
        if self.unsettled:
            with session_scope() as session:
                rows = session.exec(
                    select(table.id).where(
                        col(table.id).in_([UUID(each) for each in self.unsettled]),
                        col(table.ingested_at) > self.reached,
                    )
                )
                self.unsettled = [str(each) for each in rows]

    def store(self) -> None:
        with session_scope() as session:
            session.merge(
                OtelExport(
                    endpoint=self.endpoint,
                    exported_until=self.reached,
                    last_id=self.last_id,
                    unsettled=list(self.unsettled),
                    n_exported=self.n_exported,
                )
            )


def _read_mark(endpoint: str, since: datetime | None) -> _Mark:
    with session_scope() as session:
        row = session.get(OtelExport, endpoint)
    sent = row.n_exported if row is not None else 0
    if row is None or since is not None:
        return _Mark(endpoint, since or EPOCH, UUID(int=0), [], sent)
    last = row.last_id or UUID(int=0)
    return _Mark(endpoint, row.exported_until, last, list(row.unsettled or []), sent)


def _horizon() -> datetime:
    """Return the moment up to which every record that will ever be ingested is committed."""
    with session_scope() as session:
        oldest = session.execute(
            text(
                "SELECT min(xact_start) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        ).scalar()
    return min(now(), oldest or now()) - SETTLE


def _settled(
    table: type[Interaction] | type[Feedback], mark: _Mark, horizon: datetime
) -> Generator[list[_Place]]:
    """Yield the rows between the mark and the horizon in the order of ingestion, some at a time."""
    query = (
        select(table.ingested_at, table.id)
        .where(
            col(table.ingested_at) >= mark.reached,
            col(table.ingested_at) <= horizon,
            (col(table.ingested_at) > mark.reached) | (col(table.id) > mark.last_id),
        )
        .order_by(col(table.ingested_at), col(table.id))
        .execution_options(yield_per=MOST_ROWS)
    )
    with session_scope() as session, session.exec(query) as found:
        for rows in found.partitions():
            yield [_Place(*row) for row in rows]


def _unsettled(
    table: type[Interaction] | type[Feedback], mark: _Mark, horizon: datetime
) -> list[_Place]:
    with session_scope() as session:
        rows = session.exec(
            select(table.ingested_at, table.id)
            .where(
                col(table.ingested_at) > max(horizon, mark.reached),
                col(table.id).not_in([UUID(each) for each in mark.unsettled]),
            )
            .order_by(col(table.ingested_at), col(table.id))
            .limit(MOST_ROWS)
        )
        return [_Place(*row) for row in rows]


def _by_id(session: Session, table: type[Any], ids: Sequence[UUID]) -> dict[UUID, Any]:
    found = {row.id: row for row in session.exec(select(table).where(col(table.id).in_(ids)))}
    return {identifier: found[identifier] for identifier in ids if identifier in found}


# Interactions as spans


@dataclass(frozen=True)
class Place:
    """The trace and span of an interaction."""

    trace_id: bytes
    span_id: bytes


def place_of(row: Interaction, attributes: Mapping[str, Any] | None) -> Place:
    """Return the span that an interaction came as, else one derived from episode and id."""
    origin = (attributes or {}).get("otel") or {}
    try:
        given = Place(bytes.fromhex(origin["trace_id"]), bytes.fromhex(origin["span_id"]))
    except (KeyError, TypeError, ValueError):
        given = None
    if given is not None and len(given.trace_id) == 16 and len(given.span_id) == 8:
        return given
    return Place((row.episode_id or row.id).bytes, _span_id(row.id))


def _span_id(identifier: UUID) -> bytes:
    return sha256(identifier.bytes).digest()[:8]


def _places(session: Session, ids: Sequence[UUID]) -> dict[UUID | None, Place]:
    rows = _by_id(session, Interaction, ids)
    payloads = _by_id(session, InteractionPayload, ids)
    return {
        row.id: place_of(row, payloads[row.id].attributes if row.id in payloads else None)
        for row in rows.values()
    }


def span_of(
    row: Interaction, payload: InteractionPayload | None, parent: Place | None, content: bool
) -> Span:
    """Return an interaction as a span of kind client.

    Args:
        row: its columns.
        payload: its request and response; None if their retention has ended.
        parent: span of the interaction above it, if that is known.
        content: whether messages and tools are told.
    """
    place = place_of(row, payload.attributes if payload is not None else None)
    started_ns = _nanoseconds(row.started_at)
    named = {**_standard(row, payload), **_ours(row)}
    if content and payload is not None:
        named |= _content(payload)
    error = str((payload.attributes or {}).get("error") or "") if payload is not None else ""
    status = Status(code=Status.STATUS_CODE_ERROR, message=error if content else "")
    return Span(
        trace_id=place.trace_id,
        span_id=place.span_id,
        parent_span_id=parent.span_id if parent is not None else b"",
        name=f"{row.gen_ai_operation_name} {row.gen_ai_request_model or ''}".strip(),
        kind=Span.SPAN_KIND_CLIENT,
        start_time_unix_nano=started_ns,
        end_time_unix_nano=started_ns + round((row.latency_ms or 0.0) * 1e6),
        attributes=_pairs(named),
        status=status if row.status == ERROR else None,
    )


_COLUMNS = {
    "operation": "gen_ai_operation_name",
    "provider": "gen_ai_provider_name",
    "request_model": "gen_ai_request_model",
    "response_model": "gen_ai_response_model",
    "response_id": "gen_ai_response_id",
    "temperature": "gen_ai_request_temperature",
    "top_p": "gen_ai_request_top_p",
    "max_tokens": "gen_ai_request_max_tokens",
    "seed": "gen_ai_request_seed",
    "stream": "gen_ai_request_stream",
    "input_tokens": "gen_ai_usage_input_tokens",
    "output_tokens": "gen_ai_usage_output_tokens",
    "cache_read_tokens": "gen_ai_usage_cache_read_input_tokens",
    "reasoning_tokens": "gen_ai_usage_reasoning_output_tokens",
    "conversation": "gen_ai_conversation_id",
    "prompt_name": "gen_ai_prompt_name",
    "prompt_version": "gen_ai_prompt_version",
    "agent": "role",
    "error_type": "error_type",
}
"""Our word in the table of names, to the column that holds it."""

_PARAMETERS = ("top_k", "frequency_penalty", "presence_penalty", "n", "reasoning_effort")


def _standard(row: Interaction, payload: InteractionPayload | None) -> dict[str, Any]:
    """Return what the conventions have names for, content aside."""
    newest = LAYOUTS[0].names
    told = {newest[thing][0]: getattr(row, column) for thing, column in _COLUMNS.items()}
    reasons = row.gen_ai_response_finish_reasons or []
    told[newest["finish_reasons"][0]] = [_REASONS.get(reason, reason) for reason in reasons]
    if row.ttft_ms is not None:
        told[newest["ttft_s"][0]] = row.ttft_ms / 1000
    request = payload.request if payload is not None else {}
    told |= {newest[name][0]: request.get(name) for name in _PARAMETERS}
    stop = request.get("stop")
    told[newest["stop"][0]] = [stop] if isinstance(stop, str) else stop
    return told


_REASONS = {"tool_calls": "tool_call"}


def _ours(row: Interaction) -> dict[str, Any]:
    values = {
        **{thing: getattr(row, column) for thing, column in _OUR_COLUMNS.items()},
        "usage_estimated": row.usage_estimated or None,
    }
    told = {OURS[thing]: value for thing, value in values.items()}
    return {n: str(value) if isinstance(value, UUID) else value for n, value in told.items()}


_OUR_COLUMNS = {
    "role": "role",
    "project": "project",
    "task_type": "task_type",
    "episode": "episode_id",
    "interaction": "id",
    "parent": "parent_id",
    "unit": "unit_id",
    "key": "key",
    "experiment": "experiment_id",
    "arm": "arm",
    "model_version": "model_version_id",
    "completed": "completed",
    "status": "status",
    "cost_usd": "cost_usd",
    "config_hash": "config_hash",
}


def _content(payload: InteractionPayload) -> dict[str, Any]:
    choices = (payload.response or {}).get("choices") or []
    answered = [
        {**to_parts(choice["message"]), "finish_reason": _reason_of(choice)}
        if choice.get("message")
        else _text_choice(choice)
        for choice in choices
    ]
    asked = [to_parts(message) for message in prompt_messages(payload.request)]
    tools = payload.request.get("tools")
    return {
        "gen_ai.input.messages": json.dumps(asked, ensure_ascii=False),
        "gen_ai.output.messages": json.dumps(answered, ensure_ascii=False) if answered else None,
        "gen_ai.tool.definitions": json.dumps(tools, ensure_ascii=False) if tools else None,
    }


def _text_choice(choice: Mapping[str, Any]) -> dict[str, Any]:
    said = {"role": "assistant", "content": choice.get("text")}
    return {**to_parts(said), "finish_reason": _reason_of(choice)}


def _reason_of(choice: Mapping[str, Any]) -> str:
    """Return why a choice ended; one whose stream was cut did so by an error, in their words."""
    reason = str(choice.get("finish_reason") or "error")
    return _REASONS.get(reason, reason)


# Feedback as events


_ONLY_TEXT = frozenset({"comment", "correction"})
"""Kinds that say nothing without their text."""


def event_of(row: Feedback, place: Place | None, content: bool) -> LogRecord:
    """Return a statement as the event `gen_ai.evaluation.result`.

    Args:
        row: the statement.
        place: span of the interaction that it speaks of, if that is known.
        content: whether texts are told.
    """
    label = row.text if row.kind == "category" else (row.details or {}).get("label")
    explanation = row.text if row.kind != "category" else (row.details or {}).get("explanation")
    values: dict[str, Any] = {
        "gen_ai.evaluation.name": row.name or row.kind,
        "gen_ai.evaluation.score.value": row.value,
        "gen_ai.evaluation.score.label": label,
        "gen_ai.evaluation.explanation": explanation if content else None,
        "gen_ai.response.id": row.response_id,
        OURS["feedback"]: row.id,
        OURS["feedback_kind"]: row.kind,
        OURS["feedback_source"]: row.source,
        OURS["feedback_actor"]: row.actor,
        OURS["interaction"]: row.interaction_id,
        OURS["episode"]: row.episode_id,
        OURS["key"]: row.interaction_key,
        OURS["loser"]: row.loser_interaction_id,
    }
    told = {n: str(value) if isinstance(value, UUID) else value for n, value in values.items()}
    if place is None and row.interaction_id is None and row.episode_id is not None:
        place = Place(row.episode_id.bytes, b"")
    return LogRecord(
        time_unix_nano=_nanoseconds(row.created_at),
        event_name=EVALUATION_EVENT,
        attributes=_pairs(told),
        trace_id=place.trace_id if place is not None else b"",
        span_id=place.span_id if place is not None else b"",
    )


# Protobuf


def _nanoseconds(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1) * 1000


def _describe(attributes: Any) -> None:
    attributes.extend(_pairs({"service.name": "flywheel", "service.version": CLIENT_VERSION}))


def _pairs(values: Mapping[str, Any]) -> list[KeyValue]:
    return [
        KeyValue(key=name, value=_any(value))
        for name, value in values.items()
        if value is not None and value != []
    ]


def _any(value: Any) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, list):
        return AnyValue(array_value=ArrayValue(values=[_any(item) for item in value]))
    return AnyValue(string_value=value if isinstance(value, str) else json.dumps(value))


def _in_pieces(messages: Iterable[Any]) -> Iterator[list[Any]]:
    """Yield messages in groups of at most `MOST_BYTES`; a larger one goes alone."""
    group, size = list[Any](), 0
    for message in messages:
        more = message.ByteSize()
        if group and size + more > MOST_BYTES:
            yield group
            group, size = [], 0
        group.append(message)
        size += more
    if group:
        yield group
