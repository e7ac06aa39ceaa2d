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
    UNDECIDED,
    DeployInputs,
    DeployThresholds,
    deploy_rule,
    more_tasks_needed,
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


def bounded(gain, low, high, more=40, **changes):
    """The outcome of the interval reading with bounds; the 95 % interval is a little wider."""
    inputs = DeployInputs(
        gain, low - 1, high + 1, bound_low=low, bound_high=high, more_tasks=more, **changes
    )
    return deploy_rule(asdict(inputs), asdict(DeployThresholds()))


@pytest.mark.parametrize(
    ("gain", "low", "high", "expected"),
    [
        (2.0, -1.0, 5.0, UNDECIDED),
        (2.0, 0.0, 5.0, UNDECIDED),
        (2.0, JUST_BELOW, 5.0, STAY),  # a gain is shown, too small to matter
        (2.0, -1.0, 5.0 - JUST_BELOW, STAY),  # one that matters is excluded
        (7.0, -1.0, 15.0, UNDECIDED),
        (7.0, JUST_BELOW, 15.0, ITERATE),
        (-9.0, -15.0, -3.0, STAY),
        (-2.0, -15.0, 11.0, UNDECIDED),
        (12.0, -1.0, 25.0, AB_TEST),  # as ever: a big gain in doubt goes to live traffic
        (12.0, 2.0, 25.0, DEPLOY),
        (12.0, 0.5, 25.0, AB_TEST),  # the two-sided interval still reaches 0
    ],
)
def test_undecided_is_what_the_bounds_do_not_exclude(gain, low, high, expected):
    assert bounded(gain, low, high).outcome == expected


def test_undecided_says_how_many_tasks_it_needs():
    assert "undecided, 40 more tasks needed" in " ".join(bounded(2.0, -1.0, 5.0).reasons)
    assert "40 more tasks would decide it" in " ".join(bounded(12.0, -1.0, 25.0).reasons)
    assert "tasks of further families needed" in " ".join(bounded(2, -100, 100, None).reasons)


def test_an_ended_ab_test_leaves_nothing_undecided():
    assert bounded(7.0, -1.0, 15.0, ab_significant=False).outcome == ITERATE
    assert bounded(2.0, -1.0, 15.0, ab_significant=False).outcome == STAY


def test_a_speed_in_doubt_is_undecided_where_the_gain_is_too():
    found = bounded(7.0, -1.0, 15.0, speed_ratio=2.0, speed_ratio_low=1.0)
    assert found.outcome == UNDECIDED
    assert "not proven" in " ".join(found.reasons)


def test_the_point_reading_is_never_undecided():
    inputs = DeployInputs(2.0, -2.0, 6.0, bound_low=-1.0, bound_high=5.5)
    assert deploy_rule(asdict(inputs), asdict(DeployThresholds(reading=POINT))).outcome == STAY


def test_decisions_from_before_there_were_bounds_replay_as_they_were():
    old = {"improvement_points": 2.0, "ci_low": -3.0, "ci_high": 7.0}
    assert deploy_rule(old, asdict(DeployThresholds())).outcome == STAY


def test_no_gain_makes_up_for_what_was_forgotten():
    for gain, low in ((12.0, 2.0), (12.0, -1.0)):
        found = bounded(gain, low, 25.0, forgetting="quarantine")
        assert found.outcome == STAY
        assert "forgot" in found.reasons[-1]
    assert bounded(12.0, 2.0, 25.0, forgetting="undecided").outcome == DEPLOY


def test_the_noise_floor_is_told_before_the_comparison():
    within = bounded(3.0, -1.0, 7.0, noise_floor_points=3.0).reasons
    assert "within that noise" in within[1]
    assert "outside that noise" in bounded(3.1, -1.0, 7.0, noise_floor_points=3.0).reasons[1]


def test_the_tasks_asked_for_bring_the_bounds_near_enough():
    assert more_tasks_needed(-2.0, 8.0, 100, 5.0) == 300
    assert more_tasks_needed(0.0, 5.0, 100, 5.0) == 1
    assert more_tasks_needed(1.0, 5.0, 100, 5.0) == 0
    assert more_tasks_needed(-100, 100, 10, 5.0) is None


@pytest.mark.parametrize(
    ("doubt", "said"),
    [
        ({"rubric_may_gate": False}, "turns with the wording was not measured"),
        ({"rubric_may_gate": False, "rubric_flip_rate": 0.4}, "turns with the wording is 40.0%"),
        ({"judge_may_gate": True, "judge_win_rate": 0.3, "judge_win_high": 0.4}, "prefer the base"),
        ({"ungraded_baseline": 30, "graded_points": 4.9}, "the rest is graders that threw"),
    ],
)  # fmt: skip
def test_what_is_not_fit_to_deploy_is_held_back_with_its_reason(doubt, said):
    for reading in ("interval", "point"):
        limits = asdict(DeployThresholds(reading=reading))
        measured = DeployInputs(12.0, 2.0, 22.0, **doubt)
        found = deploy_rule(asdict(measured), limits)
        assert found.outcome == AB_TEST
        assert said in " ".join(found.reasons)
        assert "held back: ab_test instead of deploy" in found.reasons[-1]
        after_a_test = replace(measured, ab_significant=False)
        assert deploy_rule(asdict(after_a_test), limits).outcome == UNDECIDED
        proven = replace(measured, ab_significant=True)
        assert deploy_rule(asdict(proven), limits).outcome == DEPLOY
        stays = replace(measured, improvement_points=4.0)
        assert deploy_rule(asdict(stays), limits).outcome == STAY


@pytest.mark.parametrize(
    "harmless",
    [
        {"rubric_may_gate": True, "rubric_flip_rate": 0.2},
        {"judge_may_gate": True, "judge_win_rate": 0.45, "judge_win_high": 0.5},
        {"judge_may_gate": False, "judge_win_rate": 0.0, "judge_win_high": 0.1},
        {"ungraded_candidate": 30, "graded_points": 5.0},
    ],
)
def test_what_is_fit_or_says_nothing_holds_nothing_back(harmless):
    assert bounded(12.0, 2.0, 22.0, **harmless).outcome == DEPLOY


def test_a_judge_that_is_not_fit_is_told_and_decides_nothing():
    for rate in (0.0, 1.0):
        found = bounded(2.0, 1.0, 4.0, judge_may_gate=False, judge_win_rate=rate)
        assert found.outcome == STAY
        assert "decides nothing" in " ".join(found.reasons)


def test_ungraded_answers_are_warned_of():
    found = bounded(2.0, 1.0, 4.0, ungraded_baseline=1, ungraded_candidate=5, graded_points=6.0)
    assert "threw on 1 answers of the baseline and 5 of the candidate" in found.reasons[1]
    assert "without any of them the improvement is +6.0 points" in found.reasons[1]
    left_out = bounded(
        2.0, 1.0, 4.0, ungraded_baseline=1, ungraded_candidate=1, ungraded_left_out=2
    )
    assert "but for 2 on tasks where they threw at both sides" in left_out.reasons[1]
