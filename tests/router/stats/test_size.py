import numpy as np
import pytest

from evaluator.evidence import log_e_pairs
from foundation.errors import BadInput
from router.stats import detectable_effect, plan_size
from router.stats.size import proof_chance, units_per_arm


def test_sizes_of_the_sample_table():
    size = plan_size(0.85, 0.05, per_day=100)
    assert 440 <= size.median <= 500
    assert 850 <= size.p80 <= 950
    assert size.fixed == pytest.approx(538, abs=3)
    assert size.days_median == pytest.approx(size.median / 50)
    assert plan_size(0.85, 0.10, per_day=100).median <= 130
    assert plan_size(0.85, 0.05, per_day=100, alpha=0.01).median > 650


def test_the_chance_is_that_of_simulated_runs():
    rng = np.random.default_rng(1)
    treated, control = rng.random((4000, 300)) < 0.6, rng.random((4000, 300)) < 0.45
    wins, losses = (treated & ~control).cumsum(axis=1), (control & ~treated).cumsum(axis=1)
    simulated = (log_e_pairs(wins, losses) >= np.log(20)).any(axis=1).mean()
    assert proof_chance(0.45, 0.15, 300) == pytest.approx(simulated, abs=0.02)


@pytest.mark.parametrize("rate", [0.5, 0.85, 0.98])
def test_a_false_promotion_is_less_likely_than_alpha_however_long(rate):
    assert 0.03 < proof_chance(rate, 0.0, 20_000) <= 0.05
    assert proof_chance(rate, 0.0, 20_000, alpha=0.01) <= 0.01


def test_the_detectable_effect_has_its_power():
    effect = detectable_effect(0.85, 1400)
    assert 0.03 < effect < 0.05
    assert proof_chance(0.85, effect, 1400) == pytest.approx(0.8, abs=0.02)
    assert detectable_effect(0.85, 30) is None


def test_a_size_beyond_any_end_is_none():
    size = plan_size(0.85, 0.002, per_day=1000)
    assert (size.median, size.p80, size.days_p80) == (None, None, None)
    assert "can hardly be shown" in size.advice


def test_power_needs_units():
    assert units_per_arm(0.85, 0.05, 0.05, 0.5) < units_per_arm(0.85, 0.05, 0.05, 0.8)


class TestAdvice:
    def test_few_tasks_a_day_are_sent_to_offline_replay(self):
        advice = plan_size(0.85, 0.05, per_day=10).advice
        assert "below ~20 tasks a day use offline replay" in advice

    def test_enough_traffic_is_told_its_days(self):
        assert plan_size(0.85, 0.05, per_day=200).advice.startswith("5 points take 9 days")

    def test_no_traffic_has_no_days(self):
        size = plan_size(0.85, 0.05, per_day=0)
        assert size.days_median is None
        assert "offline replay" in size.advice

    def test_the_smaller_arm_sets_the_pace(self):
        even, canary = (plan_size(0.85, 0.05, 100, treatment_share=s) for s in (0.5, 0.05))
        assert canary.days_median == pytest.approx(10 * even.days_median)


@pytest.mark.parametrize(
    ("baseline", "effect", "alpha"),
    [(0, 0.1, 0.05), (1, 0.1, 0.05), (0.9, 0.2, 0.05), (0.9, 0, 0.05), (0.9, 0.05, 1)],
    ids=str,
)
def test_rates_out_of_bounds_are_refused(baseline, effect, alpha):
    with pytest.raises(BadInput):
        plan_size(baseline, effect, 100, alpha)
