"""Tables of the ground floor: long jobs, decisions, and their vocabulary."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import DateTime, Index, text
from sqlmodel import Field, SQLModel

from foundation.database import JSON
from foundation.ids import new_id

QUEUED, RUNNING, DONE, FAILED, CANCELLED = "queued", "running", "done", "failed", "cancelled"
"""States of a run, in order; the last three are final."""


def now() -> datetime:
    """Return the present time in UTC."""
    return datetime.now(UTC)


class Run(SQLModel, table=True):
    """One long job: any worker can take it up again from its row."""

    __tablename__ = "run"
    __table_args__ = (
        Index(
            "ix_run_unfinished",
            "status",
            "heartbeat_at",
            postgresql_where=text("status IN ('queued', 'running')"),
        ),
        Index("ix_run_status", "status", "id"),
    )

    id: UUID = Field(default_factory=new_id, primary_key=True)
    kind: str = Field(index=True, description="Task name, such as trainer.train.")
    role: str | None = Field(default=None, description="Agent role the job works for.")
    status: str = Field(default=QUEUED)
    params: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    result: dict[str, Any] | None = Field(default=None, sa_type=JSON)
    progress: dict[str, Any] | None = Field(
        default=None, sa_type=JSON, description="done, total, unit and the latest measurements."
    )
    error: str | None = None
    attempts: int = 0
    worker: str | None = Field(default=None, description="host:pid of the worker that holds it.")
    traceparent: str | None = Field(
        default=None, description="W3C trace context of who ordered it: its spans go on from there."
    )
    created_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))
    started_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))
    heartbeat_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))
    finished_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))


class RunMeasure(SQLModel, table=True):
    """What a run measured at one point of its way: the live curves of a training."""

    __tablename__ = "run_measure"

    run_id: UUID = Field(foreign_key="run.id", ondelete="CASCADE", primary_key=True)
    done: float = Field(primary_key=True, description="How far it was, as its progress.")
    measures: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    attempt: int = Field(default=1, description="Start of the run that measured it.")
    measured_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))


class RunLog(SQLModel, table=True):
    """A line that a run's worker wrote while it did it; the newest few thousand are kept."""

    __tablename__ = "run_log"

    run_id: UUID = Field(foreign_key="run.id", ondelete="CASCADE", primary_key=True)
    id: UUID = Field(default_factory=new_id, primary_key=True)
    level: str
    message: str = Field(description="Scrubbed of secrets.")
    logged_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))


class SchemaCompat(SQLModel, table=True):
    """Which older code may go on working with a schema: each migration says it of its own."""

    __tablename__ = "schema_compat"

    revision: str = Field(primary_key=True, description="Of the schema.")
    oldest_code: str = Field(description="Revision of the oldest code that works with it.")
    made_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))


class Decision(SQLModel, table=True):
    """One automatic or human decision, with enough of its inputs to be replayed."""

    __tablename__ = "decision"

    id: UUID = Field(default_factory=new_id, primary_key=True)
    kind: str = Field(index=True, description="Rule name, such as trainer.should_train.")
    role: str | None = Field(default=None, index=True)
    inputs: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    rule: dict[str, Any] = Field(
        default_factory=dict, sa_type=JSON, description="Thresholds of the rule as they were."
    )
    outcome: str
    reasons: list[str] = Field(default_factory=list, sa_type=JSON)
    actor: str = Field(default="flywheel", description="Who decided: the product or a person.")
    subject_id: UUID | None = Field(default=None, index=True, description="The row decided about.")
    created_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))
