"""Reading answers out of examples: which task each one answers, and what is known of it.

A task is named by its caller (`task_key`, an attribute of the interaction), else by its prompt as
it is compared. The statements here are parts of those of the other files; in them, `e` is an
example.
"""

from typing import Any, Final

from sqlalchemy import text
from sqlmodel import Session

from curation.dedupe.compare import PROMPT
from curation.dedupe.index import text_id_of
from curation.normalize import comparable_lines, normalize
from curation.preferences.pairs import Answer
from curation.recipe import CurationRecipe
from curation.score.outcome import (
    EMPTY_ANSWER,
    EMPTY_PROMPT,
    ERROR_STATUS,
    EXACT_DUPLICATE,
    INCOMPLETE,
    NEAR_DUPLICATE,
    NO_PAYLOAD,
    OVER_QUOTA,
    TOO_LONG,
    TOOL_CALLS,
    TRUNCATED,
)
from curation.templates import Templates

NO_ANSWER: Final = (
    *(EMPTY_ANSWER, EMPTY_PROMPT, ERROR_STATUS, INCOMPLETE, NO_PAYLOAD),
    *(TOO_LONG, TOOL_CALLS, TRUNCATED),
)
"""Drop reasons of what was lost, cut or never said: on neither side of a pair."""
LEARNABLE: Final = (EXACT_DUPLICATE, NEAR_DUPLICATE, OVER_QUOTA)
"""Drop reasons that say nothing against the answer itself."""
_NAMED_AT_ONCE: Final = 200

TASK: Final = """
    coalesce('task:' || (e.scores->>'task_key'), 'prompt:' || nullif(e.prompt_text_id, :empty))
"""
IS_MINE: Final = "e.role = :role AND e.variant = :variant"
MAY_WIN: Final = "(e.drop_reason IS NULL OR e.drop_reason = ANY(:learnable))"
HAS_ANSWER: Final = """
    e.answer_message IS NULL AND e.polarity <> 'lost'
    AND (e.drop_reason IS NULL OR e.drop_reason <> ALL(:no_answer))
"""
ANSWER: Final = """
    e.interaction_id, e.prompt, e.answer, e.project, e.task_type, e.row_hash, e.prompt_text_id,
    (e.scores->>'outcome')::boolean AS outcome, e.scores->>'outcome_source' AS outcome_source,
    (e.scores->>'rating')::float AS rating, e.scores->'rank' AS rank
"""


def parameters(
    role: str, recipe: CurationRecipe, learnable: tuple[str, ...] = LEARNABLE
) -> dict[str, Any]:
    """Return what the statements' parts take; `learnable` are reasons that let an answer win."""
    return {
        "role": role,
        "variant": recipe.variant,
        "no_answer": list(NO_ANSWER),
        "learnable": list(learnable),
        # Whoever asks nothing shares no task.
        "empty": text_id_of(role, recipe.variant, PROMPT, ""),
    }


def answer_of(row: Any) -> Answer:
    """Return the answer of a row of `ANSWER` and `MAY_WIN AS may_win`."""
    return Answer(
        interaction_id=row.interaction_id,
        prompt=row.prompt,
        text=row.answer,
        said=comparable_lines(row.answer),
        outcome=row.outcome,
        outcome_source=row.outcome_source,
        rating=row.rating,
        rank=tuple(row.rank or ()),
        task_type=row.task_type,
        may_win=row.may_win,
    )


def name_tasks(session: Session, role: str, recipe: CurationRecipe, templates: Templates) -> None:
    """Note with each example that lacks it what it answers; judging it again may forget it."""
    mine: dict[str, Any] = {"role": role, "variant": recipe.variant, "count": _NAMED_AT_ONCE}
    mine["after"] = None
    while rows := session.execute(_UNNAMED, mine).all():
        prompts = [
            row.prompt_text_id
            if row.prompt_text_id is not None
            else text_id_of(
                role, recipe.variant, PROMPT, normalize(row.prompt, "", templates).prompt
            )
            for row in rows
        ]
        keys = [row.task_key for row in rows]
        session.execute(_NAME, {"ids": [row.id for row in rows], "keys": keys, "prompts": prompts})
        mine["after"] = rows[-1].id


_UNNAMED = text(
    """
    SELECT e.id, e.prompt_text_id, CASE WHEN e.prompt_text_id IS NULL THEN e.prompt END AS prompt,
           p.attributes->>'task_key' AS task_key
    FROM example e LEFT JOIN interaction_payload p ON p.id = e.interaction_id
    WHERE e.role = :role AND e.variant = :variant AND e.polarity <> 'lost'
      AND (NOT e.scores ? 'task_key' OR e.prompt_text_id IS NULL)
      AND (CAST(:after AS uuid) IS NULL OR e.id > :after)
    ORDER BY e.id LIMIT :count
    """
)

_NAME = text(
    """
    UPDATE example e SET prompt_text_id = named.prompt,
        scores = jsonb_build_object('task_key', named.key) || e.scores
    FROM unnest(CAST(:ids AS uuid[]), CAST(:keys AS text[]), CAST(:prompts AS bigint[]))
        AS named(id, key, prompt)
    WHERE e.id = named.id
    """
)
"""What is noted already stays: a payload may be gone."""
