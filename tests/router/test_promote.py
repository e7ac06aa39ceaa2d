"""Who serves a role: each change is one transaction, and only one of two at a time wins."""

import threading

import pytest
from sqlmodel import Session, select

from foundation.database import session_scope
from foundation.decisions import record
from foundation.errors import BadInput, Conflict, FlywheelError, NotFound
from foundation.tables import Decision
from router import experiment
from router.promote import (
    end_experiment,
    initial,
    previous_version,
    promote,
    rollback,
    serving_version,
    was_quarantined,
)
from router.tables import ROLLED_BACK, STOPPED, Promotion, RoleServing
from trainer.registry import set_stage, set_stage_by_hand
from trainer.tables import EXPERIMENTAL, PRODUCTION, QUARANTINED, RETIRED, ModelVersion


def test_a_role_begins_with_its_first_version(session, make_version) -> None:
    assert serving_version(session, "coder") is None
    first = make_version()
    promotion = initial(session, "coder", first)
    assert serving_version(session, "coder") is first
    assert (promotion.kind, promotion.from_model_version_id) == ("initial", None)
    assert first.stage == PRODUCTION
    with pytest.raises(Conflict, match="coder"):
        initial(session, "coder", make_version())


def test_promotion_moves_pointer_stages_and_ledger_together(session, make_version) -> None:
    old, new = make_version(), make_version()
    initial(session, "coder", old)
    promotion = promote(session, "coder", new, reason="it is better", actor="ada")
    session.commit()
    assert serving_version(session, "coder") is new
    assert (old.stage, new.stage) == (RETIRED, PRODUCTION)
    decision = session.get(Decision, promotion.decision_id)
    assert (decision.kind, decision.outcome, decision.actor) == (
        "router.promote",
        "promoted",
        "ada",
    )
    assert decision.reasons == ["it is better"]
    assert session.get(RoleServing, "coder").promotion_id == promotion.id


def test_promoting_who_serves_is_a_conflict(session, make_version) -> None:
    old, new = make_version(), make_version()
    initial(session, "coder", old)
    promote(session, "coder", new, reason="better", actor="ada")
    with pytest.raises(Conflict, match="serves already"):
        promote(session, "coder", new, reason="again", actor="ada")
    assert len(session.exec(select(Promotion)).all()) == 2


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"is_control": True}, "control"),
        ({"stage": QUARANTINED}, "quarantined"),
        ({"role": "tester"}, "tester"),
    ],
)
def test_who_may_never_serve_is_refused(session, make_version, fields, words) -> None:
    initial(session, "coder", make_version())
    with pytest.raises(BadInput, match=words):
        promote(session, "coder", make_version(**fields), reason="try", actor="ada")


def test_unknown_role_and_role_without_service_are_named(session, make_version) -> None:
    version = make_version()
    with pytest.raises(NotFound, match="'painter'"):
        promote(session, "painter", version, reason="try", actor="ada")
    with pytest.raises(NotFound, match="somebody serves"):
        promote(session, "coder", version, reason="try", actor="ada")


def test_rollback_restores_the_previous_and_quarantines(session, make_version) -> None:
    first, second, third = make_version(), make_version(), make_version()
    initial(session, "coder", first)
    promote(session, "coder", second, reason="better", actor="ada")
    promote(session, "coder", third, reason="better", actor="ada")
    promotion = rollback(session, "coder", reason="errors", actor="guard")
    assert serving_version(session, "coder") is second
    assert (second.stage, third.stage) == (PRODUCTION, QUARANTINED)
    assert promotion.kind == "rollback"
    # The quarantined one is skipped by the next rollback.
    rollback(session, "coder", reason="errors again", actor="guard")
    assert serving_version(session, "coder") is first
    with pytest.raises(NotFound, match="earlier version"):
        rollback(session, "coder", reason="and again", actor="guard")
    assert previous_version(session, "coder") is None


def _roll_back(session: Session, version: ModelVersion) -> None:
    promote(session, "coder", version, reason="better", actor="ada")
    rollback(session, "coder", reason="one key said so", actor="guard")


def _by_experiment(session: Session, version: ModelVersion) -> None:
    running = experiment.start(session, "coder", version, experiment.PLANS["demo"], "ada")
    harm = record(session, "router.experiment", ROLLED_BACK, ["it is worse"])
    end_experiment(session, running, ROLLED_BACK, harm)


def _by_hand(session: Session, version: ModelVersion) -> None:
    set_stage_by_hand(session, version, QUARANTINED, reason="odd", actor="ada")


def _by_forgetting(session: Session, version: ModelVersion) -> None:
    record(session, "evaluator.forgetting", "quarantine", ["too much"], subject_id=version.id)
    set_stage(session, version, QUARANTINED)


@pytest.mark.parametrize("quarantine", [_roll_back, _by_experiment, _by_hand, _by_forgetting])
def test_what_was_quarantined_serves_again_by_a_persons_word_alone(
    session, make_version, quarantine
) -> None:
    first, wronged, third = make_version(), make_version(), make_version()
    initial(session, "coder", first)
    quarantine(session, wronged)
    assert wronged.stage == QUARANTINED
    with pytest.raises(BadInput, match="set it to retired"):
        promote(session, "coder", wronged, reason="it was wronged", actor="ada")
    assert was_quarantined(session, wronged)
    set_stage_by_hand(session, wronged, RETIRED, reason="the key lied", actor="ada")
    promotion = promote(session, "coder", wronged, reason="it was wronged", actor="ada")
    decision = session.get(Decision, promotion.decision_id)
    assert (decision.actor, decision.reasons) == ("ada", ["it was wronged"])
    promote(session, "coder", third, reason="better", actor="ada")
    assert (wronged.stage, was_quarantined(session, wronged)) == (RETIRED, True)
    assert previous_version(session, "coder") is first, "nothing goes back to it by itself"
    rollback(session, "coder", reason="I looked", actor="ada", to=wronged)
    assert serving_version(session, "coder") is wronged


def test_what_was_never_quarantined_is_gone_back_to(session, make_version) -> None:
    first, second = make_version(), make_version()
    initial(session, "coder", first)
    promote(session, "coder", second, reason="better", actor="ada")
    assert previous_version(session, "coder") is first
    assert not was_quarantined(session, first)


def test_rollback_to_a_named_version(session, make_version) -> None:
    first, second, third = make_version(), make_version(), make_version()
    initial(session, "coder", first)
    promote(session, "coder", second, reason="better", actor="ada")
    promote(session, "coder", third, reason="better", actor="ada")
    rollback(session, "coder", reason="errors", actor="ada", to=first)
    assert serving_version(session, "coder") is first
    with pytest.raises(Conflict):
        rollback(session, "coder", reason="errors", actor="ada", to=first)


def test_promotion_by_hand_waits_for_the_experiment(session, make_version) -> None:
    old, treatment, other = make_version(), make_version(), make_version()
    initial(session, "coder", old)
    running = experiment.start(session, "coder", treatment, experiment.PLANS["demo"], "ada")
    with pytest.raises(Conflict, match=str(running.id)):
        promote(session, "coder", other, reason="impatient", actor="ada")


def test_rollback_stops_the_experiment_that_lost_its_control(session, make_version) -> None:
    first, second, treatment = make_version(), make_version(), make_version()
    initial(session, "coder", first)
    promote(session, "coder", second, reason="better", actor="ada")
    running = experiment.start(session, "coder", treatment, experiment.PLANS["demo"], "ada")
    assert treatment.stage == EXPERIMENTAL
    rollback(session, "coder", reason="errors", actor="guard")
    assert running.status == STOPPED
    assert treatment.stage == "candidate"
    assert serving_version(session, "coder") is first


def test_a_failed_transaction_leaves_nothing(session, make_version) -> None:
    old, new = make_version(), make_version()
    initial(session, "coder", old)
    session.commit()
    promote(session, "coder", new, reason="better", actor="ada")
    session.rollback()
    assert serving_version(session, "coder").id == old.id
    assert [p.kind for p in session.exec(select(Promotion)).all()] == ["initial"]
    assert session.exec(select(Decision.kind)).all() == ["router.initial"]


@pytest.mark.parametrize("candidates", [1, 2], ids=["same version", "two versions"])
def test_two_promotions_at_once(session, make_version, candidates) -> None:
    old, versions = make_version(), [make_version() for _ in range(2)]
    initial(session, "coder", old)
    session.commit()
    targets = [versions[i % candidates].id for i in range(2)]
    start, outcomes = threading.Barrier(2), []

    def attempt(version_id) -> None:
        try:
            with session_scope() as own:
                version = own.get(ModelVersion, version_id)
                start.wait()
                outcomes.append(promote(own, "coder", version, reason="race", actor="x").kind)
        except FlywheelError as error:
            outcomes.append(type(error).__name__)

    threads = [threading.Thread(target=attempt, args=(target,)) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with session_scope() as fresh:
        stages = sorted(v.stage for v in fresh.exec(select(ModelVersion)).all())
        history = fresh.exec(select(Promotion).order_by(Promotion.id)).all()
    if candidates == 1:
        assert sorted(outcomes) == ["Conflict", "promote"]
        assert stages == ["candidate", PRODUCTION, RETIRED]
    else:
        assert outcomes == ["promote", "promote"]
        assert stages == [PRODUCTION, RETIRED, RETIRED]
        # One after the other: each starts from what the one before it left.
        links = {p.from_model_version_id: p.to_model_version_id for p in history}
        assert len(links) == 3


def test_two_first_versions_at_once(session, make_version) -> None:
    versions = [make_version().id, make_version().id]
    session.commit()
    start, outcomes = threading.Barrier(2), []

    def attempt(version_id) -> None:
        try:
            with session_scope() as own:
                version = own.get(ModelVersion, version_id)
                start.wait()
                outcomes.append(initial(own, "coder", version).kind)
        except FlywheelError as error:
            outcomes.append(type(error).__name__)

    threads = [threading.Thread(target=attempt, args=(v,)) for v in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["Conflict", "initial"]
    with Session(session.get_bind()) as fresh:
        assert len(fresh.exec(select(Promotion)).all()) == 1
