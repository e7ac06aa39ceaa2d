"""Front desk: dataset versions and their rows, as trainers read them.

A version is a list of shards, each a file among the artifacts; `curation.publish.shards` says how
they come about. Versions that agree in a stretch of rows name the same file.
"""

import json
import shutil
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import mkdtemp
from typing import Final
from uuid import UUID

from sqlmodel import Session, col, select

from curation.publish.folder import copy_shards, write_about, write_records
from curation.publish.formats import PARQUET, get_format
from curation.publish.page import render
from curation.publish.rows import Row
from curation.publish.shards import join_shards, read_shard
from curation.recipe import DEFAULT
from curation.tables import SFT, TEST, TRAIN, VALIDATION, Dataset, DatasetShard
from foundation.artifacts import fetch
from foundation.errors import BadInput, NotFound

SPLITS: Final = (TRAIN, VALIDATION, TEST)
"""Kept in files apart, so that nobody trains on `test` by forgetting a filter."""
_LINES_AT_ONCE: Final = 64


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


def write_export(
    session: Session, dataset_id: UUID, folder: Path, format: str = PARQUET
) -> dict[str, int]:
    """Write a version as a new folder and return the records of each split.

    One file per split (of Parquet, one per shard), the card as JSON and as a page, and a README by
    which `datasets.load_dataset` finds the splits. Nothing is left where it fails half-way.

    Args:
        session: reads the version.
        dataset_id: which one.
        folder: must not exist, or be empty.
        format: a name in `curation.publish.formats.FORMATS`.

    Raises:
        NotFound: no such dataset, or its files are gone.
        BadInput: the format does not fit the kind of dataset, or the folder has something in it.
    """
    dataset = get_dataset(session, dataset_id)
    made = get_format(format, dataset.kind)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput("folder", str(folder), "a new or an empty folder", "Name another one.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    unfinished.chmod(0o755)
    n_records = {}
    try:
        for split in SPLITS:
            shards = shards_of(session, dataset_id, split)
            if made.records is None:
                copy_shards(unfinished, split, [path_of(shard) for shard in shards])
                n_records[split] = sum(shard.n_rows for shard in shards)
            else:
                records = made.records(partial(read, session, dataset_id, split))
                path = unfinished / f"{split}.{made.suffix}"
                n_records[split] = write_records(path, made.suffix, records)
        write_about(unfinished, dataset, made, n_records)
        unfinished.replace(folder)
    except BaseException:
        shutil.rmtree(unfinished)
        raise
    return n_records


def lines_of_split(session: Session, dataset_id: UUID, split: str, format: str) -> Iterator[str]:
    """Return the records of one split as JSON lines, in pieces, a few hundred rows in memory.

    What they are read from is found before the first piece, so that nothing breaks off half-way for
    a file that is gone. The pieces need no session.

    Raises:
        NotFound: no such dataset, or its files are gone.
        BadInput: no such split, no such format for its kind, or not one of JSON lines.
    """
    if split not in SPLITS:
        raise BadInput("split", split, f"one of {', '.join(SPLITS)}", "Check the spelling.")
    made = get_format(format, get_dataset(session, dataset_id).kind)
    if made.records is None or made.suffix != "jsonl":
        raise BadInput("format", format, "a format of JSON lines", "Export the whole version.")
    paths = [path_of(shard) for shard in shards_of(session, dataset_id, split)]
    records = made.records(lambda: (row for path in paths for row in read_shard(path)))
    return _pieces(f"{json.dumps(record, ensure_ascii=False)}\n" for record in records)


def _pieces(lines: Iterator[str]) -> Iterator[str]:
    """Yield lines some at a time: a piece each would cost more to send than to make."""
    while some := list(islice(lines, _LINES_AT_ONCE)):
        yield "".join(some)


def parquet_of_split(session: Session, dataset_id: UUID, split: str, path: Path) -> int:
    """Write one split as one Parquet file at `path`, and return its rows.

    Row group after row group of its shards, so that memory does not grow with the version. A split
    without rows has no columns either, hence no file.

    Raises:
        NotFound: no such dataset, or its files are gone.
        BadInput: no such split.
    """
    if split not in SPLITS:
        raise BadInput("split", split, f"one of {', '.join(SPLITS)}", "Check the spelling.")
    shards = shards_of(session, get_dataset(session, dataset_id).id, split)
    return join_shards([path_of(shard) for shard in shards], path)


def card_page(session: Session, dataset_id: UUID) -> str:
    """Return the card of a version as an HTML page of its own; raises NotFound."""
    return render(get_dataset(session, dataset_id).card)


def get_dataset(session: Session, dataset_id: UUID) -> Dataset:
    """Return a dataset by id; raises NotFound."""
    dataset = session.get(Dataset, dataset_id)
    if dataset is None:
        raise NotFound(
            "dataset", str(dataset_id), "the id of a dataset", "Build one: flywheel curate"
        )
    return dataset


def find_dataset(session: Session, name: str) -> Dataset:
    """Return a dataset by what people call it: an id, or `ROLE[/KIND][@NUMBER]`.

    Without a kind it is `sft`, without a number the newest; of the variant `default`.

    Raises:
        NotFound: there is none of that name.
    """
    try:
        return get_dataset(session, UUID(name))
    except ValueError:
        whole, _, number = name.partition("@")
        role, _, kind = whole.partition("/")
    query = select(Dataset).where(
        Dataset.role == role, Dataset.kind == (kind or SFT), Dataset.variant == DEFAULT
    )
    if number:
        query = query.where(Dataset.number == (int(number) if number.isdecimal() else -1))
    found = session.exec(query.order_by(col(Dataset.number).desc()).limit(1)).first()
    if found is None:
        raise NotFound(
            "dataset", name, "an id, or ROLE[/KIND][@NUMBER]", "List them: flywheel dataset list"
        )
    return found


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
