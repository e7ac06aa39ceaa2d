"""What a reviewer is shown of an item: the task, the answer or answers, and the evidence on them.

Who judges second sees what the first one saw: no label, no score that a label may have moved, and
the answer as it was. Of a pair or sample nobody sees which answer is the better one, or whose it
is; half of the reviewers see them the other way round.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlmodel import Session

from curation.review.labels import example_of, pair_of, shown_answer
from curation.review.leases import draft_of, get_item, likeness_sides
from curation.review.said import ACTIONS, EXAMPLE, PAIR, SAMPLE, SKIP, is_swapped
from curation.review.samples import sample_of
from curation.review.words import reviewer_name
from curation.tables import Example, ReviewItem
from foundation.chat import Message

_SIGNALS: Final = ("outcome", "outcome_source", "rating", "n_feedback", "contradicted")


@dataclass(frozen=True)
class Side:
    """One answer to be looked at, with what was asked."""

    prompt: Sequence[Message]
    answer: str
    message: Message | None = None
    """The whole answer where its text alone would leave out tool calls."""


@dataclass(frozen=True)
class Card:
    """An item as one reviewer sees it."""

    item_id: UUID
    kind: str
    role: str
    reason: str
    actions: tuple[str, ...]
    sides: tuple[Side, ...]
    """One of an example; two of a pair or sample (in this reviewer's order) or a likeness."""
    project: str
    task_type: str | None
    difficulty: str | None
    language: str | None
    code_language: str | None
    signals: Mapping[str, Any]
    """What is known of an example's answer: its score and its parts; empty where two judge it."""
    draft: Mapping[str, Any] | None
    leased_until: datetime | None
    similarity: float | None = None
    """Of a likeness, the cosine."""

    def as_json(self) -> dict[str, Any]:
        """Return the card as plain values that JSON knows, but for ids and times."""
        return asdict(self)


def card_of(session: Session, item_id: UUID, reviewer: str) -> Card:
    """Return an item as this reviewer sees it.

    Raises:
        NotFound: there is no such item, or what it is about was erased.
    """
    item, name = get_item(session, item_id), reviewer_name(reviewer)
    if item.kind == PAIR:
        pair = pair_of(session, item)
        return _blind_card(session, item, name, pair, pair.chosen, pair.rejected)
    if item.kind == SAMPLE:
        sample = sample_of(item)
        return _blind_card(session, item, name, sample, sample.first, sample.second)
    if item.kind == EXAMPLE:
        example = example_of(session, item.subject_id)
        signals = _signals(example) if item.n_wanted == 1 else {}
        return _card(session, item, name, example, (_side(session, example),), signals)
    first, second = (example_of(session, side) for side in likeness_sides(item))
    sides = (_side(session, first), _side(session, second))
    return _card(session, item, name, first, sides, {})


def _blind_card(
    session: Session, item: ReviewItem, reviewer: str, about: Any, one: str, other: str
) -> Card:
    """Return the card of two answers to one prompt, in this reviewer's order."""
    sides = [Side(about.prompt, one), Side(about.prompt, other)]
    if is_swapped(item.id, reviewer):
        sides.reverse()
    return _card(session, item, reviewer, about, tuple(sides), {})


def _card(
    session: Session,
    item: ReviewItem,
    reviewer: str,
    about: Any,
    sides: tuple[Side, ...],
    signals: Mapping[str, Any],
) -> Card:
    return Card(
        item_id=item.id,
        kind=item.kind,
        role=item.role,
        reason=item.reason,
        actions=(*ACTIONS[item.kind], SKIP),
        sides=sides,
        project=about.project,
        task_type=about.task_type,
        difficulty=getattr(about, "difficulty", None),
        language=getattr(about, "language", None),
        code_language=getattr(about, "code_language", None),
        signals=signals,
        draft=draft_of(session, item.id, reviewer),
        leased_until=item.leased_until if item.leased_by == reviewer else None,
        similarity=item.detail.get("similarity"),
    )


def _side(session: Session, example: Example) -> Side:
    return Side(example.prompt, shown_answer(session, example), example.answer_message)


def _signals(example: Example) -> dict[str, Any]:
    known = {name: example.scores.get(name) for name in _SIGNALS}
    own = {"score": example.score, "disagreement": example.disagreement, "status": example.status}
    return {**own, "drop_reason": example.drop_reason, **known}
