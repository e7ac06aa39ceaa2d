"""The emergency stop: everything to the baseline, nothing decided, and all as before afterwards."""

from dataclasses import replace

import httpx
import pytest
from sqlmodel import Session, select

from foundation.errors import Conflict, NotFound
from foundation.tables import Decision
from router import emergency, guard
from router import experiment as ab
from router.experiment import PLANS
from router.policy import set_policy
from router.promote import initial, promote, rollback, serving_version
from router.roster import take
from router.tables import RUNNING, Promotion
from router.upstreams import Upstream

ENGINE = Upstream("engine", "http://127.0.0.1:9/v1")


@pytest.fixture
def versions(session, make_version):
    """Three versions: one that served before, one that serves, one in an experiment."""
    first, second, third = make_version(), make_version(), make_version()
    initial(session, "coder", first)
    promote(session, "coder", second, reason="better", actor="ada")
    return first, second, third


def answers(session: Session, role: str = "coder") -> tuple[str, bool]:
    """Who answers for a role as a gateway sees it, and whether an experiment gets traffic."""
    roster = take(session, ENGINE, ())
    return roster.serving[role].version_name, role in roster.experiments


def test_a_stop_sends_everything_to_the_version_before(session, versions) -> None:
    running = ab.start(session, "coder", versions[2], PLANS["demo"], "ada")
    assert answers(session) == ("coder-v2", True)
    (decision,) = emergency.stop(session, "it deletes files", "ada")
    assert (decision.kind, decision.outcome, decision.actor) == (
        "router.emergency", "stopped", "ada",
    )  # fmt: skip
    assert decision.reasons[0] == "it deletes files"
    assert answers(session) == ("coder-v1", False)
    assert running.status == RUNNING, "the experiment waits"
    assert emergency.stop(session, "again", "bob") == []
    (resumed,) = emergency.resume(session, "fixed", "ada")
    assert resumed.outcome == "resumed"
    assert answers(session) == ("coder-v2", True)
    assert emergency.resume(session, "again", "ada") == []
    assert len(session.exec(select(Promotion)).all()) == 2, "no promotion was changed"


def test_the_baseline_is_the_policys_where_it_names_one(session, versions, make_version) -> None:
    fourth = make_version()
    set_policy(session, "coder", actor="ada", baseline=fourth.name)
    emergency.stop(session, "r", "ada")
    assert answers(session)[0] == fourth.name


def test_a_quarantined_baseline_is_passed_over(session, versions) -> None:
    set_policy(session, "coder", actor="ada", baseline="coder-v2")
    rollback(session, "coder", reason="broken", actor="ada")
    emergency.stop(session, "r", "ada")
    assert answers(session)[0] == "coder-v1"


def test_without_a_version_before_only_experiments_lose_their_traffic(
    session, make_version
) -> None:
    first = make_version()
    initial(session, "coder", first)
    ab.start(session, "coder", make_version(), PLANS["demo"], "ada")
    emergency.stop(session, "r", "ada")
    assert answers(session) == (first.name, False)


def test_one_role_or_all(session, versions, make_version) -> None:
    initial(session, "tester", make_version("tester"))
    assert [d.role for d in emergency.stop(session, "r", "ada", "coder")] == ["coder"]
    assert sorted(emergency.baselines(session)) == ["coder"]
    assert [d.role for d in emergency.stop(session, "r", "ada")] == ["tester"]
    assert [d.role for d in emergency.resume(session, "r", "ada")] == ["coder", "tester"]
    with pytest.raises(NotFound, match="painter"):
        emergency.stop(session, "r", "ada", "painter")
    with pytest.raises(NotFound, match="somebody serves"):
        emergency.stop(session, "r", "ada", "reviewer")


def test_nothing_is_decided_or_promoted_meanwhile(session, versions, make_version) -> None:
    plan = replace(PLANS["demo"], min_per_arm=0, max_per_arm=1)
    running = ab.start(session, "coder", versions[2], plan, "ada")
    emergency.stop(session, "r", "ada")
    assert ab.evaluate(session, running) is None
    assert guard.watch(session, "coder") is None
    with pytest.raises(Conflict, match="emergency resume"):
        promote(session, "coder", make_version(), reason="r", actor="ada")
    with pytest.raises(Conflict, match="emergency resume"):
        ab.start(session, "coder", make_version(), plan, "ada")
    # What takes a version away is never held up.
    ab.stop(session, running, "enough", "ada")
    rollback(session, "coder", reason="broken", actor="ada")
    assert serving_version(session, "coder") is versions[0]


def test_one_call_of_the_api_stops_and_one_resumes(client: httpx.Client, session, versions) -> None:
    session.commit()
    stopped = client.post("/v1/emergency/stop", json={"reason": "smoke", "actor": "ada"})
    assert [row["outcome"] for row in stopped.json()] == ["stopped"]
    assert client.get("/v1/roles/coder/serving").json()["is_stopped"] is True
    refused = client.post("/v1/roles/coder/promote", json={"version": "coder-v1", "reason": "r"})
    assert refused.status_code == 409
    assert client.post("/v1/emergency/stop", json={"reason": ""}).status_code == 422
    resumed = client.post("/v1/emergency/resume", json={"reason": "clear", "role": "coder"})
    assert [row["outcome"] for row in resumed.json()] == ["resumed"]
    kinds = session.exec(select(Decision.kind).where(Decision.kind == "router.emergency")).all()
    assert len(kinds) == 2
