import math

import pytest

from router.stats import alpha_per_role, e_bh


@pytest.mark.parametrize(("roles", "alpha"), [(0, 0.05), (1, 0.05), (5, 0.01)])
def test_roles_share_alpha(roles, alpha):
    assert alpha_per_role(0.05, roles) == pytest.approx(alpha)


@pytest.mark.parametrize(
    ("e_values", "found"),
    [
        ({}, []),
        ({"coder": 19}, []),
        ({"coder": 20}, ["coder"]),
        ({"coder": 60, "tester": 1, "reviewer": 2}, ["coder"]),
        ({"coder": 59, "tester": 1, "reviewer": 2}, []),
        ({"coder": 35, "tester": 30, "reviewer": 2}, ["coder", "tester"]),
        ({"coder": 25, "tester": 22, "reviewer": 21}, ["coder", "tester", "reviewer"]),
    ],
    ids=str,
)
def test_e_bh_takes_the_largest_set(e_values, found):
    log_e = {name: math.log(e + 1e-9) for name, e in e_values.items()}
    assert e_bh(log_e, 0.05) == set(found)
