"""Suites in the database: adding a version, finding one by name, reading its tasks."""

from collections import Counter
from collections.abc import Iterable

from sqlalchemy import func
from sqlmodel import Session, col, select

from evaluator.graders import GradedTask
from evaluator.suites.protect import protect_tasks
from evaluator.suites.task import Task, TaskLike, as_task, content_hash
from evaluator.tables import Suite, SuiteTask
from foundation.errors import BadInput, NotFound


def add_suite(
    session: Session,
    name: str,
    role: str,
    tasks: Iterable[TaskLike | GradedTask],
    origin: str = "",
) -> Suite:
    """Store a suite, or return its newest version if that has the same role and content.

    From then on no dataset may teach its tasks.

    Args:
        session: an open session; the caller commits.
        name: without `@`, which separates the version.
        role: the agent role that the suite measures.
        tasks: at least one, with distinct ids.
        origin: where the tasks come from.

    Raises:
        BadInput: a bad name, no tasks, a task id twice, or values that are not JSON.
    """
    items = [as_task(task) for task in tasks]
    _require_valid(name, items)
    digest = content_hash(items)
    session.execute(select(func.pg_advisory_xact_lock(func.hashtext(f"suite:{name}"))))
    newest = _newest(session, name)
    if newest and (newest.content_hash, newest.role) == (digest, role):
        return newest
    suite = Suite(
        name=name,
        version=newest.version + 1 if newest else 1,
        role=role,
        content_hash=digest,
        n_tasks=len(items),
        origin=origin,
    )
    session.add(suite)
    session.flush()
    session.add_all(
        SuiteTask(
            suite_id=suite.id,
            task_id=item.task_id,
            prompt=item.prompt,
            grader=item.grader,
            reference=item.reference,
            attributes=item.attributes,
        )
        for item in items
    )
    session.flush()
    protect_tasks(session, suite, items)
    return suite


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
