import numpy as np
import pytest
from assigned_units import Unit
from scipy import stats as scipy_stats

from router.stats import analyse_units, too_few_units, unit_look
from router.stats.ratio import ratio_difference, ratio_of
from router.tables import CONTROL, TREATMENT


def agents(rng, per_arm, gain=0.0, n_tasks=20):
    units = []
    for arm, mean in ((TREATMENT, 0.7 + gain), (CONTROL, 0.7)):
        for i in range(per_arm):
            rate = rng.beta(mean * 9, (1 - mean) * 9)
            units.append(
                Unit(i, arm, n_tasks=n_tasks, n_successes=int(rng.binomial(n_tasks, rate)))
            )
    return units


class TestRatio:
    def test_equal_counts_are_the_mean_and_its_error(self):
        amounts = np.array([3.0, 5.0, 4.0, 8.0])
        found = ratio_of(amounts, np.full(4, 2.0))
        assert found.value == pytest.approx(amounts.mean() / 2)
        assert found.variance == pytest.approx((amounts / 2).var(ddof=1) / 4)

    def test_it_is_a_ratio_of_totals_not_a_mean_of_ratios(self):
        assert ratio_of([1, 90], [1, 100]).value == pytest.approx(91 / 101)

    def test_its_variance_is_that_of_repeated_draws(self):
        rng = np.random.default_rng(1)
        values, variances = [], []
        for _ in range(2000):
            n = rng.poisson(5, 60) + 1
            x = rng.binomial(n, rng.beta(6, 3, 60))
            found = ratio_of(x, n)
            values.append(found.value)
            variances.append(found.variance)
        assert np.mean(variances) == pytest.approx(np.var(values), rel=0.1)

    @pytest.mark.parametrize(("x", "n"), [([1], [2]), ([], []), ([0, 0], [0, 0])], ids=str)
    def test_none_where_nothing_can_be_said(self, x, n):
        assert ratio_of(x, n) is None

    def test_the_difference_is_welchs_where_counts_are_equal(self):
        rng = np.random.default_rng(2)
        a, b = rng.normal(5, 1, 12), rng.normal(4, 3, 20)
        found = ratio_difference(ratio_of(a, np.ones(12)), ratio_of(b, np.ones(20)))
        expected = scipy_stats.ttest_ind(a, b, equal_var=False)
        assert found.t == pytest.approx(expected.statistic)
        assert found.freedom == pytest.approx(expected.df)


class TestAnalysis:
    @pytest.mark.parametrize(("treated", "control"), [(19, 40), (40, 19), (0, 0)], ids=str)
    def test_few_units_are_refused_with_the_reason(self, treated, control):
        reason = too_few_units(treated, control)
        assert f"{treated} units in treatment and {control} in control" in reason
        assert "at least 20" in reason

    def test_twenty_are_enough(self):
        assert too_few_units(20, 20) is None

    def test_units_without_tasks_do_not_count(self):
        units = agents(np.random.default_rng(3), 20)
        assert not isinstance(analyse_units(units), str)
        idle = [Unit(99, TREATMENT), *units[1:]]
        assert "19 units in treatment" in analyse_units(idle)
        assert "19 units in treatment" in unit_look(idle, 1, 5)

    def test_a_gain_is_found_and_the_interval_is_wider_than_that_of_tasks(self):
        found = analyse_units(agents(np.random.default_rng(4), 200, gain=0.15))
        assert found.low < found.difference < found.high
        assert found.p_value < 0.001
        assert found.low > 0
        alone = np.sqrt(0.7 * 0.3 / 4000 + 0.85 * 0.15 / 4000)
        assert found.standard_error > 1.2 * alone

    def test_a_look_is_careful_at_first_and_more_so_with_few_units(self):
        units = agents(np.random.default_rng(5), 30)
        early, late = unit_look(units, 1, 5), unit_look(units, 5, 5)
        assert early.bound > late.bound > 1.645
        assert early.z == late.z
        assert (late.n, late.fraction) == (60, 1.0)

    def test_the_same_everywhere_shows_nothing(self):
        units = [
            Unit(i, arm, n_tasks=5, n_successes=5)
            for i in range(25)
            for arm in ("treatment", "control")
        ]
        found = analyse_units(units)
        assert (found.difference, found.p_value) == (0, 0.5)
        assert not unit_look(units, 5, 5).shown
