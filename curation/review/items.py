"""How an item comes into the queue: once, with its place in the order, for one reviewer or two."""

from collections.abc import Iterable
from typing import Any, Final
from uuid import UUID

from sqlalchemy.dialects.postgresql import insert
from sqlmodel import Session, col

from curation.review.draws import SECOND, draw
from curation.tables import ReviewItem

RANDOM, UNCERTAINTY, DISAGREEMENT = "random", "uncertainty", "disagreement"
DIVERSITY, FILTER, SEMANTIC = "diversity", "filter", "semantic"
BY_HAND_FIRST: Final = 1.0
"""What is added to the priority, else in 0-1, of what somebody asked for."""


def add_items(session: Session, items: Iterable[ReviewItem]) -> int:
    """Put items into the queue, those that are not in it already; return how many."""
    rows = [item.model_dump() for item in items]
    if not rows:
        return 0
    added = session.execute(
        insert(ReviewItem).on_conflict_do_nothing().returning(col(ReviewItem.id)), rows
    )
    return len(added.all())


def item_of(
    role: str,
    kind: str,
    subject_id: UUID,
    reason: str,
    priority: float,
    double_share: float,
    **columns: Any,
) -> ReviewItem:
    """Return a new item; the hash of its subject says whether two reviewers must label it."""
    return ReviewItem(
        role=role,
        kind=kind,
        subject_id=subject_id,
        reason=reason,
        priority=priority,
        n_wanted=2 if draw(SECOND, subject_id) < double_share else 1,
        **columns,
    )
