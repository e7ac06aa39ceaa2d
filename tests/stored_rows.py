"""Examples and versions written straight into their tables, as a build would have stored them."""

import hashlib
from collections.abc import Iterable
from typing import Any

from sqlmodel import Session

from curation.normalize import comparable
from curation.tables import Dataset, DatasetShard, Example, ShardRow
from foundation.chat import message
from foundation.ids import new_id


def store_example(session: Session, prompt: str, answer: str, **columns: Any) -> Example:
    """Store an example with the columns that matter; `outcome` stands among its scores."""
    if "outcome" in columns:
        said = columns.pop("outcome")
        columns["scores"] = {"outcome": said, "outcome_source": "test", **columns.get("scores", {})}
        polarity = {True: "positive", False: "negative", None: "unjudged"}[said]
        columns.setdefault("polarity", polarity)
        if said is False:
            columns = {"status": "dropped", "drop_reason": "failed_outcome"} | columns
    example = Example(
        **{
            "role": "coder",
            "interaction_id": new_id(),
            "prompt": [message("user", prompt)],
            "answer": answer,
            "norm_hash": hashlib.sha256(f"{prompt}\0{answer}".encode()).hexdigest(),
            "prompt_text_id": prompt_number(prompt),
            "score": 1.0,
            **columns,
        }
    )
    session.add(example)
    session.flush()
    return example


def prompt_number(prompt: str) -> int:
    """Return a number that equal normalised prompts share."""
    digest = hashlib.sha256(comparable(prompt).encode()).digest()
    return int.from_bytes(digest[:8], signed=True)


def store_version(
    session: Session, examples: Iterable[Example], number: int = 1, **columns: Any
) -> Dataset:
    """Store a version with these rows, by the split of each; its files are not written."""
    rows = list(examples)
    columns = {"role": rows[0].role, "content_hash": str(number), **columns}
    origin = columns.pop("origin", "log")
    dataset = Dataset(number=number, **columns)
    session.add(dataset)
    session.flush()
    for split in sorted({row.split for row in rows}):
        shard = f"{dataset.id}-{split}-{origin}"
        own = [row for row in rows if row.split == split]
        session.add(
            DatasetShard(
                dataset_id=dataset.id,
                split=split,
                position=0,
                shard=shard,
                n_rows=len(own),
                uri=f"sha256/{shard}",
                origin=origin,
            )
        )
        session.add_all(ShardRow(shard=shard, row_id=row.id) for row in own)
    session.flush()
    return dataset
