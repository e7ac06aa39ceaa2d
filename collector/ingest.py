"""Front desk: store a batch of records, each on its own merits, and answer for each.

One transaction per batch, given by the caller. A record that is not acceptable is answered as
rejected with its reason, kept as a dead letter and never costs the others; one that is stored
already is a duplicate, which is no fault: writers send again whenever they are unsure.
"""

import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg import Cursor
from sqlalchemy import text
from sqlmodel import Session, col, select

from collector.admission import (
    Refusal,
    feedback_columns,
    interaction_columns,
    known_id,
    require_storable,
    scrubbed,
)
from collector.delivery import INTERACTION, Delivery, Line, from_batch
from collector.feedback_metrics import OUT_OF_RANGE, declared, range_fault
from collector.joining import join_new
from collector.schemas import IngestBatch, RecordResult, SourceCounts
from collector.staging import Destination, Values, copy_rows, cursor_of, destination, insert_new
from collector.tables import Feedback, IngestCount, Interaction, InteractionPayload
from foundation.settings import get_settings
from foundation.tables import now

STORED, DUPLICATE, REJECTED = "stored", "duplicate", "rejected"

_INTERACTION = destination(Interaction)
_PAYLOAD = destination(InteractionPayload)
_FEEDBACK = destination(Feedback)


@dataclass(frozen=True)
class Row:
    """A checked record: its place in the answer, its id, its columns, and its rows for COPY."""

    position: int
    id: UUID
    columns: dict[str, Any]
    values: tuple[Values, ...]


def store_batch(
    session: Session, batch: IngestBatch, roles: Collection[str] | None = None
) -> list[RecordResult]:
    """Scrub, check and store a batch; one result per record, interactions first, in their order.

    Args:
        session: its transaction holds the whole batch; the caller commits.
        batch: records as they came.
        roles: accepted agent roles; by default those of the settings.
    """
    return store(session, from_batch(batch), roles)


def store(
    session: Session, delivery: Delivery, roles: Collection[str] | None = None
) -> list[RecordResult]:
    """Scrub, check and store what was delivered, as `store_batch`; results in the lines' order."""
    accepted = frozenset(get_settings().roles if roles is None else roles)
    moment = now()
    results: dict[int, RecordResult] = {}
    interactions, feedback = list[Row](), list[Row]()
    for position, line in enumerate(delivery.lines):
        try:
            row = _row(position, line, accepted, moment)
        except Refusal as refusal:
            results[position] = _rejected(known_id(line.record), refusal)
        else:
            (interactions if line.kind == INTERACTION else feedback).append(row)
    _store_rows(session, interactions, _insert_interactions, results)
    feedback = _in_range(session, feedback, results)
    _store_rows(session, feedback, _insert_feedback, results)
    join_new(session, _stored(interactions, results), _stored(feedback, results))
    _count(session, delivery, results.values())
    return [results[position] for position in sorted(results)]


def rejection_of(raw: Mapping[str, Any], roles: Collection[str] | None = None) -> str | None:
    """Return why `store_batch` would refuse an interaction, or None; touches no database."""
    accepted = frozenset(get_settings().roles if roles is None else roles)
    try:
        require_storable(raw)
        _row(0, Line(INTERACTION, raw), accepted, now())
    except Refusal as refusal:
        return str(refusal)
    return None


def _row(position: int, line: Line, roles: Collection[str], moment: datetime) -> Row:
    """Return a record ready for its tables; raises Refusal."""
    if line.refusal is not None:
        raise line.refusal
    if not isinstance(line.record, Mapping):
        raise Refusal("invalid", f"record: a JSON object is needed, not {line.record!r:.100}")
    record = scrubbed(line.record)
    if line.kind == INTERACTION:
        columns = interaction_columns(record, roles, moment) | {"ingested_at": moment}
        values: tuple[Values, ...] = (_INTERACTION.values(columns), _PAYLOAD.values(columns))
    else:
        columns = feedback_columns(record, moment) | {"ingested_at": moment}
        values = (_FEEDBACK.values(columns),)
    return Row(position, columns["id"], columns, values)


def _in_range(session: Session, rows: Sequence[Row], results: dict[int, RecordResult]) -> list[Row]:
    """Return the statements whose value is in the declared range of their metric."""
    kept = list[Row]()
    metrics = declared(session, {row.columns["name"] for row in rows if row.columns["name"]})
    for row in rows:
        fault = range_fault(row.columns, metrics)
        if fault is None:
            kept.append(row)
        else:
            results[row.position] = _rejected(str(row.id), Refusal(OUT_OF_RANGE, fault))
    return kept


def _rejected(identifier: str | None, reason: object) -> RecordResult:
    return RecordResult(id=identifier or "", status=REJECTED, reason=str(reason))


def _store_rows(
    session: Session,
    rows: Sequence[Row],
    insert: Callable[[Cursor[Any], Sequence[Row]], set[UUID]],
    results: dict[int, RecordResult],
) -> None:
    """Insert rows and note what became of each.

    Should the database refuse what the checks let pass, the rows are tried in halves until the
    faulty one stands alone.
    """
    if not rows:
        return
    unique = {row.id: row for row in reversed(rows)}.values()  # the first of equal ids
    try:
        with session.begin_nested():
            new = insert(cursor_of(session), sorted(unique, key=lambda row: row.id))
    except psycopg.DataError as error:
        if len(rows) == 1:
            (row,) = rows
            refusal = Refusal("refused_by_database", str(error).splitlines()[0][:300])
            results[row.position] = _rejected(str(row.id), refusal)
            return
        middle = len(rows) // 2
        _store_rows(session, rows[:middle], insert, results)
        _store_rows(session, rows[middle:], insert, results)
        return
    for row in rows:
        status = STORED if row.id in new else DUPLICATE
        new.discard(row.id)  # a second copy inside the batch is a duplicate
        results[row.position] = RecordResult(id=str(row.id), status=status)


def _stored(rows: Sequence[Row], results: Mapping[int, RecordResult]) -> list[dict[str, Any]]:
    """Return the columns of the rows that are new."""
    return [row.columns for row in rows if results[row.position].status == STORED]


def _insert_interactions(cursor: Cursor[Any], rows: Sequence[Row]) -> set[UUID]:
    new = insert_new(cursor, _INTERACTION, [row.values[0] for row in rows])
    payloads = [row.values[1] for row in rows if row.id in new]
    _append(cursor, _PAYLOAD, payloads)
    return new


def _append(cursor: Cursor[Any], into: Destination, rows: Sequence[Values]) -> None:
    """Add the payloads of new interactions by COPY, straight into their table.

    A payload may be there already only where its interaction's retention ended before its own.
    """
    try:
        with cursor.connection.transaction():
            copy_rows(cursor, into, into.table, rows)
    except psycopg.errors.UniqueViolation:
        insert_new(cursor, into, rows)


def _insert_feedback(cursor: Cursor[Any], rows: Sequence[Row]) -> set[UUID]:
    return insert_new(cursor, _FEEDBACK, [row.values[0] for row in rows])


def _count(session: Session, delivery: Delivery, results: Collection[RecordResult]) -> None:
    """Add what became of the batch to its source's counts."""
    counts: Counter[str] = Counter(_outcome(result) for result in results)
    counts.update({f"dropped:{reason}"[:100]: n for reason, n in delivery.dropped.items()})
    rows = [
        {"source": delivery.source, "outcome": outcome, "n": n}
        for outcome, n in sorted(counts.items())  # the same order everywhere: no deadlock
        if n
    ]
    if rows:
        session.execute(
            text(
                "INSERT INTO ingest_count (source, outcome, n) "
                "SELECT source, outcome, n "
                "FROM json_populate_recordset(NULL::ingest_count, CAST(:rows AS json)) "
                "ON CONFLICT (source, outcome) DO UPDATE SET n = ingest_count.n + excluded.n"
            ),
            {"rows": json.dumps(rows)},
        )


def _outcome(result: RecordResult) -> str:
    if result.status != REJECTED:
        return result.status
    return f"{REJECTED}:{(result.reason or '').partition(':')[0]}"


def ingest_counts(session: Session) -> list[SourceCounts]:
    """Return the counts of every source, by name."""
    counts: dict[str, dict[str, int]] = {}
    for row in session.exec(
        select(IngestCount).order_by(col(IngestCount.source), col(IngestCount.outcome))
    ):
        counts.setdefault(row.source, {})[row.outcome] = row.n
    return [SourceCounts(source=source, counts=found) for source, found in counts.items()]


def last_ingested_at(session: Session) -> datetime | None:
    """Return when the newest interaction arrived, or None for an empty log."""
    return session.exec(
        select(Interaction.ingested_at).order_by(col(Interaction.id).desc()).limit(1)
    ).first()
