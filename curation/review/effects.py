"""What labels do: settle an item, bring its example to judgement, prefer an answer, find a repeat.

Every effect is worked out anew from all labels in force, so that a label undone leaves what there
would be if it had never been given.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from sqlalchemy import or_, select, update
from sqlalchemy.orm import load_only
from sqlalchemy.orm.attributes import flag_modified
from sqlmodel import Session, col

from curation.publish.rows import row_hash
from curation.review.leases import DONE, OPEN, WITHDRAWN, likeness_sides
from curation.review.said import ACCEPT, EXAMPLE, LIKENESS, PAIR, SAMPLE, SKIP
from curation.tables import (
    DROPPED,
    KEPT,
    Example,
    PreferencePair,
    ReviewItem,
    ReviewLabel,
    TextEdge,
)

HUMAN: Final = "human"
OUTVOTED: Final = "human_disagrees"
"""Drop reason of a pair whose answers reviewers rank the other way round."""
TAKEN_BACK: Final = "taken_back"
"""Drop reason of a human preference that no label supports any more."""
REVIEW_ITEM: Final = "review_item"
"""Key of the evidence of a preference that came from a comparison."""
OPPOSITE: Final = "opposite"
"""Key of the evidence that holds the `norm_hash` of the same pair the other way round."""
DUPLICATE, DISTINCT = "duplicate", "distinct"


def take_effect(session: Session, item: ReviewItem) -> None:
    """Bring everything that follows from a locked item's labels up to date."""
    said = [one for one in given_to(session, item) if one.action != SKIP]
    if item.status != WITHDRAWN:
        item.status = DONE if len(said) >= item.n_wanted else OPEN
    session.flush()
    _EFFECTS[item.kind](session, item, said)


def given_to(session: Session, item: ReviewItem) -> list[ReviewLabel]:
    """Return the labels in force on an item, oldest first."""
    query = (
        select(ReviewLabel)
        .where(col(ReviewLabel.item_id) == item.id, col(ReviewLabel.undone_at).is_(None))
        .order_by(col(ReviewLabel.created_at), col(ReviewLabel.id))
    )
    return list(session.execute(query).scalars())


def _judge_again(session: Session, item: ReviewItem, said: Sequence[ReviewLabel]) -> None:
    example = session.get(Example, item.subject_id)
    if example is not None:
        _mark(session, [example.interaction_id])


def _mark(session: Session, interaction_ids: Sequence[UUID]) -> None:
    """Have the examples of interactions judged again by the next build, in every variant."""
    query = (
        select(Example)
        .options(load_only(Example.needs_judging))  # type: ignore[arg-type]
        .where(col(Example.interaction_id).in_(interaction_ids))
        .order_by(col(Example.id))  # the order in which a build locks them
        .with_for_update()
    )
    for example in session.execute(query).scalars():
        example.needs_judging = True
    session.flush()


def _settle_pair(session: Session, item: ReviewItem, said: Sequence[ReviewLabel]) -> None:
    """Make the reviewers' majority a human preference; drop the pair if it says the opposite."""
    pair = session.get(PreferencePair, item.subject_id)
    if pair is None:
        return
    votes = Counter(label.value["winner"] for label in said)
    won, lost = votes[str(pair.winner_id)], votes[str(pair.loser_id)]
    winner = None if won == lost else pair.winner_id if won > lost else pair.loser_id
    known = _human_pairs(session, pair)
    for one in (pair, *(human for human in known if not _is_ours(human))):
        _outvote(one, winner not in (None, one.winner_id))
    for human in filter(_is_ours, known):
        is_supported = human.winner_id == winner
        human.status, human.drop_reason = (KEPT, None) if is_supported else (DROPPED, TAKEN_BACK)
    if winner is not None:
        supported = next((human for human in known if human.winner_id == winner), None)
        if supported is None:
            supported = _preferred(pair, winner == pair.loser_id)
            session.add(supported)
        if _is_ours(supported):
            supported.margin = abs(won - lost) / len(said)
            cast = {"won": max(won, lost), "lost": min(won, lost), "tie": votes[None]}
            supported.evidence |= {REVIEW_ITEM: str(item.id), "votes": cast}
            flag_modified(supported, "evidence")
    session.flush()
    _mark(session, [pair.winner_id, pair.loser_id])


def _is_ours(human: PreferencePair) -> bool:
    """Return whether a human preference came from a comparison here, not from feedback."""
    return REVIEW_ITEM in human.evidence


def _outvote(pair: PreferencePair, outvoted: bool) -> None:
    if outvoted and pair.status == KEPT:
        pair.status, pair.drop_reason = DROPPED, OUTVOTED
    elif not outvoted and pair.drop_reason == OUTVOTED:
        pair.status, pair.drop_reason = KEPT, None


def _human_pairs(session: Session, pair: PreferencePair) -> list[PreferencePair]:
    """Return the human preferences between the two interactions of a pair, either way round."""
    one, other = col(PreferencePair.winner_id), col(PreferencePair.loser_id)
    query = select(PreferencePair).where(
        or_(
            (one == pair.winner_id) & (other == pair.loser_id),
            (one == pair.loser_id) & (other == pair.winner_id),
        ),
        col(PreferencePair.basis) == HUMAN,
        col(PreferencePair.variant) == pair.variant,
    )
    return list(session.execute(query).scalars())


def _preferred(pair: PreferencePair, reverse: bool) -> PreferencePair:
    """Return a new human preference between the two answers of a pair."""
    ids, texts = [pair.winner_id, pair.loser_id], [pair.chosen, pair.rejected]
    hashes = [pair.norm_hash, pair.evidence.get(OPPOSITE)]
    if reverse:
        ids.reverse()
        texts.reverse()
        hashes.reverse()
    made = PreferencePair(
        role=pair.role,
        variant=pair.variant,
        basis=HUMAN,
        task_key=pair.task_key,
        project=pair.project,
        task_type=pair.task_type,
        winner_id=ids[0],
        loser_id=ids[1],
        prompt=pair.prompt,
        chosen=texts[0],
        rejected=texts[1],
        evidence={REVIEW_ITEM: "", OPPOSITE: hashes[1]},
        split=pair.split,
        split_key=pair.split_key,
        norm_hash=hashes[0] or "",
    )
    made.row_hash = row_hash(made.model_dump())
    return made


def _settle_likeness(session: Session, item: ReviewItem, said: Sequence[ReviewLabel]) -> None:
    """Call a proposed repeat one if all who looked at it did."""
    edge = session.get(TextEdge, (item.detail["low"], item.detail["high"]), with_for_update=True)
    if edge is None:
        return
    verdict = None
    if said:
        verdict = DUPLICATE if all(one.action == ACCEPT for one in said) else DISTINCT
    if edge.disposed != verdict:
        edge.disposed = verdict
        edge.disposed_by = ", ".join(sorted({one.reviewer for one in said})) or None
        session.execute(
            update(Example)
            .where(col(Example.id).in_(likeness_sides(item)))
            .values(needs_settling=True)
        )
    session.flush()


def _change_nothing(session: Session, item: ReviewItem, said: Sequence[ReviewLabel]) -> None:
    """Leave a compared sample to the evaluation, which reads what was said."""


_EFFECTS: Final = {
    EXAMPLE: _judge_again,
    PAIR: _settle_pair,
    LIKENESS: _settle_likeness,
    SAMPLE: _change_nothing,
}
