import math

import numpy as np
import pytest
from assigned_units import Unit, pairs_of

from router.stats import stratified_difference
from router.tables import CONTROL, TREATMENT


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
