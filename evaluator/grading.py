"""Grading beside answering: what has been answered is graded while the next answers come.

Equal answers to one task are graded once, whoever gave them. A grader that throws costs the one
answer that it threw on: that answer is counted apart, with the line, and the others go on.
"""

import logging
import traceback
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self
from uuid import UUID

from evaluator.answers import Answer
from evaluator.graders import Grade, GradedTask, grade_many, grader
from evaluator.replies import ANSWER_CHARS
from evaluator.sandbox import Sandbox, Status
from evaluator.tables import SuiteTask
from foundation.errors import BadInput, FlywheelError

log = logging.getLogger(__name__)

ERROR: Final = "ERROR"
"""Status of a sample whose grader threw; it is neither passed nor failed."""
_AT_ONCE: Final = 256


@dataclass(frozen=True)
class Attempt:
    """One answer to one task."""

    task: SuiteTask
    number: int
    answer: Answer


@dataclass(frozen=True)
class Ungraded:
    """An answer whose grader threw; `detail` is the error with its place."""

    detail: str


Graded = Grade | Ungraded | None
"""What became of an attempt; None for a lost answer."""

_Key = tuple[UUID, str]


class Grading:
    """Grades in a thread of its own what `take` is given; leave it by `with`."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="grading")
        self._known: dict[_Key, Grade | Ungraded] = {}
        self._asked: set[_Key] = set()
        self._open: list[Future[dict[_Key, Grade | Ungraded]]] = []

    def take(self, attempts: Iterable[Attempt]) -> None:
        """Have attempts graded, some hundred at once; what is known or under way is not again."""
        fresh: dict[_Key, GradedTask] = {}
        for made in attempts:
            key = _key(made)
            if key is not None and key not in self._asked:
                fresh[key] = graded_task(made.task)
        self._asked |= fresh.keys()
        keys = list(fresh)
        for start in range(0, len(keys), _AT_ONCE):
            some = keys[start : start + _AT_ONCE]
            tasks = [fresh[key] for key in some]
            self._open.append(self._thread.submit(self._grade, some, tasks))

    def settle(self, timeout_s: float | None = 0.0) -> bool:
        """Take in what is graded by now, or within the time; return whether nothing is left.

        Raises what the thread met: a suite that cannot be graded, a sandbox that is gone.
        """
        wait(self._open, timeout_s)
        for done in [one for one in self._open if one.done()]:
            self._known.update(done.result())
            self._open.remove(done)
        return not self._open

    def of(self, made: Attempt) -> Graded:
        """Return what is known of an attempt: None as long as it is not graded."""
        if made.answer.text is None:
            return None
        if made.answer.n_chars is not None:
            return _too_long(made.answer.n_chars)
        return self._known.get((made.task.id, made.answer.text))

    def _grade(
        self, keys: Sequence[_Key], tasks: Sequence[GradedTask]
    ) -> dict[_Key, Grade | Ungraded]:
        graded = grade_each(tasks, [text for _, text in keys], self._sandbox)
        return dict(zip(keys, graded, strict=True))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._thread.shutdown(cancel_futures=True)


def require_gradable(tasks: Sequence[SuiteTask], sandbox: Sandbox) -> None:
    """Refuse tasks that no answer could be graded by, before any model is asked.

    Every grader is given an empty answer to each of its tasks, and says what a task lacks.

    Raises:
        NotFound: a task names an unknown grader.
        BadInput: a task has no reference, or lacks what its grader needs.
    """
    for task in tasks:
        if not task.reference:
            raise BadInput(
                f"task {task.task_id}: reference", task.reference,
                f"what its grader {task.grader!r} needs", "Correct the suite; no model was asked.",
            )  # fmt: skip
        grader(task.grader, f"task {task.task_id}: grader")
    grade_each([graded_task(task) for task in tasks], [""] * len(tasks), sandbox)


def graded_task(task: SuiteTask) -> GradedTask:
    """Return what a grader is given of a stored task."""
    return GradedTask(task.task_id, task.prompt, task.grader, task.reference)


def grade_each(
    tasks: Sequence[GradedTask], answers: Sequence[str], sandbox: Sandbox
) -> list[Grade | Ungraded]:
    """Grade answers, one per task; where a grader throws, those beside it are graded all the same.

    Raises:
        BadInput: a task cannot be graded at all.
        SandboxUnavailable: nothing can be executed any more.
    """

    def grade(low: int, high: int) -> list[Grade]:
        graded = grade_many(tasks[low:high], answers[low:high], sandbox)
        return [_said_something(one) for one in graded]

    return _or_halves(grade, 0, len(tasks))


def _or_halves(
    grade: Callable[[int, int], list[Grade]], low: int, high: int
) -> list[Grade | Ungraded]:
    """Grade a stretch; one that throws is halved, until what throws stands alone."""
    try:
        return list(grade(low, high))
    except FlywheelError:
        raise
    except Exception as error:  # a grader is anybody's code, and an answer is hostile
        if high - low > 1:
            middle = (low + high) // 2
            return _or_halves(grade, low, middle) + _or_halves(grade, middle, high)
        log.warning("a grader threw", exc_info=error)
        return [Ungraded(_place(error))]


def _place(error: Exception) -> str:
    """Return an error with the last line of its traceback."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{last.filename.rsplit('/', 1)[-1]} line {last.lineno}, in {last.name}"
    return f"the grader threw {type(error).__name__}: {error} ({place})"[:500]


def _key(made: Attempt) -> _Key | None:
    answer = made.answer
    return None if answer.text is None or answer.n_chars else (made.task.id, answer.text)


def _too_long(n_chars: int) -> Grade:
    return Grade.of(
        Status.WRONG,
        f"an answer of {n_chars:,} characters, more than {ANSWER_CHARS:,}: only its beginning is "
        "kept, and it counts as wrong",
    )


def _said_something(graded: Grade) -> Grade:
    """An answer without code arrived all the same: it is wrong, not lost.

    Lost answers leave the comparison, and a model must not leave it by saying nothing.
    """
    if graded.status is Status.LOST:
        return Grade.of(Status.WRONG, graded.detail, metrics=graded.metrics)
    return graded
