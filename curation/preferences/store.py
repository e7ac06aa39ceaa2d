"""Preference pairs in the database: written, renewed, retired, and settled against each other.

All of it works on sets of rows. A pair's id follows from its two answers, so that mining the same
log again, in any database, gives the same rows.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlmodel import Session, SQLModel

import curation.tables  # noqa: F401  declares the table
from curation.preferences.pairs import STRENGTH, Pair
from curation.publish.rows import row_hash
from curation.recipe import CurationRecipe
from curation.score.outcome import CONTAMINATED, EXACT_DUPLICATE, SOURCE_CAP
from curation.tables import DROPPED, KEPT, TRAIN
from foundation.tables import now

SUPERSEDED, CONTRADICTED = "superseded", "contradicted"
OF_REVIEWERS: Final = ("human_disagrees", "taken_back")
"""Drop reasons that reviewers' comparisons set, and only they take back."""
_LEFT_AS_STORED: Final = frozenset(
    {"id", "created_at", "status", "drop_reason", "split", "split_key"}
)


@dataclass(frozen=True, slots=True)
class Task:
    """What the two answers of a pair answered: a caller's key or a prompt, within a project."""

    key: str
    project: str


def columns_of(pair: Pair, task: Task, role: str, variant: str) -> dict[str, Any]:
    """Return the row of a pair; its split is given later, when its group is known."""
    winner, loser = pair.winner, pair.loser
    columns: dict[str, Any] = {
        "id": pair_id(winner.interaction_id, loser.interaction_id, pair.basis, variant),
        "role": role,
        "variant": variant,
        "basis": pair.basis,
        "task_key": task.key,
        "project": task.project,
        "task_type": winner.task_type,
        "winner_id": winner.interaction_id,
        "loser_id": loser.interaction_id,
        "prompt": pair.prompt,
        "chosen": winner.text,
        "rejected": loser.text,
        "margin": pair.margin,
        "evidence": {**pair.evidence, "opposite": _hash(task.key, loser.said, winner.said)},
        "status": KEPT,
        "drop_reason": None,
        "split": TRAIN,
        "split_key": "",
        "norm_hash": _hash(task.key, winner.said, loser.said),
        "created_at": now(),
    }
    return {**columns, "row_hash": row_hash(columns)}


def pair_id(winner_id: UUID, loser_id: UUID, basis: str, variant: str) -> UUID:
    """Return the id of a pair (UUIDv7): the winner's moment, the rest by hash of all four."""
    said = "\0".join((str(winner_id), str(loser_id), basis, variant))
    low_80 = int.from_bytes(hashlib.sha256(said.encode()).digest()[:10])
    made = UUID(int=winner_id.int >> 80 << 80 | low_80)
    return UUID(bytes=_as_version_7(made.bytes))


def _as_version_7(raw: bytes) -> bytes:
    return bytes([*raw[:6], raw[6] & 0x0F | 0x70, raw[7], raw[8] & 0x3F | 0x80, *raw[9:]])


def store(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    """Insert pairs and renew known ones; what reviewers decided of a pair stands."""
    if rows:
        said = json.dumps(rows, default=str, ensure_ascii=False)
        session.execute(_STORE, {"rows": said, "of_reviewers": list(OF_REVIEWERS)})


def retire_preferences(
    session: Session, variant: str, compared: Iterable[tuple[UUID, UUID]]
) -> None:
    """Drop what people preferred among some pairs of interactions, to be said anew."""
    both = [(one, other) for pair in compared for one, other in (pair, pair[::-1])]
    session.execute(
        _RETIRE_PREFERENCES,
        {
            "variant": variant,
            "winners": [winner for winner, _ in both],
            "losers": [loser for _, loser in both],
            "reason": SUPERSEDED,
        },
    )


def settle(session: Session, role: str, recipe: CurationRecipe) -> dict[str, int]:
    """Say which pairs stand; return the counts of kept ones by basis, of others by reason.

    A pair goes when one of its answers teaches a benchmark, when a stronger basis (or an equal one)
    says the opposite of the same two answers, and when it says what another one says.
    """
    mine = {"role": role, "variant": recipe.variant}
    # All of it is read; what was just written has no statistics that would say so.
    session.execute(text("SET LOCAL enable_nestloop = off"))
    session.execute(
        _SETTLE,
        {
            **mine,
            "settled_elsewhere": [SUPERSEDED, *OF_REVIEWERS],
            "bases": list(STRENGTH),
            "strengths": list(STRENGTH.values()),
            "contaminated": CONTAMINATED,
            "contradicted": CONTRADICTED,
            "repeated": EXACT_DUPLICATE,
            "capped": SOURCE_CAP,
            "dropped": DROPPED,
            "kept": KEPT,
        },
    )
    session.execute(text("SET LOCAL enable_nestloop TO DEFAULT"))
    return count_pairs(session, role, recipe)


def count_pairs(session: Session, role: str, recipe: CurationRecipe) -> dict[str, int]:
    """Return how many pairs there are: kept ones by basis, others by reason."""
    mine = {"role": role, "variant": recipe.variant}
    return {word: n for word, n in session.execute(_COUNT, mine)}


def _hash(*words: str) -> str:
    return hashlib.sha256("\0".join(words).encode("utf-8", "surrogatepass")).hexdigest()


_NAMES: Final = tuple(c.name for c in SQLModel.metadata.tables["preference_pair"].columns)

_STORE = text(
    f"""
    INSERT INTO preference_pair AS known ({", ".join(_NAMES)})
    SELECT {", ".join(_NAMES)} FROM json_populate_recordset(NULL::preference_pair, :rows)
    ON CONFLICT (winner_id, loser_id, basis, variant) DO UPDATE SET
    {", ".join(f"{n} = excluded.{n}" for n in _NAMES if n not in _LEFT_AS_STORED)},
    status = CASE WHEN known.drop_reason = ANY(:of_reviewers) THEN known.status ELSE 'kept' END,
    drop_reason = CASE WHEN known.drop_reason = ANY(:of_reviewers) THEN known.drop_reason END
    WHERE NOT known.evidence ? 'review_item'
    """
)

_RETIRE_PREFERENCES = text(
    """
    UPDATE preference_pair p SET status = 'dropped', drop_reason = :reason
    FROM unnest(CAST(:winners AS uuid[]), CAST(:losers AS uuid[])) AS pair(winner, loser)
    WHERE p.winner_id = pair.winner AND p.loser_id = pair.loser AND p.variant = :variant
      AND p.basis = 'human' AND NOT p.evidence ? 'review_item'
    """
)

_SETTLE = text(
    """
    WITH taught AS (
        SELECT interaction_id AS id FROM example
        WHERE role = :role AND variant = :variant AND drop_reason = :contaminated
    ), pool AS (
        SELECT p.id, p.norm_hash, p.margin, power.strength,
               least(p.norm_hash, p.evidence->>'opposite') AS answers,
               p.norm_hash <= coalesce(p.evidence->>'opposite', p.norm_hash) AS is_forward,
               p.evidence ? 'contamination' OR p.winner_id IN (SELECT id FROM taught)
                   OR p.loser_id IN (SELECT id FROM taught) AS teaches
        FROM preference_pair p
        JOIN unnest(CAST(:bases AS text[]), CAST(:strengths AS int[])) AS power(basis, strength)
          USING (basis)
        WHERE p.role = :role AND p.variant = :variant
          AND (p.drop_reason IS NULL OR p.drop_reason <> ALL(:settled_elsewhere))
    ), weighed AS (
        SELECT id, norm_hash, margin, strength, teaches, CASE WHEN is_forward
            THEN max(strength) FILTER (WHERE NOT is_forward) OVER same_answers
            ELSE max(strength) FILTER (WHERE is_forward) OVER same_answers
        END AS against
        FROM pool WINDOW same_answers AS (PARTITION BY answers)
    ), judged AS (
        SELECT *, CASE WHEN teaches THEN CAST(:contaminated AS text)
                       WHEN against >= strength THEN :contradicted END AS reason
        FROM weighed
    ), settled AS (
        SELECT id, coalesce(reason, CASE WHEN row_number() OVER (
            PARTITION BY norm_hash, reason IS NULL ORDER BY strength DESC, margin DESC, id
        ) > 1 THEN :repeated END) AS reason
        FROM judged
    )
    UPDATE preference_pair p
    SET drop_reason = s.reason,
        status = CASE WHEN s.reason IS NULL THEN :kept ELSE :dropped END
    FROM settled s
    WHERE p.id = s.id AND NOT (s.reason IS NULL AND p.drop_reason IS NOT DISTINCT FROM :capped)
      AND (p.drop_reason IS DISTINCT FROM s.reason
       OR p.status <> CASE WHEN s.reason IS NULL THEN :kept ELSE :dropped END)
    """
)

_COUNT = text(
    """
    SELECT coalesce(drop_reason, basis), count(*) FROM preference_pair
    WHERE role = :role AND variant = :variant GROUP BY 1 ORDER BY 1
    """
)
