"""Two evaluations task by task, counted by the database: for suites of thousands of tasks.

The rules are those of `evaluator.compare`: sample i meets sample i, a pair with a lost answer is
left out, and an answer whose grader threw counts as `evaluator.ungraded` says. Here no answer is
read and no outcome leaves the database but the counts of the tasks that are asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import CTE, Float, and_, case, cast, false, func, or_, select
from sqlalchemy.orm import aliased
from sqlmodel import Session, col

from evaluator.grading import ERROR
from evaluator.judge.pairs import Pair, pairs_at
from evaluator.judge.people import ask_about
from evaluator.report.sides import ByTask, kinds_of
from evaluator.tables import Evaluation, Sample, SuiteTask

PEOPLE_AT_MOST: Final = 200
"""Pairs that one press of a button puts into the review queue."""


def paired_tasks(baseline_id: UUID, candidate_id: UUID) -> CTE:
    """Return the tasks that both answered, as a table that a query may name several times.

    Its columns: `task` (id of the suite's task), `baseline` and `candidate` (share of its pairs
    that passed, 0-1), `change` (candidate minus baseline) and `n` (pairs).
    """
    b, c = aliased(Sample, name="b"), aliased(Sample, name="c")
    threw_b, threw_c = col(b.status) == ERROR, col(c.status) == ERROR
    is_faulty = and_(_any(threw_b), _any(threw_c))
    graded = and_(col(b.passed).is_not(None), col(c.passed).is_not(None))
    known = and_(or_(col(b.passed).is_not(None), threw_b), or_(col(c.passed).is_not(None), threw_c))
    counts = (
        select(
            col(b.suite_task_id).label("task"),
            case((is_faulty, _count(graded)), else_=_count(known)).label("n"),
            *(
                case(
                    (is_faulty, _count(and_(graded, passed))), else_=_count(and_(known, passed))
                ).label(name)
                for name, passed in (
                    ("n_baseline", col(b.passed).is_(True)),
                    ("n_candidate", col(c.passed).is_(True)),
                )
            ),
        )
        .join(
            c,
            and_(
                col(c.evaluation_id) == candidate_id,
                col(c.suite_task_id) == col(b.suite_task_id),
                col(c.number) == col(b.number),
            ),
        )
        .where(col(b.evaluation_id) == baseline_id)
        .group_by(col(b.suite_task_id))
        .subquery("counts")
    )
    n = cast(counts.c.n, Float)
    return (
        select(
            counts.c.task,
            counts.c.n,
            (counts.c.n_baseline / n).label("baseline"),
            (counts.c.n_candidate / n).label("candidate"),
            ((counts.c.n_candidate - counts.c.n_baseline) / n).label("change"),
        )
        .where(counts.c.n > 0)
        .cte("paired")
    )


def _count(condition: Any) -> Any:
    return func.count().filter(condition)


def _any(condition: Any) -> Any:
    return func.coalesce(func.bool_or(condition), false())


@dataclass(frozen=True)
class Fates:
    """How the tasks that both answered fared; `failed` and `passed` are those of both sides."""

    better: int
    same: int
    worse: int
    failed: int
    passed: int

    @property
    def n(self) -> int:
        """All of them."""
        return self.better + self.same + self.worse


def fates(session: Session, paired: CTE) -> Fates:
    """Return how many tasks are better, alike and worse, and how many no or every answer passed."""
    change = paired.c.change
    row = session.execute(
        select(
            _count(change > 0),
            _count(change == 0),
            _count(change < 0),
            _count(and_(paired.c.baseline == 0, paired.c.candidate == 0)),
            _count(and_(paired.c.baseline == 1, paired.c.candidate == 1)),
        )
    ).one()
    return Fates(*(int(n) for n in row))


@dataclass(frozen=True)
class Answered:
    """What the answers of one evaluation say by kind of task, and how they ended."""

    kinds: Sequence[dict[str, Any]]
    statuses: dict[str, int]
    n_tasks: int
    """Tasks with an answer that was graded."""


def answered(session: Session, evaluation: Evaluation) -> Answered:
    """Return the success by kind of task, with intervals, and the answers by status."""
    s = Sample
    rows = session.execute(
        select(
            col(SuiteTask.task_id),
            col(SuiteTask.attributes),
            _count(col(s.passed).is_(True)),
            func.count(col(s.passed)),
        )
        .join(s, col(s.suite_task_id) == col(SuiteTask.id))
        .where(col(s.evaluation_id) == evaluation.id)
        .group_by(col(SuiteTask.id))
        .order_by(col(SuiteTask.task_id))
    ).all()
    by_task: ByTask = {
        task: [True] * passed + [False] * (known - passed) for task, _, passed, known in rows
    }
    statuses = session.execute(
        select(col(s.status), func.count())
        .where(col(s.evaluation_id) == evaluation.id)
        .group_by(col(s.status))
    ).all()
    return Answered(
        kinds_of(by_task, {task: own for task, own, _, _ in rows}),
        {str(status): int(n) for status, n in statuses},
        sum(1 for *_, known in rows if known),
    )


def disagreeing(baseline_id: UUID, candidate_id: UUID) -> Any:
    """Return, for each task whose answers differ in passing, its id and the first such number."""
    b, c = aliased(Sample, name="b"), aliased(Sample, name="c")
    query: Any = (
        select(col(b.suite_task_id), func.min(col(b.number)))
        .join(
            c,
            and_(
                col(c.evaluation_id) == candidate_id,
                col(c.suite_task_id) == col(b.suite_task_id),
                col(c.number) == col(b.number),
            ),
        )
        .where(col(b.evaluation_id) == baseline_id, col(b.passed) != col(c.passed))
        .group_by(col(b.suite_task_id))
    )
    return query


@dataclass(frozen=True)
class AskedPeople:
    """Pairs that people are to compare: how many were drawn, and how many of them are new."""

    n_drawn: int
    n_new: int


def ask_people(
    session: Session, role: str, baseline: Evaluation, candidate: Evaluation, at_most: int
) -> AskedPeople:
    """Put answers on which two evaluations differ into the review queue, to be compared blind.

    What is drawn does not depend on who won: it goes by the hash of the task. People's choices are
    kept by the texts, so a judge of the same two is held against them.

    Args:
        session: the caller commits.
        role: whose queue.
        baseline: of the verdict.
        candidate: of the same suite.
        at_most: tasks, one pair of each; no more than `PEOPLE_AT_MOST`.
    """
    query = disagreeing(baseline.id, candidate.id)
    by_chance = func.md5(func.concat(query.selected_columns[0]))
    drawn = session.execute(
        query.order_by(by_chance).limit(max(0, min(at_most, PEOPLE_AT_MOST)))
    ).all()
    pairs: list[Pair] = pairs_at(session, baseline, candidate, {task: n for task, n in drawn})
    distinct = [pair for pair in pairs if not pair.is_identical]
    return AskedPeople(len(distinct), ask_about(session, role, distinct))
