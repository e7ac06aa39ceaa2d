"""Front desk: store a batch of records, each on its own merits, and answer for each.

One transaction per batch, given by the caller. A record that is not acceptable is answered as
rejected with its reason and never costs the others; one that is stored already is a duplicate,
which is no fault: writers send again whenever they are unsure.
"""

import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ValidationError
from sqlalchemy import Table, text
from sqlalchemy.exc import DataError
from sqlmodel import Session, SQLModel, col, select

from collector.schemas import (
    FeedbackRecord,
    IngestBatch,
    InteractionRecord,
    RecordResult,
    SourceCounts,
)
from collector.scrub import scrub_record
from collector.tables import Feedback, IngestCount, Interaction, InteractionPayload
from foundation.settings import get_settings
from foundation.tables import now

STORED, DUPLICATE, REJECTED = "stored", "duplicate", "rejected"

PAYLOAD_COLUMNS = frozenset({"request", "response", "attributes"})


class Unacceptable(Exception):
    """A record that cannot be stored; `code` is counted, the text is for its writer."""

    def __init__(self, code: str, detail: str) -> None:
        self.code = code
        super().__init__(f"{code}: {detail}")


@dataclass(frozen=True)
class _Row:
    """A checked record: its place in the answer, its id, and its columns as JSON values."""

    position: int
    id: UUID
    columns: dict[str, Any]


def store_batch(
    session: Session, batch: IngestBatch, roles: Collection[str] | None = None
) -> list[RecordResult]:
    """Scrub, check and store a batch; one result per record, interactions first, in their order.

    Args:
        session: its transaction holds the whole batch; the caller commits.
        batch: records as they came.
        roles: accepted agent roles; by default those of the settings.
    """
    accepted = frozenset(get_settings().roles if roles is None else roles)
    results: dict[int, RecordResult] = {}
    interactions, feedback = list[_Row](), list[_Row]()
    for position, raw in enumerate(batch.interactions):
        _check(position, raw, lambda r: _interaction_columns(r, accepted), interactions, results)
    for position, raw in enumerate(batch.feedback, start=len(batch.interactions)):
        _check(position, raw, _feedback_columns, feedback, results)
    _store(session, interactions, _insert_interactions, results)
    _store(session, feedback, _insert_feedback, results)
    _count(session, batch, results.values())
    return [results[position] for position in sorted(results)]


def rejection_of(raw: Mapping[str, Any], roles: Collection[str] | None = None) -> str | None:
    """Return why `store_batch` would refuse an interaction, or None; touches no database."""
    accepted = frozenset(get_settings().roles if roles is None else roles)
    try:
        _columns(raw, lambda record: _interaction_columns(record, accepted))
    except Unacceptable as error:
        return str(error)
    return None


def _check(
    position: int,
    raw: Mapping[str, Any],
    columns_of: Callable[[Mapping[str, Any]], dict[str, Any]],
    rows: list[_Row],
    results: dict[int, RecordResult],
) -> None:
    """Add a record to `rows`, or its rejection to `results`."""
    try:
        columns = _columns(raw, columns_of)
    except Unacceptable as error:
        shown = str(raw.get("id"))[:100]
        results[position] = RecordResult(id=shown, status=REJECTED, reason=str(error))
    else:
        rows.append(_Row(position, UUID(columns["id"]), columns))


def _columns(
    raw: Mapping[str, Any], columns_of: Callable[[Mapping[str, Any]], dict[str, Any]]
) -> dict[str, Any]:
    try:
        _require_storable(raw)
        return columns_of(raw)
    except RecursionError:
        raise Unacceptable("too_deep", "nested too deeply") from None


def _require_storable(raw: Mapping[str, Any]) -> None:
    """Refuse what PostgreSQL's `jsonb` cannot hold, before it costs the whole batch."""
    try:
        encoded = json.dumps(raw, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        raise Unacceptable("invalid_text", "holds half a surrogate pair") from None
    except ValueError as error:
        raise Unacceptable("invalid_number", str(error)) from None
    if b"\\u0000" in encoded and _holds_nul(raw):
        raise Unacceptable("invalid_text", "holds a NUL character")


def _holds_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, Mapping):
        return any(_holds_nul(key) or _holds_nul(item) for key, item in value.items())
    return isinstance(value, list) and any(_holds_nul(item) for item in value)


def _interaction_columns(raw: Mapping[str, Any], roles: Collection[str]) -> dict[str, Any]:
    record = _validated(InteractionRecord, scrub_record(raw))
    if record["role"] not in roles:
        raise Unacceptable(
            "unknown_role",
            f"role {record['role']!r} is not one of {', '.join(sorted(roles))}; "
            "add it to FLYWHEEL_ROLES",
        )
    return record


def _feedback_columns(raw: Mapping[str, Any]) -> dict[str, Any]:
    return _validated(FeedbackRecord, scrub_record(raw))


def _validated(shape: type[BaseModel], raw: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return shape.model_validate(raw).model_dump(mode="json")
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "record"
        raise Unacceptable("invalid", f"{place}: {first['msg']}") from None


def _store(
    session: Session,
    rows: Sequence[_Row],
    insert: Callable[[Session, Sequence[dict[str, Any]]], set[UUID]],
    results: dict[int, RecordResult],
) -> None:
    """Insert rows and note what became of each.

    Rows go in the order of their ids, so that concurrent batches cannot deadlock. Should the
    database refuse what the checks let pass, the rows are tried in halves until the faulty one
    stands alone.
    """
    if not rows:
        return
    ordered = sorted({row.id: row for row in reversed(rows)}.values(), key=lambda row: row.id)
    try:
        with session.begin_nested():
            new = insert(session, [row.columns for row in ordered])
    except DataError as error:
        if len(rows) == 1:
            reason = f"refused_by_database: {str(error.orig).splitlines()[0][:300]}"
            row = rows[0]
            results[row.position] = RecordResult(id=str(row.id), status=REJECTED, reason=reason)
            return
        middle = len(rows) // 2
        _store(session, rows[:middle], insert, results)
        _store(session, rows[middle:], insert, results)
        return
    for row in rows:
        status = STORED if row.id in new else DUPLICATE
        new.discard(row.id)  # a second copy inside the batch is a duplicate
        results[row.position] = RecordResult(id=str(row.id), status=status)


def _insert_interactions(session: Session, rows: Sequence[dict[str, Any]]) -> set[UUID]:
    moment = now().isoformat()
    metadata = [
        {name: value for name, value in row.items() if name not in PAYLOAD_COLUMNS}
        | {"ingested_at": moment}
        for row in rows
    ]
    new = _insert(session, Interaction, metadata)
    payloads = [
        {"id": row["id"], **{name: row[name] for name in PAYLOAD_COLUMNS}}
        for row in rows
        if UUID(row["id"]) in new
    ]
    _insert(session, InteractionPayload, payloads)
    return new


def _insert_feedback(session: Session, rows: Sequence[dict[str, Any]]) -> set[UUID]:
    moment = now().isoformat()
    return _insert(session, Feedback, [row | {"ingested_at": moment} for row in rows])


def _insert(session: Session, model: type[SQLModel], rows: Sequence[dict[str, Any]]) -> set[UUID]:
    """Insert JSON rows in one statement with one parameter; return the ids that were new."""
    if not rows:
        return set()
    table: Table = model.__table__  # type: ignore[attr-defined]
    columns = ", ".join(column.name for column in table.columns)
    statement = text(
        f"INSERT INTO {table.name} ({columns}) SELECT {columns} "
        f"FROM json_populate_recordset(NULL::{table.name}, CAST(:rows AS json)) "
        "ON CONFLICT DO NOTHING RETURNING id"
    )
    encoded = json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
    return set(session.execute(statement, {"rows": encoded}).scalars())


def _count(session: Session, batch: IngestBatch, results: Collection[RecordResult]) -> None:
    """Add what became of the batch to its source's counts."""
    counts: Counter[str] = Counter(_outcome(result) for result in results)
    counts.update({f"dropped:{reason}"[:100]: n for reason, n in batch.dropped.items()})
    rows = [
        {"source": batch.source, "outcome": outcome, "n": n}
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
