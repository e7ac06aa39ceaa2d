"""Who answers: who serves each role, experiments, their assignments, and promotions."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Column, DateTime, Identity, Index, UniqueConstraint, text
from sqlmodel import Field, SQLModel

import evaluator.tables  # noqa: F401  promotions point to decisions and model versions
from foundation.database import JSON
from foundation.ids import new_id
from foundation.tables import now

CONTROL, TREATMENT = "control", "treatment"
RUNNING, PROMOTED, STAYED = "running", "promoted", "stayed"
ROLLED_BACK, HALTED, STOPPED = "rolled_back", "halted", "stopped"


class Experiment(SQLModel, table=True):
    """A live comparison of two model versions for one role; at most one runs per role."""

    __tablename__ = "experiment"
    __table_args__ = (
        Index(
            "uq_experiment_running_role",
            "role",
            unique=True,
            postgresql_where=text("status = 'running'"),
        ),
    )

    id: UUID = Field(default_factory=new_id, primary_key=True)
    role: str = Field(index=True)
    control_model_version_id: UUID = Field(foreign_key="model_version.id")
    treatment_model_version_id: UUID = Field(foreign_key="model_version.id")
    treatment_share: float = 0.5
    salt: str
    plan: dict[str, Any] = Field(
        default_factory=dict, sa_type=JSON, description="Thresholds, fixed when it starts."
    )
    status: str = RUNNING
    state: dict[str, Any] = Field(
        default_factory=dict, sa_type=JSON, description="Latest evidence: wins, losses, e-values, …"
    )
    decision_id: UUID | None = Field(default=None, foreign_key="decision.id")
    started_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))
    ended_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))


class Assignment(SQLModel, table=True):
    """One unit (episode) of an experiment: its arm, fixed before its first call; its outcome."""

    __tablename__ = "assignment"
    __table_args__ = (
        UniqueConstraint("experiment_id", "unit"),
        Index("ix_assignment_open", "experiment_id", postgresql_where=text("outcome IS NULL")),
    )

    id: UUID = Field(default_factory=new_id, primary_key=True)
    experiment_id: UUID = Field(foreign_key="experiment.id")
    sequence: int | None = Field(
        default=None,
        sa_column=Column(BigInteger, Identity(), nullable=False),
        description="Order of assignment: what pairs are formed by.",
    )
    unit: str
    arm: str
    stratum: str = Field(default="", description="task type and day")
    assigned_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))
    n_calls: int = 0
    n_errors: int = 0
    n_slow: int = Field(default=0, description="Calls over the latency limit.")
    outcome: bool | None = Field(default=None, description="Success; None until known.")
    outcome_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))
    timed_out: bool = False
    late_at: datetime | None = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        description="When feedback came that decides a unit which had timed out.",
    )


class Promotion(SQLModel, table=True):
    """A change of who serves a role: a promotion or a rollback."""

    __tablename__ = "promotion"

    id: UUID = Field(default_factory=new_id, primary_key=True)
    role: str = Field(index=True)
    kind: str = Field(description="initial, promote or rollback.")
    from_model_version_id: UUID | None = Field(default=None, foreign_key="model_version.id")
    to_model_version_id: UUID = Field(foreign_key="model_version.id")
    experiment_id: UUID | None = Field(default=None, foreign_key="experiment.id")
    decision_id: UUID | None = Field(default=None, foreign_key="decision.id")
    reason: str
    actor: str = "flywheel"
    created_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))


class RoleServing(SQLModel, table=True):
    """The model version that serves a role now; the row is locked by every change."""

    __tablename__ = "role_serving"

    role: str = Field(primary_key=True)
    model_version_id: UUID = Field(foreign_key="model_version.id")
    promotion_id: UUID = Field(foreign_key="promotion.id")
    updated_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))
