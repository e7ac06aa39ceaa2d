"""Join feedback to the call it names by a key or a response id, in any order of arrival.

Whichever comes second makes the join, in its own transaction. Two transactions that do not see each
other leave the statement waiting; `join_waiting`, which the scheduler calls, finds it. A join
renews the statement's `ingested_at`, by which curation and experiments see what is new. Credit that
the outcome of one role's turn gives to another's (`credit`) is settled at the same time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import TextClause, text
from sqlmodel import Session

from collector.feedback import credit
from foundation.tables import now


@dataclass(frozen=True)
class _Naming:
    """One way a statement names a call: its three columns and the call's column they stand for."""

    target: str
    name: str
    call_column: str

    @property
    def waiting(self) -> str:
        """Condition of the partial index of what is not joined yet."""
        return f"{self.target} IS NULL AND {self.name} IS NOT NULL"


_NAMINGS = (
    _Naming("interaction_id", "interaction_key", "key"),
    _Naming("interaction_id", "response_id", "gen_ai_response_id"),
    _Naming("loser_interaction_id", "loser_interaction_key", "key"),
    _Naming("loser_interaction_id", "loser_response_id", "gen_ai_response_id"),
)


def join_new(
    session: Session,
    interactions: Sequence[Mapping[str, Any]],
    feedback: Sequence[Mapping[str, Any]],
) -> int:
    """Join rows that were stored in this transaction; return how many statements found their call.

    Args:
        session: of the transaction that stored the rows.
        interactions: columns of the new interactions, ids as text or UUID.
        feedback: columns of the new feedback.
    """
    joined = set[UUID]()
    for naming in _NAMINGS:
        ids = [_uuid(row["id"]) for row in feedback if row.get(naming.name)]
        if ids:
            joined |= _join(session, naming, "id = ANY(:given)", ids)
    for naming in _waited_for(session) if interactions else ():
        names = {row[naming.call_column] for row in interactions if row.get(naming.call_column)}
        if names:
            joined |= _join(session, naming, f"{naming.name} = ANY(:given)", sorted(names))
    said = joined | {_uuid(row["id"]) for row in feedback if row.get("interaction_id")}
    credit.settle(session, interactions, said)
    return len(joined)


def _waited_for(session: Session) -> list[_Naming]:
    """Return the ways of naming by which any statement waits: as a rule, none does."""
    waits = session.execute(_WAITS).one()
    return [naming for naming, some in zip(_NAMINGS, waits, strict=True) if some]


# In the order of the partial index, which makes the planner use it: without, it might read the
# table from end to end to find that nothing waits.
_WAITS = text(
    "SELECT "
    + ", ".join(
        f"(SELECT true FROM feedback WHERE {naming.waiting} ORDER BY {naming.name} LIMIT 1)"
        for naming in _NAMINGS
    )
)


def join_waiting(session: Session, since: datetime) -> int:
    """Join what concurrent transactions left waiting; return how many statements found their call.

    Costs a look-up per waiting statement that came since; older ones are joined by their call when
    it comes, so that those that wait in vain cost nothing.

    Args:
        session: its transaction holds the joins.
        since: longer ago than any transaction that stores records lasts.
    """
    joined = set[UUID]()
    for naming in _NAMINGS:
        joined |= _join(session, naming, "ingested_at >= :given", since)
    credit.settle_since(session, since)
    return len(joined)


def _join(session: Session, naming: _Naming, condition: str, given: Any) -> set[UUID]:
    """Join the waiting statements that meet `condition`; return the ids of those joined.

    First the waiting ones, by their own small index: the log is looked at only if there are any.
    """
    waiting = session.execute(
        text(f"SELECT id FROM feedback WHERE {naming.waiting} AND {condition}"), {"given": given}
    )
    ids = list(waiting.scalars())
    if not ids:
        return set()
    return set(session.execute(_update(naming), {"ids": ids, "moment": now()}).scalars())


def _update(naming: _Naming) -> TextClause:
    """Return the SQL that joins to the newest call of that name in the project, if there is one.

    Statements that another transaction is joining are skipped, so that no two wait for each other.
    """
    # An aggregate, not ORDER BY … LIMIT 1: that tempts the planner to read the log backwards.
    return text(
        f"""
        WITH found AS (
            SELECT said.id, (
                SELECT (array_agg(call.id ORDER BY call.id DESC))[1] FROM interaction call
                WHERE call.{naming.call_column} = said.{naming.name}
                  AND (said.project IS NULL OR said.project = call.project)
            ) AS call_id
            FROM feedback said WHERE said.id = ANY(:ids)
        ), mine AS (
            SELECT id, call_id FROM feedback JOIN found USING (id)
            WHERE {naming.waiting} AND call_id IS NOT NULL
            FOR UPDATE OF feedback SKIP LOCKED
        )
        UPDATE feedback SET {naming.target} = mine.call_id, ingested_at = :moment,
            written_xid = DEFAULT
        FROM mine WHERE feedback.id = mine.id
        RETURNING feedback.id
        """
    )


def _uuid(value: Any) -> UUID:
    return value if isinstance(value, UUID) else UUID(value)
