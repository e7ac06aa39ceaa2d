import math

import pytest

from router.stats import PhaseSplit, log_e_split, log_e_srm


def test_phases_multiply():
    phases = [PhaseSplit(0.05, 60, 1000), PhaseSplit(0.5, 480, 1000)]
    expected = float(log_e_srm(60, 1000, 0.05)) + float(log_e_srm(480, 1000, 0.5))
    assert log_e_split(phases) == pytest.approx(expected)
    assert log_e_split([]) == 0


def test_a_ramp_is_no_mismatch_though_its_total_is():
    ramp = [PhaseSplit(0.05, 50, 1000), PhaseSplit(0.5, 500, 1000)]
    assert log_e_split(ramp) < 0
    assert float(log_e_srm(550, 2000, 0.5)) > math.log(1000)


def test_a_shadow_phase_leaves_nothing_to_chance():
    assert log_e_split([PhaseSplit(0.0, 0, 500)]) == 0
    assert log_e_split([PhaseSplit(0.0, 1, 500)]) == math.inf
    assert log_e_split([PhaseSplit(1.0, 500, 500)]) == 0
    assert log_e_split([PhaseSplit(1.0, 499, 500)]) == math.inf
