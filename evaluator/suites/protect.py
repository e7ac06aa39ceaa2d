"""What of a suite no dataset may teach: its tasks, their references and tests, and their keys.

Every stored suite is protected under `suite:NAME@VERSION`, from the transaction that stores it.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from sqlmodel import Session, col, select

from curation.decontaminate import Protected, list_sources, protect, strings_in
from evaluator.suites.task import TaskLike
from evaluator.tables import Suite, SuiteTask
from foundation.chat import joined

KEY_ATTRIBUTES: Final = (
    *("task_key", "key", "instance_id", "repo", "repository"),
    *("base_commit", "commit"),
)
"""Attributes of a task that are blocked by name, beside its id."""


def protect_tasks(session: Session, suite: Suite, tasks: Iterable[TaskLike]) -> None:
    """Keep the tasks of a suite out of every later dataset; the caller commits."""
    protect(session, source_of(suite), [protected_of(task) for task in tasks])


def protect_suites(session: Session) -> int:
    """Protect the suites stored before suites were; return how many there were."""
    known = {source.name for source in list_sources(session)}
    missing = [
        suite for suite in session.execute(select(Suite)).scalars() if source_of(suite) not in known
    ]
    for suite in missing:
        query = select(SuiteTask).where(col(SuiteTask.suite_id) == suite.id)
        protect_tasks(session, suite, session.execute(query).scalars())
    return len(missing)


def source_of(suite: Suite) -> str:
    """Return the name that a suite's tasks are protected under."""
    return f"suite:{suite.name}@{suite.version}"


def protected_of(task: TaskLike) -> Protected:
    """Return what is protected of a task."""
    named = [task.attributes.get(name) for name in KEY_ATTRIBUTES]
    # "HumanEval/3" or "django__django-11099" can mean nothing else; "3" or "task-3" can.
    own_name = task.task_id if "/" in task.task_id or "__" in task.task_id else None
    return Protected(
        item_id=task.task_id,
        prompt=joined(task.prompt),
        solution=_reference_text(task.reference),
        keys=tuple(dict.fromkeys(str(key) for key in (own_name, *named) if key)),
    )


def _reference_text(reference: Mapping[str, Any]) -> str:
    """Return all text of a reference: answer, code, tests, whatever its grader calls them."""
    return "\n".join(strings_in(dict(reference)))
