from dataclasses import asdict

import numpy as np
import pytest

from evaluator.forgetting import (
    OK,
    QUARANTINE,
    UNDECIDED,
    ForgettingInputs,
    ForgettingThresholds,
    forgetting_rule,
    share_kept,
)
from foundation.errors import BadInput

JUST = 1e-9


def outcome(low, high, max_drop=0.10):
    kept = None if low is None else (low + high) / 2
    seen = ForgettingInputs(0.8, 0.7, kept, low, high, 100)
    return forgetting_rule(asdict(seen), asdict(ForgettingThresholds(max_drop))).outcome


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.90, 1.0, OK),
        (0.90 - JUST, 1.0, UNDECIDED),
        (0.5, 0.90, UNDECIDED),
        (0.5, 0.90 - JUST, QUARANTINE),
        (None, None, UNDECIDED),
    ],
)
def test_the_limit_is_ten_percent_of_the_baselines_value(low, high, expected):
    assert outcome(low, high) == expected


def test_the_limit_is_configurable_and_checked():
    assert outcome(0.8, 0.85, max_drop=0.25) == OK
    for wrong in (0.0, 1.0, -0.1):
        with pytest.raises(BadInput, match="max_drop"):
            ForgettingThresholds(wrong)


def test_the_share_kept_covers_the_truth():
    rng = np.random.default_rng(1)
    low_misses = high_misses = 0
    for _ in range(600):
        rates = rng.beta(2, 1, 80)
        baseline, candidate = (rng.binomial(4, rates * keep) / 4 for keep in (1.0, 0.9))
        kept, low, high = share_kept(baseline, candidate, np.arange(80))
        low_misses += low > 0.9
        high_misses += high < 0.9
        assert low <= kept <= high
    assert 10 <= low_misses <= 55
    assert 10 <= high_misses <= 55


def test_what_cannot_be_measured_says_so():
    nothing = np.zeros(10)
    assert share_kept(nothing, np.ones(10), np.arange(10)) == (None, None, None)
    one_family = np.zeros(10, dtype=int)
    assert share_kept(np.ones(10), np.ones(10), one_family) == (1.0, None, None)
    rare = np.array([1.0] + [0.0] * 9)  # the baseline's own rate is not told from 0
    assert share_kept(rare, rare[::-1].copy(), np.arange(10))[1:] == (None, None)


def test_equal_answers_are_no_certainty_on_few_tasks():
    kept, low, _ = share_kept(np.ones(5), np.ones(5), np.arange(5))
    assert kept == 1.0
    assert low < 0.9
    assert share_kept(np.ones(200), np.ones(200), np.arange(200))[1] > 0.9


def test_few_tasks_lost_as_a_whole_are_not_said_to_be_tolerated():
    rng = np.random.default_rng(2)
    wrong = 0
    for _ in range(1_000):
        candidate = (rng.random(60) < 0.9).astype(float)
        _, low, _ = share_kept(np.ones(60), candidate, np.arange(60))
        wrong += low is not None and low > 0.9
    assert wrong <= 80  # with the measured spread alone: 136
