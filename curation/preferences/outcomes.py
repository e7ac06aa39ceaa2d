"""Pairs of answers to one task of which one turned out good and the other bad.

Tasks are told apart, and those whose answers changed since they were mined are found, by one pass
over columns that hold no text. Only the answers of these are read.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import text
from sqlmodel import Session

from curation.preferences.answers import (
    ANSWER,
    HAS_ANSWER,
    IS_MINE,
    MAY_WIN,
    TASK,
    answer_of,
    parameters,
)
from curation.preferences.pairs import pairs_of
from curation.preferences.store import OF_REVIEWERS, SUPERSEDED, Task, columns_of, store
from curation.recipe import RULE_VERSIONS, CurationRecipe

ANSWERS_PER_SIDE: Final = 64
"""Answers of a task that are looked at, good and bad ones each."""
_TASKS_AT_ONCE: Final = 100


def mine_tasks(session: Session, role: str, recipe: CurationRecipe) -> int:
    """Renew the pairs of each task whose answers changed; return how many tasks did."""
    known = parameters(role, recipe)
    for statement in _SCRATCH:
        session.execute(statement)
    session.execute(_CHANGED_TASKS, {**known, "rules": _rules(recipe)})
    session.execute(_MEMBERS, {**known, "seed": str(recipe.seed), "per_side": ANSWERS_PER_SIDE})
    session.execute(text("ANALYZE pair_task, pair_member"))
    tasks = session.execute(text("SELECT number FROM pair_task ORDER BY number")).scalars().all()
    for start in range(0, len(tasks), _TASKS_AT_ONCE):
        _renew(session, role, recipe, tasks[start : start + _TASKS_AT_ONCE])
    known |= {"superseded": SUPERSEDED, "of_reviewers": list(OF_REVIEWERS)}
    session.execute(_RETIRE, known)
    return len(tasks)


def _renew(session: Session, role: str, recipe: CurationRecipe, numbers: Sequence[int]) -> None:
    tasks = {row.number: row for row in session.execute(_TASKS, {"numbers": list(numbers)})}
    members: dict[int, list[Any]] = defaultdict(list)
    given = {"numbers": list(numbers), "learnable": parameters(role, recipe)["learnable"]}
    for row in session.execute(_ANSWERS, given):
        members[row.number].append(row)
    rows = []
    for number, task in tasks.items():
        for pair in pairs_of(map(answer_of, members[number]), recipe):
            pair.evidence["task_digest"] = task.digest
            rows.append(columns_of(pair, Task(task.task, task.project), role, recipe.variant))
    store(session, rows)


def _rules(recipe: CurationRecipe) -> str:
    """Return all that the pairs of a task depend on beside its answers."""
    knobs = (recipe.pairs_per_task, recipe.min_rating_gap, recipe.min_rating, recipe.seed)
    return repr((RULE_VERSIONS["preferences"], *knobs))


_JUDGED: Final = f"""
    {IS_MINE} AND {HAS_ANSWER} AND NOT e.corrected AND e.polarity IN ('positive', 'negative')
"""

_SCRATCH: Final = (
    text("DROP TABLE IF EXISTS pair_task, pair_member"),
    text(
        "CREATE TEMPORARY TABLE pair_task (number int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
        "project text, task text, digest text, UNIQUE (task, project)) ON COMMIT DROP"
    ),
    text(
        "CREATE TEMPORARY TABLE pair_member (number int, example_id uuid, "
        "PRIMARY KEY (number, example_id)) ON COMMIT DROP"
    ),
)

_CHANGED_TASKS = text(
    f"""
    INSERT INTO pair_task (project, task, digest)
    WITH present AS (
        SELECT e.project, {TASK} AS task, md5(:rules || sum(hashtextextended(concat_ws('|',
                   e.interaction_id, e.row_hash, e.scores->>'outcome', e.scores->>'rating',
                   {MAY_WIN}), 0)::numeric)) AS digest
        FROM example e WHERE {_JUDGED} GROUP BY 1, 2
        HAVING bool_or(e.polarity = 'positive') AND bool_or(e.polarity = 'negative')
    ), known AS (
        SELECT project, task_key AS task, max(evidence->>'task_digest') AS digest
        FROM preference_pair
        WHERE role = :role AND variant = :variant AND basis IN ('outcome', 'rating')
        GROUP BY 1, 2
    )
    SELECT project, task, present.digest FROM present FULL JOIN known USING (project, task)
    WHERE task IS NOT NULL AND present.digest IS DISTINCT FROM known.digest
    ORDER BY project, task
    """
)

_MEMBERS = text(
    f"""
    INSERT INTO pair_member (number, example_id)
    SELECT number, id FROM (
        SELECT number, id, row_number() OVER (
            PARTITION BY number, polarity ORDER BY rank DESC NULLS LAST, md5(:seed || id::text)
        ) AS place
        FROM (
            SELECT DISTINCT ON (t.number, e.polarity, e.norm_hash)
                t.number, e.id, e.polarity, e.scores->'rank' AS rank
            FROM example e JOIN pair_task t ON t.task = {TASK} AND t.project = e.project
            WHERE {_JUDGED}
            ORDER BY t.number, e.polarity, e.norm_hash, {MAY_WIN} DESC,
                     e.scores->'rank' DESC NULLS LAST, e.id
        ) AS said
    ) AS ranked
    WHERE place <= :per_side
    """
)
"""Of those that say the same one, so that a million copies of an answer are no more than one."""

_TASKS = text("SELECT number, project, task, digest FROM pair_task WHERE number = ANY(:numbers)")

_ANSWERS = text(
    f"""
    SELECT m.number, {MAY_WIN} AS may_win, {ANSWER}
    FROM pair_member m JOIN example e ON e.id = m.example_id
    WHERE m.number = ANY(:numbers) ORDER BY m.number, e.id
    """
)

_RETIRE = text(
    """
    UPDATE preference_pair p
    SET status = 'dropped', evidence = p.evidence - 'task_digest',
        drop_reason = CASE WHEN p.drop_reason = ANY(:of_reviewers) THEN p.drop_reason
                           ELSE :superseded END
    FROM pair_task t
    WHERE p.role = :role AND p.variant = :variant AND p.basis IN ('outcome', 'rating')
      AND p.task_key = t.task AND p.project = t.project
      AND p.evidence->>'task_digest' <> coalesce(t.digest, '')
    """
)
"""The pairs of changed tasks that were not found again: they still have the digest from before."""
