"""Front desk of review: what people are to look at.

After a build `fill_queue` adds a guaranteed share of the dataset's rows, drawn by hash, so that
what people find there holds for the whole dataset (`drawn`); and, of what is new, what a small
model picks, preference pairs to compare and likenesses to settle (`picked`). `add_matching` adds
what somebody looks for. An example is in the queue once, however many reasons speak for it.
"""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import select, text, update
from sqlmodel import Session, col

from curation.review.drawn import draw_rows
from curation.review.items import RANDOM
from curation.review.leases import OPEN, WITHDRAWN
from curation.review.picked import pick
from curation.review.plan import ReviewPlan
from curation.review.words import reviewer_name
from curation.tables import SFT, Dataset, ReviewItem
from foundation.decisions import record
from foundation.tables import Decision

FILLED: Final = "review.fill"
"""Kind of the decision that says which dataset a queue was filled from."""


def fill_queue(session: Session, role: str, plan: ReviewPlan | None = None) -> dict[str, Any]:
    """Add to a role's queue what its newest dataset asks for; return how many by reason.

    What is drawn at random follows from the ids alone; the rest is chosen among what is new since
    the queue was last filled, so a second call on the same dataset adds nothing.

    Args:
        session: one transaction, which the caller commits.
        role: of the dataset.
        plan: how much of what; None: the defaults.
    """
    plan = plan or ReviewPlan()
    one_filling_at_a_time(session, role)
    dataset = newest_dataset(session, role, plan.variant)
    if dataset is None:
        return {}
    last = _last_filled(session, role, plan.variant)
    counts: dict[str, Any] = {RANDOM: draw_rows(session, dataset, last, plan)}
    if last != dataset.id:
        counts |= pick(session, dataset, last, plan)
        record(
            session,
            FILLED,
            "filled",
            [f"{reason}: {n}" for reason, n in counts.items()],
            inputs={"variant": plan.variant, "counts": counts},
            thresholds=plan.as_json(),
            role=role,
            subject_id=dataset.id,
        )
    return counts


def one_filling_at_a_time(session: Session, role: str) -> None:
    """Wait for others that fill the same queue; the lock ends with the transaction."""
    session.execute(_LOCK, {"key": f"review:{role}"})


def newest_dataset(session: Session, role: str, variant: str) -> Dataset | None:
    """Return the newest supervised dataset of a role, or None."""
    query = (
        select(Dataset)
        .where(col(Dataset.role) == role, col(Dataset.kind) == SFT, col(Dataset.variant) == variant)
        .order_by(col(Dataset.number).desc())
        .limit(1)
    )
    return session.execute(query).scalar_one_or_none()


def assign(session: Session, item_ids: Sequence[UUID], reviewer: str | None) -> int:
    """Give open items to one reviewer alone, or back to everybody (None); return how many."""
    name = None if reviewer is None else reviewer_name(reviewer)
    return _set_open(session, item_ids, assigned_to=name)


def withdraw(session: Session, item_ids: Sequence[UUID]) -> int:
    """Take open items out of the queue; return how many."""
    return _set_open(session, item_ids, status=WITHDRAWN)


def _last_filled(session: Session, role: str, variant: str) -> UUID | None:
    query = (
        select(col(Decision.subject_id))
        .where(
            col(Decision.kind) == FILLED,
            col(Decision.role) == role,
            col(Decision.inputs)["variant"].astext == variant,
        )
        .order_by(col(Decision.id).desc())
        .limit(1)
    )
    found: UUID | None = session.execute(query).scalar_one_or_none()
    return found


def _set_open(session: Session, item_ids: Sequence[UUID], **values: Any) -> int:
    changed = session.execute(
        update(ReviewItem)
        .where(col(ReviewItem.id).in_(item_ids), col(ReviewItem.status) == OPEN)
        .values(values)
        .returning(col(ReviewItem.id))
    )
    return len(changed.all())


_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))")
