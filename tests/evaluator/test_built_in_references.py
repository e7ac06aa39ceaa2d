"""Every built-in suite: its reference answers pass its own graders, and other answers do not."""

import pytest

from evaluator.graders import GradedTask, grade_many
from evaluator.sandbox import Sandbox, SandboxUnavailable
from evaluator.suites.built_in import BUILT_IN, reference_answer
from foundation.errors import NotFound

SAMPLED = 4
WRONG = "I do not know."


@pytest.fixture(scope="module")
def sandbox():
    try:
        with Sandbox(workers=2) as made:
            yield made
    except SandboxUnavailable as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_references_pass_and_nothing_else_does(sandbox, name):
    _, make = BUILT_IN[name]
    tasks = make()
    some = tasks[:: max(1, len(tasks) // SAMPLED)]
    graded = [GradedTask(task.task_id, task.prompt, task.grader, task.reference) for task in some]
    right = grade_many(graded, [reference_answer(name, task) for task in some], sandbox)
    assert [
        (task.task_id, grade.detail)
        for task, grade in zip(some, right, strict=True)
        if not grade.passed
    ] == []
    for answer in ("", WRONG):
        wrong = grade_many(graded, [answer] * len(some), sandbox)
        assert [
            task.task_id for task, grade in zip(some, wrong, strict=True) if grade.passed
        ] == [], answer


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_tasks_can_be_sliced(name):
    role, make = BUILT_IN[name]
    assert role
    for task in make():
        assert {"task_type", "difficulty", "domain", "family", "licence", "origin"} <= set(
            task.attributes
        )


def test_an_unknown_suite_is_named():
    with pytest.raises(NotFound, match="coder-easy"):
        reference_answer("coder-impossible", BUILT_IN["coder-easy"][1]()[0])
