"""What agents did: interactions, their payloads, feedback, and the counts of every hand-over.

`interaction` and `interaction_payload` are range-partitioned by the UUIDv7 id (weekly, see
`collector.partitions`), so that uniqueness stays on the id alone and each part of the log can be
dropped whole at the end of its own retention. Nothing has a foreign key to them: feedback may
arrive before its record, and payloads may expire before the examples made of them.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Column, DateTime, Index
from sqlmodel import Field, SQLModel

from foundation.database import JSON
from foundation.ids import new_id
from foundation.tables import now

SUCCESS, ERROR, CUT = "success", "error", "cut"
"""Status of an interaction: answered, failed, or a stream that ended early."""


class Interaction(SQLModel, table=True):
    """One LLM call by an agent role; flat columns follow OpenTelemetry GenAI, with underscores."""

    __tablename__ = "interaction"
    __table_args__ = (
        Index("ix_interaction_role_ingested_at", "role", "ingested_at"),
        Index("ix_interaction_episode_id", "episode_id"),
        {"postgresql_partition_by": "RANGE (id)"},
    )

    id: UUID = Field(default_factory=new_id, primary_key=True)
    role: str
    task_type: str | None = None
    project: str = "default"
    episode_id: UUID | None = None
    parent_id: UUID | None = Field(
        default=None, description="The interaction that caused this one."
    )
    unit_id: str | None = Field(default=None, description="What sticky assignment goes by.")
    experiment_id: UUID | None = None
    arm: str | None = None
    model_version_id: UUID | None = None
    gen_ai_operation_name: str = "chat"
    gen_ai_provider_name: str | None = None
    gen_ai_request_model: str | None = None
    gen_ai_response_model: str | None = None
    gen_ai_response_id: str | None = None
    gen_ai_response_finish_reasons: list[str] | None = Field(default=None, sa_type=JSON)
    gen_ai_request_temperature: float | None = None
    gen_ai_request_max_tokens: int | None = None
    gen_ai_usage_input_tokens: int | None = None
    gen_ai_usage_output_tokens: int | None = None
    status: str = SUCCESS
    error_type: str | None = None
    completed: bool = Field(default=True, description="False for cut or abandoned streams.")
    latency_ms: float | None = None
    ttft_ms: float | None = Field(default=None, description="Time to the first token.")
    cost_usd: float | None = None
    usage_estimated: bool = False
    scrub: dict[str, Any] | None = Field(
        default=None,
        sa_type=JSON,
        description="Removed secrets and personal data, counted by kind.",
    )
    source: str = Field(default="client", description="client, gateway or import:<format>.")
    client_version: str | None = None
    started_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))
    ingested_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))


class InteractionPayload(SQLModel, table=True):
    """The exact OpenAI-shaped request and response: the source of truth for training."""

    __tablename__ = "interaction_payload"
    __table_args__ = ({"postgresql_partition_by": "RANGE (id)"},)

    id: UUID = Field(primary_key=True)
    request: dict[str, Any] = Field(sa_type=JSON)
    response: dict[str, Any] | None = Field(default=None, sa_type=JSON)
    attributes: dict[str, Any] | None = Field(
        default=None, sa_type=JSON, description="Free metadata of the caller."
    )


class Feedback(SQLModel, table=True):
    """An append-only statement about an interaction or an episode."""

    __tablename__ = "feedback"
    __table_args__ = (
        Index("ix_feedback_interaction_id", "interaction_id"),
        Index("ix_feedback_episode_id", "episode_id"),
        Index("ix_feedback_ingested_at", "ingested_at"),
    )

    id: UUID = Field(default_factory=new_id, primary_key=True)
    interaction_id: UUID | None = None
    episode_id: UUID | None = None
    kind: str = Field(
        description="rating, success, metric, category, comment, correction or preference."
    )
    name: str | None = Field(default=None, description="Metric or category name.")
    value: float | None = Field(
        default=None, description="Rating 1-5, success 0 or 1, or the metric's value."
    )
    text: str | None = Field(default=None, description="Comment, category or corrected answer.")
    loser_interaction_id: UUID | None = Field(default=None, description="Of a preference.")
    source: str = Field(default="human", description="human, test, judge, user or role.")
    actor: str | None = Field(default=None, description="Who said it, inside the source.")
    details: dict[str, Any] | None = Field(default=None, sa_type=JSON)
    scrub: dict[str, Any] | None = Field(default=None, sa_type=JSON)
    created_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))
    ingested_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))


class IngestCount(SQLModel, table=True):
    """Records of one source by what became of them: stored, duplicate, or rejected with a reason.

    With the client's own counts it closes the books: seen = stored + spooled + dropped with a
    reason.
    """

    __tablename__ = "ingest_count"

    source: str = Field(primary_key=True)
    outcome: str = Field(primary_key=True)
    n: int = Field(sa_column=Column(BigInteger, nullable=False, default=0))
