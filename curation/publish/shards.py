"""Files of rows, cut where the content says so: versions that agree in a stretch share its file.

A row ends its shard when the hash of its id says so, whatever stands around it, so that one more
row changes one shard and leaves the others, hence their names and files, as they were. A shard is
named by the hash of its rows. It is written as zstd Parquet of a fixed schema, sorted by id, with
nothing in it that depends on a clock: the same rows give the same bytes.

Content-defined chunking: Muthitacharoen et al., A Low-bandwidth Network File System, SOSP 2001;
there over a window of bytes, here over ids.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import UUID

from curation.publish.rows import BESIDE, Row, hash_of_row, row_id
from foundation.chat import message, text_of

MEAN_ROWS: Final = 1024
"""Rows of a shard on average."""
MOST_ROWS: Final = 4096
"""Rows of a shard at most: one in fifty would be longer."""
ROWS_PER_GROUP: Final = 256
"""Rows of a Parquet row group: what a reader or a writer holds in memory."""
FORMAT_VERSION: Final = 2
"""Raised when the same rows would give another file."""
FILE: Final = "rows.parquet"

_MESSAGES: Final = ("prompt", "completion", "chosen", "rejected")


class Entry(NamedTuple):
    """A row by what tells whether it changed."""

    id: UUID
    row_hash: str
    score: float | None
    split_key: str


def cut(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Yield the shards of entries that come sorted by id; none for no entries."""
    shard: list[Entry] = []
    for entry in entries:
        shard.append(entry)
        if ends_shard(entry.id) or len(shard) == MOST_ROWS:
            yield shard
            shard = []
    if shard:
        yield shard


def ends_shard(identifier: UUID) -> bool:
    """Return whether a row ends its shard, whatever stands around it."""
    digest = hashlib.blake2b(identifier.bytes, digest_size=4).digest()
    return int.from_bytes(digest) % MEAN_ROWS == 0


def shard_name(entries: Sequence[Entry]) -> str:
    """Return the SHA-256 of a shard's rows: its name, in whichever versions and splits it stands.

    Scores count as they are written, to four decimals.
    """
    digest = hashlib.sha256(f"shard {FORMAT_VERSION}\n".encode())
    for id, row_hash, score, split_key in entries:
        written = "" if score is None else f"{score:.4f}"
        digest.update(id.bytes + f"{row_hash}\t{written}\t{split_key}\n".encode())
    return digest.hexdigest()


def entry_of(row: Row) -> Entry:
    """Return the entry of a row as it was read."""
    return Entry(UUID(row_id(row)), row["row_hash"], row["score"], row["split_key"])


def write_shard(path: Path, rows: Iterable[Row]) -> int:
    """Write rows, which come sorted by id and are all of one kind, and return their number.

    Holds `ROWS_PER_GROUP` rows in memory. No rows make no file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    n_rows, waiting, file = 0, list[Row](), None

    def flush() -> None:
        nonlocal file
        schema = _schema(waiting[0])
        if file is None:
            file = pq.ParquetWriter(path, schema, compression="zstd", store_schema=False)
        file.write_table(pa.Table.from_pylist(waiting, schema=schema))
        waiting.clear()

    try:
        for row in rows:
            waiting.append(_packed(row))
            n_rows += 1
            if len(waiting) == ROWS_PER_GROUP:
                flush()
        if waiting:
            flush()
    finally:
        if file is not None:
            file.close()
    return n_rows


def read_shard(path: Path) -> Iterator[Row]:
    """Yield the rows of a shard, also of one written before it was called so."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(ROWS_PER_GROUP):
            for row in batch.to_pylist():
                yield _unpacked(row)


def join_shards(paths: Sequence[Path], joined: Path) -> int:
    """Write the rows of some shards into one file, a row group in memory; return their number.

    Columns that only some of them have are empty in the others'. No rows make no file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not paths:
        return 0
    schema = pa.unify_schemas([pq.read_schema(path) for path in paths])
    n_rows = 0
    with pq.ParquetWriter(joined, schema, compression="zstd", store_schema=False) as file:
        for path in paths:
            with pq.ParquetFile(path) as shard:
                for batch in shard.iter_batches(ROWS_PER_GROUP):
                    table = pa.Table.from_batches([batch])
                    missing = [name for name in schema.names if name not in table.column_names]
                    for name in missing:
                        empty = pa.nulls(table.num_rows, schema.field(name).type)
                        table = table.append_column(name, empty)
                    file.write_table(table.select(schema.names).cast(schema))
                    n_rows += table.num_rows
    return n_rows


def entries_in(path: Path) -> list[Entry]:
    """Return the entries of a shard's rows, reading no text where the file says their hashes."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        names = set(file.schema_arrow.names)
        if not names.issuperset(BESIDE):
            return [entry_of(row) for row in read_shard(path)]
        wanted = [*(names & {"example_id", "pair_id"}), *BESIDE]
        return [entry_of(row) for row in file.read(columns=wanted).to_pylist()]


def _schema(packed: Row) -> Any:
    """Return the schema of files of such rows."""
    import pyarrow as pa

    text = pa.string()
    messages = pa.list_(pa.struct([("role", text), ("content", text)]))
    if "pair_id" in packed:
        own = {name: text for name in ("pair_id", "winner_id", "loser_id", "basis")}
        said = {"prompt": messages, "chosen": messages, "rejected": messages}
    else:
        names = ("example_id", "interaction_id", "episode_id")
        own = {name: text for name in (*names, "difficulty", "language", "code_language")}
        said = {"prompt": messages, "completion": messages, "corrected": pa.bool_()}
    # Whole as JSON: only where plain messages would lose something; of a task always.
    exact = {f"{name}_json": text for name in said if name in _MESSAGES}
    exact |= {"task_json": text} if "task_json" in packed else {}
    return pa.schema(
        {
            **own,
            "project": text,
            "task_type": text,
            **said,
            **exact,
            "score": pa.float64(),
            "split_key": text,
            "row_hash": text,
        }
    )


def _packed(row: Row) -> Row:
    packed = dict(row)
    for name in _MESSAGES:
        if name in row:
            plain = [message(str(m.get("role")), text_of(m.get("content"))) for m in row[name]]
            packed[name] = plain
            packed[f"{name}_json"] = (
                None if plain == row[name] else json.dumps(row[name], ensure_ascii=False)
            )
    if "task" in packed:
        packed["task_json"] = json.dumps(packed.pop("task"), sort_keys=True, ensure_ascii=False)
    return packed


def _unpacked(row: Row) -> Row:
    for name in (*_MESSAGES, "task"):
        exact = row.pop(f"{name}_json", None)
        if exact is not None:
            row[name] = json.loads(exact)
    row.setdefault("row_hash", hash_of_row(row))
    return row
