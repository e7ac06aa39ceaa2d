"""What became of a version after it was trained: benchmarked, compared, promoted, rolled back.

Sections of a model card that the trainer, below, knows nothing of.
"""

from collections.abc import Iterator
from typing import Any, Final

from sqlmodel import Session, col, or_, select

from evaluator.tables import Evaluation, Suite, Verdict
from router.tables import Experiment, Promotion
from trainer.tables import ModelVersion

_SHOWN: Final = 20
"""Newest rows of each section."""

EVALUATIONS, VERDICTS, SERVICE = "Evaluations", "Verdicts", "Service"


def record_of(session: Session, version: ModelVersion) -> dict[str, list[dict[str, Any]]]:
    """Return the sections that have any row, by title, the newest rows first."""
    sections = {
        EVALUATIONS: list(_evaluations(session, version)),
        VERDICTS: list(_verdicts(session, version)),
        SERVICE: list(_service(session, version)),
    }
    return {title: rows for title, rows in sections.items() if rows}


def _evaluations(session: Session, version: ModelVersion) -> Iterator[dict[str, Any]]:
    query = (
        select(Evaluation, Suite)
        .join(Suite, col(Suite.id) == col(Evaluation.suite_id))
        .where(Evaluation.model_version_id == version.id)
        .order_by(col(Evaluation.id).desc())
        .limit(_SHOWN)
    )
    for found, suite in session.exec(query).all():
        yield {
            "suite": f"{suite.name}@{suite.version}",
            "success_rate": found.success_rate,
            "interval": [found.ci_low, found.ci_high],
            "answers": found.n_samples,
            "at": found.created_at.isoformat(),
        }


def _verdicts(session: Session, version: ModelVersion) -> Iterator[dict[str, Any]]:
    ours = select(Evaluation.id).where(Evaluation.model_version_id == version.id)
    query = (
        select(Verdict)
        .where(col(Verdict.candidate_evaluation_id).in_(ours))
        .order_by(col(Verdict.id).desc())
        .limit(_SHOWN)
    )
    for found in session.exec(query).all():
        baseline = session.get_one(Evaluation, found.baseline_evaluation_id)
        yield {
            "outcome": found.outcome,
            "against": baseline.subject,
            "improvement_points": found.improvement_points,
            "interval": [found.ci_low, found.ci_high],
            "tasks": found.n_tasks,
            "at": found.created_at.isoformat(),
        }


def _service(session: Session, version: ModelVersion) -> Iterator[dict[str, Any]]:
    """Yield its promotions, and what it was in experiments, newest first."""
    moved = session.exec(
        select(Promotion)
        .where(
            or_(
                Promotion.to_model_version_id == version.id,
                Promotion.from_model_version_id == version.id,
            )
        )
        .order_by(col(Promotion.id).desc())
        .limit(_SHOWN)
    ).all()
    compared = session.exec(
        select(Experiment)
        .where(Experiment.treatment_model_version_id == version.id)
        .order_by(col(Experiment.id).desc())
        .limit(_SHOWN)
    ).all()
    rows = [
        (
            one.created_at,
            f"{one.kind} to it" if one.to_model_version_id == version.id else f"{one.kind} away",
            one.reason,
        )
        for one in moved
    ]
    rows += [(one.started_at, f"experiment: {one.status}", one.kind) for one in compared]
    for at, what, why in sorted(rows, reverse=True):
        yield {"at": at.isoformat(), "what": what, "why": why}
