"""What is compared: scores, users' choices, and sticky units that are analysed one each."""

from dataclasses import asdict, replace
from datetime import timedelta
from itertools import count

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DataError
from sqlmodel import Session, select

from collector.tables import Feedback, Interaction
from foundation.decisions import replay
from foundation.errors import BadInput
from foundation.ids import new_id
from foundation.tables import now
from router import experiment as ab
from router.assign import unit_of
from router.experiment import PLANS, ExperimentPlan
from router.experiments import outcomes
from router.preferences import read_choices
from router.promote import running_experiment
from router.tables import (
    AGENT,
    CONTROL,
    EPISODE,
    PROMOTED,
    ROLLED_BACK,
    STAYED,
    TREATMENT,
    USER,
    Assignment,
    Experiment,
)

PLAN = PLANS["demo"]
SCORES = replace(PLAN, outcome_kind="score", score_name="quality", max_per_arm=100)
CHOICES = replace(PLAN, outcome_kind="preference")
STICKY = replace(PLAN, unit_kind=AGENT, planned_days=10.0, looks=5)


def score(session: Session, running: Experiment, n: int, means: dict[str, float], **said) -> None:
    for i in range(n):
        unit = new_id()
        arm = ab.assign(session, running, str(unit), "").arm
        value = means[arm] + 0.1 * (i % 3 - 1)
        fields = {"kind": "metric", "name": "quality", **said}
        session.add(Feedback(episode_id=unit, value=value, source="judge", **fields))
    session.flush()
    ab.collect_outcomes(session, running)


def test_better_scores_are_proven_by_how_much(session, versions) -> None:
    running = ab.start(session, "coder", versions[1], SCORES, "ada")
    score(session, running, 160, {CONTROL: 0.4, TREATMENT: 0.85})
    decision = ab.evaluate(session, running)
    assert decision.outcome == PROMOTED
    assert "mean score +0.4" in decision.reasons[0]
    assert replay(session, decision.id).agrees


def test_worse_scores_roll_back(session, versions) -> None:
    running = ab.start(session, "coder", versions[1], SCORES, "ada")
    score(session, running, 160, {CONTROL: 0.8, TREATMENT: 0.4})
    assert ab.evaluate(session, running).outcome == ROLLED_BACK


def test_a_gain_below_the_wanted_improvement_stays(session, versions) -> None:
    plan = replace(SCORES, min_improvement=0.5)
    running = ab.start(session, "coder", versions[1], plan, "ada")
    score(session, running, 260, {CONTROL: 0.4, TREATMENT: 0.8})
    assert ab.evaluate(session, running).outcome == STAYED


def test_scores_stay_within_their_bounds_and_ratings_are_read_as_scores(session, versions) -> None:
    rated = replace(SCORES, score_name="rating")
    running = ab.start(session, "coder", versions[1], rated, "ada")
    for value in (1.0, 3.0, 5.0):
        unit = new_id()
        ab.assign(session, running, str(unit), "")
        session.add(Feedback(episode_id=unit, kind="rating", value=value, source="user"))
    session.flush()
    assert ab.collect_outcomes(session, running) == 3
    units = session.exec(select(Assignment).order_by(Assignment.sequence)).all()
    assert [unit.score for unit in units] == [0.0, 0.5, 1.0]
    assert [unit.outcome for unit in units] == [False, True, True]


def test_a_score_that_never_comes_is_zero(session, versions) -> None:
    plan = replace(SCORES, outcome_timeout_s=0.0)
    running = ab.start(session, "coder", versions[1], plan, "ada")
    ab.assign(session, running, str(new_id()), "")
    assert ab.collect_outcomes(session, running) == 1
    assert session.exec(select(Assignment.score)).one() == 0.0


def choose(
    session: Session, versions, n: int, won: bool, task: object = None, source: str = "user"
) -> None:
    """Let a person prefer one of two shown answers, one of each version, `n` times."""
    for _ in range(n):
        episode = task or new_id()
        calls = [
            Interaction(role="coder", model_version_id=version.id, episode_id=episode)
            for version in versions
        ]
        session.add_all(calls)
        session.flush()
        winner, loser = reversed(calls) if won else calls
        said = Feedback(
            interaction_id=winner.id, loser_interaction_id=loser.id, kind="preference",
            source=source,
        )  # fmt: skip
        session.add(said)
    session.flush()


def test_what_users_choose_promotes(session, versions) -> None:
    running = ab.start(session, "coder", versions[1], CHOICES, "ada")
    choose(session, versions, 3, won=False)
    assert ab.evaluate(session, running) is None
    choose(session, versions, 30, won=True)
    decision = ab.evaluate(session, running)
    assert decision.outcome == PROMOTED
    assert "30 pairs won and 3 lost of 33" in decision.reasons[0]
    assert replay(session, decision.id).agrees


def test_what_users_reject_goes_home(session, versions) -> None:
    running = ab.start(session, "coder", versions[1], CHOICES, "ada")
    choose(session, versions, 20, won=False)
    assert ab.evaluate(session, running).outcome == ROLLED_BACK


def test_a_task_has_one_choice_and_a_judge_has_none(session, versions, make_version) -> None:
    running = ab.start(session, "coder", versions[1], CHOICES, "ada")
    task = new_id()
    choose(session, versions, 1, won=False, task=task)
    choose(session, versions, 5, won=True, task=task)
    choose(session, versions, 5, won=True, source="judge")
    choose(session, (versions[0], make_version()), 5, won=True)
    assert [choice.treatment_won for choice in read_choices(session, running)] == [False]


def act(session: Session, running: Experiment, unit: str, successes: int, tasks: int) -> None:
    arm = ab.assign(session, running, unit, "").arm
    for i in range(tasks):
        episode = new_id()
        call = Interaction(
            role="coder", unit_id=unit, episode_id=episode, experiment_id=running.id, arm=arm
        )
        session.add(call)
        said = Feedback(episode_id=episode, kind="success", value=float(i < successes))
        session.add(said)


def days_later(session: Session, running: Experiment, days: float) -> None:
    running.started_at = running.started_at - timedelta(days=days)
    session.add(running)
    session.flush()


def test_sticky_units_bring_their_tasks(session, versions) -> None:
    running = ab.start(session, "coder", versions[1], STICKY, "ada")
    act(session, running, "agent-1", 2, 3)
    session.flush()
    assert ab.collect_outcomes(session, running) == 1
    assert ab.collect_outcomes(session, running) == 0, "nothing new"
    unit = session.exec(select(Assignment)).one()
    assert (unit.n_successes, unit.n_tasks, unit.outcome) == (2, 3, None)


def test_few_sticky_units_are_refused_with_the_reason(session, versions) -> None:
    running = ab.start(session, "coder", versions[1], STICKY, "ada")
    for i in range(12):
        act(session, running, f"agent-{i}", 3, 3)
    session.flush()
    ab.collect_outcomes(session, running)
    days_later(session, running, 5.0)
    assert ab.evaluate(session, running) is None
    assert "at least 20 in each are needed" in running.state["reasons"][0]
    assert running.state["looks"] == []


def test_sticky_units_are_decided_at_planned_looks_only(session, versions) -> None:
    running = ab.start(session, "coder", versions[1], STICKY, "ada")
    for i in range(80):
        arm = ab.assign(session, running, f"agent-{i}", "").arm
        act(session, running, f"agent-{i}", (4 if arm == TREATMENT else 1) + i % 2, 5)
    session.flush()
    ab.collect_outcomes(session, running)
    assert ab.evaluate(session, running) is None, "no look is due on the first day"
    days_later(session, running, 2.1)
    decision = ab.evaluate(session, running)
    assert decision.outcome == PROMOTED
    assert "look 1 of 5" in decision.reasons[0]
    assert replay(session, decision.id).agrees
    status = ab.status(session, running)
    assert status.gain == pytest.approx(0.6, abs=0.05)


def test_sticky_units_without_a_difference_stay_at_the_planned_end(session, versions) -> None:
    running = ab.start(session, "coder", versions[1], STICKY, "ada")
    numbers = {CONTROL: count(), TREATMENT: count()}
    for i in range(80):
        arm = ab.assign(session, running, f"agent-{i}", "").arm
        act(session, running, f"agent-{i}", 2 + next(numbers[arm]) % 3, 5)
    session.flush()
    ab.collect_outcomes(session, running)
    days_later(session, running, 10.1)
    assert ab.evaluate(session, running).outcome == STAYED


def test_planned_looks_decide_only_when_they_are_due(session, versions, play) -> None:
    plan = replace(PLAN, mode="planned", looks=4, max_per_arm=80, min_per_arm=1)
    running = ab.start(session, "coder", versions[1], plan, "ada")
    play(running, 20, control=lambda i: 0.0)
    assert ab.evaluate(session, running) is None, "9 pairs, the first look is after 20"
    play(running, 60, control=lambda i: 0.0)
    decision = ab.evaluate(session, running)
    assert decision.outcome == PROMOTED
    assert "look 1 of 4" in decision.reasons[0]
    assert replay(session, decision.id).agrees


def play_apart(session: Session, running: Experiment, n: int, n_pairs: int, wins: bool) -> None:
    """Give each arm `n` units of which `n_pairs` find a partner; the treatment wins, or none."""
    seen = {CONTROL: 0, TREATMENT: 0}
    while min(seen.values()) < n:
        unit = new_id()
        row = ab.assign(session, running, str(unit), "met")
        row.stratum = "met" if seen[row.arm] < n_pairs else f"only {row.arm}"
        seen[row.arm] += 1
        value = float(row.arm == TREATMENT or not wins)
        said = {"episode_id": unit, "kind": "success", "value": value, "source": "test"}
        session.add_all([row, Feedback(**said)])
    session.flush()
    ab.collect_outcomes(session, running)


@pytest.mark.parametrize(("wins", "outcome"), [(True, PROMOTED), (False, STAYED)])
def test_an_end_with_too_few_pairs_is_the_last_look(session, versions, wins, outcome) -> None:
    plan = replace(PLAN, mode="planned", looks=2, max_per_arm=20, min_per_arm=1)
    running = ab.start(session, "coder", versions[1], plan, "ada")
    play_apart(session, running, 36, 8, wins)
    assert ab.evaluate(session, running) is None, "8 pairs, the first look is after 10"
    play_apart(session, running, 4, 0, wins)
    decision = ab.evaluate(session, running)
    assert decision.outcome == outcome
    assert [(look["n"], look["fraction"]) for look in decision.inputs["looks"]] == [(8, 0.4)]
    assert replay(session, decision.id).agrees


def test_the_last_look_of_a_hold_back_comes_with_its_time(session, versions) -> None:
    plan = replace(
        PLAN, mode="planned", looks=2, max_per_arm=20, min_per_arm=1, hold_back_days=14.0
    )
    won = ab.start(session, "coder", versions[1], plan, "ada")
    play_apart(session, won, 12, 12, wins=True)
    assert ab.evaluate(session, won).outcome == PROMOTED
    held = running_experiment(session, "coder")
    held.treatment_share = 0.5
    play_apart(session, held, 45, 8, wins=True)
    assert ab.gather(session, held)[0].looks == [], "its end is a time, whatever units there are"
    days_later(session, held, 14.0)
    assert [look["n"] for look in ab.gather(session, held)[0].looks] == [8]


@pytest.mark.parametrize(
    ("kind", "sticky", "unit"),
    [
        (EPISODE, "ada", "episode"),
        (USER, "ada", "ada"),
        (AGENT, "agent-7", "agent-7"),
        (USER, None, None),
    ],
)
def test_a_unit_is_what_the_experiment_says(kind, sticky, unit) -> None:
    assert unit_of(kind, "episode", sticky, "call") == unit
    assert unit_of(EPISODE, None, None, "call") == "call"


def test_cost_refusals_tools_and_fallbacks_are_counted(session, versions) -> None:
    running = ab.start(session, "coder", versions[1], PLAN, "ada")
    unit = ab.assign(session, running, "task", "")
    for _ in range(2):
        ab.record_call(
            session, running.id, "task", error=False, latency_ms=1.0, cost_usd=0.25, tokens=100,
            refused=True, tool_calls=3, bad_tool_calls=1, fallback=True,
        )  # fmt: skip
    session.refresh(unit)
    assert (unit.cost_usd, unit.tokens, unit.n_refusals) == (0.5, 200, 2)
    assert (unit.n_tool_calls, unit.n_bad_tool_calls, unit.n_fallbacks) == (6, 2, 2)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("errors", {"fallback": True}),
        ("cost", {"cost_usd": 2.0}),
        ("refusals", {"refused": True}),
        ("tool_calls", {"tool_calls": 1, "bad_tool_calls": 1}),
    ],
)
def test_each_guardrail_rolls_back_alone(session, versions, play, name, call) -> None:
    """The treatment succeeds as often; it only costs, refuses, stumbles or falls back."""
    running = ab.start(session, "coder", versions[1], PLAN, "ada")
    play(running, 60)
    for unit in session.exec(select(Assignment)).all():
        bad = call if unit.arm == TREATMENT else {}
        ab.record_call(session, running.id, unit.unit, error=False, latency_ms=1.0, **bad)
    decision = ab.evaluate(session, running)
    assert decision.outcome == ROLLED_BACK
    assert "worse by more than" in decision.reasons[0]
    assert decision.inputs["guardrails"][name]["treatment"] == 1.0
    assert replay(session, decision.id).agrees


def test_a_promotion_needs_every_guardrail_proven(session, versions, play) -> None:
    plan = replace(PLAN, certify_e=20.0, error_margin=0.1, refusal_margin=0.1, tool_margin=0.1)
    plan = replace(plan, slow_margin=0.1, cost_margin=0.1)
    running = ab.start(session, "coder", versions[1], plan, "ada")
    play(running, 60, control=lambda i: 0.0, latency_ms=5.0)
    assert ab.evaluate(session, running) is None
    assert "failed calls: 0.0% against 0.0%, not yet proven" in running.state["reasons"][1]
    play(running, 100, control=lambda i: 0.0, latency_ms=5.0)
    assert ab.evaluate(session, running).outcome == PROMOTED


def test_an_experiment_whose_guardrails_stay_unproven_ends_as_it_was(
    session, versions, play
) -> None:
    plan = replace(PLAN, certify_e=20.0, max_per_arm=25)
    running = ab.start(session, "coder", versions[1], plan, "ada")
    play(running, 80, control=lambda i: 0.0, latency_ms=5.0)
    decision = ab.evaluate(session, running)
    assert decision.outcome == STAYED
    assert "not all guardrails are proven" in decision.reasons[0]


def test_an_outage_of_both_arms_is_nobodys_fault(session, versions, play) -> None:
    running = ab.start(session, "coder", versions[1], PLAN, "ada")
    play(running, 240)
    for unit in session.exec(select(Assignment)).all():
        ab.record_call(session, running.id, unit.unit, error=True, latency_ms=9000.0)
    assert ab.evaluate(session, running) is None


def test_a_plan_says_which_word_it_does_not_know() -> None:
    for field, value in (("unit_kind", "team"), ("outcome_kind", "speed"), ("mode", "bayes")):
        with pytest.raises(BadInput, match=field):
            ExperimentPlan(**{field: value})


def test_an_end_keeps_the_plain_t_test_for_the_record(session, versions, play) -> None:
    running = ab.start(session, "coder", versions[1], PLAN, "ada")
    play(running, 120, control=lambda i: float(i % 5 == 0))
    assert ab.evaluate(session, running).outcome == PROMOTED
    assert "Welch's t-test" in running.state["for_the_record"]
    assert asdict(ab.plan_of(running))["mode"] == "sequential"
    assert running.ended_at <= now()


def test_a_model_whose_failures_hang_is_not_promoted_for_it(session, versions) -> None:
    """Both succeed in four of five tasks; of the treatment's failures nobody hears in time."""
    running = ab.start(session, "coder", versions[1], PLAN, "ada")
    numbers = {CONTROL: count(), TREATMENT: count()}
    for _ in range(160):
        unit = new_id()
        arm = ab.assign(session, running, str(unit), "").arm
        i = next(numbers[arm])
        if arm == CONTROL or i % 5:
            value = float(arm == TREATMENT or i % 5 != 2)
            session.add(Feedback(episode_id=unit, kind="success", value=value))
    session.flush()
    ab.collect_outcomes(session, running)
    assert ab.evaluate(session, running) is None
    seen, _ = ab.gather(session, running)
    assert (seen.wins >= 9, seen.losses) == (True, 0), "of what is known, nine wins would prove it"


def test_an_outage_in_the_first_minute_of_both_arms_is_seen_in_both(
    session, versions, play
) -> None:
    running = ab.start(session, "coder", versions[1], PLAN, "ada")
    play(running, 30, error=True, latency_ms=9000.0)
    assert ab.evaluate(session, running) is None


@pytest.fixture
def looked(session, versions, monkeypatch) -> Experiment:
    """An experiment that was looked at once, and is not to be looked at from its beginning."""
    running = ab.start(session, "coder", versions[1], PLAN, "ada")
    session.commit()
    assert ab.collect_outcomes(session, running) == 0
    session.commit()
    monkeypatch.setattr(outcomes, "_SETTLE_ALL", {False: text("SELECT 1 / 0")})
    return running


def told(session: Session, **about) -> None:
    session.add(Feedback(kind="success", value=1.0, source="test", **about))
    session.commit()


def test_a_look_goes_by_what_was_written_since_the_last_one(session, looked) -> None:
    unit, other = (new_id(), new_id())
    for one in (unit, other):
        ab.assign(session, looked, str(one), "")
    told(session, episode_id=unit)
    assert ab.collect_outcomes(session, looked) == 1
    session.commit()
    told(session, episode_id=other)
    assert ab.collect_outcomes(session, looked) == 1
    assert ab.collect_outcomes(session, looked) == 0


def test_a_statement_that_came_before_its_call_is_seen_when_the_call_comes(session, looked) -> None:
    unit, call = new_id(), new_id()
    ab.assign(session, looked, str(unit), "")
    told(session, interaction_id=call)
    assert ab.collect_outcomes(session, looked) == 0
    session.commit()
    session.add(Interaction(id=call, role="coder", episode_id=unit))
    session.commit()
    assert ab.collect_outcomes(session, looked) == 1


def test_a_statement_that_came_before_the_assignment_is_seen_before_a_time_out(
    session, looked
) -> None:
    unit = new_id()
    told(session, episode_id=unit)
    assert ab.collect_outcomes(session, looked) == 0
    session.commit()
    for one in (str(unit), "not-a-uuid"):
        row = ab.assign(session, looked, one, "")
        row.assigned_at = now() - timedelta(days=30)
    session.commit()
    assert ab.collect_outcomes(session, looked) == 2
    session.expire_all()
    units = session.exec(select(Assignment).order_by(Assignment.sequence)).all()
    assert [(one.outcome, one.timed_out) for one in units] == [(True, False), (False, True)]


def test_after_a_restore_all_is_looked_at_again(session, looked) -> None:
    session.execute(text("UPDATE experiment SET seen_xid = 9e17"))
    with pytest.raises(DataError, match="division by zero"):
        ab.collect_outcomes(session, looked)
    session.rollback()
    outcomes.forget_looks(session, looked)
    with pytest.raises(DataError, match="division by zero"):
        ab.collect_outcomes(session, looked)


def test_what_was_said_of_a_call_before_its_unit_began_is_seen_with_the_next_call(
    session, looked
) -> None:
    unit, early = new_id(), new_id()
    session.add(Interaction(id=early, role="coder", episode_id=unit))
    told(session, interaction_id=early)
    assert ab.collect_outcomes(session, looked) == 0
    session.commit()
    ab.assign(session, looked, str(unit), "")
    session.add(Interaction(role="coder", episode_id=unit))
    session.commit()
    assert ab.collect_outcomes(session, looked) == 1


def test_the_word_on_an_episode_before_its_first_call_outranks_later_ones(session, looked) -> None:
    unit, call = new_id(), new_id()
    session.add(Feedback(kind="success", value=0.0, source="test", episode_id=unit))
    session.commit()
    assert ab.collect_outcomes(session, looked) == 0
    session.commit()
    ab.assign(session, looked, str(unit), "")
    session.add(Interaction(id=call, role="coder", episode_id=unit))
    told(session, interaction_id=call)
    assert ab.collect_outcomes(session, looked) == 1
    session.expire_all()
    assert session.exec(select(Assignment.outcome)).one() is False


def test_a_look_waits_for_nobody_who_holds_the_experiment(session, looked, database) -> None:
    unit = new_id()
    ab.assign(session, looked, str(unit), "")
    told(session, episode_id=unit)
    before = session.execute(text("SELECT seen_xid FROM experiment")).scalar()
    session.commit()
    with psycopg.connect(database) as other:
        other.execute("SELECT 1 FROM experiment FOR UPDATE")
        session.execute(text("SET LOCAL lock_timeout = '5s'"))
        assert ab.collect_outcomes(session, looked) == 1
        session.commit()
    assert session.execute(text("SELECT seen_xid FROM experiment")).scalar() == before
