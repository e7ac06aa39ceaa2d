"""The review queue: what waits for a person and why, who did what, and its items as a list.

The cards themselves are in `admin.reviewing`, how far reviewers agree in `admin.agreement`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import BaseModel
from sqlalchemy import Select, and_, cast, exists, func, literal, select
from sqlalchemy.dialects.postgresql import JSONB, JSONPATH
from sqlalchemy.orm import defer
from sqlmodel import Session, col

from admin import reviewing
from admin.access.people import VIEWER
from admin.access.users import list_users
from admin.formats import shorten
from admin.listing import Asked, Column, Listing, Table
from admin.paging import Narrowing
from admin.rendering import Reading, link_to, render, wants_rows
from admin.reviewing import WHY, Progress, Scope, progress_of
from admin.writing import ByOperator, person_of, see
from curation.review.leases import DONE, OPEN, WITHDRAWN
from curation.review.plan import ReviewPlan
from curation.review.queue import assign, fill_queue, withdraw
from curation.review.said import EXAMPLE, LIKENESS, PAIR, SAMPLE
from curation.review.words import reviewer_name
from curation.review.workload import Waiting, waiting
from curation.tables import Example, PreferencePair, ReviewItem, ReviewLabel
from foundation.chat import text_of
from foundation.errors import BadInput
from foundation.settings import get_settings
from foundation.tables import now

routes = APIRouter(prefix="/review")

KINDS: Final = (EXAMPLE, PAIR, LIKENESS, SAMPLE)
PLURALS: Final = {
    EXAMPLE: "examples",
    PAIR: "pairs of answers",
    LIKENESS: "likenesses",
    SAMPLE: "answers of evaluations",
}
MY_LABELS: Final = 12
AT_ONCE: Final = 500
"""Items that one click assigns or withdraws."""

KNOBS: Final = {
    "random_share": "of the dataset, drawn by hash",
    "uncertainty_share": "of what is new, least certain",
    "disagreement_share": "of what is new, contradicted",
    "diversity_share": "of what is new, unlike the rest",
    "pair_share": "of new preference pairs",
    "double_share": "judged by two people",
    "at_most": "items of one reason at once",
    "max_waiting": "waiting, from which on only drawn ones come",
}
"""Fields of a `ReviewPlan` that the page offers, in words."""


@dataclass(frozen=True)
class Line:
    """What waits of one role, kind and reason."""

    waiting: Waiting
    why: str

    @property
    def n(self) -> int:
        """Items that wait for somebody."""
        return self.waiting.open + self.waiting.second


@dataclass(frozen=True)
class Start:
    """A way into the queue: a role or kind, and how many wait there."""

    name: str
    query: Mapping[str, str]
    n: int


@dataclass(frozen=True)
class MyLabel:
    """One of the last things that this reviewer said."""

    label: ReviewLabel
    role: str
    kind: str


@dataclass(frozen=True)
class Page:
    """The queue's front page."""

    scope: Scope
    lines: Sequence[Line]
    starts: Sequence[Start]
    progress: Progress
    n_assigned: int
    mine: Sequence[MyLabel]
    roles: Sequence[str]
    knobs: Sequence[tuple[str, str, Any]]
    """Name, meaning and default of each knob of a filling."""
    added: str = ""
    """Of the filling that was just done: how many items came."""

    @property
    def n_waiting(self) -> int:
        """Items that wait, of everybody."""
        return sum(line.n for line in self.lines)


@routes.get("", name="review")
def show(
    request: Request,
    session: Reading,
    scope: Annotated[Scope, Depends()],
    added: str = "",
) -> HTMLResponse:
    """Show what waits, and the ways into it."""
    page = front_page(session, person_of(request).name, scope, added)
    return render(request, "review/index.html", page)


class Filling(BaseModel):
    """What the form of a filling sends: a role, and what is to differ from the defaults."""

    role: str = ""
    random_share: str = ""
    uncertainty_share: str = ""
    disagreement_share: str = ""
    diversity_share: str = ""
    pair_share: str = ""
    double_share: str = ""
    at_most: str = ""
    max_waiting: str = ""


@routes.post("/fill", name="review.fill")
def fill(request: Request, by: ByOperator, filling: Annotated[Filling, Form()]) -> Response:
    """Fill a role's queue from its newest dataset, by the plan that the form holds."""
    role, plan = filling.role, plan_of(filling.model_dump())
    if role not in get_settings().roles:
        raise BadInput("role", role, "a configured role", "Choose one of the list.")
    with by.changing("review.fill", "role", role) as change:
        counts = fill_queue(change.session, role, plan)
        change.after(counts)
    n = sum(found for found in counts.values() if isinstance(found, int))
    return see(link_to(request, "review", {"added": str(n)}))


def plan_of(given: Mapping[str, str]) -> ReviewPlan:
    """Return the plan that a form's fields ask for; what is empty keeps its default."""
    known = {field.name: field.default for field in fields(ReviewPlan)}
    values: dict[str, Any] = {}
    for name in KNOBS:
        if text := given.get(name, "").strip():
            number = int if isinstance(known[name], int) else float
            try:
                values[name] = number(text)
            except ValueError:
                raise BadInput(f"review plan {name}", text, "a number", "Correct it.") from None
    return ReviewPlan.from_json(values)


def front_page(session: Session, name: str, scope: Scope, added: str = "") -> Page:
    """Return the front page for one reviewer."""
    found = waiting(session, scope.role or None, settled=False)
    lines = [Line(one, WHY.get(one.reason, one.reason)) for one in found]
    lines = [one for one in lines if not scope.kind or one.waiting.kind == scope.kind]
    reviewer = reviewer_name(name)
    assigned = select(func.count()).where(
        col(ReviewItem.status) == OPEN,
        col(ReviewItem.assigned_to) == reviewer,
        col(ReviewItem.role).in_(get_settings().roles),
    )
    defaults = ReviewPlan().as_json()
    return Page(
        scope,
        lines,
        _starts(lines),
        progress_of(session, name, scope),
        session.scalar(assigned) or 0,
        _my_labels(session, reviewer),
        get_settings().roles,
        [(knob, meaning, defaults[knob]) for knob, meaning in KNOBS.items()],
        added if added.isdecimal() else "",
    )


def _starts(lines: Sequence[Line]) -> list[Start]:
    """Return the roles and kinds in which something waits, each with its number."""
    roles: dict[str, int] = {}
    kinds: dict[str, int] = {}
    for line in lines:
        if line.n:
            roles[line.waiting.role] = roles.get(line.waiting.role, 0) + line.n
            kinds[line.waiting.kind] = kinds.get(line.waiting.kind, 0) + line.n
    return [
        *(Start(name, {"role": name}, n) for name, n in roles.items() if len(roles) > 1),
        *(Start(PLURALS[name], {"kind": name}, n) for name, n in kinds.items() if len(kinds) > 1),
    ]


def _my_labels(session: Session, reviewer: str) -> list[MyLabel]:
    query = (
        select(ReviewLabel, col(ReviewItem.role), col(ReviewItem.kind))
        .join(ReviewItem, col(ReviewItem.id) == col(ReviewLabel.item_id))
        .where(col(ReviewLabel.reviewer) == reviewer, col(ReviewLabel.undone_at).is_(None))
        .order_by(col(ReviewLabel.created_at).desc())
        .limit(MY_LABELS)
    )
    return [MyLabel(*row) for row in session.execute(query)]


# ---- the items as a list


@dataclass(frozen=True)
class Filters(Narrowing):
    """What the list is narrowed to; empty means all."""

    role: str = ""
    kind: str = ""
    reason: str = ""
    status: str = ""
    assigned: str = ""
    """A reviewer's name, or `nobody`."""
    leased: str = ""
    """`now`, or empty."""
    labelled_by: str = ""


@dataclass(frozen=True)
class Row:
    """One item, in a line."""

    item: ReviewItem
    asked: str
    answered: str
    n_labels: int

    @property
    def is_leased(self) -> bool:
        """Whether somebody has it on their screen."""
        until = self.item.leased_until
        return self.item.status == OPEN and until is not None and until > now()


_N_LABELS = (
    select(func.count())
    .where(
        col(ReviewLabel.item_id) == col(ReviewItem.id),
        col(ReviewLabel.undone_at).is_(None),
        col(ReviewLabel.action) != "skip",
    )
    .correlate(ReviewItem)
    .scalar_subquery()
)

LISTING: Listing[Row] = Listing(
    [
        Column("role", "Role", lambda row: row.item.role, col(ReviewItem.role), first="up"),
        Column("kind", "Kind", lambda row: row.item.kind, col(ReviewItem.kind), first="up"),
        Column("asked", "Asked and answered", lambda row: row.asked),
        Column("reason", "Because", lambda row: row.item.reason, col(ReviewItem.reason)),
        Column(
            "priority", "Priority", lambda row: row.item.priority, col(ReviewItem.priority), True
        ),
        Column("status", "Status", lambda row: row.item.status, col(ReviewItem.status)),
        Column("n_labels", "Labels", lambda row: row.n_labels, _N_LABELS, True),
        Column("assigned", "Whose", lambda row: row.item.assigned_to, col(ReviewItem.assigned_to)),
        Column("created_at", "Came", lambda row: row.item.created_at, col(ReviewItem.created_at)),
        Column("id", "", lambda row: str(row.item.id)),
        Column("subject_id", "", lambda row: str(row.item.subject_id)),
        Column("n_wanted", "", lambda row: row.item.n_wanted),
        Column("leased_by", "", lambda row: row.item.leased_by),
        Column("answered", "", lambda row: row.answered),
    ],
    key=col(ReviewItem.id),
    name="review-items",
)


@dataclass(frozen=True)
class ListPage:
    """Items, newest first."""

    filters: Filters
    table: Table[Row]
    roles: Sequence[str]
    people: Sequence[str]
    """Who may review."""
    kinds: Sequence[str] = KINDS
    reasons: Sequence[str] = tuple(WHY)
    statuses: Sequence[str] = (OPEN, DONE, WITHDRAWN)
    changed: str = ""
    """What was just done to how many."""


@routes.get("/items", name="review.items")
def show_items(
    request: Request,
    session: Reading,
    filters: Annotated[Filters, Depends()],
    asked: Annotated[Asked, Depends()],
    changed: str = "",
) -> Response:
    """Show the items of the queue, newest first."""
    if asked.format:
        return LISTING.export(_matching(filters), asked, _rows)
    template = "review/_rows.html" if wants_rows(request) else "review/items.html"
    table = LISTING.page(session, _matching(filters), asked, filters.query, _rows)
    people = [
        one.name for one in list_users(session) if one.disabled_at is None and one.role != VIEWER
    ]
    page = ListPage(filters, table, get_settings().roles, people, changed=changed[:80])
    return render(request, template, page)


@routes.post("/items/assign", name="review.assign")
def give(
    request: Request,
    by: ByOperator,
    filters: Annotated[Filters, Depends()],
    items: Annotated[list[UUID], Form(max_length=AT_ONCE)],
    reviewer: Annotated[str, Form(max_length=200)] = "",
) -> Response:
    """Give open items to one reviewer alone; to everybody again if none is named."""
    with by.changing("review.assign", "review") as change:
        n = assign(change.session, items, reviewer.strip() or None)
        change.after({"assigned_to": reviewer, "items": [str(one) for one in items], "n": n})
    said = f"{n} assigned to {reviewer}" if reviewer.strip() else f"{n} given back to everybody"
    return see(link_to(request, "review.items", {**filters.query, "changed": said}))


@routes.post("/items/withdraw", name="review.withdraw")
def take_out(
    request: Request,
    by: ByOperator,
    filters: Annotated[Filters, Depends()],
    items: Annotated[list[UUID], Form(max_length=AT_ONCE)],
) -> Response:
    """Take open items out of the queue."""
    with by.changing("review.withdraw", "review") as change:
        n = withdraw(change.session, items)
        change.after({"items": [str(one) for one in items], "n": n})
    return see(link_to(request, "review.items", {**filters.query, "changed": f"{n} withdrawn"}))


def _matching(filters: Filters) -> Select[Any]:
    # An item of an evaluation carries its texts: what the list shows of them is asked for by parts.
    query = select(ReviewItem).options(defer(col(ReviewItem.detail)))  # type: ignore[arg-type]
    for column, value in (
        (ReviewItem.role, filters.role),
        (ReviewItem.kind, filters.kind),
        (ReviewItem.reason, filters.reason),
        (ReviewItem.status, filters.status),
    ):
        if value:
            query = query.where(col(column) == value)
    if filters.assigned == "nobody":
        query = query.where(col(ReviewItem.assigned_to).is_(None))
    elif filters.assigned:
        query = query.where(col(ReviewItem.assigned_to) == reviewer_name(filters.assigned))
    if filters.leased:
        query = query.where(
            and_(col(ReviewItem.status) == OPEN, col(ReviewItem.leased_until) > func.now())
        )
    if filters.labelled_by:
        query = query.where(
            exists().where(
                col(ReviewLabel.item_id) == col(ReviewItem.id),
                col(ReviewLabel.reviewer) == reviewer_name(filters.labelled_by),
                col(ReviewLabel.undone_at).is_(None),
            )
        )
    return query


def _rows(session: Session, found: Sequence[ReviewItem]) -> list[Row]:
    """Return rows with the beginnings of their texts, in four queries however many they are."""
    texts = _texts_of(session, found)
    counted = (
        select(col(ReviewLabel.item_id), func.count())
        .where(
            col(ReviewLabel.item_id).in_([item.id for item in found]),
            col(ReviewLabel.undone_at).is_(None),
            col(ReviewLabel.action) != "skip",
        )
        .group_by(col(ReviewLabel.item_id))
    )
    n_labels = {row[0]: row[1] for row in session.execute(counted)}
    return [Row(item, *texts.get(item.id, ("", "")), n_labels.get(item.id, 0)) for item in found]


def _texts_of(session: Session, found: Sequence[ReviewItem]) -> dict[UUID, tuple[str, str]]:
    """Return the beginnings of what was asked and answered, by item."""
    examples = [one.subject_id for one in found if one.kind == EXAMPLE]
    examples += [one.other_id for one in found if one.kind == LIKENESS and one.other_id]
    pairs = [one.subject_id for one in found if one.kind == PAIR]
    samples = [one.id for one in found if one.kind == SAMPLE]
    asked, answered = _first_asked(col(Example.prompt)), func.left(col(Example.answer), 300)
    of_pair = _first_asked(col(PreferencePair.prompt))
    of_sample = _first_asked(col(ReviewItem.detail)["sample"]["prompt"])
    # Of two answers neither is shown: the list would tell which is the better one, or whose it is.
    queries = (
        (examples, select(col(Example.id), asked, answered), col(Example.id)),
        (pairs, select(col(PreferencePair.id), of_pair, literal("")), col(PreferencePair.id)),
        (samples, select(col(ReviewItem.id), of_sample, literal("")), col(ReviewItem.id)),
    )
    texts: dict[UUID, tuple[str, str]] = {}
    for ids, query, key in queries:
        if ids:
            for identifier, *said in session.execute(query.where(key.in_(ids))):
                texts[identifier] = (shorten(text_of(said[0])), shorten(said[1]))
    return {one.id: texts[_key_of(one)] for one in found if _key_of(one) in texts}


def _first_asked(prompt: Any) -> Any:
    """Return what the first user message of a prompt says, in SQL: the whole may be long."""
    return func.jsonb_path_query_first(
        prompt, cast('$[*] ? (@.role == "user").content', JSONPATH), type_=JSONB
    )


def _key_of(item: ReviewItem) -> UUID:
    if item.kind == SAMPLE:
        return item.id
    return (item.other_id if item.kind == LIKENESS else None) or item.subject_id


routes.include_router(reviewing.routes)
