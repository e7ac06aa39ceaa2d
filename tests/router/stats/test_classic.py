from datetime import timedelta

import numpy as np
import pytest
from assigned_units import START, Unit
from scipy import stats as scipy_stats

from router.stats import classic_record
from router.stats.classic import Sample, welch
from router.tables import CONTROL, TREATMENT


def test_welch_is_scipys():
    rng = np.random.default_rng(1)
    a, b = rng.random(40) < 0.8, rng.random(70) < 0.5
    found = welch(Sample.of_counts(int(a.sum()), 40), Sample.of_counts(int(b.sum()), 70))
    expected = scipy_stats.ttest_ind(a, b, equal_var=False)
    assert (found.t, found.p_value) == pytest.approx((expected.statistic, expected.pvalue))
    assert found.freedom == pytest.approx(expected.df)


@pytest.mark.parametrize(
    ("a", "b"),
    [(Sample(1, 1.0, 0.0), Sample(9, 0.5, 0.2)), (Sample(9, 1.0, 0.0), Sample(9, 1.0, 0.0))],
    ids=["one", "no variance"],
)
def test_no_test_without_a_spread(a, b):
    assert welch(a, b) is None


def units_of_days(days):
    """Units of each day: (treatment successes, control successes) of 20 each."""
    return [
        Unit(0, arm, i < good, outcome_at=START + timedelta(days=day, minutes=i))
        for day, counts in enumerate(days)
        for arm, good in zip((TREATMENT, CONTROL), counts, strict=True)
        for i in range(20)
    ]


def test_who_peeks_stops_at_the_first_small_p():
    record = classic_record(units_of_days([(19, 10), (10, 16), (10, 14)]))
    assert (record.looks, record.first_significant, record.first_winner) == (3, 1, TREATMENT)
    assert record.significant_looks == 1
    assert record.test.p_value > 0.05
    assert "called treatment the winner on day 1" in record.in_words


def test_a_calm_course_says_so():
    record = classic_record(units_of_days([(15, 15), (16, 15)]))
    assert record.first_significant is None
    assert "never below 0.05" in record.in_words


def test_no_outcomes_are_no_test():
    assert classic_record([]).in_words == "Too few outcomes for a t-test."
    assert classic_record([Unit(1, TREATMENT, True, outcome_at=START)]).test is None
