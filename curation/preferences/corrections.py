"""Pairs of a person's correction and of what was corrected.

Both stand with one interaction: the correction as its example's answer, the original in the log, or
with the label of the reviewer who edited it. Once mined, a pair outlives the log's payload.
"""

from typing import Any, Final

from sqlalchemy import text
from sqlmodel import Session

from curation.normalize import comparable_lines
from curation.preferences.answers import (
    ANSWER,
    HAS_ANSWER,
    IS_MINE,
    MAY_WIN,
    TASK,
    answer_of,
    parameters,
)
from curation.preferences.pairs import CORRECTION, Answer, Pair, is_learnable, pair_of
from curation.preferences.store import SUPERSEDED, Task, columns_of, store
from curation.recipe import CurationRecipe
from foundation.chat import answer_text

_ROWS_AT_ONCE: Final = 200


def mine_corrections(session: Session, role: str, recipe: CurationRecipe) -> None:
    """Pair each new correction with what was corrected; retire those of corrections taken back."""
    known = parameters(role, recipe)
    session.execute(_RETIRE, {**known, "reason": SUPERSEDED})
    rows = session.execute(
        _CORRECTED,
        {**known, "reason": SUPERSEDED},
        execution_options={"yield_per": _ROWS_AT_ONCE},
    )
    for some in rows.partitions():
        found = [(_pair(row), Task(row.task, row.project)) for row in some if row.task is not None]
        store(
            session,
            [
                columns_of(pair, task, role, recipe.variant)
                for pair, task in found
                if is_learnable(pair)
            ],
        )


def _pair(row: Any) -> Pair:
    original = answer_text(row.response) if row.response is not None else row.edited_from or ""
    loser = Answer(row.interaction_id, row.prompt, original, comparable_lines(original))
    return pair_of(CORRECTION, answer_of(row), loser, 1.0, corrected=row.row_hash)


_RETIRE = text(
    """
    UPDATE preference_pair p SET status = 'dropped', drop_reason = :reason
    WHERE p.role = :role AND p.variant = :variant AND p.basis = 'correction'
      AND p.drop_reason IS DISTINCT FROM :reason AND NOT EXISTS (
        SELECT FROM example e
        WHERE e.interaction_id = p.winner_id AND e.variant = p.variant AND e.corrected
          AND e.row_hash = p.evidence->>'corrected')
    """
)

_CORRECTED = text(
    f"""
    SELECT {TASK} AS task, {ANSWER}, {MAY_WIN} AS may_win, payload.response, (
        SELECT l.value->>'original' FROM review_label l
        WHERE l.interaction_id = e.interaction_id AND l.action = 'edit' AND l.undone_at IS NULL
        ORDER BY l.created_at DESC LIMIT 1
    ) AS edited_from
    FROM example e
    LEFT JOIN interaction_payload payload ON payload.id = e.interaction_id
    LEFT JOIN preference_pair p ON p.winner_id = e.interaction_id
      AND p.loser_id = e.interaction_id AND p.basis = 'correction' AND p.variant = e.variant
    WHERE {IS_MINE} AND {HAS_ANSWER} AND e.corrected
      AND (p.evidence->>'corrected' IS DISTINCT FROM e.row_hash OR p.drop_reason = :reason)
    ORDER BY e.id
    """
)
