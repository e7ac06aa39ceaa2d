"""Add to review: the examples of a call, or of all calls that fit the filters of a list."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import HTMLResponse
from sqlalchemy import select
from sqlmodel import Session, col

from admin.access.people import REVIEWER
from admin.calls import get_call, items_of
from admin.log_filters import Filters
from admin.log_walk import Budget, Walked, walk
from admin.rendering import Reading, link_to, render
from admin.writing import ByReviewer, needs, see
from curation.recipe import DEFAULT
from curation.review.filters import add_examples
from curation.review.leases import OPEN
from curation.tables import Example
from foundation.errors import Conflict

routes = APIRouter(prefix="/interactions")

MOST: Final = 500
"""Calls whose examples one confirmation adds."""
ADDING: Final = Budget(calls=200_000, seconds=10.0)
"""What may be spent to find them again when it is confirmed."""


@dataclass(frozen=True)
class MatchingPage:
    """What adding all calls that fit would do, before it is done."""

    filters: Filters
    walked: Walked
    n_calls: int
    n_new: int
    n_waiting: int
    n_labelled: int
    roles: Sequence[str]

    @property
    def n_without(self) -> int:
        """Calls that no example was made of."""
        return self.n_calls - self.n_new - self.n_waiting - self.n_labelled

    @property
    def is_bounded(self) -> bool:
        """Whether more calls fit than are added at once."""
        return self.n_calls == MOST


@dataclass(frozen=True)
class AddedPage:
    """What was added."""

    filters: Filters
    n_calls: int
    n_added: int


@routes.post("/{id}/review", name="interactions.to_review")
def add_call(request: Request, by: ByReviewer, id: UUID) -> Response:
    """Put the examples of one call before all others in the review queue."""
    with by.changing("review.add", "interactions", id) as change:
        get_call(change.session, id)
        examples = examples_of(change.session, [id])
        if not examples:
            raise Conflict(
                "example of this call",
                None,
                "one that curation made of it",
                "It is not curated yet: run flywheel curate for its role, then add it.",
            )
        change.after({"examples": queue(change.session, examples)})
    return see(
        f"{link_to(request, 'interactions.detail', id=id)}#lineage",
        "It comes first in the review queue.",
    )


@routes.get("/to-review", name="to_review.matching", dependencies=[Depends(needs(REVIEWER))])
def show_matching(
    request: Request, session: Reading, filters: Annotated[Filters, Depends()]
) -> HTMLResponse:
    """Show how many calls fit and what adding them would do."""
    return render(request, "interactions/to_review.html", matching_page(session, filters))


@routes.post("/to-review", name="to_review.add_matching")
def add_matching(
    request: Request,
    by: ByReviewer,
    filters: Annotated[Filters, Depends()],
    newest: Annotated[UUID, Form()],
    oldest: Annotated[UUID, Form()],
) -> HTMLResponse:
    """Put the examples of the calls that were counted into the queue."""
    with by.changing("review.add", "interactions", "") as change:
        before = UUID(int=min(newest.int + 1, 2**128 - 1))
        walked = walk(change.session, filters, before, MOST, ADDING)
        ids = [one for one in walked.ids if one >= oldest]
        n_added = queue(change.session, examples_of(change.session, ids))
        change.after({"filters": filters.query, "calls": len(ids), "examples": n_added})
    return render(request, "interactions/added.html", AddedPage(filters, len(ids), n_added))


def matching_page(session: Session, filters: Filters) -> MatchingPage:
    """Return how the newest calls that fit stand: found in the time of one page, `MOST` at most."""
    walked = walk(session, filters, None, MOST)
    examples = examples_of(session, walked.ids)
    items = items_of(session, [example.id for example in examples])
    waiting = sum(item.status == OPEN for item in items.values())
    return MatchingPage(
        filters,
        walked,
        len(walked.ids),
        len(examples) - len(items),
        waiting,
        len(items) - waiting,
        sorted({example.role for example in examples}),
    )


def examples_of(session: Session, calls: Sequence[UUID]) -> Sequence[Example]:
    """Return the examples of calls that reviewers see: those of the default profile."""
    return session.scalars(
        select(Example).where(
            col(Example.interaction_id).in_(calls), col(Example.variant) == DEFAULT
        )
    ).all()


def queue(session: Session, examples: Sequence[Example]) -> int:
    """Put examples into the queues of their roles; return how many were not labelled before."""
    of_roles: dict[str, list[UUID]] = {}
    for example in examples:
        of_roles.setdefault(example.role, []).append(example.id)
    return sum(add_examples(session, role, of_roles[role]) for role in sorted(of_roles))
