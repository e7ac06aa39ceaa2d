"""Evaluations: one model over one suite; verdicts: the candidate beside its baseline, paired."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse
from sqlalchemy import Float, Integer, cast, func, select
from sqlmodel import Session, col

from admin.charts import Bar, IntervalChart, bars, interval_chart
from admin.paging import Narrowing, Slice, newest_first
from admin.rendering import Reading, render, wants_rows
from evaluator.report import (
    CONTENT_POLICY,
    as_html,
    evaluations_report,
    get_verdict,
    verdict_report,
)
from evaluator.run import get_evaluation
from evaluator.tables import Evaluation, Sample, Suite, SuiteTask, Verdict
from foundation import chat
from foundation.errors import NotFound
from foundation.settings import get_settings
from foundation.tables import Decision
from trainer.tables import ModelVersion

routes = APIRouter()

SAMPLE_SIZE = 20
CHANGED_SHOWN = 6


@dataclass(frozen=True)
class Filters(Narrowing):
    """What a list is narrowed to; empty means all."""

    role: str = ""


@dataclass(frozen=True)
class EvaluationRow:
    """One evaluation with its suite and, if it has one, its model version."""

    evaluation: Evaluation
    suite: Suite
    model: ModelVersion | None


@dataclass(frozen=True)
class EvaluationList:
    """Evaluations, newest first."""

    filters: Filters
    rows: Slice[EvaluationRow]
    roles: Sequence[str]


@dataclass(frozen=True)
class VerdictRow:
    """One verdict with the names of its two sides and the suite."""

    verdict: Verdict
    suite: Suite
    baseline: Evaluation
    candidate: Evaluation
    chart: IntervalChart | None


@dataclass(frozen=True)
class VerdictList:
    """Verdicts, newest first."""

    filters: Filters
    rows: Slice[VerdictRow]
    roles: Sequence[str]


@dataclass(frozen=True)
class AnswerRow:
    """One sampled answer with its task."""

    sample: Sample
    task: SuiteTask


@dataclass(frozen=True)
class EvaluationDetail:
    """One evaluation: its rate, what became of its answers, and a look at those that failed."""

    row: EvaluationRow
    chart: IntervalChart | None
    statuses: Sequence[Bar]
    answers: Slice[AnswerRow]
    verdicts: Sequence[Verdict]


@dataclass(frozen=True)
class TaskPair:
    """One task in both evaluations: the share of its samples that passed, in 0-1."""

    task: SuiteTask
    baseline: float
    candidate: float

    @property
    def change(self) -> float:
        """Candidate minus baseline, -1 to 1."""
        return self.candidate - self.baseline

    @property
    def asked(self) -> str:
        """The text of the task."""
        return chat.joined(self.task.prompt)

    @property
    def task_type(self) -> str:
        """The kind of the task, or a dash."""
        return str(self.task.attributes.get("task_type") or "–")


@dataclass(frozen=True)
class Slicing:
    """One kind of task: how many there are and both mean success rates."""

    name: str
    n: int
    baseline: float
    candidate: float
    chart: IntervalChart | None


@dataclass(frozen=True)
class VerdictDetail:
    """Candidate beside baseline: rates, paired improvement, and the tasks that changed."""

    row: VerdictRow
    baseline_model: ModelVersion | None
    candidate_model: ModelVersion | None
    decision: Decision | None
    rates: IntervalChart | None
    improvement: IntervalChart | None
    slices: Sequence[Slicing]
    better: int
    same: int
    worse: int
    changed: Sequence[TaskPair]


@routes.get("/evaluations", name="evaluations.list")
def show_list(
    request: Request,
    session: Reading,
    filters: Annotated[Filters, Depends()],
    before: UUID | None = None,
) -> HTMLResponse:
    """Show evaluations."""
    query = _evaluations()
    if filters.role:
        query = query.where(col(Suite.role) == filters.role)
    rows = newest_first(session, query, col(Evaluation.id), before)
    page = EvaluationList(filters, rows.map(lambda r: EvaluationRow(*r)), get_settings().roles)
    template = "evaluations/_rows.html" if wants_rows(request) else "evaluations/list.html"
    return render(request, template, page)


@routes.get("/evaluations/{id}", name="evaluations.detail")
def show_detail(
    request: Request, session: Reading, id: UUID, before: UUID | None = None
) -> HTMLResponse:
    """Show one evaluation; htmx asks here for more of its answers."""
    page = evaluation_detail(session, id, before)
    template = "evaluations/_answers.html" if wants_rows(request) else "evaluations/detail.html"
    return render(request, template, page)


@routes.get("/evaluations/{id}/report", name="evaluations.report")
def show_report(session: Reading, id: UUID) -> HTMLResponse:
    """Show the report of an evaluation as a page of its own, under its own content policy."""
    return _page(evaluations_report(session, [get_evaluation(session, id)]))


@routes.get("/verdicts", name="verdicts.list")
def show_verdicts(
    request: Request,
    session: Reading,
    filters: Annotated[Filters, Depends()],
    before: UUID | None = None,
) -> HTMLResponse:
    """Show verdicts."""
    query = select(Verdict)
    if filters.role:
        query = query.where(col(Verdict.role) == filters.role)
    rows = newest_first(session, query, col(Verdict.id), before)
    shown = Slice(verdict_rows(session, rows.rows), rows.older)
    template = "verdicts/_rows.html" if wants_rows(request) else "verdicts/list.html"
    return render(request, template, VerdictList(filters, shown, get_settings().roles))


@routes.get("/verdicts/{id}", name="verdicts.detail")
def show_verdict(request: Request, session: Reading, id: UUID) -> HTMLResponse:
    """Show one verdict."""
    return render(request, "verdicts/detail.html", verdict_detail(session, id))


@routes.get("/verdicts/{id}/report", name="verdicts.report")
def show_verdict_report(session: Reading, id: UUID) -> HTMLResponse:
    """Show the report of a verdict as a page of its own, under its own content policy."""
    return _page(verdict_report(session, get_verdict(session, id)))


def _page(report: dict[str, Any]) -> HTMLResponse:
    return HTMLResponse(as_html(report), headers={"content-security-policy": CONTENT_POLICY})


def _evaluations() -> Any:
    return (
        select(Evaluation, Suite, ModelVersion)
        .join(Suite, col(Suite.id) == col(Evaluation.suite_id))
        .outerjoin(ModelVersion, col(ModelVersion.id) == col(Evaluation.model_version_id))
    )


def verdict_rows(session: Session, verdicts: Sequence[Verdict]) -> list[VerdictRow]:
    """Return verdicts with their two evaluations and suites, in three queries for any number."""
    sides = {v.baseline_evaluation_id for v in verdicts} | {
        v.candidate_evaluation_id for v in verdicts
    }
    suites = {v.suite_id for v in verdicts}
    evaluation = {
        row.id: row
        for row in session.scalars(select(Evaluation).where(col(Evaluation.id).in_(sides)))
    }
    suite = {row.id: row for row in session.scalars(select(Suite).where(col(Suite.id).in_(suites)))}
    axis = points_axis(verdicts)
    return [
        VerdictRow(
            v,
            suite[v.suite_id],
            evaluation[v.baseline_evaluation_id],
            evaluation[v.candidate_evaluation_id],
            gain_chart(v, axis),
        )
        for v in verdicts
    ]


def points_axis(verdicts: Sequence[Verdict]) -> tuple[float, float]:
    """Return the range in points that shows zero and all these verdicts beside each other."""
    edges = [edge for v in verdicts for edge in (v.ci_low, v.ci_high)]
    return min([0.0, *edges]), max([0.0, *edges])


def gain_chart(verdict: Verdict, axis: tuple[float, float]) -> IntervalChart | None:
    """Return a verdict's improvement with its interval on a shared small axis."""
    row = ("gain", "gain", verdict.improvement_points, verdict.ci_low, verdict.ci_high)
    return interval_chart([row], unit="", scale=1.0, width=130, axis=axis)


def evaluation_detail(
    session: Session, identifier: UUID, before: UUID | None = None
) -> EvaluationDetail:
    """Return the page of one evaluation; raises NotFound."""
    found = session.execute(_evaluations().where(col(Evaluation.id) == identifier)).one_or_none()
    if found is None:
        raise NotFound("evaluation", str(identifier), "the id of an evaluation", "See the list.")
    row = EvaluationRow(*found)
    e = row.evaluation
    statuses = session.execute(
        select(col(Sample.status), func.count())
        .where(col(Sample.evaluation_id) == identifier)
        .group_by(col(Sample.status))
    ).all()
    failed = (
        select(Sample, SuiteTask)
        .join(SuiteTask, col(SuiteTask.id) == col(Sample.suite_task_id))
        .where(col(Sample.evaluation_id) == identifier, col(Sample.passed).is_not(True))
    )
    verdicts = session.scalars(
        select(Verdict)
        .where(
            (col(Verdict.baseline_evaluation_id) == identifier)
            | (col(Verdict.candidate_evaluation_id) == identifier)
        )
        .order_by(col(Verdict.id).desc())
        .limit(SAMPLE_SIZE)
    ).all()
    answers = newest_first(session, failed, col(Sample.id), before, SAMPLE_SIZE)
    return EvaluationDetail(
        row,
        interval_chart(
            [(e.subject, "candidate", e.success_rate, e.ci_low, e.ci_high)], bounds=(0, 100)
        ),
        bars({status: n for status, n in statuses}),
        answers.map(lambda pair: AnswerRow(pair[0], pair[1])),
        verdicts,
    )


def verdict_detail(session: Session, identifier: UUID) -> VerdictDetail:
    """Return the page of one verdict; raises NotFound."""
    verdict = session.get(Verdict, identifier)
    if verdict is None:
        raise NotFound("verdict", str(identifier), "the id of a verdict", "See the list.")
    row = verdict_rows(session, [verdict])[0]
    b, c = row.baseline, row.candidate
    pairs = task_pairs(session, b.id, c.id)
    ordered = sorted(pairs, key=lambda p: p.change)
    worse, better = [p for p in ordered if p.change < 0], [p for p in ordered if p.change > 0]
    return VerdictDetail(
        row=row,
        baseline_model=session.get(ModelVersion, b.model_version_id)
        if b.model_version_id
        else None,
        candidate_model=(
            session.get(ModelVersion, c.model_version_id) if c.model_version_id else None
        ),
        decision=session.get(Decision, verdict.decision_id) if verdict.decision_id else None,
        rates=interval_chart(
            [
                ("baseline", "baseline", b.success_rate, b.ci_low, b.ci_high),
                ("candidate", "candidate", c.success_rate, c.ci_low, c.ci_high),
            ],
            bounds=(0, 100),
        ),
        improvement=interval_chart(
            [("improvement", "gain", verdict.improvement_points, verdict.ci_low, verdict.ci_high)],
            unit="",
            scale=1.0,
            width=440,
            include_zero=True,
        ),
        slices=slices(pairs),
        better=len(better),
        same=len(pairs) - len(better) - len(worse),
        worse=len(worse),
        changed=[*better[: -CHANGED_SHOWN - 1 : -1], *worse[:CHANGED_SHOWN]],
    )


def task_pairs(session: Session, baseline: UUID, candidate: UUID) -> list[TaskPair]:
    """Return the tasks that both evaluations have graded answers to, with both pass shares."""

    def shares(evaluation: UUID) -> dict[UUID, float]:
        passed = func.avg(cast(cast(col(Sample.passed), Integer), Float))
        rows = session.execute(
            select(col(Sample.suite_task_id), passed)
            .where(col(Sample.evaluation_id) == evaluation, col(Sample.passed).is_not(None))
            .group_by(col(Sample.suite_task_id))
        ).all()
        return {task: float(share) for task, share in rows}

    before, after = shares(baseline), shares(candidate)
    both = before.keys() & after.keys()
    tasks = session.scalars(
        select(SuiteTask).where(col(SuiteTask.id).in_(both)).order_by(col(SuiteTask.task_id))
    ).all()
    return [TaskPair(task, before[task.id], after[task.id]) for task in tasks]


def slices(pairs: Iterable[TaskPair]) -> list[Slicing]:
    """Return mean success of both sides by kind of task, largest kind first; empty for one kind."""
    pairs = list(pairs)
    sizes = Counter(pair.task_type for pair in pairs)
    if len(sizes) < 2:
        return []
    found = []
    for name, n in sizes.most_common():
        members = [pair for pair in pairs if pair.task_type == name]
        baseline = sum(pair.baseline for pair in members) / n
        candidate = sum(pair.candidate for pair in members) / n
        found.append(Slicing(name, n, baseline, candidate, _dumbbell(baseline, candidate)))
    return found


def _dumbbell(baseline: float, candidate: float) -> IntervalChart | None:
    rows = [
        ("baseline", "baseline", baseline, None, None),
        ("candidate", "candidate", candidate, None, None),
    ]
    return interval_chart(rows, width=220, axis=(0, 100))
