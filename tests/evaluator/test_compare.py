import numpy as np
import pytest
from scipy import stats

from evaluator.comparison import MCNEMAR, SIGN_FLIP, compare_outcomes
from evaluator.paired import mcnemar_exact
from foundation.errors import BadInput


def outcomes(rates, k, rng):
    return {f"t{i}": [bool(x) for x in rng.random(k) < rate] for i, rate in enumerate(rates)}


def test_improvement_is_in_points_and_exact_at_the_threshold():
    baseline = {f"t{i}": [i < 6] for i in range(10)}
    candidate = {f"t{i}": [i < 7] for i in range(10)}
    found = compare_outcomes(baseline, candidate)
    assert found.improvement_points == 10.0  # not 9.999999999999998
    assert (found.baseline_rate, found.candidate_rate) == (0.6, 0.7)
    assert (found.n_tasks, found.tasks_better, found.tasks_worse) == (10, 1, 0)


def test_interval_is_the_paired_t_over_task_means_or_a_more_careful_one():
    rng = np.random.default_rng(1)
    rates = rng.random(80)
    baseline, candidate = outcomes(rates, 5, rng), outcomes(np.clip(rates + 0.1, 0, 1), 5, rng)
    found = compare_outcomes(baseline, candidate)
    first = [np.mean(v) for v in baseline.values()]
    second = [np.mean(v) for v in candidate.values()]
    oracle = stats.ttest_rel(second, first)
    low, high = (100 * end for end in oracle.confidence_interval(0.95))
    assert found.method == SIGN_FLIP
    assert found.p_value == pytest.approx(oracle.pvalue, abs=0.04)  # ties count as as far
    assert found.ci_low == pytest.approx(min(low, found.bootstrap_low))
    assert found.ci_high == pytest.approx(max(high, found.bootstrap_high))
    assert found.bootstrap_low == pytest.approx(low, abs=0.5)
    assert found.ci_low < found.bound_low < found.bound_high < found.ci_high
    assert (found.n_samples, found.n_clusters) == (400, 80)


def test_bootstrap_over_tasks_gives_nearly_the_same_interval():
    rng = np.random.default_rng(2)
    rates = rng.beta(2, 2, 200)
    baseline, candidate = outcomes(rates, 4, rng), outcomes(np.clip(rates + 0.08, 0, 1), 4, rng)
    found = compare_outcomes(baseline, candidate)
    difference = np.array([np.mean(candidate[t]) - np.mean(baseline[t]) for t in baseline])
    resampled = 100 * rng.choice(difference, (4000, len(difference))).mean(axis=1)
    low, high = np.quantile(resampled, [0.025, 0.975])
    assert found.ci_low == pytest.approx(low, abs=0.5)
    assert found.ci_high == pytest.approx(high, abs=0.5)


def test_one_sample_per_task_uses_the_exact_mcnemar_test():
    baseline = {f"t{i}": [i >= 12] for i in range(40)}
    candidate = {f"t{i}": [not 12 <= i < 15] for i in range(40)}
    found = compare_outcomes(baseline, candidate)
    assert found.method == MCNEMAR
    assert (found.tasks_better, found.tasks_worse) == (12, 3)
    assert found.p_value == pytest.approx(stats.binomtest(3, 15, 0.5).pvalue)


def test_mcnemar_edges():
    assert mcnemar_exact(0, 0) == 1.0
    assert mcnemar_exact(3, 3) == 1.0
    assert mcnemar_exact(6, 0) == pytest.approx(2 / 64)


def test_lost_answers_leave_pairwise_and_are_counted_apart():
    baseline = {"a": [True, None, False], "b": [None], "c": [True], "only_here": [True]}
    candidate = {"a": [True, True, None], "b": [True], "c": [False], "other": [None]}
    found = compare_outcomes(baseline, candidate)
    assert (found.n_tasks, found.n_samples) == (2, 2)
    assert (found.n_lost_baseline, found.n_lost_candidate) == (2, 1)
    assert found.improvement_points == -50.0


def test_a_lost_answer_is_not_a_failure():
    baseline = {f"t{i}": [True] for i in range(20)}
    candidate = {f"t{i}": [True if i < 10 else None] for i in range(20)}
    found = compare_outcomes(baseline, candidate)
    assert found.improvement_points == 0
    assert found.n_lost_candidate == 10


def test_nothing_in_common_is_refused():
    with pytest.raises(BadInput, match="0 in common"):
        compare_outcomes({"a": [True]}, {"b": [True]})
    with pytest.raises(BadInput, match="1 in common"):
        compare_outcomes({"a": [None]}, {"a": [True]})


def test_clusters_widen_the_interval_when_families_move_together():
    rng = np.random.default_rng(3)
    gain = np.repeat(rng.normal(0, 0.3, 12), 10)
    baseline = outcomes(np.full(120, 0.5), 5, rng)
    candidate = outcomes(np.clip(0.5 + gain, 0, 1), 5, rng)
    families = {f"t{i}": f"family-{i // 10}" for i in range(120)}
    alone = compare_outcomes(baseline, candidate)
    clustered = compare_outcomes(baseline, candidate, families)
    assert clustered.n_clusters == 12
    assert clustered.improvement_points == alone.improvement_points
    assert clustered.ci_high - clustered.ci_low > 1.5 * (alone.ci_high - alone.ci_low)


def test_families_of_one_change_nothing_but_the_name():
    rng = np.random.default_rng(4)
    baseline, candidate = (outcomes(np.full(30, r), 3, rng) for r in (0.4, 0.6))
    own = {f"t{i}": f"f{i}" for i in range(30)}
    assert compare_outcomes(baseline, candidate, own) == compare_outcomes(baseline, candidate)


def test_no_spread_is_not_certainty():
    won = compare_outcomes({"a": [False], "b": [False]}, {"a": [True], "b": [True]})
    assert won.improvement_points == 100
    assert won.ci_low < 0
    same = {f"t{i}": [True, False] for i in range(100)}
    equal = compare_outcomes(same, same)
    assert equal.ci_low < 0 < equal.ci_high
    single = compare_outcomes({"a": [False, False]}, {"a": [True, True]})
    assert (single.ci_low, single.p_value) == (-100, 1.0)


def test_one_family_proves_nothing():
    family = {f"t{i}": "all" for i in range(10)}
    found = compare_outcomes(
        {f"t{i}": [i % 2 == 0] for i in range(10)}, {f"t{i}": [True] for i in range(10)}, family
    )
    assert (found.ci_low, found.ci_high, found.p_value) == (-100, 100, 1.0)


def test_the_interval_covers_the_truth_and_the_stated_gain_is_detectable():
    rng = np.random.default_rng(5)
    covered, detected, stated = [], [], []
    for _ in range(120):
        rates = rng.beta(3, 3, 100) * 0.85
        found = compare_outcomes(outcomes(rates, 5, rng), outcomes(rates + 0.11, 5, rng))
        covered.append(found.ci_low <= 11 <= found.ci_high)
        detected.append(found.ci_low > 0)
        stated.append(found.smallest_detectable_points)
    assert 0.91 <= np.mean(covered) <= 0.99
    assert np.mean(stated) < 11
    assert np.mean(detected) > 0.8
