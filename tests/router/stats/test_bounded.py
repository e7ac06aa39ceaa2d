import math

import numpy as np
import pytest

from router.stats import bounded_evidence


def test_nothing_is_no_evidence():
    found = bounded_evidence([])
    assert (found.n, found.mean, found.log_e, found.log_e_harm) == (0, 0, 0, 0)


def test_a_gain_is_proven_and_its_harm_is_not():
    found = bounded_evidence(np.full(200, 0.2))
    assert found.p_value < 0.001
    assert found.harm_p_value == 1.0


def test_a_minimum_improvement_must_be_surpassed():
    differences = np.tile([0.6, -0.5], 300)  # 5 points on average
    assert bounded_evidence(differences, 0.05).max_log_e < math.log(20)
    steady = np.full(400, 0.1)
    assert bounded_evidence(steady, 0.05).max_log_e > math.log(20)
    assert bounded_evidence(steady, 0.1).max_log_e <= 0.0


@pytest.mark.parametrize("minimum", [-0.1, 1.0], ids=str)
def test_a_minimum_out_of_bounds_is_refused(minimum):
    with pytest.raises(ValueError, match="minimum improvement"):
        bounded_evidence([0.1], minimum)
