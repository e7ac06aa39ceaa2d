"""The guard: a break after a promotion is rolled back, a healthy version is left alone."""

from dataclasses import asdict, replace

import pytest
from sqlmodel import Session, select

from collector.tables import Feedback, Interaction
from foundation.decisions import replay
from foundation.ids import new_id
from foundation.tables import Decision
from router import guard
from router.guard import HEALTHY, GuardThresholds, Vitals
from router.promote import initial, promote, rollback, serving_version
from router.tables import ROLLED_BACK
from router.tasks import watch
from trainer.tables import QUARANTINED

LIMITS = GuardThresholds()
FINE = Vitals(
    calls=1000, errors=10, slow=20, successes=450, outcomes=500, predecessor_successes=450,
    predecessor_outcomes=500,
)  # fmt: skip


def outcome_of(**changes: int) -> str:
    return guard.rule(asdict(replace(FINE, **changes)), asdict(LIMITS)).outcome


def test_what_is_healthy_stays() -> None:
    assert outcome_of() == HEALTHY
    assert outcome_of(calls=0, errors=0, slow=0, successes=0, outcomes=0) == HEALTHY
    # At 4 % of 100 calls the plain rule "over 2 %" would fire; that much is chance.
    assert outcome_of(calls=100, errors=4, slow=0) == HEALTHY


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"calls": 40, "errors": 12}, "calls failed"),
        ({"calls": 100, "slow": 30, "errors": 0}, "over 3000 ms"),
        ({"outcomes": 200, "successes": 120}, "tasks failed"),
    ],
)
def test_each_break_rolls_back_with_its_reason(changes, words) -> None:
    ruling = guard.rule(asdict(replace(FINE, **changes)), asdict(LIMITS))
    assert ruling.outcome == ROLLED_BACK
    assert words in ruling.reasons[0]


def test_success_is_compared_only_with_a_predecessor_that_is_known() -> None:
    broken = {"outcomes": 200, "successes": 20}
    assert outcome_of(**broken) == ROLLED_BACK
    assert outcome_of(**broken, predecessor_outcomes=49, predecessor_successes=49) == HEALTHY
    # A predecessor that nearly always fails leaves nothing to fall to.
    assert outcome_of(**broken, predecessor_outcomes=100, predecessor_successes=1) == HEALTHY


def log_calls(
    session: Session, version, n: int, status: str, success: float | None, kind: str | None = None
) -> None:
    for _ in range(n):
        call = Interaction(
            role="coder", model_version_id=version.id, status=status, latency_ms=5.0,
            episode_id=new_id(), error_type=kind,
        )  # fmt: skip
        session.add(call)
        if success is not None:
            session.add(Feedback(episode_id=call.episode_id, kind="success", value=success))
    session.flush()


def test_a_broken_promotion_is_rolled_back_by_the_watch(session, make_version) -> None:
    old, new = make_version(), make_version()
    initial(session, "coder", old)
    log_calls(session, old, 60, "success", 1.0)
    promote(session, "coder", new, reason="better", actor="ada")
    log_calls(session, new, 30, "success", 1.0)
    session.commit()
    assert watch() == {"outcomes": 0, "experiments": {}, "guards": {}}
    log_calls(session, new, 30, "error", None)
    session.commit()
    assert watch()["guards"] == {"coder": ROLLED_BACK}
    session.expire_all()
    assert serving_version(session, "coder").id == old.id
    assert new.stage == QUARANTINED
    decision = session.exec(select(Decision).where(Decision.kind == "router.guard")).one()
    assert replay(session, decision.id).agrees
    assert decision.inputs["calls"] == 60
    # What was brought back is not watched: nobody better is behind it.
    log_calls(session, old, 60, "error", None)
    session.commit()
    assert watch()["guards"] == {}


@pytest.mark.parametrize("kind", ["refused:context_length_exceeded", "upstream_unreachable"])
def test_faults_of_callers_and_outages_of_the_server_are_not_the_version_s(
    session, make_version, kind
) -> None:
    old, new = make_version(), make_version()
    initial(session, "coder", old)
    promote(session, "coder", new, reason="better", actor="ada")
    log_calls(session, new, 30, "error", None, kind)
    assert not guard.counts_for_version("error", kind)
    assert guard.watch(session, "coder") is None
    # They hide no real break either: 12 of 40 is judged, not 12 of 70.
    log_calls(session, new, 28, "success", None)
    log_calls(session, new, 12, "error", None, "upstream_cut")
    assert guard.watch(session, "coder").inputs["calls"] == 40


def test_a_drop_of_success_is_seen(session, make_version) -> None:
    old, new = make_version(), make_version()
    initial(session, "coder", old)
    log_calls(session, old, 100, "success", 1.0)
    promote(session, "coder", new, reason="better", actor="ada")
    log_calls(session, new, 30, "success", 0.0)
    decision = guard.watch(session, "coder")
    assert decision.outcome == ROLLED_BACK
    assert decision.inputs["predecessor_outcomes"] == 100
    assert "tasks failed" in decision.reasons[0]


def test_nothing_is_rolled_back_without_a_predecessor(session, make_version) -> None:
    old, new = make_version(), make_version()
    initial(session, "coder", old)
    log_calls(session, old, 60, "error", None)
    assert guard.watch(session, "coder") is None
    promote(session, "coder", new, reason="better", actor="ada")
    rollback(session, "coder", reason="by hand", actor="ada")
    log_calls(session, old, 60, "error", None)
    assert guard.watch(session, "coder") is None
