"""Which models learned from what: versions trained on datasets, and those that began from them."""

from collections.abc import Sequence
from uuid import UUID

from sqlmodel import Session, col, select

from trainer.tables import ModelVersion, TrainingRun


def learned_from(session: Session, datasets: Sequence[UUID]) -> list[str]:
    """Return the names of the models that learned from these versions, or from such a model."""
    names: dict[UUID, str] = {}
    query = select(ModelVersion.id, ModelVersion.name)
    found = session.exec(query.where(col(ModelVersion.dataset_id).in_(datasets))).all()
    while new := {identifier: name for identifier, name in found if identifier not in names}:
        names |= new
        found = session.exec(query.where(col(ModelVersion.parent_id).in_(new))).all()
    return sorted(names.values())


def ancestors(session: Session, version: ModelVersion) -> list[ModelVersion]:
    """Return the trained versions that a version went on from, oldest first, itself last."""
    line = [version]
    while (before := _before(session, line[0])) is not None and before not in line:
        line.insert(0, before)
    return line


def _before(session: Session, version: ModelVersion) -> ModelVersion | None:
    training = version.training_run_id and session.get(TrainingRun, version.training_run_id)
    if not training or training.from_version_id is None:
        return None
    return session.get(ModelVersion, training.from_version_id)
