"""Suites in the database: adding a version, finding one by name, reading its tasks."""

from collections import Counter
from collections.abc import Iterable

from sqlalchemy import func, insert
from sqlmodel import Session, col, select

from evaluator.graders import GradedTask
from evaluator.suites.protect import protect_tasks
from evaluator.suites.task import Task, TaskLike, as_task, content_hash
from evaluator.tables import Suite, SuiteTask
from foundation.errors import BadInput, Conflict, NotFound
from foundation.ids import new_id
from foundation.tables import now


def add_suite(
    session: Session,
    name: str,
    role: str,
    tasks: Iterable[TaskLike | GradedTask],
    origin: str = "",
    *,
    description: str = "",
    is_draft: bool = False,
) -> Suite:
    """Store a suite, or return its newest version if that has the same role and content.

    From then on no dataset may teach its tasks. A version is frozen, unless it is a draft: a draft
    takes in the tasks that come, in place of those of the same id, until it is frozen.

    Args:
        session: an open session; the caller commits.
        name: without `@`, which separates the version.
        role: the agent role that the suite measures.
        tasks: at least one, with distinct ids.
        origin: where the tasks come from.
        description: for readers.
        is_draft: whether more is to come.

    Raises:
        BadInput: a bad name, no tasks, a task id twice, or values that are not JSON.
        Conflict: the newest version is a draft, and this is not to be one or has another role.
    """
    items = [as_task(task) for task in tasks]
    _require_valid(name, items)
    digest = content_hash(items)
    _lock(session, name)
    newest = _newest(session, name)
    if newest and (newest.content_hash, newest.role) == (digest, role):
        return newest
    if newest and newest.frozen_at is None:
        _require_same_draft(newest, role, is_draft)
        return _grow(session, newest, items)
    suite = Suite(
        name=name,
        version=newest.version + 1 if newest else 1,
        role=role,
        content_hash=digest,
        n_tasks=len(items),
        origin=origin,
        description=description,
        frozen_at=None if is_draft else now(),
    )
    session.add(suite)
    session.flush()
    _insert(session, suite, items)
    protect_tasks(session, suite, items)
    return suite


def freeze(session: Session, ref: str) -> Suite:
    """Let a draft change no more; a frozen suite is returned as it is. The caller commits.

    Raises:
        NotFound: no such suite.
    """
    _lock(session, ref.partition("@")[0])
    suite = load_suite(session, ref)
    session.refresh(suite)
    if suite.frozen_at is None:
        suite.frozen_at = now()
        session.add(suite)
        session.flush()
    return suite


def _lock(session: Session, name: str) -> None:
    """Let nobody else add to a suite or freeze it until the transaction ends."""
    session.execute(select(func.pg_advisory_xact_lock(func.hashtext(f"suite:{name}"))))


def _grow(session: Session, draft: Suite, items: list[Task]) -> Suite:
    """Put tasks into a draft: those of a known id in its place, the others at its end."""
    stored = {task.task_id: task for task in tasks_of(session, draft)}
    for item in (item for item in items if item.task_id in stored):
        row = stored[item.task_id]
        row.prompt, row.grader = item.prompt, item.grader
        row.reference, row.attributes = item.reference, item.attributes
        session.add(row)
    _insert(session, draft, [item for item in items if item.task_id not in stored])
    whole = [as_task(task) for task in tasks_of(session, draft)]
    draft.content_hash, draft.n_tasks = content_hash(whole), len(whole)
    session.add(draft)
    session.flush()
    protect_tasks(session, draft, whole)
    return draft


def _insert(session: Session, suite: Suite, items: list[Task]) -> None:
    rows = [
        {
            "id": new_id(),
            "suite_id": suite.id,
            "task_id": item.task_id,
            "prompt": item.prompt,
            "grader": item.grader,
            "reference": item.reference,
            "attributes": item.attributes,
        }
        for item in items
    ]
    if rows:
        session.execute(insert(SuiteTask), rows)


def _require_same_draft(draft: Suite, role: str, is_draft: bool) -> None:
    if not is_draft or draft.role != role:
        raise Conflict(
            f"suite {draft.name}@{draft.version}",
            f"a draft of the role {draft.role}",
            f"more tasks for it (--draft --role {draft.role}), or a frozen suite",
            f"Freeze it first: flywheel suite freeze {draft.name}",
        )


def load_suite(session: Session, ref: str) -> Suite:
    """Return a suite by `name` (its newest version) or `name@version`.

    Raises:
        NotFound: no such suite; the message names those that exist.
    """
    name, _, version = ref.partition("@")
    if not version:
        suite = _newest(session, name)
    elif version.isdecimal():
        query = select(Suite).where(Suite.name == name, Suite.version == int(version))
        suite = session.exec(query).first()
    else:
        suite = None
    if suite is None:
        known = ", ".join(f"{s.name}@{s.version}" for s in list_suites(session)) or "none yet"
        raise NotFound(
            "suite",
            ref,
            f"one of the stored suites ({known})",
            "Add one with: flywheel suite add NAME FILE",
        )
    return suite


def list_suites(session: Session) -> list[Suite]:
    """Return all suites, by name and version."""
    return list(session.exec(select(Suite).order_by(Suite.name, col(Suite.version))))


def tasks_of(session: Session, suite: Suite) -> list[SuiteTask]:
    """Return the tasks of a suite in the order in which they were added."""
    query = select(SuiteTask).where(SuiteTask.suite_id == suite.id).order_by(col(SuiteTask.id))
    return list(session.exec(query))


def _newest(session: Session, name: str) -> Suite | None:
    query = select(Suite).where(Suite.name == name).order_by(col(Suite.version).desc()).limit(1)
    return session.exec(query).first()


def _require_valid(name: str, items: list[Task]) -> None:
    if not name.strip() or "@" in name:
        raise BadInput("suite name", name, "a name without '@'", "The version is given by itself.")
    if not items:
        raise BadInput(f"suite {name}", "no tasks", "at least one task", "Check the file or query.")
    twice = [task for task, count in Counter(item.task_id for item in items).items() if count > 1]
    if twice:
        raise BadInput(
            f"suite {name}", twice[:5], "distinct task ids", "Rename or drop the repeated tasks."
        )
