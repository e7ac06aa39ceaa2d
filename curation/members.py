"""The rows of a version in pieces: page after page, or drawn by chance, at the cost of the piece.

A version's own order is that of its shards: split after split, in each the newest shard first, in a
shard the newest row. So a page looks into the few shards that it stands in, however many there are.
"""

import random
from bisect import bisect
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Final, NamedTuple, Self
from uuid import UUID

from sqlalchemy import select, text
from sqlmodel import Session, col

from curation.export import SPLITS
from curation.tables import DatasetShard
from foundation.errors import BadInput


class Place(NamedTuple):
    """Where a piece ended: behind this row of this shard."""

    split: str
    position: int
    row_id: UUID

    def __str__(self) -> str:
        return f"{self.split}:{self.position}:{self.row_id}"

    @classmethod
    def parse(cls, said: str) -> Self:
        """Return the place that `str` said; raises BadInput for anything else."""
        try:
            split, position, row_id = said.split(":")
            found = cls(split, int(position), UUID(row_id))
        except ValueError:
            found = cls("", -1, _LEAST)
        if found.split not in SPLITS or not 0 <= found.position < 2**31:
            raise BadInput("after", said, "where a page of this version ended", "Begin without it.")
        return found


class Member(NamedTuple):
    """A row of a version."""

    row_id: UUID
    split: str


class Shard(NamedTuple):
    """A shard at its place in a version."""

    split: str
    position: int
    name: str
    n_rows: int


_LEAST: Final = UUID(int=0)


def members(
    session: Session, dataset_id: UUID, n: int, split: str = "", after: Place | None = None
) -> tuple[list[Member], Place | None]:
    """Return up to `n` rows of a version, and where to go on; None: these were the last."""
    shards = _in_order(session, dataset_id, split)
    if after is not None:
        place = (SPLITS.index(after.split), -after.position)
        shards = [s for s in shards if (SPLITS.index(s.split), -s.position) >= place]
    is_within = after is not None and bool(shards) and shards[0][:2] == after[:2]
    chosen = _enough(shards, n, is_within)
    asked = {
        "shards": [shard.name for shard in chosen],
        "before": after.row_id if is_within and after else None,
        "n": n + 1,
    }
    found = session.execute(_ROWS, asked).all() if chosen else []
    shown = [Member(row.row_id, chosen[row.place - 1].split) for row in found[:n]]
    if len(found) > n:
        last = chosen[found[n - 1].place - 1]
        return shown, Place(last.split, last.position, found[n - 1].row_id)
    if len(chosen) < len(shards):  # rows of them were erased since
        return shown, Place(chosen[-1].split, chosen[-1].position, _LEAST)
    return shown, None


def drawn(session: Session, dataset_id: UUID, n: int, seed: int, split: str = "") -> list[Member]:
    """Return up to `n` rows drawn by chance, each as likely; the same for the same seed."""
    shards = _in_order(session, dataset_id, split)
    ends = list(accumulate(shard.n_rows for shard in shards))
    if not ends or not ends[-1]:
        return []
    chance = random.Random(f"{dataset_id}:{seed}")
    numbers = chance.sample(range(ends[-1]), min(n, ends[-1]))
    places = [bisect(ends, number) for number in numbers]
    starts = [0, *ends]
    asked = {
        "shards": [shards[place].name for place in places],
        "offsets": [number - starts[p] for number, p in zip(numbers, places, strict=True)],
    }
    found = session.execute(_DRAWN, asked).all()
    return [Member(row.row_id, shards[places[row.place - 1]].split) for row in found]


def _in_order(session: Session, dataset_id: UUID, split: str) -> list[Shard]:
    query = select(
        col(DatasetShard.split),
        col(DatasetShard.position),
        col(DatasetShard.shard),
        col(DatasetShard.n_rows),
    ).where(col(DatasetShard.dataset_id) == dataset_id)
    if split:
        query = query.where(col(DatasetShard.split) == split)
    found = [Shard(*row) for row in session.execute(query)]
    return sorted(found, key=lambda shard: (SPLITS.index(shard.split), -shard.position))


def _enough(shards: Sequence[Shard], n: int, is_first_begun: bool) -> Sequence[Shard]:
    """Return the first shards with more than `n` rows; of one that is begun none may be left."""
    left = n
    for count, shard in enumerate(shards, 1):
        left -= 0 if is_first_begun and count == 1 else shard.n_rows
        if left < 0:
            return shards[:count]
    return shards


_ROWS: Final[Any] = text(
    """
    SELECT chosen.place, r.row_id
    FROM unnest(CAST(:shards AS text[])) WITH ORDINALITY AS chosen (shard, place)
    JOIN shard_row AS r ON r.shard = chosen.shard
    WHERE chosen.place > 1 OR CAST(:before AS uuid) IS NULL OR r.row_id < CAST(:before AS uuid)
    ORDER BY chosen.place, r.row_id DESC LIMIT :n
    """
)

_DRAWN: Final[Any] = text(
    """
    SELECT chosen.place, r.row_id
    FROM unnest(CAST(:shards AS text[]), CAST(:offsets AS bigint[]))
        WITH ORDINALITY AS chosen (shard, skipped, place)
    CROSS JOIN LATERAL (
        SELECT row_id FROM shard_row WHERE shard = chosen.shard
        ORDER BY row_id OFFSET chosen.skipped LIMIT 1
    ) AS r
    ORDER BY chosen.place
    """
)
