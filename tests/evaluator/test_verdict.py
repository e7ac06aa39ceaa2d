"""`compare` over stored evaluations: what the verdict keeps, what it refuses, what it sets off."""

import numpy as np
import pytest
from sqlmodel import select

from evaluator.compare import GeneralTasks, compare
from evaluator.decide import AB_TEST, DEPLOY, STAY, UNDECIDED
from evaluator.forgetting import RULE as FORGETTING
from evaluator.tables import Evaluation, Sample, Suite, SuiteTask
from foundation.decisions import get_decision, replay
from foundation.errors import Conflict
from foundation.tables import Decision
from trainer.tables import CANDIDATE, PRODUCTION, QUARANTINED, ModelVersion

N = 60


@pytest.fixture
def suite(session):
    return make_suite(session, "coding")


def make_suite(session, name, families=N):
    found = Suite(name=name, role="coder", content_hash=f"hash-{name}", n_tasks=N)
    session.add(found)
    session.flush()
    session.add_all(
        SuiteTask(
            suite_id=found.id,
            task_id=f"t{i:02}",
            prompt=[],
            grader="exact",
            reference={},
            attributes={"difficulty": ("easy", "hard")[i % 2], "family": f"f{i % families}"},
        )  # fmt: skip
        for i in range(N)
    )
    session.flush()
    return found


def evaluation(session, suite, name, rate, k=5, version=None, seed=0):
    rng = np.random.default_rng(seed)
    found = Evaluation(
        suite_id=suite.id, subject=name, samples_per_task=k, suite_hash=suite.content_hash,
        model_version_id=version.id if version else None,
    )  # fmt: skip
    session.add(found)
    session.flush()
    tasks = session.exec(
        select(SuiteTask).where(SuiteTask.suite_id == suite.id).order_by(SuiteTask.task_id)
    )
    session.add_all(
        Sample(evaluation_id=found.id, suite_task_id=task.id, number=n, answer="", status="",
               passed=bool(rng.random() < rate))
        for task in tasks
        for n in range(k)
    )  # fmt: skip
    session.flush()
    return found


def version(session, stage=CANDIDATE):
    found = ModelVersion(
        role="coder", number=1, name="coder-v1", kind="adapter", base_model="tiny", stage=stage
    )
    session.add(found)
    session.flush()
    return found


def test_a_verdict_keeps_everything_it_rests_on(session, suite):
    verdict = compare(
        session,
        evaluation(session, suite, "old", 0.4),
        evaluation(session, suite, "new", 0.8, seed=1),
        sections={"cost": {"usd": 1.0}},
    )
    session.commit()
    assert verdict.outcome == DEPLOY
    report = verdict.report
    assert report["cost"] == {"usd": 1.0}
    assert report["comparison"]["n_clusters"] == N
    assert report["comparison"]["improvement_points"] == verdict.improvement_points
    assert 0 < report["noise_floor"]["points"] < verdict.improvement_points
    assert {row["value"] for row in report["slices"]["rows"]} == {"easy", "hard"}
    assert report["forgetting"] is None
    reasons = get_decision(session, verdict.decision_id).reasons
    assert "differs from itself" in reasons[1]
    assert replay(session, verdict.decision_id).agrees


def test_equal_models_are_undecided_and_the_number_of_tasks_is_kept(session, suite):
    verdict = compare(
        session, evaluation(session, suite, "a", 0.5), evaluation(session, suite, "b", 0.5, seed=1)
    )
    assert verdict.outcome == UNDECIDED
    decision = get_decision(session, verdict.decision_id)
    assert decision.inputs["more_tasks"] == verdict.report["comparison"]["more_tasks"] > 0
    assert f"{decision.inputs['more_tasks']:,} more tasks needed" in " ".join(decision.reasons)


def test_families_are_clusters_without_being_asked_for(session):
    suite = make_suite(session, "families", families=12)
    pair = evaluation(session, suite, "a", 0.5), evaluation(session, suite, "b", 0.7, seed=1)
    assert compare(session, *pair).report["comparison"]["n_clusters"] == 12
    by_difficulty = compare(session, *pair, family="difficulty").report["comparison"]
    assert by_difficulty["n_clusters"] == 2


def test_a_second_evaluation_of_the_baseline_is_the_noise_floor(session, suite):
    found = [evaluation(session, suite, str(i), 0.5, k=1, seed=i) for i in range(3)]
    assert compare(session, *found[:2]).report["noise_floor"] is None
    again = compare(session, *found[:2], repeated=found[2]).report["noise_floor"]
    assert again["method"] == "repeat"


def test_a_suite_that_changed_since_is_refused(session, suite):
    pair = evaluation(session, suite, "a", 0.5), evaluation(session, suite, "b", 0.5, seed=1)
    pair[0].suite_hash = "what it was before"
    with pytest.raises(Conflict, match="changed since"):
        compare(session, *pair)


@pytest.mark.parametrize(
    ("general_rate", "stage", "outcome", "forgot", "stage_after"),
    [
        (0.9, CANDIDATE, DEPLOY, "ok", CANDIDATE),
        (0.3, CANDIDATE, STAY, "quarantine", QUARANTINED),
        (0.3, PRODUCTION, STAY, "quarantine", PRODUCTION),
    ],
)
def test_what_forgot_is_quarantined_before_it_serves(
    session, suite, general_rate, stage, outcome, forgot, stage_after
):
    candidate = version(session, stage)
    general = make_suite(session, "general")
    verdict = compare(
        session,
        evaluation(session, suite, "old", 0.4),
        evaluation(session, suite, "new", 0.8, version=candidate, seed=1),
        general=GeneralTasks(
            evaluation(session, general, "old", 0.9),
            evaluation(session, general, "new", general_rate, version=candidate, seed=2),
        ),
    )
    assert verdict.outcome == outcome
    assert verdict.report["forgetting"]["outcome"] == forgot
    assert verdict.report["forgetting"]["suite"] == "general@1"
    decision = session.exec(select(Decision).where(Decision.kind == FORGETTING)).one()
    assert decision.subject_id == candidate.id
    assert replay(session, decision.id).agrees
    session.refresh(candidate)
    assert candidate.stage == stage_after


def test_a_candidate_does_not_win_by_making_graders_throw(session, suite):
    pair = evaluation(session, suite, "old", 0.5), evaluation(session, suite, "new", 0.5, seed=1)
    honest = compare(session, *pair).improvement_points
    for sample in session.exec(select(Sample).where(Sample.evaluation_id == pair[1].id)):
        if sample.passed is False:
            sample.passed, sample.status = None, "ERROR"
            session.add(sample)
    session.flush()
    verdict = compare(session, *pair)
    assert verdict.improvement_points == honest
    decision = get_decision(session, verdict.decision_id)
    assert decision.inputs["ungraded_candidate"] > 50
    assert "Warning: graders threw" in " ".join(decision.reasons)
    assert verdict.report["ungraded"]["candidate"] == decision.inputs["ungraded_candidate"]
    assert replay(session, decision.id).agrees


@pytest.mark.parametrize(
    ("flips", "outcome"),
    [((0.2, 0.1), DEPLOY), ((0.1, 0.21), AB_TEST), ((0.1, None), AB_TEST), ((None, None), AB_TEST)],
)
def test_grades_of_judges_that_turn_with_the_wording_do_not_deploy(session, suite, flips, outcome):
    task = session.exec(select(SuiteTask).where(SuiteTask.suite_id == suite.id)).first()
    task.grader = "rubric"
    session.add(task)
    pair = evaluation(session, suite, "old", 0.3), evaluation(session, suite, "new", 0.8, seed=1)
    for one, rate in zip(pair, flips, strict=True):
        one.metrics = {"graded": {"judge_flipped": rate} if rate is not None else {}}
    verdict = compare(session, *pair)
    assert verdict.outcome == outcome
    assert replay(session, verdict.decision_id).agrees
