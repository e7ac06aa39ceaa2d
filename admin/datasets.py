"""Datasets: the versions as a list, and one version's card with a sample of its examples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse
from sqlalchemy import select
from sqlmodel import Session, col

from admin.charts import Bar, bars
from admin.formats import number, percent, words
from admin.paging import Narrowing, Slice, newest_first
from admin.rendering import Reading, render, wants_rows
from curation.export import CONTENT_POLICY, card_page
from curation.tables import (
    DROPPED,
    PREFERENCE,
    Dataset,
    DatasetExample,
    Example,
    PreferencePair,
)
from foundation import chat
from foundation.errors import NotFound
from foundation.settings import get_settings
from trainer.tables import ModelVersion, TrainingRun

routes = APIRouter(prefix="/datasets")

SAMPLE_SIZE = 20
QUALITY_SHARES = (
    "verified_share",
    "corrected_share",
    "contradicted_share",
    "largest_group_share",
    "mean_score",
)
"""Entries of a card that are shares in 0-1."""


@dataclass(frozen=True)
class Filters(Narrowing):
    """What the list is narrowed to; empty means all."""

    role: str = ""


@dataclass(frozen=True)
class ListPage:
    """Dataset versions, newest first."""

    filters: Filters
    rows: Slice[Dataset]
    roles: Sequence[str]


@dataclass(frozen=True)
class Shown:
    """One example of the sample, with the kept example that it repeats, if it does."""

    example: Example
    asked: str
    split: str
    original: Example | None = None


@dataclass(frozen=True)
class ShownPair:
    """One preference pair of the sample."""

    pair: PreferencePair
    asked: str
    split: str


@dataclass(frozen=True)
class Browse:
    """Which examples are looked at: kept ones of a split, or dropped ones of a reason."""

    show: Literal["kept", "dropped"] = "kept"
    split: str = ""
    reason: str = ""

    @property
    def query(self) -> dict[str, str]:
        """This choice as the query of an address."""
        return {name: value for name, value in vars(self).items() if value}


@dataclass(frozen=True)
class SamplePage:
    """A piece of a version's examples, for the page and for htmx."""

    dataset: Dataset
    browse: Browse
    rows: Slice[Shown] | Slice[ShownPair]


@dataclass(frozen=True)
class Measured:
    """One measure of a card: its value, and whether it reaches its target, in words."""

    title: str
    value: str
    met: bool | None
    said: str


@dataclass(frozen=True)
class DetailPage(SamplePage):
    """One version: its card, its splits, what became of it, and a sample."""

    dropped: Sequence[Bar]
    task_types: Sequence[Bar]
    trained: Sequence[TrainingRun]
    models: Sequence[ModelVersion]

    @property
    def splits(self) -> list[tuple[str, int]]:
        """Name and size of each split."""
        d = self.dataset
        return [("train", d.n_train), ("validation", d.n_validation), ("test", d.n_test)]

    @property
    def kept(self) -> int:
        """Examples in the version."""
        return sum(n for _, n in self.splits)

    @property
    def warnings(self) -> list[str]:
        """What the card warns of."""
        return [str(warning) for warning in self.dataset.card.get("warnings") or ()]

    @property
    def measures(self) -> list[Measured]:
        """The card's measures against their targets, those without a value too."""
        entry = self.dataset.card.get("quality")
        if not isinstance(entry, Mapping):
            return []
        return [
            Measured(words(name), percent(m["value"]), m["met"], _verdict(m))
            for name, m in entry.items()
            if isinstance(m, Mapping)
        ]

    @property
    def quality(self) -> list[tuple[str, str]]:
        """The card's measures of quality as name and value; those it has."""
        card = self.dataset.card
        shares = [
            (words(name), percent(card[name]))
            for name in QUALITY_SHARES
            if isinstance(card.get(name), (int, float))
        ]
        lengths = card.get("n_tokens")
        if not isinstance(lengths, Mapping):
            return shares
        return shares + [(f"tokens, {name}", number(n)) for name, n in lengths.items()]

    @property
    def n_dropped(self) -> int:
        """Examples that did not make it, of every reason."""
        return sum(bar.n for bar in self.dropped)


@routes.get("", name="datasets.list")
def show_list(
    request: Request,
    session: Reading,
    filters: Annotated[Filters, Depends()],
    before: UUID | None = None,
) -> HTMLResponse:
    """Show dataset versions."""
    query = select(Dataset)
    if filters.role:
        query = query.where(col(Dataset.role) == filters.role)
    rows = newest_first(session, query, col(Dataset.id), before)
    template = "datasets/_rows.html" if wants_rows(request) else "datasets/list.html"
    return render(request, template, ListPage(filters, rows, get_settings().roles))


@routes.get("/{id}", name="datasets.detail")
def show_detail(
    request: Request,
    session: Reading,
    id: UUID,
    browse: Annotated[Browse, Depends()],
    before: UUID | None = None,
) -> HTMLResponse:
    """Show one version; htmx asks here for more of its sample."""
    dataset = session.get(Dataset, id)
    if dataset is None:
        raise NotFound("dataset", str(id), "the id of a dataset version", "See the list.")
    look = sample_of_pairs if dataset.kind == PREFERENCE else sample
    rows = look(session, dataset, browse, before)
    if wants_rows(request):
        return render(request, "datasets/_examples.html", SamplePage(dataset, browse, rows))
    return render(request, "datasets/detail.html", detail(session, dataset, browse, rows))


@routes.get("/{id}/card", name="datasets.card")
def show_card(session: Reading, id: UUID) -> HTMLResponse:
    """Show the card of a version as a page of its own, under its own content policy."""
    page = card_page(session, id)
    return HTMLResponse(page, headers={"Content-Security-Policy": CONTENT_POLICY})


def detail(
    session: Session, dataset: Dataset, browse: Browse, rows: Slice[Shown] | Slice[ShownPair]
) -> DetailPage:
    """Return the page of one version around a sample."""
    trained = session.scalars(
        select(TrainingRun)
        .where(col(TrainingRun.dataset_id) == dataset.id)
        .order_by(col(TrainingRun.id).desc())
        .limit(SAMPLE_SIZE)
    ).all()
    models = session.scalars(
        select(ModelVersion)
        .where(col(ModelVersion.dataset_id) == dataset.id)
        .order_by(col(ModelVersion.id).desc())
        .limit(SAMPLE_SIZE)
    ).all()
    return DetailPage(
        dataset,
        browse,
        rows,
        dropped=bars(counts_in(dataset.card, "dropped_by_reason")),
        task_types=bars(counts_in(dataset.card, "task_types")),
        trained=trained,
        models=models,
    )


def sample(
    session: Session, dataset: Dataset, browse: Browse, before: UUID | None = None
) -> Slice[Shown]:
    """Return examples of a version, newest first: members, or those that were dropped for it."""
    if browse.show == "kept":
        query = select(Example, col(DatasetExample.split)).join(
            DatasetExample, col(DatasetExample.example_id) == col(Example.id)
        )
        query = query.where(col(DatasetExample.dataset_id) == dataset.id)
        if browse.split:
            query = query.where(col(DatasetExample.split) == browse.split)
        key = col(DatasetExample.example_id)
    else:
        query = select(Example, col(Example.split)).where(
            col(Example.role) == dataset.role,
            col(Example.variant) == dataset.variant,
            col(Example.status) == DROPPED,
            col(Example.created_at) <= dataset.created_at,
        )
        if browse.reason:
            query = query.where(col(Example.drop_reason) == browse.reason)
        key = col(Example.id)
    found = newest_first(session, query, key, before, SAMPLE_SIZE)
    originals = _by_id(session, [row[0].duplicate_of for row in found.rows])
    return found.map(lambda row: _shown(row[0], row[1], originals))


def sample_of_pairs(
    session: Session, dataset: Dataset, browse: Browse, before: UUID | None = None
) -> Slice[ShownPair]:
    """Return pairs of a version, newest first: members, or those that were dropped for it."""
    if browse.show == "kept":
        query = select(PreferencePair, col(DatasetExample.split)).join(
            DatasetExample, col(DatasetExample.example_id) == col(PreferencePair.id)
        )
        query = query.where(col(DatasetExample.dataset_id) == dataset.id)
        if browse.split:
            query = query.where(col(DatasetExample.split) == browse.split)
    else:
        query = select(PreferencePair, col(PreferencePair.split)).where(
            col(PreferencePair.role) == dataset.role,
            col(PreferencePair.variant) == dataset.variant,
            col(PreferencePair.status) == DROPPED,
            col(PreferencePair.created_at) <= dataset.created_at,
        )
        if browse.reason:
            query = query.where(col(PreferencePair.drop_reason) == browse.reason)
    found = newest_first(session, query, col(PreferencePair.id), before, SAMPLE_SIZE)
    return found.map(lambda row: ShownPair(row[0], chat.joined(row[0].prompt), row[1]))


def _by_id(session: Session, ids: Sequence[UUID | None]) -> Mapping[UUID, Example]:
    wanted = {identifier for identifier in ids if identifier is not None}
    if not wanted:
        return {}
    rows = session.scalars(select(Example).where(col(Example.id).in_(wanted))).all()
    return {row.id: row for row in rows}


def _shown(example: Example, split: str, originals: Mapping[UUID, Example]) -> Shown:
    asked = chat.joined(example.prompt)
    original = originals.get(example.duplicate_of) if example.duplicate_of else None
    return Shown(example, asked, split, original)


def _verdict(measure: Mapping[str, Any]) -> str:
    if measure["value"] is None:
        return f"not measured: {measure['why_not']}"
    if measure["met"] is None:
        return ""
    return f"{'met' if measure['met'] else 'not met'}, target {percent(measure['target'])}"


def counts_in(card: Mapping[str, Any], name: str) -> dict[str, int]:
    """Return the card's entry `name` as counts above 0; empty if it is not an object of counts."""
    entry = card.get(name)
    if not isinstance(entry, Mapping):
        return {}
    return {str(k): v for k, v in entry.items() if isinstance(v, int) and v > 0}
