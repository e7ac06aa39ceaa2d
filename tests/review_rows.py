"""Examples, datasets and items as a build would have left them, to be reviewed in tests."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlmodel import Session
from stored_rows import store_example

from curation.review.draws import ORDER, draw
from curation.review.items import RANDOM
from curation.tables import (
    Dataset,
    DatasetShard,
    Example,
    PreferencePair,
    ReviewItem,
    ShardRow,
    TextEdge,
)


def example(session: Session, answer: str = "x = 1", **columns: Any) -> Example:
    """A kept example of the coder."""
    prompt = columns.pop("prompt", "Say x.")
    return store_example(session, prompt, answer, **{"score": 0.9, **columns})


def examples(session: Session, n: int, **columns: Any) -> list[Example]:
    """`n` kept examples with answers of their own."""
    return [example(session, f"total_{i} = {i} * {i % 7}", **columns) for i in range(n)]


def dataset(
    session: Session, rows: Sequence[Example], number: int = 1, origin: str = "log"
) -> Dataset:
    """A dataset of these rows, in shards of a hundred that the next one shares."""
    made = Dataset(role=rows[0].role, number=number, content_hash=f"d{number}", n_train=len(rows))
    session.add(made)
    session.flush()
    for position, start in enumerate(range(0, len(rows), 100)):
        part = rows[start : start + 100]
        shard = f"{origin}-{part[0].id}-{len(part)}"
        session.add(
            DatasetShard(
                dataset_id=made.id,
                split="train",
                position=position,
                shard=shard,
                n_rows=len(part),
                uri="file:x",
                origin=origin,
            )
        )
        for row in part:
            session.merge(ShardRow(shard=shard, row_id=row.id))
    session.flush()
    return made


def item(session: Session, subject_id: UUID, kind: str = "example", **columns: Any) -> ReviewItem:
    """An open item of the coder's queue."""
    made = ReviewItem(
        **{
            "role": "coder",
            "reason": RANDOM,
            "priority": draw(ORDER, subject_id),
            "kind": kind,
            "subject_id": subject_id,
            **columns,
        }
    )
    session.add(made)
    session.flush()
    return made


def items(session: Session, n: int, **columns: Any) -> list[ReviewItem]:
    """`n` open items, each about an example of its own."""
    return [item(session, one.id, **columns) for one in examples(session, n)]


def pair(session: Session, chosen: str = "good", rejected: str = "bad", **columns: Any):
    """A kept preference pair of the coder, and its two examples."""
    better, worse = example(session, chosen), example(session, rejected)
    made = PreferencePair(
        **{
            "role": "coder",
            "basis": "outcome",
            "task_key": "t",
            "norm_hash": "p",
            "evidence": {"opposite": "q"},
            **columns,
        },
        winner_id=better.interaction_id,
        loser_id=worse.interaction_id,
        prompt=better.prompt,
        chosen=chosen,
        rejected=rejected,
    )
    session.add(made)
    session.flush()
    return made, better, worse


def likeness(session: Session, low: int = 1, high: int = 2, similarity: float = 0.96):
    """A proposed repeat of two kept examples."""
    one = example(session, f"answer {low}", text_id=low)
    other = example(session, f"answer {high}", text_id=high)
    edge = TextEdge(low=low, high=high, kind="semantic", similarity=similarity)
    session.add(edge)
    session.flush()
    return edge, one, other
