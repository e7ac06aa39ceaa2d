"""What was learned: training runs and the model versions they made."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import DateTime, UniqueConstraint
from sqlmodel import Field, SQLModel

import curation.tables  # noqa: F401  training runs point to datasets
from foundation.database import JSON
from foundation.ids import new_id
from foundation.tables import now

CANDIDATE, EXPERIMENTAL, PRODUCTION = "candidate", "experimental", "production"
RETIRED, QUARANTINED = "retired", "quarantined"
"""Stages of a model version, see ARCHITECTURE: candidate, V1, V2, retired, V3."""


class TrainingRun(SQLModel, table=True):
    """One execution of a recipe on a dataset; its state (queued, running…) is that of its run."""

    __tablename__ = "training_run"

    id: UUID = Field(default_factory=new_id, primary_key=True)
    run_id: UUID = Field(foreign_key="run.id", unique=True)
    role: str = Field(index=True)
    dataset_id: UUID = Field(foreign_key="dataset.id")
    base_model: str
    method: str = Field(description="sft-lora, sft-qlora, sft-full.")
    recipe: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    seed: int = 0
    metrics: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    history: list[dict[str, Any]] = Field(
        default_factory=list, sa_type=JSON, description="Logged steps: loss, learning rate, …"
    )
    manifest: dict[str, Any] = Field(
        default_factory=dict, sa_type=JSON, description="Dataset hash, library versions, seed."
    )
    created_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))


class ModelVersion(SQLModel, table=True):
    """Something that can serve a role: an adapter as a rule, or a base or external model."""

    __tablename__ = "model_version"
    __table_args__ = (UniqueConstraint("role", "number"),)

    id: UUID = Field(default_factory=new_id, primary_key=True)
    role: str = Field(index=True)
    number: int
    name: str = Field(unique=True, description="What the engine and the gateway call it: coder-v3.")
    kind: str = Field(description="adapter, merged, quantized, full, base or external.")
    base_model: str
    artifact_uri: str | None = None
    content_hash: str | None = None
    stage: str = CANDIDATE
    is_control: bool = Field(default=False, description="Trained as a control, never to be served.")
    training_run_id: UUID | None = Field(default=None, foreign_key="training_run.id")
    dataset_id: UUID | None = Field(default=None, foreign_key="dataset.id")
    parent_id: UUID | None = Field(default=None, foreign_key="model_version.id")
    metrics: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    created_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))
