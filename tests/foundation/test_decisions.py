"""The ledger: a decision stores what its rule saw, and replaying gives the stored outcome."""

from dataclasses import dataclass
from typing import Any

import pytest
from sqlmodel import Session

from foundation.decisions import Ruling, decide, record, replay, rule
from foundation.errors import NotFound


@dataclass(frozen=True)
class Limits:
    most: int = 3


@rule("test.small_enough")
def small_enough(inputs: dict[str, Any], thresholds: dict[str, Any]) -> Ruling:
    fits = inputs["n"] <= thresholds["most"]
    return Ruling("yes" if fits else "no", (f"{inputs['n']} against {thresholds['most']}",))


def test_a_decision_keeps_inputs_thresholds_and_reasons(session: Session) -> None:
    decision = decide(session, "test.small_enough", {"n": 4}, Limits(), role="coder")
    assert (decision.outcome, decision.inputs, decision.rule) == ("no", {"n": 4}, {"most": 3})
    assert decision.reasons == ["4 against 3"]


def test_replay_gives_the_stored_outcome(session: Session) -> None:
    decision = decide(session, "test.small_enough", {"n": 3}, Limits())
    assert replay(session, decision.id).agrees


def test_replay_notices_a_tampered_decision(session: Session) -> None:
    decision = decide(session, "test.small_enough", {"n": 3}, Limits())
    decision.outcome = "no"
    session.flush()
    assert not replay(session, decision.id).agrees


def test_a_persons_decision_has_no_rule_to_replay(session: Session) -> None:
    decision = record(session, "person.promote", "done", ["because"], actor="ada")
    with pytest.raises(NotFound, match=r"person\.promote"):
        replay(session, decision.id)
