"""Is it better: suites, evaluations of one model over one suite, and verdicts between two."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import DateTime, Index, UniqueConstraint
from sqlmodel import Field, SQLModel

import trainer.tables  # noqa: F401  evaluations point to model versions
from foundation.database import JSON
from foundation.ids import new_id
from foundation.tables import now


class Suite(SQLModel, table=True):
    """A benchmark: a frozen, hashed list of tasks."""

    __tablename__ = "suite"
    __table_args__ = (UniqueConstraint("name", "version"),)

    id: UUID = Field(default_factory=new_id, primary_key=True)
    name: str
    version: int = 1
    role: str
    content_hash: str
    n_tasks: int
    origin: str = Field(default="", description="Where the tasks come from.")
    created_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))


class SuiteTask(SQLModel, table=True):
    """One item of a suite: the prompt, the grader and what the grader needs."""

    __tablename__ = "suite_task"
    __table_args__ = (UniqueConstraint("suite_id", "task_id"),)

    id: UUID = Field(default_factory=new_id, primary_key=True)
    suite_id: UUID = Field(foreign_key="suite.id", index=True)
    task_id: str
    prompt: list[dict[str, Any]] = Field(sa_type=JSON)
    grader: str
    reference: dict[str, Any] = Field(sa_type=JSON)
    attributes: dict[str, Any] = Field(
        default_factory=dict, sa_type=JSON, description="task_type, difficulty, licence, origin."
    )


class Evaluation(SQLModel, table=True):
    """One model over one suite."""

    __tablename__ = "evaluation"

    id: UUID = Field(default_factory=new_id, primary_key=True)
    run_id: UUID | None = Field(default=None, foreign_key="run.id")
    suite_id: UUID = Field(foreign_key="suite.id", index=True)
    model_version_id: UUID | None = Field(default=None, foreign_key="model_version.id", index=True)
    subject: str = Field(description="Name of what was evaluated: a model version or recorded run.")
    samples_per_task: int = 1
    n_samples: int = 0
    n_lost: int = Field(default=0, description="Answers that are missing; counted apart.")
    success_rate: float | None = Field(default=None, description="Mean over tasks, 0-1.")
    ci_low: float | None = None
    ci_high: float | None = None
    tokens_per_s: float | None = None
    settings: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    sandbox: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    created_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))


class Sample(SQLModel, table=True):
    """One answer to one task."""

    __tablename__ = "sample"
    __table_args__ = (Index("ix_sample_evaluation_id", "evaluation_id"),)

    id: UUID = Field(default_factory=new_id, primary_key=True)
    evaluation_id: UUID = Field(foreign_key="evaluation.id")
    suite_task_id: UUID = Field(foreign_key="suite_task.id")
    number: int = 0
    answer: str
    passed: bool | None = Field(default=None, description="None for a lost answer.")
    status: str
    score: float | None = None
    detail: str | None = None


class Verdict(SQLModel, table=True):
    """Candidate against baseline on the same tasks, paired."""

    __tablename__ = "verdict"

    id: UUID = Field(default_factory=new_id, primary_key=True)
    role: str = Field(index=True)
    suite_id: UUID = Field(foreign_key="suite.id")
    baseline_evaluation_id: UUID = Field(foreign_key="evaluation.id")
    candidate_evaluation_id: UUID = Field(foreign_key="evaluation.id")
    n_tasks: int
    improvement_points: float = Field(description="Candidate minus baseline, percentage points.")
    ci_low: float
    ci_high: float
    p_value: float
    speed_ratio: float | None = None
    outcome: str
    decision_id: UUID | None = Field(default=None, foreign_key="decision.id")
    created_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))
