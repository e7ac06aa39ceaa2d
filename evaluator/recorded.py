"""Recorded answers: evaluating and comparing runs that somebody else generated.

One JSON object per line: `run`, `task_id`, `solution` (or `answer`), and optionally `exec_pass`,
the verdict that came with it. Several lines of one run and task are several samples. An empty
solution is a lost answer: what the model wrote is not known.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlmodel import Session

from evaluator.answers import Answer, Subject
from evaluator.asking import Measured, attempt
from evaluator.run import grade, intact_tasks, settings_of, store
from evaluator.sandbox import Sandbox
from evaluator.suites.jsonl import field_of, read_rows
from evaluator.tables import Evaluation, Suite, SuiteTask
from evaluator.watch import Progress
from foundation.chat import Message
from foundation.errors import BadInput, NotFound


@dataclass(frozen=True)
class RecordedAnswer:
    """One stored answer (None if lost) with the verdict that came with it, if any."""

    task_id: str
    text: str | None
    passed: bool | None = None


@dataclass(frozen=True)
class Disagreement:
    """An answer that we judge otherwise than its source."""

    task_id: str
    recorded: bool
    measured: bool
    status: str
    detail: str


@dataclass(frozen=True)
class RecordedEvaluation:
    """The evaluation of one recorded run, beside the verdicts that came with the file.

    Attributes:
        evaluation: the stored row.
        n_outside: answers to tasks that the suite does not have; not graded.
        n_checked: graded answers whose source gave a verdict.
        disagreements: those where it differs from ours.
    """

    evaluation: Evaluation
    n_outside: int
    n_checked: int
    disagreements: tuple[Disagreement, ...]

    @property
    def agreement(self) -> float | None:
        """Share (0-1) of checked answers with the same verdict; None if none came with one."""
        return 1 - len(self.disagreements) / self.n_checked if self.n_checked else None


def read_answers(path: Path, run: str) -> list[RecordedAnswer]:
    """Return the answers of one run, in the file's order.

    Raises:
        NotFound: no such file, or no such run in it (the message names those there are).
        BadInput: a malformed line.
    """
    return read_runs(path, [run])[run]


def read_runs(path: Path, runs: Sequence[str]) -> dict[str, list[RecordedAnswer]]:
    """Return the answers of several runs in one reading; raises as `read_answers`."""
    found: dict[str, list[RecordedAnswer]] = defaultdict(list)
    for number, row in read_rows(path):
        run = field_of(path, number, row, "run", str)
        task_id = field_of(path, number, row, "task_id", str)
        text = row.get("solution", row.get("answer"))
        if text is not None:
            text = field_of(path, number, {"solution": text}, "solution", str)
        lost = text is None or not text.strip()
        found[run].append(RecordedAnswer(task_id, None if lost else text, row.get("exec_pass")))
    for run in runs:
        if run not in found:
            raise NotFound(
                f"run in {path.name}",
                run,
                f"one of {', '.join(sorted(found))}",
                "Name one of them.",
            )
    return {run: found[run] for run in runs}


def evaluate_recorded(
    session: Session,
    suite: Suite,
    answers_path: Path,
    runs: Sequence[str],
    sandbox: Sandbox | None = None,
    progress: Progress | None = None,
) -> list[RecordedEvaluation]:
    """Grade recorded runs by real execution and store one evaluation each; nothing is generated.

    Runs may cover different tasks; `compare` uses those that both have.

    Args:
        session: an open session; the caller commits.
        suite: the benchmark whose task ids the file uses.
        answers_path: the JSONL file.
        runs: names of runs in it.
        sandbox: where answers are executed; None makes one for the call.
        progress: told after every graded group.

    Raises:
        NotFound: no such file or run.
        BadInput: a malformed line, or a run without any answer to this suite.
    """
    if sandbox is None:
        with Sandbox() as own:
            return evaluate_recorded(session, suite, answers_path, runs, own, progress)
    answers = read_runs(answers_path, runs)
    tasks = {task.task_id: task for task in intact_tasks(session, suite)}
    known = {run: [a for a in answers[run] if a.task_id in tasks] for run in runs}
    for run in runs:
        _require_any(run, answers[run], known[run], suite)
    measured = [_measured(run, known[run], tasks) for run in runs]
    grade(measured, sandbox, progress)
    settings = settings_of(suite, answers=answers_path.name)
    return [
        RecordedEvaluation(
            store(session, suite, result, _samples_per_task(result), sandbox, settings),
            len(answers[run]) - len(known[run]),
            *_check(known[run], result),
        )
        for run, result in zip(runs, measured, strict=True)
    ]


def _measured(run: str, answers: list[RecordedAnswer], tasks: dict[str, SuiteTask]) -> Measured:
    result = Measured(Subject(run, _cannot_generate))
    counts: Counter[str] = Counter()
    for answer in answers:
        number = counts[answer.task_id]
        counts[answer.task_id] += 1
        result.attempts.append(attempt(tasks[answer.task_id], number, Answer(answer.text)))
    return result


def _check(
    answers: list[RecordedAnswer], measured: Measured
) -> tuple[int, tuple[Disagreement, ...]]:
    """Return how many verdicts could be checked, and those that differ."""
    checked = [
        (answer.task_id, answer.passed, graded)
        for answer, graded in zip(answers, measured.grades, strict=True)
        if graded is not None and answer.passed is not None
    ]
    differing = tuple(
        Disagreement(task_id, recorded, graded.passed, str(graded.status), graded.detail)
        for task_id, recorded, graded in checked
        if recorded != graded.passed
    )
    return len(checked), differing


def _require_any(
    run: str, answers: list[RecordedAnswer], known: list[RecordedAnswer], suite: Suite
) -> None:
    if not known:
        raise BadInput(
            f"run {run}",
            f"{len(answers)} answers to other tasks",
            f"answers to tasks of the suite {suite.name}@{suite.version}",
            "Choose the suite that the run answered.",
        )


def _samples_per_task(measured: Measured) -> int:
    return 1 + max(made.number for made in measured.attempts)


def _cannot_generate(prompts: list[list[Message]], seeds: list[int]) -> list[Answer]:
    raise BadInput("recorded run", len(prompts), "its stored answers", "It cannot generate more.")
