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
    description: str = ""
    frozen_at: datetime | None = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        description="From then on nothing changes; None: a draft, which may still grow.",
    )
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
        default_factory=dict,
        sa_type=JSON,
        description="task_type, difficulty, domain, family, licence, origin.",
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
    suite_hash: str = Field(default="", description="Content of the suite when it was answered.")
    metrics: dict[str, Any] = Field(
        default_factory=dict,
        sa_type=JSON,
        description="pass@k, style, latency, cost and what the graders measured, by name.",
    )
    settings: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    sandbox: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    created_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))


class Sample(SQLModel, table=True):
    """One answer to one task."""

    __tablename__ = "sample"
    __table_args__ = (
        Index("ix_sample_evaluation_id", "evaluation_id", "id"),
        # Whole, so that two evaluations are counted task by task without reading an answer.
        Index("ix_sample_outcome", "evaluation_id", "suite_task_id", "number", "passed", "status"),
    )

    id: UUID = Field(default_factory=new_id, primary_key=True)
    evaluation_id: UUID = Field(foreign_key="evaluation.id")
    suite_task_id: UUID = Field(foreign_key="suite_task.id")
    number: int = 0
    answer: str
    passed: bool | None = Field(default=None, description="None for a lost answer.")
    status: str
    score: float | None = None
    detail: str | None = None
    metrics: dict[str, Any] = Field(
        default_factory=dict, sa_type=JSON, description="What the grader measured beside the score."
    )
    output_tokens: float | None = None
    latency_ms: float | None = None
    ttft_ms: float | None = None


class CachedAnswer(SQLModel, table=True):
    """What a model answered to a prompt with one way of decoding: never asked twice."""

    __tablename__ = "cached_answer"

    key: str = Field(
        primary_key=True, description="Hash of model, prompt, decoding, seed and number."
    )
    model_hash: str = Field(index=True)
    text: str
    output_tokens: float | None = None
    latency_ms: float | None = None
    ttft_ms: float | None = None
    run_id: UUID | None = Field(default=None, foreign_key="run.id", index=True)
    created_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))


class Judgement(SQLModel, table=True):
    """What a judge said about one answer, or about two in one order: asked once and kept."""

    __tablename__ = "judgement"

    key: str = Field(primary_key=True, description="Hash of judge, rubric and what was judged.")
    judge: str
    kind: str = Field(description="pairwise or rubric.")
    rubric: str = Field(description="Name and version of the rubric.")
    task_hash: str
    first_hash: str = Field(description="Hash of the answer shown first, or of the only one.")
    second_hash: str | None = None
    said: str | None = Field(default=None, description="first, second or tie; None: unreadable.")
    score: float | None = Field(default=None, description="0-1, of a rubric.")
    reason: str | None = None
    cost_usd: float | None = None
    created_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))


class DriftWatch(SQLModel, table=True):
    """The evidence that a serving version fails more often than its reference says."""

    __tablename__ = "drift_watch"
    __table_args__ = (UniqueConstraint("role", "model_version_id"),)

    id: UUID = Field(default_factory=new_id, primary_key=True)
    role: str
    model_version_id: UUID = Field(foreign_key="model_version.id")
    reference_rate: float = Field(description="Success rate (0-1) that it is held against.")
    n_reference: int
    n: int = Field(default=0, description="Outcomes seen since.")
    n_failed: int = 0
    log_e: float = 0.0
    max_log_e: float = 0.0
    watermark: dict[str, Any] = Field(
        default_factory=dict, sa_type=JSON, description="Up to where the log was read."
    )
    alarm_decision_id: UUID | None = Field(default=None, foreign_key="decision.id")
    started_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))
    updated_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))


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
    report: dict[str, Any] = Field(
        default_factory=dict,
        sa_type=JSON,
        description="Slices, noise floor, forgetting, identity, judge and cost, as they were.",
    )
    decision_id: UUID | None = Field(default=None, foreign_key="decision.id")
    created_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))
