"""Two answers of an evaluation that people compare, blind: item kind `sample`.

Evaluations stand on a floor above, so the item carries its texts, scrubbed, in its `detail`. What
is said of it changes no example; the evaluation reads the choices.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import select
from sqlmodel import Session, col

from curation.review.draws import ORDER, draw
from curation.review.items import RANDOM, add_items, item_of
from curation.review.said import COMPARE, SAMPLE
from curation.review.words import scrubbed
from curation.tables import ReviewItem, ReviewLabel
from foundation.chat import Message

DOUBLE_SHARE: Final = 0.1
"""Of the samples, by hash: which two people compare."""


@dataclass(frozen=True)
class ShownSample:
    """Two answers to one task, as an item carries them; which is whose is not shown."""

    first_id: UUID
    second_id: UUID
    prompt: Sequence[Message]
    first: str
    second: str
    task_type: str | None = None
    project: str = ""


def add_samples(session: Session, role: str, samples: Iterable[ShownSample]) -> int:
    """Put answers into a role's queue, those that are not in it already; return how many."""
    return add_items(
        session,
        [
            item_of(
                role,
                SAMPLE,
                one.first_id,
                RANDOM,
                draw(ORDER, one.first_id),
                DOUBLE_SHARE,
                other_id=one.second_id,
                detail=_detail(one),
            )
            for one in samples
        ],
    )


def sample_of(item: ReviewItem) -> ShownSample:
    """Return the answers that an item carries."""
    return ShownSample(item.subject_id, UUID(str(item.other_id)), **item.detail["sample"])


def choices(session: Session, first_ids: Sequence[UUID]) -> dict[UUID, list[UUID | None]]:
    """Return what people chose in settled samples: the id of the better answer, None for a tie.

    Args:
        session: reads the labels in force.
        first_ids: `ShownSample.first_id` of those that are asked for.
    """
    query = (
        select(col(ReviewItem.subject_id), col(ReviewLabel.value))
        .join(ReviewLabel, col(ReviewItem.id) == col(ReviewLabel.item_id))
        .where(
            col(ReviewItem.kind) == SAMPLE,
            col(ReviewItem.status) == "done",
            col(ReviewItem.subject_id).in_(first_ids),
            col(ReviewLabel.action) == COMPARE,
            col(ReviewLabel.undone_at).is_(None),
        )
        .order_by(col(ReviewLabel.created_at), col(ReviewLabel.id))
    )
    found: dict[UUID, list[UUID | None]] = defaultdict(list)
    for subject_id, value in session.execute(query):
        winner = value["winner"]
        found[subject_id].append(None if winner is None else UUID(winner))
    return dict(found)


def _detail(sample: ShownSample) -> dict[str, Any]:
    shown = {"prompt": list(sample.prompt), "first": sample.first, "second": sample.second}
    about = {"task_type": sample.task_type, "project": sample.project}
    return {"sample": {**scrubbed(shown), **about}}
