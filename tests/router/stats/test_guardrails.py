import math

import numpy as np
import pytest
from assigned_units import Unit

from router.stats import guardrail_evidence
from router.stats.guardrails import (
    COST,
    ERRORS,
    REFUSALS,
    SLOW,
    TOOL_CALLS,
    bad_shares,
    compare_bad,
)
from router.tables import CONTROL, TREATMENT

PROOF = math.log(20)


@pytest.mark.parametrize(
    ("name", "fields", "share"),
    [
        (ERRORS, {"n_calls": 4, "n_errors": 1}, 0.25),
        (ERRORS, {"n_calls": 4, "n_fallbacks": 2}, 0.5),
        (ERRORS, {"n_calls": 1, "n_errors": 1, "n_fallbacks": 1}, 1.0),
        (ERRORS, {}, 0.0),
        (SLOW, {"n_calls": 2, "n_slow": 1}, 0.5),
        (REFUSALS, {"n_calls": 10, "n_refusals": 1}, 0.1),
        (TOOL_CALLS, {"n_calls": 9, "n_tool_calls": 2, "n_bad_tool_calls": 1}, 0.5),
        (TOOL_CALLS, {"n_calls": 9}, 0.0),
        (COST, {"cost_usd": 0.3}, 0.3),
        (COST, {"cost_usd": 900.0}, 1.0),
    ],
    ids=str,
)
def test_how_bad_a_unit_was(name, fields, share):
    assert bad_shares(1.0)[name](Unit(1, TREATMENT, **fields)) == pytest.approx(share)


def units_with(treatment, control, n):
    """n pairs of which each arm's units have these counts."""
    return [
        Unit(2 * i + side, arm, True, **fields)
        for i in range(n)
        for side, (arm, fields) in enumerate([(TREATMENT, treatment), (CONTROL, control)])
    ]


def test_cost_is_guarded_only_with_a_budget():
    units = units_with({}, {}, 3)
    assert COST not in [found.name for found in guardrail_evidence(units)]
    assert COST in [found.name for found in guardrail_evidence(units, task_budget_usd=1.0)]


def test_equal_arms_are_certified_and_never_harm():
    fine = {"n_calls": 5, "n_tool_calls": 2}
    for found in guardrail_evidence(units_with(fine, fine, 300)):
        assert found.max_log_e_fine > PROOF, found.name
        assert found.max_log_e_worse <= 0, found.name


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        (ERRORS, {"n_errors": 2}),
        (ERRORS, {"n_fallbacks": 2}),
        (SLOW, {"n_slow": 2}),
        (REFUSALS, {"n_refusals": 2}),
        (TOOL_CALLS, {"n_bad_tool_calls": 2}),
        (COST, {"cost_usd": 0.5}),
    ],
    ids=str,
)
def test_each_guardrail_alone_proves_harm_beyond_its_margin(name, bad):
    calls = {"n_calls": 5, "n_tool_calls": 5}
    found = guardrail_evidence(units_with(calls | bad, calls, 60), task_budget_usd=1.0)
    harmed = {guarded.name for guarded in found if guarded.max_log_e_worse > PROOF}
    assert harmed == {name}


def test_a_loss_at_the_margin_proves_neither():
    rng = np.random.default_rng(1)
    certified = harmed = 0
    for _ in range(100):
        treated, control = rng.random(500) < 0.10, rng.random(500) < 0.05
        found = compare_bad(ERRORS, treated, control, 0.05)
        certified += found.max_log_e_fine > PROOF
        harmed += found.max_log_e_worse > PROOF
    assert certified <= 9
    assert harmed <= 9


def test_an_unknown_guardrail_is_an_error():
    with pytest.raises(KeyError):
        guardrail_evidence(units_with({}, {}, 1), margins={"charm": 0.1})


def test_no_pairs_say_nothing():
    for found in guardrail_evidence([]):
        assert (found.n, found.max_log_e_fine, found.max_log_e_worse) == (0, 0, 0)
