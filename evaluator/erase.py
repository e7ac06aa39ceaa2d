"""Erase what evaluations keep of calls: tasks that came from the log, and the answers to them.

A suite that loses tasks keeps its version; its hash and those of its evaluations become that of the
tasks that are left, so that they go on being compared with one another. What was measured stays.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlmodel import Session

from evaluator.judge.pairs import text_hash
from evaluator.suites.protect import source_of
from evaluator.suites.store import tasks_of
from evaluator.suites.task import as_task, content_hash
from evaluator.tables import Suite

_IDS_AT_ONCE: Final = 1000


def erase_tasks(session: Session, ids: Sequence[UUID]) -> tuple[Counter[str], list[str]]:
    """Delete the tasks made of these calls, their answers, and what judges said of those.

    Args:
        session: the caller commits; the calls' examples are still there.
        ids: the calls.

    Returns:
        Rows by table, and the names (NAME@VERSION) of the suites that lost tasks.
    """
    counts, lost = Counter[str](), dict[UUID, list[Any]]()
    for start in range(0, len(ids), _IDS_AT_ONCE):
        some = list(ids[start : start + _IDS_AT_ONCE])
        for task in session.execute(_TASKS_OF, {"ids": some}):
            lost.setdefault(task.suite_id, []).append(task)
    names = [
        _erase_of_suite(session, session.get_one(Suite, suite_id), tasks, counts)
        for suite_id, tasks in sorted(lost.items())
    ]
    return counts, names


def _erase_of_suite(
    session: Session, suite: Suite, tasks: Sequence[Any], counts: Counter[str]
) -> str:
    ids = [task.id for task in tasks]
    samples = session.execute(_SAMPLES_OF, {"ids": ids}).all()
    answers = {sample.answer for sample in samples}
    known = {
        "ids": ids,
        "samples": [sample.id for sample in samples],
        "answers": sorted(answers),
        "hashes": sorted(map(text_hash, answers)),
        "source": source_of(suite),
        "items": [task.task_id for task in tasks],
    }
    for name, statement in _OF_TASKS:
        counts[name] += int(session.execute(statement, known).rowcount)  # type: ignore[attr-defined]
    before = suite.content_hash
    left = [as_task(task) for task in tasks_of(session, suite)]
    suite.content_hash, suite.n_tasks = content_hash(left), len(left)
    session.add(suite)
    session.flush()
    session.execute(_REHASH, {"suite": suite.id, "old": before, "new": suite.content_hash})
    return f"{suite.name}@{suite.version}"


# A task of the log is named by its call or example, or by the caller's key: then its prompt tells.
_TASKS_OF = text(
    """
    SELECT DISTINCT task.id, task.suite_id, task.task_id
    FROM suite_task AS task
    LEFT JOIN example AS made
      ON made.interaction_id = ANY(CAST(:ids AS uuid[]))
     AND (made.prompt = task.prompt OR right(task.task_id, 36) = made.id::text)
    WHERE task.attributes->>'origin' IN ('log', 'held_out', 'corrected_failure')
      AND (made.id IS NOT NULL
           OR right(task.task_id, 36) = ANY(CAST(CAST(:ids AS uuid[]) AS text[])))
    ORDER BY task.suite_id, task.id
    """
)
_SAMPLES_OF = text("SELECT id, answer FROM sample WHERE suite_task_id = ANY(CAST(:ids AS uuid[]))")
_OF_TASKS: Final = (
    (
        "cached_answer",
        text("DELETE FROM cached_answer WHERE text = ANY(CAST(:answers AS text[]))"),
    ),
    (
        "judgement",
        text(
            """
            DELETE FROM judgement WHERE first_hash = ANY(CAST(:hashes AS text[]))
                OR second_hash = ANY(CAST(:hashes AS text[]))
            """
        ),
    ),
    (
        "review_item",
        text(
            """
            DELETE FROM review_item WHERE kind = 'sample'
              AND (subject_id = ANY(CAST(:samples AS uuid[]))
                   OR other_id = ANY(CAST(:samples AS uuid[])))
            """
        ),
    ),
    ("sample", text("DELETE FROM sample WHERE suite_task_id = ANY(CAST(:ids AS uuid[]))")),
    (
        "protected_text",
        text(
            "DELETE FROM protected_text "
            "WHERE source = :source AND item_id = ANY(CAST(:items AS text[]))"
        ),
    ),
    ("suite_task", text("DELETE FROM suite_task WHERE id = ANY(CAST(:ids AS uuid[]))")),
)
_REHASH = text(
    "UPDATE evaluation SET suite_hash = :new WHERE suite_id = :suite AND suite_hash = :old"
)
