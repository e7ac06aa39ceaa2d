"""Evaluations: models answer the tasks of a suite in the same batches, graders judge, rows remain.

`evaluate_many` does it in one go. The job does the same in three steps (`measure` holds no database
connection), so that no transaction stays open while a model thinks.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import insert
from sqlmodel import Session, SQLModel

from evaluator.answers import Subject
from evaluator.asking import Asking, Measured, attempt, slots_of, storable
from evaluator.cache import AnswerCache
from evaluator.estimate import success_rate
from evaluator.graders import Grade
from evaluator.grading import ERROR, Attempt, Grading, Ungraded, require_gradable
from evaluator.sandbox import Sandbox, Status
from evaluator.speed import BATCH_RATES, TOGETHER
from evaluator.suites import content_hash, tasks_of
from evaluator.summary import metrics_of
from evaluator.tables import Evaluation, Sample, Suite, SuiteTask
from evaluator.watch import Progress, Watch
from foundation.errors import BadInput, Conflict, NotFound
from foundation.ids import new_id

SAMPLES_PER_TASK = 5
"""Five samples of a task are worth about as much as five times more tasks."""

BATCH_SIZE = 32
_SAMPLES = SQLModel.metadata.tables[str(Sample.__tablename__)]

__all__ = [
    "BATCH_SIZE",
    "SAMPLES_PER_TASK",
    "Attempt",
    "Measured",
    "Progress",
    "attempt",
    "evaluate",
    "evaluate_many",
    "get_evaluation",
    "grade",
    "measure",
    "store",
]


def evaluate(
    session: Session,
    suite: Suite,
    subject: Subject,
    samples_per_task: int,
    sandbox: Sandbox,
    **options: Any,
) -> Evaluation:
    """Evaluate one subject; see `evaluate_many`. To compare two, evaluate them together."""
    return evaluate_many(session, suite, [subject], samples_per_task, sandbox, **options)[0]


def evaluate_many(
    session: Session,
    suite: Suite,
    subjects: Sequence[Subject],
    samples_per_task: int,
    sandbox: Sandbox,
    *,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
    run_id: UUID | None = None,
    progress: Progress | None = None,
) -> list[Evaluation]:
    """Evaluate subjects on the same tasks, seeds and batches; store and return their evaluations.

    Args:
        session: an open session; the caller commits.
        suite: the benchmark.
        subjects: at least one, with distinct names.
        samples_per_task: answers per task and subject.
        sandbox: where answers are executed.
        seed: of all sampling.
        batch_size: prompts per call of `generate`.
        run_id: the run that this belongs to.
        progress: told as answers and grades come in.

    Raises:
        BadInput: no subjects, a name twice, no samples asked; or a task that cannot be graded.
    """
    tasks = intact_tasks(session, suite)
    measured = measure(tasks, subjects, samples_per_task, sandbox, seed, batch_size, progress)
    settings = settings_of(suite, seed=seed, batch_size=batch_size)
    return [
        store(session, suite, result, samples_per_task, sandbox, settings, run_id)
        for result in measured
    ]


def settings_of(suite: Suite, **settings: Any) -> dict[str, Any]:
    """Return the settings that evaluations share which are measured together."""
    return {**settings, "suite_hash": suite.content_hash, TOGETHER: str(new_id())}


def intact_tasks(session: Session, suite: Suite) -> list[SuiteTask]:
    """Return the tasks of a suite, which are those that its hash says.

    Raises:
        Conflict: somebody changed the rows.
    """
    tasks = tasks_of(session, suite)
    found = content_hash(tasks)
    if found != suite.content_hash:
        raise Conflict(
            f"suite {suite.name}@{suite.version}, hash of its tasks",
            found[:12],
            f"{suite.content_hash[:12]}, as it was stored",
            "Its rows were changed by hand; store it again as a new version.",
        )
    return tasks


def measure(
    tasks: Sequence[SuiteTask],
    subjects: Sequence[Subject],
    samples_per_task: int,
    sandbox: Sandbox,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
    progress: Progress | None = None,
    cache: AnswerCache | None = None,
) -> list[Measured]:
    """Let every subject answer every task and grade what comes; only the cache is stored.

    Raises as `evaluate_many`, and
        ModelServerUnavailable: nobody answers any more; the cache keeps what came before.
    """
    _require_valid(subjects, samples_per_task, batch_size)
    require_gradable(tasks, sandbox)
    asking = Asking(subjects, slots_of(tasks, samples_per_task, seed), cache)
    watch = Watch(len(asking.slots) * len(subjects), progress)
    with Grading(sandbox) as grading:
        for made in asking.batches(batch_size, lambda: watch.tell(asking.measured, grading)):
            grading.take(made)
            watch.tell(asking.measured, grading)
        while not grading.settle(watch.PERIOD_S):
            watch.tell(asking.measured, grading)
        _fill_in(asking.measured, grading)
        watch.tell(asking.measured, grading, is_last=True)
    return asking.measured


def grade(measured: Sequence[Measured], sandbox: Sandbox, progress: Progress | None = None) -> None:
    """Fill in the grades; equal answers to one task are executed once, whoever gave them."""
    watch = Watch(sum(len(result.attempts) for result in measured), progress)
    with Grading(sandbox) as grading:
        grading.take(made for result in measured for made in result.attempts)
        while not grading.settle(watch.PERIOD_S):
            watch.tell(measured, grading)
        _fill_in(measured, grading)
        watch.tell(measured, grading, is_last=True)


def _fill_in(measured: Sequence[Measured], grading: Grading) -> None:
    for result in measured:
        graded = [grading.of(made) for made in result.attempts]
        result.grades = [None if isinstance(one, Ungraded) else one for one in graded]
        result.errors = {
            index: one.detail for index, one in enumerate(graded) if isinstance(one, Ungraded)
        }


def store(
    session: Session,
    suite: Suite,
    measured: Measured,
    samples_per_task: int,
    sandbox: Sandbox,
    settings: dict[str, Any],
    run_id: UUID | None = None,
) -> Evaluation:
    """Add the Evaluation and its Samples to the session."""
    estimate = success_rate(measured.outcomes(), measured.families())
    evaluation = Evaluation(
        run_id=run_id,
        suite_id=suite.id,
        model_version_id=measured.subject.model_version_id,
        subject=measured.subject.name,
        samples_per_task=samples_per_task,
        n_samples=len(measured.attempts),
        n_lost=estimate.n_lost - len(measured.errors),
        success_rate=estimate.rate,
        ci_low=estimate.low,
        ci_high=estimate.high,
        tokens_per_s=measured.tokens_per_s,
        suite_hash=settings.get("suite_hash", suite.content_hash),
        metrics=metrics_of(measured),
        settings={
            **measured.subject.settings,
            **settings,
            BATCH_RATES: [rate and round(rate, 1) for rate in measured.batch_rates],
        },
        sandbox=sandbox.describe(),
    )
    session.add(evaluation)
    session.flush()
    rows = [
        _sample_row(evaluation.id, made, graded, measured.errors.get(index))
        for index, (made, graded) in enumerate(zip(measured.attempts, measured.grades, strict=True))
    ]
    if rows:
        # The table, not the class: the ORM sends rows apart whose None stand in other columns.
        session.connection().execute(insert(_SAMPLES), rows)
    return evaluation


def _sample_row(
    evaluation_id: UUID, made: Attempt, graded: Grade | None, error: str | None
) -> dict[str, Any]:
    answer = made.answer
    status = ERROR if error else str(graded.status if graded else Status.LOST)
    detail = error or (graded.detail if graded else answer.detail)
    return {
        "id": new_id(),
        "evaluation_id": evaluation_id,
        "suite_task_id": made.task.id,
        "number": made.number,
        "answer": answer.text or "",
        "passed": graded.passed if graded else None,
        "status": status,
        "score": graded.score if graded else None,
        "detail": storable(detail) or None,
        "metrics": dict(graded.metrics) if graded else {},
        "output_tokens": answer.output_tokens,
        "latency_ms": None if answer.seconds is None else 1000 * answer.seconds,
        "ttft_ms": None if answer.ttft_s is None else 1000 * answer.ttft_s,
    }


def get_evaluation(session: Session, evaluation_id: UUID) -> Evaluation:
    """Return an evaluation by id; raises NotFound."""
    evaluation = session.get(Evaluation, evaluation_id)
    if evaluation is None:
        raise NotFound(
            "evaluation",
            str(evaluation_id),
            "the id of a stored evaluation",
            "List them: GET /v1/evaluations",
        )
    return evaluation


def _require_valid(subjects: Sequence[Subject], samples_per_task: int, batch_size: int) -> None:
    names = [subject.name for subject in subjects]
    if not names or len(set(names)) < len(names):
        raise BadInput("subjects", names, "at least one, with distinct names", "Name each once.")
    for name, value in (("samples_per_task", samples_per_task), ("batch_size", batch_size)):
        if value < 1:
            raise BadInput(name, value, "1 or more", "The default will do.")
