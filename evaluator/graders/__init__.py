"""Graders by name: each says of an answer whether it does what its task asked.

`calls` coder, `test_kills` tester, `exact` reviewer, `asserts` HumanEval and MBPP. A further one is
a file with a `grade_many` and a line in `GRADERS`.
"""

from collections.abc import Sequence

from evaluator.graders import asserts, calls, exact, kills
from evaluator.graders.answers import extract_code
from evaluator.graders.grades import Grade, GradedTask, Grader
from evaluator.sandbox import Sandbox
from foundation.errors import NotFound

GRADERS: dict[str, Grader] = {
    "asserts": asserts.grade_many,
    "calls": calls.grade_many,
    "exact": exact.grade_many,
    "test_kills": kills.grade_many,
}


def grade_many(
    tasks: Sequence[GradedTask], answers: Sequence[str], sandbox: Sandbox
) -> list[Grade]:
    """Grades answers of any mix of graders, one per task, in order.

    A task may occur several times with different answers; its reference is run once.

    Raises:
        NotFound: a task names an unknown grader.
        BadInput: a task lacks what its grader needs.
    """
    groups: dict[str, list[int]] = {}
    for index, task in enumerate(tasks):
        if task.grader not in GRADERS:
            raise NotFound(
                f"task {task.task_id}: grader",
                task.grader,
                f"one of {sorted(GRADERS)}",
                "Correct the suite.",
            )
        groups.setdefault(task.grader, []).append(index)
    grades: dict[int, Grade] = {}
    for name, indexes in groups.items():
        some = [tasks[index] for index in indexes]
        graded = GRADERS[name](some, [answers[index] for index in indexes], sandbox)
        grades.update(zip(indexes, graded, strict=True))
    return [grades[index] for index in range(len(tasks))]


__all__ = ["GRADERS", "Grade", "GradedTask", "Grader", "extract_code", "grade_many"]
