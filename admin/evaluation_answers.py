"""The answers of an evaluation: a table that is narrowed and exported, and one answer alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse
from sqlalchemy import func, or_, select
from sqlmodel import Session, col

from admin import texts
from admin.listing import Asked, Column, Listing, Table
from admin.paging import Narrowing
from admin.rendering import Reading, render, wants_rows
from admin.verdict_tasks import in_slice, mentions, slices_of_suite
from evaluator.run import get_evaluation
from evaluator.tables import Evaluation, Sample, Suite, SuiteTask
from foundation.errors import NotFound

routes = APIRouter(prefix="/evaluations/{id}/answers")

PASSED, FAILED, UNKNOWN = "passed", "failed", "no grade"
GRADES: Final = (PASSED, FAILED, UNKNOWN)
BEGINNING: Final = 300
"""Characters of an answer and of what its grader said that a row shows."""
SAMPLES_SHOWN: Final = 100


@dataclass(frozen=True)
class Filters(Narrowing):
    """What the answers are narrowed to; empty means all."""

    grade: str = ""
    status: str = ""
    slice: str = ""
    """An attribute of the task and its value: `difficulty:hard`."""
    q: str = ""
    """Text in the answer, in what its grader said, in the task's id or in what it asks."""


@dataclass(frozen=True)
class Row:
    """One answer: how it begins, and what became of it."""

    id: UUID
    task_id: str
    number: int
    passed: bool | None
    status: str
    score: float | None
    output_tokens: float | None
    latency_ms: float | None
    answer: str
    """Of a page its beginning; of an export all of it."""
    detail: str


@dataclass(frozen=True)
class ListPage:
    """The answers of one evaluation."""

    evaluation: Evaluation
    suite: Suite
    filters: Filters
    table: Table[Row]
    statuses: Sequence[str]
    slices: Sequence[str]
    grades: Sequence[str] = GRADES


@dataclass(frozen=True)
class Sibling:
    """Another answer to the same task."""

    id: UUID
    number: int
    status: str


@dataclass(frozen=True)
class AnswerPage:
    """One answer with its task and what its grader said."""

    evaluation: Evaluation
    suite: Suite
    filters: Filters
    sample: Sample
    task: SuiteTask
    prompt: Sequence[texts.ShownMessage]
    answer: texts.Answer
    said: texts.Shown
    siblings: Sequence[Sibling]
    before: UUID | None
    after: UUID | None
    """Answers beside this one among those that fit the filters."""


def _columns() -> tuple[Any, ...]:
    return (
        col(Sample.id),
        col(SuiteTask.task_id),
        col(Sample.number),
        col(Sample.passed),
        col(Sample.status),
        col(Sample.score),
        col(Sample.output_tokens),
        col(Sample.latency_ms),
    )


LISTING: Listing[Row] = Listing(
    [
        Column("task_id", "Task", lambda r: r.task_id, col(SuiteTask.task_id), first="up"),
        Column("number", "Sample", lambda r: r.number, col(Sample.number), numeric=True),
        Column("status", "Status", lambda r: r.status, col(Sample.status), first="up"),
        Column("answer", "Answer", lambda r: r.answer),
        Column("score", "Score", lambda r: r.score, col(Sample.score), numeric=True),
        Column(
            "output_tokens",
            "Tokens",
            lambda r: r.output_tokens,
            col(Sample.output_tokens),
            numeric=True,
        ),
        Column("latency_ms", "Time", lambda r: r.latency_ms, col(Sample.latency_ms), numeric=True),
        Column("passed", "", lambda r: r.passed),
        Column("detail", "", lambda r: r.detail),
        Column("id", "", lambda r: r.id),
    ],
    key=col(Sample.id),
    name="answers",
)


@routes.get("", name="evaluations.answers")
def show_list(
    request: Request,
    session: Reading,
    id: UUID,
    filters: Annotated[Filters, Depends()],
    asked: Annotated[Asked, Depends()],
) -> Response:
    """Show the answers of an evaluation."""
    evaluation = get_evaluation(session, id)
    if asked.format:
        whole = (*_columns(), col(Sample.answer), col(Sample.detail))
        return LISTING.export(_matching(whole, id, filters), asked, _rows)
    template = "evaluations/_answers.html" if wants_rows(request) else "evaluations/answers.html"
    return render(request, template, list_page(session, evaluation, filters, asked))


@routes.get("/{sample}", name="evaluations.answer")
def show_answer(
    request: Request,
    session: Reading,
    id: UUID,
    sample: UUID,
    filters: Annotated[Filters, Depends()],
) -> HTMLResponse:
    """Show one answer with its task."""
    return render(request, "evaluations/answer.html", answer_page(session, id, sample, filters))


def list_page(session: Session, evaluation: Evaluation, filters: Filters, asked: Asked) -> ListPage:
    """Return one page of answers, their texts cut by the database."""
    cut = (
        *_columns(),
        func.left(col(Sample.answer), BEGINNING),
        func.left(col(Sample.detail), BEGINNING),
    )
    statuses = session.scalars(
        select(col(Sample.status))
        .where(col(Sample.evaluation_id) == evaluation.id)
        .distinct()
        .order_by(col(Sample.status))
    ).all()
    return ListPage(
        evaluation,
        session.get_one(Suite, evaluation.suite_id),
        filters,
        LISTING.page(session, _matching(cut, evaluation.id, filters), asked, filters.query, _rows),
        statuses,
        slices_of_suite(session, evaluation.suite_id),
    )


def _matching(columns: Sequence[Any], evaluation_id: UUID, filters: Filters) -> Any:
    query: Any = (
        select(*columns)
        .select_from(Sample)
        .join(SuiteTask, col(SuiteTask.id) == col(Sample.suite_task_id))
        .where(col(Sample.evaluation_id) == evaluation_id)
    )
    passed = {PASSED: col(Sample.passed).is_(True), FAILED: col(Sample.passed).is_(False)}
    passed[UNKNOWN] = col(Sample.passed).is_(None)
    if filters.grade in passed:
        query = query.where(passed[filters.grade])
    if filters.status:
        query = query.where(col(Sample.status) == filters.status)
    if filters.slice:
        query = query.where(in_slice(filters.slice))
    if filters.q:
        query = query.where(
            or_(
                col(Sample.answer).icontains(filters.q, autoescape=True),
                col(Sample.detail).icontains(filters.q, autoescape=True),
                mentions(filters.q),
            )
        )
    return query


def _rows(session: Session, found: Sequence[Any]) -> list[Row]:
    return [
        Row(key, task, n, passed, status, score, tokens, ms, answer, said or "")
        for key, task, n, passed, status, score, tokens, ms, answer, said in found
    ]


def answer_page(
    session: Session, evaluation_id: UUID, sample_id: UUID, filters: Filters
) -> AnswerPage:
    """Return the page of one answer; raises NotFound."""
    sample = session.get(Sample, sample_id)
    if sample is None or sample.evaluation_id != evaluation_id:
        raise NotFound("answer", str(sample_id), "an answer of this evaluation", "See the list.")
    task = session.get_one(SuiteTask, sample.suite_task_id)
    evaluation = get_evaluation(session, evaluation_id)
    siblings = session.execute(
        select(col(Sample.id), col(Sample.number), col(Sample.status))
        .where(
            col(Sample.evaluation_id) == evaluation_id,
            col(Sample.suite_task_id) == sample.suite_task_id,
        )
        .order_by(col(Sample.number))
        .limit(SAMPLES_SHOWN)
    ).all()
    return AnswerPage(
        evaluation,
        session.get_one(Suite, evaluation.suite_id),
        filters,
        sample,
        task,
        texts.conversation(task.prompt),
        texts.answer(sample.answer),
        texts.shown(sample.detail or ""),
        [Sibling(*one) for one in siblings],
        _beside(session, evaluation_id, filters, sample_id, is_newer=True),
        _beside(session, evaluation_id, filters, sample_id, is_newer=False),
    )


def _beside(
    session: Session, evaluation_id: UUID, filters: Filters, sample_id: UUID, *, is_newer: bool
) -> UUID | None:
    """Return the next answer that fits, upwards or downwards in the table, newest first."""
    key = col(Sample.id)
    query = _matching([key], evaluation_id, filters)
    if is_newer:
        query = query.where(key > sample_id).order_by(key)
    else:
        query = query.where(key < sample_id).order_by(key.desc())
    found: UUID | None = session.scalars(query.limit(1)).first()
    return found
