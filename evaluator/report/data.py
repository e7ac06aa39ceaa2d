"""What the reports say, as plain JSON: the other files only write it down.

`verdict_report` is of a candidate against a baseline, `evaluations_report` of models by themselves.
"""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from sqlmodel import Session, col, select

from evaluator import roi
from evaluator.compare import attributes_of
from evaluator.decide import INTERVAL, POINT, deploy_rule
from evaluator.report.answers import SHOWN_TASKS, differing, failing, order_of_difference
from evaluator.report.sides import (
    by_task_of,
    kinds_of,
    model_of,
    outcomes_in,
    rates_of,
    side_of,
)
from evaluator.report.words import doubts_of_one, doubts_of_two, headline_of
from evaluator.tables import Evaluation, Suite, Verdict
from foundation.database import explain_row
from foundation.errors import NotFound
from foundation.tables import Decision

VERDICT: Final = "verdict"
EVALUATIONS: Final = "evaluations"
"""Kinds of a report."""

SECTIONS: Final = (
    "slices",
    "noise_floor",
    "forgetting",
    "identity",
    "likelihood",
    "judge",
    "cost",
    "ungraded",
)
"""What a comparison may have stored; None where nobody looked."""

Json = dict[str, Any]


def get_verdict(session: Session, verdict_id: UUID) -> Verdict:
    """Return a verdict by id; raises NotFound."""
    verdict = session.get(Verdict, verdict_id)
    if verdict is None:
        raise NotFound(
            "verdict", str(verdict_id), "the id of a stored verdict", "List them: GET /v1/verdicts"
        )
    return verdict


def verdict_row(verdict: Verdict) -> Json:
    """Return a verdict without its report."""
    return {name: value for name, value in explain_row(verdict).items() if name != "report"}


def verdict_report(session: Session, verdict: Verdict) -> Json:
    """Return the whole report of a verdict.

    Returns:
        All of `verdict_summary`; what the answers say of each side (`sides`); the tasks that
        `differ`, the first of them with answers side by side (`differing`).
    """
    summary = verdict_summary(session, verdict)
    baseline = session.get_one(Evaluation, verdict.baseline_evaluation_id)
    candidate = session.get_one(Evaluation, verdict.candidate_evaluation_id)
    old, new = (outcomes_in(session, one) for one in (baseline, candidate))
    before, after = (rates_of(by_task_of(outcomes)) for outcomes in (old, new))
    differ = order_of_difference(before, after)
    return {
        **summary,
        "sides": {
            "baseline": side_of(session, baseline, old),
            "candidate": side_of(session, candidate, new),
        },
        "differ": [
            {"task_id": task, "baseline_rate": before[task], "candidate_rate": after[task]}
            for task in differ
        ],
        "differing": differing(
            session, (baseline, before), (candidate, after), differ[:SHOWN_TASKS]
        ),
    }


def verdict_summary(session: Session, verdict: Verdict) -> Json:
    """Return what the rows of a verdict say; no answer is read, however many there are.

    Returns:
        `headline` (the decision in words, what to do next), `doubts`, `verdict`, `suite`,
        `baseline`, `candidate` and their models (`sides`), `comparison`, `thresholds`, `readings`,
        `reasons`, `roi`, the `SECTIONS` that the comparison stored, and those that only it knows
        (`others`).
    """
    suite = session.get_one(Suite, verdict.suite_id)
    decision = session.get(Decision, verdict.decision_id) if verdict.decision_id else None
    baseline = session.get_one(Evaluation, verdict.baseline_evaluation_id)
    candidate = session.get_one(Evaluation, verdict.candidate_evaluation_id)
    evidence = (decision.inputs.get("evidence") or {}) if decision else {}
    report: Json = {
        "kind": VERDICT,
        **dict.fromkeys(SECTIONS),
        **verdict.report,
        "verdict": verdict_row(verdict),
        "suite": explain_row(suite),
        "baseline": explain_row(baseline),
        "candidate": explain_row(candidate),
        "sides": {
            "baseline": {"model": model_of(session, baseline)},
            "candidate": {"model": model_of(session, candidate)},
        },
        "comparison": {**evidence, **verdict.report.get("comparison", {})},
        "thresholds": decision.rule if decision else {},
        "readings": readings_of(decision) if decision else {},
        "reasons": decision.reasons if decision else [],
        "others": _others(verdict),
        "roi": _roi(session, verdict),
    }
    return {**report, "headline": headline_of(report), "doubts": doubts_of_two(report)}


def _others(verdict: Verdict) -> Json:
    """Return the sections that this file does not know."""
    known = (*SECTIONS, "comparison")
    return {name: found for name, found in verdict.report.items() if name not in known and found}


def readings_of(decision: Decision) -> dict[str, str]:
    """Return what the deploy rule says by each reading of it; empty if it is of another version."""
    try:
        return {
            reading: deploy_rule(decision.inputs, {**decision.rule, "reading": reading}).outcome
            for reading in (INTERVAL, POINT)
        }
    except TypeError:  # its inputs have fields that the rule of today does not know
        return {}


def _roi(session: Session, verdict: Verdict) -> Json | None:
    """Return the newest word on what the candidate costs and brings, if anybody asked."""
    found = session.exec(
        select(Decision)
        .where(Decision.kind == roi.RULE, Decision.subject_id == verdict.id)
        .order_by(col(Decision.id).desc())
    ).first()
    return explain_row(found) if found else None


def evaluations_report(session: Session, evaluations: Sequence[Evaluation]) -> Json:
    """Return the report of evaluations, each by itself.

    Returns:
        `evaluations`: of each `evaluation`, `suite`, `side` (what its answers say), `doubts`,
        success by kind of task (`kinds`), `n_failing` tasks that were not always solved and the
        worst of them with an answer (`failing`).
    """
    return {"kind": EVALUATIONS, "evaluations": [_evaluation(session, one) for one in evaluations]}


def _evaluation(session: Session, evaluation: Evaluation) -> Json:
    suite = session.get_one(Suite, evaluation.suite_id)
    outcomes = outcomes_in(session, evaluation)
    by_task = by_task_of(outcomes)
    rates = rates_of(by_task)
    row = explain_row(evaluation)
    return {
        "evaluation": row,
        "suite": explain_row(suite),
        "side": side_of(session, evaluation, outcomes),
        "doubts": doubts_of_one(row),
        "kinds": kinds_of(by_task, attributes_of(session, suite)),
        "n_failing": sum(rate < 1 for rate in rates.values()),
        "failing": failing(session, evaluation, rates),
    }
