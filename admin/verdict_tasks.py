"""The tasks of a verdict: how both sides fared in each, and all answers to one side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse
from sqlalchemy import CTE, ColumnElement, Select, Text, and_, cast, func, or_, select
from sqlmodel import Session, col

from admin import texts
from admin.differences import Diff, side_by_side
from admin.listing import Asked, Column, Listing, Table
from admin.paging import Narrowing
from admin.rendering import Reading, render, wants_rows
from evaluator.report import get_verdict
from evaluator.tables import Evaluation, Sample, SuiteTask, Verdict
from evaluator.taskwise import Fates, fates, paired_tasks
from foundation.errors import NotFound

routes = APIRouter(prefix="/verdicts/{id}/tasks")

DIFFER, BETTER, WORSE, FAILED, PASSED = "differ", "better", "worse", "both failed", "both passed"
FATES: Final = (DIFFER, BETTER, WORSE, FAILED, PASSED)
"""What tasks are narrowed to; everything else is all of them."""
NUMBERS_SHOWN: Final = 5
"""Samples of a task on one page."""
ASKED_CHARACTERS: Final = 240
SLICES: Final = ("difficulty", "task_type", "domain")


@dataclass(frozen=True)
class Filters(Narrowing):
    """What the tasks are narrowed to; empty means all."""

    fate: str = ""
    slice: str = ""
    """An attribute and its value: `difficulty:hard`."""
    q: str = ""
    """Text in the task's id or in what it asks."""


@dataclass(frozen=True)
class Row:
    """One task: how it begins, and the share (0-1) of its answers that passed on both sides."""

    id: UUID
    task_id: str
    asked: str
    baseline: float
    candidate: float
    n: int

    @property
    def change(self) -> float:
        """Candidate minus baseline, in percentage points."""
        return 100 * (self.candidate - self.baseline)


@dataclass(frozen=True)
class ListPage:
    """The tasks of a verdict that both sides answered."""

    verdict: Verdict
    baseline: Evaluation
    candidate: Evaluation
    filters: Filters
    table: Table[Row]
    fates: Fates
    slices: Sequence[str]
    all_fates: Sequence[str] = FATES


@dataclass(frozen=True)
class Side:
    """One answer as it is shown; None where none is stored."""

    sample: Sample
    answer: texts.Answer


@dataclass(frozen=True)
class Beside:
    """The answers of both sides with one number, and how their texts differ."""

    number: int
    baseline: Side | None
    candidate: Side | None
    diff: Diff | None


@dataclass(frozen=True)
class TaskPage:
    """One task of a verdict: what was asked and all answers, side by side."""

    verdict: Verdict
    baseline: Evaluation
    candidate: Evaluation
    filters: Filters
    task: SuiteTask
    prompt: Sequence[texts.ShownMessage]
    pairs: Sequence[Beside]
    n_baseline: int
    n_candidate: int
    passed_baseline: int
    passed_candidate: int
    more_from: int | None
    """Number of the sample that the next page begins with."""
    before: UUID | None
    after: UUID | None
    """Tasks beside this one, among those that fit the filters, the greatest loss first."""


@routes.get("", name="verdicts.tasks")
def show_list(
    request: Request,
    session: Reading,
    id: UUID,
    filters: Annotated[Filters, Depends()],
    asked: Annotated[Asked, Depends()],
) -> Response:
    """Show the tasks of a verdict, the greatest loss first."""
    verdict = get_verdict(session, id)
    listing, query = _listing(verdict, filters)
    ordered = Asked(asked.sort or "change", asked.before, asked.format)
    if asked.format:
        return listing.export(query, ordered, _rows)
    page = ListPage(
        verdict,
        session.get_one(Evaluation, verdict.baseline_evaluation_id),
        session.get_one(Evaluation, verdict.candidate_evaluation_id),
        filters,
        listing.page(session, query, ordered, filters.query, _rows),
        fates(
            session, paired_tasks(verdict.baseline_evaluation_id, verdict.candidate_evaluation_id)
        ),
        slices_of_suite(session, verdict.suite_id),
    )
    template = "verdicts/_tasks.html" if wants_rows(request) else "verdicts/tasks.html"
    return render(request, template, page)


@routes.get("/{task}", name="verdicts.task")
def show_task(
    request: Request,
    session: Reading,
    id: UUID,
    task: UUID,
    filters: Annotated[Filters, Depends()],
    first: int = 0,
) -> HTMLResponse:
    """Show all answers to one task side by side; further samples by their number."""
    page = task_page(session, id, task, filters, max(0, first))
    return render(request, "verdicts/task.html", page)


def _listing(verdict: Verdict, filters: Filters) -> tuple[Listing[Row], Select[Any]]:
    """Return how a verdict's tasks are listed; their order is that of counts made for it."""
    paired = _paired(verdict)
    listing: Listing[Row] = Listing(
        [
            Column("task_id", "Task", lambda r: r.task_id, col(SuiteTask.task_id), first="up"),
            Column("n", "Pairs", lambda r: r.n, paired.c.n, numeric=True),
            Column("baseline", "Baseline", lambda r: r.baseline, paired.c.baseline, numeric=True),
            Column(
                "candidate", "Candidate", lambda r: r.candidate, paired.c.candidate, numeric=True
            ),
            Column(
                "change", "Change", lambda r: r.change, paired.c.change, numeric=True, first="up"
            ),
            Column("id", "", lambda r: r.id),
        ],
        key=col(SuiteTask.id),
        name="tasks",
    )
    query = select(
        col(SuiteTask.id),
        col(SuiteTask.task_id),
        _beginning(),
        paired.c.baseline,
        paired.c.candidate,
        paired.c.n,
    )
    return listing, _narrowed(query, paired, filters)


def _paired(verdict: Verdict) -> CTE:
    return paired_tasks(verdict.baseline_evaluation_id, verdict.candidate_evaluation_id)


def _narrowed(query: Select[Any], paired: CTE, filters: Filters) -> Select[Any]:
    query = query.join(paired, paired.c.task == col(SuiteTask.id))
    for condition in _conditions(paired, filters):
        query = query.where(condition)
    return query


def _conditions(paired: CTE, filters: Filters) -> list[ColumnElement[bool]]:
    change, baseline, candidate = paired.c.change, paired.c.baseline, paired.c.candidate
    by_fate = {
        DIFFER: change != 0,
        BETTER: change > 0,
        WORSE: change < 0,
        FAILED: and_(baseline == 0, candidate == 0),
        PASSED: and_(baseline == 1, candidate == 1),
    }
    found: list[ColumnElement[bool]] = []
    if filters.fate in by_fate:
        found.append(by_fate[filters.fate])
    if filters.slice:
        found.append(in_slice(filters.slice))
    if filters.q:
        found.append(mentions(filters.q))
    return found


def in_slice(given: str) -> ColumnElement[bool]:
    """Return whether a task is of a slice, `difficulty:hard`."""
    attribute, _, value = given.partition(":")
    found: ColumnElement[bool] = col(SuiteTask.attributes)[attribute].astext == value
    return found


def mentions(text: str) -> ColumnElement[bool]:
    """Return whether a task's id or prompt holds a text, whatever its case."""
    return or_(
        col(SuiteTask.task_id).icontains(text, autoescape=True),
        cast(col(SuiteTask.prompt), Text).icontains(text, autoescape=True),
    )


def _beginning() -> Any:
    """Return the beginning of the last message, cut by the database; parts come as JSON."""
    last = col(SuiteTask.prompt)[-1]["content"]
    return func.left(func.coalesce(last.astext, ""), ASKED_CHARACTERS).label("asked")


def _rows(session: Session, found: Sequence[Any]) -> list[Row]:
    return [
        Row(key, task_id, asked, float(baseline), float(candidate), int(n))
        for key, task_id, asked, baseline, candidate, n in found
    ]


def slices_of_suite(session: Session, suite_id: UUID) -> list[str]:
    """Return the slices of a suite, `attribute:value`, of attributes with several values."""
    found: list[str] = []
    values = {name: col(SuiteTask.attributes)[name].astext for name in SLICES}
    row = session.execute(
        select(*(func.array_agg(value.distinct()) for value in values.values())).where(
            col(SuiteTask.suite_id) == suite_id
        )
    ).one()
    for name, held in zip(values, row, strict=True):
        known = sorted(value for value in held or () if value)
        if 1 < len(known) <= 40:
            found += [f"{name}:{value}" for value in known]
    return found


def task_page(
    session: Session, verdict_id: UUID, task_id: UUID, filters: Filters, first: int = 0
) -> TaskPage:
    """Return all answers of both sides to one task; raises NotFound."""
    verdict = get_verdict(session, verdict_id)
    task = session.get(SuiteTask, task_id)
    if task is None or task.suite_id != verdict.suite_id:
        raise NotFound("task", str(task_id), "a task of the verdict's suite", "See the list.")
    baseline, candidate = verdict.baseline_evaluation_id, verdict.candidate_evaluation_id
    counts = _counts(session, task_id, baseline, candidate)
    samples = _samples(session, task_id, (baseline, candidate), first)
    last = first + NUMBERS_SHOWN
    before, after = _neighbours(session, verdict, task_id, filters)
    return TaskPage(
        verdict,
        session.get_one(Evaluation, baseline),
        session.get_one(Evaluation, candidate),
        filters,
        task,
        texts.conversation(task.prompt),
        [
            _beside(number, samples.get((baseline, number)), samples.get((candidate, number)))
            for number in sorted({number for _, number in samples})
        ],
        counts[0],
        counts[1],
        counts[2],
        counts[3],
        last if counts[4] >= last else None,
        before,
        after,
    )


def _counts(session: Session, task: UUID, baseline: UUID, candidate: UUID) -> list[int]:
    """Return answers of both, those of both that passed, and the highest number."""
    s = Sample
    sides = [col(s.evaluation_id) == one for one in (baseline, candidate)]
    row = session.execute(
        select(
            *(func.count().filter(side) for side in sides),
            *(func.count().filter(and_(side, col(s.passed).is_(True))) for side in sides),
            func.coalesce(func.max(col(s.number)), -1),
        ).where(col(s.suite_task_id) == task, col(s.evaluation_id).in_([baseline, candidate]))
    ).one()
    return [int(n) for n in row]


def _samples(
    session: Session, task: UUID, evaluations: tuple[UUID, UUID], first: int
) -> dict[tuple[UUID, int], Sample]:
    rows = session.scalars(
        select(Sample).where(
            col(Sample.suite_task_id) == task,
            col(Sample.evaluation_id).in_(evaluations),
            col(Sample.number) >= first,
            col(Sample.number) < first + NUMBERS_SHOWN,
        )
    )
    return {(row.evaluation_id, row.number): row for row in rows}


def _beside(number: int, baseline: Sample | None, candidate: Sample | None) -> Beside:
    diff = side_by_side(baseline.answer, candidate.answer) if baseline and candidate else None
    return Beside(number, _side(baseline), _side(candidate), diff)


def _side(sample: Sample | None) -> Side | None:
    return Side(sample, texts.answer(sample.answer)) if sample else None


def _neighbours(
    session: Session, verdict: Verdict, task: UUID, filters: Filters
) -> tuple[UUID | None, UUID | None]:
    """Return the tasks before and after one, of those that fit, the greatest loss first."""
    paired = _paired(verdict)
    order = (paired.c.change, paired.c.task.desc())
    placed = _narrowed(
        select(
            paired.c.task.label("task"),
            func.lag(paired.c.task).over(order_by=order).label("before"),
            func.lead(paired.c.task).over(order_by=order).label("after"),
        ).select_from(SuiteTask),
        paired,
        filters,
    ).subquery()
    row = session.execute(
        select(placed.c.before, placed.c.after).where(placed.c.task == task)
    ).one_or_none()
    return (row.before, row.after) if row else (None, None)
