"""Which models learned from what: versions trained on datasets, and those that began from them."""

from collections.abc import Sequence
from uuid import UUID

from sqlmodel import Session, col, select

from trainer.tables import ModelVersion


def learned_from(session: Session, datasets: Sequence[UUID]) -> list[str]:
    """Return the names of the models that learned from these versions, or from such a model."""
    names: dict[UUID, str] = {}
    query = select(ModelVersion.id, ModelVersion.name)
    found = session.exec(query.where(col(ModelVersion.dataset_id).in_(datasets))).all()
    while new := {identifier: name for identifier, name in found if identifier not in names}:
        names |= new
        found = session.exec(query.where(col(ModelVersion.parent_id).in_(new))).all()
    return sorted(names.values())
