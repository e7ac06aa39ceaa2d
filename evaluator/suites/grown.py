"""Suites that grow from a role's own log: held-out examples, and failures that people corrected.

What went wrong once and was put right by a person is asked ever after. Both kinds are fresh: no
train split of any dataset version holds their interaction, prompt, episode or group, and from the
moment they are stored no dataset may teach them. The log is scrubbed, and so are its tasks.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlmodel import Session

from collector.feedback.sources import is_heard
from curation.eval_sets import grading_of, held_out_tasks, taught
from curation.recipe import CurationRecipe
from evaluator.suites.store import add_suite
from evaluator.suites.task import Task
from evaluator.tables import Suite
from foundation.chat import Message, joined, prompt_messages
from foundation.errors import NotFound

ASSERTS, SIMILAR = "asserts", "similar"
LIKENESS: Final = {"metric": "chrf", "min_score": 0.6}
"""How near to a person's correction a prose answer must come."""


@dataclass
class Growth:
    """What a suite was given.

    Attributes:
        suite: the draft; None before the first task.
        n_held_out: tasks from the test split.
        n_corrected: tasks from corrected failures.
        n_left_out: others, by reason.
    """

    suite: Suite | None = None
    n_held_out: int = 0
    n_corrected: int = 0
    n_left_out: dict[str, int] = field(default_factory=dict)

    def leave_out(self, reason: str) -> None:
        """Count a task that is none."""
        self.n_left_out[reason] = self.n_left_out.get(reason, 0) + 1


def grow_suite(session: Session, name: str, role: str) -> Growth:
    """Put a role's fresh tasks into the draft of a suite, which is begun if there is none.

    Args:
        session: an open session; the caller commits.
        name: of the suite.
        role: whose log it grows from.

    Raises:
        NotFound: the log has nothing that can be graded.
        Conflict: the draft is of another role.
    """
    growth, tasks = Growth(), dict[str, Task]()
    recipe = CurationRecipe()
    for task in _held_out(session, role, recipe, growth):
        growth.n_held_out += _take(tasks, task, growth)
    for task in _corrected(session, role, recipe, growth):
        growth.n_corrected += _take(tasks, task, growth)
    if not tasks:
        raise NotFound(
            f"fresh tasks of {role}",
            growth.n_left_out or "none",
            "held-out examples, or corrected failures, that something can be graded by",
            "Curate the role (flywheel curate), and correct failures: feedback of kind correction.",
        )
    growth.suite = add_suite(
        session,
        name,
        role,
        tasks.values(),
        origin="log",
        description="Held-out examples and corrected failures of the role's own log.",
        is_draft=True,
    )
    return growth


def _take(tasks: dict[str, Task], task: Task, growth: Growth) -> bool:
    """Add a task unless one asks the same already, which is the better known of the two."""
    asked = joined(task.prompt)
    if task.task_id in tasks or any(joined(one.prompt) == asked for one in tasks.values()):
        growth.leave_out("asked_already")
        return False
    tasks[task.task_id] = task
    return True


def _held_out(
    session: Session, role: str, recipe: CurationRecipe, growth: Growth
) -> Iterator[Task]:
    for _, found in held_out_tasks(session, role, recipe):
        if found is None:
            growth.leave_out("not_gradable")
            continue
        attributes = {**found.attributes, "origin": "held_out"}
        yield Task(found.task_id, found.prompt, found.grader, found.reference, attributes)


def _corrected(
    session: Session, role: str, recipe: CurationRecipe, growth: Growth
) -> Iterator[Task]:
    rows = session.execute(_CORRECTIONS, {"role": role}).all()
    stale = taught(session, role, recipe, [row.id for row in rows])
    for row in rows:
        prompt = prompt_messages(row.request or {})
        if row.id in stale:
            growth.leave_out("trained_on")
        elif not prompt or (graded := _grading(prompt, row.attributes or {}, row.text)) is None:
            growth.leave_out("not_gradable")
        else:
            yield Task(f"{role}-corrected-{row.id}", prompt, *graded, _attributes(row))


def _grading(
    prompt: list[Message], attributes: dict[str, Any], correction: str
) -> tuple[str, dict[str, Any]] | None:
    """Return what a corrected task is graded by: its own tests, else the correction.

    Code without tests or calls to try is graded by nothing: likeness says little of code.
    """
    entry_point, test = attributes.get("entry_point"), attributes.get("test")
    if isinstance(entry_point, str) and isinstance(test, str):
        return ASSERTS, {"entry_point": entry_point, "test": test}
    found = grading_of(prompt, attributes, correction)
    if found is not None:
        return found
    if "```" in correction or "def " in correction or not correction.strip():
        return None
    return SIMILAR, {"answer": correction, **LIKENESS}


def _attributes(row: Any) -> dict[str, Any]:
    family: UUID = row.episode_id or row.id
    known = {
        "task_type": row.task_type,
        "project": row.project,
        "family": str(family),
        "origin": "corrected_failure",
    }
    return {name: value for name, value in known.items() if value is not None}


_CORRECTIONS = text(
    f"""
    SELECT DISTINCT ON (i.id) i.id, i.episode_id, i.task_type, i.project, p.request, p.attributes,
           f.text
    FROM feedback f
    JOIN interaction i ON i.id = f.interaction_id
    JOIN interaction_payload p ON p.id = i.id
    WHERE i.role = :role AND f.kind = 'correction' AND f.source IN ('human', 'user')
      AND coalesce(f.text, '') <> '' AND {is_heard("f")}
      AND (
        i.status <> 'success' OR NOT i.completed
        OR EXISTS (
            SELECT FROM feedback said
            WHERE (said.interaction_id = i.id OR said.episode_id = i.episode_id)
              AND ((said.kind = 'success' AND said.value = 0)
                   OR (said.kind = 'rating' AND said.value <= 2))
        )
      )
    ORDER BY i.id, f.created_at DESC
    """
)
