"""Experiments: sticky assignment, outcomes that stand still, and each final state, on real rows."""

import threading
from dataclasses import asdict, replace
from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlmodel import Session, select

from collector.tables import Feedback, Interaction
from foundation.database import session_scope
from foundation.decisions import replay
from foundation.errors import BadInput, Conflict, NotFound
from foundation.ids import new_id
from foundation.tables import Decision, now
from router import experiment as ab
from router.experiment import PLANS, Evidence, ExperimentPlan
from router.promote import initial, serving_version
from router.tables import (
    CONTROL,
    HALTED,
    PROMOTED,
    ROLLED_BACK,
    RUNNING,
    STAYED,
    STOPPED,
    TREATMENT,
    Assignment,
    Experiment,
    Promotion,
)
from trainer.tables import EXPERIMENTAL, PRODUCTION, QUARANTINED, RETIRED

PLAN = PLANS["demo"]


@pytest.fixture
def versions(session, make_version):
    control, treatment = make_version(), make_version()
    initial(session, "coder", control)
    return control, treatment


def begin(session: Session, treatment, plan: ExperimentPlan = PLAN) -> Experiment:
    return ab.start(session, "coder", treatment, plan, "ada")


def play(session: Session, running: Experiment, n: int, success: dict[str, object]) -> None:
    """Assign `n` units; `success[arm]` says, for the i-th unit of the arm, how it ended."""
    seen = {CONTROL: 0, TREATMENT: 0}
    for _ in range(n):
        unit = new_id()
        arm = ab.assign(session, running, str(unit), "sum|day").arm
        value = float(success[arm](seen[arm]))
        seen[arm] += 1
        session.add(Feedback(episode_id=unit, kind="success", value=value, source="test"))
    session.flush()
    ab.collect_outcomes(session, running)


def test_start_takes_who_serves_as_control(session, versions) -> None:
    control, treatment = versions
    running = begin(session, treatment)
    assert running.control_model_version_id == control.id
    assert (running.status, treatment.stage) == (RUNNING, EXPERIMENTAL)
    assert running.plan == asdict(PLAN)
    decision = session.exec(select(Decision).where(Decision.kind == "router.start")).one()
    assert (decision.actor, decision.subject_id) == ("ada", running.id)


def test_only_one_runs_per_role(session, versions, make_version) -> None:
    _, treatment = versions
    running = begin(session, treatment)
    with pytest.raises(Conflict, match=str(running.id)):
        begin(session, make_version())


def test_start_refuses_who_serves_controls_and_roles_without_service(
    session, versions, make_version
) -> None:
    control, _ = versions
    with pytest.raises(Conflict, match="serve"):
        begin(session, control)
    with pytest.raises(BadInput, match="control"):
        begin(session, make_version(is_control=True))
    tester = make_version("tester")
    with pytest.raises(NotFound, match="tester"):
        ab.start(session, "tester", tester, PLAN, "ada")


def test_assignment_is_sticky_and_written_once(session, versions) -> None:
    running = begin(session, versions[1])
    first = ab.assign(session, running, "task-1", "sum|monday")
    again = ab.assign(session, running, "task-1", "sum|tuesday")
    assert (first.id, first.arm, first.stratum) == (again.id, again.arm, "sum|monday")
    arms = {ab.assign(session, running, f"task-{i}", "sum|monday").arm for i in range(20)}
    assert arms == {CONTROL, TREATMENT}
    assert len(session.exec(select(Assignment)).all()) == 20


def test_many_writers_assign_one_unit_once(session, versions) -> None:
    running = begin(session, versions[1])
    session.commit()
    start, arms = threading.Barrier(4), []

    def attempt() -> None:
        with session_scope() as own:
            start.wait()
            arms.append(ab.assign(own, running, "the-task", "").id)

    threads = [threading.Thread(target=attempt) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(arms) == 4
    assert len(set(arms)) == 1


def test_calls_are_counted_for_their_unit(session, versions) -> None:
    running = begin(session, versions[1])
    unit = ab.assign(session, running, "task-1", "")
    ab.record_call(session, running.id, "task-1", error=False, latency_ms=3000.0)
    ab.record_call(session, running.id, "task-1", error=True, latency_ms=3000.1)
    ab.record_call(session, running.id, "task-1", error=True, latency_ms=None)
    ab.record_call(session, running.id, "nobody", error=True, latency_ms=None)
    session.refresh(unit)
    assert (unit.n_calls, unit.n_errors, unit.n_slow) == (3, 2, 1)


def test_the_first_word_on_an_episode_stands(session, versions) -> None:
    running = begin(session, versions[1])
    episode = new_id()
    unit = ab.assign(session, running, str(episode), "")
    assert ab.collect_outcomes(session, running) == 0
    session.add(Feedback(episode_id=episode, kind="rating", value=1.0))
    session.add(Feedback(episode_id=episode, kind="success", value=1.0))
    session.flush()
    assert ab.collect_outcomes(session, running) == 1
    session.add(Feedback(episode_id=episode, kind="success", value=0.0))
    session.flush()
    assert ab.collect_outcomes(session, running) == 0
    session.refresh(unit)
    assert unit.outcome is True
    assert unit.timed_out is False


def test_feedback_on_another_roles_call_says_nothing_of_this_role(session, versions) -> None:
    running = begin(session, versions[1])
    episode = new_id()
    unit = ab.assign(session, running, str(episode), "")
    calls = {role: Interaction(role=role, episode_id=episode) for role in ("coder", "reviewer")}
    session.add_all(calls.values())
    session.flush()
    session.add(
        Feedback(interaction_id=calls["reviewer"].id, episode_id=episode, kind="success", value=0.0)
    )
    session.flush()
    assert ab.collect_outcomes(session, running) == 0
    session.add(Feedback(interaction_id=calls["coder"].id, kind="success", value=1.0))
    session.flush()
    assert ab.collect_outcomes(session, running) == 1
    session.refresh(unit)
    assert unit.outcome is True


def test_feedback_finds_a_unit_that_is_no_episode(session, versions) -> None:
    running = begin(session, versions[1])
    unit = ab.assign(session, running, "agent-7", "")
    call = Interaction(role="coder", unit_id="agent-7", episode_id=new_id())
    session.add(call)
    session.flush()
    session.add(Feedback(interaction_id=call.id, kind="success", value=0.0))
    session.flush()
    assert ab.collect_outcomes(session, running) == 1
    session.refresh(unit)
    assert unit.outcome is False


def test_a_unit_without_outcome_times_out_as_a_failure(session, versions) -> None:
    running = begin(session, versions[1], replace(PLAN, outcome_timeout_s=60.0))
    late = ab.assign(session, running, str(new_id()), "")
    young = ab.assign(session, running, str(new_id()), "")
    late.assigned_at = now() - timedelta(seconds=61)
    session.add(late)
    session.flush()
    assert ab.collect_outcomes(session, running) == 1
    session.refresh(late)
    session.refresh(young)
    assert (late.outcome, late.timed_out) == (False, True)
    assert young.outcome is None


def say(session: Session, unit: Assignment, success: bool) -> None:
    session.add(Feedback(episode_id=UUID(unit.unit), kind="success", value=float(success)))
    session.flush()


def test_late_feedback_decides_what_a_time_out_had_settled_once(session, versions) -> None:
    running = begin(session, versions[1], replace(PLAN, outcome_timeout_s=0.0))
    units = [ab.assign(session, running, str(new_id()), "") for _ in range(3)]
    assert ab.collect_outcomes(session, running) == 3
    session.refresh(units[0])
    settled_at = units[0].outcome_at
    say(session, units[0], True)
    say(session, units[1], False)
    assert ab.collect_outcomes(session, running) == 2
    say(session, units[0], False)
    say(session, units[1], True)
    assert ab.collect_outcomes(session, running) == 0, "the first word stands"
    for unit in units:
        session.refresh(unit)
    assert [unit.outcome for unit in units] == [True, False, False]
    assert [unit.late_at is not None for unit in units] == [True, True, False]
    assert all(unit.timed_out for unit in units)
    assert units[0].outcome_at == settled_at, "its pair keeps its place"


@pytest.mark.parametrize("late_arm", [CONTROL, TREATMENT])
def test_late_feedback_takes_a_proof_away_but_makes_none(session, versions, late_arm) -> None:
    """The late arm succeeds as often as the other, only later."""
    running = begin(session, versions[1])
    units = [ab.assign(session, running, str(new_id()), "") for _ in range(60)]
    on_time = [unit for unit in units if unit.arm != late_arm]
    for unit in on_time:
        say(session, unit, True)
    ab.collect_outcomes(session, running)
    for unit in units:
        unit.assigned_at = now() - timedelta(days=2)
    session.flush()
    ab.collect_outcomes(session, running)
    before, _ = ab.gather(session, running)
    proof = PROMOTED if late_arm == CONTROL else ROLLED_BACK
    assert ab.rule(asdict(before), running.plan).outcome == proof
    for unit in units:
        if unit.arm == late_arm:
            say(session, unit, True)
    ab.collect_outcomes(session, running)
    after, _ = ab.gather(session, running)
    assert ab.rule(asdict(after), running.plan).outcome == RUNNING
    assert (after.wins, after.losses) == (before.wins, before.losses), "the first settled stand"
    assert (after.late_wins, after.late_losses) == (0, 0)
    assert after.log_e <= before.log_e
    assert after.late[late_arm] == 60 - len(on_time)
    assert "with late feedback" in ab.status(session, running).reasons[0]
    assert ab.status(session, running).success_rate == {CONTROL: 1.0, TREATMENT: 1.0}


def test_evidence_is_the_weaker_of_both_readings() -> None:
    seen = evidence(wins=9, losses=0, late_wins=30, late_losses=0)
    assert seen.log_e == evidence(wins=9).log_e, "late feedback adds no proof"
    assert evidence(wins=30, late_wins=9, late_losses=0).log_e == seen.log_e
    assert evidence(losses=30, late_wins=0, late_losses=0).log_e_harm == 0.0
    assert outcome_of(evidence(wins=9, late_wins=3, late_losses=3)) == RUNNING


def test_a_better_treatment_is_promoted_in_one_transaction(session, versions) -> None:
    control, treatment = versions
    running = begin(session, treatment)
    play(session, running, 10, {CONTROL: lambda i: 0, TREATMENT: lambda i: 1})
    assert ab.evaluate(session, running) is None, "ten units are too few"
    play(session, running, 120, {CONTROL: lambda i: 0, TREATMENT: lambda i: 1})
    decision = ab.evaluate(session, running)
    assert decision.outcome == PROMOTED
    assert replay(session, decision.id).agrees
    assert serving_version(session, "coder") is treatment
    assert (control.stage, treatment.stage) == (RETIRED, PRODUCTION)
    promotion = session.exec(select(Promotion).where(Promotion.kind == "promote")).one()
    assert (promotion.experiment_id, promotion.decision_id) == (running.id, decision.id)
    assert (running.status, running.decision_id) == (PROMOTED, decision.id)
    # Final and idempotent: neither a further look nor a stop changes anything.
    assert ab.evaluate(session, running).id == decision.id
    assert ab.stop(session, running, "too late", "ada").id == decision.id
    assert len(session.exec(select(Promotion)).all()) == 2


def test_no_difference_stays_at_the_planned_end(session, versions) -> None:
    control, treatment = versions
    running = begin(session, treatment, replace(PLAN, min_per_arm=5, max_per_arm=15))
    play(session, running, 120, {CONTROL: lambda i: i % 2, TREATMENT: lambda i: i % 2})
    decision = ab.evaluate(session, running)
    assert decision.outcome == STAYED
    assert serving_version(session, "coder") is control
    assert treatment.stage == RETIRED


def test_a_worse_treatment_is_rolled_back_to_quarantine(session, versions) -> None:
    control, treatment = versions
    running = begin(session, treatment)
    play(session, running, 120, {CONTROL: lambda i: 1, TREATMENT: lambda i: 0})
    decision = ab.evaluate(session, running)
    assert decision.outcome == ROLLED_BACK
    assert serving_version(session, "coder") is control
    assert treatment.stage == QUARANTINED
    with pytest.raises(BadInput, match="quarantined"):
        begin(session, treatment)


def test_a_treatment_whose_calls_fail_is_rolled_back(session, versions) -> None:
    _, treatment = versions
    running = begin(session, treatment)
    for i in range(60):
        unit = ab.assign(session, running, str(new_id()), "")
        broken = unit.arm == TREATMENT and i % 2 == 0
        ab.record_call(session, running.id, unit.unit, error=broken, latency_ms=10.0)
    decision = ab.evaluate(session, running)
    assert decision.outcome == ROLLED_BACK
    assert "calls failed" in decision.reasons[0]
    assert treatment.stage == QUARANTINED


def test_a_broken_split_halts_before_anything_is_concluded(session, versions) -> None:
    control, treatment = versions
    running = begin(session, treatment)
    for _ in range(200):
        row = Assignment(
            experiment_id=running.id, unit=str(new_id()), arm=TREATMENT, outcome=True,
            outcome_at=now(),
        )  # fmt: skip
        session.add(row)
    session.flush()
    assert ab.evaluate(session, running).outcome == HALTED
    assert serving_version(session, "coder") is control
    assert treatment.stage == "candidate"


def test_stop_is_final_and_the_role_may_start_again(session, versions) -> None:
    _, treatment = versions
    running = begin(session, treatment)
    decision = ab.stop(session, running, "release freeze", "ada")
    assert (decision.outcome, decision.actor) == (STOPPED, "ada")
    assert ab.stop(session, running, "again", "bob").id == decision.id
    assert ab.evaluate(session, running).id == decision.id
    assert begin(session, treatment).status == RUNNING


def test_two_evaluations_at_once_decide_once(session, versions) -> None:
    running = begin(session, versions[1])
    play(session, running, 120, {CONTROL: lambda i: 0, TREATMENT: lambda i: 1})
    session.commit()
    start, outcomes = threading.Barrier(3), []

    def attempt() -> None:
        with session_scope() as own:
            mine = ab.get_experiment(own, running.id)
            start.wait()
            outcomes.append(ab.evaluate(own, mine).id)

    threads = [threading.Thread(target=attempt) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(outcomes)) == 1
    assert len(outcomes) == 3
    with session_scope() as fresh:
        assert len(fresh.exec(select(Promotion)).all()) == 2


def test_status_says_how_it_stands_and_how_far_it_is(session, versions) -> None:
    running = begin(session, versions[1])
    empty = ab.status(session, running)
    assert (empty.e_value, empty.p_value, empty.gain, empty.more_per_arm) == (1.0, 1.0, None, None)
    play(session, running, 24, {CONTROL: lambda i: 0, TREATMENT: lambda i: i % 3 == 0})
    shown = ab.status(session, running)
    assert (shown.control, shown.treatment) == ("coder-v1", "coder-v2")
    assert shown.success_rate[CONTROL] == 0.0
    assert shown.evidence.losses == 0
    assert shown.gain_low <= shown.gain <= shown.gain_high
    assert shown.more_per_arm > 0
    assert ab.evaluate(session, running) is None
    assert running.state["difference"]["estimate"] == shown.gain


# The rule itself, pure.


def evidence(**changes: object) -> Evidence:
    both = {CONTROL: 50, TREATMENT: 50}
    calm = {CONTROL: 0, TREATMENT: 0}
    base = Evidence(
        assigned=both, analysed=both, successes=both, timed_out=calm, calls=both, errors=calm,
        slow=calm, pairs=50, wins=0, losses=0, max_log_e=0.0, days=8.0,
    )  # fmt: skip
    return replace(base, **changes)


def outcome_of(seen: Evidence, **plan: object) -> str:
    return ab.rule(asdict(seen), asdict(replace(ExperimentPlan(), **plan))).outcome


def test_nine_straight_wins_are_the_fewest_that_promote() -> None:
    assert outcome_of(evidence(wins=8)) == RUNNING
    assert outcome_of(evidence(wins=9)) == PROMOTED
    assert outcome_of(evidence(losses=8)) == RUNNING
    assert outcome_of(evidence(losses=9)) == ROLLED_BACK
    assert outcome_of(evidence(wins=9), alpha=0.01) == RUNNING


def test_proof_waits_for_the_minimums() -> None:
    few = {CONTROL: 49, TREATMENT: 50}
    assert outcome_of(evidence(wins=20, analysed=few)) == RUNNING
    assert outcome_of(evidence(wins=20, days=6.99)) == RUNNING
    assert outcome_of(evidence(wins=20, days=7.0)) == PROMOTED
    # A proven winner that only waits for its week is not sent home at the planned end.
    assert outcome_of(evidence(wins=20, days=6.0), max_per_arm=50) == RUNNING


def test_the_planned_end_is_the_smaller_arms() -> None:
    assert outcome_of(evidence(analysed={CONTROL: 60, TREATMENT: 59}), max_per_arm=60) == RUNNING
    assert outcome_of(evidence(analysed={CONTROL: 60, TREATMENT: 60}), max_per_arm=60) == STAYED


def test_harm_goes_before_proof_and_split_before_harm() -> None:
    failing = {CONTROL: 0, TREATMENT: 30}
    assert outcome_of(evidence(wins=20, errors=failing)) == ROLLED_BACK
    assert outcome_of(evidence(wins=20, slow=failing)) == ROLLED_BACK
    lopsided = {CONTROL: 0, TREATMENT: 200}
    assert outcome_of(evidence(wins=20, errors=failing, assigned=lopsided)) == HALTED


def test_errors_of_the_control_do_not_count_against_the_treatment() -> None:
    assert outcome_of(evidence(errors={CONTROL: 30, TREATMENT: 0})) == RUNNING


@given(wins=st.integers(0, 400), losses=st.integers(0, 400))
def test_the_rule_never_promotes_and_rolls_back_alike(wins: int, losses: int) -> None:
    better = outcome_of(evidence(wins=wins, losses=losses, pairs=800))
    worse = outcome_of(evidence(wins=losses, losses=wins, pairs=800))
    assert (better == PROMOTED) == (worse == ROLLED_BACK)


@pytest.mark.parametrize(
    ("field", "value"),
    [("alpha", 0.0), ("treatment_share", 1.0), ("min_per_arm", -1), ("harm_e", 1.0),
     ("max_per_arm", 10), ("error_limit", 2.0)],
)  # fmt: skip
def test_a_plan_that_makes_no_sense_is_refused(field: str, value: float) -> None:
    with pytest.raises(BadInput, match=field):
        ExperimentPlan(**{field: value})


def test_a_profile_with_changes() -> None:
    assert ab.plan_from("demo", alpha=0.01).alpha == 0.01
    with pytest.raises(NotFound, match="'weekly'"):
        ab.plan_from("weekly")
    with pytest.raises(BadInput, match="alfa"):
        ab.plan_from("demo", alfa=0.01)
