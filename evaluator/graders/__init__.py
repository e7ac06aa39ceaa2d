"""Graders by name: each says of an answer whether it does what its task asked.

`GRADERS` names them all. A further one is a file with a `grade_many` and a line there; it is loaded
when a task first asks for it.
"""

from collections.abc import Sequence
from importlib import import_module

from evaluator.graders.answers import extract_code
from evaluator.graders.grades import Grade, GradedTask, Grader
from evaluator.sandbox import Sandbox
from foundation.errors import NotFound

GRADERS: dict[str, str] = {
    "asserts": "evaluator.graders.asserts",
    "calls": "evaluator.graders.calls",
    "constraints": "evaluator.graders.constraints",
    "exact": "evaluator.graders.exact",
    "facts": "evaluator.graders.facts",
    "json_schema": "evaluator.graders.json_schema",
    "mutation": "evaluator.graders.mutation",
    "plan": "evaluator.graders.plan",
    "project": "evaluator.graders.project",
    "refusal": "evaluator.graders.refusal",
    "review": "evaluator.graders.review",
    "rubric": "evaluator.graders.rubric",
    "secure_code": "evaluator.graders.secure_code",
    "similar": "evaluator.graders.similar",
    "test_kills": "evaluator.graders.kills",
    "tool_call": "evaluator.graders.tool_call",
}
"""Name in a task -> the module whose `grade_many` grades it."""


def grader(name: str, what: str = "grader") -> Grader:
    """Return a grader by name.

    Raises:
        NotFound: no such grader; `what` begins the message.
    """
    if name not in GRADERS:
        raise NotFound(what, name, f"one of {sorted(GRADERS)}", "Correct the suite.")
    loaded: Grader = import_module(GRADERS[name]).grade_many
    return loaded


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
        groups.setdefault(task.grader, []).append(index)
    loaded = {
        name: grader(name, f"task {tasks[indexes[0]].task_id}: grader")
        for name, indexes in groups.items()
    }
    grades: dict[int, Grade] = {}
    for name, indexes in groups.items():
        some = [tasks[index] for index in indexes]
        graded = loaded[name](some, [answers[index] for index in indexes], sandbox)
        grades.update(zip(indexes, graded, strict=True))
    return [grades[index] for index in range(len(tasks))]


__all__ = ["GRADERS", "Grade", "GradedTask", "Grader", "extract_code", "grade_many", "grader"]
