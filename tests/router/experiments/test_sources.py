"""Nobody decides alone: what one key or user says promotes nothing, whatever it says and when."""

from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from feedback_records import call, store
from feedback_records import said as statement
from sqlmodel import Session, select

from collector.feedback.sources import DISTRUSTED, TRUSTED
from collector.tables import Feedback
from curation.candidates import candidates
from foundation.decisions import replay
from foundation.errors import BadInput, NotFound
from foundation.ids import new_id
from foundation.tables import Decision
from router import experiment as ab
from router import trust
from router.experiments.plan import ExperimentPlan
from router.experiments.sources import Word, bound, firsts, without
from router.experiments.units import Unit
from router.keys import create_key
from router.tables import CONTROL, PROMOTED, ROLLED_BACK, RUNNING, TREATMENT

PLAN = ab.PLANS["demo"]
MALLORY, ANN, BOB = UUID(int=1), UUID(int=2), UUID(int=3)


def say(session: Session, unit: UUID, value: float, key: UUID | None, **fields: object) -> None:
    said = {"source": "test", **fields}
    session.add(Feedback(episode_id=unit, kind="success", value=value, key_id=key, **said))


def assigned(session: Session, running, n: int) -> list[tuple[UUID, str]]:
    units = [new_id() for _ in range(n)]
    return [(unit, ab.assign(session, running, str(unit), "sum|day").arm) for unit in units]


def looked(session: Session, running) -> Decision | None:
    session.flush()
    ab.collect_outcomes(session, running)
    return ab.evaluate(session, running)


@pytest.fixture
def running(session, versions):
    return ab.start(session, "coder", versions[1], PLAN, "ada")


def favours(arm: str) -> float:
    return float(arm == TREATMENT)


def test_one_key_that_floods_promotes_nothing_and_is_named(session, running) -> None:
    key, _ = create_key(session, "mallory")
    for unit, arm in assigned(session, running, 120):
        say(session, unit, favours(arm), key.id, actor=f"somebody-{unit}")
    decision = looked(session, running)
    assert decision is not None
    assert (decision.outcome, running.status) == ("proposed", RUNNING)
    assert any("rests on key:mallory, which told 100% of" in one for one in decision.reasons)
    assert replay(session, decision.id).agrees
    assert looked(session, running) is None  # said once; a person may still accept it
    assert ab.accept(session, running, "ada").outcome == PROMOTED


def test_who_speaks_first_does_not_hide_what_others_say_later(session, running) -> None:
    for index, (unit, arm) in enumerate(assigned(session, running, 160)):
        truth = float(index % 4 != 0)
        if truth != favours(arm):
            say(session, unit, favours(arm), MALLORY)  # lies, before all others
            session.flush()
        say(session, unit, truth, ANN if index % 2 else BOB, created_at=datetime.now(UTC))
        session.flush()
        ab.collect_outcomes(session, running)
    seen, _ = ab.gather(session, running)
    worst = seen.left_out[0]
    assert seen.log_e > 10 > 2 > worst["log_e"]
    assert worst["source"] == f"key:{MALLORY}"
    assert looked(session, running).outcome == "proposed"


def test_honest_sources_prove_it_together_and_the_machine_alone(session, running) -> None:
    for index, (unit, arm) in enumerate(assigned(session, running, 240)):
        say(session, unit, favours(arm), (ANN, BOB, None)[index % 3])
    assert looked(session, running).outcome == PROMOTED


def test_end_users_are_sources_by_their_name_where_an_application_relays_them(
    session, running
) -> None:
    for unit, arm in assigned(session, running, 120):
        say(session, unit, favours(arm), None, source="user", actor="eve")
    assert looked(session, running).outcome == "proposed"
    assert "rests on user:eve" in " ".join(running.state["reasons"])


def test_a_trusted_source_decides_alone_and_so_does_any_where_the_plan_says_so(
    session, versions, running
) -> None:
    key, _ = create_key(session, "ci")
    for unit, arm in assigned(session, running, 120):
        say(session, unit, favours(arm), key.id)
    assert looked(session, running).outcome == "proposed"
    alone = {**running.plan, "one_source_decides": True}
    assert ab.rule(_inputs(session, running, alone), alone).outcome == PROMOTED
    running.plan = {**alone, "one_source_decides": False}
    reach = trust.change(session, "key:ci", TRUSTED, reason="it judges all", actor="ada")
    assert (reach.statements, reach.reopened) == (120, 0)
    assert looked(session, running).outcome == PROMOTED


def _inputs(session: Session, running, plan: dict[str, object]) -> dict[str, object]:
    running.plan = plan
    session.flush()
    seen, _ = ab.gather(session, running)
    assert seen.left_out == ()
    return asdict(seen)


def test_a_key_may_send_a_version_back_but_is_named(session, running) -> None:
    for unit, arm in assigned(session, running, 80):
        say(session, unit, 1.0 - favours(arm), MALLORY)
    decision = looked(session, running)
    assert decision.outcome == ROLLED_BACK
    assert "before you believe it" in decision.reasons[-1]
    assert str(MALLORY) in decision.reasons[-1]


def test_distrust_settles_the_experiment_anew_and_can_be_taken_back(session, running) -> None:
    create_key(session, "ann")
    key, _ = create_key(session, "mallory")
    units = assigned(session, running, 60)
    for unit, arm in units:
        say(session, unit, favours(arm), key.id)
        session.flush()
        say(session, unit, 1.0, None)
    looked(session, running)
    assert ab.gather(session, running)[0].wins > 15
    reach = trust.change(session, "key:mallory", DISTRUSTED, reason="it lies", actor="ada")
    assert (reach.statements, reach.reopened) == (60, 60)
    assert looked(session, running) is None
    seen, _ = ab.gather(session, running)
    assert (seen.wins, seen.losses) == (0, 0)
    assert sum(seen.successes.values()) == 60
    decision = session.exec(select(Decision).where(Decision.kind == "collector.source_trust")).one()
    assert decision.actor == "ada"
    trust.change(session, "key:mallory", trust.PLAIN, reason="a mistake", actor="ada")
    assert looked(session, running) is not None
    assert ab.gather(session, running)[0].wins > 15
    with pytest.raises(NotFound, match="trusted or distrusted"):
        trust.change(session, "key:mallory", trust.PLAIN, reason="again", actor="ada")
    with pytest.raises(NotFound, match="nobody"):
        trust.change(session, "key:nobody", DISTRUSTED, reason="x", actor="ada")
    with pytest.raises(BadInput, match="key:NAME or user:ACTOR"):
        trust.change(session, "test", DISTRUSTED, reason="x", actor="ada")


def test_what_a_user_said_of_a_reviewer_is_his_word_about_the_coder(session, running) -> None:
    """Credit comes from whom the first statement came from, not from the judging role."""
    coders = []
    for unit, arm in assigned(session, running, 120):
        coder = call(episode_id=unit)
        reviewer = call("reviewer", episode_id=unit, parent_id=coder["id"])
        coders.append(UUID(coder["id"]))
        about = {"interaction_id": reviewer["id"], "source": "user", "actor": "eve"}
        store(session, [coder, reviewer], [statement(value=favours(arm), **about)])
    decision = looked(session, running)
    assert sum(ab.gather(session, running)[0].analysed.values()) == 120
    assert decision.outcome == "proposed"
    assert "rests on user:eve" in " ".join(decision.reasons)

    def learned_from() -> list[str | None]:
        pieces = candidates(session, "default", coders, everything=True)
        return [said.actor for piece in pieces for one in piece for said in one.statements]

    assert learned_from() == ["reviewer"] * 120
    reach = trust.change(session, "user:eve", DISTRUSTED, reason="praises all", actor="ada")
    assert (reach.statements, reach.reopened) == (240, 120)  # the word, and its credit
    looked(session, running)
    assert sum(ab.gather(session, running)[0].analysed.values()) == 0
    assert learned_from() == []


START = datetime(2026, 1, 1, tzinfo=UTC)


def unit(number: int, arm: str, outcome: bool | None) -> Unit:
    return Unit(
        number,
        arm,
        "s|0",
        0,
        START,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0.0,
        0,
        0,
        None,
        outcome,
        START if outcome is not None else None,
        False,
        None,
    )


def word(number: int, source: str, value: float, hours: float) -> Word:
    return Word(number, "task", source, value, 0, START + timedelta(hours=hours))


def test_without_a_source_a_unit_is_what_others_say_of_it() -> None:
    units = [unit(number, CONTROL, True) for number in range(5)]
    words = [
        word(0, "key:a", 1, 1),
        word(0, "key:b", 0, 2),
        word(1, "key:a", 1, 1),
        word(1, "key:b", 0, 30),
        word(2, "key:a", 1, 1),
        word(3, "key:b", 1, 1),
    ]
    plan = ExperimentPlan()
    rest, gone = without(units, words, "key:a", plan, START + timedelta(hours=40))
    assert [one.sequence for one in gone] == [2]  # nobody else spoke of it in time
    told = {one.sequence: (one.outcome, one.timed_out, one.late_at is None) for one in rest}
    assert told[0] == (False, False, True)
    assert told[1] == (False, True, False)
    assert rest[-2:] == units[3:]  # of which it said nothing
    rest, gone = without(units, words, "key:a", plan, START + timedelta(hours=20))
    assert not gone
    assert rest[2].outcome is None  # somebody may still speak: open, against the claim
    scored = replace(plan, outcome_kind="score")
    rest, _ = without(units, words, "key:a", scored, START + timedelta(hours=40))
    assert [one.score for one in rest[:2]] == [0, 0.0]
    assert bound(words, {"key:b"}) == ["key:a"]
    assert firsts(words) == {"key:a": 0.75, "key:b": 0.25}


def test_a_source_that_spares_one_arm_is_found_out(session, running) -> None:
    """It speaks of the treatment's units that hang: left out, they would be failures no more.

    Without each of the five others less is shown; it is judged all the same.
    """
    honest = [UUID(int=number) for number in range(2, 7)]
    plan = {**running.plan, "outcome_timeout_s": 0.0}
    running.plan = plan
    for index, (unit_id, arm) in enumerate(assigned(session, running, 400)):
        hangs = arm == TREATMENT and index % 8 == 0
        say(
            session,
            unit_id,
            1.0 if hangs else favours(arm),
            MALLORY if hangs else honest[index % len(honest)],
        )
    session.flush()
    ab.collect_outcomes(session, running)
    seen, _ = ab.gather(session, running)
    mallory = next(one for one in seen.left_out if one["source"] == f"key:{MALLORY}")
    assert mallory["split_e"] > 1000
    assert mallory["log_e"] > max(one["log_e"] for one in seen.left_out if one is not mallory)
    reasons = ab.rule(asdict(seen), plan).reasons
    assert any("not split between the arms" in one for one in reasons)
