import numpy as np
import pytest
from sqlmodel import select

from evaluator.answers import Answer, Subject
from evaluator.compare import compare, outcomes_of
from evaluator.decide import DEPLOY, STAY, DeployThresholds
from evaluator.graders import GRADERS
from evaluator.report import as_markdown, verdict_report
from evaluator.run import evaluate, evaluate_many, grade, measure
from evaluator.sandbox import Sandbox
from evaluator.speed import ratio_of
from evaluator.suites import Task, add_suite, tasks_of
from evaluator.tables import Evaluation, Sample
from foundation.decisions import replay
from foundation.errors import BadInput, Conflict, FlywheelError, NotFound
from foundation.tables import Decision

GOOD = "```python\ndef f(x):\n    return x + {n}\n```"
BAD = "```python\ndef f(x):\n    return x\n```"


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(workers=2) as shared:
        yield shared


def adding(n):
    """Task n asks for a function that adds n."""
    return Task(
        f"add-{n}",
        [{"role": "user", "content": f"add {n}"}],
        "calls",
        {
            "entry_point": "f",
            "inputs": [[1], [5]],
            "expected": [1 + n, 5 + n],
            "code": f"def f(x):\n    return x + {n}",
        },
        {"family": f"family-{n % 4}"},
    )


class Scripted:
    """A model that knows the first `skill` tasks, and remembers how it was asked."""

    def __init__(self, name, skill, tokens=None, lost=(), silent=()):
        self.name, self.skill, self.tokens = name, skill, tokens
        self.lost, self.silent = set(lost), set(silent)
        self.calls = []

    def __call__(self, prompts, seeds):
        numbers = [int(prompt[-1]["content"].split()[1]) for prompt in prompts]
        self.calls.append((numbers, seeds))
        return [self._answer(n) for n in numbers]

    def _answer(self, n):
        if n in self.lost:
            return Answer(None, detail="ConnectError: gone")
        text = "" if n in self.silent else GOOD.format(n=n) if n <= self.skill else BAD
        return Answer(text, self.tokens, 0.1)

    def subject(self):
        return Subject(self.name, self, settings={"temperature": 0})


@pytest.fixture
def suite(session):
    return add_suite(session, "adding", "coder", [adding(n) for n in range(1, 21)])


def test_subjects_get_the_same_batches_and_seeds_in_turn(session, suite, sandbox):
    order = []
    models = [Scripted("a", 5), Scripted("b", 15)]
    for model in models:
        real = model.__call__
        model.subject = lambda m=model, r=real: Subject(
            m.name, lambda p, s: (order.append(m.name), r(p, s))[1]
        )
    evaluate_many(session, suite, [m.subject() for m in models], 2, sandbox, seed=7, batch_size=16)
    assert models[0].calls == models[1].calls
    assert [len(numbers) for numbers, _ in models[0].calls] == [16, 16, 8]
    seeds = [seed for _, some in models[0].calls for seed in some]
    assert seeds[0] + 1 == seeds[1]
    assert len(set(seeds)) == 40
    assert order == ["a", "b", "b", "a", "a", "b"]


def test_what_is_stored(session, suite, sandbox):
    told = []
    evaluation = evaluate(
        session,
        suite,
        Scripted("model", 12, tokens=10, lost=[20]).subject(),
        3,
        sandbox,
        seed=1,
        progress=lambda done, total, unit, **more: told.append((done, total, unit, more)),
    )
    session.commit()
    assert (evaluation.n_samples, evaluation.n_lost) == (60, 3)
    assert evaluation.success_rate == pytest.approx(12 / 19)
    assert evaluation.ci_low < 12 / 19 < evaluation.ci_high
    assert evaluation.tokens_per_s > 0
    assert evaluation.settings["temperature"] == 0
    assert evaluation.settings["seed"] == 1
    assert evaluation.settings["suite_hash"] == suite.content_hash
    assert evaluation.sandbox["tier"] == sandbox.tier
    samples = session.exec(select(Sample).where(Sample.evaluation_id == evaluation.id)).all()
    assert len(samples) == 60
    lost = [s for s in samples if s.passed is None]
    assert {(s.status, s.detail) for s in lost} == {("LOST", "ConnectError: gone")}
    assert {s.status for s in samples if s.passed} == {"PASS"}
    assert sorted({s.number for s in samples}) == [0, 1, 2]
    outcomes = outcomes_of(session, evaluation)
    assert outcomes["add-1"] == [True] * 3
    assert outcomes["add-20"] == [None] * 3
    assert told[-1][:3] == (60, 60, "answers graded")
    assert told[-1][3]["success"]["model"][0] == pytest.approx(12 / 19)
    assert (told[-1][3]["lost"], told[-1][3]["answered"]) == (3, 60)


def test_saying_nothing_is_a_failure_not_a_lost_answer(session, suite, sandbox):
    evaluation = evaluate(
        session, suite, Scripted("mute", 20, silent=range(1, 11)).subject(), 1, sandbox
    )
    assert evaluation.n_lost == 0
    assert evaluation.success_rate == 0.5


def test_equal_answers_are_executed_once(session, suite, sandbox, monkeypatch):
    tasks = tasks_of(session, suite)
    executed = []
    real = sandbox.run
    monkeypatch.setattr(sandbox, "run", lambda *a, **k: (executed.append(a), real(*a, **k))[1])
    models = [Scripted("a", 20).subject(), Scripted("b", 20).subject()]
    measured = measure(tasks, models, 5, sandbox)
    assert len([call for (call,) in executed if call.code]) == 20
    assert all(graded.passed for result in measured for graded in result.grades)


def test_text_that_the_database_cannot_keep_is_stored_readably(session, suite, sandbox):
    nasty = "```python\ndef f(x):\n    return 'a\0b\ud800'\n```"
    subject = Subject("nasty", lambda prompts, seeds: [Answer(nasty)] * len(prompts))
    evaluation = evaluate(session, suite, subject, 1, sandbox)
    session.commit()
    sample = session.exec(select(Sample).where(Sample.evaluation_id == evaluation.id)).first()
    assert sample is not None
    assert sample.passed is False
    assert "\0" not in sample.answer
    assert "def f(x)" in sample.answer


def test_bad_orders_are_refused_before_anything_is_asked(session, suite, sandbox):
    model = Scripted("a", 1)
    for subjects, samples in (([], 1), ([model.subject()] * 2, 1), ([model.subject()], 0)):
        with pytest.raises(BadInput):
            evaluate_many(session, suite, subjects, samples, sandbox)
    assert model.calls == []


def test_a_model_that_dies_leaves_nothing_half_written(session, suite, sandbox):
    class Dead(FlywheelError):
        pass

    def die(prompts, seeds):
        raise Dead("gone")

    subjects = [Scripted("a", 5).subject(), Subject("dead", die)]
    with pytest.raises(Dead):
        evaluate_many(session, suite, subjects, 1, sandbox)
    session.commit()
    assert session.exec(select(Evaluation)).all() == []


def test_a_task_with_an_unknown_grader_is_named(session, sandbox, monkeypatch):
    """A suite may be older than this version of the code, which has lost a grader."""
    odd = Task("odd", [{"role": "user", "content": "add 1"}], "astrology", {"sign": "leo"})
    with monkeypatch.context() as older:
        older.setitem(GRADERS, "astrology", "evaluator.graders.astrology")
        suite = add_suite(session, "odd", "coder", [odd])
    with pytest.raises(NotFound, match="astrology"):
        evaluate(session, suite, Scripted("a", 1).subject(), 1, sandbox)


class TestVerdict:
    def evaluations(self, session, suite, sandbox, baseline, candidate):
        subjects = [baseline.subject(), candidate.subject()]
        return evaluate_many(session, suite, subjects, 2, sandbox)

    def test_a_better_candidate_deploys_and_the_decision_replays(self, session, suite, sandbox):
        first, second = self.evaluations(
            session, suite, sandbox, Scripted("old", 4, 10), Scripted("new", 16, 10)
        )
        verdict = compare(session, first, second)
        session.commit()
        assert verdict.outcome == DEPLOY
        assert verdict.improvement_points == 60
        assert 0 < verdict.ci_low < 60 < verdict.ci_high
        rates = [e.settings["batch_tokens_per_s"] for e in (first, second)]
        assert verdict.speed_ratio == pytest.approx(ratio_of(*rates).estimate)
        decision = session.get_one(Decision, verdict.decision_id)
        assert decision.subject_id == verdict.id
        assert decision.inputs["evidence"]["suite"] == "adding@1"
        assert replay(session, decision.id).agrees

    def test_equal_models_stay(self, session, suite, sandbox):
        pair = self.evaluations(session, suite, sandbox, Scripted("a", 9), Scripted("b", 9))
        verdict = compare(session, *pair, thresholds=DeployThresholds(reading="point"))
        assert (verdict.outcome, verdict.improvement_points) == (STAY, 0)
        assert verdict.speed_ratio is None

    def test_clustering_by_a_task_attribute(self, session, suite, sandbox):
        pair = self.evaluations(session, suite, sandbox, Scripted("a", 9), Scripted("b", 14))
        verdict = compare(session, *pair, family="family")
        decision = session.get_one(Decision, verdict.decision_id)
        assert decision.inputs["evidence"]["n_clusters"] == 4

    def test_an_evaluation_is_not_compared_with_itself(self, session, suite, sandbox):
        first = evaluate(session, suite, Scripted("a", 5).subject(), 1, sandbox)
        with pytest.raises(Conflict, match="two evaluations"):
            compare(session, first, first)

    def test_different_versions_of_a_suite_are_not_compared(self, session, suite, sandbox):
        first = evaluate(session, suite, Scripted("a", 5).subject(), 1, sandbox)
        newer = add_suite(session, "adding", "coder", [adding(n) for n in range(1, 10)])
        second = evaluate(session, newer, Scripted("b", 5).subject(), 1, sandbox)
        with pytest.raises(Conflict, match="same version of one suite"):
            compare(session, first, second)

    def test_the_report_states_what_a_reader_needs(self, session, suite, sandbox):
        pair = self.evaluations(
            session, suite, sandbox, Scripted("old", 4, lost=[3]), Scripted("new", 16)
        )
        report = verdict_report(session, compare(session, *pair))
        page = as_markdown(report)
        for expected in (
            "# new against old: **deploy**",
            "adding@1",
            "paired 95 % interval",
            "| lost answers | 2 | 0 |",
            f"| sandbox tier | {sandbox.tier} | {sandbox.tier} |",
            "interval says deploy, point says deploy",
            "temperature 0",
        ):
            assert expected in page


def test_grading_nothing_is_nothing(sandbox):
    grade([], sandbox)
    assert np.isclose(measure([], [Scripted("a", 1).subject()], 1, sandbox)[0].seconds, 0)
