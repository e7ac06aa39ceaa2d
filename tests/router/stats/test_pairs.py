import math
from datetime import timedelta

import pytest
from assigned_units import START, Unit, pairs_of

from router.stats import log_e_pairs, pair_differences, pair_evidence, pair_outcomes
from router.tables import CONTROL, TREATMENT


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

    def test_late_feedback_counts_only_where_it_is_asked_for(self):
        units = [
            Unit(1, TREATMENT, True, late_at=START),
            Unit(2, CONTROL, False),
        ]
        assert pair_outcomes(units)[0].treatment is True
        assert pair_outcomes(units, with_late=False)[0].treatment is False

    def test_differences_of_any_value_come_in_the_order_of_the_pairs(self):
        units = [
            Unit(1, TREATMENT, True, outcome_at=START + timedelta(days=1), score=0.9),
            Unit(2, CONTROL, True, outcome_at=START, score=0.4),
            Unit(3, TREATMENT, True, outcome_at=START, score=0.2),
            Unit(4, CONTROL, True, outcome_at=START, score=0.3),
        ]
        assert pair_differences(units, lambda unit: unit.score) == pytest.approx([-0.1, 0.5])
