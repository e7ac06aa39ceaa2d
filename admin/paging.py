"""Lists: filters, keyset paging over UUIDv7 ids, and counts that never scan a whole log."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, TypeVar
from uuid import UUID

from sqlalchemy import Select, func, literal, select, union_all
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import ClauseElement, Executable
from sqlmodel import Session

PAGE_SIZE = 40
COUNT_LIMIT = 10_000
WITHIN = {
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(days=7),
    "month": timedelta(days=30),
    "year": timedelta(days=365),
}
"""What the filter of time offers, of each list that has one."""

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True)
class Narrowing:
    """Base of the filters of a list: text fields that are empty where nothing is left out."""

    @property
    def query(self) -> dict[str, str]:
        """These filters as the query of an address."""
        return {name: value for name, value in vars(self).items() if value}


@dataclass(frozen=True)
class Slice(Generic[T]):
    """Rows of one page, newest first, and the id to continue below (None: this was the last)."""

    rows: Sequence[T]
    older: UUID | None = None

    def map(self, function: Callable[[T], U]) -> "Slice[U]":
        """Return the slice with `function` applied to each row."""
        return Slice([function(row) for row in self.rows], self.older)


def newest_first(
    session: Session, query: Any, key: Any, before: UUID | None, size: int = PAGE_SIZE
) -> Slice[Any]:
    """Return up to `size` rows of `query` with `key` below `before`.

    `query` selects one entity, or several columns of which the first carries the key as `id`.
    """
    if before is not None:
        query = query.where(key < before)
    rows = session.execute(query.order_by(key.desc()).limit(size + 1)).all()
    shown = rows[:size]
    older = identity_of(shown[-1]) if len(rows) > size else None
    return Slice([row[0] if len(row) == 1 else row for row in shown], older)


def identity_of(row: Any) -> UUID:
    """Return the id of a row: that of its first entity, or its first column."""
    first = row[0]
    identity: UUID = first if isinstance(first, UUID) else first.id
    return identity


@dataclass(frozen=True)
class Count:
    """A number of rows: exact, or `at least` when counting stopped, or an estimate."""

    n: int
    kind: str = "exact"

    @property
    def mark(self) -> str:
        """What to write beside the number: nothing, `+` after it or `≈` before it."""
        return {"exact": "", "at least": "+", "estimate": "≈"}[self.kind]


def bounded_count(session: Session, query: Select[Any], limit: int = COUNT_LIMIT) -> Count:
    """Count the rows of `query`, stopping after `limit`."""
    counted = session.scalar(select(func.count()).select_from(query.limit(limit + 1).subquery()))
    n = int(counted or 0)
    return Count(n) if n <= limit else Count(limit, "at least")


COUNTED = 2_000
"""Rows up to which `about` counts."""


def about(session: Session, queries: Sequence[Select[Any]], limit: int = COUNTED) -> list[Count]:
    """Return the number of rows of each query (of an id): counted up to `limit`, else estimated.

    The estimate is the planner's, from its statistics, as `EXPLAIN` tells it: no row is read.
    """
    if not queries:
        return []
    counts = [
        select(literal(place).label("place"), func.count().label("n")).select_from(
            query.limit(limit + 1).subquery()
        )
        for place, query in enumerate(queries)
    ]
    found = {row.place: int(row.n) for row in session.execute(union_all(*counts))}
    full = [place for place in range(len(queries)) if found[place] > limit]
    guessed = dict(zip(full, _estimates(session, [queries[place] for place in full]), strict=True))
    return [
        Count(max(guessed[place], limit + 1), "estimate")
        if place in guessed
        else Count(found[place])
        for place in range(len(queries))
    ]


def _estimates(session: Session, queries: Sequence[Select[Any]]) -> list[int]:
    if not queries:
        return []
    one = queries[0] if len(queries) == 1 else union_all(*queries)
    plan = session.execute(_Explained(one)).scalar()
    root = plan[0]["Plan"]  # type: ignore[index]  # as PostgreSQL prints it
    return [int(part["Plan Rows"]) for part in ([root] if len(queries) == 1 else root["Plans"])]


class _Explained(Executable, ClauseElement):
    """A statement that is explained instead of run."""

    inherit_cache = False

    def __init__(self, query: Any) -> None:
        self.query = query


@compiles(_Explained)
def _explain(element: _Explained, compiler: Any, **options: Any) -> str:
    return f"EXPLAIN (FORMAT JSON) {compiler.process(element.query, **options)}"
