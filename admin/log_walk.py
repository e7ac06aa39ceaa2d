"""Through the log, newest first, in stretches that end: a filter that fits rarely never scans it.

Each stretch is a range of ids, which PostgreSQL reads from few partitions; its length follows from
how fast the one before went. When the budget is spent the walk says how far it came, and goes on
from there when somebody asks.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Select, Uuid, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Session, col

from admin.log_filters import Filters
from collector.tables import Interaction, InteractionPayload
from foundation.ids import time_of

FIRST_STRETCH: Final = 400
LONGEST_STRETCH: Final = 20_000
_GROWTH: Final = 4
END: Final = UUID(int=2**128 - 1)
"""After every id."""


@dataclass(frozen=True)
class Budget:
    """What one walk may cost."""

    calls: int = 100_000
    seconds: float = 0.06


@dataclass(frozen=True)
class Walked:
    """The ids that fit, newest first, and how far was looked."""

    ids: Sequence[UUID]
    until: UUID
    """Everything from here on was looked at, unless there are ids enough."""
    n_looked: int
    """Calls that were looked at."""
    ended: bool
    """Whether the time asked for, or the log, ends here."""

    @property
    def reached(self) -> datetime:
        """Time of the oldest call that was looked at."""
        return time_of(self.until)


@dataclass
class _Pace:
    """How long the next stretch may be: as long as fits the rest of the budget, growing gently."""

    budget: Budget
    clock: Callable[[], float] = time.monotonic
    stretch: int = FIRST_STRETCH
    n_looked: int = 0
    began: float = field(init=False)

    def __post_init__(self) -> None:
        self.began = self.clock()

    def went(self, n: int) -> None:
        """Note a stretch of `n` calls that is behind us."""
        self.n_looked += n
        elapsed = max(self.clock() - self.began, 1e-6)
        affordable = int(self.n_looked / elapsed * (self.budget.seconds - elapsed))
        left = self.budget.calls - self.n_looked
        self.stretch = min(self.stretch * _GROWTH, LONGEST_STRETCH, affordable, left)

    @property
    def spent(self) -> bool:
        """Whether what is left is worth no stretch."""
        return self.stretch < min(FIRST_STRETCH, self.budget.calls) // 4 or self.stretch < 1


def walk(
    session: Session,
    filters: Filters,
    before: UUID | None,
    n_wanted: int,
    budget: Budget = Budget(),
) -> Walked:
    """Return the newest ids below `before` that fit, up to `n_wanted`, within the budget.

    Raises:
        BadInput: a filter has a value that none could have.
    """
    low, high = filters.low, filters.high
    at = min(bound for bound in (before, high, END) if bound is not None)
    conditions, of_texts = filters.conditions(), filters.of_texts()
    if not conditions and not of_texts:
        return _newest(session, low, at, n_wanted)
    pace = _Pace(budget, stretch=min(FIRST_STRETCH, budget.calls))
    found: list[UUID] = []
    ended = False
    while not ended and len(found) < n_wanted and not pace.spent:
        first, n = _stretch(session, low, at, pace.stretch)
        ended = n < pace.stretch
        if first is not None:
            found += _fitting(session, conditions, of_texts, first, at, n_wanted - len(found))
            at = first
        pace.went(n)
    return Walked(found, at, pace.n_looked, ended and len(found) < n_wanted)


def _fitting(
    session: Session,
    conditions: Sequence[Any],
    of_texts: Sequence[Any],
    first: UUID,
    at: UUID,
    n_wanted: int,
) -> Sequence[UUID]:
    """Return the ids of a stretch that fit: texts are read of those only that fit otherwise.

    Two queries rather than a join, whose plan for the newest rows, which no statistics know of yet,
    reads every text once for every call.
    """
    query = _between(Interaction, first, at).where(*conditions)
    if not of_texts:
        return session.scalars(query.limit(n_wanted)).all()
    texts = _between(InteractionPayload, first, at).where(*of_texts).limit(n_wanted)
    if conditions:
        texts = texts.where(is_one_of(InteractionPayload, session.scalars(query).all()))
    return session.scalars(texts).all()


def _newest(session: Session, low: UUID | None, at: UUID, n_wanted: int) -> Walked:
    ids: Sequence[UUID] = session.scalars(_below(low, at).limit(n_wanted)).all()
    return Walked(ids, ids[-1] if ids else at, len(ids), len(ids) < n_wanted)


def _stretch(session: Session, low: UUID | None, at: UUID, n: int) -> tuple[UUID | None, int]:
    """Return the oldest id of the next `n` calls, None where there is none, and how many it are."""
    ids = _below(low, at).limit(n).subquery()
    found = func.array_agg(ids.c.id)
    first, counted = session.execute(
        select(found[func.count()], func.count()).select_from(ids)
    ).one()
    return first, int(counted)


def _below(low: UUID | None, at: UUID) -> Select[Any]:
    query = select(col(Interaction.id)).where(col(Interaction.id) < at)
    if low is not None:
        query = query.where(col(Interaction.id) >= low)
    return query.order_by(col(Interaction.id).desc())


def _between(table: Any, first: UUID, at: UUID) -> Select[Any]:
    key = col(table.id)
    return select(key).where(key >= first, key < at).order_by(key.desc())


def is_one_of(table: Any, ids: Sequence[UUID]) -> ColumnElement[bool]:
    """Return the condition that a row has one of `ids`, which may be thousands: hashed, so."""
    return col(table.id).in_(select(func.unnest(literal(list(ids), ARRAY(Uuid)))))
