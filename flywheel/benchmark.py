"""Compare a candidate with a baseline: models of the engine, or recorded answers of a file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlmodel import Session

from evaluator.compare import compare
from evaluator.recorded import evaluate_recorded
from evaluator.suites import load_suite
from evaluator.tables import Evaluation, Verdict
from evaluator.tasks import EVALUATE_JOB, EvaluationPlan, evaluation_params
from foundation.database import explain_row, session_scope
from foundation.decisions import get_decision
from foundation.errors import NotFound
from foundation.runs import run_here
from router.promote import serving_version
from trainer.registry import get_version

Update = Callable[[float, float | None, str], None]


def compare_recorded(
    suite: str, answers: Path, candidate: str, baseline: str, update: Update
) -> dict[str, Any]:
    """Grade two recorded runs by execution and compare them on the tasks that both answered.

    Raises:
        NotFound: no such suite, file or run.
        BadInput: a malformed line, or no task that both answered.
    """
    with session_scope() as session:
        benchmark = load_suite(session, suite)
        runs = evaluate_recorded(session, benchmark, answers, [baseline, candidate], None, update)
        verdict = compare(session, runs[0].evaluation, runs[1].evaluation)
        report = _report(session, verdict, [run.evaluation for run in runs])
    for shown, run in zip(report["evaluations"], runs, strict=True):
        shown["agreement"] = run.agreement
        shown["n_outside"] = run.n_outside
        shown["disagreements"] = [vars(found) for found in run.disagreements]
    return report


def compare_models(
    suite: str, candidate: str, baseline: str | None, samples: int, seed: int, update: Update
) -> dict[str, Any]:
    """Let two model versions answer a suite side by side and compare them.

    Raises:
        NotFound: no such suite or version, or nobody serves the role and no baseline is named.
        ModelServerUnavailable: the engine does not answer.
    """
    with session_scope() as session:
        benchmark = load_suite(session, suite)
        get_version(session, candidate)
        against = baseline or _who_serves(session, benchmark.role)
        get_version(session, against)
    params = evaluation_params(
        suite, [against, candidate], EvaluationPlan(samples_per_task=samples, seed=seed)
    )
    update(0, None, "answers")
    done = run_here(EVALUATE_JOB, params, role=benchmark.role)
    return verdict_on(done.result or {}, against, candidate)


def verdict_on(result: dict[str, Any], baseline: str, candidate: str) -> dict[str, Any]:
    """Compare two subjects of a finished evaluation run; store and return verdict and reasons."""
    ids = {found["subject"]: UUID(found["id"]) for found in result["evaluations"]}
    with session_scope() as session:
        pair = [_evaluation(session, ids[name]) for name in (baseline, candidate)]
        return _report(session, compare(session, *pair), pair)


def _evaluation(session: Session, identifier: UUID) -> Evaluation:
    found = session.get(Evaluation, identifier)
    if found is None:
        raise NotFound("evaluation", str(identifier), "a stored evaluation", "Evaluate again.")
    return found


def _who_serves(session: Session, role: str) -> str:
    serving = serving_version(session, role)
    if serving is None:
        raise NotFound(
            "baseline",
            role,
            "a version that serves this role",
            "Name one with --baseline, or let one serve: flywheel promote VERSION --reason …",
        )
    return serving.name


def _report(session: Session, verdict: Verdict, evaluations: list[Evaluation]) -> dict[str, Any]:
    reasons = get_decision(session, verdict.decision_id).reasons if verdict.decision_id else []
    return {
        "verdict": explain_row(verdict),
        "reasons": reasons,
        "evaluations": [explain_row(found) for found in evaluations],
    }
