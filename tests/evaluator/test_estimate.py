import numpy as np
import pytest
from scipy import stats

from evaluator.estimate import success_rate
from foundation.intervals import wilson


def test_wilson_known_value():
    assert wilson(0.95, 100) == pytest.approx((0.888, 0.978), abs=5e-4)
    assert wilson(0.0, 10)[0] == 0
    assert wilson(1.0, 10)[1] == 1
    oracle = stats.binomtest(37, 120).proportion_ci(method="wilson")
    assert wilson(37 / 120, 120) == pytest.approx((oracle.low, oracle.high))


def test_one_answer_per_task_is_a_wilson_interval():
    found = success_rate([[i < 95] for i in range(100)])
    assert found.rate == pytest.approx(0.95)
    assert (found.low, found.high) == pytest.approx(wilson(0.95, 100))


def test_several_answers_are_clustered_by_task():
    rng = np.random.default_rng(1)
    tasks = [[bool(x) for x in rng.random(5) < p] for p in rng.random(60)]
    found = success_rate(tasks)
    means = [np.mean(t) for t in tasks]
    low, high = stats.t.interval(0.95, 59, np.mean(means), stats.sem(means))
    assert (found.rate, found.low, found.high) == pytest.approx((np.mean(means), low, high))
    assert (found.n_tasks, found.n_samples) == (60, 300)


def test_lost_answers_are_counted_apart():
    found = success_rate([[True, None], [None, None], [False, True]])
    assert (found.n_tasks, found.n_samples, found.n_lost) == (2, 3, 3)
    assert found.rate == pytest.approx(0.75)


def test_nothing_answered_has_no_rate():
    assert success_rate([]).rate is None
    assert success_rate([[None]]) == success_rate([[None]])
    assert success_rate([[None]]).n_lost == 1


def test_no_spread_is_not_certainty():
    found = success_rate([[True, True]] * 10)
    assert found.high == 1
    assert found.low is not None
    assert found.low < 0.75


def test_tasks_of_one_family_are_one_cluster():
    rng = np.random.default_rng(4)
    names = [f"family {number // 12}" for number in range(96)]
    covered = 0
    for _ in range(400):
        rates = np.repeat(rng.beta(1, 1, 8), 12)  # all of a family are as hard
        found = success_rate((rng.random((96, 3)) < rates[:, None]).tolist(), names)
        covered += found.low <= 0.5 <= found.high
    assert 0.92 < covered / 400 < 0.98  # over tasks alone: 0.5


def test_families_of_one_task_change_nothing_and_one_family_says_nothing():
    tasks = [[True, False, True], [True] * 3, [False] * 3, [True, True, False]]
    assert success_rate(tasks, ["a", "b", "c", "d"]) == success_rate(tasks)
    alone = success_rate(tasks, ["a"] * 4)
    assert (alone.low, alone.high) == (0, 1)
    agree = success_rate([[True]] * 10, ["a"] * 5 + ["b"] * 5)
    assert (agree.low, agree.high) == wilson(1.0, 2)
    assert success_rate([[None], *tasks], ["x", "a", "b", "c", "d"]).n_tasks == 4
