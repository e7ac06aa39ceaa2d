"""Looks: evidence against time is kept when it changes, stays small, and decides nothing."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlmodel import Session, select

from collector.tables import Feedback
from foundation.database import session_scope
from foundation.decisions import replay
from foundation.ids import new_id
from foundation.tables import Decision
from router import experiment as ab
from router.experiments.looks import FINEST, KEPT, superfluous
from router.promote import initial
from router.tables import (
    CONTROL,
    HOLD_BACK,
    PROMOTED,
    TREATMENT,
    Experiment,
    ExperimentLook,
)

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def running(session: Session, make_version) -> Experiment:
    control, treatment = make_version(), make_version()
    initial(session, "coder", control)
    row = ab.start(session, "coder", treatment, ab.plan_from("demo"), "ada")
    session.commit()
    return row


def play(session: Session, running: Experiment, n: int, *, control: bool, treatment: bool) -> None:
    """Assign `n` units whose outcomes are those of their arm."""
    ends = {CONTROL: control, TREATMENT: treatment}
    for _ in range(n):
        unit = new_id()
        arm = ab.assign(session, running, str(unit), "sum|day").arm
        value = float(ends[arm])
        session.add(Feedback(episode_id=unit, kind="success", value=value, source="test"))
    session.flush()
    ab.collect_outcomes(session, running)


def looks(session: Session, running: Experiment) -> list[ExperimentLook]:
    session.expire_all()
    return list(ab.read_looks(session, running))


def test_a_look_is_kept_when_it_saw_something_new(session: Session, running: Experiment) -> None:
    ab.evaluate(session, running)
    ab.evaluate(session, running)
    assert len(looks(session, running)) == 1, "the second saw nothing new"
    play(session, running, 12, control=False, treatment=True)
    ab.evaluate(session, running)
    first, second = looks(session, running)
    assert (first.n_treatment, first.n_control, first.e_value) == (0, 0, 1.0)
    assert second.looked_at > first.looked_at
    status = ab.status(session, running)
    seen = status.evidence
    assert (second.n_treatment, second.n_control) == (
        seen.analysed[TREATMENT],
        seen.analysed[CONTROL],
    )
    assert second.e_value == pytest.approx(status.e_value)
    assert second.needed_e == status.needed_e
    assert (second.estimate, second.low, second.high) == (
        status.gain,
        status.gain_low,
        status.gain_high,
    )
    assert second.split_e is not None


def test_the_last_look_is_that_of_the_end_and_the_end_replays(
    session: Session, running: Experiment
) -> None:
    decision = None
    for _ in range(12):
        play(session, running, 10, control=False, treatment=True)
        decision = ab.evaluate(session, running) or decision
        if running.status != "running":
            break
    assert running.status == PROMOTED
    found = looks(session, running)
    assert found[-1].e_value is not None
    assert found[-1].needed_e is not None
    assert found[-1].e_value >= found[-1].needed_e
    assert [one.e_value for one in found] == sorted(one.e_value or 0 for one in found)
    assert decision is not None
    assert replay(session, decision.id).agrees
    ab.evaluate(session, running)
    assert looks(session, running) == found, "what has ended is looked at no more"


def test_a_hold_back_reads_what_puts_the_version_before_back(
    session: Session, running: Experiment
) -> None:
    ab.stop(session, running, "for another", "ada")
    held = Experiment(
        role="coder",
        kind=HOLD_BACK,
        control_model_version_id=running.control_model_version_id,
        treatment_model_version_id=running.treatment_model_version_id,
        treatment_share=0.05,
        salt="s",
        plan={"treatment_share": 0.05, "hold_back_days": 14, "harm_e": 30.0},
    )
    session.add(held)
    session.commit()
    ab.evaluate(session, held)
    (look,) = looks(session, held)
    assert look.needed_e == 30.0


@pytest.mark.parametrize(
    "changes", [{"mode": "planned"}, {"unit_kind": "user"}], ids=["planned", "sticky"]
)
def test_where_looks_are_planned_no_e_value_is_said_to_decide(
    session: Session, running: Experiment, changes: dict[str, str]
) -> None:
    version = ab.get_experiment(session, running.id).treatment_model_version_id
    ab.stop(session, running, "for another", "ada")
    from trainer.registry import get_version

    plan = ab.plan_from("demo", **changes)
    row = ab.start(session, "coder", get_version(session, str(version)), plan, "ada")
    ab.evaluate(session, row)
    (look,) = looks(session, row)
    assert (look.e_value, look.needed_e) == (None, None)


def test_two_evaluations_at_once_keep_one_look(session: Session, running: Experiment) -> None:
    play(session, running, 6, control=True, treatment=True)
    session.commit()
    together, errors = threading.Barrier(2), []

    def look() -> None:
        try:
            with session_scope() as mine:
                row = ab.get_experiment(mine, running.id)
                together.wait(10)
                ab.evaluate(mine, row)
        except Exception as error:  # shown by the assertion below, whatever it is
            errors.append(error)

    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(looks(session, running)) == 1
    assert session.exec(select(Decision).where(Decision.kind == "router.experiment")).all() == []


def test_a_long_experiment_keeps_few_looks_over_all_its_time() -> None:
    times: list[datetime] = []
    for n in range(20_000):
        moment = START + timedelta(seconds=5 * n)
        spared = set(superfluous(times, moment))
        times = [*(one for one in times if one not in spared), moment]
        assert len(times) <= KEPT + 1
    assert times[0] == START
    assert times[-1] == START + timedelta(seconds=5 * 19_999)
    gaps = [
        (after - before).total_seconds() for before, after in zip(times, times[1:], strict=False)
    ]
    assert max(gaps) <= 4 * 5 * 20_000 / FINEST, "no part of its time is lost"
    assert len(times) >= FINEST / 2


def test_few_looks_are_all_kept() -> None:
    assert superfluous([], START) == []
    assert superfluous([START], START + timedelta(days=30)) == []
    near = [START, START + timedelta(days=1), START + timedelta(days=1, seconds=5)]
    assert superfluous(near, START + timedelta(days=2)) == near[2:]
