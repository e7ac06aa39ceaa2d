"""People on a tenth of what is judged: drawn by hash, shown blind, and held beside the judge."""

import json
from math import ceil

import pytest
from judging_app import judging
from sqlmodel import select

from curation.review.agreement import agreement
from curation.review.cards import card_of
from curation.review.labels import label, statements_of, undo
from curation.review.leases import next_item
from curation.review.said import is_swapped
from curation.tables import ReviewItem
from evaluator.judge import Judge, Pair, compare_answers, judge_evaluations, pairs_of
from evaluator.judge.evaluations import base_of
from evaluator.judge.pairs import truth_of
from evaluator.judge.people import ask_people, drawn, people_on
from evaluator.tables import Evaluation, Sample, Suite, SuiteTask
from foundation.chat import message
from foundation.errors import BadInput
from foundation.settings import get_settings
from trainer.tables import ModelVersion


def made(number, candidate="a long and good answer", **columns):
    prompt = [message("user", f"Task {number}?")]
    return Pair(f"t{number}", prompt, f"plain {number}", f"{candidate} {number}", **columns)


PAIRS = [made(number) for number in range(45)]


def choose(session, reviewer, better):
    """Say which of the next item's answers is better, wherever this reviewer sees it."""
    item = next_item(session, reviewer)
    card = card_of(session, item.id, reviewer)
    choices = {card.sides[0].answer: "first", card.sides[1].answer: "second"}
    choice = next((choices[text] for text in choices if text.startswith(better)), "tie")
    label(session, item.id, reviewer, "compare", {"choice": choice})
    return item


def choose_all(session, better):
    for reviewer in ("ann", "bob"):
        while next_item(session, reviewer) is not None:
            choose(session, reviewer, better)


def test_a_tenth_is_drawn_whatever_the_order_and_stays_drawn(session) -> None:
    chosen = drawn(PAIRS)
    assert len(chosen) == ceil(0.1 * len(PAIRS)) == 5
    assert drawn(list(reversed(PAIRS))) == chosen
    assert ask_people(session, "coder", PAIRS) == 5
    assert ask_people(session, "coder", PAIRS) == 0
    grown = [*PAIRS, *(made(number) for number in range(45, 90))]
    before = {one.subject_id for one in session.exec(select(ReviewItem))}
    ask_people(session, "coder", grown)
    after = {one.subject_id for one in session.exec(select(ReviewItem))}
    assert before < after
    same = Pair("s", [], "one", "one ")
    assert drawn([same]) == []
    assert drawn([same, PAIRS[0]]) == [PAIRS[0]]
    with pytest.raises(BadInput, match="share for people"):
        drawn(PAIRS, 10)


def test_an_item_shows_scrubbed_answers_and_not_whose_they_are(session) -> None:
    mail = made(1, candidate="write to bo.li@example.org", task_type="mail")
    ask_people(session, "coder", [mail], share=1)
    item = next_item(session, "ann", "coder", kind="sample")
    card = card_of(session, item.id, "ann")
    assert (card.kind, card.task_type, card.signals) == ("sample", "mail", {})
    assert card.actions == ("compare", "skip")
    assert {side.answer for side in card.sides} == {"plain 1", "write to <EMAIL_1> 1"}
    assert card.sides[0].prompt == mail.prompt
    assert "candidate" not in json.dumps(card.as_json(), default=str)
    assert "bo.li" not in json.dumps(item.detail)


def test_half_of_the_reviewers_see_the_other_order_and_the_choice_is_the_same(session) -> None:
    ask_people(session, "coder", [PAIRS[0]], share=1)
    item = session.exec(select(ReviewItem)).one()
    names = [f"r{number}" for number in range(60)]
    swapped = [name for name in names if is_swapped(item.id, name)]
    assert 10 < len(swapped) < 50
    straight = next(name for name in names if name not in swapped)
    item.n_wanted = 2
    firsts = [card_of(session, item.id, name).sides[0].answer for name in (swapped[0], straight)]
    assert firsts == [PAIRS[0].baseline, PAIRS[0].candidate]
    for name in (swapped[0], straight):
        choose(session, name, "a long")
    assert people_on(session, PAIRS) == {PAIRS[0].key: "candidate"}


def test_what_people_say_counts_once_settled_and_not_once_undone(session) -> None:
    ask_people(session, "coder", [PAIRS[0]], share=1)
    item = choose(session, "ann", "plain")
    wanted = item.n_wanted
    if wanted == 2:
        assert people_on(session, PAIRS) == {}
        choose(session, "bob", "plain")
    assert people_on(session, PAIRS) == {PAIRS[0].key: "baseline"}
    assert statements_of(session, [item.subject_id]) == {}, "nothing is learned from it"
    assert agreement(session).n_items == wanted - 1
    undo(session, "ann")
    assert people_on(session, PAIRS) == {}


def test_people_who_disagree_are_a_tie(session) -> None:
    ask_people(session, "coder", [PAIRS[0]], share=1)
    item = next_item(session, "ann")
    item.n_wanted = 2
    choose(session, "ann", "plain")
    choose(session, "bob", "a long")
    assert people_on(session, PAIRS) == {PAIRS[0].key: "tie"}


@pytest.fixture
def court(monkeypatch, settings):
    with judging() as server:
        monkeypatch.setenv("FLYWHEEL_UPSTREAMS", server.upstreams)
        get_settings.cache_clear()
        yield server


@pytest.mark.parametrize(("better", "rate"), [("a long", 1), ("plain", 0)])
def test_the_report_says_how_far_the_judge_is_like_people(session, court, better, rate) -> None:
    judge = [Judge("always-longer")]
    report = compare_answers(session, judge, PAIRS, role="coder")
    assert (report.n_drawn, report.n_rated) == (5, 0)
    assert report.results[0].people.same.value is None
    choose_all(session, better)
    n = len(court.seen)
    report = compare_answers(session, judge, PAIRS, role="coder")
    assert len(court.seen) == n, "the judge is not asked again"
    assert report.n_rated == 5
    assert (report.results[0].people.same.value, report.panel.people.same.n) == (rate, 5)
    assert report.as_json()["judges"][0]["people"]["n"] == 5


# Where the pairs come from


def stored(session):
    """Two evaluations of a suite: an answer lost, a task won, one lost, one by a judging grader."""
    suite = Suite(name="s", role="coder", content_hash="h", n_tasks=4)
    session.add(suite)
    session.flush()
    both = [Evaluation(suite_id=suite.id, subject=name) for name in ("base", "new")]
    session.add_all(both)
    session.flush()
    outcomes = [(False, True), (True, False), (None, True), (False, True)]
    for number, passed in enumerate(outcomes):
        task = SuiteTask(
            suite_id=suite.id,
            task_id=f"t{number}",
            prompt=[message("user", f"{number}?")],
            grader="rubric" if number == 3 else "calls",
            reference={"x": 1},
            attributes={"task_type": "fix"},
        )
        session.add(task)
        session.flush()
        for evaluation, one in zip(both, passed, strict=True):
            session.add(
                Sample(
                    evaluation_id=evaluation.id,
                    suite_task_id=task.id,
                    answer=f"{evaluation.subject} {number}",
                    passed=one,
                    status="PASS",
                )
            )
    session.flush()
    return both


def test_pairs_are_answers_side_by_side_with_what_execution_says(session) -> None:
    baseline, candidate = stored(session)
    found = pairs_of(session, baseline, candidate)
    assert [(one.task_id, one.truth) for one in found] == [
        ("t0", "candidate"),
        ("t1", "baseline"),
        ("t3", None),
    ], "lost answers are left out, and a judge's word is no truth"
    assert (found[0].baseline, found[0].candidate) == ("base 0", "new 0")
    assert found[0].asked == "user: 0?"
    assert found[0].task_type == "fix"
    assert pairs_of(session, baseline, candidate, number=1) == []
    other = Evaluation(suite_id=stored_elsewhere(session), subject="x")
    with pytest.raises(BadInput, match="one and the same"):
        pairs_of(session, baseline, other)


def test_stored_evaluations_before_the_judges_of_the_settings(session, court, monkeypatch) -> None:
    baseline, candidate = stored(session)
    assert judge_evaluations(session, baseline, candidate) is None, "no judge is set"
    monkeypatch.setenv("FLYWHEEL_JUDGE_MODELS", '["always-first=Qwen/Qwen2.5-7B"]')
    get_settings.cache_clear()
    report = judge_evaluations(session, baseline, candidate, role="coder")
    assert (report.n_pairs, report.n_drawn) == (3, 1)
    assert report.results[0].calibration.n == 2
    assert len(report.notes) == 1, "the base of the candidate is not known"
    version = ModelVersion(role="coder", number=1, name="v1", kind="adapter", base_model="qwen3-4b")
    session.add(version)
    session.flush()
    candidate.model_version_id = version.id
    other = [(baseline, candidate)]
    report = judge_evaluations(session, baseline, candidate, calibration=other)
    assert report.results[0].calibration.n == 2, "what is compared already counts once"
    assert any("own base or family" in why for why in report.why)
    assert report.notes == ()
    baseline.subject = "mistral-7b-instruct"
    assert base_of(session, baseline) == "mistral-7b-instruct"


def stored_elsewhere(session):
    suite = Suite(name="other", role="coder", content_hash="h", n_tasks=0)
    session.add(suite)
    session.flush()
    return suite.id


def test_equal_outcomes_say_nothing_of_who_is_better() -> None:
    assert truth_of(True, True) is truth_of(False, False) is truth_of(None, True) is None
    assert (truth_of(True, False), truth_of(False, True)) == ("baseline", "candidate")
