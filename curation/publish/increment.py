"""What a version has that earlier ones had not: the rows that a model has still to learn.

A model that goes on from an earlier one learns what is new, and is shown what it knew by replay.
The new rows are a version of their own (variant `increment`): immutable, with the splits that they
had, and reached by erasure like any other.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlmodel import Session, func, select

from curation.export import get_dataset, path_of, read, shards_of
from curation.publish.card import write_card
from curation.publish.publish import name_rows, shards_json
from curation.publish.rows import Row
from curation.publish.shards import FILE, Entry, cut, entries_in, entry_of, shard_name, write_shard
from curation.tables import TRAIN, Dataset, DatasetShard
from foundation.artifacts import put

INCREMENT: Final = "increment"


def publish_increment(
    session: Session, dataset_id: UUID, learned: Sequence[UUID]
) -> Dataset | None:
    """Return the training rows of a version that stood in no training split of `learned` like that.

    A row that says something else by now (a correction) is new. Validation rows are not copied: the
    few steps on an increment are judged by a benchmark. The same rows give the same version.

    Args:
        session: of the surrounding transaction.
        dataset_id: the version with all rows.
        learned: versions that the model learned from; none: all rows are new.

    Returns:
        The increment; None where nothing is new.

    Raises:
        NotFound: one of the versions, or its files.
    """
    whole = get_dataset(session, dataset_id)
    known = _row_hashes(session, learned)
    rows = [row for row in read(session, whole.id, TRAIN) if row["row_hash"] not in known]
    if not rows:
        return None
    rows.sort(key=lambda row: entry_of(row).id)
    shards = list(cut(entry_of(row) for row in rows))
    content_hash = _hash_of(whole, shards)
    _one_at_a_time(session, whole)
    stored = session.exec(
        select(Dataset).where(
            Dataset.role == whole.role,
            Dataset.kind == whole.kind,
            Dataset.variant == INCREMENT,
            Dataset.content_hash == content_hash,
        )
    ).first()
    return stored or _store(session, whole, learned, rows, shards, content_hash)


def _row_hashes(session: Session, datasets: Iterable[UUID]) -> set[str]:
    shards = [shard for one in datasets for shard in shards_of(session, one, TRAIN)]
    files = {(shard.uri, shard.file): path_of(shard) for shard in shards}
    return {entry.row_hash for path in files.values() for entry in entries_in(path)}


def _hash_of(whole: Dataset, shards: Sequence[Sequence[Entry]]) -> str:
    said = [INCREMENT, whole.role, whole.kind, [shard_name(shard) for shard in shards]]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _one_at_a_time(session: Session, whole: Dataset) -> None:
    session.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"),
        {"key": f"increment/{whole.role}/{whole.kind}"},
    )


def _store(
    session: Session,
    whole: Dataset,
    learned: Sequence[UUID],
    rows: Sequence[Row],
    shards: Sequence[Sequence[Entry]],
    content_hash: str,
) -> Dataset:
    latest = session.exec(
        select(func.max(Dataset.number)).where(
            Dataset.role == whole.role, Dataset.kind == whole.kind, Dataset.variant == INCREMENT
        )
    ).one()
    dataset = Dataset(
        role=whole.role,
        kind=whole.kind,
        variant=INCREMENT,
        number=(latest or 0) + 1,
        content_hash=content_hash,
        n_train=len(rows),
    )
    session.add(dataset)
    session.flush()
    left = iter(rows)
    for position, shard in enumerate(shards):
        session.add(
            DatasetShard(
                dataset_id=dataset.id,
                split=TRAIN,
                position=position,
                shard=shard_name(shard),
                n_rows=len(shard),
                uri=_written(session, shard, [next(left) for _ in shard]),
            )
        )
    session.flush()
    card = _card(dataset, whole, learned, rows)
    dataset.artifact_uri = write_card(card, shards_json(session, dataset))
    dataset.card = card
    session.add(dataset)
    session.flush()
    return dataset


def _written(session: Session, shard: Sequence[Entry], rows: Sequence[Row]) -> str:
    with TemporaryDirectory(prefix="flywheel-shard-") as folder:
        path = Path(folder) / FILE
        write_shard(path, rows)
        name_rows(session, shard_name(shard), [entry.id for entry in shard])
        return put(path).uri


def _card(
    dataset: Dataset, whole: Dataset, learned: Sequence[UUID], rows: Sequence[Row]
) -> dict[str, Any]:
    return {
        "role": dataset.role,
        "kind": dataset.kind,
        "variant": dataset.variant,
        "number": dataset.number,
        "content_hash": dataset.content_hash,
        "kept": len(rows),
        "candidates": whole.n_train,
        "splits": {TRAIN: len(rows)},
        "increment_of": str(whole.id),
        "learned_before": [str(one) for one in learned],
        "corrected": sum(bool(row.get("corrected")) for row in rows),
        "recipe": whole.card.get("recipe"),
        "warnings": [],
    }
