"""Two versions of a dataset beside each other: figures, recipe, and the rows that differ.

Rows are read out of the shards that only one of the two has, so what it costs goes by what differs;
where very much does, only on demand.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import HTMLResponse
from sqlalchemy import func, select
from sqlmodel import Session, col

from admin.charts import PartedBars, parted_bars
from admin.datasets import counts_in, most_of, others_of
from admin.examples import Shown, brief
from admin.formats import number, percent, plain, words
from admin.paging import Narrowing
from admin.rendering import Reading, link_to, render, wants_rows
from admin.writing import see
from curation.export import get_dataset, shards_of
from curation.members import Member
from curation.publish.diff import diff, recipe_between
from curation.reasons import reason_of
from curation.tables import (
    DROPPED,
    PREFERENCE,
    Dataset,
    DatasetShard,
    Example,
    PreferencePair,
    ShardRow,
)
from foundation.errors import BadInput

routes = APIRouter(prefix="/datasets")

PAGE: Final = 20
AT_ONCE: Final = 20_000
"""Rows in shards that differ, up to which the rows are compared without being asked for."""
AT_MOST: Final = 1_000_000
COUNTED: Final = 5_000
"""Newest added or removed rows that are counted by task type and reason."""
KEPT_COMPARISONS: Final = 4

Lists = Literal["added", "removed", "changed", "moved"]


@dataclass(frozen=True)
class Choice(Narrowing):
    """Which rows are looked at."""

    show: Lists = "added"
    compare: Literal["", "rows"] = ""
    """Compare the rows even where there are many."""

    @property
    def query(self) -> dict[str, str]:
        """This choice as the query of an address."""
        said = {name: value for name, value in vars(self).items() if value}
        return {name: value for name, value in said.items() if (name, value) != ("show", "added")}


@dataclass(frozen=True)
class Figure:
    """One figure of both versions."""

    title: str
    old: str
    new: str
    change: str


@dataclass(frozen=True)
class Differing:
    """Rows of two versions that differ, as ids, newest first."""

    added: Sequence[UUID]
    removed: Sequence[UUID]
    changed: Sequence[UUID]
    moved: Sequence[UUID]

    def of(self, show: Lists) -> Sequence[UUID]:
        """Return the rows of one list."""
        found: Sequence[UUID] = getattr(self, show)
        return found


@dataclass(frozen=True)
class Grouped:
    """Why rows came or went, as counted of the newest of them."""

    title: str
    counts: Sequence[tuple[str, int]]


@dataclass(frozen=True)
class RowsPage:
    """A piece of the rows that differ, for the page and for htmx."""

    old: Dataset
    new: Dataset
    choice: Choice
    rows: Sequence[Shown]
    older: int | None
    """Place in the list to go on from."""

    @property
    def dataset(self) -> Dataset:
        """The version that the rows stand in."""
        return self.old if self.choice.show == "removed" else self.new

    @property
    def older_query(self) -> dict[str, str] | None:
        """The query of the next piece."""
        return {**self.choice.query, "at": str(self.older)} if self.older else None


@dataclass(frozen=True)
class DiffPage(RowsPage):
    """Two versions compared."""

    figures: Sequence[Figure]
    task_types: PartedBars | None
    drops: PartedBars | None
    recipe: Mapping[str, Sequence[Any]]
    n_shared: int
    n_shards: int
    n_apart: int
    """Rows in shards that only one of the two has."""
    differing: Differing | None
    """None: so many that it must be asked for."""
    grouped: Sequence[Grouped]
    others: Sequence[tuple[UUID, int]]

    @property
    def lists(self) -> list[tuple[str, int]]:
        """Name and length of each list of rows."""
        if self.differing is None:
            return []
        return [(n, len(self.differing.of(n))) for n in ("added", "removed", "changed", "moved")]

    @property
    def too_many(self) -> bool:
        """Whether even on demand the rows are not compared here."""
        return self.n_apart > AT_MOST


@routes.get("/{id}/diff", name="datasets.diff_to")
def choose(
    request: Request, session: Reading, id: UUID, other: Annotated[str, Query()] = ""
) -> Response:
    """Lead to the comparison with the version chosen, or with the one before."""
    new = get_dataset(session, id)
    if other:
        try:
            old_id = UUID(other)
        except ValueError:
            raise BadInput("other", other, "the id of a version", "Choose one.") from None
    else:
        before = [i for i, n in others_of(session, new) if n < new.number]
        if not before:
            raise BadInput(
                "version", new.number, "one that has a version before it", "Choose a later one."
            )
        old_id = before[0]
    return see(link_to(request, "datasets.diff", id=old_id, other=id))


@routes.get("/{id}/diff/{other}", name="datasets.diff")
def show_diff(
    request: Request,
    session: Reading,
    id: UUID,
    other: UUID,
    choice: Annotated[Choice, Depends()],
    at: Annotated[int, Query(ge=0)] = 0,
) -> HTMLResponse:
    """Show what version `other` has that version `id` has not, and so on."""
    page = compare(session, get_dataset(session, id), get_dataset(session, other), choice, at)
    template = "datasets/_differing.html" if wants_rows(request) else "datasets/diff.html"
    return render(request, template, page)


def compare(session: Session, old: Dataset, new: Dataset, choice: Choice, at: int = 0) -> DiffPage:
    """Return the comparison of two versions.

    Raises:
        BadInput: they are not of one role and kind.
    """
    if (old.role, old.kind) != (new.role, new.kind):
        raise BadInput(
            "versions",
            f"{old.role} {old.kind} and {new.role} {new.kind}",
            "two of one role and kind",
            "Choose another.",
        )
    olds, news = shards_of(session, old.id), shards_of(session, new.id)
    shared = {(s.split, s.shard) for s in olds} & {(s.split, s.shard) for s in news}
    apart = [s for s in (*olds, *news) if (s.split, s.shard) not in shared]
    n_apart = sum(shard.n_rows for shard in apart)
    is_wanted = n_apart <= (AT_MOST if choice.compare else AT_ONCE)
    found = differing(session, old, new, apart) if is_wanted else None
    some = found.of(choice.show)[at : at + PAGE] if found else ()
    n_all = len(found.of(choice.show)) if found else 0
    split_of = splits_of(session, old if choice.show == "removed" else new, some)
    of_rows = [Member(i, split_of.get(i, "")) for i in some]
    return DiffPage(
        old,
        new,
        choice,
        brief(session, new, of_rows),
        at + PAGE if at + PAGE < n_all else None,
        figures_of(old, new),
        beside(old, new, "task_types"),
        beside(old, new, "dropped_by_reason"),
        recipe_between(old.card, new.card),
        len(shared),
        len(news),
        n_apart,
        found,
        grouped_of(session, new.kind, found) if found else (),
        others_of(session, new),
    )


def differing(
    session: Session, old: Dataset, new: Dataset, apart: Sequence[DatasetShard]
) -> Differing:
    """Return the rows that differ; kept for the next page of the same comparison."""
    names = "\n".join(sorted(f"{s.dataset_id} {s.split} {s.shard}" for s in apart))
    key = hashlib.sha256(f"{old.id} {new.id}\n{names}".encode()).hexdigest()
    with _lock:
        if key in _compared:
            _compared.move_to_end(key)
            return _compared[key]
    found = diff(session, old.id, new.id)
    made = Differing(found.added[::-1], found.removed[::-1], found.changed[::-1], found.moved[::-1])
    with _lock:
        _compared[key] = made
        while len(_compared) > KEPT_COMPARISONS:
            _compared.popitem(last=False)
    return made


_compared: OrderedDict[str, Differing] = OrderedDict()
"""Comparisons by what was compared: versions do not change, but an erasure makes other shards."""
_lock = Lock()


def splits_of(session: Session, dataset: Dataset, ids: Sequence[UUID]) -> dict[UUID, str]:
    """Return in which split of a version some rows stand."""
    if not ids:
        return {}
    query = (
        select(col(ShardRow.row_id), col(DatasetShard.split))
        .join(DatasetShard, col(DatasetShard.shard) == col(ShardRow.shard))
        .where(col(DatasetShard.dataset_id) == dataset.id, col(ShardRow.row_id).in_(ids))
    )
    return {row_id: split for row_id, split in session.execute(query)}


def figures_of(old: Dataset, new: Dataset) -> list[Figure]:
    """Return the figures of both cards beside each other; what neither has is left out."""
    rows = [_figure(f"rows, {n}", getattr(old, f"n_{n}"), getattr(new, f"n_{n}"), number)
            for n in ("train", "validation", "test")]  # fmt: skip
    for name in ("candidates", "kept", "groups", "mean_score"):
        rows.append(_figure(words(name), old.card.get(name), new.card.get(name), number))
    for name in ("verified_share", "corrected_share", "contradicted_share"):
        rows.append(_figure(words(name), old.card.get(name), new.card.get(name), percent))
    before, after = _quality(old.card), _quality(new.card)
    for name in [*after, *(name for name in before if name not in after)]:
        rows.append(_figure(words(name), before.get(name), after.get(name), percent))
    return [row for row in rows if row is not None]


def beside(old: Dataset, new: Dataset, name: str) -> PartedBars | None:
    """Return the counts of both cards' entry `name` below each other, the largest first."""
    before, after = counts_in(old.card, name), counts_in(new.card, name)
    largest = most_of({key: max(before.get(key, 0), after.get(key, 0)) for key in before | after})
    rows = {
        _title(name, bar.name): {
            f"v{old.number}": float(before.get(bar.name, 0)),
            f"v{new.number}": float(after.get(bar.name, 0)),
        }
        for bar in largest
        if bar.name in before or bar.name in after
    }
    return parted_bars(
        rows, label=f"{words(name)} of both versions", grouped=True,
        tones={f"v{old.number}": "c-calm", f"v{new.number}": "c2"},
    )  # fmt: skip


def grouped_of(session: Session, kind: str, found: Differing) -> list[Grouped]:
    """Return why rows came or went: what came by task type, what went by its reason of now."""
    table: Any = PreferencePair if kind == PREFERENCE else Example
    came = _counted(session, table, table.task_type, found.added)
    went = _counted(session, table, table.task_type, found.removed)
    why = _counted(session, table, table.drop_reason, found.removed, table.status == DROPPED)
    n_known = min(len(found.removed), COUNTED)
    still = n_known - sum(n for _, n in why)
    reasons = [(reason_of(name).title, n) for name, n in why]
    if found.removed and still:
        reasons.append(("kept still, or erased since", still))
    made = [
        Grouped("Added, by task type", [(name or "untyped", n) for name, n in came]),
        Grouped("Removed, by task type", [(name or "untyped", n) for name, n in went]),
        Grouped("Removed, by what is said of them now", reasons),
    ]
    return [one for one in made if one.counts]


def _counted(
    session: Session, table: Any, by: Any, ids: Sequence[UUID], *only: Any
) -> list[tuple[str | None, int]]:
    if not ids:
        return []
    n = func.count()
    query = select(by, n).where(table.id.in_(ids[:COUNTED]), *only).group_by(by)
    return [(name, count) for name, count in session.execute(query.order_by(n.desc()).limit(20))]


def _figure(title: str, old: Any, new: Any, say: Any) -> Figure | None:
    if old is None and new is None:
        return None
    change = new - old if old is not None and new is not None else None
    return Figure(title, say(old), say(new), _signed(change, say))


def _signed(change: float | None, say: Any) -> str:
    if change is None:
        return ""
    if not change:
        return "same"
    return f"{'+' if change > 0 else '−'}{say(abs(change))}"


def _quality(card: Mapping[str, Any]) -> dict[str, Any]:
    entry = card.get("quality")
    if not isinstance(entry, Mapping):
        return {}
    return {str(k): m.get("value") for k, m in entry.items() if isinstance(m, Mapping)}


def _title(entry: str, name: str) -> str:
    return reason_of(name).title if entry == "dropped_by_reason" else plain(name)
