"""Answers graded by criteria, by a real server: scores, flips, and what is nobody's fault."""

import json

import pytest
from judging_app import judging

from evaluator.graders import GradedTask
from evaluator.graders.rubric import NoVerdict, grade_many
from evaluator.judge.ask import JudgeUnavailable
from evaluator.judge.gate import may_rubric_gate
from evaluator.judge.questions import FAULT, MERIT, Criterion, RubricQuestion
from foundation.errors import BadInput
from foundation.marks import mark_of
from foundation.settings import get_settings

CRITERIA = [
    {"name": "right", "text": "What it says is true.", "weight": 3},
    {"name": "brief", "text": "It says no more."},
]


@pytest.fixture
def court(monkeypatch, database):
    with judging() as server:
        monkeypatch.setenv("FLYWHEEL_UPSTREAMS", server.upstreams)
        yield server


@pytest.fixture
def panel(monkeypatch, court):
    def seat(*models):
        monkeypatch.setenv("FLYWHEEL_JUDGE_MODELS", json.dumps(models))
        get_settings.cache_clear()

    return seat


def task(number=0, **reference):
    prompt = [{"role": "user", "content": f"Explain it. ({number})"}]
    return GradedTask(f"t{number}", prompt, "rubric", {"criteria": CRITERIA, **reference})


def grade(answers, **reference):
    tasks = [task(number, **reference) for number in range(len(answers))]
    return grade_many(tasks, answers, None)


def test_an_answer_passes_by_its_weighted_mean(panel, court) -> None:
    panel("honest")
    good, edge, bad, lost = grade(["quality 9", "quality 7", "quality 6", " "])
    assert (good.passed, good.score) == (True, 0.9)
    assert (edge.passed, edge.score) == (True, 0.7), "the threshold itself passes"
    assert (bad.passed, bad.score) == (False, 0.6)
    assert bad.detail == "0.60, below 0.7; least by right"
    assert str(lost.status) == "LOST"
    assert good.metrics["criterion_right"] == good.metrics["criterion_brief"] == 0.9
    n = len(court.seen)
    assert grade(["quality 9", "quality 7", "quality 6", ""])[0] == good
    assert len(court.seen) == n, "asked once"


def test_a_fifth_is_asked_the_other_way_round_and_flips_are_seen(panel, court) -> None:
    answers = [f"quality 9 of {number}" for number in range(60)]
    panel("honest")
    steady = [one.metrics for one in grade(answers)]
    twice = [one["judge_flipped"] for one in steady if "judge_flipped" in one]
    assert 3 <= len(twice) <= 24
    assert set(twice) == {0.0}
    assert len(court.seen) == 60 + len(twice)
    panel("moody")
    moody = [one.metrics.get("judge_flipped") for one in grade(answers)]
    assert {one for one in moody if one is not None} == {1.0}, "9 of merit and 9 of fault"
    assert may_rubric_gate(0.2)
    assert not may_rubric_gate(0.21)
    assert not may_rubric_gate(None)


def test_a_panel_is_averaged_over_those_that_can_be_read(panel) -> None:
    panel("honest", "garbage", "other")
    (one,) = grade(["quality 8"])
    assert (one.score, one.metrics["judges"]) == (0.8, 2)


def test_no_verdict_is_not_the_models_fault(panel, court) -> None:
    panel("garbage")
    with pytest.raises(NoVerdict, match="t0, t1"):
        grade(["quality 8", "quality 9"])
    panel("dying")
    court.left = 0
    with pytest.raises(JudgeUnavailable, match="judges dying: no answer"):
        grade(["quality 8"])
    panel()
    with pytest.raises(BadInput, match="FLYWHEEL_JUDGE_MODELS"):
        grade(["quality 8"])


@pytest.mark.parametrize(
    "reference",
    [
        {"criteria": None},
        {"criteria": [{"name": "x"}]},
        {"criteria": [CRITERIA[0], CRITERIA[0]]},
        {"criteria": [{"name": "x", "text": "y", "weight": 0}]},
        {"min_score": 7},
        {"answer": 3},
    ],
)
def test_a_task_that_cannot_be_graded_is_refused(panel, reference) -> None:
    panel("honest")
    with pytest.raises(BadInput, match=r"task t0: reference"):
        grade([""], **reference)


def question(wording=MERIT):
    criteria = (Criterion("right", "True.", 3), Criterion("brief", "Short."))
    return RubricQuestion("j", criteria, "task", "answer", "model answer", wording)


@pytest.mark.parametrize(
    ("wording", "grades", "score"),
    [
        (MERIT, {"right": 10, "brief": 2}, 0.8),
        (FAULT, {"right": 0, "brief": "8"}, 0.8),
        (MERIT, {"right": 10.0, "brief": 2, "more": 1}, 0.8),
        (MERIT, {"right": 10}, None),
        (MERIT, {"right": 11, "brief": 2}, None),
        (MERIT, {"right": 7.5, "brief": 2}, None),
        (MERIT, {"right": True, "brief": 2}, None),
        (MERIT, [10, 2], None),
    ],
)
def test_grades_are_read_strictly(wording, grades, score) -> None:
    asked = question(wording)
    said = asked.read(json.dumps({"mark": mark_of(asked.key), "grades": grades}))
    assert (said and said.score) == (score and pytest.approx(score))


def test_the_two_wordings_turn_all_orders_round() -> None:
    merit, fault = (question(one).messages() for one in (MERIT, FAULT))
    assert merit[1]["content"].index("<<<TASK") < merit[1]["content"].index("<<<ANSWER")
    assert fault[1]["content"].index("<<<TASK") > fault[1]["content"].index("<<<ANSWER")
    assert merit[0]["content"].index("- right") < merit[0]["content"].index("- brief")
    assert fault[0]["content"].index("- right") > fault[0]["content"].index("- brief")
    assert question(MERIT).key != question(FAULT).key
