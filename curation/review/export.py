"""Labels as rows, to be taken elsewhere: what was shown, what was said, by whom."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlmodel import Session, col

from curation.tables import Example, ReviewItem, ReviewLabel

_ROWS_AT_ONCE = 500


def exported(
    session: Session,
    role: str | None = None,
    since: datetime | None = None,
    *,
    undone: bool = False,
) -> Iterator[dict[str, Any]]:
    """Yield each label as JSON values, oldest first, with the prompt and answer it is about.

    A few hundred are in memory at a time. `undone` labels are left out unless asked for. Of pairs
    and likenesses the ids are given, not the texts.
    """
    query = (
        select(ReviewLabel, ReviewItem, col(Example.prompt), col(Example.answer))
        .join(ReviewItem, col(ReviewItem.id) == col(ReviewLabel.item_id))
        .join(
            Example,
            (col(Example.id) == col(ReviewItem.subject_id)) & (col(ReviewItem.kind) == "example"),
            isouter=True,
        )
        .order_by(col(ReviewLabel.created_at), col(ReviewLabel.id))
        .execution_options(yield_per=_ROWS_AT_ONCE)
    )
    if role is not None:
        query = query.where(col(ReviewItem.role) == role)
    if since is not None:
        query = query.where(col(ReviewLabel.created_at) >= since)
    if not undone:
        query = query.where(col(ReviewLabel.undone_at).is_(None))
    for label, item, prompt, answer in session.execute(query):
        yield {
            **label.model_dump(mode="json"),
            "role": item.role,
            "kind": item.kind,
            "queued_for": item.reason,
            "subject_id": str(item.subject_id),
            "prompt": prompt,
            "answer": label.value.get("original", answer),
        }
