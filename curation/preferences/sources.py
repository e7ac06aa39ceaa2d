"""Whose word pairs rest on, and how many of a version may rest on one key's alone.

A pair rests on a key if nothing but what came by that key says that one of its answers is good, or
that the other one is bad: either side alone decides what the pair teaches. What people preferred
rests on who voted, a correction on who wrote it. What reviewers compared, and what was generated
and ranked here, rests on no key.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlmodel import Session

from collector.feedback.sources import KEY, is_heard, source_of, trusted
from curation.choice.sources import REVIEW, SEVERAL, by_name, has_keys, over_source
from curation.preferences.pairs import CORRECTION, HUMAN, OUTCOME, RATING, STRENGTH
from curation.recipe import CurationRecipe
from curation.score.outcome import SOURCE_CAP
from curation.tables import DROPPED, KEPT

_IDS_AT_ONCE: Final = 10_000


def cap_sources(session: Session, role: str, recipe: CurationRecipe) -> None:
    """Leave out what one key has too much of, and take back what an earlier cap left out.

    Of each key the weakest pairs go: by basis, then by margin, equal ones by lot.
    """
    rows = session.execute(_STANDING, _mine(role, recipe)).all()
    most, out = recipe.max_source_share, set[UUID]()
    if most is not None:
        keys = keys_of(session, [row.id for row in rows])
        best_first = sorted(rows, key=lambda row: _place(row, recipe))
        out = over_source([row.id for row in best_first], keys, most)
    for status, reason, wanted in ((DROPPED, SOURCE_CAP, True), (KEPT, None, False)):
        ids = [row.id for row in rows if (row.id in out) == wanted and row.status != status]
        if ids:
            session.execute(_MARK, {"ids": ids, "status": status, "reason": reason})


def keys_of(session: Session, ids: Sequence[UUID]) -> dict[UUID, str]:
    """Return of pairs that rest on one key that key's source; trusted ones left out."""
    spared = trusted(session)
    return {
        pair: source
        for pair, source in _told(session, ids, spared)
        if source.startswith(KEY) and source not in spared
    }


def pairs_by_source(session: Session, ids: Sequence[UUID]) -> dict[str, int]:
    """Return how many pairs rest on each key, by its name, and on whom else, most first.

    Empty where no key was ever made.
    """
    return by_name(session, (source for _, source in _told(session, ids, set())), len(ids))


def _told(session: Session, ids: Sequence[UUID], spared: set[str]) -> Iterator[tuple[UUID, str]]:
    """Yield pairs with the source that they rest on: a key's before others, a spared one's last."""
    if not has_keys(session):
        return
    for start in range(0, len(ids), _IDS_AT_ONCE):
        sides: dict[UUID, list[str]] = {}
        given = {"ids": list(ids[start : start + _IDS_AT_ONCE]), "decided": [OUTCOME, RATING]}
        for row in session.execute(_TOLD, given):
            sides.setdefault(row.id, []).append(row.source)
        for pair, sources in sides.items():
            yield pair, min(sources, key=lambda one: (one in spared, not one.startswith(KEY)))


def _place(row: Any, recipe: CurationRecipe) -> tuple[int, float, bytes]:
    lot = hashlib.sha256(f"{recipe.seed}:{row.id}".encode()).digest()
    return -STRENGTH[row.basis], -row.margin, lot


def _mine(role: str, recipe: CurationRecipe) -> Mapping[str, str]:
    return {"role": role, "variant": recipe.variant, "kept": KEPT, "capped": SOURCE_CAP}


_STANDING = text(
    """
    SELECT id, basis, margin, status FROM preference_pair
    WHERE role = :role AND variant = :variant AND (status = :kept OR drop_reason = :capped)
    ORDER BY id
    """
)

_MARK = text(
    """
    UPDATE preference_pair SET status = :status, drop_reason = :reason
    WHERE id = ANY(CAST(:ids AS uuid[]))
    """
)

_TOLD = text(
    f"""
    WITH wanted AS MATERIALIZED (
        SELECT id, basis, winner_id, loser_id, variant FROM preference_pair
        WHERE id = ANY(CAST(:ids AS uuid[])) AND NOT evidence ? 'review_item'
    ), answers AS MATERIALIZED (
        SELECT w.id, side.n AS side, e.interaction_id, e.episode_id, e.reviewed
        FROM wanted w CROSS JOIN LATERAL (VALUES (1, w.winner_id), (2, w.loser_id)) AS side(n, id)
        JOIN example e ON e.interaction_id = side.id AND e.variant = w.variant
        WHERE w.basis = ANY(CAST(:decided AS text[])) AND NOT e.corrected
    ), told AS (
        SELECT w.id, 0 AS side, {source_of("f")} AS source FROM wanted w
        JOIN feedback f ON f.interaction_id IN (w.winner_id, w.loser_id)
                       AND f.loser_interaction_id IN (w.winner_id, w.loser_id)
        WHERE w.basis = '{HUMAN}' AND f.kind = 'preference' AND {is_heard("f")}
        UNION ALL
        SELECT w.id, 0, {source_of("f")} FROM wanted w
        JOIN feedback f ON f.interaction_id = w.loser_id
        WHERE w.basis = '{CORRECTION}' AND f.kind = 'correction' AND {is_heard("f")}
        UNION ALL
        SELECT a.id, a.side, {source_of("f")} FROM answers a
        JOIN feedback f ON f.interaction_id = a.interaction_id
        WHERE f.kind IN ('success', 'rating') AND {is_heard("f")}
        UNION ALL
        SELECT a.id, a.side, {source_of("f")} FROM answers a
        JOIN feedback f ON f.episode_id = a.episode_id AND f.interaction_id IS NULL
        WHERE f.kind IN ('success', 'rating') AND {is_heard("f")}
        UNION ALL
        SELECT id, side, '{REVIEW}' FROM answers WHERE reviewed IN ('accepted', 'edited')
    )
    SELECT id, side, CASE WHEN bool_or(source = '{REVIEW}') THEN '{REVIEW}'
                          WHEN count(DISTINCT source) > 1 THEN '{SEVERAL}' ELSE min(source) END
           AS source
    FROM told GROUP BY id, side ORDER BY id, side
    """
)
