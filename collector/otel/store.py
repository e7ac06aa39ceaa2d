"""Store what an export request holds, and bring together what comes of one call in two requests.

Instrumentations send a call's span to one address and its messages, as events, to another; either
may come first. The second one completes the first one's record, found by its key, and is counted as
a duplicate. Whoever stores spans of a trace holds a lock meanwhile, so that the two cannot miss
each other.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID
from zlib import crc32

from sqlalchemy import text
from sqlmodel import Session, col, select

from collector import media
from collector.admission import Refusal, interaction_columns, scrubbed
from collector.delivery import INTERACTION
from collector.ingest import REJECTED, store_batch
from collector.otel.read import SOURCE, Reading
from collector.rights import rights_of
from collector.schemas import MAX_BATCH, IngestBatch
from collector.tables import WRITER, Interaction, InteractionPayload
from foundation.access import came_by
from foundation.ids import first_id_at, time_of
from foundation.tables import now

LOCKS = 64
"""Advisory locks that all traces share: a lock per trace could exhaust the server's table."""

APART = timedelta(days=1)
"""A span and the events of its messages begin at most this far apart."""

PER_MESSAGE = "gen_ai/1.28"
"""The layout whose messages come one by one, so that a request may hold only some of them."""


def store_reading(
    session: Session, reading: Reading, faults: Sequence[str], roles: Collection[str]
) -> list[str]:
    """Store what was read and return why the rest was refused, a reason per span or event.

    Args:
        session: its transaction holds the whole request; the caller commits.
        reading: what the request holds.
        faults: why further spans could not be read at all.
        roles: accepted agent roles.
    """
    reasons = [*faults, *reading.faults]
    dropped = Counter(reason.partition(":")[0] for reason in reasons)
    dropped.update({"embeddings": reading.embeddings} if reading.embeddings else {})
    _complete_stored(session, reading.interactions, roles)
    for number, batch in enumerate(_batches(reading)):
        batch.dropped = dict(dropped) if number == 0 else {}
        results = store_batch(session, batch, roles)
        reasons += [result.reason or "" for result in results if result.status == REJECTED]
    return reasons


def _batches(reading: Reading) -> Iterable[IngestBatch]:
    """Yield what was read in batches of the size that ingest takes; the first one always."""
    most = max(len(reading.interactions), len(reading.feedback), 1)
    for start in range(0, most, MAX_BATCH):
        part = slice(start, start + MAX_BATCH)
        yield IngestBatch(
            source=SOURCE,
            interactions=reading.interactions[part],
            feedback=reading.feedback[part],
        )


def _complete_stored(
    session: Session, records: Sequence[dict[str, Any]], roles: Collection[str]
) -> None:
    """Complete the stored halves of calls; their other halves get their ids, to be duplicates."""
    if not records:
        return
    _lock(session, {str(record["key"]).partition(":")[0] for record in records})
    stored = _stored(session, records)
    moment, renamed = now(), dict[str, str]()
    bearer = came_by()
    rights = rights_of(bearer)
    for record in records:
        row = stored.get(record["key"])
        if row is None or row.source != SOURCE or row.key_id != bearer.key_id:
            continue  # what came by another key is not changed by this one
        renamed[record["id"]] = str(row.id)
        record["id"] = str(row.id)
        try:
            bare, blobs = media.extracted(record)
            columns = interaction_columns(scrubbed(bare), roles, moment)
            if rights is not None:
                rights.require(INTERACTION, columns)
        except Refusal:
            continue  # `store_batch` says so
        media.keep(session, blobs)
        _complete(session, row, columns)
    for record in records:
        if record.get("parent_id") in renamed:
            record["parent_id"] = renamed[record["parent_id"]]


def _lock(session: Session, traces: Collection[str]) -> None:
    for number in sorted({crc32(trace.encode()) % LOCKS for trace in traces}):
        session.execute(
            text("SELECT pg_advisory_xact_lock(hashtext('otlp'), :number)"), {"number": number}
        )


def _stored(session: Session, records: Sequence[Mapping[str, Any]]) -> dict[str, Interaction]:
    times = [time_of(UUID(record["id"])) for record in records]
    rows = session.exec(
        select(Interaction).where(
            col(Interaction.key).in_({record["key"] for record in records}),
            col(Interaction.id) >= first_id_at(min(times) - APART),
            col(Interaction.id) < first_id_at(max(times) + APART),
        )
    )
    return {row.key: row for row in rows if row.key is not None}


def _complete(session: Session, row: Interaction, columns: Mapping[str, Any]) -> None:
    payload = session.get(InteractionPayload, row.id)
    if payload is None:
        return  # its retention has ended
    better = of_span(columns["attributes"]) and not of_span(payload.attributes)
    of_row = completed_columns(row.model_dump(), columns, better)
    of_payload = completed_payload(payload.model_dump(), columns, better)
    for name, value in of_row.items():
        setattr(row, name, value)
    for name, value in of_payload.items():
        setattr(payload, name, value)
    if of_row or of_payload:
        row.written_xid = WRITER  # type: ignore[assignment]  # filled by the server
    session.flush()


def of_span(attributes: Mapping[str, Any] | None) -> bool:
    """Whether a record was made of a span; one of events knows no span's name."""
    return "span_name" in ((attributes or {}).get("otel") or {})


def completed_columns(
    stored: Mapping[str, Any], other: Mapping[str, Any], better: bool
) -> dict[str, Any]:
    """Return the columns of a stored half that change once the other half is known; pure.

    Args:
        stored: its columns.
        other: those of the other half.
        better: whether the other half is the span, whose word on times and outcome counts more.
    """
    changes = {
        name: other[name]
        for name in stored.keys() & other.keys() - _KEPT - _USAGE
        if other[name] is not None and (better or stored[name] is None)
    }
    if all(stored[name] is None for name in _TOKENS):
        changes |= {name: other[name] for name in _USAGE}
    counted = any(other[name] is not None for name in _TOKENS) and not other["usage_estimated"]
    if stored["usage_estimated"] and counted:
        changes |= {name: other[name] for name in _USAGE}
    return {name: value for name, value in changes.items() if value != stored[name]}


_KEPT = {"id", "key", "source", "scrub", "scrub_version", "ingested_at", "semconv_version"}
_TOKENS = {"gen_ai_usage_input_tokens", "gen_ai_usage_output_tokens"}
_USAGE = {*_TOKENS, "usage_estimated"}


def completed_payload(
    stored: Mapping[str, Any], other: Mapping[str, Any], better: bool
) -> dict[str, Any]:
    """Return request, response and attributes of a call from its two halves; as above."""
    first, second = (other, stored) if better else (stored, other)
    request = {**_present(second["request"]), **_present(first["request"])}
    request["messages"] = _messages(stored, other)
    responses = [half["response"] for half in (first, second) if half["response"]]
    response = {name: value for half in reversed(responses) for name, value in half.items()}
    choices = next((half["choices"] for half in responses if half.get("choices")), None)
    if choices:
        response["choices"] = choices
    attributes = {**(second["attributes"] or {}), **(first["attributes"] or {})}
    whole = {"request": request, "response": response or None, "attributes": attributes}
    return {name: value for name, value in whole.items() if value != stored[name]}


def _present(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _messages(stored: Mapping[str, Any], other: Mapping[str, Any]) -> list[Any]:
    """Return the messages asked; those that come one by one may be spread over requests."""
    here = stored["request"].get("messages") or []
    there = other["request"].get("messages") or []
    if here and there and other.get("semconv_version") == PER_MESSAGE:
        return [*here, *(message for message in there if message not in here)]
    return list(here or there)
