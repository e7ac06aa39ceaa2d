"""A training that destroys what a model knew is caught before anybody is served by it.

A KTO at a thousand times a sane rate ends without complaint: its loss falls, its files are whole.
What stops it is the benchmark: no verdict deploys it, no swap takes it, no experiment starts.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fitting import train
from sqlmodel import Session, select
from tiny_base import QUICK, make_rows

import flywheel.worker  # noqa: F401  registers every room's jobs and rules
from evaluator.answers import Answer, Generate, Subject
from evaluator.compare import compare
from evaluator.decide import STAY
from evaluator.run import evaluate_many
from evaluator.sandbox import Sandbox
from evaluator.suites import Task, add_suite
from evaluator.tables import Verdict
from flywheel import scheduling_tasks
from flywheel.scheduling_tasks import HELD, SWAPPED
from foundation import artifacts
from foundation.runs import RunHandle
from foundation.tables import Run
from router import promote
from router.tables import Experiment
from trainer.lesson import Trained
from trainer.registry import ensure_base_version, version_folder
from trainer.schedule import EXPERIMENT, GUARDED, Orders
from trainer.tables import ModelVersion

KNOWN = "the sum"
SANE, DESTRUCTIVE = 1e-4, 1e-1
TASKS = make_rows(64)
PAIRS = [
    {
        "pair_id": row["example_id"],
        "prompt": row["prompt"],
        "chosen": [{"role": "assistant", "content": KNOWN}],
        "rejected": [{"role": "assistant", "content": "77 zebra"}],
    }
    for row in TASKS[:16]
]
PLAIN = replace(QUICK, dropout=0.0, early_stopping_patience=0, eval_steps=1000)


@pytest.fixture(scope="module")
def taught(tiny_base, tmp_path_factory) -> Path:
    """A base that answers as it should."""
    recipe = replace(PLAIN, method="sft-full", lr=1e-2, epochs=30, max_steps=40)
    rows = make_rows(32, KNOWN)
    return train(tiny_base, tmp_path_factory.mktemp("taught"), recipe, rows, []).folder


def trained_on(base: Path, folder: Path, lr: float) -> Trained:
    recipe = replace(PLAIN, method="kto", lr=lr, max_steps=6, scheduler="constant")
    return train(base, folder, recipe, PAIRS, [])


def candidate_of(session: Session, base: Path, trained: Trained) -> ModelVersion:
    stored = artifacts.put(trained.folder)
    version = ModelVersion(
        role="coder",
        number=1,
        name="coder-v1",
        kind="adapter",
        base_model=str(base),
        artifact_uri=stored.uri,
        content_hash=stored.content_hash,
    )
    session.add(version)
    session.flush()
    return version


def judged(session: Session, serving: ModelVersion, candidate: ModelVersion) -> Verdict:
    """The verdict on the candidate beside its base, by greedy answers to the same 64 tasks."""
    from serving.engine import Engine

    adapters = {candidate.name: version_folder(candidate)}
    engine = Engine.load(serving.base_model, threads=1, adapters=adapters)

    def answers_of(adapter: str | None) -> Generate:
        def generate(prompts: list[Any], seeds: list[int]) -> list[Answer]:
            made = engine.generate(prompts, adapter=adapter, max_new_tokens=8, temperature=0.0)
            return [Answer(one.text) for one in made]

        return generate

    tasks = [Task(r["example_id"], r["prompt"], "exact", {"answer": KNOWN}) for r in TASKS]
    suite = add_suite(session, "known", "coder", tasks)
    subjects = [
        Subject(serving.name, answers_of(None), serving.id),
        Subject(candidate.name, answers_of(candidate.name), candidate.id),
    ]
    with Sandbox(workers=1) as sandbox:
        evaluations = evaluate_many(session, suite, subjects, 1, sandbox)
    assert evaluations[0].success_rate == 1, "who serves answers as it should"
    return compare(session, *evaluations)


def acted(session: Session, verdict: Verdict, promoted: str) -> tuple[str, list[str]]:
    """What a schedule does with the candidate."""
    run = Run(kind="flywheel.scheduled_turn", role="coder")
    session.add(run)
    session.commit()
    orders = Orders({"preset": "demo"}, suite="known", promote=promoted)
    turn = scheduling_tasks._Turn(RunHandle(run, "test"), "coder", "time", orders, {})
    serving = promote.serving_version(session, "coder")
    return scheduling_tasks._act(turn, serving, "coder-v1", verdict.id)


@pytest.mark.parametrize("lr", [SANE, DESTRUCTIVE], ids=["sane", "destructive"])
def test_kto_at_a_destructive_rate_never_serves(session, taught, tmp_path, monkeypatch, lr):
    monkeypatch.setattr(scheduling_tasks, "prepare", lambda session, version: None)
    trained = trained_on(taught, tmp_path / "kto", lr)
    losses = [line["loss"] for line in trained.history if "loss" in line]
    assert losses[-1] < losses[0], "the training itself tells nothing"
    serving = ensure_base_version(session, "coder", str(taught))
    promote.initial(session, "coder", serving, reason="first", actor="test")
    verdict = judged(session, serving, candidate_of(session, taught, trained))
    session.commit()
    assert verdict.outcome == STAY, "neither gains anything"
    assert acted(session, verdict, EXPERIMENT)[0] == HELD
    outcome, reasons = acted(session, verdict, GUARDED)
    session.expire_all()
    serves_now = promote.serving_version(session, "coder").name
    if lr == SANE:
        assert (outcome, serves_now) == (SWAPPED, "coder-v1"), reasons
    else:
        assert verdict.improvement_points == -100
        assert (outcome, serves_now) == (HELD, "coder-base"), reasons
    assert session.exec(select(Experiment)).all() == []
