import json
import math

import numpy as np
import pytest

import router.guard
from router.stats import RateWatch, is_shared
from router.stats.breaking import together

PROOF = math.log(20)


def requests_until_alarm(watch, pattern):
    for n in range(1, 2000):
        watch = watch.after(pattern(n))
        if float(watch.log_e) >= PROOF:
            return n
    raise AssertionError("no alarm")


def test_nothing_seen_is_no_evidence():
    assert float(RateWatch.fresh(0.02).log_e) == pytest.approx(0)


def test_a_version_that_fails_every_call_is_seen_at_once():
    assert requests_until_alarm(RateWatch.fresh(0.02), lambda n: True) == 2


def test_a_long_healthy_past_does_not_hide_a_break():
    past = RateWatch.fresh(0.02).after_all(n % 100 == 0 for n in range(5_000))
    assert requests_until_alarm(past, lambda n: True) <= 6
    assert requests_until_alarm(past, lambda n: n % 5 == 0) <= 100


def test_the_state_survives_being_stored():
    watch = RateWatch.fresh(0.05).after_all([True, False, False, True])
    stored = RateWatch.from_json(json.loads(json.dumps(watch.as_json())))
    assert stored.n == 4
    assert float(stored.log_e) == pytest.approx(float(watch.log_e))
    assert float(stored.after(True).log_e) == pytest.approx(float(watch.after(True).log_e))


def test_it_is_a_supermartingale_at_the_limit():
    for past in ([], [True], [False] * 30, [True, False] * 5):
        watch = RateWatch.fresh(0.1).after_all(past)
        bad, good = (math.exp(float(watch.after(event).log_e)) for event in (True, False))
        assert 0.1 * bad + 0.9 * good <= math.exp(float(watch.log_e)) * (1 + 1e-9)


def test_many_lives_are_watched_alike():
    events = np.random.default_rng(1).random((50, 3)) < 0.2
    together = RateWatch.fresh(0.1, (3,))
    for row in events:
        together = together.after(row)
    alone = [float(RateWatch.fresh(0.1).after_all(events[:, i]).log_e) for i in range(3)]
    assert together.log_e == pytest.approx(alone)


@pytest.mark.parametrize(
    ("mine", "beside", "shared"),
    [
        ((4, 30), (5, 40), True),
        ((4, 30), (1, 20), True),
        ((4, 30), (0, 40), False),
        ((4, 30), (1, 100), False),
        ((1, 60), (0, 60), True),
        ((9, 10), (0, 0), False),
        ((0, 0), (1, 1), False),
    ],
    ids=str,
)
def test_what_the_other_version_suffers_too_is_shared(mine, beside, shared):
    assert is_shared(*mine, *beside) is shared


def test_the_guard_tells_the_weights_of_both_kinds_of_evidence():
    from_start = math.exp(together(0.0, -math.inf))
    for weight in (from_start, 1 - from_start):
        assert f"({weight:.2f})" in router.guard.__doc__
