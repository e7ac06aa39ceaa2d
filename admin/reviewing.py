"""One card of the review queue at a time: what is to be judged, and what is said of it.

Whoever says something gets the next card in the same answer: label and next lease are one
transaction. Where somebody else was faster, what was typed comes back to be copied.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy import select, text
from sqlmodel import Session, col

from admin.differences import Diff, side_by_side
from admin.paging import Count, Narrowing
from admin.rendering import Reading, link_to, render, wants_rows
from admin.texts import Answer, ShownMessage, answer, conversation
from admin.writing import ByReviewer, Change, person_of, see
from curation.review import labels, leases
from curation.review.cards import Card, Side, card_of
from curation.review.effects import given_to
from curation.review.said import (
    ACCEPT,
    COMPARE,
    DIFFICULTIES,
    EDIT,
    EXAMPLE,
    LIKENESS,
    PAIR,
    RATE,
    REJECT,
    RELABEL,
    SAMPLE,
    SKIP,
)
from curation.review.words import reviewer_name
from curation.review.workload import LONGEST_S
from curation.tables import KEPT, Example, ReviewItem, ReviewLabel
from foundation.database import session_scope
from foundation.errors import BadInput, Conflict, NotFound
from foundation.settings import get_settings

routes = APIRouter()
"""Part of those of `admin.review`."""

LEFT_AT_MOST: Final = 1_000
"""Items that are counted as left; where more wait, nobody needs their number."""
BESIDES_AT_MOST: Final = 100
_DIFF_CHARACTERS: Final = 60_000
_TASK_TYPES: Final = 60
"""Newest kept examples of a role whose task types are offered."""

QUICK_REASONS: Final = (
    "It is wrong.",
    "It does not do what was asked.",
    "It is incomplete or cut off.",
    "It makes things up.",
    "It is unsafe.",
    "It is badly written.",
    "It is in the wrong language or form.",
    "It says far too much.",
    "It teaches nothing.",
)
WHY: Final = {
    "random": "Drawn by hash: with the others drawn it tells how good the whole dataset is.",
    "uncertainty": "The scores are least sure whether this one is good.",
    "disagreement": "Tests, people, the judge and other signals contradict each other on it.",
    "diversity": "It is least like anything that was looked at so far.",
    "filter": "Somebody asked for it by hand.",
    "semantic": "The two may say the same in other words.",
}
"""Why an item is in the queue, by its reason."""
QUESTIONS: Final = {
    EXAMPLE: "Is this answer good?",
    PAIR: "Which answer is better?",
    SAMPLE: "Which answer is better?",
    LIKENESS: "Do these two say the same?",
}
SAID: Final = {
    ACCEPT: "Accepted",
    REJECT: "Rejected",
    EDIT: "Edited",
    RATE: "Rated",
    RELABEL: "Relabelled",
    COMPARE: "Compared",
    SKIP: "Skipped",
    "undo": "Undone",
    "leave": "Left for later",
}
"""What the line above the next card says of the last one."""
_SAID_OF_LIKENESS: Final = {ACCEPT: "Called the same", REJECT: "Called different"}


@dataclass(frozen=True)
class Scope(Narrowing):
    """Which part of the queue somebody works through; empty means all of it."""

    role: str = ""
    kind: str = ""


class Said(BaseModel):
    """What a card's form sends: which button, and what stands in its fields."""

    action: str = ""
    rate: str = ""
    choice: str = ""
    quick: str = ""
    answer: str = ""
    reason: str = Field("", max_length=10_000)
    task_type: str = ""
    difficulty: str = ""
    shown_task_type: str = ""
    shown_difficulty: str = ""
    """As they were when the card was shown; what is not changed is not said."""

    @property
    def verb(self) -> str:
        """The action meant: some buttons say more than its name."""
        if self.rate:
            return RATE
        if self.choice:
            return COMPARE
        return REJECT if self.quick else self.action

    @property
    def why(self) -> str | None:
        """The reason of a rejection or of leaving it to others."""
        return (self.quick or self.reason.strip() or None) if self.verb in (REJECT, SKIP) else None

    def value(self) -> dict[str, Any]:
        """Return what goes with the action, as `curation.review.labels.label` takes it."""
        if self.verb == COMPARE:
            return {"choice": self.choice}
        if self.verb == SKIP:
            return {}
        found: dict[str, Any] = {}
        if self.verb == EDIT:
            found["answer"] = as_typed(self.answer)
        if self.verb == RATE:
            found["rating"] = int(self.rate) if self.rate.isdecimal() else self.rate
        if self.task_type.strip() not in ("", self.shown_task_type):
            found["task_type"] = self.task_type.strip()
        if self.difficulty not in ("", self.shown_difficulty):
            found["difficulty"] = self.difficulty
        return found

    def typed(self) -> dict[str, str]:
        """Return the fields that hold something, as a draft keeps them."""
        found = {
            "answer": as_typed(self.answer),
            "reason": self.reason.strip(),
            "task_type": self.task_type.strip(),
            "difficulty": self.difficulty,
        }
        shown = {"task_type": self.shown_task_type, "difficulty": self.shown_difficulty}
        return {name: said for name, said in found.items() if said and said != shown.get(name)}


@dataclass(frozen=True)
class ShownSide:
    """One answer of a card, with what was asked where the two sides differ in it."""

    title: str
    answer: Answer
    asked: Sequence[ShownMessage] = ()


@dataclass(frozen=True)
class Progress:
    """How much is left of what somebody works through, and how it goes today (UTC)."""

    left: Count
    today: int
    per_hour: float | None
    median_s: float | None


@dataclass(frozen=True)
class Notice:
    """A word above a card on what became of the last one."""

    text: str
    tone: str = "calm"
    typed: str = ""
    """What was typed for nothing, to be copied."""
    is_undoable: bool = False


@dataclass(frozen=True)
class Shown:
    """A card, ready for its template."""

    card: Card
    question: str
    why: str
    n_wanted: int
    status: str
    asked: Sequence[ShownMessage]
    sides: Sequence[ShownSide]
    original: str
    """The answer that may be edited; empty where there is none."""
    difference: Diff | None
    fields: Mapping[str, str]
    """What stands in the fields: of the draft, or as the last try left them."""
    mine: ReviewLabel | None
    """This reviewer's label in force, or the one they have just taken back."""
    is_mine_undone: bool
    holder: str | None
    """Who holds it or has it assigned, if that is somebody else."""
    task_types: Sequence[str]

    @property
    def can_say(self) -> bool:
        """Whether this reviewer may still say something of it."""
        is_labelled = self.mine is not None and not self.is_mine_undone
        return self.status == leases.OPEN and not is_labelled and self.holder is None

    @property
    def has_draft(self) -> bool:
        """Whether what stands in the fields was typed earlier."""
        return bool(self.card.draft)


@dataclass(frozen=True)
class CardPage:
    """A card with what stands around it; without one when nothing waits."""

    scope: Scope
    progress: Progress
    shown: Shown | None = None
    notice: Notice | None = None
    problem: str = ""
    """Why what was sent was not taken; the card is still the same."""
    address: str = ""
    quick_reasons: Sequence[str] = field(default=QUICK_REASONS)
    difficulties: Sequence[str] = field(default=DIFFICULTIES)


Scoped = Annotated[Scope, Depends()]


@routes.get("/items/{id}", name="review.item")
def show_item(
    request: Request, session: Reading, id: UUID, scope: Scoped, said: str = ""
) -> HTMLResponse:
    """Show one card; looking at it takes no lease."""
    name = person_of(request).name
    notice = Notice(f"{SAID[said]}.", is_undoable=said != "leave") if said in SAID else None
    page = CardPage(
        scope,
        progress_of(session, name, scope),
        shown_card(session, id, name),
        notice,
        address=_address(request, id, scope),
    )
    return _answer(request, page)


@routes.get("/next", name="review.waiting")
def show_way_in(request: Request, scope: Scoped) -> Response:
    """Lead to the queue, where a button takes the next card: looking takes no lease."""
    return see(link_to(request, "review", scope.query))


@routes.post("/next", name="review.next")
def take_next(
    request: Request,
    by: ByReviewer,
    scope: Scoped,
    leave: Annotated[UUID | None, Form()] = None,
    besides: Annotated[list[UUID], Form(max_length=BESIDES_AT_MOST)] = [],  # noqa: B006
) -> Response:
    """Lease the next card, giving back the one on the screen if asked."""
    with by.changing("review.lease", "review", leave or "") as change:
        if leave is not None:
            leases.release(change.session, leave, by.name)
        unwanted = [*besides, *([leave] if leave else [])]
        page = _next(request, change, by.name, scope, unwanted)
        notice = Notice("Left for later.") if leave else None
        change.after({"leased": str(page.shown.card.item_id) if page.shown else None})
    return _go_on(request, page, notice, "leave" if leave else "")


@routes.post("/items/{id}/label", name="review.label")
def say(
    request: Request, by: ByReviewer, id: UUID, scope: Scoped, said: Annotated[Said, Form()]
) -> Response:
    """Take a verdict, and answer with the next card."""
    try:
        with by.changing(f"review.{said.verb or 'label'}", "review", id) as change:
            label = labels.label(change.session, id, by.name, said.verb, said.value(), said.why)
            change.after(_noted(label))
            kind = change.session.get_one(ReviewItem, id).kind
            page = _next(request, change, by.name, scope)
        words = _SAID_OF_LIKENESS if kind == LIKENESS else {}
        done = words.get(said.verb, SAID[said.verb])
        return _go_on(request, page, Notice(f"{done}.", is_undoable=True), said.verb)
    except (Conflict, NotFound) as error:
        return _overtaken(request, by, id, scope, said, error)
    except BadInput as error:
        return _try_again(request, by, id, scope, said, error)


@routes.post("/undo", name="review.undo")
def take_back(
    request: Request, by: ByReviewer, scope: Scoped, label: Annotated[UUID | None, Form()] = None
) -> Response:
    """Take a label back, by default the last one, and show its card again."""
    with by.changing("review.undo", "review") as change:
        undone = labels.undo(change.session, by.name, label)
        change.about("review", undone.item_id)
        change.before(_noted(undone))
        page = CardPage(
            scope,
            progress_of(change.session, by.name, scope),
            shown_card(change.session, undone.item_id, by.name, undone=undone),
            address=_address(request, undone.item_id, scope),
        )
    return _go_on(request, page, Notice("Undone: the card waits for you again."), "undo")


@routes.post("/items/{id}/draft", name="review.draft")
def keep_draft(
    request: Request, by: ByReviewer, id: UUID, said: Annotated[Said, Form()]
) -> JSONResponse:
    """Keep what was typed so far, and the lease with it."""
    with by.changing("review.draft", "review", id) as change:
        leases.save_draft(change.session, id, by.name, _changed(change.session, id, said))
        item = leases.get_item(change.session, id)
        until = item.leased_until
    return JSONResponse({"leased_until": until.isoformat() if until else None})


@routes.post("/items/{id}/diff", name="review.diff")
def compare_edit(
    request: Request, by: ByReviewer, session: Reading, id: UUID, said: Annotated[Said, Form()]
) -> HTMLResponse:
    """Answer with the difference of an edited answer from the original; keeps nothing."""
    original = card_of(session, id, by.name).sides[0].answer
    return render(request, "review/_diff.html", side_by_side(original, as_typed(said.answer)))


def as_typed(text: str) -> str:
    r"""Return what a text area sends as it was typed: forms send each line end as `\r\n`."""
    return text.replace("\r\n", "\n")


def shown_card(
    session: Session,
    item_id: UUID,
    name: str,
    *,
    undone: ReviewLabel | None = None,
    typed: Mapping[str, str] | None = None,
    is_new: bool = False,
) -> Shown:
    """Return an item as `name` sees it.

    Args:
        session: to read by.
        item_id: the item.
        name: of the reviewer.
        undone: the label that they have just taken back; its words stand in the fields again.
        typed: what stands in the fields; None: the draft, or what the undone label said.
        is_new: whether it was just leased, so that there is no label of theirs to look for.

    Raises:
        NotFound: there is no such item, or what it is about was erased.
    """
    card = card_of(session, item_id, name)
    item = session.get_one(ReviewItem, item_id)
    reviewer = reviewer_name(name)
    mine = undone if undone or is_new else _label_of(session, item, reviewer)
    if typed is None:
        typed = {**_words_of(undone), **_texts(card.draft or {})}
    is_alike = card.kind == LIKENESS
    return Shown(
        card=card,
        question=QUESTIONS[card.kind],
        why=WHY.get(card.reason, card.reason),
        n_wanted=item.n_wanted,
        status=item.status,
        asked=() if is_alike else conversation(card.sides[0].prompt),
        sides=[_shown_side(card, side, n) for n, side in enumerate(card.sides)],
        original=card.sides[0].answer if card.kind == EXAMPLE else "",
        difference=_difference(card),
        fields=typed,
        mine=mine,
        is_mine_undone=undone is not None,
        holder=_holder(item, reviewer),
        task_types=_task_types(session, card.role) if card.kind == EXAMPLE else (),
    )


def progress_of(session: Session, name: str, scope: Scope) -> Progress:
    """Return what is left for a reviewer, and what they did since midnight (UTC)."""
    reviewer = reviewer_name(name)
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    asked = {
        "reviewer": reviewer,
        "roles": [scope.role] if scope.role else get_settings().roles,
        "kind": scope.kind or None,
        "at_most": LEFT_AT_MOST,
    }
    n = int(session.execute(_LEFT, asked).scalar_one())
    left = Count(n) if n <= LEFT_AT_MOST else Count(LEFT_AT_MOST, "at least")
    said = {"reviewer": reviewer, "since": midnight, "longest": LONGEST_S}
    today, timed, seconds, median_s = session.execute(_TODAY, said).one()
    return Progress(left, today, 3600 * timed / seconds if seconds else None, median_s)


def _next(
    request: Request, change: Change, name: str, scope: Scope, besides: Sequence[UUID] = ()
) -> CardPage:
    """Lease the next card; the page has none where nothing waits."""
    item = leases.next_item(
        change.session, name, scope.role or None, kind=scope.kind or None, besides=besides
    )
    shown = None if item is None else shown_card(change.session, item.id, name, is_new=True)
    address = link_to(request, "review", scope.query)
    if item is not None:
        address = _address(request, item.id, scope)
    return CardPage(scope, progress_of(change.session, name, scope), shown, address=address)


def _go_on(request: Request, page: CardPage, notice: Notice | None, said: str) -> Response:
    """Answer with the card, or send a browser without scripts to its page."""
    if wants_rows(request) or page.shown is None or (notice and notice.typed):
        return _answer(request, _with(page, notice))
    return see(link_to(
        request, "review.item", {**page.scope.query, "said": said}, id=page.shown.card.item_id
    ))  # fmt: skip


def _overtaken(
    request: Request, by: ByReviewer, id: UUID, scope: Scope, said: Said, error: BadInput
) -> Response:
    """Answer with the next card, and with what was typed for one that is no longer to be had."""
    with by.changing("review.lease", "review") as change:
        is_twice = _has_said(change.session, id, reviewer_name(by.name), said.verb)
        is_there = not isinstance(error, NotFound)
        typed = _changed(change.session, id, said) if is_there else said.typed()
        page = _next(request, change, by.name, scope)
        change.after({"leased": str(page.shown.card.item_id) if page.shown else None})
    if is_twice:
        words = "You have said so already: it counts once."
        return _go_on(request, page, Notice(words, is_undoable=True), said.verb)
    if not is_there:
        text = "The card before is gone: what it was about was erased. Nothing was kept of it."
    else:
        text = f"Your word on the card before was not taken: it is {error.value}."
    lost = "\n\n".join(typed[name] for name in ("reason", "answer") if name in typed)
    return _go_on(request, page, Notice(text, "warn", lost or " "), "")


def _try_again(
    request: Request, by: ByReviewer, id: UUID, scope: Scope, said: Said, error: BadInput
) -> Response:
    """Show the same card again, with what was typed and with what is missing."""
    with session_scope() as session:
        shown = shown_card(session, id, by.name, typed=said.typed())
        progress = progress_of(session, by.name, scope)
    problem = f"{error.what[:1].upper()}{error.what[1:]}: {error.expected} is needed."
    if said.verb == EDIT and as_typed(said.answer) == shown.original:
        problem = "The answer was not changed. Accept it as it is instead."
    page = CardPage(scope, progress, shown, problem=problem, address=_address(request, id, scope))
    return _answer(request, page, 422)


def _answer(request: Request, page: CardPage, status: int = 200) -> HTMLResponse:
    template = "review/_card.html" if wants_rows(request) else "review/card.html"
    return render(request, template, page, status)


def _with(page: CardPage, notice: Notice | None) -> CardPage:
    return CardPage(page.scope, page.progress, page.shown, notice, address=page.address)


def _address(request: Request, item_id: UUID, scope: Scope) -> str:
    return link_to(request, "review.item", scope.query, id=item_id)


def _shown_side(card: Card, side: Side, place: int) -> ShownSide:
    titles = {EXAMPLE: ("Answer",), LIKENESS: ("One", "Other")}.get(card.kind, ("First", "Second"))
    return ShownSide(
        titles[place],
        answer(side.answer, side.message, card.code_language),
        conversation(side.prompt) if card.kind == LIKENESS else (),
    )


def _difference(card: Card) -> Diff | None:
    if len(card.sides) < 2:
        return None
    one, other = card.sides
    return side_by_side(one.answer, other.answer, characters=_DIFF_CHARACTERS)


def _holder(item: ReviewItem, reviewer: str) -> str | None:
    """Return in whose hands an item is, if not in this reviewer's or nobody's."""
    try:
        if item.status == leases.OPEN:
            leases.require_free(item, reviewer)
    except Conflict:
        return item.assigned_to if item.assigned_to not in (None, reviewer) else item.leased_by
    return None


def _has_said(session: Session, item_id: UUID, reviewer: str, verb: str) -> bool:
    """Say whether the same was just taken of this reviewer: a second press of the same button."""
    label = session.scalars(
        select(ReviewLabel)
        .where(
            col(ReviewLabel.item_id) == item_id,
            col(ReviewLabel.reviewer) == reviewer,
            col(ReviewLabel.undone_at).is_(None),
        )
        .limit(1)
    ).first()
    return label is not None and label.action == verb


def _label_of(session: Session, item: ReviewItem, reviewer: str) -> ReviewLabel | None:
    return next((one for one in given_to(session, item) if one.reviewer == reviewer), None)


def _words_of(label: ReviewLabel | None) -> dict[str, str]:
    if label is None:
        return {}
    said = {name: label.value.get(name) for name in ("answer", "task_type", "difficulty")}
    return _texts({**said, "reason": label.reason})


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: value for name, value in values.items() if isinstance(value, str) and value}


def _changed(session: Session, item_id: UUID, said: Said) -> dict[str, str]:
    """Return what a draft keeps: not an answer that stands as it was."""
    typed = said.typed()
    item = leases.get_item(session, item_id)
    if "answer" in typed and item.kind == EXAMPLE:
        example = labels.example_of(session, item.subject_id)
        if typed["answer"] == as_typed(labels.shown_answer(session, example)):
            del typed["answer"]
    return typed


def _noted(label: ReviewLabel) -> dict[str, Any]:
    """Return what the audit log says of a label: no text, which would outlive an erasure."""
    value = {n: v for n, v in label.value.items() if n not in ("answer", "original", "diff")}
    return {"label": str(label.id), "action": label.action, **value}


def _task_types(session: Session, role: str) -> Sequence[str]:
    newest = (
        select(col(Example.task_type))
        .where(
            col(Example.role) == role,
            col(Example.variant) == "default",
            col(Example.status) == KEPT,
        )
        .order_by(col(Example.id).desc())
        .limit(_TASK_TYPES)
    )
    return sorted({found for found in session.scalars(newest) if found})


_LEFT = text(
    """
    SELECT count(*) FROM (
        SELECT 1 FROM review_item AS item
        WHERE role = ANY(:roles) AND status = 'open'
          AND (CAST(:kind AS text) IS NULL OR kind = :kind)
          AND (assigned_to IS NULL OR assigned_to = :reviewer)
          AND (n_wanted = 1 OR NOT EXISTS (
              SELECT 1 FROM review_label
              WHERE item_id = item.id AND reviewer || '' = :reviewer AND undone_at IS NULL
          ))
        LIMIT :at_most + 1
    ) AS waiting
    """
)

_TODAY = text(
    """
    SELECT count(*), count(*) FILTER (WHERE seconds <= :longest),
        sum(seconds) FILTER (WHERE seconds <= :longest),
        percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) FILTER (WHERE seconds <= :longest)
    FROM review_label
    WHERE reviewer = :reviewer AND created_at >= :since AND undone_at IS NULL AND action <> 'skip'
    """
)
