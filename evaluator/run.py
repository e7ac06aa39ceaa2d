"""Evaluations: models answer the tasks of a suite in the same batches, graders judge, rows remain.

`evaluate_many` does it in one go. The job does the same in three steps (`measure` holds no database
connection), so that no transaction stays open while a model thinks.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from sqlalchemy import insert
from sqlmodel import Session

from evaluator.answers import Answer, Subject
from evaluator.estimate import success_rate
from evaluator.graders import Grade, GradedTask, grade_many
from evaluator.sandbox import Sandbox, Status
from evaluator.speed import BATCH_RATES
from evaluator.suites import tasks_of
from evaluator.tables import Evaluation, Sample, Suite, SuiteTask
from foundation.errors import BadInput, NotFound
from foundation.ids import new_id

Progress = Callable[[float, float, str], None]
"""`progress(done, total, unit)`."""

SAMPLES_PER_TASK = 5
"""Five samples of a task are worth about as much as five times more tasks."""

BATCH_SIZE = 32
_GRADED_AT_ONCE = 256


@dataclass(frozen=True)
class Attempt:
    """One answer to one task."""

    task: SuiteTask
    number: int
    answer: Answer


def attempt(task: SuiteTask, number: int, answer: Answer) -> Attempt:
    """Return an attempt whose text is what can be stored: what is graded is what is kept."""
    text = None if answer.text is None else _storable(answer.text)
    return Attempt(task, number, replace(answer, text=text))


@dataclass
class Measured:
    """What one subject did: its attempts, their grades (None for lost answers) and its speed."""

    subject: Subject
    attempts: list[Attempt] = field(default_factory=list)
    grades: list[Grade | None] = field(default_factory=list)
    output_tokens: float = 0.0
    seconds: float = 0.0
    batch_rates: list[float | None] = field(default_factory=list)
    """Output tokens per second of each batch; None where they were not counted."""

    @property
    def tokens_per_s(self) -> float | None:
        """Output tokens per second of wall time, over whole batches; None if not counted."""
        return self.output_tokens / self.seconds if self.output_tokens and self.seconds else None

    def outcomes(self) -> list[list[bool | None]]:
        """Return one list of outcomes per task; None for lost answers."""
        tasks: dict[UUID, list[bool | None]] = {}
        for made, grade in zip(self.attempts, self.grades, strict=True):
            tasks.setdefault(made.task.id, []).append(grade.passed if grade else None)
        return list(tasks.values())


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
        progress: told after every batch and every graded group.

    Raises:
        BadInput: no subjects, a name twice, no samples asked; or a task that cannot be graded.
    """
    tasks = tasks_of(session, suite)
    measured = measure(
        tasks, subjects, samples_per_task, sandbox, seed, batch_size, progress or _silent
    )
    settings = {"seed": seed, "batch_size": batch_size, "suite_hash": suite.content_hash}
    return [
        store(session, suite, result, samples_per_task, sandbox, settings, run_id)
        for result in measured
    ]


def measure(
    tasks: Sequence[SuiteTask],
    subjects: Sequence[Subject],
    samples_per_task: int,
    sandbox: Sandbox,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
    progress: Progress | None = None,
) -> list[Measured]:
    """Let every subject answer every task, then grade; no database is touched.

    Raises as `evaluate_many`.
    """
    _require_valid(subjects, samples_per_task, batch_size)
    report = progress or _silent
    measured = _answer(tasks, subjects, samples_per_task, seed, batch_size, report)
    grade(measured, sandbox, report)
    return measured


def _answer(
    tasks: Sequence[SuiteTask],
    subjects: Sequence[Subject],
    samples_per_task: int,
    seed: int,
    batch_size: int,
    progress: Progress,
) -> list[Measured]:
    """Send each batch to all subjects in turn; who comes first alternates, as speed is compared."""
    measured = [Measured(subject) for subject in subjects]
    slots = [(task, number) for task in tasks for number in range(samples_per_task)]
    total = len(slots) * len(subjects)
    for batch_number, start in enumerate(range(0, len(slots), batch_size)):
        batch = slots[start : start + batch_size]
        for result in measured if batch_number % 2 == 0 else reversed(measured):
            _answer_batch(result, batch, seed + start)
            progress(sum(len(m.attempts) for m in measured), total, "answers")
    return measured


def _answer_batch(result: Measured, batch: list[tuple[SuiteTask, int]], seed: int) -> None:
    started = time.perf_counter()
    answers = result.subject.generate([task.prompt for task, _ in batch], seed)
    seconds = time.perf_counter() - started
    result.attempts += [
        attempt(task, number, answer) for (task, number), answer in zip(batch, answers, strict=True)
    ]
    made = [answer.output_tokens for answer in answers if answer.text is not None]
    counted = [tokens for tokens in made if tokens is not None]
    if counted and len(counted) == len(made):
        result.output_tokens += sum(counted)
        result.seconds += seconds
        result.batch_rates.append(sum(counted) / seconds)
    else:
        result.batch_rates.append(None)


def grade(measured: Sequence[Measured], sandbox: Sandbox, progress: Progress | None = None) -> None:
    """Fill in the grades; equal answers to one task are executed once, whoever gave them."""
    report = progress or _silent
    distinct: dict[tuple[UUID, str], SuiteTask] = {}
    for result in measured:
        for made in result.attempts:
            if made.answer.text is not None:
                distinct[made.task.id, made.answer.text] = made.task
    keys = list(distinct)
    grades: dict[tuple[UUID, str], Grade] = {}
    for start in range(0, len(keys), _GRADED_AT_ONCE):
        some = keys[start : start + _GRADED_AT_ONCE]
        graded = grade_many(
            [_graded_task(distinct[key]) for key in some], [text for _, text in some], sandbox
        )
        grades.update(zip(some, graded, strict=True))
        report(start + len(some), len(keys), "answers graded")
    for result in measured:
        result.grades = [
            None
            if made.answer.text is None
            else _said_something(grades[made.task.id, made.answer.text])
            for made in result.attempts
        ]


def _graded_task(task: SuiteTask) -> GradedTask:
    return GradedTask(task.task_id, task.prompt, task.grader, task.reference)


def _said_something(graded: Grade) -> Grade:
    """An answer without code arrived all the same: it is wrong, not lost.

    Lost answers leave the comparison, and a model must not leave it by saying nothing.
    """
    if graded.status is Status.LOST:
        return Grade.of(Status.WRONG, graded.detail)
    return graded


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
    estimate = success_rate(measured.outcomes())
    evaluation = Evaluation(
        run_id=run_id,
        suite_id=suite.id,
        model_version_id=measured.subject.model_version_id,
        subject=measured.subject.name,
        samples_per_task=samples_per_task,
        n_samples=len(measured.attempts),
        n_lost=estimate.n_lost,
        success_rate=estimate.rate,
        ci_low=estimate.low,
        ci_high=estimate.high,
        tokens_per_s=measured.tokens_per_s,
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
        _sample_row(evaluation.id, made, graded)
        for made, graded in zip(measured.attempts, measured.grades, strict=True)
    ]
    if rows:
        session.execute(insert(Sample), rows)
    return evaluation


def _sample_row(evaluation_id: UUID, made: Attempt, graded: Grade | None) -> dict[str, Any]:
    detail = graded.detail if graded else made.answer.detail
    return {
        "id": new_id(),
        "evaluation_id": evaluation_id,
        "suite_task_id": made.task.id,
        "number": made.number,
        "answer": made.answer.text or "",
        "passed": graded.passed if graded else None,
        "status": str(graded.status if graded else Status.LOST),
        "score": graded.score if graded else None,
        "detail": _storable(detail) or None,
    }


def _storable(text: str) -> str:
    """Replace what PostgreSQL cannot keep: NUL characters and lone surrogates."""
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()


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


def _silent(done: float, total: float, unit: str) -> None:
    """Tell nobody."""
