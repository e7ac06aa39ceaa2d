"""What follows from a proof is the role's policy: promote, wait for one click, or only propose."""

from dataclasses import asdict, replace

import pytest
from sqlalchemy import text
from sqlmodel import select

from foundation.decisions import replay
from foundation.errors import BadInput, Conflict, FlywheelError, NotFound
from foundation.tables import Decision
from router import experiment as ab
from router.experiment import PLANS
from router.policy import policy_of, set_policy
from router.promote import initial, promote, rollback, serving_version
from router.tables import ASSISTED, OFF, ON, PROMOTED, ROLLED_BACK, RUNNING, STAYED
from trainer.tables import EXPERIMENTAL

PLAN = PLANS["demo"]


@pytest.fixture
def prove(session, versions, play):
    """Start an experiment with a role's policy and play it until the treatment is proven."""

    def proven(auto_promote: str, **changes: object):
        set_policy(session, "coder", actor="ada", auto_promote=auto_promote)
        running = ab.start(session, "coder", versions[1], replace(PLAN, **changes), "ada")
        play(running, 120, control=lambda i: 0.0)
        return running

    return proven


def test_on_promotes_alone(session, versions, prove) -> None:
    assert ab.evaluate(session, prove(ON)).outcome == PROMOTED
    assert serving_version(session, "coder") is versions[1]


def test_assisted_proposes_once_and_waits_for_the_click(session, versions, prove) -> None:
    running = prove(ASSISTED)
    proposal = ab.evaluate(session, running)
    assert (proposal.outcome, running.status) == ("proposed", RUNNING)
    assert replay(session, proposal.id).agrees
    assert ab.evaluate(session, running) is None, "said once"
    assert ab.status(session, running).is_proposed
    assert serving_version(session, "coder") is versions[0]
    decision = ab.accept(session, running, "ada", "looks good")
    assert (decision.kind, decision.outcome, decision.actor) == (
        "router.accept",
        PROMOTED,
        "ada",
    )
    assert serving_version(session, "coder") is versions[1]
    assert ab.accept(session, running, "bob").id == decision.id, "final"


def test_a_proposal_waits_past_the_planned_end(session, prove) -> None:
    running = prove(ASSISTED, max_per_arm=20)
    assert ab.evaluate(session, running).outcome == "proposed"
    assert ab.evaluate(session, running) is None
    assert running.status == RUNNING


def test_off_proposes_and_ends_where_it_was(session, versions, prove) -> None:
    running = prove(OFF, max_per_arm=1000)
    assert ab.evaluate(session, running).outcome == "proposed"
    running.plan = running.plan | {"max_per_arm": 30}
    session.add(running)
    session.flush()
    decision = ab.evaluate(session, running)
    assert decision.outcome == STAYED
    assert "auto_promote is off" in decision.reasons[0]
    assert replay(session, decision.id).agrees
    assert serving_version(session, "coder") is versions[0]


def test_nothing_is_accepted_before_it_is_proven(session, versions, play) -> None:
    running = ab.start(session, "coder", versions[1], PLAN, "ada")
    play(running, 10)
    with pytest.raises(Conflict, match="not proven yet"):
        ab.accept(session, running, "ada")
    assert running.status == RUNNING


def test_harm_since_the_proposal_goes_before_its_acceptance(session, versions, prove) -> None:
    running = prove(ASSISTED)
    ab.evaluate(session, running)
    session.execute(text("UPDATE assignment SET n_calls = 2, n_errors = 2 WHERE arm = 'treatment'"))
    decision = ab.accept(session, running, "ada")
    assert decision.outcome == ROLLED_BACK
    assert serving_version(session, "coder") is versions[0]


@pytest.mark.parametrize(("mode", "alpha"), [(ON, 0.01), (ASSISTED, 0.05), (OFF, 0.05)])
def test_who_acts_alone_needs_stronger_proof(session, versions, mode, alpha) -> None:
    set_policy(session, "coder", actor="ada", auto_promote=mode)
    running = ab.start(session, "coder", versions[1], PLANS["default"], "ada")
    assert ab.plan_of(running).alpha == alpha


def test_after_a_rollback_nothing_is_promoted_for_a_while(
    session, make_version, versions, play
) -> None:
    promote(session, "coder", versions[1], reason="better", actor="ada")
    rollback(session, "coder", reason="broken", actor="ada")
    third = make_version()
    running = ab.start(session, "coder", third, replace(PLAN, cooldown_h=24.0), "ada")
    play(running, 120, control=lambda i: 0.0)
    assert ab.evaluate(session, running) is None
    assert "hours since the role was rolled back" in running.state["reasons"][1]
    seen, _ = ab.gather(session, running)
    later = replace(seen, hours_since_rollback=24.0)
    assert ab.rule(asdict(later), running.plan).outcome == PROMOTED


def test_alpha_is_shared_with_the_other_roles_that_run(session, versions, play) -> None:
    running = ab.start(session, "coder", versions[1], replace(PLAN, over_roles=True), "ada")
    play(running, 60, control=lambda i: 0.0)
    seen, _ = ab.gather(session, running)
    assert seen.rivals == {}
    barely = replace(seen, wins=9, losses=0, late_wins=9, late_losses=0)
    outcome = {
        name: ab.rule(asdict(replace(barely, rivals=rivals)), running.plan).outcome
        for name, rivals in {
            "alone": {},
            "beside one that shows nothing": {"tester": 0.0},
            "beside one that is proven": {"tester": 9.0},
        }.items()
    }
    assert outcome == {
        "alone": PROMOTED,
        "beside one that shows nothing": RUNNING,
        "beside one that is proven": PROMOTED,
    }


def test_rivals_are_the_running_experiments_of_other_roles(
    session, make_version, versions, play
) -> None:
    shared = replace(PLAN, over_roles=True)
    mine = ab.start(session, "coder", versions[1], shared, "ada")
    initial(session, "tester", make_version("tester"))
    other = ab.start(session, "tester", make_version("tester"), shared, "ada")
    assert ab.gather(session, mine)[0].rivals == {"tester": 0.0}
    ab.stop(session, other, "enough", "ada")
    assert ab.gather(session, mine)[0].rivals == {}


def test_a_version_that_cannot_be_prepared_is_not_promoted(session, versions, prove) -> None:
    running, asked = prove(ON), []

    def unready(_session, version):
        asked.append(version.name)
        raise FlywheelError("its files are gone")

    assert ab.evaluate(session, running, unready) is None
    assert running.status == RUNNING
    assert "not promoted yet: its files are gone" in running.state["reasons"]
    assert serving_version(session, "coder") is versions[0]
    assert versions[1].stage == EXPERIMENTAL
    assert asked == ["coder-v2"]
    assert ab.evaluate(session, running, lambda *_: None).outcome == PROMOTED


def test_a_promotion_by_hand_is_prepared_before_anything_changes(session, versions) -> None:
    def unready(_session, _version):
        raise FlywheelError("its files are gone")

    with pytest.raises(FlywheelError, match="files are gone"):
        promote(session, "coder", versions[1], reason="r", actor="ada", prepare=unready)
    assert serving_version(session, "coder") is versions[0]


def test_a_policy_has_defaults_and_each_change_is_recorded(session, versions) -> None:
    assert (policy_of(session, "coder").auto_promote, policy_of(session, "coder").actor) == (
        ON,
        "flywheel",
    )
    set_policy(session, "coder", actor="ada", hold_back_share=0.1, guard={"slow_limit_ms": 5000})
    found = policy_of(session, "coder")
    assert (found.auto_promote, found.hold_back_share) == (ON, 0.1)
    assert found.settings == {"guard": {"slow_limit_ms": 5000}}
    decision = session.exec(select(Decision).where(Decision.kind == "router.policy")).one()
    assert (decision.actor, decision.role) == ("ada", "coder")


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"auto_promote": "maybe"}, BadInput, "auto_promote"),
        ({"hold_back_share": 0.6}, BadInput, "hold-back"),
        ({"baseline": "coder-v9"}, NotFound, "coder-v9"),
        ({"guard": {"harm": 3}}, BadInput, "guard, harm"),
        ({"guard": {"harm_e": "20"}}, BadInput, "guard, harm_e"),
        ({"guard": {"error_limit": 3}}, BadInput, "error_limit"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_policy_that_makes_no_sense_is_refused(session, change, error, words) -> None:
    with pytest.raises(error, match=words):
        set_policy(session, "coder", actor="ada", **change)


def test_a_role_that_is_not_configured_has_no_policy(session) -> None:
    with pytest.raises(NotFound, match="painter"):
        set_policy(session, "painter", actor="ada", auto_promote=OFF)


def test_a_proposal_is_not_promoted_alone_for_less_than_that_takes(session, versions, play) -> None:
    """Nine pairs won: enough where a person is asked, and not when the policy is switched on."""
    set_policy(session, "coder", actor="ada", auto_promote=ASSISTED)
    plan = replace(PLAN, alpha_unattended=0.01, min_per_arm=1)
    running = ab.start(session, "coder", versions[1], plan, "ada")
    play(running, 60, control=lambda i: float(i >= 9))
    assert ab.evaluate(session, running).outcome == "proposed"
    set_policy(session, "coder", actor="ada", auto_promote=ON)
    assert ab.evaluate(session, running) is None
    assert ab.status(session, running).needed_e == 100
    play(running, 60, control=lambda i: 0.0)
    decision = ab.evaluate(session, running)
    assert decision.outcome == PROMOTED
    assert replay(session, decision.id).agrees
