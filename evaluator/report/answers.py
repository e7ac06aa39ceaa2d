"""Answers to be read side by side: of the tasks where two models differ, or that one failed."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import func
from sqlmodel import Session, col, select

from evaluator.tables import Evaluation, Sample, SuiteTask
from foundation.chat import joined

SHOWN_TASKS: Final = 100
"""Tasks whose answers a report holds; the others are named with their rates."""
SHOWN_CHARS: Final = 4000
"""Characters of a prompt or an answer that a report holds."""

Json = dict[str, Any]
Rates = Mapping[str, float]
"""Task id -> share (0-1) of its answers that passed."""


def order_of_difference(baseline: Rates, candidate: Rates) -> list[str]:
    """Return the tasks where the rates differ: by how much, then what was lost before what won."""
    apart = {task: candidate[task] - baseline[task] for task in baseline if task in candidate}
    differ = [task for task, gap in apart.items() if gap]
    return sorted(differ, key=lambda task: (-abs(apart[task]), apart[task] > 0, task))


def differing(
    session: Session,
    baseline: tuple[Evaluation, Rates],
    candidate: tuple[Evaluation, Rates],
    tasks: Sequence[str],
) -> list[Json]:
    """Return tasks with an answer of each side that shows how they differ."""
    (first, before), (second, after) = baseline, candidate
    asked = _asked(session, first, tasks)
    old, new = (_answers(session, one, tasks) for one in (first, second))
    return [
        {
            "task_id": task,
            **asked[task],
            "baseline_rate": before[task],
            "candidate_rate": after[task],
            "baseline_answer": _telling(old[task], before[task] > after[task]),
            "candidate_answer": _telling(new[task], after[task] > before[task]),
        }
        for task in tasks
    ]


def failing(session: Session, evaluation: Evaluation, rates: Rates) -> list[Json]:
    """Return the tasks that were not always solved, with an answer that failed, worst first."""
    failed = sorted((task for task in rates if rates[task] < 1), key=lambda one: (rates[one], one))
    shown = failed[:SHOWN_TASKS]
    asked, answers = _asked(session, evaluation, shown), _answers(session, evaluation, shown)
    return [
        {
            "task_id": task,
            **asked[task],
            "rate": rates[task],
            "answer": _telling(answers[task], False),
        }
        for task in shown
    ]


def _answers(
    session: Session, evaluation: Evaluation, tasks: Sequence[str]
) -> dict[str, list[Json]]:
    kept, length = (
        func.substr(col(Sample.answer), 1, SHOWN_CHARS),
        func.char_length(col(Sample.answer)),
    )
    rows = session.exec(
        select(SuiteTask.task_id, kept, length, Sample.passed, Sample.status, Sample.detail)  # type: ignore[call-overload]
        .join(Sample, col(Sample.suite_task_id) == SuiteTask.id)
        .where(Sample.evaluation_id == evaluation.id, col(SuiteTask.task_id).in_(tasks))
        .order_by(col(Sample.number))
    )
    found: dict[str, list[Json]] = {task: [] for task in tasks}
    for task, text, n_chars, passed, status, detail in rows:
        found[task].append(
            {
                "text": text,
                "n_chars": n_chars,
                "is_cut": n_chars > SHOWN_CHARS,
                "passed": passed,
                "status": status,
                "detail": detail,
            }
        )
    return found


def _telling(answers: Sequence[Json], is_better: bool) -> Json | None:
    """Return an answer that shows why a side is better or worse: one that passed, or failed."""
    wanted = (answer for answer in answers if answer["passed"] is is_better)
    return next(wanted, answers[0] if answers else None)


def _asked(session: Session, evaluation: Evaluation, tasks: Sequence[str]) -> dict[str, Json]:
    rows = session.exec(
        select(SuiteTask.task_id, SuiteTask.prompt, SuiteTask.grader).where(
            SuiteTask.suite_id == evaluation.suite_id, col(SuiteTask.task_id).in_(tasks)
        )
    )
    return {task: _question(joined(prompt), grader) for task, prompt, grader in rows}


def _question(text: str, grader: str) -> Json:
    return {"asked": text[:SHOWN_CHARS], "asked_chars": len(text), "grader": grader}
