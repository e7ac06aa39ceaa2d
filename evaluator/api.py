"""Routes of the evaluator: suites, evaluations and verdicts; start the one, compare two."""

from typing import Any
from uuid import UUID

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse, PlainTextResponse
from sqlmodel import col, select

from evaluator.addresses import require_known
from evaluator.compare import compare
from evaluator.decide import DeployThresholds
from evaluator.judge import judge_stored
from evaluator.report import (
    as_html,
    as_markdown,
    evaluations_report,
    get_verdict,
    verdict_report,
    verdict_row,
)
from evaluator.run import get_evaluation
from evaluator.schemas import EvaluationOrder, VerdictOrder
from evaluator.suites import list_suites, load_suite, tasks_of
from evaluator.tables import Evaluation, Sample, SuiteTask, Verdict
from evaluator.tasks import EvaluationPlan, start_evaluation
from foundation.database import explain_row, session_scope
from foundation.lone_page import CONTENT_POLICY

routes = APIRouter(prefix="/v1", tags=["evaluator"])


@routes.get("/suites")
def read_suites() -> list[dict[str, Any]]:
    """Return all suites, by name and version."""
    with session_scope() as session:
        return [explain_row(suite) for suite in list_suites(session)]


@routes.get("/suites/{ref}")
def read_suite(ref: str) -> dict[str, Any]:
    """Return a suite by `name` or `name@version`, with its tasks."""
    with session_scope() as session:
        suite = load_suite(session, ref)
        tasks = [explain_row(task) for task in tasks_of(session, suite)]
        return {**explain_row(suite), "tasks": tasks}


@routes.get("/evaluations")
def read_evaluations(
    subject: str | None = None, limit: int = Query(default=100, ge=1, le=1000)
) -> list[dict[str, Any]]:
    """Return evaluations, newest first, of one subject or of all."""
    query = select(Evaluation).order_by(col(Evaluation.id).desc()).limit(limit)
    if subject is not None:
        query = query.where(Evaluation.subject == subject)
    with session_scope() as session:
        return [explain_row(evaluation) for evaluation in session.exec(query)]


@routes.get("/evaluations/{evaluation_id}")
def read_evaluation(evaluation_id: UUID) -> dict[str, Any]:
    """Return one evaluation."""
    with session_scope() as session:
        return explain_row(get_evaluation(session, evaluation_id))


@routes.get("/evaluations/{evaluation_id}/report.html", response_class=HTMLResponse)
def read_evaluation_page(evaluation_id: UUID) -> HTMLResponse:
    """Return the report of an evaluation as a page of its own."""
    with session_scope() as session:
        page = as_html(evaluations_report(session, [get_evaluation(session, evaluation_id)]))
    return HTMLResponse(page, headers={"content-security-policy": CONTENT_POLICY})


@routes.get("/evaluations/{evaluation_id}/samples")
def read_samples(
    evaluation_id: UUID,
    after: UUID | None = None,
    status: str | None = None,
    limit: int = Query(default=100, ge=1, le=1000),
) -> dict[str, Any]:
    """Return answers with their grades in the order they were stored, and where to go on.

    `next` is what the following page is asked for with, as `after`; null on the last page.
    """
    query = (
        select(Sample, SuiteTask.task_id)
        .join(SuiteTask, col(SuiteTask.id) == Sample.suite_task_id)
        .where(Sample.evaluation_id == evaluation_id)
        .order_by(col(Sample.id))
        .limit(limit + 1)
    )
    if after is not None:
        query = query.where(Sample.id > after)
    if status is not None:
        query = query.where(Sample.status == status)
    with session_scope() as session:
        get_evaluation(session, evaluation_id)
        found = session.exec(query).all()
    rows = [{**explain_row(sample), "task_id": task_id} for sample, task_id in found[:limit]]
    return {"samples": rows, "next": rows[-1]["id"] if len(found) > limit else None}


@routes.post("/evaluations", status_code=202)
def order_evaluation(order: EvaluationOrder) -> dict[str, Any]:
    """Queue an evaluation and return its run."""
    require_known(order.base_url)
    plan = EvaluationPlan(**order.model_dump(exclude={"suite", "subjects"}, exclude_none=True))
    with session_scope() as session:
        run = start_evaluation(session, order.suite, order.subjects, plan)
    return explain_row(run)


@routes.get("/verdicts")
def read_verdicts(
    role: str | None = None, limit: int = Query(default=100, ge=1, le=1000)
) -> list[dict[str, Any]]:
    """Return verdicts, newest first, of one role or of all."""
    query = select(Verdict).order_by(col(Verdict.id).desc()).limit(limit)
    if role is not None:
        query = query.where(Verdict.role == role)
    with session_scope() as session:
        return [verdict_row(verdict) for verdict in session.exec(query)]


@routes.get("/verdicts/{verdict_id}")
def read_verdict(verdict_id: UUID) -> dict[str, Any]:
    """Return the report of a verdict."""
    with session_scope() as session:
        return verdict_report(session, get_verdict(session, verdict_id))


@routes.get("/verdicts/{verdict_id}/report.md", response_class=PlainTextResponse)
def read_verdict_markdown(verdict_id: UUID) -> str:
    """Return the report of a verdict as Markdown."""
    with session_scope() as session:
        return as_markdown(verdict_report(session, get_verdict(session, verdict_id)))


@routes.get("/verdicts/{verdict_id}/report.html", response_class=HTMLResponse)
def read_verdict_page(verdict_id: UUID) -> HTMLResponse:
    """Return the report of a verdict as a page of its own."""
    with session_scope() as session:
        page = as_html(verdict_report(session, get_verdict(session, verdict_id)))
    return HTMLResponse(page, headers={"content-security-policy": CONTENT_POLICY})


@routes.get("/verdicts/{verdict_id}/report.json")
def read_verdict_json(verdict_id: UUID) -> dict[str, Any]:
    """Return the report of a verdict, as `/v1/verdicts/{verdict_id}` does."""
    return read_verdict(verdict_id)


@routes.post("/verdicts", status_code=201)
def order_verdict(order: VerdictOrder) -> dict[str, Any]:
    """Compare two evaluations, decide, and return the verdict's report."""
    thresholds = DeployThresholds(reading=order.reading)
    ids = order.baseline_evaluation_id, order.candidate_evaluation_id
    with session_scope() as session:
        pair = [get_evaluation(session, found) for found in ids]
    judge = judge_stored(*ids) if order.judge else None
    with session_scope() as session:
        verdict = compare(
            session, pair[0], pair[1], thresholds=thresholds, family=order.family, judge=judge
        )
        return verdict_report(session, verdict)
