"""Front desk: dataset versions and their rows, as trainers read them.

A version is a list of shards, each a file among the artifacts; `curation.publish.shards` says how
they come about. Versions that agree in a stretch of rows name the same file.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final
from uuid import UUID

from sqlmodel import Session, col, select

from curation.publish.rows import Row
from curation.publish.shards import read_shard
from curation.tables import SFT, TEST, TRAIN, VALIDATION, Dataset, DatasetShard
from foundation.artifacts import fetch
from foundation.errors import BadInput, NotFound

SPLITS: Final = (TRAIN, VALIDATION, TEST)
"""Kept in files apart, so that nobody trains on `test` by forgetting a filter."""


def load_rows(session: Session, dataset_id: UUID, split: str) -> list[Row]:
    """Return the rows of one split as `{"prompt", "completion", "example_id", "task_type"}`.

    `prompt` is the list of messages before the answer, `completion` a list with the one assistant
    message. Sorted by id within what the log gave, then what was mixed in; an empty split gives an
    empty list.

    Raises:
        NotFound: no such dataset, or its files are gone.
        BadInput: `split` is none of train, validation, test, or the rows are preference pairs.
    """
    dataset = get_dataset(session, dataset_id)
    wanted = ("prompt", "completion", "example_id", "task_type")
    rows = []
    for row in read(session, dataset_id, split):
        if "completion" not in row:
            raise BadInput(
                "kind of dataset", dataset.kind, "answers to learn", "Read its pairs by read()."
            )
        rows.append({key: row[key] for key in wanted})
    return rows


def read(session: Session, dataset_id: UUID, split: str) -> Iterator[Row]:
    """Yield the full rows of one split, a few hundred in memory; raises as `load_rows`."""
    if split not in SPLITS:
        raise BadInput("split", split, f"one of {', '.join(SPLITS)}", "Check the spelling.")
    for shard in shards_of(session, get_dataset(session, dataset_id).id, split):
        yield from read_shard(path_of(shard))


def get_dataset(session: Session, dataset_id: UUID) -> Dataset:
    """Return a dataset by id; raises NotFound."""
    dataset = session.get(Dataset, dataset_id)
    if dataset is None:
        raise NotFound(
            "dataset", str(dataset_id), "the id of a dataset", "Build one: flywheel curate"
        )
    return dataset


def latest_dataset(
    session: Session, role: str, variant: str = "default", kind: str = SFT
) -> Dataset | None:
    """Return the newest version of a role's dataset, or None."""
    return session.exec(
        select(Dataset)
        .where(Dataset.role == role, Dataset.kind == kind, Dataset.variant == variant)
        .order_by(col(Dataset.number).desc())
        .limit(1)
    ).first()


def shards_of(session: Session, dataset_id: UUID, split: str | None = None) -> list[DatasetShard]:
    """Return the shards of a version in order, of one split or of all."""
    query = select(DatasetShard).where(DatasetShard.dataset_id == dataset_id)
    if split is not None:
        query = query.where(DatasetShard.split == split)
    return list(session.exec(query.order_by(DatasetShard.split, col(DatasetShard.position))))


def path_of(shard: DatasetShard) -> Path:
    """Return the local path of a shard's file; raises NotFound where its artifact is gone."""
    return fetch(shard.uri) / shard.file
