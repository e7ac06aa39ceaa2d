"""The examples of a version: those it has and those that fell out, with the reason of every drop.

A page is found by the shards that it stands in, a filter looks at a bounded number of rows at once
and says where it stopped, a draw is the same for its seed: what a page costs does not depend on how
many rows the version has.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse
from sqlalchemy import ColumnElement, String, cast, or_, select
from sqlmodel import Session, col

from admin import texts
from admin.datasets import counts_in
from admin.differences import Diff, side_by_side
from admin.paging import Narrowing
from admin.rendering import Reading, link_to, render, wants_rows
from admin.writing import ByReviewer, see
from collector.tables import Feedback
from curation.export import get_dataset
from curation.members import Member, Place, drawn, members
from curation.reasons import Reason, reason_of
from curation.review.filters import add_examples
from curation.tables import (
    DROPPED,
    PREFERENCE,
    Contamination,
    Dataset,
    Example,
    PreferencePair,
    ProtectedText,
    ReviewItem,
)
from foundation import chat
from foundation.errors import BadInput, NotFound
from foundation.ids import first_id_at

routes = APIRouter(prefix="/datasets")

PAGE: Final = 20
LOOKED_AT: Final = 2_000
"""Rows that a filter looks at for one page."""
READ_AT: Final = 500
"""Rows that a search in their texts looks at, which is dearer."""
DRAWN: Final = 400
"""Rows that a draw with a filter is made of."""
FEEDBACK_SHOWN: Final = 50
SEED_MOST: Final = 10**9
CLOCKS_APART: Final = timedelta(hours=1)
"""Ids tell the time of who made them: what is newer by more than this is not looked at."""


@dataclass(frozen=True)
class Browse(Narrowing):
    """Which examples are looked at; empty means all."""

    show: Literal["kept", "dropped"] = "kept"
    split: Literal["", "train", "validation", "test"] = ""
    reason: str = ""
    task_type: str = ""
    text: str = ""
    """In prompt or answer, in any case."""
    low: str = ""
    """Least score; of pairs, least margin."""
    high: str = ""
    seed: str = ""
    """Of a random sample; empty: in order."""

    @property
    def query(self) -> dict[str, str]:
        """This choice as the query of an address."""
        said = {name: value for name, value in vars(self).items() if value}
        return {name: value for name, value in said.items() if (name, value) != ("show", "kept")}

    @property
    def least(self) -> float | None:
        """`low` as a number; raises BadInput."""
        return _number("low", self.low)

    @property
    def most(self) -> float | None:
        """`high` as a number; raises BadInput."""
        return _number("high", self.high)

    @property
    def chance(self) -> int | None:
        """`seed` as a number; raises BadInput."""
        if not self.seed:
            return None
        if not self.seed.isdecimal() or int(self.seed[:12]) > SEED_MOST:
            expected = f"a whole number up to {SEED_MOST:,}"
            raise BadInput("seed", self.seed, expected, "Leave it out.")
        return int(self.seed)

    @property
    def is_narrowed(self) -> bool:
        """Whether rows must be looked into to know whether they fit."""
        named = (self.task_type, self.text, self.low, self.high)
        return any(named) or (self.show == "kept" and bool(self.reason))

    def with_seed(self, seed: int | None) -> dict[str, str]:
        """Return the query of the same choice drawn by `seed`, or in order."""
        rest = {name: value for name, value in self.query.items() if name != "seed"}
        return rest if seed is None else {**rest, "seed": str(seed)}


@dataclass(frozen=True)
class Shown:
    """One example or pair of the list, in brief."""

    id: UUID
    split: str
    is_dropped: bool
    reason: Reason | None
    task_type: str | None
    score: float | None
    n_tokens: int | None
    is_corrected: bool
    is_repeat: bool
    asked: str
    answer: str
    worse: str | None = None
    """Of a pair: the answer that lost."""
    basis: str | None = None


@dataclass(frozen=True)
class ListPage:
    """A piece of a version's examples, for the page and for htmx."""

    dataset: Dataset
    browse: Browse
    rows: Sequence[Shown]
    older: str
    """Where to go on; empty: these were the last."""
    n_looked_at: int | None
    """Rows that a filter looked at for this piece; None: there was no filter."""
    reasons: Sequence[tuple[Reason, int]]
    """Why examples fell out, with how many."""
    task_types: Sequence[str]
    next_seed: int

    @property
    def older_query(self) -> dict[str, str] | None:
        """The query of the next piece."""
        return {**self.browse.query, "after": self.older} if self.older else None

    @property
    def has_pairs(self) -> bool:
        """Whether its rows are preference pairs."""
        return self.dataset.kind == PREFERENCE


@dataclass(frozen=True)
class Repeat:
    """The kept example that a dropped one repeats, and how the two differ."""

    example: Example
    prompts: Diff
    answers: Diff


@dataclass(frozen=True)
class Blocked:
    """A benchmark's task that a dropped example repeats."""

    source: str
    item_id: str
    method: str
    similarity: float


@dataclass(frozen=True)
class ExamplePage:
    """One example whole: its texts, its scores, why it is where it is, what was said about it."""

    dataset: Dataset
    example: Example
    reason: Reason | None
    prompt: Sequence[texts.ShownMessage]
    answer: texts.Answer
    repeat: Repeat | None
    blocked: Sequence[Blocked]
    feedback: Sequence[Feedback]
    item: ReviewItem | None
    """Its place in the review queue, if it has one."""
    split: str


@dataclass(frozen=True)
class PairPage:
    """One preference pair whole: what was asked, both answers, what they were told apart by."""

    dataset: Dataset
    pair: PreferencePair
    reason: Reason | None
    prompt: Sequence[texts.ShownMessage]
    chosen: texts.Answer
    rejected: texts.Answer
    difference: Diff


@routes.get("/{id}/examples", name="datasets.examples")
def show_list(
    request: Request,
    session: Reading,
    id: UUID,
    browse: Annotated[Browse, Depends()],
    after: str = "",
) -> HTMLResponse:
    """Show examples of a version; htmx asks here for more."""
    page = list_page(session, get_dataset(session, id), browse, after)
    template = "datasets/_examples.html" if wants_rows(request) else "datasets/examples.html"
    return render(request, template, page)


@routes.get("/{id}/examples/{example_id}", name="datasets.example")
def show_example(request: Request, session: Reading, id: UUID, example_id: UUID) -> HTMLResponse:
    """Show one example or pair whole, as a page or inside the list."""
    dataset = get_dataset(session, id)
    part = "_" if wants_rows(request) else ""
    if dataset.kind == PREFERENCE:
        return render(request, f"datasets/{part}pair.html", pair_page(session, dataset, example_id))
    return render(
        request, f"datasets/{part}example.html", example_page(session, dataset, example_id)
    )


@routes.post("/{id}/examples/{example_id}/review", name="datasets.review")
def add_to_review(request: Request, by: ByReviewer, id: UUID, example_id: UUID) -> Response:
    """Put an example before all others in the review queue."""
    with by.changing("review.add", "examples", example_id) as change:
        example = _example(change.session, example_id)
        n = add_examples(change.session, example.role, [example_id])
        change.after({"added": n, "dataset": str(id)})
    return see(
        link_to(request, "datasets.example", id=id, example_id=example_id),
        "It comes first in the review queue.",
    )


def list_page(session: Session, dataset: Dataset, browse: Browse, after: str) -> ListPage:
    """Return a piece of a version's examples.

    Raises:
        BadInput: a number of the filter is none, or `after` is no place of this list.
    """
    found, older, n_looked_at = _found(session, dataset, browse, after)
    reasons = sorted(counts_in(dataset.card, "dropped_by_reason").items(), key=lambda r: -r[1])
    return ListPage(
        dataset,
        browse,
        brief(session, dataset, found),
        older,
        n_looked_at,
        [(reason_of(name), n) for name, n in reasons],
        list(counts_in(dataset.card, "task_types"))[:50],
        (browse.chance or 0) + 1,
    )


def example_page(session: Session, dataset: Dataset, example_id: UUID) -> ExamplePage:
    """Return the page of one example; raises NotFound."""
    example = _example(session, example_id)
    original = session.get(Example, example.duplicate_of) if example.duplicate_of else None
    about = col(Feedback.interaction_id) == example.interaction_id
    if example.episode_id is not None:
        about = or_(about, col(Feedback.episode_id) == example.episode_id)
    feedback = session.scalars(
        select(Feedback).where(about).order_by(col(Feedback.id).desc()).limit(FEEDBACK_SHOWN)
    ).all()
    blocked = session.execute(
        select(
            col(ProtectedText.source),
            col(ProtectedText.item_id),
            col(Contamination.method),
            col(Contamination.similarity),
        )
        .join(ProtectedText, col(ProtectedText.id) == col(Contamination.protected_id))
        .where(col(Contamination.example_id) == example.id)
        .limit(PAGE)
    ).all()
    item = session.scalars(
        select(ReviewItem)
        .where(col(ReviewItem.subject_id) == example.id, col(ReviewItem.kind) == "example")
        .limit(1)
    ).first()
    return ExamplePage(
        dataset,
        example,
        reason_of(example.drop_reason) if example.status == DROPPED else None,
        texts.conversation(example.prompt),
        texts.answer(example.answer, example.answer_message, example.code_language),
        _repeat(example, original),
        [Blocked(*row) for row in blocked],
        feedback,
        item,
        example.split,
    )


def pair_page(session: Session, dataset: Dataset, pair_id: UUID) -> PairPage:
    """Return the page of one preference pair; raises NotFound."""
    pair = session.get(PreferencePair, pair_id)
    if pair is None:
        raise NotFound("pair", str(pair_id), "the id of a preference pair", "It may be erased.")
    return PairPage(
        dataset,
        pair,
        reason_of(pair.drop_reason) if pair.status == DROPPED else None,
        texts.conversation(pair.prompt),
        texts.answer(pair.chosen),
        texts.answer(pair.rejected),
        side_by_side(pair.rejected, pair.chosen),
    )


def _repeat(example: Example, original: Example | None) -> Repeat | None:
    if original is None:
        return None
    asked, before = chat.joined(example.prompt), chat.joined(original.prompt)
    return Repeat(
        original, side_by_side(before, asked), side_by_side(original.answer, example.answer)
    )


def _example(session: Session, identifier: UUID) -> Example:
    example = session.get(Example, identifier)
    if example is None:
        raise NotFound(
            "example", str(identifier), "the id of an example", "It may have been erased since."
        )
    return example


def _found(
    session: Session, dataset: Dataset, browse: Browse, after: str
) -> tuple[list[Member], str, int | None]:
    """Return the rows of a piece, where to go on, and how many were looked at for a filter."""
    if browse.show == "dropped":
        return _dropped(session, dataset, browse, after)
    n = _n_at_once(browse)
    if browse.chance is not None:
        n = min(n, DRAWN)
        some = drawn(session, dataset.id, n, browse.chance, browse.split)
        fitting = _fitting(session, dataset, browse, some)
        return fitting[:PAGE], "", len(some) if browse.is_narrowed else None
    place = Place.parse(after) if after else None
    some, older = members(session, dataset.id, n, browse.split, place)
    fitting = _fitting(session, dataset, browse, some)
    if len(fitting) > PAGE:
        # The page is full before all that was looked at is shown: find the place of its last row.
        upto = some.index(fitting[PAGE - 1]) + 1
        _, older = members(session, dataset.id, upto, browse.split, place)
        some = some[:upto]
    return fitting[:PAGE], str(older or ""), len(some) if browse.is_narrowed else None


def _n_at_once(browse: Browse) -> int:
    if not browse.is_narrowed:
        return PAGE
    return READ_AT if browse.text else LOOKED_AT


def _dropped(
    session: Session, dataset: Dataset, browse: Browse, after: str
) -> tuple[list[Member], str, int | None]:
    """Return examples of the role that fell out up to when the version was made, newest first."""
    table: Any = PreferencePair if dataset.kind == PREFERENCE else Example
    n = _n_at_once(browse)
    query = select(table.id, table.split).where(
        table.role == dataset.role,
        table.variant == dataset.variant,
        table.status == DROPPED,
        table.created_at <= dataset.created_at,
        table.id < (_uuid(after) if after else first_id_at(dataset.created_at + CLOCKS_APART)),
    )
    if browse.reason:
        query = query.where(table.drop_reason == browse.reason)
    if browse.split:
        query = query.where(table.split == browse.split)
    rows = session.execute(query.order_by(table.id.desc()).limit(n + 1)).all()
    some = [Member(*row) for row in rows[:n]]
    fitting = _fitting(session, dataset, browse, some)
    older = str(some[-1].row_id) if len(rows) > n else ""
    if len(fitting) > PAGE:
        some = some[: some.index(fitting[PAGE - 1]) + 1]
        older = str(some[-1].row_id)
    return fitting[:PAGE], older, len(some) if browse.is_narrowed else None


def _fitting(
    session: Session, dataset: Dataset, browse: Browse, some: Sequence[Member]
) -> list[Member]:
    """Return those of some rows that fit the filter, in their order; texts are not fetched."""
    if not browse.is_narrowed or not some:
        return list(some)
    table: Any = PreferencePair if dataset.kind == PREFERENCE else Example
    query = select(table.id).where(table.id.in_([member.row_id for member in some]))
    fits = set(session.scalars(query.where(*_conditions(table, browse))))
    return [member for member in some if member.row_id in fits]


def _conditions(table: Any, browse: Browse) -> Iterator[ColumnElement[bool]]:
    is_pair = table is PreferencePair
    score = table.margin if is_pair else table.score
    if browse.task_type:
        yield table.task_type == (None if browse.task_type == "untyped" else browse.task_type)
    if browse.reason:
        yield table.drop_reason == browse.reason
    if browse.least is not None:
        yield score >= browse.least
    if browse.most is not None:
        yield score <= browse.most
    if browse.text:
        answers = (table.chosen, table.rejected) if is_pair else (table.answer,)
        in_prompt = _as_in_json(browse.text)
        yield or_(
            cast(table.prompt, String).icontains(in_prompt, autoescape=True),
            *(answer.icontains(browse.text, autoescape=True) for answer in answers),
        )


def _as_in_json(text: str) -> str:
    r"""Return a text as it stands inside JSON: a quote as `\"`."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def brief(session: Session, dataset: Dataset, found: Sequence[Member]) -> list[Shown]:
    """Return what the list shows of some rows, in their order; those erased since are not."""
    ids = [member.row_id for member in found]
    if not ids:
        return []
    if dataset.kind == PREFERENCE:
        pairs = session.scalars(select(PreferencePair).where(col(PreferencePair.id).in_(ids))).all()
        made: Mapping[UUID, Any] = {pair.id: pair for pair in pairs}
        return [_of_pair(made[m.row_id], m.split) for m in found if m.row_id in made]
    examples = session.scalars(select(Example).where(col(Example.id).in_(ids))).all()
    made = {example.id: example for example in examples}
    return [_of_example(made[m.row_id], m.split) for m in found if m.row_id in made]


def _of_example(example: Example, split: str) -> Shown:
    dropped = example.status == DROPPED
    return Shown(
        example.id,
        split,
        dropped,
        reason_of(example.drop_reason) if dropped else None,
        example.task_type,
        example.score,
        example.n_tokens,
        example.corrected,
        example.duplicate_of is not None,
        _asked(example.prompt),
        example.answer[:CHARACTERS] or _called(example.answer_message),
    )


def _of_pair(pair: PreferencePair, split: str) -> Shown:
    dropped = pair.status == DROPPED
    return Shown(
        pair.id,
        split,
        dropped,
        reason_of(pair.drop_reason) if dropped else None,
        pair.task_type,
        pair.margin,
        None,
        False,
        False,
        _asked(pair.prompt),
        pair.chosen[:CHARACTERS],
        pair.rejected[:CHARACTERS],
        pair.basis,
    )


CHARACTERS: Final = 600
"""Of a text in the list: its beginning."""


def _asked(prompt: Sequence[chat.Message]) -> str:
    """Return how the last thing that was asked begins."""
    asked = [message for message in prompt if message.get("role") == "user"]
    return chat.joined(asked[-1:])[:CHARACTERS]


def _called(message: chat.Message | None) -> str:
    """Return what an answer without words called."""
    calls = (message or {}).get("tool_calls")
    calls = calls if isinstance(calls, list) else []
    made = [one.get("function") for one in calls if isinstance(one, dict)]
    names = [str(one.get("name")) for one in made if isinstance(one, dict)]
    return f"calls {', '.join(names)}"[:CHARACTERS] if names else ""


def _number(name: str, said: str) -> float | None:
    if not said.strip():
        return None
    try:
        found = float(said)
    except ValueError:
        found = float("nan")
    if found != found:
        raise BadInput(name, said, "a number, such as 0.5", "Correct it, or leave it out.")
    return found


def _uuid(said: str) -> UUID:
    try:
        return UUID(said)
    except ValueError:
        expected = "where a page of this list ended"
        raise BadInput("after", said, expected, "Begin without it.") from None
