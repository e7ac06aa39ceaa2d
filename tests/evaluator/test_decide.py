from dataclasses import asdict, replace

import numpy as np
import pytest

from evaluator.compare import compare_outcomes
from evaluator.decide import (
    AB_TEST,
    DEPLOY,
    ITERATE,
    POINT,
    RULE,
    STAY,
    DeployInputs,
    DeployThresholds,
    deploy_rule,
)
from foundation.decisions import as_json, decide, replay
from foundation.errors import BadInput

JUST_BELOW = 1e-9


def outcome(gain, low=1.0, *, speed=None, ab=None, reading="interval"):
    inputs = DeployInputs(gain, low, gain + 5, speed_ratio=speed, ab_significant=ab)
    return deploy_rule(as_json(inputs), as_json(DeployThresholds(reading=reading))).outcome


@pytest.mark.parametrize("reading", ["interval", "point"])
@pytest.mark.parametrize(
    ("gain", "speed", "ab", "expected"),
    [
        (10.0, None, None, DEPLOY),
        (10.0 - JUST_BELOW, None, None, ITERATE),
        (10.0 - JUST_BELOW, 1.5, None, DEPLOY),
        (5.0, 1.5, None, DEPLOY),
        (5.0, 1.5 - JUST_BELOW, None, ITERATE),
        (5.0 - JUST_BELOW, 1.5, None, STAY),
        (5.0 - JUST_BELOW, 9.0, True, STAY),
        (5.0, None, True, DEPLOY),
        (5.0, None, False, ITERATE),
        (5.0, None, None, ITERATE),
        (5.0, 1.0, None, ITERATE),
        (0.0, 2.0, True, STAY),
        (-30.0, None, None, STAY),
    ],
)
def test_both_readings_agree_when_the_interval_is_above_zero(gain, speed, ab, expected, reading):
    assert outcome(gain, JUST_BELOW, speed=speed, ab=ab, reading=reading) == expected


@pytest.mark.parametrize("low", [0.0, -0.1, -40.0])
def test_a_lower_bound_at_or_below_zero_never_deploys_on_the_benchmark_alone(low):
    assert outcome(12.0, low) == AB_TEST
    assert outcome(6.0, low, speed=2.0) == AB_TEST
    assert outcome(12.0, low, reading=POINT) == DEPLOY
    assert outcome(6.0, low, speed=2.0, reading=POINT) == DEPLOY


def test_the_bound_just_above_zero_deploys():
    assert outcome(12.0, JUST_BELOW) == DEPLOY


def test_an_ended_ab_test_settles_a_doubtful_benchmark():
    assert outcome(12.0, -1.0, ab=True) == DEPLOY
    assert outcome(6.0, -1.0, ab=True) == DEPLOY
    assert outcome(12.0, -1.0, ab=False) == ITERATE


def test_doubt_never_turns_stay_or_iterate_into_something_better():
    assert outcome(4.0, -3.0) == STAY
    assert outcome(7.0, -3.0) == ITERATE


def test_reasons_state_both_readings_and_the_unknowns():
    inputs = DeployInputs(7.0, -1.0, 15.0)
    reasons = " ".join(deploy_rule(as_json(inputs), as_json(DeployThresholds())).reasons)
    assert "interval says iterate, point says iterate" in reasons
    assert "speed ratio unknown" in reasons
    assert "A/B test unknown" in reasons
    assert "-1.0 to +15.0" in reasons
    doubtful = DeployInputs(12.0, -1.0, 25.0)
    reasons = " ".join(deploy_rule(as_json(doubtful), as_json(DeployThresholds())).reasons)
    assert "interval says ab_test, point says deploy" in reasons


def test_wrong_thresholds_are_refused():
    with pytest.raises(BadInput, match="reading"):
        DeployThresholds(reading="hope")
    with pytest.raises(BadInput, match="minimum_points"):
        DeployThresholds(minimum_points=12.0)


def test_a_recorded_decision_replays_to_the_same_outcome(session):
    inputs = DeployInputs(12.0, -1.0, 25.0, evidence={"n_tasks": 100})
    decision = decide(session, RULE, inputs, DeployThresholds(), role="coder")
    session.commit()
    assert decision.outcome == AB_TEST
    assert replay(session, decision.id).agrees


@pytest.mark.parametrize("rate", [0.4, 0.6, 0.8])
def test_an_identical_model_is_seldom_deployed_on_100_tasks(rate):
    rng = np.random.default_rng(6)
    outcomes = []
    for _ in range(400):
        first, second = rng.random((2, 100, 1)) < rate
        found = compare_outcomes(
            dict(enumerate_tasks(first.tolist())), dict(enumerate_tasks(second.tolist()))
        )
        outcomes.append(outcome(found.improvement_points, found.ci_low))
    assert np.mean([o == DEPLOY for o in outcomes]) <= 0.05


def enumerate_tasks(rows):
    return ((f"t{i}", row) for i, row in enumerate(rows))


def test_a_speed_that_is_not_proven_does_not_deploy():
    measured = DeployInputs(6.0, 1.0, 9.0, speed_ratio=1.9, speed_ratio_low=1.1)
    for reading, expected in (("interval", ITERATE), ("point", DEPLOY)):
        limits = DeployThresholds(reading=reading)
        assert deploy_rule(asdict(measured), asdict(limits)).outcome == expected
    proven = replace(measured, speed_ratio_low=1.5)
    assert deploy_rule(asdict(proven), asdict(DeployThresholds())).outcome == DEPLOY
    big = replace(measured, improvement_points=10.0)
    assert deploy_rule(asdict(big), asdict(DeployThresholds())).outcome == DEPLOY
