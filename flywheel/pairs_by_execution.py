"""Preference pairs by execution: of several answers to a prompt, what passes over what fails.

Curation draws the prompts and keeps the pairs, the evaluator grades. A prompt is answered only if
its example has something to grade by (`curation.eval_sets`: the caller's own grader and reference,
or a proven answer), and that runs.
"""

import logging
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlmodel import Session

from curation.eval_sets import EvalTask, task_of
from curation.preferences.generate import Ranking, generate_pairs
from curation.preferences.rank import EXECUTION, Asked
from curation.recipe import CurationRecipe
from evaluator.graders import Grade, GradedTask
from evaluator.grading import grade_each
from evaluator.sandbox import Sandbox
from foundation.database import session_scope
from foundation.errors import BadInput
from foundation.runs import RunHandle, job

JOB = "flywheel.pairs_by_execution"

log = logging.getLogger(__name__)


@job(JOB)
def make_pairs(
    run: RunHandle, *, role: str, recipe: dict[str, Any], model: str, n_prompts: int, n_answers: int
) -> dict[str, Any]:
    """Have a model answer training prompts several times, and pair what passes with what fails."""
    rules = CurationRecipe.from_json(recipe)
    with Sandbox() as sandbox:
        by_execution = Execution(role, rules, sandbox)
        return generate_pairs(
            role,
            rules,
            model,
            n_prompts=n_prompts,
            n_answers=n_answers,
            ranking=Ranking(EXECUTION, by_execution.rank, by_execution.can),
            progress=run.progress,
            check=run.check,
        )


class Execution:
    """Ranks answers by what they do: 1 for one that passes, 0 for one that does not."""

    def __init__(self, role: str, recipe: CurationRecipe, sandbox: Sandbox) -> None:
        self._role, self._recipe, self._sandbox = role, recipe, sandbox
        self._tasks: dict[UUID, GradedTask | None] = {}

    def can(self, asked: Asked) -> bool:
        """Whether answers to a prompt can be graded: there is a reference, and it runs."""
        return self._task(asked) is not None

    def rank(self, asked: Asked, answers: Sequence[str]) -> list[float | None]:
        """Return 1 or 0 for each answer; None where the grader could not tell."""
        task = self._task(asked)
        if task is None:
            return [None] * len(answers)
        grades = grade_each([task] * len(answers), answers, self._sandbox)
        return [float(grade.passed) if isinstance(grade, Grade) else None for grade in grades]

    def _task(self, asked: Asked) -> GradedTask | None:
        if asked.interaction_id not in self._tasks:
            with session_scope() as session:
                found = self._found(session, asked)
            self._tasks[asked.interaction_id] = found if found and self._runs(found) else None
        return self._tasks[asked.interaction_id]

    def _found(self, session: Session, asked: Asked) -> GradedTask | None:
        found: EvalTask | None = task_of(session, self._role, self._recipe, asked.interaction_id)
        if found is None:
            return None
        return GradedTask(found.task_id, found.prompt, found.grader, found.reference)

    def _runs(self, task: GradedTask) -> bool:
        """Whether a grader takes the task: it is given an empty answer first."""
        try:
            grade_each([task], [""], self._sandbox)
        except BadInput as error:  # an unknown grader too
            log.warning("task %s: no answer can be graded: %s", task.task_id, error)
            return False
        return True
