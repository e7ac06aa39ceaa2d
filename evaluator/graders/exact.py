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

_BOLD = re.compile(r"^\*\*((?:(?!\*\*).)+)\*\*(?=\.?$)")
"""One bold stretch that is the whole text, but for a full stop."""


def grade_many(
    tasks: Sequence[GradedTask], answers: Sequence[str], sandbox: Sandbox
) -> list[Grade]:
    """Grades short answers; the score is 1 or 0. The sandbox is not used.

    Raises:
        BadInput: a task has no reference answer.
    """
    return [_grade(task, answer) for task, answer in zip(tasks, answers, strict=True)]


def normalise(text: str) -> str:
    """Lower case and single spaces, without what is put around an answer.

    That is a fence, and in any order outer quotes, the marks of Markdown's bold and a final full
    stop: `**"x".**` is `x`. What would be nothing without them stays as it is.
    """
    text = re.sub(r"^```\w*\n(.*?)\n?```$", r"\1", text.strip(), flags=re.S)
    text = re.sub(r"\s+", " ", text).strip()
    while (inner := _unwrapped(text)) and inner != text:
        text = inner
    return text.casefold()


def _unwrapped(text: str) -> str:
    text = text.strip(" \"'`")
    text = _BOLD.sub(r"\1", text)
    return text if text.endswith("..") else text.removesuffix(".").rstrip()


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
