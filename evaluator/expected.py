"""What an evaluation will take: answers to ask for, and time and money as the last ones took."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, col, select

from evaluator.tables import Evaluation, Suite
from foundation.tables import Run


@dataclass(frozen=True)
class Expected:
    """What is known before an evaluation is ordered.

    Attributes:
        n_answers: of all subjects together.
        seconds: by how long the newest runs of the subjects took for an answer; None if one of
            them has none.
        cost_usd: by what the newest answers of the subjects cost; None if one of them is not known
            to cost anything.
        since: subjects whose newest evaluation that rests on.
    """

    n_answers: int
    seconds: float | None
    cost_usd: float | None
    since: tuple[str, ...]


def expected(
    session: Session, suite: Suite, subjects: Sequence[str], samples_per_task: int
) -> Expected:
    """Return what evaluating the subjects on a suite will take; one query a subject."""
    each = suite.n_tasks * samples_per_task
    paces = [_pace(session, subject) for subject in subjects]
    return Expected(
        n_answers=each * len(subjects),
        seconds=_total([pace[0] for pace in paces], each),
        cost_usd=_total([pace[1] for pace in paces], each),
        since=tuple(s for s, pace in zip(subjects, paces, strict=True) if any(pace)),
    )


def _total(each: Sequence[float | None], n: int) -> float | None:
    known = [one for one in each if one is not None]
    return n * sum(known) if known and len(known) == len(each) else None


def _pace(session: Session, subject: str) -> tuple[float | None, float | None]:
    """Return seconds and US dollars per answer of a subject's newest evaluation that was asked."""
    row = session.exec(
        select(Evaluation, Run)
        .join(Run, col(Run.id) == col(Evaluation.run_id), isouter=True)
        .where(Evaluation.subject == subject, Evaluation.n_samples > 0)
        .order_by(col(Evaluation.id).desc())
        .limit(1)
    ).first()
    if row is None:
        return None, None
    evaluation, run = row
    counts: dict[str, Any] = evaluation.metrics.get("answers") or {}
    asked = counts.get("asked", evaluation.n_samples) - counts.get("cached", 0)
    cost = evaluation.metrics.get("cost_usd")
    return _seconds(run, evaluation, asked), cost / asked if cost and asked > 0 else None


def _seconds(run: Run | None, evaluation: Evaluation, asked: int) -> float | None:
    """Return the seconds per answer; of a run that evaluated several, its share of the time."""
    if run is None or run.started_at is None or run.finished_at is None or asked <= 0:
        return None
    beside = len((run.result or {}).get("evaluations") or ()) or 1
    return (run.finished_at - run.started_at).total_seconds() / beside / asked
