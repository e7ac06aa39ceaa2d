"""The figures of an evaluation beside its success rate."""

import pytest

from evaluator.answers import Answer, Subject
from evaluator.asking import Measured
from evaluator.graders import Grade
from evaluator.grading import Attempt
from evaluator.sandbox import Status
from evaluator.summary import metrics_of
from evaluator.tables import SuiteTask
from foundation.ids import new_id

PLAIN = "def add(a, b):\n    return a + b\n"
TYPED = 'def add(a: int, b: int) -> int:\n    """Return the sum."""\n    return a + b\n'


def task(grader="calls", **attributes):
    return SuiteTask(
        suite_id=new_id(),
        task_id="t",
        prompt=[],
        grader=grader,
        reference={"entry_point": "add"},
        attributes=attributes,
    )


def measured(*answers):
    """Return what was measured of (task, text, passed) each; None: the grader threw."""
    found = Measured(Subject("m", lambda prompts, seeds: iter(())))
    for number, (of, text, passed) in enumerate(answers):
        found.attempts.append(Attempt(of, number, Answer(text)))
        grade = None if passed is None else Grade.of(Status.PASS if passed else Status.WRONG, "")
        found.grades.append(grade)
        if passed is None:
            found.errors[number] = "the grader threw"
    return found


def test_style_is_the_mean_of_samples_and_not_of_distinct_texts():
    one = task()
    hints = metrics_of(measured((one, TYPED, True)))["code"]["style_type_hints"]
    without = metrics_of(measured((one, PLAIN, True)))["code"]["style_type_hints"]
    assert hints > without
    mixed = metrics_of(measured((one, TYPED, True), *[(one, PLAIN, True)] * 3))["code"]
    assert mixed["style_type_hints"] == pytest.approx((hints + 3 * without) / 4)


def test_prose_has_no_style():
    assert metrics_of(measured((task("exact"), "yes", True)))["code"] is None


def test_the_gap_between_the_halves_of_pairs():
    halves = [
        task("exact", task_type="bias", pair=pair, group=group)
        for pair, group in (("loan", "a"), ("loan", "b"), ("flat", "a"), ("flat", "b"))
    ]
    found = metrics_of(
        measured(
            (halves[0], "1", True),
            (halves[1], "2", False),
            (halves[2], "1", True),
            (halves[3], "1", True),
            (halves[3], "1", None),
            (task("exact", task_type="answer", pair="loan", group="b"), "1", True),
        )
    )
    assert found["bias_gap"] == {
        "n_pairs": 2, "gap": 0.5, "signed_gap": 0.5, "worst_pair": "loan",
    }  # fmt: skip
    assert metrics_of(measured((halves[0], "1", True)))["bias_gap"] is None
