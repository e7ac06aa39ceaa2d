"""Which of it is worth learning: examples, immutable dataset versions, the near-duplicate index."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Column, DateTime, Index, UniqueConstraint
from sqlmodel import Field, SQLModel

import collector.tables  # noqa: F401  the log that examples are made of
from foundation.database import JSON
from foundation.ids import new_id
from foundation.tables import now

KEPT, DROPPED = "kept", "dropped"
TRAIN, VALIDATION, TEST = "train", "validation", "test"


class Example(SQLModel, table=True):
    """A curated item: its own copy of the text, its scores, and why it was kept or dropped."""

    __tablename__ = "example"
    __table_args__ = (
        UniqueConstraint("interaction_id", "variant"),
        Index("ix_example_role_status", "role", "status"),
        Index("ix_example_norm_hash", "role", "variant", "norm_hash"),
        Index("ix_example_cluster_id", "cluster_id"),
        Index("ix_example_episode_id", "episode_id"),
        Index("ix_example_split_key", "role", "variant", "split_key"),
    )

    id: UUID = Field(default_factory=new_id, primary_key=True)
    role: str
    interaction_id: UUID
    variant: str = Field(
        default="default", description="Curation profile: default, or unverified for the control."
    )
    episode_id: UUID | None = None
    task_type: str | None = None
    prompt: list[dict[str, Any]] = Field(sa_type=JSON, description="Messages before the answer.")
    answer: str
    corrected: bool = Field(default=False, description="Whether the answer is a human correction.")
    status: str = KEPT
    drop_reason: str | None = None
    duplicate_of: UUID | None = Field(default=None, description="The kept example it repeats.")
    similarity: float | None = Field(default=None, description="Exact Jaccard to duplicate_of.")
    score: float | None = Field(default=None, description="Quality in 0-1.")
    scores: dict[str, Any] = Field(default_factory=dict, sa_type=JSON, description="Its parts.")
    norm_hash: str = Field(description="SHA-256 of the normalised text.")
    cluster_id: UUID | None = Field(default=None, description="Anchor of its duplicate cluster.")
    split: str = Field(default=TRAIN)
    split_key: str = Field(default="", description="What the split was drawn by.")
    n_tokens: int = Field(default=0, description="Words and punctuation marks, a cheap estimate.")
    created_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))


class ExampleBand(SQLModel, table=True):
    """One band key of a kept example's MinHash: the near-duplicate index in SQL."""

    __tablename__ = "example_band"
    __table_args__ = (Index("ix_example_band_key", "key", postgresql_using="hash"),)

    example_id: UUID = Field(primary_key=True, foreign_key="example.id")
    band: int = Field(primary_key=True)
    key: int = Field(sa_column=Column(BigInteger, nullable=False))


class CurationWatermark(SQLModel, table=True):
    """Up to where the log of a role has been looked at."""

    __tablename__ = "curation_watermark"

    role: str = Field(primary_key=True)
    variant: str = Field(primary_key=True)
    seen_until: datetime = Field(sa_type=DateTime(timezone=True))


class Dataset(SQLModel, table=True):
    """An immutable version of one role's examples."""

    __tablename__ = "dataset"
    __table_args__ = (UniqueConstraint("role", "kind", "variant", "number"),)

    id: UUID = Field(default_factory=new_id, primary_key=True)
    role: str = Field(index=True)
    kind: str = Field(default="sft", description="sft, preference or eval.")
    variant: str = "default"
    number: int
    content_hash: str = Field(description="SHA-256 over its sorted examples and rule versions.")
    artifact_uri: str | None = None
    card: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    n_train: int = 0
    n_validation: int = 0
    n_test: int = 0
    run_id: UUID | None = Field(default=None, foreign_key="run.id")
    created_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))


class DatasetExample(SQLModel, table=True):
    """Membership of an example in a dataset version, with the split it had then."""

    __tablename__ = "dataset_example"

    dataset_id: UUID = Field(primary_key=True, foreign_key="dataset.id")
    example_id: UUID = Field(primary_key=True, foreign_key="example.id", index=True)
    split: str
