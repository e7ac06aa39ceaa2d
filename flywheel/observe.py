"""What production says about a role: its success, its traffic, what is new since the last training.

These are the inputs of the training rules. What nobody logged is None: unknown, never guessed.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlmodel import Session, col, select

from collector.feedback.sources import is_heard
from curation.tables import Dataset
from evaluator.drift import DriftReport, reports
from foundation.tables import now
from trainer.tables import ModelVersion, TrainingRun

DAYS = 30
_OUTCOMES = text(
    f"""
    SELECT avg(f.value), count(*)
    FROM interaction i
    JOIN feedback f ON f.interaction_id = i.id
    WHERE i.role = :role AND i.model_version_id = :version AND f.kind = 'success'
      AND f.source <> 'judge' AND {is_heard("f")}
      AND i.ingested_at > now() - make_interval(days => :days)
    """
)
_EPISODES = text(
    """
    SELECT count(DISTINCT coalesce(episode_id, id)), min(ingested_at)
    FROM interaction
    WHERE role = :role AND ingested_at > now() - make_interval(days => :days)
    """
)
MONTH_DAYS = 30.44

DRIFT_OUTCOMES = 200
"""Outcomes at the beginning and at the end of a version's service that drift is read from."""

_THEN_AND_NOW = text(
    f"""
    WITH outcome AS (
      SELECT f.value, row_number() OVER (ORDER BY f.id) AS n, count(*) OVER () AS total
      FROM interaction i JOIN feedback f ON f.interaction_id = i.id
      WHERE i.role = :role AND i.model_version_id = :version AND f.kind = 'success'
        AND f.source <> 'judge' AND {is_heard("f")}
    )
    SELECT avg(value) FILTER (WHERE n <= :some), avg(value) FILTER (WHERE n > total - :some)
    FROM outcome WHERE total >= 2 * :some
    """
)


@dataclass(frozen=True)
class SinceTraining:
    """What happened since a role's last training; None where there was none."""

    version: ModelVersion | None
    months: float | None
    n_new_examples: int | None


def observed_success(session: Session, role: str, version_id: UUID) -> float | None:
    """Return the share (0-1) of a version's answers that worked, of the last `DAYS` days."""
    values = {"role": role, "version": version_id, "days": DAYS}
    mean, n = session.execute(_OUTCOMES, values).one()
    return float(mean) if n else None


def success_then_and_now(
    session: Session, role: str, version_id: UUID
) -> tuple[float | None, float | None]:
    """Return a version's success (0-1) when it began to serve and lately: what drift is.

    Once the watch over drift has its reference, it is what that says: the reference, and the
    success since the change if it gave alarm, else since the reference. The last outcomes alone
    fall by 5 points by chance too often. Without it, both ends of the log are compared, and are
    None below twice `DRIFT_OUTCOMES` outcomes: the two ends must not overlap.
    """
    version = session.get_one(ModelVersion, version_id)
    for watch in reports(session, role):
        if watch.version == version.name and (found := _watched(watch)) is not None:
            return found
    values = {"role": role, "version": version_id, "some": DRIFT_OUTCOMES}
    then, now_ = session.execute(_THEN_AND_NOW, values).one()
    return (None, None) if then is None else (float(then), float(now_))


def _watched(watch: DriftReport) -> tuple[float, float] | None:
    """Return reference and success by a watch; None as long as it has seen too little."""
    seen = watch.inputs
    if seen is None:
        return None
    if watch.alarm_decision_id is not None and seen.success_since is not None:
        return seen.reference_rate, seen.success_since
    if seen.n < DRIFT_OUTCOMES:
        return None
    return seen.reference_rate, 1 - seen.n_failed / seen.n


def tasks_per_day(session: Session, role: str) -> float | None:
    """Return the role's tasks (episodes) per day over the last `DAYS` days, at least one day."""
    n, first = session.execute(_EPISODES, {"role": role, "days": DAYS}).one()
    return n / max(1.0, _days_since(first)) if n else None


def since_training(session: Session, role: str, dataset: Dataset) -> SinceTraining:
    """Return how long ago the role was trained, and how many examples were added since."""
    last = session.exec(
        select(ModelVersion, TrainingRun, Dataset)
        .where(
            ModelVersion.training_run_id == TrainingRun.id,
            TrainingRun.dataset_id == Dataset.id,
            ModelVersion.role == role,
            col(ModelVersion.is_control).is_(False),
        )
        .order_by(col(ModelVersion.id).desc())
        .limit(1)
    ).first()
    if last is None:
        return SinceTraining(None, None, None)
    version, training, learned_from = last
    months = _days_since(training.created_at) / MONTH_DAYS
    return SinceTraining(version, months, max(0, dataset.n_train - learned_from.n_train))


def _days_since(moment: datetime) -> float:
    return (now() - moment).total_seconds() / 86400
