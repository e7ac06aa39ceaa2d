"""Drift: the rule at its edges, the evidence, and the watch over real rows."""

import threading
from dataclasses import asdict, replace

import numpy as np
import pytest
from sqlalchemy import text
from sqlmodel import Session, select

from collector.tables import Feedback, Interaction
from evaluator.drift import (
    ALARM,
    BENCHMARK,
    RULE,
    STEADY,
    DriftInputs,
    DriftThresholds,
    Watched,
    drift_rule,
    failure_limit,
    reports,
    watch_all,
)
from evaluator.evidence import Restarted, log_e_rate
from evaluator.tables import DriftWatch, Evaluation, Suite
from foundation.database import get_engine
from foundation.decisions import replay
from foundation.errors import BadInput
from foundation.ids import new_id
from foundation.tables import Decision, now
from trainer.plan import NOW, SHOULD_RETRAIN
from trainer.tables import PRODUCTION, ModelVersion

QUICK = DriftThresholds(n_reference=50)
SEEN = DriftInputs(
    version="coder-v1",
    reference_rate=0.85,
    n_reference=300,
    failure_limit=0.18,
    n=400,
    n_failed=90,
    log_e=float(np.log(20)),
    n_since=100,
    n_failed_since=20,
)


def outcome(**changes):
    return drift_rule(asdict(replace(SEEN, **changes)), asdict(DriftThresholds())).outcome


def test_alarm_needs_both_the_evidence_and_the_drop():
    assert outcome() == ALARM  # exactly E = 20, exactly 5 points
    assert outcome(log_e=float(np.log(20)) - 1e-6) == STEADY
    assert outcome(n_since=1000, n_failed_since=199) == STEADY
    assert outcome(n_since=0, n_failed_since=0) == STEADY
    assert outcome(log_e=1e6) == ALARM


@pytest.mark.parametrize(
    "wrong", [{"drop_points": 0}, {"alarm_e": 1}, {"reference": "hope"}, {"n_reference": 0}]
)
def test_wrong_limits_are_refused(wrong):
    with pytest.raises(BadInput):
        DriftThresholds(**wrong)


def test_the_evidence_starts_at_one_and_is_on_average_at_most_one():
    rng = np.random.default_rng(1)
    lives = Restarted.fresh(np.full(40_000, 0.2))
    assert np.allclose(lives.log_e, 0)
    for _ in range(60):
        lives = lives.after(rng.random(40_000) < 0.2)
    assert np.exp(lives.log_e).mean() == pytest.approx(1.0, abs=0.02)


def test_a_long_healthy_past_does_not_hide_a_break():
    rng = np.random.default_rng(2)
    one, n_failed = Restarted.fresh(0.18), 0
    for failed in [*(rng.random(5000) < 0.15), *(rng.random(150) < 0.45)]:
        one, n_failed = one.after(failed), n_failed + failed
    assert one.log_e > np.log(20)
    assert log_e_rate(n_failed, one.n, 0.18) < 0  # what started once sees nothing yet


def test_the_reference_is_gathered_first_and_its_error_is_allowed_for():
    state = Watched(0, 0)
    for i in range(50):
        assert state.evidence is None
        state = state.after(i % 10 == 0, 50)
    assert state.evidence is not None
    assert state.n_failed_reference == 5
    assert state.evidence.limit == pytest.approx(failure_limit(0.1, 50))
    assert 0.1 < failure_limit(0.1, 50) < 0.2
    for rate in (0.0, 1.0):
        assert 0 < failure_limit(rate, 50) < 1


@pytest.fixture
def serving(session):
    version = ModelVersion(
        role="coder", number=1, name="coder-v1", kind="adapter", base_model="tiny", stage=PRODUCTION
    )
    session.add(version)
    session.commit()
    return version


def tell(session, version, failures, **columns):
    """Log one call with an outcome for each entry."""
    for failed in failures:
        call = Interaction(
            role="coder", model_version_id=version.id, episode_id=new_id(), **columns
        )
        said = Feedback(interaction_id=call.id, kind="success", value=0.0 if failed else 1.0)
        session.add_all([call, said])
    session.commit()


def look(session, limits=QUICK):
    alarms = watch_all(session, limits)
    session.commit()
    return alarms


def watched(session):
    session.expire_all()
    return session.exec(select(DriftWatch)).one()


GOOD = [i % 10 == 0 for i in range(50)]
BAD = [i % 2 == 0 for i in range(80)]


def test_a_version_that_breaks_gives_alarm_once_and_asks_for_training(session, serving):
    tell(session, serving, GOOD)
    assert look(session) == []
    tell(session, serving, GOOD)
    assert look(session) == []
    tell(session, serving, BAD)
    [alarm] = look(session)
    assert (alarm.kind, alarm.outcome, alarm.role) == (RULE, ALARM, "coder")
    assert replay(session, alarm.id).agrees
    retrain = session.exec(select(Decision).where(Decision.kind == SHOULD_RETRAIN)).one()
    assert retrain.outcome == NOW
    assert retrain.inputs["success_at_training"] == pytest.approx(0.9)
    assert retrain.inputs["success_now"] < 0.7
    assert replay(session, retrain.id).agrees
    tell(session, serving, BAD)
    assert look(session) == []
    row = watched(session)
    assert (row.n_reference, row.n, row.alarm_decision_id) == (50, 210, alarm.id)
    assert row.reference_rate == pytest.approx(0.9)


def test_looking_often_or_once_comes_to_the_same(session, serving):
    outcomes = [*GOOD, *(i % 7 == 0 for i in range(40))]
    for start in range(0, len(outcomes), 6):
        tell(session, serving, outcomes[start : start + 6])
        look(session)
    row = watched(session)
    expected = Watched(0, 0)
    for failed in outcomes:
        expected = expected.after(failed, 50)
    assert row.log_e == pytest.approx(float(expected.evidence.log_e))
    assert (row.n, row.n_failed) == (40, int(expected.n_failed))
    assert look(session) == []
    assert watched(session).n == 40


def test_a_task_counts_once_by_what_was_said_first(session, serving):
    call = Interaction(role="coder", model_version_id=serving.id, episode_id=new_id())
    retry = Interaction(role="coder", model_version_id=serving.id, episode_id=call.episode_id)
    session.add_all([call, retry])
    session.add(Feedback(interaction_id=call.id, kind="success", value=0.0))
    session.commit()
    look(session)
    for said in (
        Feedback(interaction_id=retry.id, kind="success", value=1.0),
        Feedback(episode_id=call.episode_id, kind="success", value=1.0),
        Feedback(interaction_id=call.id, kind="rating", value=5.0),
    ):
        session.add(said)
        session.commit()
        look(session)
    row = watched(session)
    assert (row.n_reference, row.reference_rate) == (1, 0.0)


def test_late_feedback_and_late_commits_are_counted(session, serving):
    late = Interaction(role="coder", model_version_id=serving.id, episode_id=new_id())
    session.add(late)
    session.commit()
    with Session(get_engine()) as slow:
        slow.add(Feedback(episode_id=late.episode_id, kind="success", value=1.0))
        slow.flush()  # older than what follows, and committed after it
        tell(session, serving, GOOD[:5])
        look(session)
        slow.commit()
    look(session)
    assert watched(session).n_reference == 6


def test_what_does_not_count(session, serving):
    other = ModelVersion(
        role="coder", number=2, name="coder-v2", kind="adapter", base_model="t", stage="candidate"
    )
    session.add(other)
    session.commit()
    tell(session, other, GOOD[:5])
    tell(session, serving, GOOD[:5], arm="treatment")  # before it served
    tell(session, serving, GOOD[:5], arm="control")
    call = Interaction(role="coder", model_version_id=serving.id)
    session.add(call)
    session.add(Feedback(interaction_id=call.id, kind="success", value=0.0, source="judge"))
    session.commit()
    look(session)
    assert watched(session).n_reference == 5


def test_a_rewritten_statement_is_no_new_one(session, serving):
    tell(session, serving, GOOD[:5])
    look(session)
    session.execute(text("UPDATE drift_watch SET watermark = jsonb_set(watermark, '{at}', "
                         "to_jsonb((now() + interval '2 days')::text))"))  # fmt: skip
    session.execute(text("UPDATE feedback SET written_xid = DEFAULT"))
    session.commit()
    look(session)
    assert watched(session).n_reference == 5


def test_a_look_that_was_killed_is_made_again(session, serving):
    tell(session, serving, [*GOOD, *GOOD])
    watch_all(session, QUICK)
    session.rollback()
    assert session.exec(select(DriftWatch)).first() is None
    look(session)
    assert (watched(session).n_reference, watched(session).n) == (50, 50)


def test_watchers_at_once_count_nothing_twice_and_alarm_once(session, serving):
    tell(session, serving, [*GOOD, *BAD])
    alarms, failures = [], []

    def watcher():
        try:
            with Session(get_engine()) as own:
                alarms.extend(watch_all(own, QUICK))
                own.commit()
        except Exception as error:  # shown below
            failures.append(error)

    threads = [threading.Thread(target=watcher) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(alarms) == 1
    assert watched(session).n == len(BAD)
    assert len(session.exec(select(Decision).where(Decision.kind == RULE)).all()) == 1


def test_a_benchmark_can_be_the_reference(session, serving):
    suite = Suite(name="s", role="coder", content_hash="x", n_tasks=100)
    session.add(suite)
    session.flush()
    session.add(
        Evaluation(
            suite_id=suite.id,
            model_version_id=serving.id,
            subject="coder-v1",
            n_samples=500,
            success_rate=0.9,
            ci_low=0.87,
            ci_high=0.93,
        )  # fmt: skip
    )
    session.commit()
    limits = DriftThresholds(reference=BENCHMARK)
    tell(session, serving, GOOD)
    look(session, limits)
    [report] = reports(session, "coder", limits)
    assert (report.n_reference, report.inputs.n) == (500, 50)
    assert report.inputs.failure_limit == pytest.approx(0.13)
    tell(session, serving, BAD)
    assert [alarm.outcome for alarm in look(session, limits)] == [ALARM]


def test_only_versions_in_service_are_watched(session, serving):
    tell(session, serving, GOOD)
    look(session)
    serving.stage = "retired"
    session.add(serving)
    session.commit()
    tell(session, serving, GOOD)
    look(session)
    assert watched(session).n == 0
    assert reports(session) == []


def test_a_report_says_what_is_gathered(session, serving):
    tell(session, serving, GOOD[:20])
    look(session)
    [report] = reports(session, limits=QUICK)
    assert report.reasons == ("20 of 50 outcomes of the reference are here.",)
    assert report.as_json()["e_value"] is None
    assert report.updated_at <= now()


def test_a_restored_database_goes_on_by_time(session, serving):
    tell(session, serving, GOOD[:5])
    look(session)
    ahead = "UPDATE drift_watch SET watermark = jsonb_set(watermark, '{snapshot}', :snapshot)"
    numbers = '"999999999999:999999999999:"'  # of a server that had counted further
    session.execute(text(ahead.replace(":snapshot", f"'{numbers}'")))
    session.commit()
    tell(session, serving, GOOD[:4])
    look(session)
    assert watched(session).n_reference == 9
    tell(session, serving, GOOD[:3])
    look(session)
    assert watched(session).n_reference == 12
