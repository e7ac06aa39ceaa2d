"""Whoever learned from a suite's tasks is not examined on them, whatever the suite is called."""

from dataclasses import replace

import pytest

from evaluator.compare import shared_suite
from evaluator.learned import learned_suites
from evaluator.suites import Task, add_suite
from evaluator.tables import Evaluation
from evaluator.tasks import start_evaluation
from foundation.errors import Conflict
from foundation.runs import enqueue
from trainer.recipe import PRESETS
from trainer.tables import ModelVersion, TrainingRun
from trainer.tasks import TRAIN_JOB

TASKS = [
    Task(f"t{i}", [{"role": "user", "content": f"What is {i} + 1?"}], "exact", {"answer": str(i)})
    for i in range(6)
]
OTHERS = [
    Task(f"o{i}", [{"role": "user", "content": f"What is {i} - 1?"}], "exact", {"answer": str(i)})
    for i in range(6)
]


@pytest.fixture
def suites(session):
    add_suite(session, "practice", "coder", TASKS[:3])
    add_suite(session, "practice", "coder", TASKS[:4])
    add_suite(session, "copied", "coder", [*OTHERS[:2], *TASKS[2:4]])
    add_suite(session, "exam", "coder", OTHERS)
    session.flush()


def version(session, number, *, suite=None, teacher=None, **fields) -> ModelVersion:
    """A version, with a training where that tells anything."""
    training = None
    begun_from = fields.pop("begun_from", None)
    if suite or teacher or begun_from:
        run = enqueue(session, TRAIN_JOB, {"number": number}, role="coder")
        session.flush()
        training = TrainingRun(
            run_id=run.id,
            role="coder",
            suite=suite,
            base_model="/base",
            method="grpo" if suite else "sft-lora",
            from_version_id=begun_from.id if begun_from else None,
            recipe={"distillation": {"teacher": teacher}},
        )
        session.add(training)
        session.flush()
    made = ModelVersion(
        role="coder",
        number=number,
        name=f"coder-v{number}",
        kind="adapter",
        base_model="/base",
        training_run_id=training.id if training else None,
        **fields,
    )
    session.add(made)
    session.flush()
    return made


def test_a_version_is_not_examined_on_what_it_learned(session, suites):
    version(session, 1, suite="practice")
    for exam in ("practice", "practice@1", "copied"):
        with pytest.raises(Conflict, match="coder-v1, which learned from practice"):
            start_evaluation(session, exam, ["coder-v1"])
    assert start_evaluation(session, "exam", ["coder-v1", "somebody else"]).kind


def test_the_message_counts_the_tasks(session, suites):
    version(session, 1, suite="practice@2")
    with pytest.raises(Conflict, match="2 of its 4 tasks"):
        start_evaluation(session, "copied", ["coder-v1"])
    add_suite(session, "practice", "coder", OTHERS)
    with pytest.raises(Conflict, match="0 of its 6 tasks"):  # by its name alone
        start_evaluation(session, "practice@3", ["coder-v1"])


def test_tasks_of_another_version_do_not_count(session, suites):
    """`copied` holds two tasks of practice@2, one of practice@1."""
    version(session, 1, suite="practice@1")
    with pytest.raises(Conflict, match="1 of its 4 tasks"):
        start_evaluation(session, "copied", ["coder-v1"])


@pytest.mark.parametrize("how", ["begun_from", "parent", "merged", "taught"])
def test_what_came_of_it_has_learned_too(how, session, suites):
    learner = version(session, 1, suite="practice")
    middle = version(session, 2, begun_from=learner)
    if how == "begun_from":
        version(session, 3, begun_from=middle)
    elif how == "parent":
        version(session, 3, parent_id=middle.id)
    elif how == "merged":
        version(session, 3, made_by={"how": "combined", "of": ["coder-v2"]})
    else:
        version(session, 3, teacher="coder-v2")
    with pytest.raises(Conflict, match="by way of coder-v1"):
        start_evaluation(session, "copied", ["coder-v3"])
    assert start_evaluation(session, "exam", ["coder-v3"]).kind


def test_no_verdict_rests_on_it(session, suites):
    learner, other = version(session, 1, suite="practice"), version(session, 2)
    copied = add_suite(session, "copied", "coder", [*OTHERS[:2], *TASKS[2:4]])
    evaluations = [
        Evaluation(suite_id=copied.id, model_version_id=one.id, subject=one.name)
        for one in (other, learner)
    ]
    session.add_all(evaluations)
    session.flush()
    with pytest.raises(Conflict, match="coder-v1, which learned from practice"):
        shared_suite(session, *evaluations)


def test_whoever_learned_from_no_suite_is_free(session, suites):
    assert learned_suites(session, version(session, 1)) == []
    assert start_evaluation(session, "practice", ["coder-v1"]).kind


@pytest.mark.slow
def test_from_an_ordered_training_to_the_refused_evaluation(session, database, tmp_path):
    """A real training on a stored suite, its rewards by the graders, and then its exam."""
    from tiny_base import build_tiny_base

    import evaluator.rewards  # noqa: F401  signs up
    from foundation import runs
    from foundation.tables import DONE
    from trainer.recipe.reinforcement import AS_GRADED, Reinforcement
    from trainer.tasks import start_training

    base = build_tiny_base(tmp_path / "tiny")
    add_suite(session, "practice", "coder", TASKS * 1)
    recipe = replace(
        PRESETS["demo"],
        method="grpo",
        max_steps=2,
        batch_size=8,
        threads=1,
        reinforcement=Reinforcement(n_answers=4, max_new_tokens=4, cut_answers=AS_GRADED),
    )
    training = start_training(session, "coder", None, str(base), recipe, suite="practice@1")
    session.commit()
    done = runs.execute(training.run_id)
    assert done.status == DONE, done.error
    session.expire_all()
    assert training.manifest["suite"] == "practice@1"
    assert [line["reward"] for line in training.history if "reward" in line] == [0.0, 0.0]
    with pytest.raises(Conflict, match="6 of its 6 tasks"):
        start_evaluation(session, "practice", [done.result["name"]])
