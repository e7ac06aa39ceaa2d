"""Take rows out of versions that are published: the one change that an immutable version suffers.

The files that hold the rows are written again without them, under the name that their content then
has; versions that shared a file share the new one. A version keeps its number and content hash,
which say what was published, and its card counts the rows that are gone.
"""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, select, text, update
from sqlmodel import Session, col

from curation.publish.card import write_card
from curation.publish.publish import name_rows, shards_json
from curation.publish.rows import Row, row_id
from curation.publish.shards import FILE, entry_of, read_shard, shard_name, write_shard
from curation.tables import TEST, TRAIN, VALIDATION, Dataset, DatasetShard, ShardRow
from foundation import artifacts


def versions_with(session: Session, rows: Sequence[UUID]) -> list[UUID]:
    """Return the versions that hold any of these rows, oldest first."""
    return list(session.execute(_VERSIONS_WITH, {"ids": list(rows)}).scalars())


def count_rows(session: Session, rows: Sequence[UUID]) -> int:
    """Return how often these rows stand in versions."""
    return int(session.execute(_COUNT, {"ids": list(rows)}).scalar_one())


def withdraw(session: Session, rows: Sequence[UUID]) -> list[str]:
    """Take rows out of every version; return the URIs of artifacts to delete after the commit."""
    versions = versions_with(session, rows)
    gone = {str(identifier) for identifier in rows}
    files = session.execute(_FILES_WITH, {"ids": list(rows)}).all()
    for file in files:
        _rewrite(session, file, gone)
    cards = [_recount(session, version) for version in versions]
    return sorted({*(file.uri for file in files), *filter(None, cards)})


def _rewrite(session: Session, file: Any, gone: set[str]) -> None:
    """Put the rest of a file in its place, wherever it stands."""
    rows = [r for r in read_shard(artifacts.fetch(file.uri) / file.file) if row_id(r) not in gone]
    here = (col(DatasetShard.shard) == file.shard, col(DatasetShard.uri) == file.uri)
    if rows:
        entries = [entry_of(row) for row in rows]
        is_whole = len(rows) == file.n_rows
        name = file.shard if is_whole else shard_name(entries)
        placed = {"shard": name, "uri": _stored(rows), "file": FILE, "n_rows": len(rows)}
        name_rows(session, name, [entry.id for entry in entries])
        session.execute(update(DatasetShard).where(*here).values(**placed))
        if is_whole:
            return
    else:
        session.execute(delete(DatasetShard).where(*here))
    session.execute(delete(ShardRow).where(col(ShardRow.shard) == file.shard))


def _stored(rows: Sequence[Row]) -> str:
    with TemporaryDirectory(prefix="flywheel-shard-") as folder:
        path = Path(folder) / FILE
        write_shard(path, rows)
        return artifacts.put(path).uri


def _recount(session: Session, dataset_id: UUID) -> str | None:
    """Make a version's counts and card say what is left; return the URI of its old card."""
    dataset = session.get_one(Dataset, dataset_id, populate_existing=True)
    query = select(col(DatasetShard.split), func.sum(col(DatasetShard.n_rows))).where(
        col(DatasetShard.dataset_id) == dataset_id
    )
    left = {split: int(n) for split, n in session.execute(query.group_by(DatasetShard.split))}
    had = dataset.n_train + dataset.n_validation + dataset.n_test
    n_gone = had - sum(left.values())
    dataset.n_train, dataset.n_validation = left.get(TRAIN, 0), left.get(VALIDATION, 0)
    dataset.n_test = left.get(TEST, 0)
    dataset.card = {**dataset.card, "erased_rows": dataset.card.get("erased_rows", 0) + n_gone}
    old = dataset.artifact_uri
    said = {name: value for name, value in dataset.card.items() if name != "build"}
    dataset.artifact_uri = write_card(said, shards_json(session, dataset))
    session.add(dataset)
    session.flush()
    return old


_VERSIONS_WITH = text(
    """
    SELECT DISTINCT dataset_id FROM dataset_example
    WHERE example_id = ANY(CAST(:ids AS uuid[])) ORDER BY dataset_id
    """
)
_COUNT = text("SELECT count(*) FROM dataset_example WHERE example_id = ANY(CAST(:ids AS uuid[]))")

# Artifacts from before there were shards hold the files of all splits: those without such a row
# move too, for the artifact goes as a whole.
_FILES_WITH = text(
    """
    SELECT DISTINCT shard, uri, file, n_rows FROM dataset_shard
    WHERE uri IN (
        SELECT dataset_shard.uri FROM dataset_shard
        JOIN shard_row ON shard_row.shard = dataset_shard.shard
        WHERE shard_row.row_id = ANY(CAST(:ids AS uuid[]))
    )
    ORDER BY shard, uri
    """
)
