import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from scipy.special import betaincc, betaln

from router.stats import (
    always_valid_p,
    e_noninferior,
    e_value,
    log_e_noninferior,
    log_e_pairs,
    log_e_rate,
    log_e_srm,
    pair_evidence,
    pair_outcomes,
    stratified_difference,
)
from router.tables import CONTROL, TREATMENT

START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Unit:
    sequence: int
    arm: str
    outcome: bool | None = None
    stratum: str = ""
    outcome_at: datetime | None = None
    late_at: datetime | None = None


def pairs_of(outcomes):
    """Build units whose i-th pair is outcomes[i] = (treatment, control)."""
    units = []
    for i, (treated, control) in enumerate(outcomes):
        units.append(Unit(2 * i, TREATMENT, treated))
        units.append(Unit(2 * i + 1, CONTROL, control))
    return units


class TestPairs:
    def test_the_i_th_treatment_meets_the_i_th_control_by_assignment_not_completion(self):
        units = [
            Unit(1, TREATMENT, None),
            Unit(2, CONTROL, True),
            Unit(3, TREATMENT, True),
            Unit(4, CONTROL, False),
        ]
        [pair] = pair_outcomes(reversed(units))
        assert (pair.treatment, pair.control, pair.sequence) == (True, False, 4)

    def test_strata_are_never_mixed(self):
        units = [Unit(1, TREATMENT, True, "easy"), Unit(2, CONTROL, False, "hard")]
        assert pair_outcomes(units) == []

    def test_a_surplus_of_one_arm_waits(self):
        units = [Unit(i, TREATMENT, True) for i in range(5)] + [Unit(9, CONTROL, False)]
        assert len(pair_outcomes(units)) == 1

    def test_a_later_look_extends_the_earlier_one(self):
        late = START + timedelta(days=2)
        units = [
            Unit(1, TREATMENT, False, outcome_at=late),
            Unit(2, CONTROL, True, outcome_at=START),
            Unit(3, TREATMENT, True, outcome_at=START),
            Unit(4, CONTROL, False, outcome_at=START),
        ]
        earlier = [Unit(1, TREATMENT, None), *units[1:]]
        assert pair_outcomes(units)[:1] == pair_outcomes(earlier)

    def test_evidence_counts(self):
        outcomes = [(True, False)] * 12 + [(True, True)] * 3 + [(False, True)] * 2
        evidence = pair_evidence(pair_outcomes(pairs_of(outcomes)))
        assert (evidence.n_pairs, evidence.wins, evidence.losses, evidence.ties) == (17, 12, 2, 3)
        assert evidence.log_e == pytest.approx(float(log_e_pairs(12, 2)))
        assert evidence.max_log_e == pytest.approx(float(log_e_pairs(12, 0)))
        assert evidence.p_value == pytest.approx(math.exp(-evidence.max_log_e))
        assert evidence.harm_p_value == 1.0

    def test_no_pairs_is_no_evidence(self):
        evidence = pair_evidence([])
        assert (evidence.n_pairs, evidence.p_value) == (0, 1.0)
        assert evidence.log_e == pytest.approx(0)


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


def simulate(rng, runs, pairs, control, treatment):
    """Return (runs, pairs) log e-values, one after every pair."""
    treated = rng.random((runs, pairs)) < treatment
    other = rng.random((runs, pairs)) < control
    wins = np.cumsum(treated & ~other, axis=1)
    losses = np.cumsum(other & ~treated, axis=1)
    return log_e_pairs(wins, losses)


@pytest.mark.parametrize("rate", [0.5, 0.85])
def test_false_promotions_stay_below_alpha_with_a_look_after_every_pair(rate):
    rng = np.random.default_rng(4)
    best = np.concatenate([simulate(rng, 1000, 1000, rate, rate).max(axis=1) for _ in range(4)])
    assert (best >= math.log(20)).mean() <= 0.045
    assert (best >= math.log(100)).mean() <= 0.01


def test_a_worse_candidate_is_almost_never_promoted_and_its_harm_is_seen():
    rng = np.random.default_rng(5)
    best = simulate(rng, 1000, 800, 0.85, 0.80).max(axis=1)
    assert (best >= math.log(20)).mean() <= 0.005
    harm = simulate(rng, 1000, 800, 0.80, 0.90).max(axis=1)  # exchanged: control is the better
    assert (harm >= math.log(20)).mean() > 0.9


def test_power_for_40_to_60_percent():
    found = simulate(np.random.default_rng(6), 2000, 200, 0.4, 0.6) >= math.log(20)
    assert found.any(axis=1).mean() > 0.9
    assert np.median(np.where(found.any(axis=1), found.argmax(axis=1) + 1, 200)) <= 100


class TestStratifiedDifference:
    def test_none_without_both_arms(self):
        assert stratified_difference([]) is None
        assert stratified_difference([Unit(1, TREATMENT, True), Unit(2, CONTROL, None)]) is None

    def test_estimate_is_free_of_simpsons_paradox(self):
        easy = [Unit(i, TREATMENT, i % 10 < 9, "easy") for i in range(100)]
        easy += [Unit(i, CONTROL, i % 10 < 9, "easy") for i in range(900)]
        hard = [Unit(i, TREATMENT, i % 10 < 2, "hard") for i in range(900)]
        hard += [Unit(i, CONTROL, i % 10 < 2, "hard") for i in range(100)]
        found = stratified_difference(easy + hard)
        assert found is not None
        assert found.estimate == pytest.approx(0)
        assert found.n_units == 2000

    def test_certainty_is_never_claimed_from_few_units(self):
        found = stratified_difference(pairs_of([(True, True)] * 3))
        assert found is not None
        assert found.low < -0.5
        assert found.high > 0.5

    def test_width_matches_the_published_formula(self):
        outcomes = [(i % 10 < 6, i % 10 < 4) for i in range(500)]
        found = stratified_difference(pairs_of(outcomes), alpha=0.05, expected_units=1000)
        assert found is not None
        rho2 = (-2 * math.log(0.05) + math.log(-2 * math.log(0.05) + 1)) / 1000
        n = 1000
        p_t, p_c = 301 / 502, 201 / 502
        se = math.sqrt(p_t * (1 - p_t) / 500 + p_c * (1 - p_c) / 500)
        half = (
            se
            * math.sqrt(n)
            * math.sqrt(
                2 * (n * rho2 + 1) / (n**2 * rho2) * math.log(math.sqrt(n * rho2 + 1) / 0.05)
            )
        )
        assert found.estimate == pytest.approx(0.2)
        assert found.high - found.estimate == pytest.approx(half)

    def test_it_covers_the_truth_at_every_look(self):
        rng = np.random.default_rng(7)
        missed = 0
        for _ in range(60):
            outcomes = rng.random((400, 2)) < (0.6, 0.5)
            units = pairs_of([(bool(a), bool(b)) for a, b in outcomes])
            looks = [stratified_difference(units[: 2 * n]) for n in range(50, 401, 50)]
            missed += any(d is not None and not d.low <= 0.1 <= d.high for d in looks)
        assert missed <= 3
