"""A version as a folder that others can read: data files by split, the card, and a README.

The README's head names the files of each split, as the Hugging Face hub has it, so that
`datasets.load_dataset(folder)` reads any of the JSONL and Parquet formats without being told more.
"""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from curation.publish.formats import Format, Json
from curation.publish.page import render
from curation.tables import Dataset

CARD, PAGE, README = "card.json", "card.html", "README.md"
_LOADABLE: Final = ("jsonl", "parquet")


def write_records(path: Path, suffix: str, records: Iterator[Json]) -> int:
    """Write records as JSON lines, or as one JSON array, and return their number."""
    n_records = 0
    start, between, end = ("", "", "") if suffix == "jsonl" else ("[\n", ",\n", "\n]\n")
    with path.open("w", encoding="utf-8") as file:
        file.write(start)
        for record in records:
            file.write(between if n_records else "")
            file.write(json.dumps(record, ensure_ascii=False) + ("\n" if suffix == "jsonl" else ""))
            n_records += 1
        file.write(end)
    return n_records


def copy_shards(folder: Path, split: str, shards: Sequence[Path]) -> None:
    """Copy the Parquet files of a split under names that say how many there are."""
    for number, shard in enumerate(shards):
        shutil.copyfile(shard, folder / f"{split}-{number:05d}-of-{len(shards):05d}.parquet")


def write_about(folder: Path, dataset: Dataset, made: Format, n_rows: Mapping[str, int]) -> None:
    """Write the card, its page, the README, and what the format's tool needs beside the data."""
    write_card_files(folder, dataset.card)
    (folder / README).write_text(_readme(dataset, made, n_rows), encoding="utf-8")
    if made.beside is not None:
        name, content = made.beside(dataset.kind)
        (folder / name).write_text(content, encoding="utf-8")


def write_card_files(folder: Path, card: Mapping[str, Any], **more: Any) -> None:
    """Write a card as a page and as JSON, there with what else is to stand in it."""
    text = json.dumps({**card, **more}, indent=2, sort_keys=True, ensure_ascii=False)
    (folder / CARD).write_text(text + "\n", encoding="utf-8")
    (folder / PAGE).write_text(render(card), encoding="utf-8")


def _readme(dataset: Dataset, made: Format, n_rows: Mapping[str, int]) -> str:
    name = f"{dataset.role} {dataset.kind} v{dataset.number}"
    said = [
        f"# {name}",
        "",
        f"Format `{made.name}`, variant `{dataset.variant}`, id `{dataset.id}`, content "
        f"`{dataset.content_hash}`.",
        "",
        *(f"- {split}: {n} records" for split, n in n_rows.items()),
        "",
        f"What went in, what fell out and why, and how good the rest is: [{PAGE}]({PAGE}), "
        f"[{CARD}]({CARD}).",
    ]
    return "\n".join([*_head(made, n_rows), *said, ""])


def _head(made: Format, n_rows: Mapping[str, int]) -> Iterable[str]:
    if made.suffix not in _LOADABLE:
        return []
    pattern = "-*" if made.suffix == "parquet" else ""
    files = [
        line
        for split, n in n_rows.items()
        if n
        for line in (f"  - split: {split}", f"    path: {split}{pattern}.{made.suffix}")
    ]
    return ["---", "configs:", "- config_name: default", "  data_files:", *files, "---", ""]
