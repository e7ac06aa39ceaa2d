"""What changed from one version to another: rows that came, went, moved or say something else.

Shards that both versions have are not opened: the cost goes by what differs.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlmodel import Session

from curation.export import get_dataset, path_of, shards_of
from curation.publish.shards import Entry, entries_in
from curation.tables import Dataset, DatasetShard
from foundation.errors import BadInput


@dataclass(frozen=True)
class Difference:
    """Two versions of one role and kind, compared."""

    old: Dataset
    new: Dataset
    added: list[UUID]
    removed: list[UUID]
    changed: list[UUID]
    """In both, with other text or another score."""
    moved: list[UUID]
    """In both, in another split."""
    shared_shards: int
    n_shards: int
    """Of the new version."""

    def as_json(self) -> dict[str, Any]:
        """Return the comparison as plain JSON values."""
        return {
            "old": _named(self.old),
            "new": _named(self.new),
            **{name: len(getattr(self, name)) for name in ("added", "removed", "changed", "moved")},
            "shared_shards": self.shared_shards,
            "shards": self.n_shards,
            "task_types": counts_between(self.old.card, self.new.card, "task_types"),
            "dropped_by_reason": counts_between(self.old.card, self.new.card, "dropped_by_reason"),
            "recipe": recipe_between(self.old.card, self.new.card),
            "rows": {
                name: [str(identifier) for identifier in getattr(self, name)]
                for name in ("added", "removed", "changed", "moved")
            },
        }


def diff(session: Session, old_id: UUID, new_id: UUID) -> Difference:
    """Compare two versions.

    Raises:
        NotFound: one of them does not exist, or its files are gone.
        BadInput: they are of different kinds.
    """
    old, new = get_dataset(session, old_id), get_dataset(session, new_id)
    if old.kind != new.kind:
        raise BadInput(
            "kind of the other dataset", new.kind, repr(old.kind), "Compare versions of one kind."
        )
    olds, news = shards_of(session, old.id), shards_of(session, new.id)
    shared = Counter((s.split, s.shard) for s in olds) & Counter((s.split, s.shard) for s in news)
    before, after = _rows(olds, shared.keys()), _rows(news, shared.keys())
    both = before.keys() & after.keys()
    return Difference(
        old=old,
        new=new,
        added=sorted(after.keys() - before.keys()),
        removed=sorted(before.keys() - after.keys()),
        changed=sorted(i for i in both if before[i][1] != after[i][1]),
        moved=sorted(i for i in both if before[i][0] != after[i][0]),
        shared_shards=shared.total(),
        n_shards=len(news),
    )


def counts_between(old: dict[str, Any], new: dict[str, Any], name: str) -> dict[str, list[int]]:
    """Return the counts of a card's entry that differ, as [old, new]."""
    before, after = old.get(name) or {}, new.get(name) or {}
    return {
        key: [before.get(key, 0), after.get(key, 0)]
        for key in sorted(before.keys() | after.keys())
        if before.get(key, 0) != after.get(key, 0)
    }


def recipe_between(old: dict[str, Any], new: dict[str, Any]) -> dict[str, list[Any]]:
    """Return the recipe's fields that differ, as [old, new]; None where there was no such field."""
    before, after = old.get("recipe") or {}, new.get("recipe") or {}
    return {
        key: [before.get(key), after.get(key)]
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    }


def _rows(
    shards: Iterable[DatasetShard], shared: Iterable[tuple[str, str]]
) -> dict[UUID, tuple[str, Entry]]:
    """Return split and entry of each row outside the shared shards."""
    left_closed = set(shared)
    return {
        entry.id: (shard.split, entry)
        for shard in shards
        if (shard.split, shard.shard) not in left_closed
        for entry in entries_in(path_of(shard))
    }


def _named(dataset: Dataset) -> dict[str, Any]:
    return {
        "id": str(dataset.id),
        "role": dataset.role,
        "number": dataset.number,
        "rows": dataset.n_train + dataset.n_validation + dataset.n_test,
        "content_hash": dataset.content_hash,
    }
