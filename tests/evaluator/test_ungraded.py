"""No model wins a comparison by answers that make graders throw."""

import pytest

from evaluator.comparison import compare_outcomes
from evaluator.ungraded import UNGRADED, count_ungraded

YES, NO, LOST = True, False, None


def test_an_ungraded_answer_is_a_failure_of_its_side():
    found = count_ungraded({"a": [YES, NO], "b": [YES]}, {"a": [YES, UNGRADED], "b": [UNGRADED]})
    assert found.candidate == {"a": [YES, NO], "b": [NO]}
    assert (found.n_baseline, found.n_candidate, found.n_left_out) == (0, 2, 0)
    assert found.graded_points == 0
    mirrored = count_ungraded({"a": [UNGRADED]}, {"a": [YES]})
    assert (mirrored.baseline, mirrored.n_baseline) == ({"a": [NO]}, 1)


def test_a_model_that_makes_graders_throw_where_it_would_fail_gains_nothing():
    honest = {f"t{i}": [i < 5] for i in range(10)}
    sly = {task: [YES] if passed[0] else [UNGRADED] for task, passed in honest.items()}
    counted = count_ungraded(honest, sly)
    found = compare_outcomes(counted.baseline, counted.candidate)
    assert (found.n_tasks, found.improvement_points) == (10, 0)


def test_a_task_on_which_the_grader_threw_at_both_sides_is_at_fault():
    found = count_ungraded(
        {"a": [YES, UNGRADED, YES], "b": [YES]}, {"a": [UNGRADED, YES, NO], "b": [YES]}
    )
    assert found.baseline["a"] == [YES, None, YES]
    assert found.candidate["a"] == [None, YES, NO]
    assert (found.n_left_out, found.graded_points) == (2, None)


def test_what_a_gain_would_be_without_them():
    baseline = {"a": [UNGRADED], "b": [YES], "c": [NO, NO]}
    found = count_ungraded(baseline, {"a": [YES], "b": [YES], "c": [YES, NO]})
    assert found.graded_points == pytest.approx(25), "a is left out, b is 0 and c one half"
    assert count_ungraded({"a": [UNGRADED]}, {"a": [YES]}).graded_points == 0


def test_lost_answers_and_tasks_of_one_side_count_for_nothing():
    found = count_ungraded({"a": [LOST], "b": [UNGRADED]}, {"a": [YES], "c": [UNGRADED]})
    assert (found.baseline["a"], found.n_baseline, found.n_candidate) == ([LOST], 0, 0)
    assert found.graded_points is None
