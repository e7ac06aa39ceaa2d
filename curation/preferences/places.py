"""Which split a pair stands in: that of the examples of its task, and of prompts near its own.

A pair follows the examples that answer its task. Answers that nobody executed (people preferred
one) have no group among the examples; their prompts are put into the same index and compared with
all others there, so that a prompt reworded does not stand in two splits.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from sqlalchemy import text
from sqlmodel import Session

from curation.dedupe.buckets import Signed, by_index, shared_buckets
from curation.dedupe.compare import PROMPT, fingerprints, prompt_keys, world_salt
from curation.dedupe.index import index_texts, text_ids_of, verified
from curation.groups import Groups
from curation.normalize import normalize
from curation.recipe import CurationRecipe
from curation.split import split_of, strictest
from curation.templates import Templates

_PROMPTS_AT_ONCE: Final = 500


def assign_splits(
    session: Session, role: str, recipe: CurationRecipe, templates: Templates
) -> None:
    """Give all pairs of a task the split of the examples that answer it, the strictest of them.

    So the pairs move with the examples' groups. What no example tells goes by near prompts, and a
    task that is like nothing is a group of its own.
    """
    mine = {"role": role, "variant": recipe.variant}
    session.execute(_FOLLOW_EXAMPLES, mine)
    waiting = session.execute(_UNGROUPED_PROMPTS, mine).all()
    for start in range(0, len(waiting), _PROMPTS_AT_ONCE):
        rows = waiting[start : start + _PROMPTS_AT_ONCE]
        _give(session, mine, recipe, _keys_by_prompt(session, mine, recipe, templates, rows))
    alone = session.execute(_UNGROUPED, mine).scalars().all()
    _give(session, mine, recipe, {key: key for key in alone})


def _keys_by_prompt(
    session: Session,
    mine: dict[str, str],
    recipe: CurationRecipe,
    templates: Templates,
    rows: Sequence[Any],
) -> dict[str, str]:
    """Return the split key of each task, by what its prompt is near; other groups keep theirs."""
    prompts = session.execute(_PROMPTS, {**mine, "ids": [row.id for row in rows]}).all()
    texts = {row.task_key: normalize(row.prompt, "", templates) for row in prompts}
    ids = {text_ids_of(mine["role"], recipe.variant, one)[1]: key for key, one in texts.items()}
    index_texts(session, mine["role"], recipe, list(texts.values()))
    near = list(_near(session, mine["role"], recipe, templates, ids, texts))
    met = sorted({i for pair in near for i in pair} - ids.keys())
    known = {**mine, "ids": met, "tasks": [f"prompt:{i}" for i in met]}
    labels = {row.id: row.split_key for row in session.execute(_KEYS_OF_PROMPTS, known)}
    groups = Groups()
    for key in texts:
        groups.root(key)
    for pair in near:
        named = [ids.get(i) or labels.get(i) for i in pair]
        groups.join(key for key in named if key is not None)
    given: dict[str, str] = {}
    for members in groups.members():
        older = [key for key in members if key not in texts]
        winner = strictest(older, recipe) if older else min(members)
        given |= {key: winner for key in members if key in texts}
    return given


def _near(
    session: Session,
    role: str,
    recipe: CurationRecipe,
    templates: Templates,
    ids: dict[int, str],
    texts: dict[str, Any],
) -> Iterator[tuple[int, int]]:
    """Yield the pairs of indexed prompts that are near, one of them given."""
    made = fingerprints([texts[key] for key in ids.values()], recipe, world_salt(role, recipe))
    keys = prompt_keys([one.prompt for one in made], recipe, world_salt(role, recipe, PROMPT))
    signed = Signed(PROMPT, dict(zip(ids, made, strict=True)), dict(zip(ids, keys, strict=True)))
    with by_index(session):
        pairs = shared_buckets(session, signed, recipe).pairs
    for found in verified(session, signed, pairs, recipe, templates):
        yield found.low, found.high


def _give(
    session: Session, mine: dict[str, str], recipe: CurationRecipe, keys: dict[str, str]
) -> None:
    session.execute(
        _GIVE_SPLITS,
        {
            **mine,
            "tasks": list(keys),
            "keys": list(keys.values()),
            "splits": [split_of(key, recipe) for key in keys.values()],
        },
    )


_UNGROUPED_PROMPTS = text(
    """
    SELECT DISTINCT ON (task_key) task_key, id FROM preference_pair
    WHERE role = :role AND variant = :variant AND split_key = '' AND task_key LIKE 'prompt:%'
    ORDER BY task_key, id
    """
)

_PROMPTS = text(
    """
    SELECT task_key, prompt FROM preference_pair
    WHERE role = :role AND variant = :variant AND id = ANY(CAST(:ids AS uuid[]))
    ORDER BY task_key
    """
)

_KEYS_OF_PROMPTS = text(
    """
    SELECT DISTINCT ON (id) id, split_key FROM (
        SELECT e.prompt_text_id AS id, e.split_key, 1 AS place FROM example e
        WHERE e.prompt_text_id = ANY(CAST(:ids AS bigint[]))
          AND e.role = :role AND e.variant = :variant
        UNION ALL
        SELECT CAST(substr(p.task_key, 8) AS bigint), p.split_key, 2 FROM preference_pair p
        WHERE p.task_key = ANY(CAST(:tasks AS text[]))
          AND p.role = :role AND p.variant = :variant
    ) AS known
    WHERE split_key <> '' ORDER BY id, place, split_key
    """
)
"""Groups of examples before those of pairs alone."""

_FOLLOW_EXAMPLES = text(
    """
    WITH mine AS (
        SELECT id, task_key, project, split_key, split,
               ARRAY[winner_id, loser_id, CAST(evidence->>'asked' AS uuid)] AS sides
        FROM preference_pair WHERE role = :role AND variant = :variant
    ), answering AS (
        SELECT p.task_key, p.project, e.split_key, e.split
        FROM mine p CROSS JOIN LATERAL unnest(p.sides) AS side(id)
        JOIN example e ON e.interaction_id = side.id AND e.variant = :variant
        UNION
        SELECT p.task_key, p.project, e.split_key, e.split
        FROM (SELECT DISTINCT task_key, project FROM mine WHERE task_key LIKE 'prompt:%') p
        JOIN example e ON e.prompt_text_id = CAST(substr(p.task_key, 8) AS bigint)
        WHERE e.role = :role AND e.variant = :variant
    ), strictest AS (
        SELECT DISTINCT ON (task_key, project) task_key, project, split_key, split FROM answering
        WHERE split_key <> ''
        ORDER BY task_key, project, array_position(ARRAY['test', 'validation', 'train'], split),
                 split_key LIKE 'task:%' DESC, split_key
    )
    UPDATE preference_pair p SET split_key = s.split_key, split = s.split
    FROM mine m JOIN strictest s USING (task_key, project)
    WHERE p.id = m.id AND (m.split_key, m.split) IS DISTINCT FROM (s.split_key, s.split)
    """
)

_UNGROUPED = text(
    """
    SELECT DISTINCT task_key FROM preference_pair
    WHERE role = :role AND variant = :variant AND split_key = ''
    """
)

_GIVE_SPLITS = text(
    """
    UPDATE preference_pair p SET split_key = given.key, split = given.split
    FROM unnest(CAST(:tasks AS text[]), CAST(:keys AS text[]), CAST(:splits AS text[]))
        AS given(task, key, split)
    WHERE p.role = :role AND p.variant = :variant AND p.split_key = '' AND p.task_key = given.task
    """
)
