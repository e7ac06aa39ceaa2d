"""Review over HTTP: ask for the next item, say something about it, look at how it goes.

The service has one key, so who reviews says so by name.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from sqlmodel import Session

from curation.export import get_dataset
from curation.review import labels, leases, workload
from curation.review.agreement import agreement
from curation.review.cards import card_of
from curation.review.drawn import random_share
from curation.review.export import exported
from curation.review.filters import MOST, Filters, add_matching
from curation.review.plan import ReviewPlan
from curation.review.queue import assign, fill_queue, newest_dataset, withdraw
from foundation.database import explain_row, session_scope

routes = APIRouter(prefix="/v1/review", tags=["review"])

Role = Annotated[str | None, Query(description="Of the items; all if it is not named.")]
Since = Annotated[AwareDatetime | None, Query(description="Labels from then on.")]


class Body(BaseModel):
    """A request whose unknown fields are mistakes."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class By(Body):
    """Who speaks."""

    reviewer: str


class Ask(By):
    """What kind of item is wanted next."""

    role: str | None = None
    kind: str | None = None
    besides: list[UUID] = Field(default_factory=list, max_length=100)
    lease_s: float = Field(default=leases.LEASE_S, ge=1, le=86_400)


class Said(By):
    """A verdict on an item; see docs/reviewing.md for what each action takes."""

    action: str
    value: dict[str, Any] = Field(default_factory=dict)
    reason: str | None = Field(default=None, max_length=10_000)


class Skipped(By):
    """Why an item is left to others."""

    reason: str | None = Field(default=None, max_length=10_000)


class Draft(By):
    """What was typed so far."""

    content: dict[str, Any]


class Undo(By):
    """Which label is taken back; the last one if it is not named."""

    label_id: UUID | None = None


class Filling(Body):
    """What comes into a queue: by a plan, or by filters."""

    role: str
    plan: dict[str, Any] = Field(default_factory=dict)
    filters: dict[str, Any] | None = None
    limit: int = Field(default=100, ge=1, le=MOST)
    n_wanted: int = Field(default=1, ge=1, le=10)
    assigned_to: str | None = None


class Assignment(Body):
    """Which items are whose; nobody's own if no reviewer is named."""

    item_ids: list[UUID] = Field(max_length=10_000)
    reviewer: str | None = None


class Withdrawal(Body):
    """Which items nobody needs to look at any more."""

    item_ids: list[UUID] = Field(max_length=10_000)


@routes.post("/next")
def ask_for_next(wanted: Ask) -> dict[str, Any] | None:
    """Lease the next item and return its card; null when nothing waits."""
    with session_scope() as session:
        item = leases.next_item(
            session,
            wanted.reviewer,
            wanted.role,
            kind=wanted.kind,
            besides=wanted.besides,
            lease_s=wanted.lease_s,
        )
        return None if item is None else card_of(session, item.id, wanted.reviewer).as_json()


@routes.get("/items/{item_id}")
def read_item(item_id: UUID, reviewer: str) -> dict[str, Any]:
    """Return an item as this reviewer sees it, with the labels they may see."""
    with session_scope() as session:
        card = card_of(session, item_id, reviewer).as_json()
        said = [explain_row(one) for one in labels.labels_of(session, item_id, reviewer)]
    return {**card, "labels": said}


@routes.post("/items/{item_id}/label", status_code=201)
def add_label(item_id: UUID, said: Said) -> dict[str, Any]:
    """Say something of an item."""
    with session_scope() as session:
        return explain_row(
            labels.label(session, item_id, said.reviewer, said.action, said.value, said.reason)
        )


@routes.post("/items/{item_id}/skip", status_code=201)
def skip_item(item_id: UUID, said: Skipped) -> dict[str, Any]:
    """Leave an item to others."""
    with session_scope() as session:
        return explain_row(labels.skip(session, item_id, said.reviewer, said.reason))


@routes.post("/items/{item_id}/release", status_code=204)
def release_item(item_id: UUID, by: By) -> None:
    """Give an item back without a word on it."""
    with session_scope() as session:
        leases.release(session, item_id, by.reviewer)


@routes.put("/items/{item_id}/draft")
def put_draft(item_id: UUID, draft: Draft) -> dict[str, Any]:
    """Keep what was typed so far, and the lease."""
    with session_scope() as session:
        return explain_row(leases.save_draft(session, item_id, draft.reviewer, draft.content))


@routes.post("/undo")
def undo_label(wanted: Undo) -> dict[str, Any]:
    """Take a label back; its item waits again."""
    with session_scope() as session:
        return explain_row(labels.undo(session, wanted.reviewer, wanted.label_id))


@routes.post("/fill")
def fill(wanted: Filling) -> dict[str, Any]:
    """Fill a role's queue from its newest dataset, or with what matches the filters."""
    with session_scope() as session:
        if wanted.filters is None:
            plan = ReviewPlan.from_json(wanted.plan)
            return fill_queue(session, wanted.role, plan)
        n = add_matching(
            session,
            wanted.role,
            Filters.from_json(wanted.filters),
            limit=wanted.limit,
            n_wanted=wanted.n_wanted,
            assigned_to=wanted.assigned_to,
        )
    return {"filter": n}


@routes.post("/assign")
def assign_items(wanted: Assignment) -> dict[str, int]:
    """Give open items to one reviewer alone, or back to everybody."""
    with session_scope() as session:
        return {"assigned": assign(session, wanted.item_ids, wanted.reviewer)}


@routes.post("/withdraw")
def withdraw_items(wanted: Withdrawal) -> dict[str, int]:
    """Take open items out of the queue."""
    with session_scope() as session:
        return {"withdrawn": withdraw(session, wanted.item_ids)}


@routes.get("/stats")
def read_stats(role: Role = None, since: Since = None) -> dict[str, Any]:
    """What waits, who did how much how fast, and what the drawn sample says of the dataset."""
    with session_scope() as session:
        return {
            "waiting": [asdict(one) for one in workload.waiting(session, role)],
            "reviewers": [asdict(one) for one in workload.reviewers(session, role, since)],
            "dataset": None if role is None else _dataset_stats(session, role),
        }


@routes.get("/agreement")
def read_agreement(role: Role = None, since: Since = None) -> dict[str, Any]:
    """How far reviewers agree on what two or more of them labelled, and where they do not."""
    with session_scope() as session:
        return asdict(agreement(session, role, since))


@routes.get("/datasets/{dataset_id}/sample")
def read_sample(
    dataset_id: UUID, share: Annotated[float, Query(ge=0, le=1)] = 0.1
) -> dict[str, Any]:
    """Prove that a share of a dataset was drawn for review, and say what people found in it."""
    with session_scope() as session:
        dataset = get_dataset(session, dataset_id)
        drawn = random_share(session, dataset, share)
        found = workload.verified(session, dataset).as_json()
    return {"drawn": {**asdict(drawn), "holds": drawn.holds}, "verified": found}


@routes.get("/labels")
def read_labels(role: Role = None, since: Since = None, undone: bool = False) -> StreamingResponse:
    """Labels with what they are about, as JSON lines, oldest first."""
    return StreamingResponse(_lines(role, since, undone), media_type="application/x-ndjson")


def _lines(role: str | None, since: datetime | None, undone: bool) -> Iterator[str]:
    with session_scope() as session:
        for row in exported(session, role, since, undone=undone):
            yield json.dumps(row, ensure_ascii=False) + "\n"


def _dataset_stats(session: Session, role: str) -> dict[str, Any] | None:
    dataset = newest_dataset(session, role, ReviewPlan().variant)
    return None if dataset is None else workload.verified(session, dataset).as_json()
