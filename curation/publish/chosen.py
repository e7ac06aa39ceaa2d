"""Who is in the next version: its rows without their text, and the text of those asked for.

Of each kind of dataset one table and one condition: `sft` has the kept examples, `preference` the
kept pairs, `eval` the kept examples that no training sees.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Select, and_, literal, null, select
from sqlmodel import Session, SQLModel

from curation.columns import EXAMPLES, example
from curation.publish.rows import Row, make_row
from curation.publish.shards import Entry
from curation.tables import EVAL, KEPT, PREFERENCE, TEST

PAIRS = SQLModel.metadata.tables["preference_pair"]
pair: Any = PAIRS.c

_ROWS_AT_ONCE = 5000
_TEXTS_AT_ONCE = 256


class Chosen(NamedTuple):
    """A row of the next version, without its text."""

    id: UUID
    split: str
    row_hash: str
    score: float | None
    split_key: str
    task_type: str | None
    project: str
    n_tokens: int | None
    difficulty: str | None
    language: str | None
    code_language: str | None
    polarity: str
    reviewed: str | None
    corrected: bool
    disagreement: float | None
    basis: str | None

    @property
    def entry(self) -> Entry:
        """What its shard goes by."""
        return Entry(self.id, self.row_hash, self.score, self.split_key)


def chosen(session: Session, kind: str, role: str, variant: str) -> Iterator[Chosen]:
    """Yield the rows of the next version of a dataset, sorted by id."""
    query = _pairs(role, variant) if kind == PREFERENCE else _examples(kind, role, variant)
    rows = session.execute(query, execution_options={"yield_per": _ROWS_AT_ONCE})
    return (Chosen._make(row) for row in rows)


def rows_of(session: Session, kind: str, ids: Sequence[UUID]) -> Iterator[Row]:
    """Yield the rows of sorted ids, with their text, a few hundred in memory at a time."""
    table = PAIRS if kind == PREFERENCE else EXAMPLES
    for start in range(0, len(ids), _TEXTS_AT_ONCE):
        some = ids[start : start + _TEXTS_AT_ONCE]
        found = session.execute(select(table).where(table.c.id.in_(some)).order_by(table.c.id))
        for columns in found.mappings():
            yield make_row(dict(columns))


def _examples(kind: str, role: str, variant: str) -> Select[Any]:
    mine = and_(example.role == role, example.variant == variant, example.status == KEPT)
    if kind == EVAL:
        mine = and_(mine, example.split == TEST)
    return (
        select(
            example.id,
            example.split,
            example.row_hash,
            example.score,
            example.split_key,
            example.task_type,
            example.project,
            example.n_tokens,
            example.difficulty,
            example.language,
            example.code_language,
            example.polarity,
            example.reviewed,
            example.corrected,
            example.disagreement,
            null(),
        )
        .where(mine)
        .order_by(example.id)
    )


def _pairs(role: str, variant: str) -> Select[Any]:
    return (
        select(
            pair.id,
            pair.split,
            pair.row_hash,
            pair.margin,
            pair.split_key,
            pair.task_type,
            pair.project,
            *(null() for _ in ("n_tokens", "difficulty", "language", "code_language")),
            literal("positive"),
            null(),
            pair.basis == "correction",
            null(),
            pair.basis,
        )
        .where(pair.role == role, pair.variant == variant, pair.status == KEPT)
        .order_by(pair.id)
    )
