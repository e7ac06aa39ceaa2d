"""The last stage of a turn: what keeps one role from its experiment keeps no other from theirs."""

from evaluator.decide import DEPLOY
from flywheel.cycle import RoleTurn, TurnRecipe, experiment
from foundation.ids import new_id
from router import emergency
from router.experiment import PLANS
from router.promote import initial
from trainer.tables import ModelVersion


def test_a_stopped_role_leaves_the_turn_and_the_others_go_on(session) -> None:
    turns = []
    for role in ("coder", "tester"):
        versions = [
            ModelVersion(
                id=new_id(), role=role, number=n, kind="external", base_model="gpt",
                name=f"{role}-v{n}",
            )
            for n in (1, 2)
        ]  # fmt: skip
        session.add_all(versions)
        session.flush()
        initial(session, role, versions[0])
        verdict = {"verdict": {"outcome": DEPLOY}, "reasons": []}
        turns.append(RoleTurn(role, versions[0], candidate=f"{role}-v2", verdict=verdict))
    emergency.stop(session, "smoke", "ada", "coder")
    session.commit()
    experiment(turns, TurnRecipe(suites={}, experiment=PLANS["demo"]))
    stopped, running = turns
    assert "no experiment: emergency stop" in (stopped.ended_because or "")
    assert stopped.experiment_id is None
    assert running.experiment_id is not None
    assert running.ended_because is None
