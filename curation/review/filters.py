"""Items by hand: examples that somebody wants to be looked at, by what is known of them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Self
from uuid import UUID

from sqlalchemy import ColumnElement, Select, func, select, update
from sqlmodel import Session, col

from curation.recipe import DEFAULT
from curation.review.draws import ORDER, draw
from curation.review.items import BY_HAND_FIRST, FILTER, add_items
from curation.review.leases import DONE, OPEN
from curation.review.queue import one_filling_at_a_time
from curation.review.said import EXAMPLE
from curation.review.words import reviewer_name
from curation.tables import Example, ReviewItem
from foundation.errors import BadInput

MOST: Final = 1000
"""Items that one request may add."""

_EQUAL: Final = (
    *("variant", "status", "drop_reason", "polarity", "task_type", "difficulty", "project"),
    *("language", "code_language", "split"),
)


@dataclass(frozen=True)
class Filters:
    """Which examples are meant; None: any."""

    variant: str | None = DEFAULT
    status: str | None = None
    """kept or dropped."""
    drop_reason: str | None = None
    polarity: str | None = None
    task_type: str | None = None
    difficulty: str | None = None
    project: str | None = None
    language: str | None = None
    code_language: str | None = None
    split: str | None = None
    min_score: float | None = None
    max_score: float | None = None
    contains: str | None = None
    """Text of the answer, in any case."""

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Return the filters of plain JSON values; raises BadInput for an unknown one."""
        known = tuple(field.name for field in fields(cls))
        for name in values:
            if name not in known:
                raise BadInput("review filter", name, f"one of {', '.join(known)}", "Correct it.")
        return cls(**values)

    def conditions(self) -> list[ColumnElement[bool]]:
        """Return what an example must fulfil."""
        wanted = [
            getattr(Example, name) == getattr(self, name)
            for name in _EQUAL
            if getattr(self, name) is not None
        ]
        if self.min_score is not None:
            wanted.append(col(Example.score) >= self.min_score)
        if self.max_score is not None:
            wanted.append(col(Example.score) <= self.max_score)
        if self.contains:
            wanted.append(col(Example.answer).icontains(self.contains, autoescape=True))
        return wanted


def add_matching(
    session: Session,
    role: str,
    wanted: Filters,
    *,
    limit: int = 100,
    n_wanted: int = 1,
    assigned_to: str | None = None,
) -> int:
    """Have the newest examples that match looked at before all others; return how many.

    One that waits in the queue already comes forward; one that has been labelled stays as it is.

    Args:
        session: one transaction, which the caller commits.
        role: of the examples.
        wanted: which of them.
        limit: how many at most, up to `MOST`.
        n_wanted: labels of different reviewers that each needs.
        assigned_to: the one reviewer who gets them; None: whoever comes.

    Raises:
        BadInput: `limit` or `n_wanted` is out of range.
    """
    for name, value, most in (("limit", limit, MOST), ("n_wanted", n_wanted, 10)):
        if not 1 <= value <= most:
            raise BadInput(f"review filter {name}", value, f"1 to {most}", "Ask for less.")
    query = (
        select(col(Example.id))
        .where(col(Example.role) == role, *wanted.conditions(), ~_settled().exists())
        .order_by(col(Example.id).desc())
        .limit(limit)
    )
    one_filling_at_a_time(session, role)
    ids = session.execute(query).scalars().all()
    return _bring_forward(session, role, ids, n_wanted, assigned_to)


def add_examples(session: Session, role: str, ids: Sequence[UUID]) -> int:
    """Have these examples of a role looked at before all others; return how many.

    Those that have been labelled already stay as they are, and are not counted.
    """
    one_filling_at_a_time(session, role)
    query = select(col(Example.id)).where(
        col(Example.role) == role, col(Example.id).in_(ids), ~_settled().exists()
    )
    return _bring_forward(session, role, session.execute(query).scalars().all(), 1, None)


def _settled() -> Select[Any]:
    return select(col(ReviewItem.id)).where(
        col(ReviewItem.kind) == EXAMPLE,
        col(ReviewItem.subject_id) == col(Example.id),
        col(ReviewItem.status) == DONE,
    )


def _bring_forward(
    session: Session, role: str, ids: Sequence[UUID], n_wanted: int, assigned_to: str | None
) -> int:
    reviewer = None if assigned_to is None else reviewer_name(assigned_to)
    priority = col(ReviewItem.priority)
    forward = session.execute(
        update(ReviewItem)
        .where(col(ReviewItem.kind) == EXAMPLE, col(ReviewItem.subject_id).in_(ids))
        .values(
            status=OPEN,
            priority=priority - func.floor(priority) + BY_HAND_FIRST,
            n_wanted=func.greatest(col(ReviewItem.n_wanted), n_wanted),
            assigned_to=reviewer,
        )
        .returning(col(ReviewItem.subject_id))
    )
    waiting = set(forward.scalars())
    new = (one for one in ids if one not in waiting)
    add_items(
        session,
        (
            ReviewItem(
                role=role,
                kind=EXAMPLE,
                subject_id=one,
                reason=FILTER,
                priority=BY_HAND_FIRST + draw(ORDER, one),
                n_wanted=n_wanted,
                assigned_to=reviewer,
            )
            for one in new
        ),
    )
    return len(ids)
