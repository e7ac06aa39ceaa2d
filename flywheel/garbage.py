"""Collect garbage, with what the rooms above the trainer know of who is needed."""

from uuid import UUID

from sqlmodel import Session, col, select

from foundation.database import session_scope
from router.promote import previous_versions
from router.tables import RUNNING, Experiment, RolePolicy, RoleServing
from trainer import garbage
from trainer.garbage import Collected


def collect(days: int = garbage.DAYS, *, remove: bool = False) -> Collected:
    """Find, and remove if asked to, what nobody needs; raises as `trainer.garbage.collect`."""
    with session_scope() as session:
        keep = needed(session)
    return garbage.collect(keep, days=days, remove=remove)


def needed(session: Session) -> dict[UUID, str]:
    """Return the versions that serve, could be rolled back to, or are compared, with the reason."""
    keep: dict[UUID, str] = {}
    serving = session.exec(select(RoleServing)).all()
    for row in serving:
        keep.setdefault(row.model_version_id, f"it serves {row.role}")
    for role, version in previous_versions(session, [row.role for row in serving]).items():
        keep.setdefault(version.id, f"{role} is rolled back to it")
    for experiment in session.exec(select(Experiment).where(Experiment.status == RUNNING)).all():
        for identifier in (
            experiment.control_model_version_id,
            experiment.treatment_model_version_id,
        ):
            keep.setdefault(identifier, f"an experiment of {experiment.role} compares it")
    with_baseline = select(RolePolicy).where(col(RolePolicy.baseline_model_version_id).is_not(None))
    for policy in session.exec(with_baseline).all():
        assert policy.baseline_model_version_id is not None
        keep.setdefault(policy.baseline_model_version_id, f"{policy.role} falls back to it")
    return keep
