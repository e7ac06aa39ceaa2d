"""Front desk: the files of a dataset version, written once and read by trainers.

One Parquet file per split (so that nobody trains on `test` by forgetting a filter) and `card.json`,
kept together as one artifact. Rows are sorted by id, the schema is fixed and nothing in the files
depends on the clock, so the same examples give the same bytes.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from sqlmodel import Session

from curation.tables import TEST, TRAIN, VALIDATION, Dataset
from foundation.artifacts import fetch
from foundation.chat import message, text_of
from foundation.errors import BadInput, NotFound

SPLITS: Final = (TRAIN, VALIDATION, TEST)
ROWS_PER_GROUP: Final = 4096
CARD: Final = "card.json"

Row = dict[str, Any]
"""`example_id`, `interaction_id`, `task_type`, `prompt` (messages), `completion` (one assistant
message), `score` (0-1 or None), `corrected`, `split_key`."""


def load_rows(session: Session, dataset_id: UUID, split: str) -> list[Row]:
    """Return the rows of one split as `{"prompt", "completion", "example_id", "task_type"}`.

    `prompt` is the list of messages before the answer, `completion` a list with the one assistant
    message. Sorted by id; an empty split gives an empty list.

    Raises:
        NotFound: no such dataset, or its files are gone.
        BadInput: `split` is none of train, validation, test.
    """
    wanted = ("prompt", "completion", "example_id", "task_type")
    return [{key: row[key] for key in wanted} for row in read(session, dataset_id, split)]


def read(session: Session, dataset_id: UUID, split: str) -> Iterator[Row]:
    """Yield the full rows of one split; raises as `load_rows`."""
    import pyarrow.parquet as pq

    if split not in SPLITS:
        raise BadInput("split", split, f"one of {', '.join(SPLITS)}", "Check the spelling.")
    path = _folder_of(get_dataset(session, dataset_id)) / f"{split}.parquet"
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(ROWS_PER_GROUP):
            for row in batch.to_pylist():
                yield _unpacked(row)


def get_dataset(session: Session, dataset_id: UUID) -> Dataset:
    """Return a dataset by id; raises NotFound."""
    dataset = session.get(Dataset, dataset_id)
    if dataset is None:
        raise NotFound(
            "dataset", str(dataset_id), "the id of a dataset", "Build one: flywheel curate"
        )
    return dataset


def write_jsonl(session: Session, dataset_id: UUID, split: str, path: Path) -> int:
    """Write one split as chat JSONL (`{"messages": [...]}` a line) and return its line count."""
    n_lines = 0
    with path.open("w", encoding="utf-8") as file:
        for row in read(session, dataset_id, split):
            line = {"messages": [*row["prompt"], *row["completion"]]}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
            n_lines += 1
    return n_lines


class SplitWriter:
    """Writes the rows of one split to Parquet and hashes what they say.

    Rows must come sorted by `example_id`. Use as a context manager.
    """

    def __init__(self, folder: Path, split: str) -> None:
        import pyarrow.parquet as pq

        self.n_rows = 0
        self._digest = hashlib.sha256(split.encode())
        self._schema = _schema()
        self._file = pq.ParquetWriter(
            folder / f"{split}.parquet", self._schema, compression="zstd", store_schema=False
        )
        self._waiting: list[Row] = []

    def __enter__(self) -> "SplitWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._file.close()

    def write(self, row: Row) -> None:
        """Add one row."""
        self._digest.update(_canonical(row))
        self._waiting.append(_packed(row))
        self.n_rows += 1
        if len(self._waiting) == ROWS_PER_GROUP:
            self._flush()

    @property
    def content_hash(self) -> str:
        """SHA-256 of the rows so far, whatever the file format makes of them."""
        return self._digest.hexdigest()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._waiting:
            self._file.write_table(pa.Table.from_pylist(self._waiting, schema=self._schema))
            self._waiting = []


@contextmanager
def split_writers(folder: Path) -> Iterator[dict[str, SplitWriter]]:
    """Open a writer for each split; the files are complete when the block ends."""
    with ExitStack() as stack:
        yield {split: stack.enter_context(SplitWriter(folder, split)) for split in SPLITS}


def write_card(folder: Path, card: dict[str, Any]) -> None:
    """Write the card beside the Parquet files."""
    text = json.dumps(card, indent=2, sort_keys=True, ensure_ascii=False)
    (folder / CARD).write_text(text + "\n", encoding="utf-8")


def make_row(example: dict[str, Any]) -> Row:
    """Return the row of an example's columns."""
    return {
        "example_id": str(example["id"]),
        "interaction_id": str(example["interaction_id"]),
        "task_type": example["task_type"],
        "prompt": example["prompt"],
        "completion": [message("assistant", example["answer"])],
        "score": example["score"],
        "corrected": example["corrected"],
        "split_key": example["split_key"],
    }


def _folder_of(dataset: Dataset) -> Path:
    if dataset.artifact_uri is None:
        raise NotFound("files of dataset", str(dataset.id), "stored files", "Build it again.")
    return fetch(dataset.artifact_uri)


def _schema() -> Any:
    import pyarrow as pa

    messages = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    return pa.schema(
        [
            ("example_id", pa.string()),
            ("interaction_id", pa.string()),
            ("task_type", pa.string()),
            ("prompt", messages),
            ("completion", messages),
            ("prompt_json", pa.string()),  # only where plain text messages would lose something
            ("score", pa.float64()),
            ("corrected", pa.bool_()),
            ("split_key", pa.string()),
        ]
    )


def _packed(row: Row) -> Row:
    plain = [message(str(m.get("role")), text_of(m.get("content"))) for m in row["prompt"]]
    exact = None if plain == row["prompt"] else json.dumps(row["prompt"], ensure_ascii=False)
    return {**row, "prompt": plain, "prompt_json": exact}


def _unpacked(row: Row) -> Row:
    exact = row.pop("prompt_json")
    if exact is not None:
        row["prompt"] = json.loads(exact)
    return row


def _canonical(row: Row) -> bytes:
    return json.dumps(row, sort_keys=True, ensure_ascii=False).encode() + b"\n"
