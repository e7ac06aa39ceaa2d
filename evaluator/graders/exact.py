"""Reviewer and other short answers: equal to the reference after normalising.

Reference keys:
    answer: the right text, or a list of texts of which any is right.
    last_line: whether only the last line of an answer counts, after its reasoning; default false.
"""

import re
from collections.abc import Sequence

from evaluator.graders.grades import LOST, Grade, GradedTask
from evaluator.sandbox import Sandbox, Status
from foundation.errors import BadInput


def grade_many(
    tasks: Sequence[GradedTask], answers: Sequence[str], sandbox: Sandbox
) -> list[Grade]:
    """Grades short answers; the score is 1 or 0. The sandbox is not used.

    Raises:
        BadInput: a task has no reference answer.
    """
    return [_grade(task, answer) for task, answer in zip(tasks, answers, strict=True)]


def normalise(text: str) -> str:
    """Lower case, single spaces, without a fence, outer quotes and a final full stop."""
    text = re.sub(r"^```\w*\n(.*?)\n?```$", r"\1", text.strip(), flags=re.S)
    return re.sub(r"\s+", " ", text).strip(" \t\"'`").removesuffix(".").casefold().strip()


def _grade(task: GradedTask, answer: str) -> Grade:
    right = task.reference.get("answer")
    accepted = [right] if isinstance(right, str) else list(right or ())
    if not accepted:
        raise BadInput(
            f"task {task.task_id}: reference['answer']",
            right,
            "a text or a list of texts",
            "Give it in the suite.",
        )
    if not answer.strip():
        return LOST
    said = answer.strip().splitlines()[-1] if task.reference.get("last_line") else answer
    if normalise(said) in map(normalise, accepted):
        return Grade.of(Status.PASS, "", 1.0)
    return Grade.of(Status.WRONG, f"got {said.strip()[:100]!r}, expected {accepted[0]!r}")
