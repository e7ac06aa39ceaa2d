import math

import numpy as np
import pytest
from assigned_units import Unit

from router.stats import pair_evidence, pair_outcomes, settled_differences, sure_pairs, sure_ramp
from router.stats.bounded import bounded_evidence
from router.tables import CONTROL, TREATMENT

PROOF = math.log(20)
HALF = {0: 0.5}


def success(unit):
    return float(unit.outcome)


def equal_arms(rng, n):
    """Two equal models with 80 % success, drawn half and half."""
    arms = rng.choice([CONTROL, TREATMENT], n)
    succeeded = rng.random(n) < 0.8
    return [Unit(i, str(arms[i]), bool(succeeded[i])) for i in range(n)]


def hidden(units, is_open):
    return [Unit(u.sequence, u.arm, None if is_open(u) else u.outcome) for u in units]


def test_failures_that_hang_make_no_winner_of_an_equal():
    """Known pairs alone would find one in most experiments, looked at after each ten units."""
    rng = np.random.default_rng(4)
    fooled, sure = 0, 0
    for _ in range(40):
        units = equal_arms(rng, 160)
        looks = [
            hidden(units[:n], lambda unit: unit.arm == TREATMENT and not unit.outcome)
            for n in range(10, 161, 10)
        ]
        fooled += any(pair_evidence(pair_outcomes(seen)).log_e >= PROOF for seen in looks)
        sure += any(sure_ramp(seen, HALF, success).log_e >= PROOF for seen in looks)
    assert fooled >= 20
    assert sure == 0


def test_it_is_never_more_than_what_there_will_be_once_all_is_told():
    rng = np.random.default_rng(5)
    for _ in range(50):
        units = equal_arms(rng, 60)
        told = sure_ramp(units, HALF, success)
        chosen = set(rng.choice(60, 15, replace=False).tolist())
        seen = sure_ramp(hidden(units, lambda u, c=chosen: u.sequence in c), HALF, success)
        assert seen.log_e <= told.max_log_e + 1e-9
        assert seen.max_log_e <= told.max_log_e + 1e-9


def test_without_open_outcomes_it_is_the_evidence_of_the_pairs():
    units = equal_arms(np.random.default_rng(6), 100)
    found, pairs = sure_ramp(units, HALF, success), pair_evidence(pair_outcomes(units))
    assert found.log_e == pytest.approx(pairs.log_e)
    assert found.log_e_harm == pytest.approx(pairs.log_e_harm)
    scores, plain = sure_pairs(units, success, 0.1), bounded_evidence([], 0.1)
    assert scores.log_e != plain.log_e


def test_what_comes_before_the_first_open_outcome_stands():
    """Nine pairs won prove it, though the next thirty are open."""
    won = [Unit(i, (TREATMENT, CONTROL)[i % 2], i % 2 == 0) for i in range(18)]
    waiting = [Unit(18 + i, (TREATMENT, CONTROL)[i % 2], None) for i in range(60)]
    assert sure_ramp(won + waiting, HALF, success).log_e >= PROOF
    assert sure_pairs(won + waiting, success).log_e > 1
    assert settled_differences(won + waiting, success).tolist() == [1.0] * 9


def test_open_units_of_an_uneven_phase_count_against_the_claim():
    lost = [Unit(i, TREATMENT if i % 4 == 3 else CONTROL, i % 4 != 3) for i in range(80)]
    assert sure_ramp(lost, {0: 0.25}, success).log_e_harm >= PROOF
    waiting = hidden(lost, lambda unit: unit.arm == TREATMENT)
    assert sure_ramp(waiting, {0: 0.25}, success).log_e_harm <= 0


def test_nothing_is_no_evidence():
    found = sure_ramp([], HALF, success)
    assert (found.log_e, found.max_log_e, found.log_e_harm) == pytest.approx((0, 0, 0))
