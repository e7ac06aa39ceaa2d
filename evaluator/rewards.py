"""Rewards of a training: the tasks of a stored suite, each answer executed or judged by its grader.

Signs up with `trainer.rewards`, which is floors below and knows no grader. No torch here.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from sqlmodel import Session

from evaluator.compare import FAMILY
from evaluator.graders import GradedTask
from evaluator.grading import Ungraded, grade_each, graded_task, require_gradable
from evaluator.sandbox import Sandbox
from evaluator.suites import load_suite, tasks_of
from evaluator.tables import Suite, SuiteTask
from foundation.database import session_scope
from foundation.errors import BadInput, Conflict
from trainer.rewards import Reward, TaskRows, sign_up

VALIDATION_TENTHS: Final = 1


@contextmanager
def open_tasks(suite: str) -> Iterator[TaskRows]:
    """Yield the tasks of a stored suite; its sandbox lives as long as the training.

    A tenth of the tasks is for validation, chosen by the hash of a task's family (or id), so that
    no variation of a validation task is learned from.

    Raises:
        NotFound: no such suite.
        Conflict: it is a draft, which may still change.
        BadInput: a task cannot be graded, or no task is left to learn from.
        SandboxUnavailable: nothing can be executed here.
    """
    with session_scope() as session:
        tasks = tasks_of(session, require_frozen(session, suite))
    with Sandbox() as sandbox:
        require_gradable(tasks, sandbox)
        learned = [task for task in tasks if not is_validation(task)]
        if not learned:
            raise BadInput(
                f"suite {suite}",
                f"{len(tasks)} tasks, all of them of families kept for validation",
                "tasks to learn from",
                "Add tasks of other families.",
            )
        yield TaskRows(
            rows=[_row(task) for task in learned],
            validation=[_row(task) for task in tasks if is_validation(task)],
            reward=rewards_of({task.task_id: graded_task(task) for task in tasks}, sandbox),
        )


def rewards_of(tasks: Mapping[str, GradedTask], sandbox: Sandbox) -> Reward:
    """Return the reward of answers to some tasks: 1 for one that passes, else 0.

    A part that is right is worth nothing: half of the cases is what a constant answer gets, too.
    An answer whose grader threw has no reward.
    """

    def reward(rows: Sequence[Mapping[str, Any]], answers: Sequence[str]) -> list[float | None]:
        asked = [tasks[row["task_id"]] for row in rows]
        # Groups of answers to a task agree more and more: equal ones are executed once.
        distinct = list(dict.fromkeys(zip((t.task_id for t in asked), answers, strict=True)))
        grades = grade_each([tasks[one] for one, _ in distinct], [a for _, a in distinct], sandbox)
        known = {
            key: None if isinstance(grade, Ungraded) else float(grade.passed)
            for key, grade in zip(distinct, grades, strict=True)
        }
        return [known[task.task_id, said] for task, said in zip(asked, answers, strict=True)]

    return reward


def is_validation(task: SuiteTask) -> bool:
    """Return whether a task is kept for validation; a function of its family, or else its id."""
    family = task.attributes.get(FAMILY) or task.task_id
    # Not the hash of the family alone: suites are often cut by that, and all or none would be left.
    key = f"validation of rewards\0{family}"
    return int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) % 10 < VALIDATION_TENTHS


def _row(task: SuiteTask) -> dict[str, Any]:
    return {"prompt": task.prompt, "task_id": task.task_id}


def require_frozen(session: Session, suite: str) -> Suite:
    """Return a stored suite that can change no more; raises NotFound, Conflict for a draft."""
    stored = load_suite(session, suite)
    if stored.frozen_at is None:
        raise Conflict(
            f"suite {stored.name}@{stored.version}",
            "a draft",
            "a frozen suite, so that a training can be told and done again",
            f"Freeze it first: flywheel suite freeze {stored.name}",
        )
    return stored


sign_up(open_tasks, require_frozen)
