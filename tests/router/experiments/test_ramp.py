"""The ramp: shadow first, more of the traffic step by step, home at the first harm."""

from dataclasses import asdict, replace
from datetime import timedelta

import pytest
from sqlmodel import col, delete, select, update

from collector.tables import Feedback, Interaction
from foundation.decisions import replay
from foundation.errors import BadInput
from foundation.ids import new_id
from foundation.tables import now
from router import experiment as ab
from router.experiment import PLANS, Evidence, ExperimentPlan
from router.tables import (
    CONTROL,
    HALTED,
    ROLLED_BACK,
    RUNNING,
    TREATMENT,
    USER,
    Assignment,
    ExperimentPhase,
)

PLAN = replace(PLANS["demo"], ramp=(0.0, 0.2, 0.5), ramp_units=10)


def test_a_ramp_goes_from_shadow_to_half(session, versions, play) -> None:
    running = ab.start(session, "coder", versions[1], PLAN, "ada")
    assert (running.treatment_share, running.phase) == (0.0, 0)
    play(running, 9)
    assert ab.evaluate(session, running) is None, "nine units are too few for the next phase"
    play(running, 1)
    step = ab.evaluate(session, running)
    assert (step.kind, step.outcome) == ("router.ramp", "advanced")
    assert "0 calls were mirrored" in step.reasons[1]
    assert replay(session, step.id).agrees
    assert (running.treatment_share, running.phase, running.status) == (0.2, 1, RUNNING)
    play(running, 120)
    assert ab.evaluate(session, running).outcome == "advanced"
    assert running.treatment_share == 0.5
    play(running, 40)
    assert ab.evaluate(session, running) is None, "the last phase"
    shares = [row.share for row in session.exec(select(ExperimentPhase)).all()]
    assert shares == [0.0, 0.2, 0.5]
    units = session.exec(select(Assignment)).all()
    assert {unit.arm for unit in units if unit.phase == 0} == {CONTROL}
    assert [sum(unit.phase == n for unit in units) for n in range(3)] == [10, 120, 40]


def test_a_phase_lasts_its_days(session, versions, play) -> None:
    plan = replace(PLAN, ramp_days=1.0)
    running = ab.start(session, "coder", versions[1], plan, "ada")
    play(running, 20)
    assert ab.evaluate(session, running) is None
    (phase,) = session.exec(select(ExperimentPhase)).all()
    phase.started_at = now() - timedelta(days=1.1)
    session.add(phase)
    session.flush()
    assert ab.evaluate(session, running).outcome == "advanced"


def test_harm_in_a_small_phase_goes_home_before_more_traffic(session, versions, play) -> None:
    plan = replace(PLAN, ramp=(0.1, 0.5))
    running = ab.start(session, "coder", versions[1], plan, "ada")
    play(running, 200, treatment=lambda i: 0.0)
    decision = ab.evaluate(session, running)
    assert decision.outcome == ROLLED_BACK
    assert "blocks of uneven phases" in decision.reasons[0]
    assert replay(session, decision.id).agrees
    assert running.phase == 0


def test_mirrored_calls_that_fail_end_the_shadow(session, versions, play) -> None:
    running = ab.start(session, "coder", versions[1], PLAN, "ada")
    play(running, 20)
    for i in range(20):
        mirrored = Interaction(
            role="coder", experiment_id=running.id, arm="shadow", model_version_id=versions[1].id,
            status="error" if i % 2 else "success",
        )  # fmt: skip
        session.add(mirrored)
    session.flush()
    decision = ab.evaluate(session, running)
    assert decision.outcome == ROLLED_BACK
    assert "10 of 20 mirrored calls failed" in decision.reasons[0]


def test_the_split_is_checked_in_each_phase(session, versions) -> None:
    """20 % and 50 % together look like neither; each by itself is as planned."""
    phases = [
        {"number": 0, "share": 0.2, "days": 1.0, **even(800, 200)},
        {"number": 1, "share": 0.5, "days": 1.0, **even(500, 500)},
    ]
    seen = evidence(assigned={CONTROL: 1300, TREATMENT: 700}, phases=phases)
    assert ab.rule(asdict(seen), asdict(PLAN)).outcome == RUNNING
    phases[1] |= even(650, 350)
    ruling = ab.rule(asdict(replace(seen, phases=phases)), asdict(PLAN))
    assert ruling.outcome == HALTED
    assert "350 of 1000 at 50%" in ruling.reasons[0]


def even(control: int, treatment: int) -> dict[str, dict[str, int]]:
    counts = {CONTROL: control, TREATMENT: treatment}
    return {"assigned": counts, "analysed": counts}


def evidence(**changes: object) -> Evidence:
    both, calm = {CONTROL: 500, TREATMENT: 500}, {CONTROL: 0, TREATMENT: 0}
    base = Evidence(
        assigned=both, analysed=calm, successes=both, timed_out=calm, calls=both, errors=calm,
        slow=calm, pairs=0, wins=0, losses=0, max_log_e=0.0, days=8.0,
    )  # fmt: skip
    return replace(base, **changes)


@pytest.mark.parametrize(
    "ramp", [(0.5, 0.25), (0.0, 1.0), (0.0,), (-0.1, 0.5), "0.5", (True, 0.5), (0.1, 0.1)], ids=str
)
def test_a_ramp_that_makes_no_sense_is_refused(ramp) -> None:
    with pytest.raises(BadInput, match="ramp"):
        ExperimentPlan(ramp=ramp)


def test_a_plan_from_before_ramps_still_loads(session, versions, play) -> None:
    running = ab.start(session, "coder", versions[1], PLANS["demo"], "ada")
    old = {"treatment_share", "alpha", "min_per_arm", "min_days", "max_per_arm", "error_limit"}
    running.plan = {name: value for name, value in running.plan.items() if name in old}
    session.add(running)
    session.flush()
    play(running, 10)
    assert ab.evaluate(session, running) is None
    assert running.treatment_share == 0.5


def test_feedback_that_takes_longer_in_one_arm_is_no_broken_split(session, versions) -> None:
    running = ab.start(session, "coder", versions[1], PLANS["demo"], "ada")
    for _ in range(240):
        unit = new_id()
        if ab.assign(session, running, str(unit), "sum").arm == CONTROL:
            session.add(Feedback(episode_id=unit, kind="success", value=1.0))
    session.flush()
    ab.collect_outcomes(session, running)
    assert ab.evaluate(session, running) is None
    seen, _ = ab.gather(session, running)
    (phase,) = seen.phases
    assert (phase["analysed"][TREATMENT], sum(phase["settled"].values())) == (0, 0)
    session.execute(update(Assignment).values(assigned_at=now() - timedelta(hours=1)))
    session.execute(delete(Assignment).where(col(Assignment.arm) == TREATMENT))
    assert ab.evaluate(session, running).outcome == HALTED, "what is lost is seen"


def test_sticky_units_have_no_ramp() -> None:
    with pytest.raises(BadInput, match="keep the arm of their first task"):
        replace(PLAN, unit_kind=USER)
    plan = ab.plan_from("default", unit_kind=USER)
    assert (plan.ramp, plan.shares) == ((), (0.5,))
