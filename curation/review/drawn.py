"""The guaranteed share: at least so much of each dataset is looked at, drawn by hash of the id.

Every row whose draw is below the share is in the queue. Where chance leaves that a little short of
the share, the rows with the next smallest draws are too. `random_share` proves it by one query.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from uuid import UUID

from sqlalchemy import text, update
from sqlmodel import Session, col

from curation.review.draws import ORDER, SAMPLE, draw, draw_in_sql
from curation.review.items import RANDOM, add_items, item_of
from curation.review.plan import ReviewPlan
from curation.review.said import EXAMPLE
from curation.tables import Dataset, ReviewItem

_ROWS_AT_ONCE = 5000


@dataclass(frozen=True)
class RandomShare:
    """How many rows of a dataset have been drawn for review, whatever else is in the queue."""

    dataset_id: UUID
    share: float
    n_rows: int
    n_drawn: int
    n_left_out: int
    """Rows whose draw is below the share and that are not in the queue: none, if it was filled."""

    @property
    def holds(self) -> bool:
        """Whether at least the share was drawn, and nothing that chance had picked left out."""
        return self.n_drawn >= ceil(self.share * self.n_rows) and self.n_left_out == 0


def random_share(session: Session, dataset: Dataset, share: float = 0.1) -> RandomShare:
    """Return the proof that people look at `share` of a dataset's own rows, drawn by hash."""
    n_rows, n_drawn, n_left_out = session.execute(
        _PROOF, {"dataset": dataset.id, "share": share}
    ).one()
    return RandomShare(dataset.id, share, n_rows, n_drawn, n_left_out)


def draw_rows(session: Session, dataset: Dataset, last: UUID | None, plan: ReviewPlan) -> int:
    """Draw the rows below the share, and then, where that is too few, the next; return how many.

    Args:
        session: holds the lock of the role's queue.
        dataset: whose rows.
        last: the dataset that the queue was last filled from; what it shares with this one is
            drawn already.
        plan: its `random_share` is drawn.
    """
    asked = {"dataset": dataset.id, "last": last, "share": plan.random_share}
    drawn = session.execute(_NEW_BELOW, asked).scalars().all()
    _add(session, dataset.role, drawn, plan)
    n_rows, n_drawn = session.execute(_SO_FAR, {"dataset": dataset.id}).one()
    missing = ceil(plan.random_share * n_rows) - n_drawn
    if missing <= 0:
        return len(drawn)
    more = session.execute(_NEXT, {"dataset": dataset.id, "n": missing}).scalars().all()
    _add(session, dataset.role, more, plan)
    return len(drawn) + len(more)


def _add(session: Session, role: str, example_ids: Sequence[UUID], plan: ReviewPlan) -> None:
    """Put drawn examples into the queue; one that is in it already counts as drawn from now on."""
    for start in range(0, len(example_ids), _ROWS_AT_ONCE):
        batch = example_ids[start : start + _ROWS_AT_ONCE]
        known = session.execute(
            update(ReviewItem)
            .where(col(ReviewItem.kind) == EXAMPLE, col(ReviewItem.subject_id).in_(batch))
            .values(reason=RANDOM)
            .returning(col(ReviewItem.subject_id))
        )
        taken = set(known.scalars())
        new = (one for one in batch if one not in taken)
        add_items(
            session,
            (
                item_of(role, EXAMPLE, one, RANDOM, draw(ORDER, one), plan.double_share)
                for one in new
            ),
        )


_DRAW = draw_in_sql(SAMPLE, "shard_row.row_id::text")

OWN_ROWS = """
    dataset_shard JOIN shard_row ON shard_row.shard = dataset_shard.shard
    WHERE dataset_shard.dataset_id = :dataset AND dataset_shard.origin = 'log'
"""
"""The rows of a dataset that are its role's own, not mixed in."""

IN_NEW_SHARDS = f"""
    {OWN_ROWS} AND NOT EXISTS (
        SELECT 1 FROM dataset_shard AS old
        WHERE old.dataset_id = CAST(:last AS uuid) AND old.shard = dataset_shard.shard
    )
"""
"""Those in files that the dataset before did not have: all that are new, and some that are not."""

_DRAWN = """
    SELECT 1 FROM review_item AS item
    WHERE item.kind = 'example' AND item.subject_id = shard_row.row_id AND item.reason = 'random'
"""
_STILL_THERE = "EXISTS (SELECT 1 FROM example WHERE example.id = shard_row.row_id)"

_NEW_BELOW = text(
    f"""
    SELECT row_id FROM {IN_NEW_SHARDS} AND {_DRAW} < :share
      AND NOT EXISTS ({_DRAWN}) AND {_STILL_THERE}
    ORDER BY row_id
    """
)

_SO_FAR = text(
    f"""
    SELECT (
        SELECT coalesce(sum(n_rows), 0) FROM dataset_shard
        WHERE dataset_id = :dataset AND origin = 'log'
    ), (SELECT count(*) FROM {OWN_ROWS} AND EXISTS ({_DRAWN}))
    """
)

_NEXT = text(
    f"""
    SELECT row_id FROM {OWN_ROWS} AND NOT EXISTS ({_DRAWN}) AND {_STILL_THERE}
    ORDER BY {_DRAW}, row_id LIMIT :n
    """
)

_PROOF = text(
    f"""
    SELECT count(*), count(*) FILTER (WHERE is_drawn),
        count(*) FILTER (WHERE is_below AND NOT is_drawn)
    FROM (
        SELECT EXISTS ({_DRAWN}) AS is_drawn, {_DRAW} < :share AS is_below FROM {OWN_ROWS}
    ) AS own
    """
)
