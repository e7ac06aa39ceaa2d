"""Tasks of a stored suite as something to learn from: rewards, validation, and what is refused."""

from dataclasses import replace

import pytest

import evaluator.rewards
from evaluator.rewards import is_validation, rewards_of
from evaluator.sandbox import Sandbox
from evaluator.suites import Task, add_suite, tasks_of
from foundation.errors import BadInput, Conflict, NotFound
from trainer.recipe import PRESETS
from trainer.rewards import graded_tasks
from trainer.tasks import require_trainable

DOUBLE = {
    "entry_point": "double",
    "inputs": [[1], [2], [5]],
    "code": "def double(x):\n    return 2 * x",
}


def task(number, **attributes):
    prompt = [{"role": "user", "content": f"Write double(x), which doubles. Take {number}."}]
    return Task(f"double-{number}", prompt, "calls", DOUBLE, attributes)


@pytest.fixture
def suite(session):
    stored = add_suite(
        session, "doubles", "coder", [task(i, family=f"f{i // 2}") for i in range(120)]
    )
    session.commit()
    return stored


def test_rewards_are_what_passes(suite, session):
    with graded_tasks("doubles") as found:
        rows = [found.rows[0]] * 4
        answers = [
            "def double(x):\n    return x + x",
            "def double(x):\n    return 4 if x == 2 else 0",
            "",
            "I had rather not.",
        ]
        assert found.reward(rows, answers) == [1.0, 0.0, 0.0, 0.0]
        assert found.reward([], []) == []


def test_a_validation_task_shares_no_family_with_a_learned_one(suite, session):
    families = {row.task_id: row.attributes["family"] for row in tasks_of(session, suite)}
    with graded_tasks("doubles@1") as found:
        learned = {families[row["task_id"]] for row in found.rows}
        held_out = {families[row["task_id"]] for row in found.validation}
    assert held_out
    assert learned
    assert not learned & held_out
    assert len(found.rows) + len(found.validation) == 120
    assert {tuple(row) for row in found.rows} == {("prompt", "task_id")}


def test_the_split_follows_the_family_or_else_the_id(suite, session):
    by_family = [is_validation(row) for row in tasks_of(session, suite)]
    assert by_family[0::2] == by_family[1::2]
    alone = add_suite(session, "alone", "coder", [task(i) for i in range(300)])
    share = sum(map(is_validation, tasks_of(session, alone))) / 300
    assert 0.05 < share < 0.16


def test_the_sandbox_is_closed_at_the_end(suite):
    with graded_tasks("doubles") as found:
        rows = found.rows[:1]
    assert found.reward(rows, ["def double(x):\n    return x"]) == [None]


def test_a_grader_that_throws_says_nothing_of_that_answer_alone(suite, session, monkeypatch):
    import evaluator.grading

    honest = evaluator.grading.grade_many

    def fragile(tasks, answers, sandbox):
        if "boom" in answers:
            raise ValueError("boom")
        return honest(tasks, answers, sandbox)

    monkeypatch.setattr(evaluator.grading, "grade_many", fragile)
    graded = {row.task_id: evaluator.grading.graded_task(row) for row in tasks_of(session, suite)}
    rows = [{"task_id": "double-0"}] * 3
    good = "def double(x):\n    return 2 * x"
    with Sandbox(workers=1) as sandbox:
        assert rewards_of(graded, sandbox)(rows, [good, "boom", good]) == [1.0, None, 1.0]


def test_equal_answers_to_a_task_are_executed_once(suite, session, monkeypatch):

    counted = []
    honest = evaluator.rewards.grade_each

    def counting(tasks, answers, sandbox):
        counted.append(len(answers))
        return honest(tasks, answers, sandbox)

    monkeypatch.setattr(evaluator.rewards, "grade_each", counting)
    with graded_tasks("doubles") as found:
        first, second = found.rows[:2]
        good = "def double(x):\n    return 2 * x"
        assert found.reward([first, first, second], [good] * 3) == [1.0] * 3
    assert counted == [2]


def test_what_cannot_be_learned_from(session, database):
    add_suite(session, "draft", "coder", [task(0)], is_draft=True)
    held_out = next(i for i in range(1000) if _is_held_out(f"double-{i}"))
    add_suite(session, "tiny", "coder", [task(held_out)])
    broken = Task("t", [{"role": "user", "content": "?"}], "calls", {"entry_point": "f"})
    learned = next(i for i in range(1000) if not _is_held_out(f"double-{i}"))
    add_suite(session, "broken", "coder", [task(learned), broken])
    session.commit()
    for name, error, match in (
        ("draft", Conflict, "suite freeze draft"),
        ("tiny", BadInput, "kept for validation"),
        ("broken", BadInput, "reference"),
        ("nowhere", NotFound, "nowhere"),
    ):
        with pytest.raises(error, match=match), graded_tasks(name):
            pass


def test_a_suite_that_is_not_there_is_refused_before_anything_is_ordered(session):
    recipe = replace(PRESETS["demo"], method="grpo")
    with pytest.raises(NotFound, match="nowhere"):
        require_trainable(session, "coder", None, "/base", recipe, suite="nowhere")
    with pytest.raises(BadInput, match="reads datasets"):
        require_trainable(session, "coder", None, "/base", PRESETS["demo"], suite="nowhere")
    add_suite(session, "draft", "coder", [task(0)], is_draft=True)
    with pytest.raises(Conflict, match="suite freeze draft"):
        require_trainable(session, "coder", None, "/base", recipe, suite="draft")


def _is_held_out(task_id):
    from evaluator.tables import SuiteTask

    row = SuiteTask(suite_id=None, task_id=task_id, prompt=[], grader="calls", reference={})
    return is_validation(row)


def test_the_module_loads_no_torch():
    import os
    import subprocess
    import sys

    found = subprocess.run(
        [sys.executable, "-c", "import sys, evaluator.rewards; print('torch' in sys.modules)"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert found.stdout.strip() == "False", found.stderr
