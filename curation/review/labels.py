"""What reviewers said: labels are kept for good; an undone one stays, marked, without effect.

A label on an example changes the basis of its verdict, so the next build judges it again: with
`statements_of` as trusted human words, and `overrides_of` as what people set.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import or_, select
from sqlmodel import Session, col

from curation.review.effects import REVIEW_ITEM, given_to, take_effect
from curation.review.leases import (
    OPEN,
    get_item,
    held_since,
    hold,
    likeness_sides,
    require_first_word,
    require_free,
)
from curation.review.said import (
    COMPARE,
    EDIT,
    EXAMPLE,
    FIRST,
    PAIR,
    SAMPLE,
    SKIP,
    TIE,
    check,
    is_swapped,
    overrides,
    statements,
)
from curation.review.words import edited, reviewer_name, scrubbed
from curation.score.outcome import Statement
from curation.tables import Example, PreferencePair, ReviewDraft, ReviewItem, ReviewLabel
from foundation.errors import NotFound
from foundation.tables import now


def label(
    session: Session,
    item_id: UUID,
    reviewer: str,
    action: str,
    value: dict[str, Any] | None = None,
    reason: str | None = None,
) -> ReviewLabel:
    """Keep what a reviewer says of an item, scrubbed, and let it take effect.

    Args:
        session: label and effects are one transaction, which the caller commits.
        item_id: the item, leased to this reviewer or to nobody.
        reviewer: who says so; nobody labels an item twice.
        action: `accept`, `reject`, `edit`, `rate`, `relabel`, `compare` or `skip`.
        value: `answer` of an edit; `rating` 1-5, `task_type`, `difficulty`; `choice` of a
            comparison: `first` or `second` as this reviewer sees them, or `tie`.
        reason: needed to reject an example.

    Raises:
        NotFound: there is no such item, or what it is about was erased.
        BadInput: the action does not fit the item, or the value not the action.
        Conflict: the item is settled, somebody else's, or labelled by this reviewer already.
    """
    name = reviewer_name(reviewer)
    item = get_item(session, item_id, lock=True)
    check(item.kind, action, value or {}, reason)
    require_free(item, name)
    require_first_word(session, item, name)
    interaction_id, kept = _kept_value(session, item, name, action, value or {})
    moment, since = now(), held_since(item, name)
    said = ReviewLabel(
        item_id=item.id,
        interaction_id=interaction_id,
        reviewer=name,
        action=action,
        value=kept,
        reason=scrubbed(reason.strip()) if reason and reason.strip() else None,
        seconds=(moment - since).total_seconds() if since else None,
        created_at=moment,
    )
    session.add(said)
    _drop_draft(session, item, name)
    item.leased_by = item.leased_until = None
    session.flush()
    take_effect(session, item)
    return said


def skip(session: Session, item_id: UUID, reviewer: str, reason: str | None = None) -> ReviewLabel:
    """Leave an item to others; this reviewer does not get it again. Raises as `label`."""
    return label(session, item_id, reviewer, SKIP, reason=reason)


def undo(session: Session, reviewer: str, label_id: UUID | None = None) -> ReviewLabel:
    """Take back a reviewer's label: by default the last one that is not undone yet.

    The item waits again, leased to this reviewer unless somebody else holds it by now, and what
    the label did is done back with the next build.

    Raises:
        NotFound: there is nothing (of theirs) to undo.
    """
    name = reviewer_name(reviewer)
    taken_back = _undoable(session, name, label_id)
    item = get_item(session, taken_back.item_id, lock=True)
    session.refresh(taken_back)
    if taken_back.undone_at is not None:
        raise _nothing_to_undo(name)
    taken_back.undone_at = now()
    session.flush()
    take_effect(session, item)
    hold(session, item, name)
    return taken_back


def statements_of(session: Session, interaction_ids: Sequence[UUID]) -> dict[UUID, list[Statement]]:
    """Return what reviewers said of these interactions' answers, as the scorer reads it."""
    found: dict[UUID, list[Statement]] = defaultdict(list)
    for said in _labels_of(session, interaction_ids):
        found[said.interaction_id] += statements(said)
    for interaction_id, compared in _comparisons_of(session, interaction_ids):
        found[interaction_id].append(compared)
    return {interaction_id: said for interaction_id, said in found.items() if said}


def overrides_of(session: Session, interaction_ids: Sequence[UUID]) -> dict[UUID, dict[str, Any]]:
    """Return what people set, by interaction: `task_type`, `difficulty`, `answer`, `original`.

    `original` is the answer that `answer` corrects, for when the payload has expired.
    """
    by_interaction: dict[UUID, list[ReviewLabel]] = defaultdict(list)
    for said in _labels_of(session, interaction_ids):
        by_interaction[said.interaction_id].append(said)
    found = {i: overrides(labels) for i, labels in by_interaction.items()}
    return {i: set_by_people for i, set_by_people in found.items() if set_by_people}


def labels_of(session: Session, item_id: UUID, reader: str) -> list[ReviewLabel]:
    """Return the labels of an item that `reader` may see: while it waits, only their own."""
    item, name = get_item(session, item_id), reviewer_name(reader)
    said = given_to(session, item)
    return said if item.status != OPEN else [one for one in said if one.reviewer == name]


def shown_answer(session: Session, example: Example) -> str:
    """Return the answer as it was before a reviewer edited it: what each of them judges."""
    query = select(ReviewLabel).where(
        col(ReviewLabel.interaction_id) == example.interaction_id,
        col(ReviewLabel.action) == EDIT,
    )
    for edit in session.execute(query).scalars():
        if edit.value["answer"] == example.answer:
            return str(edit.value["original"])
    return example.answer


def example_of(session: Session, example_id: UUID) -> Example:
    """Return the example of an item; raises NotFound if it was erased."""
    example = session.get(Example, example_id)
    if example is None:
        raise NotFound(
            *("example under review", str(example_id), "one that still exists"),
            "It was erased. Go on with the next.",
        )
    return example


def pair_of(session: Session, item: ReviewItem) -> PreferencePair:
    """Return the preference pair of an item; raises NotFound if it was erased."""
    pair = session.get(PreferencePair, item.subject_id)
    if pair is None:
        raise NotFound(
            *("preference pair under review", str(item.subject_id), "one that still exists"),
            "It was erased. Go on with the next.",
        )
    return pair


def _kept_value(
    session: Session, item: ReviewItem, reviewer: str, action: str, value: dict[str, Any]
) -> tuple[UUID, dict[str, Any]]:
    """Return whose answer is judged, and the value as the label keeps it."""
    if item.kind == PAIR:
        pair = pair_of(session, item)
        shown = (pair.winner_id, pair.loser_id)
        return pair.winner_id, _compared(shown, item, reviewer, value) if action == COMPARE else {}
    if item.kind == SAMPLE:
        shown = (item.subject_id, UUID(str(item.other_id)))
        return item.subject_id, _compared(shown, item, reviewer, value) if action == COMPARE else {}
    first = item.subject_id if item.kind == EXAMPLE else likeness_sides(item)[0]
    example = example_of(session, first)
    kept = scrubbed({name: given for name, given in value.items() if name != "answer"})
    if action == EDIT:
        original = shown_answer(session, example)
        kept |= edited(original, value["answer"], [example.prompt, original])
    return example.interaction_id, kept


def _compared(
    ids: tuple[UUID, UUID], item: ReviewItem, reviewer: str, value: dict[str, Any]
) -> dict[str, Any]:
    """Return which answer won, whatever order the reviewer saw the two in."""
    shown = [str(one) for one in ids]
    if is_swapped(item.id, reviewer):
        shown.reverse()
    if value["choice"] == TIE:
        return {"winner": None, "loser": None}
    winner, loser = shown if value["choice"] == FIRST else reversed(shown)
    return {"winner": winner, "loser": loser}


def _drop_draft(session: Session, item: ReviewItem, reviewer: str) -> None:
    draft = session.get(ReviewDraft, (item.id, reviewer))
    if draft is not None:
        session.delete(draft)


def _undoable(session: Session, reviewer: str, label_id: UUID | None) -> ReviewLabel:
    query = (
        select(ReviewLabel)
        .where(col(ReviewLabel.reviewer) == reviewer, col(ReviewLabel.undone_at).is_(None))
        .order_by(col(ReviewLabel.created_at).desc(), col(ReviewLabel.id).desc())
        .limit(1)
    )
    if label_id is not None:
        query = query.where(col(ReviewLabel.id) == label_id)
    found: ReviewLabel | None = session.execute(query).scalar_one_or_none()
    if found is None:
        raise _nothing_to_undo(reviewer)
    return found


def _nothing_to_undo(reviewer: str) -> NotFound:
    return NotFound("label to undo, of", reviewer, "one that is not undone", "Nothing was changed.")


def _labels_of(session: Session, interaction_ids: Sequence[UUID]) -> list[ReviewLabel]:
    """Return the labels in force on the examples of these interactions, oldest first."""
    query = (
        select(ReviewLabel)
        .join(ReviewItem, col(ReviewItem.id) == col(ReviewLabel.item_id))
        .where(
            col(ReviewLabel.interaction_id).in_(interaction_ids),
            col(ReviewLabel.undone_at).is_(None),
            col(ReviewItem.kind) == EXAMPLE,
        )
        .order_by(col(ReviewLabel.created_at), col(ReviewLabel.id))
    )
    return list(session.execute(query).scalars())


def _comparisons_of(
    session: Session, interaction_ids: Sequence[UUID]
) -> list[tuple[UUID, Statement]]:
    """Return what reviewers' comparisons say of each of the interactions that were compared."""
    wanted = set(interaction_ids)
    query = select(PreferencePair).where(
        col(PreferencePair.basis) == "human",
        col(PreferencePair.status) == "kept",
        or_(
            col(PreferencePair.winner_id).in_(wanted),
            col(PreferencePair.loser_id).in_(wanted),
        ),
    )
    return [
        (interaction_id, _preference(pair, value))
        for pair in session.execute(query).scalars()
        if REVIEW_ITEM in pair.evidence
        for interaction_id, value in ((pair.winner_id, 1.0), (pair.loser_id, 0.0))
        if interaction_id in wanted
    ]


def _preference(pair: PreferencePair, value: float) -> Statement:
    return Statement(
        kind="preference",
        value=value,
        text=None,
        source="human",
        actor="reviewers",
        name=str(pair.evidence[REVIEW_ITEM]),
        direct=True,
        said_at=pair.created_at,
    )
