import random

from evaluator.speed import ratio_of


def test_a_noisy_machine_does_not_make_a_model_fast():
    rng = random.Random(1)
    wrong = 0
    for _ in range(400):
        baseline = [100 * rng.lognormvariate(0, 0.8) for _ in range(40)]
        candidate = [100 * rng.lognormvariate(0, 0.8) for _ in range(40)]
        found = ratio_of(baseline, candidate)
        wrong += found.low > 1
    assert wrong / 400 < 0.05


def test_a_real_difference_is_seen():
    rng = random.Random(2)
    baseline = [100 * rng.lognormvariate(0, 0.2) for _ in range(40)]
    found = ratio_of(baseline, [2 * rate for rate in baseline])
    assert (found.low, found.estimate, found.high) == (2.0, 2.0, 2.0)


def test_few_batches_have_no_interval_and_none_no_ratio():
    assert ratio_of([1.0, 2.0], [2.0, 4.0]).low is None
    assert ratio_of([None, 0.0], [1.0, 2.0]) is None
    assert ratio_of([], []) is None


def test_batches_that_were_not_counted_are_left_out_in_pairs():
    assert ratio_of([None, 2.0], [9.0, 3.0]).estimate == 1.5
