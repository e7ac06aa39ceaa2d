"""Front desk: store a batch of records, each on its own merits, and answer for each.

One transaction per batch, given by the caller. A record that is not acceptable is answered as
rejected with its reason, kept as a dead letter and never costs the others; one that is stored
already is a duplicate, which is no fault: writers send again whenever they are unsure.
"""

import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
import sqlalchemy.exc
from psycopg import Cursor
from sqlalchemy import text
from sqlmodel import Session, col, select

from collector import dead_letters, media
from collector.admission import (
    Refusal,
    failing_closed,
    feedback_columns,
    interaction_columns,
    known_id,
    scrubbed,
)
from collector.dead_letters import Letter, letter_of
from collector.delivery import FEEDBACK, INTERACTION, Delivery, Line, from_batch, line_of
from collector.feedback.joining import join_new
from collector.feedback.metrics import OUT_OF_RANGE, declared, range_fault
from collector.media import Blob
from collector.reconcile import note_account
from collector.rights import NOT_ALLOWED, Rights, rights_of
from collector.schemas import IngestBatch, RecordResult, SourceCounts
from collector.staging import Destination, Values, copy_rows, cursor_of, destination, insert_new
from collector.tables import Feedback, IngestCount, Interaction, InteractionPayload
from foundation.access import came_by
from foundation.settings import get_settings
from foundation.tables import now

STORED, DUPLICATE, REJECTED = "stored", "duplicate", "rejected"

DATABASE_AWAY = (
    *(sqlalchemy.exc.OperationalError, sqlalchemy.exc.InterfaceError),
    *(psycopg.OperationalError, psycopg.InterfaceError),
)
"""What `store` raises when the database does not answer; the same batch may be stored again.

COPY speaks to the driver itself, so its errors come as they are.
"""

_MADE_OF_A_KEY = 5
"""Version of the ids that are made here of a caller's key, of test results and of webhooks."""

_INTERACTION = destination(Interaction)
_PAYLOAD = destination(InteractionPayload)
_FEEDBACK = destination(Feedback)


@dataclass(frozen=True)
class Row:
    """A checked record: its place in the answer, what it was made of, and its rows for COPY."""

    position: int
    id: UUID
    line: Line
    record: dict[str, Any]
    columns: dict[str, Any]
    values: tuple[Values, ...]


@dataclass
class _Outcome:
    """What becomes of the lines of a delivery: answers by their place, letters, contents."""

    results: dict[int, RecordResult] = field(default_factory=dict)
    letters: list[Letter] = field(default_factory=list)
    blobs: list[Blob] = field(default_factory=list)

    def settle(self, row: Row, status: str) -> None:
        self.results[row.position] = RecordResult(id=str(row.id), status=status)

    def refuse(
        self, position: int, line: Line, record: dict[str, Any] | None, refusal: Refusal
    ) -> None:
        identifier = known_id(line.record) or ""
        reason = str(refusal)
        self.results[position] = RecordResult(id=identifier, status=REJECTED, reason=reason)
        letter = letter_of(line.kind, line.record, refusal, record, line.key_id)
        if letter is not None:
            self.letters.append(letter)

    def new(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """Return the columns of the rows that were not there before."""
        return [row.columns for row in rows if self.results[row.position].status == STORED]


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
    session: Session,
    delivery: Delivery,
    roles: Collection[str] | None = None,
    *,
    keep_refused: bool = True,
) -> list[RecordResult]:
    """Scrub, check and store what was delivered, as `store_batch`; results in the lines' order.

    Refused records become dead letters, unless they are kept as such already. All rows say by which
    key they came (`foundation.access.came_by`), and no key writes what is not its own.
    """
    outcome = _Outcome()
    bearer = came_by()
    rights = rights_of(bearer)
    lines = _marked(delivery.lines, bearer.key_id)
    interactions, feedback = _checked(lines, _accepted(roles), outcome, rights)
    media.keep(session, outcome.blobs)
    _store_rows(session, interactions, _insert_interactions, outcome)
    feedback = _in_range(session, feedback, outcome)
    if rights is not None:
        feedback = _on_own_calls(session, feedback, rights, outcome)
    _store_rows(session, feedback, _insert_feedback, outcome)
    join_new(session, outcome.new(interactions), outcome.new(feedback))
    if keep_refused:
        dead_letters.keep(session, delivery.source, outcome.letters)
    results = [outcome.results[position] for position in range(len(delivery.lines))]
    _count(session, delivery, results)
    if delivery.account is not None:
        note_account(session, delivery.source, delivery.account)
    return results


def rejection_of(
    raw: Mapping[str, Any], roles: Collection[str] | None = None, kind: str = INTERACTION
) -> str | None:
    """Return why `store_batch` would refuse a record, or None; touches no database."""
    outcome = _Outcome()
    _checked([line_of(kind, raw)], _accepted(roles), outcome)
    return outcome.results[0].reason if outcome.results else None


def _marked(lines: Sequence[Line], key_id: UUID | None) -> Sequence[Line]:
    """Return the lines with the key by which they come now, but those that came before.

    A key may not state an id of the kind that is made here: it would take the place of a statement
    that is yet to come.
    """
    if key_id is None:
        return lines
    return [
        line
        if line.key_id is not None
        else replace(line, key_id=key_id, refusal=line.refusal or _taken(line))
        for line in lines
    ]


def _taken(line: Line) -> Refusal | None:
    """Return why the stated id of a statement is refused from a key, or None."""
    if line.kind != FEEDBACK or line.is_id_ours or not isinstance(line.record, Mapping):
        return None
    stated = line.record.get("id")
    try:
        is_ours = UUID(str(stated)).version == _MADE_OF_A_KEY
    except ValueError:
        return None  # refused as no id, or made here
    if not is_ours:
        return None
    return Refusal(
        NOT_ALLOWED,
        f"id {stated}: ids of UUID version 5 are made here; send another, or none and the header "
        "Idempotency-Key",
    )


def _accepted(roles: Collection[str] | None) -> frozenset[str]:
    return frozenset(get_settings().roles if roles is None else roles)


def _checked(
    lines: Sequence[Line],
    roles: Collection[str],
    outcome: _Outcome,
    rights: Rights | None = None,
) -> tuple[list[Row], list[Row]]:
    """Return the acceptable interactions and feedback; the others are settled in `outcome`."""
    moment = now()
    rows: dict[str, list[Row]] = {INTERACTION: [], FEEDBACK: []}
    for position, line in enumerate(lines):
        record = None
        try:
            record = _clean(line, outcome, rights)
            row = _row(position, line, record, roles, moment)
            if rights is not None:
                rights.require(line.kind, row.columns)
        except Refusal as refusal:
            outcome.refuse(position, line, record, refusal)
        else:
            rows[line.kind].append(row)
    return rows[INTERACTION], rows[FEEDBACK]


def _clean(line: Line, outcome: _Outcome, rights: Rights | None) -> dict[str, Any]:
    """Return a record without contents, secrets and personal data; raises Refusal."""
    if line.refusal is not None:
        raise line.refusal
    if not isinstance(line.record, Mapping):
        raise Refusal("invalid", f"record: an object is needed, not {type(line.record).__name__}")
    stated = line.record if rights is None else rights.completed(line.record)
    if not line.media:
        return scrubbed(stated)
    with failing_closed():
        record, blobs = media.extracted(stated)
    outcome.blobs += blobs
    return scrubbed(record)


def _row(
    position: int, line: Line, record: dict[str, Any], roles: Collection[str], moment: datetime
) -> Row:
    """Return a record ready for its tables; raises Refusal."""
    came = {"ingested_at": moment, "key_id": line.key_id}
    if line.kind == INTERACTION:
        columns = interaction_columns(record, roles, moment) | came
        values: tuple[Values, ...] = (_INTERACTION.values(columns), _PAYLOAD.values(columns))
    else:
        columns = feedback_columns(record, moment) | came
        values = (_FEEDBACK.values(columns),)
    return Row(position, columns["id"], line, record, columns, values)


def _in_range(session: Session, rows: Sequence[Row], outcome: _Outcome) -> list[Row]:
    """Return the statements whose value is in the declared range of their metric."""
    kept = list[Row]()
    metrics = declared(session, {row.columns["name"] for row in rows if row.columns["name"]})
    for row in rows:
        fault = range_fault(row.columns, metrics)
        if fault is None:
            kept.append(row)
        else:
            outcome.refuse(row.position, row.line, row.record, Refusal(OUT_OF_RANGE, fault))
    return kept


def _on_own_calls(
    session: Session, rows: Sequence[Row], rights: Rights, outcome: _Outcome
) -> list[Row]:
    """Return the statements that speak of what the key may write, or of what nobody knows yet."""
    faults = rights.faults(session, [row.columns for row in rows])
    for row in rows:
        if row.id in faults:
            outcome.refuse(row.position, row.line, row.record, faults[row.id])
    return [row for row in rows if row.id not in faults]


def _store_rows(
    session: Session,
    rows: Sequence[Row],
    insert: Callable[[Cursor[Any], Sequence[Row]], set[UUID]],
    outcome: _Outcome,
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
            outcome.refuse(row.position, row.line, row.record, refusal)
            return
        middle = len(rows) // 2
        _store_rows(session, rows[:middle], insert, outcome)
        _store_rows(session, rows[middle:], insert, outcome)
        return
    for row in rows:
        outcome.settle(row, STORED if row.id in new else DUPLICATE)
        new.discard(row.id)  # a second copy inside the batch is a duplicate


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
    return f"{REJECTED}:{dead_letters.code_of(result.reason or '')}"


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
