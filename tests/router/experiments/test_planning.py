"""The plan before the start: traffic and success are read, and small traffic is said in words."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlmodel import Session

from collector.tables import Feedback, Interaction
from foundation.errors import BadInput, NotFound
from foundation.ids import first_id_at, new_id
from foundation.tables import now
from router import experiment as ab
from router.experiment import PLANS
from router.policy import set_policy

PLAN = PLANS["default"]


def work(session: Session, version, per_day: int, success: float, unit: str | None = None) -> None:
    """Log four weeks of tasks of one call each."""
    for i in range(28 * per_day):
        at = now() - timedelta(days=27.5 * i / (28 * per_day))
        call = Interaction(
            id=first_id_at(at), role="coder", model_version_id=version.id, episode_id=new_id(),
            unit_id=unit and f"{unit}-{i % 30}",
        )  # fmt: skip
        session.add(call)
        value = float(i % 100 < 100 * success)
        session.add(Feedback(episode_id=call.episode_id, kind="success", value=value))
    session.flush()


def test_an_outlook_reads_the_roles_traffic(session, versions) -> None:
    work(session, versions[0], 30, 0.85)
    found = ab.outlook(session, "coder", PLAN)
    assert found.tasks_per_day == 30
    assert found.baseline == pytest.approx(0.85, abs=0.01)
    assert found.alpha == 0.01, "the role promotes alone"
    small, middle, large = found.sizes
    assert small.p80 > middle.p80 > large.p80
    assert large.days_median == pytest.approx(large.median / 15)
    assert 0.02 < found.smallest_gain < 0.1
    # 20 units each: 20 / 30 of a day in shadow and a day at least, 13.3 days at 5 %, 2.7 at 25 %.
    assert found.ramp_days == pytest.approx(1 + 20 / 1.5 + 20 / 7.5)
    assert not any("offline replay" in sentence for sentence in found.advice)


def test_small_traffic_is_told_to_compare_offline(session, versions) -> None:
    work(session, versions[0], 4, 0.85)
    said = " ".join(ab.outlook(session, "coder", PLAN).advice)
    assert "below ~20 tasks a day use offline replay" in said
    assert "flywheel compare" in said


def test_nothing_is_known_of_an_idle_role(session, versions) -> None:
    found = ab.outlook(session, "coder", PLAN)
    assert (found.tasks_per_day, found.baseline, found.sizes, found.ramp_days) == (
        0,
        None,
        (),
        None,
    )
    assert any("No success rate is known" in sentence for sentence in found.advice)
    assert ab.outlook(session, "coder", PLAN, baseline=0.5).sizes


def test_an_assisted_role_needs_less_proof(session, versions) -> None:
    set_policy(session, "coder", actor="ada", auto_promote="assisted")
    assert ab.outlook(session, "coder", PLAN).alpha == 0.05


def test_sticky_units_are_counted_before_the_start(session, versions) -> None:
    work(session, versions[0], 5, 0.85, unit="agent")
    said = ab.outlook(session, "coder", replace(PLAN, unit_kind="agent", ramp=())).advice[-1]
    assert "15 units in treatment and 15 in control" in said


def test_what_cannot_be_reckoned_is_said(session, versions) -> None:
    with pytest.raises(BadInput, match="baseline"):
        ab.outlook(session, "coder", PLAN, baseline=1.0)
    with pytest.raises(NotFound, match="painter"):
        ab.outlook(session, "painter", PLAN)
