import numpy as np
import pytest

from evaluator.noise import REPEAT, SAMPLES, noise_of_repeat, noise_of_samples


def answers(rates, k, rng):
    return {f"t{i}": [bool(x) for x in rng.random(k) < rate] for i, rate in enumerate(rates)}


@pytest.mark.parametrize("k", [2, 5])
def test_the_floor_holds_19_of_20_differences_of_a_model_from_itself(k):
    rng = np.random.default_rng(1)
    rates = rng.random(80)
    floors, apart = [], []
    for _ in range(300):
        first, second = answers(rates, k, rng), answers(rates, k, rng)
        floors.append(noise_of_samples(first).points)
        apart.append(100 * (np.mean(list(second.values())) - np.mean(list(first.values()))))
    assert np.mean(np.abs(apart) <= np.mean(floors)) == pytest.approx(0.95, abs=0.03)


def test_one_answer_a_task_measures_no_noise_without_a_repeat():
    assert noise_of_samples({"a": [True], "b": [False], "c": [None, True]}) is None
    repeated = noise_of_repeat({"a": [True], "b": [False]}, {"a": [True], "b": [True]})
    assert (repeated.method, repeated.observed_points) == (REPEAT, 50.0)


def test_a_model_that_always_answers_alike_has_no_noise():
    floor = noise_of_samples({f"t{i}": [i % 2 == 0] * 4 for i in range(20)})
    assert (floor.points, floor.observed_points, floor.method) == (0.0, 0.0, SAMPLES)
    assert floor.is_stable


def test_a_harness_whose_first_samples_do_better_is_in_doubt():
    drifting = {f"t{i}": [True, False, True, i % 9 == 0] for i in range(40)}
    assert not noise_of_samples(drifting).is_stable


def test_a_repeat_that_went_elsewhere_is_in_doubt():
    rng = np.random.default_rng(2)
    first = answers(np.full(100, 0.8), 1, rng)
    assert noise_of_repeat(first, answers(np.full(100, 0.8), 1, rng)).is_stable
    assert not noise_of_repeat(first, answers(np.full(100, 0.4), 1, rng)).is_stable
