"""Whose word pairs rest on, and how many of a version may rest on one key's alone.

A pair rests on a key if nothing but what came by that key says that one of its answers is good, or
that the other one is bad: either side alone decides what the pair teaches. What people preferred
rests on who voted, a correction on who wrote it last. What reviewers spoke of, what was generated
and ranked here, and what a repeat of the pair says by others' word, rests on no key.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlmodel import Session

from collector.feedback.sources import KEY, is_heard, source_of, trusted
from curation.choice.sources import REVIEW, SEVERAL, by_name, has_keys, over_source
from curation.preferences.pairs import CORRECTION, HUMAN, OUTCOME, RATING, STRENGTH
from curation.preferences.people import PEOPLE
from curation.recipe import CurationRecipe
from curation.score.outcome import EXACT_DUPLICATE, SOURCE_CAP
from curation.tables import DROPPED, KEPT

_IDS_AT_ONCE: Final = 10_000


def cap_sources(session: Session, role: str, recipe: CurationRecipe) -> None:
    """Leave out what one key has too much of, and take back what an earlier cap left out.

    Of each key the weakest pairs go: by basis, then by margin, equal ones by lot. What stays left
    out, too, is what nobody's word is left of, since feedback has a retention of its own.
    """
    mine = {"role": role, "variant": recipe.variant, "capped": SOURCE_CAP}
    out, most = set[UUID](), recipe.max_source_share
    if most is None:
        rows = session.execute(_CAPPED, mine).all()
    else:
        rows = session.execute(_STANDING, {**mine, "kept": KEPT}).all()
        told = _told(session, [row.id for row in rows], recipe)
        keys = _charged(told, trusted(session))
        for pair in _confirmed(
            session, {row.norm_hash: row.id for row in rows}, keys, mine, recipe
        ):
            del keys[pair]
        best_first = sorted(rows, key=lambda row: _place(row, recipe))
        out = over_source([row.id for row in best_first], keys, most)
        out |= {row.id for row in rows if row.status == DROPPED and row.id not in told}
    for status, reason, wanted in ((DROPPED, SOURCE_CAP, True), (KEPT, None, False)):
        ids = [row.id for row in rows if (row.id in out) == wanted and row.status != status]
        if ids:
            session.execute(_MARK, {"ids": ids, "status": status, "reason": reason})


def pairs_by_source(
    session: Session, ids: Sequence[UUID], recipe: CurationRecipe
) -> dict[str, int]:
    """Return how many pairs rest on each key, by its name, and on whom else, most first.

    Empty where no key was ever made.
    """
    told = _told(session, ids, recipe)
    keys = _charged(told, set())
    return by_name(session, (keys.get(pair, some[0]) for pair, some in told.items()), len(ids))


def _charged(told: Mapping[UUID, Sequence[str]], spared: set[str]) -> dict[UUID, str]:
    """Return of pairs that rest on a key that key; of two keys the one with more pairs; pure."""
    of_pair = {
        pair: {source for source in some if source.startswith(KEY) and source not in spared}
        for pair, some in told.items()
    }
    counts = Counter(source for some in of_pair.values() for source in some)
    return {
        pair: max(some, key=lambda source: (counts[source], source))
        for pair, some in of_pair.items()
        if some
    }


def _confirmed(
    session: Session,
    by_text: Mapping[str, UUID],
    keys: Mapping[UUID, str],
    mine: Mapping[str, str],
    recipe: CurationRecipe,
) -> set[UUID]:
    """Return pairs that somebody else says too: a repeat of the pair rests on others' word."""
    texts = [text_hash for text_hash, pair in by_text.items() if pair in keys]
    asked = {**mine, "texts": texts, "repeated": EXACT_DUPLICATE}
    repeats = {row.id: by_text[row.norm_hash] for row in session.execute(_REPEATS, asked)}
    told = _told(session, list(repeats), recipe)
    return {
        repeats[repeat] for repeat, sources in told.items() if keys[repeats[repeat]] not in sources
    }


def _told(session: Session, ids: Sequence[UUID], recipe: CurationRecipe) -> dict[UUID, list[str]]:
    """Return of pairs the sources that they rest on, of each side one; none where nobody spoke."""
    sides: dict[UUID, list[str]] = {}
    if not has_keys(session):
        return sides
    given = {"people": list(PEOPLE), "trusted": list(recipe.trusted_sources)}
    for start in range(0, len(ids), _IDS_AT_ONCE):
        some = {**given, "ids": list(ids[start : start + _IDS_AT_ONCE])}
        for row in session.execute(_TOLD, some):
            sides.setdefault(row.id, []).append(row.source)
    return sides


def _place(row: Any, recipe: CurationRecipe) -> tuple[int, float, bytes]:
    lot = hashlib.sha256(f"{recipe.seed}:{row.id}".encode()).digest()
    return -STRENGTH[row.basis], -row.margin, lot


_STANDING = text(
    """
    SELECT id, basis, margin, status, norm_hash FROM preference_pair
    WHERE role = :role AND variant = :variant AND (status = :kept OR drop_reason = :capped)
    ORDER BY id
    """
)

_CAPPED = text(
    """
    SELECT id, status FROM preference_pair
    WHERE role = :role AND variant = :variant AND drop_reason = :capped
    """
)

_REPEATS = text(
    """
    SELECT id, norm_hash FROM preference_pair
    WHERE role = :role AND variant = :variant AND drop_reason = :repeated
      AND norm_hash = ANY(CAST(:texts AS text[]))
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
        SELECT id, basis, winner_id, loser_id, variant, evidence ? 'review_item' AS is_reviewed
        FROM preference_pair WHERE id = ANY(CAST(:ids AS uuid[]))
    ), answers AS MATERIALIZED (
        SELECT w.id, w.basis, side.n AS side, e.interaction_id, e.episode_id, e.reviewed
        FROM wanted w CROSS JOIN LATERAL (VALUES (1, w.winner_id), (2, w.loser_id)) AS side(n, id)
        JOIN example e ON e.interaction_id = side.id AND e.variant = w.variant
        WHERE w.basis IN ('{OUTCOME}', '{RATING}') AND NOT e.corrected AND NOT w.is_reviewed
    ), spoken AS (
        SELECT a.id, a.side, a.basis, f.value, f.kind, f.source, {source_of("f")} AS spoken_by
        FROM answers a JOIN feedback f ON f.interaction_id = a.interaction_id
        WHERE f.kind IN ('success', 'rating') AND {is_heard("f")}
        UNION ALL
        SELECT a.id, a.side, a.basis, f.value, f.kind, f.source, {source_of("f")}
        FROM answers a JOIN feedback f ON f.episode_id = a.episode_id AND f.interaction_id IS NULL
        WHERE f.kind = 'success' AND a.basis = '{OUTCOME}' AND {is_heard("f")}
    ), told AS (
        SELECT id, side, spoken_by AS source FROM spoken
        WHERE basis = '{OUTCOME}' AND kind = 'success' AND source = ANY(CAST(:trusted AS text[]))
          AND (value >= 0.5) = (side = 1)
        UNION ALL
        SELECT id, side, spoken_by FROM spoken WHERE basis = '{RATING}' AND kind = 'rating'
        UNION ALL
        SELECT w.id, 0, {source_of("f")} FROM wanted w
        JOIN feedback f ON f.interaction_id IN (w.winner_id, w.loser_id)
                       AND f.loser_interaction_id IN (w.winner_id, w.loser_id)
        WHERE w.basis = '{HUMAN}' AND NOT w.is_reviewed AND f.kind = 'preference'
          AND f.source = ANY(CAST(:people AS text[])) AND {is_heard("f")}
        UNION ALL
        SELECT id, 0, spoken_by FROM (
            SELECT DISTINCT ON (w.id) w.id, {source_of("f")} AS spoken_by FROM wanted w
            JOIN feedback f ON f.interaction_id = w.loser_id
            WHERE w.basis = '{CORRECTION}' AND f.kind = 'correction'
              AND f.source = ANY(CAST(:people AS text[])) AND {is_heard("f")}
            ORDER BY w.id, f.created_at DESC, f.id DESC
        ) AS written
        UNION ALL
        SELECT id, side, '{REVIEW}' FROM answers WHERE reviewed IS NOT NULL
        UNION ALL
        SELECT w.id, 0, '{REVIEW}' FROM wanted w WHERE w.is_reviewed
        UNION ALL
        SELECT w.id, 0, '{REVIEW}' FROM wanted w
        JOIN example e ON e.interaction_id = w.loser_id AND e.variant = w.variant
        WHERE w.basis = '{CORRECTION}' AND e.reviewed = 'edited'
    )
    SELECT id, side, CASE WHEN bool_or(source = '{REVIEW}') THEN '{REVIEW}'
                          WHEN count(DISTINCT source) > 1 THEN '{SEVERAL}' ELSE min(source) END
           AS source
    FROM told GROUP BY id, side ORDER BY id, side
    """
)
"""On each side, what says that this answer is good (1) or bad (2); 0: of the pair as a whole."""
