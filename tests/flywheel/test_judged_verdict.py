"""Judges beside a verdict: asked in no transaction, stored, shown, and deciding little."""

import json

import pytest
from fastapi.testclient import TestClient
from judging_app import judging
from sqlalchemy import text
from sqlmodel import Session, select

from curation.tables import ReviewItem
from evaluator.compare import compare
from evaluator.decide import AB_TEST, DEPLOY
from evaluator.judge import judge_stored, require_judges
from evaluator.tables import Evaluation, Sample, Suite, SuiteTask, Verdict
from flywheel.app import create_app
from foundation.chat import message
from foundation.database import get_engine, session_scope
from foundation.decisions import get_decision, replay
from foundation.errors import BadInput
from foundation.settings import get_settings

N = 40


@pytest.fixture
def judges(monkeypatch, settings):
    """Sets the judges by their names; holds their server."""
    with judging() as server:
        monkeypatch.setenv("FLYWHEEL_UPSTREAMS", server.upstreams)

        def named(*models):
            monkeypatch.setenv("FLYWHEEL_JUDGE_MODELS", json.dumps(models))
            get_settings.cache_clear()
            return server

        yield named


def stored(name, grader, sides):
    """Two committed evaluations; `sides(number)` is (passed, quality) of baseline and candidate."""
    with session_scope() as session:
        suite = Suite(name=name, role="coder", content_hash=name, n_tasks=N)
        session.add(suite)
        session.flush()
        both = [Evaluation(suite_id=suite.id, subject=who) for who in ("base", "new")]
        for one in both:
            one.metrics = {"graded": {"judge_flipped": 0.0}}
        session.add_all(both)
        session.flush()
        for number in range(N):
            task = SuiteTask(
                suite_id=suite.id,
                task_id=f"t{number:02}",
                prompt=[message("user", f"{number}?")],
                grader=grader,
                reference={"x": 1},
            )
            session.add(task)
            session.flush()
            for side, (passed, quality) in enumerate(sides(number)):
                pad = "." * (number * (3 + 4 * side) % 11)
                sample = Sample(evaluation_id=both[side].id, suite_task_id=task.id, status="PASS")
                sample.passed, sample.answer = passed, f"{name} {side} of quality {quality} {pad}"
                session.add(sample)
    return tuple(one.id for one in both)


def passes_but_reads_worse(number):
    return (False, 8), (True, 2)


def best_reads_best(number):
    return ((True, 8), (False, 2)) if number % 2 else ((False, 2), (True, 8))


def judged(session, ids, calibration=()):
    report = judge_stored(*ids, calibration)
    verdict = compare(session, *[session.get_one(Evaluation, one) for one in ids], judge=report)
    session.commit()
    decision = get_decision(session, verdict.decision_id)
    assert replay(session, decision.id).agrees
    return verdict, decision


def test_a_judge_that_is_not_fit_is_shown_and_decides_nothing(session, judges):
    judges("honest")
    verdict, decision = judged(session, stored("s", "calls", passes_but_reads_worse))
    section = verdict.report["judge"]
    assert section["panel"]["win_rate"]["rate"] == 0
    assert section["may_gate"] is False, "execution says that it is always wrong"
    assert {"flips", "first_position", "length_only"} <= section["judges"][0].keys()
    assert verdict.outcome == DEPLOY
    assert "win rate is 0.0%, which decides nothing" in " ".join(decision.reasons)
    assert decision.inputs["judge_may_gate"] is False


def test_a_judge_that_is_fit_holds_a_deployment_back(session, judges):
    judges("honest")
    known = stored("known", "calls", best_reads_best)
    ids = stored("prose", "rubric", passes_but_reads_worse)
    verdict, decision = judged(session, ids, [known])
    assert verdict.report["judge"]["may_gate"], verdict.report["judge"]["why"]
    assert verdict.outcome == AB_TEST
    assert "prefer the baseline" in " ".join(decision.reasons)
    alone, _ = judged(session, ids)
    assert alone.outcome == DEPLOY, "without truth beside it nothing is known of it"


def test_a_judge_that_is_fit_and_agrees_changes_nothing(session, judges):
    judges("honest")
    ids = stored("s", "calls", lambda number: ((number < 4, 2 + 6 * (number < 4)), (True, 5)))
    verdict, _ = judged(session, ids)
    assert verdict.report["judge"]["may_gate"], verdict.report["judge"]["why"]
    assert verdict.outcome == DEPLOY


def test_no_transaction_is_open_while_a_judge_thinks(session, judges):
    court = judges("honest")
    ids = stored("s", "calls", best_reads_best)
    begun: list[set[object]] = []
    query = text(
        "SELECT pid, xact_start FROM pg_stat_activity WHERE datname = current_database()"
        " AND xact_start IS NOT NULL AND pid <> pg_backend_pid()"
    )
    session.rollback()

    def look(done, total, unit):
        with Session(get_engine()) as other:
            begun.append(set(other.execute(query).all()))

    look(0, 0, "questions")
    of_others = begun.pop()
    judge_stored(*ids, progress=look)
    assert len(begun) == len(court.seen) == 2 * N
    assert begun[0] & begun[-1] <= of_others, "none but those on single questions"
    assert len(session.exec(select(ReviewItem)).all()) == N / 10, "a tenth is for people"


def test_without_a_judge_nothing_is_asked(session, settings):
    ids = stored("s", "calls", best_reads_best)
    for ask in (require_judges, lambda: judge_stored(*ids)):
        with pytest.raises(BadInput, match="FLYWHEEL_JUDGE_MODELS"):
            ask()


def test_the_command_shows_each_number_beside_what_the_judge_gives_away(judges, session, command):
    court = judges("honest", "always-first")
    ids = [str(one) for one in stored("s", "calls", passes_but_reads_worse)]
    said = command("compare", *ids, "--judge")
    assert said.code == 0, said
    shown = " ".join(said.out.split())
    assert "flips with the order 0.0 % (0.0 % to 8.8 %, n 40) 100.0 % (91.2 % to" in shown
    assert "Panel of honest, always-first: win rate" in shown
    assert "it decides nothing." in shown
    assert "always-first: 100.0% of its verdicts change with the order" in shown
    n_asked = len(court.seen)
    found = command("compare", *ids, "--judge", "--json").json
    assert [one["model"] for one in found["judge"]["judges"]] == ["honest", "always-first"]
    assert len(court.seen) == n_asked, "what was said is kept"
    assert command("compare", *ids, "--json").json["judge"] is None


def test_the_command_refuses_before_it_evaluates_anything(database, command):
    said = command("compare", "old", "new", "--suite", "none", "--judge")
    assert said.code == 2
    assert "FLYWHEEL_JUDGE_MODELS" in said.err


def test_judges_over_http(judges, session):
    judges("honest")
    before, after = map(str, stored("s", "calls", best_reads_best))
    order = {"baseline_evaluation_id": before, "candidate_evaluation_id": after, "judge": True}
    answer = TestClient(create_app(), "http://127.0.0.1").post("/v1/verdicts", json=order)
    assert answer.status_code == 201, answer.text
    assert answer.json()["judge"]["judges"][0]["model"] == "honest"
    [verdict] = session.exec(select(Verdict)).all()
    assert verdict.report["judge"]["pairs"] == N
