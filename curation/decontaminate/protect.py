"""The list of what no dataset may teach: registered suites, and lists that a person adds.

A source is stored as a whole: where its items changed, all of them are new, so that what is common
within a source is judged alike for all. Later sources have later times, whichever clock their
writer has, so an example checked up to a moment needs only the sources after it.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import delete, func, select, text
from sqlalchemy import insert as insert_into
from sqlmodel import Session, SQLModel, col

from curation.decontaminate.passages import ProtectedItem
from curation.recipe import RULE_VERSIONS
from curation.score.outcome import CONTAMINATED
from curation.tables import ProtectedText
from foundation.errors import BadInput, NotFound
from foundation.ids import new_id

_LOCK: Final = text("SELECT pg_advisory_xact_lock(hashtextextended('protected_text', 0))")
_SHARE: Final = text("SELECT pg_advisory_xact_lock_shared(hashtextextended('protected_text', 0))")
_ITEMS = SQLModel.metadata.tables[str(ProtectedText.__tablename__)]
_AT_ONCE: Final = 1000
"""Reason of an example dropped because it repeats a protected text."""


@dataclass(frozen=True)
class Protected:
    """One item that no dataset may teach."""

    item_id: str
    prompt: str
    solution: str = ""
    """Reference answer and tests, if there are any."""
    keys: tuple[str, ...] = field(default=())
    """Task keys, instance ids and repositories that are blocked by name."""


@dataclass(frozen=True, slots=True)
class Protection:
    """How much is protected as of now."""

    stamp: str
    """What an example checked against all of it is marked with; empty: nothing is protected."""
    until: datetime | None
    """When the newest source was added."""


@dataclass(frozen=True, slots=True)
class Source:
    """A protected suite or list."""

    name: str
    n_items: int
    n_blocked: int
    """Examples that repeat one of its items."""
    added_at: datetime


def protect(session: Session, source: str, items: Iterable[Protected]) -> int:
    """Make `items` the protected items of `source`; return how many were not so before.

    The same items again change nothing. The caller commits.

    Raises:
        BadInput: no name, or an item id twice.
    """
    given = [_storable(item) for item in items]
    wanted = {item.item_id: item for item in given}
    if not source.strip():
        raise BadInput("protected source", source, "a name", "Name the list: --name NAME")
    if len(wanted) < len(given):
        raise BadInput(
            f"protected source {source}", f"{len(given) - len(wanted)} ids twice",
            "distinct item ids", "Rename or drop the repeated items.",
        )  # fmt: skip
    session.execute(_LOCK)
    stored = {item.item_id: item for item in _stored(session, source)}
    if stored == wanted:
        return 0
    _remove(session, source)
    moment = _next_moment(session)
    rows = [
        {
            "id": new_id(),
            "source": source,
            "item_id": item.item_id,
            "prompt": item.prompt,
            "solution": item.solution,
            "keys": list(item.keys),
            "created_at": moment,
        }
        for item in wanted.values()
    ]
    for start in range(0, len(rows), _AT_ONCE):
        session.execute(insert_into(_ITEMS), rows[start : start + _AT_ONCE])
    return sum(stored.get(item_id) != item for item_id, item in wanted.items())


def unprotect(session: Session, source: str) -> int:
    """Take a source off the list; return how many items it had. What it blocked is judged again.

    Raises:
        NotFound: no such source; the message names those that exist.
    """
    session.execute(_LOCK)
    n_removed = _remove(session, source)
    if not n_removed:
        known = ", ".join(one.name for one in list_sources(session)) or "none yet"
        raise NotFound("protected source", source, f"one of: {known}", "See: flywheel protect list")
    return n_removed


def protection(session: Session) -> Protection:
    """Return how much is protected, and keep others from changing it until the caller commits."""
    session.execute(_SHARE)
    rows = session.execute(
        select(
            col(ProtectedText.source),
            func.max(col(ProtectedText.created_at)),
            func.count(),
        )
        .group_by(col(ProtectedText.source))
        .order_by(col(ProtectedText.source))
    ).all()
    if not rows:
        return Protection("", None)
    until = max(row[1] for row in rows)
    named = json.dumps([(row[0], row[1].isoformat(), row[2]) for row in rows])
    digest = hashlib.sha256(named.encode()).hexdigest()[:16]
    return Protection(f"{_version()}|{until.isoformat()}|{digest}", until)


def protection_digest(session: Session) -> str:
    """Return what an example checked against all protected texts is marked with."""
    return protection(session).stamp


def checked_until(stamp: str) -> datetime | None:
    """Return up to when sources were known to whoever gave an example this stamp.

    None: it was never checked, or by other rules.
    """
    version, _, rest = stamp.partition("|")
    if version != _version():
        return None
    return datetime.fromisoformat(rest.partition("|")[0])


def protected_items(session: Session, after: datetime | None = None) -> list[ProtectedItem]:
    """Return the protected items, or those of the sources added after a moment."""
    query = select(ProtectedText).order_by(col(ProtectedText.source), col(ProtectedText.item_id))
    if after is not None:
        query = query.where(col(ProtectedText.created_at) > after)
    return [
        ProtectedItem(row.id, row.source, row.item_id, row.prompt, row.solution, tuple(row.keys))
        for row in session.execute(query).scalars()
    ]


def list_sources(session: Session) -> list[Source]:
    """Return the protected sources by name, and how many examples each blocks."""
    rows = session.execute(
        text(
            "SELECT p.source, count(DISTINCT p.id), count(DISTINCT c.example_id), "
            "max(p.created_at) FROM protected_text p "
            "LEFT JOIN contamination c ON c.protected_id = p.id GROUP BY 1 ORDER BY 1"
        )
    )
    return [Source(*row) for row in rows]


def _stored(session: Session, source: str) -> Sequence[Protected]:
    rows = session.execute(select(ProtectedText).where(col(ProtectedText.source) == source))
    return [
        Protected(row.item_id, row.prompt, row.solution, tuple(row.keys)) for row in rows.scalars()
    ]


def _next_moment(session: Session) -> datetime:
    """Return a time after every source's, whatever the clocks say; needs the lock."""
    now: datetime = session.execute(select(func.clock_timestamp())).scalar_one()
    last = session.execute(select(func.max(col(ProtectedText.created_at)))).scalar_one()
    return now if last is None else max(now, last + timedelta(microseconds=1))


def _remove(session: Session, source: str) -> int:
    """Delete a source's items, and open again what only they had blocked; return their number."""
    blocked = session.execute(_BLOCKED_BY, {"source": source}).scalars().all()
    gone = delete(_ITEMS).where(col(ProtectedText.source) == source).returning(_ITEMS.c.id)
    n_removed = len(session.execute(gone).all())
    if blocked:
        session.execute(_FREE, {"ids": blocked, "reason": CONTAMINATED})
    return n_removed


_BLOCKED_BY: Final = text(
    "SELECT DISTINCT c.example_id FROM contamination c "
    "JOIN protected_text p ON p.id = c.protected_id WHERE p.source = :source"
)
_FREE: Final = text(
    """
    UPDATE example SET drop_reason = NULL, protection = '', needs_settling = true
    WHERE id = ANY(CAST(:ids AS uuid[])) AND drop_reason = :reason
      AND NOT EXISTS (SELECT 1 FROM contamination c WHERE c.example_id = example.id)
    """
)


def _storable(item: Protected) -> Protected:
    """Return an item as PostgreSQL takes it: without NUL."""
    return replace(
        item, prompt=item.prompt.replace("\0", "�"), solution=item.solution.replace("\0", "�")
    )


def _version() -> str:
    return str(RULE_VERSIONS["decontaminate"])
