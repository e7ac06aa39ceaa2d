import tracemalloc

import numpy as np
import pytest
from scipy import stats

from evaluator.paired import holm, interval, mcnemar_exact, sign_flip_p


def alone(n):
    return np.arange(n)


def test_many_comparisons_at_once_are_each_the_same_as_alone():
    rng = np.random.default_rng(0)
    rows = rng.choice([-0.4, 0, 0.2, 0.6], (5, 30))
    families = rng.integers(0, 10, 30)
    families = np.unique(families, return_inverse=True)[1]
    together = interval(rows, families, one_answer=False)
    for i, row in enumerate(rows):
        one = interval(row[None, :], families, one_answer=False)
        for name in ("mean", "error", "low", "high", "bound_low", "bound_high", "bootstrap_low"):
            assert getattr(one, name)[0] == pytest.approx(getattr(together, name)[i])


def test_the_bootstrap_is_scipys_bca():
    rng = np.random.default_rng(1)
    row = rng.choice([0, 0, 0, 0.2, 1.0], 60)  # skewed
    found = interval(row[None, :], alone(60), one_answer=False)
    oracle = stats.bootstrap(
        (row,), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(2)
    ).confidence_interval
    assert found.bootstrap_low[0] == pytest.approx(oracle.low, abs=0.01)
    assert found.bootstrap_high[0] == pytest.approx(oracle.high, abs=0.01)


@pytest.mark.parametrize("n", [8, 20, 60])
def test_with_one_answer_the_bound_agrees_with_mcnemars_exact_test(n):
    for better in range(n + 1):
        row = np.zeros(2 * n)
        row[:better], row[better:n] = 1, -1
        shown = interval(row[None, :], alone(2 * n), one_answer=True).bound_low[0] > 0
        one_sided = stats.binomtest(better, n, 0.5, alternative="greater").pvalue
        if shown:
            assert one_sided <= 0.05
        elif one_sided <= 0.05:  # t and bootstrap may only be more careful
            assert one_sided > 0.01


def test_sign_flips_are_exact_for_few_clusters():
    row = np.array([0.2, 0.4, -0.1, 0.6, 0.5])
    sums = [abs(s @ row) for s in np.array(np.meshgrid(*[[1, -1]] * 5)).reshape(5, -1).T]
    expected = np.mean(np.array(sums) >= abs(row.sum()) - 1e-12)
    assert sign_flip_p(row, alone(5)) == pytest.approx(expected)
    assert sign_flip_p(np.ones(10), np.zeros(10, dtype=int)) == 1.0
    assert sign_flip_p(np.zeros(10), alone(10)) == 1.0


def test_sign_flips_of_single_answers_are_mcnemars_test():
    row = np.zeros(40)
    row[:9], row[9:12] = 1, -1
    assert sign_flip_p(row, alone(40)) == pytest.approx(mcnemar_exact(9, 3))


def test_many_clusters_are_flipped_at_random_but_the_same_each_time():
    rng = np.random.default_rng(3)
    row = rng.normal(0.1, 0.4, 100)
    first = sign_flip_p(row, alone(100))
    assert first == sign_flip_p(row, alone(100))
    assert first == pytest.approx(stats.ttest_1samp(row, 0).pvalue, abs=0.02)
    assert sign_flip_p(np.ones(100), alone(100)) == pytest.approx(1e-4)


def test_two_tasks_and_one_family_prove_nothing():
    won = interval(np.ones((1, 2)), alone(2), one_answer=True)
    assert won.bound_low[0] < 0
    family = interval(np.ones((1, 9)), np.zeros(9, dtype=int), one_answer=False)
    assert (family.low[0], family.bound_low[0], family.high[0]) == (-1, -1, 1)
    assert family.smallest_detectable[0] == 1


def test_no_spread_leaves_the_bootstrap_silent_and_the_rest_careful():
    found = interval(np.full((1, 50), 0.2), alone(50), one_answer=False)
    assert np.isnan(found.bootstrap_low[0])
    assert 0 < found.bound_low[0] < 0.2


def test_families_of_unequal_size_weigh_by_their_tasks():
    row = np.array([1.0, 1.0, 1.0, 0.0, 0.0])
    found = interval(row[None, :], np.array([0, 0, 0, 1, 2]), one_answer=False)
    assert found.mean[0] == pytest.approx(0.6)
    assert found.n_clusters == 3


@pytest.mark.parametrize("sizes", [[60, 10, 10, 5, 5, 3, 3, 2, 1, 1], [40, *[1] * 60], [12] * 8])
def test_a_large_family_among_small_ones_does_not_make_the_interval_too_short(sizes):
    rng = np.random.default_rng(7)
    families = np.repeat(np.arange(len(sizes)), sizes)
    moved = rng.normal(0, 0.2, (2_000, len(sizes)))[:, families]
    found = interval(moved + rng.normal(0, 0.3, moved.shape), families, one_answer=False)
    assert ((found.low <= 0) & (found.high >= 0)).mean() > 0.93
    assert (found.bound_low > 0).mean() < 0.07
    assert found.smallest_detectable.min() > 0


def test_one_family_with_nearly_all_tasks_proves_nothing():
    row = np.concatenate([np.full(1_000, 0.4), [0.2]])
    families = np.repeat([0, 1], [1_000, 1])
    found = interval(row[None, :], families, one_answer=False)
    assert (found.low[0], found.high[0], found.smallest_detectable[0]) == (-1, 1, 1)


def test_thousands_of_tasks_are_compared_in_little_memory():
    n, mebibyte = 6_000, 2**20
    row = np.random.default_rng(5).choice([-0.2, 0.0, 0.4], n)
    tracemalloc.start()
    found = interval(row[None, :], alone(n), one_answer=False)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 160 * mebibyte  # a dense matrix of tasks by tasks would take 275
    assert found.bound_low[0] > 0


def test_holm():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize("samples", [1, 5])
def test_equal_models_seldom_show_a_gain(samples):
    rng = np.random.default_rng(4)
    rates = rng.beta(0.6, 0.4, (3000, 60))
    sides = rng.binomial(samples, np.stack([rates, rates])) / samples
    found = interval(sides[1] - sides[0], alone(60), samples == 1)
    assert (found.bound_low > 0).mean() <= 0.062
    assert ((found.low <= 0) & (found.high >= 0)).mean() >= 0.94
