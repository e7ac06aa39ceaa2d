"""Sources that are unlike the others are told of, once a week, with the figure."""

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from collector.feedback import anomalies
from collector.feedback.anomalies import AnomalyThresholds, SourceCounts, flags
from collector.tables import Feedback, Interaction
from foundation.decisions import replay
from foundation.ids import new_id
from foundation.tables import now

LIMITS = AnomalyThresholds()
HONEST = SourceCounts("key:a", 100, 80, 100, 0, 0, 10, 48.0, 50, 45)
REST = [replace(HONEST, source=f"key:{name}") for name in "bc"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, set()),
        ({"n": 900, "successes": 720, "subjects": 900, "busiest_hour": 90}, {"volume"}),
        ({"successes": 20}, {"rate"}),
        ({"successes": 99, "own": 95}, {"rate", "self_approval"}),
        ({"own": 95}, set()),
        ({"agreed": 20}, {"disagrees"}),
        ({"busiest_hour": 60}, {"burst"}),
        ({"busiest_hour": 60, "hours": 1.0}, set()),
        ({"others": 10}, {"others_calls"}),
        ({"subjects": 70}, {"repeats"}),
        ({"n": 20, "successes": 0}, set()),
    ],
)
def test_a_flag_is_a_figure_unlike_the_others(changes, told) -> None:
    assert set(flags(replace(HONEST, **changes), REST, LIMITS)) == told


def test_one_source_that_says_much_hides_no_other(session) -> None:
    honest, loud = UUID(int=1), UUID(int=2)
    call = Interaction(id=new_id(), role="coder")
    session.add(call)
    said = {"kind": "success", "interaction_id": call.id, "value": 1.0, "source": "test"}
    for number, key in enumerate([honest] * 3 + [loud] * 40):
        at = now() - timedelta(hours=1) + timedelta(seconds=number)
        session.add(Feedback(**said, key_id=key, ingested_at=at))
    session.flush()
    found = anomalies.count(session, "coder", AnomalyThresholds(newest=10))
    assert {one.source: one.n for one in found} == {f"key:{honest}": 3, f"key:{loud}": 10}


def test_what_stands_out_is_written_down_once(session) -> None:
    good, bad = UUID(int=1), UUID(int=2)
    for index in range(60):
        call = Interaction(id=new_id(), role="coder", key_id=good)
        session.add(call)
        said = {"kind": "success", "interaction_id": call.id, "source": "test"}
        session.add(Feedback(**said, value=float(index % 5 != 0), key_id=good))
        session.add(Feedback(**said, value=float(index % 5 == 0), key_id=bad))
        session.add(Feedback(**said, value=1.0))  # the machine's own is never flagged
    session.flush()
    found = {one.source: one for one in anomalies.count(session, "coder")}
    assert (found[f"key:{good}"].own, found[f"key:{bad}"].others) == (60, 60)
    assert found[f"key:{bad}"].shared == 60
    decision = anomalies.watch(session, "coder")
    assert decision is not None
    assert decision.outcome == "flagged"
    assert any(f"key:{bad}: others_calls: 100%" in one for one in decision.reasons)
    assert any(f"key:{bad}: rate: " in one for one in decision.reasons)
    assert not any(one.startswith("the machine") for one in decision.reasons)
    assert replay(session, decision.id).agrees
    assert anomalies.watch(session, "coder") is None
    assert anomalies.watch(session, "tester") is None
