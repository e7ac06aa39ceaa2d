"""Front desk: the chosen rows become the next immutable version, or they are the last one's.

Reads what tells whether a row changed, cuts it into shards, and writes those that no version has
yet. So a version of 100,000 rows that differs by 1,000 from the last costs about as much as a small
one.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from uuid import UUID

from sqlalchemy import select, text
from sqlmodel import Session, col

from curation.choice.balance import UNTYPED
from curation.choice.mix import mixed_in
from curation.export import SPLITS, latest_dataset, path_of
from curation.proof import prove_no_leak
from curation.publish.card import Tally, make_card, task_types_of, write_card
from curation.publish.chosen import Source, source_of
from curation.publish.quality import (
    Measure,
    coverage,
    evenness,
    human_verified,
    labels_on_sample,
    novelty,
    planted_recall,
    right_in_sample,
    style_agreement,
)
from curation.publish.rows import Row, row_id
from curation.publish.shards import (
    FILE,
    Entry,
    cut,
    entries_in,
    read_shard,
    shard_name,
    write_shard,
)
from curation.recipe import CurationRecipe
from curation.score.outcome import SOURCE_CAP
from curation.tables import (
    SFT,
    TEST,
    TRAIN,
    VALIDATION,
    CurationBuild,
    Dataset,
    DatasetShard,
    ShardRow,
)
from curation.templates import Templates
from foundation.artifacts import exists, put

LOG = "log"
"""Origin of the role's own rows."""

HOT: Final = (
    "some texts share a bucket with so many others that not all were compared: as a rule they are "
    "templates, see `flywheel template list`"
)

Progress = Callable[..., Any]
"""Called as `progress(done, total, "shards")`."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A shard at its place in a version that is being put together."""

    split: str
    name: str
    entries: Sequence[Entry]
    origin: str = LOG
    source: UUID | None = None
    """The dataset that its rows are mixed in from; None: the role's own."""

    @property
    def ids(self) -> list[UUID]:
        """Ids of its rows, sorted."""
        return [entry.id for entry in self.entries]


def publish(
    session: Session,
    build: CurationBuild,
    recipe: CurationRecipe,
    templates: Templates,
    progress: Progress | None = None,
) -> tuple[Dataset, bool]:
    """Write the chosen rows as the next version and return it with True, or the last with False.

    A version is new only if its rows or the recipe differ from the last one's; it may have no rows,
    and its card then says why. Works in the caller's transaction: rolled back, no number is used,
    and files that were written are found again by their content. The caller holds the build's row,
    so that no erasure takes a row away meanwhile.
    """
    source = source_of(session, build.kind, build.role, recipe)
    tally, entries = Tally(), {split: list[Entry]() for split in SPLITS}
    for one in source.chosen():
        tally.add(one)
        entries[one.split].append(one.entry)
    pieces = list(_own_pieces(entries))
    if build.kind == SFT:
        pieces += _mixed_pieces(session, recipe, build.role, entries)
    content_hash = hash_of_content(recipe, build.kind, pieces)
    last = latest_dataset(session, build.role, build.variant, build.kind)
    if last is not None and last.content_hash == content_hash:
        return last, False
    dataset = Dataset(
        role=build.role,
        kind=build.kind,
        variant=build.variant,
        number=last.number + 1 if last else 1,
        content_hash=content_hash,
        n_train=_n_rows(pieces, TRAIN),
        n_validation=_n_rows(pieces, VALIDATION),
        n_test=_n_rows(pieces, TEST),
    )
    session.add(dataset)
    session.flush()
    n_written = store_shards(session, dataset, pieces, source, progress)
    for piece in pieces:
        if piece.source is not None:
            tally.add_mixed(piece.origin, len(piece.entries))
    quality = measured(session, dataset, recipe, templates, source, tally, last)
    leak_proof = prove_no_leak(session, dataset, recipe, templates, last)
    n_capped = build.counts.get(SOURCE_CAP, 0)
    card = make_card(session, dataset, recipe, tally, quality, leak_proof, n_capped)
    if build.counts.get("hot"):
        card["warnings"].append(HOT)
    dataset.artifact_uri = write_card(card, shards_json(session, dataset))
    dataset.card = {**card, "build": _account_of(build, pieces, n_written)}
    session.flush()
    return dataset, True


def measured(
    session: Session,
    dataset: Dataset,
    recipe: CurationRecipe,
    templates: Templates,
    source: Source,
    tally: Tally,
    last: Dataset | None,
) -> dict[str, Measure]:
    """Return the measures of quality of a version, each with its value or why it has none."""
    drawn = tally.sample
    by_id = {row_id(row): row for row in source.rows(sorted(drawn))}
    rows = [by_id[str(identifier)] for identifier in drawn]
    n_right, n_wrong = labels_on_sample(session, dataset.role)
    types = {name: n for name, n in tally.task_types.items() if name != UNTYPED}
    return {
        "coverage": coverage(task_types_of(session, dataset.role, dataset.variant), types),
        "human_verified": human_verified(tally.n_human, tally.n_rows),
        "right_in_sample": right_in_sample(n_right, n_wrong),
        "style_agreement": style_agreement(rows),
        "evenness": evenness(types),
        "novelty": novelty(session, rows, recipe, tally.n_rows, last),
        "planted_recall": planted_recall(rows, recipe, templates),
    }


def hash_of_content(recipe: CurationRecipe, kind: str, pieces: Iterable[Piece]) -> str:
    """Return the SHA-256 of a version: of its recipe and rules, and of its rows by split."""
    said = [recipe.fingerprint, kind, [(p.split, p.origin, p.name) for p in pieces]]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def store_shards(
    session: Session,
    dataset: Dataset,
    pieces: Sequence[Piece],
    source: Source,
    progress: Progress | None = None,
) -> int:
    """Give a version its shards and return how many of them had to be written."""
    known = _known_files(session, {piece.name for piece in pieces})
    positions, n_written = dict.fromkeys(SPLITS, 0), 0
    for done, piece in enumerate(pieces, 1):
        if piece.name not in known:
            known[piece.name] = (_write(session, source, piece), FILE)
            n_written += 1
        uri, file = known[piece.name]
        session.add(
            DatasetShard(
                dataset_id=dataset.id,
                split=piece.split,
                position=positions[piece.split],
                shard=piece.name,
                n_rows=len(piece.entries),
                uri=uri,
                file=file,
                origin=piece.origin,
            )
        )
        positions[piece.split] += 1
        if progress is not None:
            progress(done, len(pieces), "shards")
    session.flush()
    return n_written


def shards_json(session: Session, dataset: Dataset) -> list[dict[str, Any]]:
    """Return the shards of a version as they are listed beside its card."""
    query = select(DatasetShard).where(col(DatasetShard.dataset_id) == dataset.id)
    ordered = query.order_by(col(DatasetShard.split), col(DatasetShard.position))
    names = ("split", "position", "shard", "n_rows", "uri", "file", "origin")
    return [
        {name: getattr(shard, name) for name in names}
        for shard in session.execute(ordered).scalars()
    ]


def name_rows(session: Session, shard: str, ids: Sequence[UUID]) -> None:
    """Store which rows stand in a shard; again, it changes nothing."""
    session.execute(_NAME_ROWS, {"shard": shard, "ids": list(ids)})


_NAME_ROWS = text(
    "INSERT INTO shard_row (shard, row_id) SELECT :shard, unnest(CAST(:ids AS uuid[])) "
    "ON CONFLICT DO NOTHING"
)


def _own_pieces(entries: dict[str, list[Entry]]) -> Iterator[Piece]:
    for split in SPLITS:
        for shard in cut(entries[split]):
            yield Piece(split, shard_name(shard), shard)


def _mixed_pieces(
    session: Session, recipe: CurationRecipe, role: str, entries: dict[str, list[Entry]]
) -> Iterator[Piece]:
    """Yield the shards of rows from other versions; a row that the role has itself is left out."""
    own = {entry.id for split in SPLITS for entry in entries[split]}
    for mixed in mixed_in(session, recipe, len(entries[TRAIN]), role=role):
        wanted = set(mixed.row_ids) - own
        found: dict[UUID, Entry] = {}
        for shard in _shards_with(session, mixed.dataset_id, wanted):
            found |= {e.id: e for e in entries_in(path_of(shard)) if e.id in wanted}
        own |= found.keys()
        for some in cut(found[identifier] for identifier in sorted(found)):
            yield Piece(TRAIN, shard_name(some), some, mixed.origin, mixed.dataset_id)


def _shards_with(session: Session, dataset_id: UUID, ids: Iterable[UUID]) -> list[DatasetShard]:
    """Return the shards of a version that hold any of these rows."""
    query = (
        select(DatasetShard)
        .where(col(DatasetShard.dataset_id) == dataset_id)
        .where(
            select(col(ShardRow.row_id))
            .where(col(ShardRow.shard) == col(DatasetShard.shard))
            .where(col(ShardRow.row_id).in_(list(ids)))
            .exists()
        )
        .order_by(col(DatasetShard.split), col(DatasetShard.position))
    )
    return list(session.execute(query).scalars())


def _write(session: Session, source: Source, piece: Piece) -> str:
    """Write a shard's file and the list of its rows; return the URI of its artifact."""
    mixed = piece.source
    rows = source.rows(piece.ids) if mixed is None else _mixed_rows(session, mixed, piece.ids)
    with TemporaryDirectory(prefix="flywheel-shard-") as folder:
        path = Path(folder) / FILE
        write_shard(path, rows)
        name_rows(session, piece.name, piece.ids)
        return put(path).uri


def _mixed_rows(session: Session, source: UUID, ids: Sequence[UUID]) -> list[Row]:
    wanted = {str(identifier) for identifier in ids}
    rows = [
        row
        for shard in _shards_with(session, source, ids)
        for row in read_shard(path_of(shard))
        if row_id(row) in wanted
    ]
    return sorted(rows, key=row_id)


def _known_files(session: Session, names: set[str]) -> dict[str, tuple[str, str]]:
    """Return artifact and file of the shards that are written already and still there."""
    query = (
        select(col(DatasetShard.shard), col(DatasetShard.uri), col(DatasetShard.file))
        .where(col(DatasetShard.shard).in_(names))
        .distinct()
    )
    return {name: (uri, file) for name, uri, file in session.execute(query) if exists(uri)}


def _account_of(build: CurationBuild, pieces: Sequence[Piece], n_written: int) -> dict[str, Any]:
    """Return what a build did, without the samples of hot buckets: a card outlives an erasure."""
    hot = {"hot": len(build.counts.get("hot", ()))}
    return {**build.counts, **hot, "shards": len(pieces), "shards_written": n_written}


def _n_rows(pieces: Iterable[Piece], split: str) -> int:
    return sum(len(piece.entries) for piece in pieces if piece.split == split)
