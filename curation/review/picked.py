"""What is picked of what is new: the uncertain, the contradicted and the unlike; pairs; likenesses.

Looks at the newest of each only, a fixed number, however large the log is.
"""

from math import ceil
from typing import Any, Final
from uuid import UUID, uuid5

from sqlalchemy import BigInteger, bindparam, func, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Session, col

from curation.review.drawn import IN_NEW_SHARDS
from curation.review.draws import ORDER, draw
from curation.review.draws import PAIR as DRAW_OF_PAIR
from curation.review.items import (
    DISAGREEMENT,
    DIVERSITY,
    RANDOM,
    SEMANTIC,
    UNCERTAINTY,
    add_items,
    item_of,
)
from curation.review.leases import OPEN
from curation.review.plan import ReviewPlan
from curation.review.said import EXAMPLE, LIKENESS, PAIR, is_good
from curation.review.sampling import (
    Candidate,
    by_disagreement,
    by_uncertainty,
    chances_of_good,
    farthest_first,
    text_vectors,
    unlike,
)
from curation.tables import KEPT, Dataset, PreferencePair, ReviewItem, ReviewLabel

_LIKENESSES: Final = UUID("2f6d7c0a-98a1-5d13-8f0e-4f6b0a3c51d7")
"""Namespace of the ids of pairs of texts."""
_BORDERLINE: Final = ("low_score", "low_rating", "no_outcome", "too_little_feedback")
"""Drop reasons that a person's word may overturn."""
_MADE_BY_PEOPLE: Final = ("human", "correction")
_JUDGED_AT_MOST: Final = 5000
_KNOWN_AT_MOST: Final = 1000


def pick(session: Session, dataset: Dataset, last: UUID | None, plan: ReviewPlan) -> dict[str, Any]:
    """Add to the queue what is worth a look among what is new; return how many by reason.

    Nothing is added while `plan.max_waiting` picked items wait already.

    Args:
        session: holds the lock of the role's queue.
        dataset: the newest of the role.
        last: the dataset that the queue was last filled from.
        plan: how much of what.
    """
    asked = {"dataset": dataset.id, "last": last}
    n_new = session.execute(_COUNT_NEW, asked).scalar_one()
    room = plan.max_waiting - _n_waiting(session, dataset.role)
    counts: dict[str, Any] = {"new_rows": n_new}
    if n_new and room > 0:
        counts |= _pick_examples(session, dataset.role, plan, n_new, room)
        counts["pairs"] = _add_pairs(session, dataset.role, plan)
        counts["likenesses"] = _add_likenesses(session, dataset.role, plan)
    return counts


def _pick_examples(
    session: Session, role: str, plan: ReviewPlan, n_new: int, room: int
) -> dict[str, Any]:
    """Add each at most once, in this order of reasons, and no two that say nearly the same."""
    pool = _candidates(session, _POOL, **_pool_of(role, plan), reasons=list(_BORDERLINE))
    vectors = text_vectors(pool)
    judged = _judged(session, role)
    chances = chances_of_good(judged, pool, plan.min_labels)
    known = text_vectors(_candidates(session, _KNOWN, role=role, n=_KNOWN_AT_MOST))
    counts: dict[str, Any] = {"verdicts": len(judged), "by_model": chances is not None}
    taken: set[int] = set()
    for reason, share, order in (
        (UNCERTAINTY, plan.uncertainty_share, by_uncertainty(pool, chances, plan.boundary)),
        (DISAGREEMENT, plan.disagreement_share, by_disagreement(pool)),
        (DIVERSITY, plan.diversity_share, farthest_first(vectors, known, 3 * plan.at_most)),
    ):
        wanted = min(ceil(share * n_new), plan.at_most, room - len(taken))
        places = unlike([place for place in order if place not in taken], vectors, wanted)
        taken.update(places)
        counts[reason] = add_items(
            session,
            (
                item_of(
                    *(role, EXAMPLE, pool[place].id, reason),
                    priority=1 - (rank + 0.5) / len(places),
                    double_share=plan.double_share,
                    detail={} if chances is None else {"chance": round(float(chances[place]), 4)},
                )
                for rank, place in enumerate(places)
            ),
        )
    return counts


def _candidates(session: Session, query: Any, **asked: Any) -> list[Candidate]:
    return [Candidate.of(row) for row in session.execute(query, asked)]


def _judged(session: Session, role: str) -> list[Candidate]:
    """Return the newest examples that people gave a verdict on."""
    rows = session.execute(_JUDGED, {"role": role, "n": _JUDGED_AT_MOST}).all()
    labels = select(ReviewLabel).where(col(ReviewLabel.id).in_([row.label_id for row in rows]))
    verdicts = {label.id: is_good(label) for label in session.execute(labels).scalars()}
    judged = (Candidate.of(row, verdicts[row.label_id]) for row in rows)
    return [one for one in judged if one.is_good is not None]


def _add_pairs(session: Session, role: str, plan: ReviewPlan) -> int:
    """Add the drawn share of the newest preference pairs that no person made."""
    query = (
        select(col(PreferencePair.id), col(PreferencePair.basis))
        .where(
            col(PreferencePair.role) == role,
            col(PreferencePair.variant) == plan.variant,
            col(PreferencePair.status) == KEPT,
        )
        .order_by(col(PreferencePair.id).desc())
        .limit(plan.pool)
    )
    drawn = [
        pair.id
        for pair in session.execute(query)
        if pair.basis not in _MADE_BY_PEOPLE and draw(DRAW_OF_PAIR, pair.id) < plan.pair_share
    ]
    return add_items(
        session,
        (
            item_of(role, PAIR, one, RANDOM, draw(ORDER, one), plan.double_share)
            for one in drawn[: plan.at_most]
        ),
    )


def _add_likenesses(session: Session, role: str, plan: ReviewPlan) -> int:
    """Add the proposed repeats among the newest kept examples that nothing has settled."""
    texts = session.execute(_NEWEST_TEXTS, _pool_of(role, plan)).scalars().all()
    edges = session.execute(_PROPOSED, {"ids": list(texts), "n": plan.at_most}).all()
    return add_items(
        session,
        (
            item_of(
                *(role, LIKENESS, uuid5(_LIKENESSES, f"{edge.low}:{edge.high}"), SEMANTIC),
                priority=edge.similarity,
                double_share=plan.double_share,
                other_id=edge.second,
                detail={
                    **{"low": edge.low, "high": edge.high, "first": str(edge.first)},
                    "similarity": edge.similarity,
                },
            )
            for edge in edges
        ),
    )


def _pool_of(role: str, plan: ReviewPlan) -> dict[str, Any]:
    return {"role": role, "variant": plan.variant, "n": plan.pool}


def _n_waiting(session: Session, role: str) -> int:
    waiting = select(func.count()).where(
        col(ReviewItem.role) == role,
        col(ReviewItem.status) == OPEN,
        col(ReviewItem.reason) != RANDOM,
    )
    return int(session.execute(waiting).scalar_one())


_COUNT_NEW = text(
    f"""
    SELECT count(*) FROM {IN_NEW_SHARDS} AND NOT EXISTS (
        SELECT 1 FROM shard_row AS before
        JOIN dataset_shard AS old ON old.shard = before.shard
        WHERE before.row_id = shard_row.row_id AND old.dataset_id = CAST(:last AS uuid)
    )
    """
)

_TEXT = "right(prompt::text, 4000) || ' ' || left(answer, 4000) AS text"
_COLUMNS = f"example.id, score, scores, disagreement, n_tokens, {_TEXT}"

_POOL = text(
    f"""
    SELECT {_COLUMNS} FROM (
        (
            SELECT * FROM example
            WHERE role = :role AND variant = :variant AND status = 'kept'
            ORDER BY id DESC LIMIT :n
        )
        UNION ALL
        SELECT * FROM (
            SELECT * FROM example
            WHERE role = :role AND variant = :variant AND status = 'dropped'
            ORDER BY id DESC LIMIT :n
        ) AS dropped WHERE drop_reason = ANY(:reasons)
    ) AS example
    WHERE answer <> '' AND NOT EXISTS (
        SELECT 1 FROM review_item AS item
        WHERE item.kind = 'example' AND item.subject_id = example.id
    )
    ORDER BY id DESC
    """
)

_JUDGED = text(
    f"""
    SELECT {_COLUMNS}, label_id FROM (
        SELECT label.id AS label_id, item.subject_id FROM review_label AS label
        JOIN review_item AS item ON item.id = label.item_id
        WHERE item.role = :role AND item.kind = 'example' AND label.undone_at IS NULL
        ORDER BY label.created_at DESC LIMIT :n
    ) AS said JOIN example ON example.id = said.subject_id
    """
)

_KNOWN = text(
    f"""
    SELECT {_COLUMNS} FROM (
        SELECT subject_id FROM review_item
        WHERE role = :role AND kind = 'example' ORDER BY created_at DESC LIMIT :n
    ) AS queued JOIN example ON example.id = queued.subject_id
    """
)

_NEWEST_TEXTS = text(
    """
    SELECT text_id FROM (
        SELECT text_id FROM example
        WHERE role = :role AND variant = :variant AND status = 'kept'
        ORDER BY id DESC LIMIT :n
    ) AS newest WHERE text_id IS NOT NULL
    """
)

_PROPOSED = text(
    """
    SELECT edge.low, edge.high, edge.similarity, one.id AS first, other.id AS second
    FROM text_edge AS edge
    CROSS JOIN LATERAL (
        SELECT id FROM example WHERE text_id = edge.low AND status = 'kept' LIMIT 1
    ) AS one
    CROSS JOIN LATERAL (
        SELECT id FROM example WHERE text_id = edge.high AND status = 'kept' LIMIT 1
    ) AS other
    WHERE (edge.low = ANY(:ids) OR edge.high = ANY(:ids))
      AND edge.kind = 'semantic' AND edge.disposed IS NULL
    ORDER BY edge.similarity DESC LIMIT :n
    """
).bindparams(bindparam("ids", type_=ARRAY(BigInteger)))
