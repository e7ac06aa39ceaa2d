"""Who is in the next version: its rows without their text, and the text of those asked for.

Of each kind of dataset one source: `sft` has the kept examples, `preference` the kept pairs, `eval`
the kept examples that no training has seen and that can be graded, each with its task.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, Protocol
from uuid import UUID

from sqlalchemy import Select, Table, literal, null, select
from sqlmodel import Session, SQLModel

from curation.columns import EXAMPLES, example
from curation.eval_sets import held_out_tasks
from curation.publish.rows import Row, make_row
from curation.publish.shards import Entry
from curation.recipe import CurationRecipe
from curation.tables import EVAL, KEPT, PREFERENCE

PAIRS: Final[Table] = SQLModel.metadata.tables["preference_pair"]
pair: Final[Any] = PAIRS.c

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


class Source(Protocol):
    """Where the rows of one kind of dataset come from."""

    def chosen(self) -> Iterator[Chosen]:
        """Yield the rows of the next version, sorted by id."""

    def rows(self, ids: Sequence[UUID]) -> Iterator[Row]:
        """Yield the rows of sorted ids, with their text, a few hundred in memory at a time."""


def source_of(session: Session, kind: str, role: str, recipe: CurationRecipe) -> Source:
    """Return the source of a kind of dataset of a role."""
    made = {PREFERENCE: Pairs, EVAL: Tasks}.get(kind, Examples)
    return made(session, role, recipe)


class Examples:
    """The kept examples of a role and variant."""

    table = EXAMPLES

    def __init__(self, session: Session, role: str, recipe: CurationRecipe) -> None:
        self.session, self.role, self.recipe = session, role, recipe

    def chosen(self) -> Iterator[Chosen]:
        """Yield the rows of the next version, sorted by id."""
        found = self.session.execute(self.query(), execution_options={"yield_per": _ROWS_AT_ONCE})
        return (Chosen._make(row) for row in found)

    def rows(self, ids: Sequence[UUID]) -> Iterator[Row]:
        """Yield the rows of sorted ids, with their text, a few hundred in memory at a time."""
        table = self.table
        for start in range(0, len(ids), _TEXTS_AT_ONCE):
            some = ids[start : start + _TEXTS_AT_ONCE]
            query = select(table).where(table.c.id.in_(some)).order_by(table.c.id)
            for columns in self.session.execute(query).mappings():
                yield make_row(dict(columns))

    def query(self) -> Select[Any]:
        """Return the query of what `chosen` yields."""
        names = Chosen._fields[:-1]
        return (
            select(*(example[name] for name in names), null())
            .where(example.role == self.role, example.variant == self.recipe.variant)
            .where(example.status == KEPT)
            .order_by(example.id)
        )


class Tasks(Examples):
    """The examples that are fresh tasks, each name once, with what they are graded by."""

    def __init__(self, session: Session, role: str, recipe: CurationRecipe) -> None:
        super().__init__(session, role, recipe)
        self.tasks = dict[UUID, dict[str, Any]]()
        names = set[str]()
        for identifier, task in held_out_tasks(session, role, recipe):
            if task is not None and task.task_id not in names:
                names.add(task.task_id)
                self.tasks[identifier] = task.row

    def chosen(self) -> Iterator[Chosen]:
        """Yield the rows of the next version; what a task is graded by counts as said by it."""
        for row in super().chosen():
            if row.id in self.tasks:
                said = json.dumps([row.row_hash, self.tasks[row.id]], sort_keys=True)
                yield row._replace(row_hash=hashlib.sha256(said.encode()).hexdigest())

    def rows(self, ids: Sequence[UUID]) -> Iterator[Row]:
        """Yield the rows of sorted ids, with their text and their task."""
        hashes = {str(row.id): row.row_hash for row in self.chosen()}
        for row in super().rows(ids):
            task = self.tasks[UUID(row["example_id"])]
            yield {**row, "task": task, "row_hash": hashes[row["example_id"]]}


class Pairs(Examples):
    """The kept preference pairs of a role and variant."""

    table = PAIRS

    def query(self) -> Select[Any]:
        """Return the query of what `chosen` yields.

        A pair's margin is its score; what it does not know of itself is that of the better answer.
        """
        return (
            select(
                *(pair.id, pair.split, pair.row_hash, pair.margin, pair.split_key),
                *(pair.task_type, pair.project),
                *(example.n_tokens, example.difficulty, example.language, example.code_language),
                *(literal("positive"), null(), pair.basis == "correction", null(), pair.basis),
            )
            .outerjoin(
                EXAMPLES,
                (example.interaction_id == pair.winner_id) & (example.variant == pair.variant),
            )
            .where(pair.role == self.role, pair.variant == self.recipe.variant)
            .where(pair.status == KEPT)
            .order_by(pair.id)
        )
