from datetime import timedelta

import numpy as np
import pytest
from assigned_units import START, Unit, row_of

from router.stats import (
    canary_blocks,
    canary_differences,
    canary_evidence,
    log_e_mean_above,
    log_e_pairs,
    ramp_evidence,
)
from router.tables import CONTROL, TREATMENT


def success(unit):
    return float(unit.outcome)


def shapes(units, few=TREATMENT):
    return [
        (block.few.sequence, [unit.sequence for unit in block.many])
        for block in canary_blocks(units, few)
    ]


class TestBlocks:
    @pytest.mark.parametrize(
        ("arms", "blocks"),
        [
            ("CCCT", [(3, [0, 1, 2])]),
            ("CCTCT", [(2, [0, 1]), (4, [3])]),
            ("TCC", [(0, [1])]),
            ("TTCCC", [(0, [2]), (1, [3])]),
            ("CTTCCT", [(1, [0]), (2, [3]), (5, [4])]),
            ("CCC", []),
            ("TTT", []),
        ],
        ids=str,
    )
    def test_a_treated_unit_takes_the_controls_since_the_one_before(self, arms, blocks):
        assert shapes(row_of(arms)) == blocks

    def test_nobody_is_taken_twice(self):
        arms = "".join(np.random.default_rng(1).choice(["T", "C"], 200, p=[0.2, 0.8]))
        blocks = shapes(row_of(arms))
        members = [unit for few, many in blocks for unit in (few, *many)]
        assert len(members) == len(set(members))
        assert len(blocks) == arms.count("T")

    def test_a_block_waits_for_all_its_outcomes_and_chooses_none(self):
        units = row_of("CCTCT", "1?100")
        assert shapes(units) == [(4, [3])]

    def test_strata_are_never_mixed(self):
        units = [Unit(1, CONTROL, True, "easy"), Unit(2, TREATMENT, True, "hard")]
        assert canary_blocks(units) == []

    def test_blocks_come_as_they_became_known(self):
        late, soon = START + timedelta(days=1), START
        units = [
            Unit(1, CONTROL, True, outcome_at=late),
            Unit(2, TREATMENT, True, outcome_at=soon),
            Unit(3, CONTROL, True, outcome_at=soon),
            Unit(4, TREATMENT, True, outcome_at=soon),
        ]
        assert shapes(units) == [(4, [3]), (2, [1])]

    def test_after_a_promotion_the_control_is_few(self):
        units = row_of("TTTC", "1100")
        assert shapes(units, CONTROL) == [(3, [0, 1, 2])]
        assert canary_differences(units, success, CONTROL) == pytest.approx([2 / 3])


class TestEvidence:
    def test_differences_are_against_the_mean(self):
        assert canary_differences(row_of("CCTCT", "10110"), success) == pytest.approx([0.5, -1.0])

    def test_harm_and_gain_are_mirrored(self):
        harm = canary_evidence(row_of("CCT" * 40, "110" * 40))
        gain = canary_evidence(row_of("CCT" * 40, "001" * 40))
        assert harm.max_log_e_harm == pytest.approx(gain.max_log_e)
        assert harm.harm_p_value < 0.001
        assert harm.p_value == 1.0
        assert harm.mean == pytest.approx(-1.0)


class TestRamp:
    def test_no_units_is_no_evidence(self):
        found = ramp_evidence([], {})
        assert (found.n_pairs, found.n_blocks, found.log_e, found.p_value) == (0, 0, 0, 1)

    def test_phases_multiply_and_are_never_mixed(self):
        canary = row_of("CCCT" * 5, "1110" * 5, phase=1)
        even = [
            Unit(100 + i, arm, outcome, phase=2)
            for i, (arm, outcome) in enumerate([(TREATMENT, True), (CONTROL, False)] * 6)
        ]
        found = ramp_evidence([*canary, *even], {1: 0.05, 2: 0.5})
        assert (found.n_pairs, found.wins, found.losses, found.n_blocks) == (6, 6, 0, 5)
        assert found.block_mean == pytest.approx(-1.0)
        assert found.log_e == pytest.approx(
            float(log_e_pairs(6, 0)) + log_e_mean_above([-1.0] * 5)[-1]
        )
        assert found.max_log_e_harm == pytest.approx(log_e_mean_above([1.0] * 5)[-1])

    def test_a_shadow_or_a_full_phase_compares_nobody(self):
        units = row_of("CCCC", phase=0) + row_of("TTTT", phase=4)
        found = ramp_evidence(units, {0: 0.0, 4: 1.0})
        assert (found.n_pairs, found.n_blocks) == (0, 0)

    def test_late_feedback_is_left_out_on_request(self):
        units = [Unit(1, TREATMENT, True, late_at=START, phase=1), Unit(2, CONTROL, False, phase=1)]
        assert ramp_evidence(units, {1: 0.5}).wins == 1
        assert ramp_evidence(units, {1: 0.5}, with_late=False).wins == 0

    def test_a_later_look_never_lowers_the_best(self):
        rng = np.random.default_rng(2)
        units = [
            Unit(
                i,
                TREATMENT if rng.random() < (0.05 if i < 300 else 0.5) else CONTROL,
                bool(rng.random() < 0.7),
                outcome_at=START + timedelta(minutes=i),
                phase=1 if i < 300 else 2,
            )
            for i in range(600)
        ]
        shares = {1: 0.05, 2: 0.5}
        best = [ramp_evidence(units[:n], shares).max_log_e for n in range(100, 601, 100)]
        assert best == sorted(best)
