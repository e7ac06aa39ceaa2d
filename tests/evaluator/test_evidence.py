import math

import numpy as np
import pytest
from scipy.special import betaincc, betaln

from evaluator.evidence import (
    always_valid_p,
    e_noninferior,
    e_value,
    log_e_mean_above,
    log_e_noninferior,
    log_e_pairs,
    log_e_rate,
    log_e_srm,
)


class TestLogEPairs:
    def test_known_values(self):
        assert float(log_e_pairs(0, 0)) == pytest.approx(0)
        by_hand = sum(
            weight * (2 * q) ** 7 * (2 * (1 - q)) ** 3
            for q, weight in zip(
                (0.57, 0.62, 0.68, 0.77, 0.87), (0.3, 0.3, 0.2, 0.1, 0.1), strict=True
            )
        )
        assert float(log_e_pairs(7, 3)) == pytest.approx(math.log(by_hand))

    def test_nine_straight_wins_reach_20_and_eight_do_not(self):
        assert float(log_e_pairs(8, 0)) < math.log(20) <= float(log_e_pairs(9, 0))

    def test_it_is_a_supermartingale_at_win_probability_one_half(self):
        for wins, losses in [(0, 0), (5, 2), (2, 9), (40, 40)]:
            now = math.exp(float(log_e_pairs(wins, losses)))
            after = [math.exp(float(log_e_pairs(wins + x, losses + 1 - x))) for x in (0, 1)]
            assert sum(after) / 2 == pytest.approx(now)

    def test_arrays_agree_with_numbers_and_large_counts_stay_finite(self):
        wins, losses = np.array([3, 50_000, 0]), np.array([1, 0, 50_000])
        together = log_e_pairs(wins, losses)
        assert together == pytest.approx(
            [float(log_e_pairs(w, n)) for w, n in zip(wins, losses, strict=True)]
        )
        assert np.isfinite(together).all()

    def test_e_and_p_never_overflow(self):
        assert math.isfinite(e_value(1e9))
        assert 0 < always_valid_p(1e9) < 1e-300
        assert always_valid_p(-math.inf) == 1.0


class TestRates:
    def test_known_values_of_the_rate_test(self):
        assert float(log_e_rate(0, 0, 0.02)) == pytest.approx(0)
        x, n, p0 = 5, 40, 0.02
        by_hand = (
            betaln(1 + x, 10 + n - x)
            - betaln(1, 10)
            + math.log(betaincc(1 + x, 10 + n - x, p0) / betaincc(1, 10, p0))
            - x * math.log(p0)
            - (n - x) * math.log1p(-p0)
        )
        assert float(log_e_rate(x, n, p0)) == pytest.approx(float(by_hand))
        assert float(log_e_rate(x, n, p0)) > math.log(20)

    def test_underflow_is_e_zero_and_not_a_warning(self):
        assert float(log_e_rate(0, 10_000_000, 0.05)) == -math.inf
        assert e_value(float(log_e_rate(0, 10_000_000, 0.05))) == 0

    def test_a_healthy_version_is_rarely_alarmed_and_a_broken_one_quickly(self):
        rng = np.random.default_rng(1)
        n = np.arange(1, 1501)
        healthy = np.cumsum(rng.random((1000, 1500)) < 0.01, axis=1)
        assert (log_e_rate(healthy, n, 0.02).max(axis=1) >= math.log(20)).mean() <= 0.01
        broken = np.cumsum(rng.random((500, 300)) < 0.10, axis=1)
        alarm = log_e_rate(broken, n[:300], 0.02) >= math.log(20)
        assert alarm.any(axis=1).mean() > 0.99
        assert np.median(alarm.argmax(axis=1) + 1) <= 40

    def test_srm_known_value_and_direction(self):
        x, n = 480, 1000
        by_hand = betaln(100 + x, 100 + n - x) - betaln(100, 100) - n * math.log(0.5)
        assert float(log_e_srm(x, n)) == pytest.approx(float(by_hand))
        assert float(log_e_srm(520, 1000)) == pytest.approx(float(log_e_srm(480, 1000)))
        assert float(log_e_srm(330, 1000)) > math.log(1000) > float(log_e_srm(500, 1000))

    def test_srm_of_a_canary_share(self):
        assert float(log_e_srm(50, 1000, share=0.05)) < 0
        assert float(log_e_srm(330, 1000, share=0.2)) > math.log(1000)  # posthog#84351

    def test_srm_false_alarms_are_rare(self):
        rng = np.random.default_rng(2)
        n = np.arange(1, 2001)
        treated = np.cumsum(rng.random((1000, 2000)) < 0.5, axis=1)
        assert (log_e_srm(treated, n).max(axis=1) >= math.log(1000)).mean() <= 0.002


class TestNoninferiority:
    def test_known_value(self):
        bets = np.array([0.1, 0.2, 0.35, 0.5, 0.7, 0.9]) * 0.999 / 0.95
        d = np.array([0, 0, 1, -1, 0])
        by_hand = np.prod(1 + bets[:, None] * (d + 0.05), axis=1).mean()
        assert e_noninferior(d, 0.05) == pytest.approx(by_hand)
        assert log_e_noninferior([], 0.05) == pytest.approx(0)

    def test_long_runs_do_not_overflow(self):
        assert math.isfinite(log_e_noninferior(np.ones(100_000), 0.02))
        assert math.isfinite(e_noninferior(np.ones(100_000), 0.02))
        assert e_noninferior(-np.ones(100_000), 0.02) == 0

    def test_exactly_at_the_margin_it_seldom_certifies(self):
        rng = np.random.default_rng(3)
        bad_c = (rng.random((800, 400)) < 0.05).astype(int)
        bad_t = (rng.random((800, 400)) < 0.10).astype(int)
        certified = [log_e_noninferior(row, 0.05) >= math.log(20) for row in bad_c - bad_t]
        assert np.mean(certified) <= 0.05
        equal = (rng.random((200, 600)) < 0.05).astype(int)
        certified = [
            log_e_noninferior(row, 0.05) >= math.log(20) for row in bad_c[:200, :] - equal[:, :400]
        ]
        assert np.mean(certified) > 0.6


class TestMeanAbove:
    def test_known_values_before_and_after_each_difference(self):
        bets = np.array([0.1, 0.2, 0.35, 0.5, 0.7, 0.9]) * 0.999 / 1.1
        path = log_e_mean_above([0.5, -0.2], 0.1)
        assert path == pytest.approx(
            [
                0,
                math.log((1 + bets * 0.4).mean()),
                math.log(((1 + bets * 0.4) * (1 - bets * 0.3)).mean()),
            ]
        )

    @pytest.mark.parametrize("threshold", [-0.5, 0.0, 0.3], ids=str)
    def test_it_is_a_martingale_at_the_threshold_and_never_negative(self, threshold):
        high = (1 + threshold) / 2  # chance of +1, so that the mean is the threshold
        for before in ([], [1.0], [-1.0, -1.0, 0.3]):
            now = math.exp(log_e_mean_above(before, threshold)[-1])
            up, down = (math.exp(log_e_mean_above([*before, d], threshold)[-1]) for d in (1, -1))
            assert high * up + (1 - high) * down == pytest.approx(now)

    def test_rows_are_independent(self):
        rows = np.array([[0.1, -1.0, 0.4], [1.0, 1.0, 0.0]])
        together = log_e_mean_above(rows, 0.05)
        for row, alone in zip(rows, together, strict=True):
            assert log_e_mean_above(row, 0.05) == pytest.approx(alone)

    @pytest.mark.parametrize(
        ("differences", "threshold"), [([1.2], 0.0), ([0.5], 1.0), ([0.5], -1.0)], ids=str
    )
    def test_what_is_out_of_bounds_is_refused(self, differences, threshold):
        with pytest.raises(ValueError, match="expected"):
            log_e_mean_above(differences, threshold)
