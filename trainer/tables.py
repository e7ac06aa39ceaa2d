"""What was learned: training runs, the model versions they made, and what those became outside."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, Index, UniqueConstraint
from sqlmodel import Field, SQLModel

import curation.tables  # noqa: F401  training runs point to datasets
from foundation.database import JSON
from foundation.ids import new_id
from foundation.tables import now

CANDIDATE, EXPERIMENTAL, PRODUCTION = "candidate", "experimental", "production"
RETIRED, QUARANTINED = "retired", "quarantined"
"""Stages of a model version, see ARCHITECTURE: candidate, V1, V2, retired, V3."""


class TrainingRun(SQLModel, table=True):
    """One execution of a recipe on data; its state (queued, running…) is that of its run.

    A joint training is one run with a row for each role.
    """

    __tablename__ = "training_run"

    id: UUID = Field(default_factory=new_id, primary_key=True)
    run_id: UUID = Field(foreign_key="run.id", index=True)
    role: str = Field(index=True)
    dataset_id: UUID | None = Field(
        default=None, foreign_key="dataset.id", index=True, description="None: it read a suite."
    )
    suite: str | None = Field(default=None, description="Tasks that it learned from, NAME@VERSION.")
    base_model: str
    method: str = Field(description="A name in trainer.methods.METHODS.")
    from_version_id: UUID | None = Field(
        default=None, index=True, description="The model version that it went on from."
    )
    ordered_by: str = Field(
        default="person", description="person, turn, schedule, search, or the trigger that fired."
    )
    search_run_id: UUID | None = Field(
        default=None, foreign_key="run.id", index=True, description="The search it is a trial of."
    )
    recipe: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    seed: int = 0
    metrics: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    history: list[dict[str, Any]] = Field(
        default_factory=list, sa_type=JSON, description="Logged steps: loss, learning rate, …"
    )
    manifest: dict[str, Any] = Field(
        default_factory=dict, sa_type=JSON, description="Dataset hash, library versions, seed."
    )
    estimate: dict[str, Any] = Field(
        default_factory=dict,
        sa_type=JSON,
        description="Tokens, seconds, memory and cost foretold, and how wrong that was.",
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
    kind: str = Field(
        description="adapter, merged, quantized, pruned, full, reward, base or external."
    )
    base_model: str
    artifact_uri: str | None = None
    content_hash: str | None = None
    stage: str = CANDIDATE
    is_control: bool = Field(default=False, description="Trained as a control, never to be served.")
    training_run_id: UUID | None = Field(default=None, foreign_key="training_run.id")
    dataset_id: UUID | None = Field(default=None, foreign_key="dataset.id")
    parent_id: UUID | None = Field(default=None, foreign_key="model_version.id")
    metrics: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    made_by: dict[str, Any] = Field(
        default_factory=dict,
        sa_type=JSON,
        description="Of a version that no training made: how, of which versions, what it passed.",
    )
    attestation: dict[str, Any] | None = Field(
        default=None,
        sa_type=JSON,
        description="Its signed manifest: a DSSE envelope around an in-toto statement.",
    )
    pinned_because: str | None = Field(
        default=None, description="Why its files are kept whatever becomes of it."
    )
    files_removed_at: datetime | None = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        description="When its files were collected as garbage; its row and card stay.",
    )
    created_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))


class ModelExport(SQLModel, table=True):
    """A version in a format of others; it is here because it passed its parity gate."""

    __tablename__ = "model_export"
    __table_args__ = (UniqueConstraint("model_version_id", "format"),)

    id: UUID = Field(default_factory=new_id, primary_key=True)
    run_id: UUID | None = Field(default=None, foreign_key="run.id", index=True)
    model_version_id: UUID = Field(foreign_key="model_version.id")
    format: str = Field(description="A name in trainer.export.FORMATS, such as gguf-q8_0.")
    artifact_uri: str
    content_hash: str
    size_bytes: int = Field(sa_type=BigInteger)
    parity: dict[str, Any] = Field(
        default_factory=dict, sa_type=JSON, description="What was compared, and how near it came."
    )
    created_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))


class TrainingSchedule(SQLModel, table=True):
    """When a role is trained by itself: at times, and by what happens."""

    __tablename__ = "training_schedule"
    __table_args__ = (Index("ix_training_schedule_due", "is_on", "due_at"),)

    role: str = Field(primary_key=True)
    is_on: bool = True
    every: str | None = Field(default=None, description="hourly, daily, weekly, monthly, or never.")
    triggers: dict[str, Any] = Field(
        default_factory=dict,
        sa_type=JSON,
        description="new_examples and corrections (how many), drift (true).",
    )
    training: dict[str, Any] = Field(
        default_factory=dict,
        sa_type=JSON,
        description="What is ordered: recipe, base model, suite, continual method, how to promote.",
    )
    due_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))
    fired_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))
    fired_because: str | None = None
    run_id: UUID | None = Field(default=None, foreign_key="run.id", description="Its last run.")
    seen: dict[str, Any] = Field(
        default_factory=dict, sa_type=JSON, description="Marks that triggers count from."
    )
    changed_by: str = "flywheel"
    changed_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))
