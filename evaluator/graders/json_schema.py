"""Answers in JSON: one value, alone or in a fence, that fits a schema (Draft 2020-12).

Reference keys:
    schema: the JSON schema; references only within itself.
    expected: optional value that the answer must be equal to besides; 1 equals 1.0, not true.

Metrics: `parsed` and `valid`, 0 or 1.
"""

from collections.abc import Sequence

from evaluator.graders.grades import LOST, Grade, GradedTask
from evaluator.graders.json_values import NotJson, json_of, same_json
from evaluator.graders.schemas import in_words, validator, violations
from evaluator.sandbox import Sandbox, Status


def grade_many(
    tasks: Sequence[GradedTask], answers: Sequence[str], sandbox: Sandbox
) -> list[Grade]:
    """Grades JSON answers; the score is 1 or 0. The sandbox is not used.

    Raises:
        BadInput: a task has no valid schema.
    """
    return [_grade(task, answer) for task, answer in zip(tasks, answers, strict=True)]


def _grade(task: GradedTask, answer: str) -> Grade:
    what = f"task {task.task_id}: reference['schema']"
    schema = validator(what, task.reference.get("schema"))
    if not answer.strip():
        return LOST
    try:
        value = json_of(answer)
    except NotJson as error:
        return Grade.of(Status.WRONG, f"no JSON: {error}", metrics={"parsed": 0, "valid": 0})
    broken = violations(schema, what, value)
    if broken:
        return Grade.of(Status.WRONG, in_words(broken), metrics={"parsed": 1, "valid": 0})
    measured = {"parsed": 1, "valid": 1}
    if "expected" in task.reference and not same_json(value, task.reference["expected"]):
        expected = task.reference["expected"]
        return Grade.of(Status.WRONG, f"fits, but is not {expected!r}", metrics=measured)
    return Grade.of(Status.PASS, "", 1.0, measured)
