"""The guard: a break after a promotion is rolled back, a healthy version is left alone."""

from dataclasses import asdict, replace

import pytest
from sqlalchemy import text
from sqlmodel import Session, select

from collector.tables import Feedback, Interaction
from foundation.decisions import replay
from foundation.ids import new_id
from foundation.tables import Decision
from router import guard
from router.faults import counts_for_version
from router.guard import HEALTHY, GuardThresholds, Vitals
from router.policy import set_policy
from router.promote import initial, promote, rollback, serving_version
from router.tables import ROLLED_BACK, GatewayKey, GuardWatch
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
    assert not counts_for_version("error", kind)
    assert look(session) is None
    # They hide no real break either: 12 of 40 is judged, not 12 of 70.
    log_calls(session, new, 28, "success", None)
    log_calls(session, new, 12, "error", None, "upstream_cut")
    assert look(session).inputs["calls"] == 40


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


@pytest.mark.parametrize("by_mallory", [30, 15])
def test_a_rollback_names_the_source_that_most_of_it_rests_on(
    session, make_version, by_mallory
) -> None:
    old, new = make_version(), make_version()
    initial(session, "coder", old)
    log_calls(session, old, 100, "success", 1.0)
    promote(session, "coder", new, reason="better", actor="ada")
    mallory = GatewayKey(name="mallory", prefix="fw-m", key_hash="d" * 64)
    session.add(mallory)
    session.flush()
    for number in range(30):
        call = Interaction(role="coder", model_version_id=new.id, episode_id=new_id())
        by = mallory.id if number < by_mallory else None
        said = Feedback(
            episode_id=call.episode_id, kind="success", value=0.0, source="test", key_id=by
        )
        session.add_all([call, said])
    decision = look(session)
    assert decision.outcome == ROLLED_BACK
    named = "key:mallory told of 30 of 30 of them" in decision.reasons[0]
    assert named == (by_mallory == 30), "the machine's own half is nobody's to look at"
    assert replay(session, decision.id).agrees


def test_nothing_is_rolled_back_without_a_predecessor(session, make_version) -> None:
    old, new = make_version(), make_version()
    initial(session, "coder", old)
    log_calls(session, old, 60, "error", None)
    assert guard.watch(session, "coder") is None
    promote(session, "coder", new, reason="better", actor="ada")
    rollback(session, "coder", reason="by hand", actor="ada")
    log_calls(session, old, 60, "error", None)
    assert guard.watch(session, "coder") is None


@pytest.fixture
def promoted(session, make_version):
    """A predecessor with a past, and the version that was promoted over it."""
    old, new = make_version(), make_version()
    initial(session, "coder", old)
    log_calls(session, old, 60, "success", 1.0)
    promote(session, "coder", new, reason="better", actor="ada")
    return old, new


def look(session: Session):
    """Look as the scheduler does: the rows are another transaction's, and the look is one."""
    session.commit()
    decision = guard.watch(session, "coder")
    session.commit()
    return decision


def test_a_long_healthy_past_does_not_hide_a_break(session, promoted) -> None:
    """After 2,000 good calls every fifth fails: where all calls count alike that takes 360 more."""
    _, new = promoted
    log_calls(session, new, 2000, "success", None)
    assert look(session) is None
    seen = 0
    while look(session) is None:
        log_calls(session, new, 4, "success", None)
        log_calls(session, new, 1, "error", None, "upstream_cut")
        seen += 5
        assert seen <= 100
    assert seen > 10


def test_a_look_reads_only_what_came_since_the_last_one(session, promoted) -> None:
    _, new = promoted
    log_calls(session, new, 30, "success", 1.0)
    look(session)
    (row,) = session.exec(select(GuardWatch)).all()
    assert (row.state["counts"]["calls"], row.state["counts"]["outcomes"]) == (30, 30)
    # What was read once is not read again: the watch keeps its counts when the rows are gone.
    session.execute(text("DELETE FROM interaction"))
    log_calls(session, new, 5, "error", None)
    look(session)
    session.refresh(row)
    assert row.state["counts"] == {
        "calls": 35, "errors": 5, "slow": 0, "outcomes": 30, "successes": 30,
    }  # fmt: skip


def test_two_looks_count_nothing_twice_whichever_commits_first(session, promoted) -> None:
    _, new = promoted
    look(session)
    with Session(session.get_bind()) as late:
        log_calls(late, new, 3, "success", None)  # written, not committed
        log_calls(session, new, 4, "success", None)
        session.commit()
        guard.watch(session, "coder")
        session.commit()
        late.commit()
    guard.watch(session, "coder")
    look(session)
    (row,) = session.exec(select(GuardWatch)).all()
    assert row.state["counts"]["calls"] == 7


def test_a_word_that_comes_before_its_call_is_counted_with_it(session, promoted) -> None:
    _, new = promoted
    episode = new_id()
    session.add(Feedback(episode_id=episode, kind="success", value=0.0))
    look(session)
    session.add(Interaction(role="coder", model_version_id=new.id, episode_id=episode))
    session.commit()
    guard.watch(session, "coder")
    session.add(Feedback(episode_id=episode, kind="success", value=1.0))
    look(session)
    (row,) = session.exec(select(GuardWatch)).all()
    counts = row.state["counts"]
    assert (counts["calls"], counts["outcomes"], counts["successes"]) == (1, 1, 0)


def test_outcomes_wait_until_the_predecessor_is_known(session, make_version) -> None:
    old, new = make_version(), make_version()
    initial(session, "coder", old)
    log_calls(session, old, 60, "success", None)
    episodes = session.exec(select(Interaction.episode_id)).all()
    promote(session, "coder", new, reason="better", actor="ada")
    log_calls(session, new, 40, "success", 0.0)
    assert look(session) is None, "nobody knows how the predecessor did"
    for episode in episodes:
        session.add(Feedback(episode_id=episode, kind="success", value=1.0))
    decision = look(session)
    assert "40 of 40 tasks failed" in decision.reasons[0]
    assert replay(session, decision.id).agrees


def slow_calls(session: Session, version, n: int, slow: int) -> None:
    for i in range(n):
        latency = 4000.0 if i < slow else 5.0
        call = Interaction(role="coder", model_version_id=version.id, latency_ms=latency)
        session.add(call)
    session.flush()


def test_a_version_as_slow_as_the_one_before_is_left_alone(session, make_version) -> None:
    old, new = make_version(), make_version()
    initial(session, "coder", old)
    slow_calls(session, old, 100, 60)
    promote(session, "coder", new, reason="better", actor="ada")
    slow_calls(session, new, 100, 60)
    assert look(session) is None
    slow_calls(session, new, 100, 100)
    assert "over 3000 ms" in look(session).reasons[0]


def test_what_the_hold_back_suffers_too_is_the_load_s_fault(session, promoted) -> None:
    old, new = promoted
    slow_calls(session, old, 60, 60)  # in the hold-back, at the same time
    slow_calls(session, new, 100, 90)
    assert look(session) is None
    slow_calls(session, old, 300, 0)
    assert look(session).outcome == ROLLED_BACK


def test_a_long_healthy_hold_back_does_not_hide_a_break(session, promoted) -> None:
    """Of the whole past 0.6 % failed, which two hundred calls beside it do not exclude."""
    old, new = promoted
    log_calls(session, old, 200, "success", None)
    log_calls(session, new, 4000, "success", None)
    assert look(session) is None
    for _ in range(10):
        log_calls(session, new, 16, "success", None)
        log_calls(session, new, 4, "error", None, "upstream_cut")
        log_calls(session, old, 1, "success", None)
    decision = look(session)
    assert decision.outcome == ROLLED_BACK
    assert replay(session, decision.id).agrees


def test_an_outage_in_the_first_minute_is_seen_beside(session, promoted) -> None:
    old, new = promoted
    log_calls(session, old, 3, "error", None, "upstream_cut")
    log_calls(session, new, 10, "error", None, "upstream_cut")
    assert look(session) is None


def test_a_roles_policy_changes_its_guard(session, promoted) -> None:
    _, new = promoted
    set_policy(session, "coder", actor="ada", guard={"slow_limit_ms": 5000})
    slow_calls(session, new, 100, 90)
    assert guard.watch(session, "coder") is None


def test_a_decision_from_before_the_watch_still_replays() -> None:
    old = {
        "calls": 40, "errors": 12, "slow": 0, "successes": 9, "outcomes": 10,
        "predecessor_successes": 9, "predecessor_outcomes": 10,
    }  # fmt: skip
    ruling = guard.rule(old, asdict(LIMITS))
    assert ruling.outcome == ROLLED_BACK
    assert ruling.reasons == (
        "12 of 40 calls failed, the limit is 2.0%: E = 1.14e+09, at least 20",
    )
