"""After a promotion a few units stay behind; what they show can bring the version before back."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlmodel import select

from foundation.decisions import replay
from foundation.tables import now
from router import experiment as ab
from router.experiment import PLANS
from router.policy import set_policy
from router.promote import promote, rollback, running_experiment, serving_version
from router.tables import (
    CONTROL,
    HOLD_BACK,
    PROMOTED,
    ROLLED_BACK,
    STAYED,
    STOPPED,
    Experiment,
    Promotion,
)
from trainer.registry import set_stage_by_hand
from trainer.tables import PRODUCTION, QUARANTINED, RETIRED

PLAN = replace(PLANS["demo"], hold_back_days=14.0)


@pytest.fixture
def held(session, versions, play) -> Experiment:
    """The hold-back after an experiment that was won."""
    running = ab.start(session, "coder", versions[1], PLAN, "ada")
    play(running, 120, control=lambda i: 0.0)
    assert ab.evaluate(session, running).outcome == PROMOTED
    return running_experiment(session, "coder")


def test_a_promotion_leaves_a_few_units_with_the_version_before(session, versions, held) -> None:
    before, promoted = versions
    assert (held.kind, held.treatment_share) == (HOLD_BACK, 0.05)
    assert held.control_model_version_id == promoted.id, "the control is who serves"
    assert held.treatment_model_version_id == before.id
    assert (before.stage, promoted.stage) == (RETIRED, PRODUCTION)
    assert ab.evaluate(session, held) is None


def test_a_version_before_that_proves_better_comes_back(session, versions, held, play) -> None:
    before, promoted = versions
    play(held, 400, control=lambda i: 0.0)
    decision = ab.evaluate(session, held)
    assert (decision.kind, decision.outcome) == ("router.hold_back", ROLLED_BACK)
    assert replay(session, decision.id).agrees
    assert serving_version(session, "coder") is before
    assert (before.stage, promoted.stage) == (PRODUCTION, QUARANTINED)
    assert (held.status, held.decision_id) == (ROLLED_BACK, decision.id)
    change = session.exec(select(Promotion).where(Promotion.kind == "rollback")).one()
    assert change.decision_id == decision.id
    assert ab.evaluate(session, held).id == decision.id, "final"


def test_errors_of_what_was_promoted_bring_the_version_before_back(
    session, versions, held, play
) -> None:
    play(held, 60, latency_ms=5.0)
    for unit in range(30):
        row = ab.assign(session, held, f"broken-{unit}", "")
        ab.record_call(session, held.id, row.unit, error=row.arm == CONTROL, latency_ms=5.0)
    decision = ab.evaluate(session, held)
    assert decision.outcome == ROLLED_BACK
    assert any("calls failed" in reason for reason in decision.reasons)


def test_a_hold_back_ends_after_its_days(session, versions, held, play) -> None:
    play(held, 100)
    held.started_at = now() - timedelta(days=15)
    session.add(held)
    session.flush()
    decision = ab.evaluate(session, held)
    assert decision.outcome == STAYED
    assert serving_version(session, "coder") is versions[1]
    assert versions[0].stage == RETIRED


def test_nothing_is_held_back_for_what_was_quarantined_once(
    session, versions, make_version, play
) -> None:
    wronged, better = versions[1], make_version()
    promote(session, "coder", wronged, reason="better", actor="ada")
    rollback(session, "coder", reason="a key lied", actor="guard")
    set_stage_by_hand(session, wronged, RETIRED, reason="I looked", actor="ada")
    promote(session, "coder", wronged, reason="it was wronged", actor="ada")
    running = ab.start(session, "coder", better, PLAN, "ada")
    play(running, 120, control=lambda i: 0.0)
    assert ab.evaluate(session, running).outcome == PROMOTED
    assert running_experiment(session, "coder") is None


def test_the_next_experiment_ends_it(session, versions, held, make_version) -> None:
    following = ab.start(session, "coder", make_version(), PLAN, "ada")
    assert running_experiment(session, "coder") is following
    assert held.status == STAYED
    assert versions[0].stage == RETIRED


def test_a_promotion_by_hand_ends_it(session, versions, held, make_version) -> None:
    third = make_version()
    promote(session, "coder", third, reason="by hand", actor="ada")
    assert (held.status, serving_version(session, "coder")) == (STAYED, third)


def test_a_rollback_by_hand_ends_it(session, versions, held) -> None:
    rollback(session, "coder", reason="by hand", actor="ada")
    assert held.status == ROLLED_BACK
    assert serving_version(session, "coder") is versions[0]
    assert (versions[0].stage, versions[1].stage) == (PRODUCTION, QUARANTINED)


def test_a_person_may_stop_it(session, versions, held) -> None:
    assert ab.stop(session, held, "enough", "ada").outcome == STOPPED
    assert serving_version(session, "coder") is versions[1]
    assert versions[0].stage == RETIRED


@pytest.mark.parametrize("share", [0.0, 0.1])
def test_its_share_is_the_roles_policy(session, versions, play, share) -> None:
    set_policy(session, "coder", actor="ada", hold_back_share=share)
    running = ab.start(session, "coder", versions[1], PLAN, "ada")
    play(running, 120, control=lambda i: 0.0)
    ab.evaluate(session, running)
    found = running_experiment(session, "coder")
    assert (found.treatment_share if found else 0.0) == share


def test_a_plan_without_days_holds_nothing_back(session, versions, play) -> None:
    running = ab.start(session, "coder", versions[1], PLANS["demo"], "ada")
    play(running, 120, control=lambda i: 0.0)
    assert ab.evaluate(session, running).outcome == PROMOTED
    assert running_experiment(session, "coder") is None
