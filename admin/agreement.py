"""How far reviewers agree, where they do not, and who labels how much; what that says of datasets.

Looks at the newest labels only, a fixed number, whatever their log holds; the page says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal, TypeVar

from fastapi import APIRouter, Depends, Request, Response
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import defer
from sqlmodel import Session, col

from admin.charts import DotPlot, dot_plot
from admin.listing import Asked, Column, Listing, Table
from admin.paging import Narrowing
from admin.rendering import Reading, render
from curation.review.agreement import Agreement, Disagreement, PairAgreement, agreement
from curation.review.workload import Judged, Reviewer, judged_lately, reviewers
from curation.tables import SFT, Dataset, ReviewItem
from foundation.errors import BadInput
from foundation.settings import get_settings
from foundation.tables import now

routes = APIRouter(prefix="/review")

LABELS: Final = 1_000
"""Newest labels of doubly labelled items that agreement is measured on."""
WORK: Final = 10_000
"""Newest labels that the workload is counted of."""
SHOWN: Final = 20
"""Disagreements on the page; an export has all that were found."""
ENOUGH: Final = 30
"""Items below which agreement is a rough guess."""
FIRST_DAYS: Final = "30"
ALL_DAYS: Final = "all"

T = TypeVar("T")


@dataclass(frozen=True)
class Filters(Narrowing):
    """What is looked at."""

    role: str = ""
    days: Literal["", "7", "30", "90", "365", "all"] = ""
    """Of how many days; empty: `FIRST_DAYS`."""

    @property
    def since(self) -> datetime | None:
        """From when on; None: from the beginning."""
        days = self.days or FIRST_DAYS
        return None if days == ALL_DAYS else now() - timedelta(days=int(days))


@dataclass(frozen=True)
class Spoken:
    """A measure of agreement in words."""

    value: str
    means: str


PAIRS: Listing[PairAgreement] = Listing(
    [
        Column("reviewers", "Reviewers", lambda p: " and ".join(p.reviewers)),
        Column("items", "Items of both", lambda p: p.n, True, numeric=True),
        Column("same", "Same verdict", lambda p: p.percent, True, numeric=True),
        Column("kappa", "Kappa", lambda p: p.kappa, True, numeric=True),
        Column("meaning", "In words", lambda p: spoken(p.kappa, p.n).means),
    ],
    key=col(ReviewItem.id),
    name="agreement",
)

DISAGREEMENTS: Listing[Disagreement] = Listing(
    [
        Column("item", "Item", lambda d: str(d.item_id)),
        Column("kind", "Kind", lambda d: d.kind),
        Column("verdicts", "Who said what", lambda d: dict(d.verdicts)),
        Column("reasons", "", lambda d: dict(d.reasons)),
        Column("interaction_id", "", lambda d: str(d.interaction_id)),
    ],
    key=col(ReviewItem.id),
    name="disagreements",
)

WORKLOAD: Listing[Reviewer] = Listing(
    [
        Column("reviewer", "Reviewer", lambda r: r.reviewer, True, first="up"),
        Column("labels", "Labels", lambda r: r.n_labels, True, numeric=True),
        Column("actions", "Of which", lambda r: r.actions),
        Column("pace", "Per hour", lambda r: r.labels_per_hour, True, numeric=True),
        Column("median_s", "Median", lambda r: r.median_s, True, numeric=True),
        Column("skipped", "Skipped", lambda r: share_of(r, r.n_skipped), True, numeric=True),
        Column("undone", "Undone", lambda r: share_of(r, r.n_undone), True, numeric=True),
        Column("leased", "In hand", lambda r: r.n_leased, True, numeric=True),
        Column("assigned", "Assigned", lambda r: r.n_assigned, True, numeric=True),
        Column("last", "Last", lambda r: r.last_at, True),
    ],
    key=col(ReviewItem.id),
    name="reviewers",
)
LISTS: Final[dict[str, Listing[Any]]] = {
    listing.name: listing for listing in (PAIRS, DISAGREEMENTS, WORKLOAD)
}


@dataclass(frozen=True)
class Verified:
    """What people found in the drawn sample of a role's newest dataset."""

    dataset: Dataset
    judged: Judged


@dataclass(frozen=True)
class Page:
    """Agreement and workload."""

    filters: Filters
    found: Agreement
    verdicts: Spoken
    ratings: Spoken
    pairs: Table[PairAgreement]
    disagreements: Table[Disagreement]
    n_disagreements: int
    workload: Table[Reviewer]
    verified: Sequence[Verified]
    shares: DotPlot | None
    is_cut: bool
    """Whether there are more labels than were counted for the workload."""
    roles: Sequence[str]

    @property
    def days(self) -> str:
        """Of how many days."""
        return self.filters.days or FIRST_DAYS

    def said_of(self, pair: PairAgreement) -> str:
        """Return what the agreement of two people means."""
        return spoken(pair.kappa, pair.n).means

    def share(self, one: Reviewer, n: int) -> float | None:
        """Return a share of all that somebody said."""
        return share_of(one, n)


@routes.get("/agreement", name="agreement")
def show(
    request: Request,
    session: Reading,
    filters: Annotated[Filters, Depends()],
    asked: Annotated[Asked, Depends()],
    of: Literal["agreement", "disagreements", "reviewers"] = "agreement",
) -> Response:
    """Show how far reviewers agree and who labels how much; `of` says which table is exported."""
    if not asked.format:
        return render(request, "agreement/index.html", page(session, filters, asked))
    role = filters.role or None
    if of == WORKLOAD.name:
        return WORKLOAD.attach(reviewers(session, role, filters.since, WORK), asked)
    found = agreement(session, role, filters.since, LABELS)
    if of == PAIRS.name:
        return PAIRS.attach(found.pairs, asked)
    return DISAGREEMENTS.attach(found.disagreements, asked)


def page(session: Session, filters: Filters, asked: Asked) -> Page:
    """Return the page.

    Raises:
        BadInput: there is no column to sort by of that name.
    """
    name = asked.sort.removeprefix("-")
    if name and not any(name in listing.sortable for listing in LISTS.values()):
        raise BadInput("sort", name, "a column of this page", "Choose a column's head.")
    role = filters.role or None
    found = agreement(session, role, filters.since, LABELS)
    people = reviewers(session, role, filters.since, WORK)
    verified = [Verified(d, judged_lately(session, d)) for d in newest(session, role)]
    counted = sum(one.n_labels + one.n_skipped + one.n_undone for one in people)
    return Page(
        filters,
        found,
        spoken(found.alpha, found.n_items),
        spoken(found.rating_alpha, found.n_items),
        table(PAIRS, found.pairs, filters, asked),
        table(DISAGREEMENTS, found.disagreements[:SHOWN], filters, asked),
        len(found.disagreements),
        table(WORKLOAD, people, filters, asked),
        verified,
        share_plot(verified),
        counted >= WORK,
        get_settings().roles,
    )


def newest(session: Session, role: str | None) -> Sequence[Dataset]:
    """Return the newest dataset to train on of each role, or of one; at most 8."""
    query = (
        select(Dataset)
        .ext(distinct_on(col(Dataset.role)))
        .where(col(Dataset.kind) == SFT)
        .options(defer(Dataset.card))  # type: ignore[arg-type]
        .order_by(col(Dataset.role), col(Dataset.id).desc())
        .limit(8)
    )
    if role is not None:
        query = query.where(col(Dataset.role) == role)
    return session.scalars(query).all()


def share_plot(verified: Sequence[Verified]) -> DotPlot | None:
    """Return the shares of good rows with their intervals."""
    rows = []
    for one in verified:
        low, high = one.judged.interval or (None, None)
        dot = ("good", _hundred(one.judged.share), _hundred(low), _hundred(high))
        name = f"{one.dataset.role} v{one.dataset.number}"
        rows.append((name, f"{one.judged.n:,} judged", [dot]))
    return dot_plot(
        rows,
        label="Share of rows that people found good, with 95 % intervals",
        within=(0.0, 100.0),
        tones={"good": "c2"},
        value_format=lambda v: f"{v:.1f} %",
    )


def spoken(value: float | None, n: int) -> Spoken:
    """Return what an agreement beyond chance means; words of Landis and Koch (1977)."""
    if value is None:
        return Spoken("–", "not defined: nobody, or all with one verdict, labelled the same items")
    steps = ((0.0, "worse than by chance"), (0.2, "hardly better than by chance"), (0.4, "fair"),
             (0.6, "moderate"), (0.8, "substantial"))  # fmt: skip
    word = next((said for end, said in steps if value < end), "almost perfect")
    return Spoken(f"{value:.2f}", f"{word}, but of few items" if n < ENOUGH else word)


def table(listing: Listing[T], rows: Sequence[T], filters: Filters, asked: Asked) -> Table[T]:
    """Return rows that are all there as a table, sorted if the order asked for is of this one."""
    name = asked.sort.removeprefix("-")
    kept = {**filters.query, "of": listing.name}
    if name in listing.sortable:
        value = listing.sortable[name].value
        assert value is not None
        known = [row for row in rows if value(row) is not None]
        known.sort(key=value, reverse=asked.sort.startswith("-"))
        rows = [*known, *(row for row in rows if value(row) is None)]
    return Table(rows, listing.heads(asked, filters.query), kept, None)


def share_of(one: Reviewer, n: int) -> float | None:
    """Return a share of all that somebody said; None: nothing."""
    said = one.n_labels + one.n_skipped + one.n_undone
    return n / said if said else None


def _hundred(share: float | None) -> float | None:
    return None if share is None else 100 * share
