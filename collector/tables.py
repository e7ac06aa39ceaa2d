"""What agents did: interactions, their payloads, feedback, and the counts of every hand-over.

`interaction` and `interaction_payload` are range-partitioned by the UUIDv7 id (weekly, see
`collector.partitions`), so that uniqueness stays on the id alone and each part of the log can be
dropped whole at the end of its own retention. Nothing has a foreign key to them: feedback may
arrive before its record, and payloads may expire before the examples made of them.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Column, DateTime, Index, UniqueConstraint, text
from sqlalchemy.dialects import postgresql
from sqlmodel import Field, SQLModel

from foundation.database import JSON
from foundation.ids import new_id
from foundation.tables import now

SUCCESS, ERROR, CUT = "success", "error", "cut"
"""Status of an interaction: answered, failed, or a stream that ended early."""

WRITER = text("(pg_current_xact_id()::text)::bigint")
"""The transaction that writes a row. Commits come late and out of order; readers of what is new go
by the transactions that had ended when they last looked, which no clock and no id can tell."""

EXACT_JSON = postgresql.JSON(none_as_null=True)
"""JSON as it was written: the order of keys is part of a prompt, and `jsonb` does not keep it."""


def _where_not_null(name: str, column: str) -> Index:
    """An index of the rows that have the column at all."""
    return Index(name, column, postgresql_where=text(f"{column} IS NOT NULL"))


class Interaction(SQLModel, table=True):
    """One LLM call by an agent role; flat columns follow OpenTelemetry GenAI, with underscores."""

    __tablename__ = "interaction"
    __table_args__ = (
        Index("ix_interaction_role_ingested_at", "role", "ingested_at"),
        Index("ix_interaction_ingested_at", "ingested_at", postgresql_using="brin"),
        Index("ix_interaction_written_xid", "written_xid", postgresql_using="brin"),
        Index("ix_interaction_episode_id", "episode_id"),
        _where_not_null("ix_interaction_key", "key"),
        _where_not_null("ix_interaction_gen_ai_response_id", "gen_ai_response_id"),
        {"postgresql_partition_by": "RANGE (id)"},
    )

    id: UUID = Field(default_factory=new_id, primary_key=True)
    key: str | None = Field(default=None, description="The caller's own name of this call.")
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
    gen_ai_request_top_p: float | None = None
    gen_ai_request_seed: int | None = Field(default=None, sa_type=BigInteger)
    gen_ai_request_stream: bool | None = None
    gen_ai_conversation_id: str | None = None
    gen_ai_prompt_name: str | None = None
    gen_ai_prompt_version: str | None = None
    gen_ai_usage_input_tokens: int | None = None
    gen_ai_usage_output_tokens: int | None = None
    gen_ai_usage_cache_read_input_tokens: int | None = None
    gen_ai_usage_reasoning_output_tokens: int | None = None
    tool_schema_hash: str | None = Field(
        default=None, description="Of the tools offered, to tell their versions apart."
    )
    config_hash: str | None = Field(
        default=None, description="Of the caller's configuration (prompt, model, parameters)."
    )
    semconv_version: str | None = Field(
        default=None, description="Mapping that an OpenTelemetry span was read by."
    )
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
    scrub_version: str | None = Field(
        default=None, description="Version of the rules that it was last scrubbed by."
    )
    source: str = Field(
        default="client", description="client, gateway, otlp, campaign or import:<format>."
    )
    client_version: str | None = None
    key_id: UUID | None = Field(
        default=None, description="Key by which it came; None: the master key, or none was asked."
    )
    started_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))
    ingested_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))
    written_xid: int | None = Field(
        default=None,
        sa_column=Column(BigInteger, nullable=True, server_default=WRITER),
        description="Transaction that last wrote it; None: older than this column.",
    )


class InteractionPayload(SQLModel, table=True):
    """The exact OpenAI-shaped request and response: the source of truth for training."""

    __tablename__ = "interaction_payload"
    __table_args__ = ({"postgresql_partition_by": "RANGE (id)"},)

    id: UUID = Field(primary_key=True)
    request: dict[str, Any] = Field(sa_type=EXACT_JSON)
    response: dict[str, Any] | None = Field(default=None, sa_type=EXACT_JSON)
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
        Index("ix_feedback_written_xid", "written_xid"),
        Index(
            "ix_feedback_waiting_key",
            "interaction_key",
            postgresql_where=text("interaction_id IS NULL AND interaction_key IS NOT NULL"),
        ),
        Index(
            "ix_feedback_waiting_response_id",
            "response_id",
            postgresql_where=text("interaction_id IS NULL AND response_id IS NOT NULL"),
        ),
        Index(
            "ix_feedback_waiting_loser_key",
            "loser_interaction_key",
            postgresql_where=text(
                "loser_interaction_id IS NULL AND loser_interaction_key IS NOT NULL"
            ),
        ),
        Index(
            "ix_feedback_waiting_loser_response_id",
            "loser_response_id",
            postgresql_where=text("loser_interaction_id IS NULL AND loser_response_id IS NOT NULL"),
        ),
        _where_not_null("ix_feedback_derived_from", "derived_from"),
        _where_not_null("ix_feedback_loser_interaction_id", "loser_interaction_id"),
    )

    id: UUID = Field(default_factory=new_id, primary_key=True)
    project: str | None = Field(
        default=None, description="Where its keys are looked up; None: a response id everywhere."
    )
    interaction_id: UUID | None = None
    episode_id: UUID | None = None
    interaction_key: str | None = Field(
        default=None, description="The caller's name of the call; joined when the call is here."
    )
    response_id: str | None = Field(
        default=None, description="The provider's id of the answer; joined when the call is here."
    )
    kind: str = Field(
        description="rating, success, metric, category, comment, correction or preference."
    )
    name: str | None = Field(default=None, description="Metric or category name.")
    value: float | None = Field(
        default=None, description="Rating 1-5, success 0 or 1, or the metric's value."
    )
    text: str | None = Field(default=None, description="Comment, category or corrected answer.")
    loser_interaction_id: UUID | None = Field(default=None, description="Of a preference.")
    loser_interaction_key: str | None = None
    loser_response_id: str | None = None
    source: str = Field(default="human", description="human, test, judge, user or role.")
    actor: str | None = Field(default=None, description="Who said it, inside the source.")
    derived_from: UUID | None = Field(
        default=None, description="The feedback that a credit rule made this of."
    )
    details: dict[str, Any] | None = Field(default=None, sa_type=JSON)
    scrub: dict[str, Any] | None = Field(default=None, sa_type=JSON)
    scrub_version: str | None = None
    key_id: UUID | None = Field(
        default=None, description="Key by which it came; None: the master key, or none was asked."
    )
    created_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))
    ingested_at: datetime = Field(
        default_factory=now,
        sa_type=DateTime(timezone=True),
        description="When it came, or was joined to what it speaks of: what is new goes by it.",
    )
    written_xid: int | None = Field(
        default=None,
        sa_column=Column(BigInteger, nullable=True, server_default=WRITER),
        description="Transaction that last wrote or joined it; None: older than this column.",
    )


class SourceTrust(SQLModel, table=True):
    """What a person said of a source of feedback; a source without a row is like any other."""

    __tablename__ = "source_trust"

    source: str = Field(primary_key=True, description="key:<id> or user:<actor>.")
    trust: str = Field(description="trusted or distrusted.")
    since: datetime | None = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        description="Distrusted: what came from then on is left out; None: all it ever said.",
    )
    reason: str
    actor: str = "flywheel"
    updated_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))


class IngestCount(SQLModel, table=True):
    """Records of one source by what became of them: stored, duplicate, or rejected with a reason.

    With the client's own counts it closes the books: seen = stored + spooled + dropped with a
    reason.
    """

    __tablename__ = "ingest_count"

    source: str = Field(primary_key=True)
    outcome: str = Field(primary_key=True)
    n: int = Field(sa_column=Column(BigInteger, nullable=False, default=0))


class SpoolAccount(SQLModel, table=True):
    """The books of one spool writer as it last reported them; the newest report replaces the last.

    seen = delivered + waiting + held + damaged + dropped, in records, over the writer's whole life.
    """

    __tablename__ = "spool_account"
    __table_args__ = (Index("ix_spool_account_source", "source"),)

    writer: str = Field(primary_key=True, description="Host, process and a random part.")
    source: str
    seen: int = Field(sa_column=Column(BigInteger, nullable=False, default=0))
    delivered: int = Field(sa_column=Column(BigInteger, nullable=False, default=0))
    waiting: int = Field(sa_column=Column(BigInteger, nullable=False, default=0))
    held: int = Field(sa_column=Column(BigInteger, nullable=False, default=0))
    damaged: int = Field(sa_column=Column(BigInteger, nullable=False, default=0))
    dropped: dict[str, Any] = Field(sa_type=JSON, description="Records by reason.")
    reported_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))


class DeadLetter(SQLModel, table=True):
    """A record that was refused, scrubbed, with the reason; replayed or discarded by a person."""

    __tablename__ = "dead_letter"
    __table_args__ = (
        UniqueConstraint("kind", "record_id", "code"),
        Index("ix_dead_letter_received_at", "received_at"),
    )

    id: UUID = Field(default_factory=new_id, primary_key=True)
    kind: str = Field(description="interaction or feedback.")
    record_id: str = Field(description="The record's id, or a hash of its text if it has none.")
    source: str
    code: str = Field(description="First word of the reason, which is counted.")
    reason: str
    record: str = Field(description="The record as JSON text: jsonb could not hold each of them.")
    received_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))
    settled_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))
    outcome: str | None = Field(default=None, description="stored, duplicate or discarded.")
    key_id: UUID | None = Field(default=None, description="Key by which it came, as of a record.")


class Metric(SQLModel, table=True):
    """A declared metric: which way is better, and what its values may be."""

    __tablename__ = "metric"

    name: str = Field(primary_key=True)
    direction: str = Field(description="max: more is better; min: less is.")
    low: float | None = Field(default=None, description="Least value accepted.")
    high: float | None = Field(default=None, description="Greatest value accepted.")
    description: str | None = None
    created_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))


class Media(SQLModel, table=True):
    """An image, sound or file of a message, kept once by its content hash among the artifacts."""

    __tablename__ = "media"

    content_hash: str = Field(primary_key=True, description="SHA-256 of the bytes, in hexadecimal.")
    uri: str = Field(description="Of the artifact.")
    media_type: str
    size_bytes: int = Field(sa_column=Column(BigInteger, nullable=False))
    created_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))


class Campaign(SQLModel, table=True):
    """An active collection: tasks and answers to be generated for one role."""

    __tablename__ = "campaign"

    id: UUID = Field(default_factory=new_id, primary_key=True)
    name: str = Field(unique=True)
    role: str
    spec: dict[str, Any] = Field(sa_type=JSON, description="Scrubbed.")
    spec_hash: str = Field(description="Of the specification as it was given.")
    scrub_version: str | None = Field(default=None, description="Rules that the texts passed.")
    status: str = Field(description="running, paused, done, failed or cancelled.")
    reason: str | None = Field(default=None, description="Why it is paused or has failed.")
    n_target: int
    n_done: int = 0
    n_duplicate: int = 0
    n_failed: int = 0
    cost_usd: float = 0.0
    report: dict[str, Any] | None = Field(default=None, sa_type=JSON)
    created_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))
    updated_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))


class CampaignItem(SQLModel, table=True):
    """One planned task of a campaign and what became of it."""

    __tablename__ = "campaign_item"
    __table_args__ = (UniqueConstraint("campaign_id", "number"),)

    id: UUID = Field(default_factory=new_id, primary_key=True)
    campaign_id: UUID = Field(foreign_key="campaign.id", ondelete="CASCADE")
    number: int = Field(description="Place in the plan, from 0.")
    topic: str | None = None
    difficulty: str | None = None
    model: str | None = None
    status: str = Field(description="planned, done, duplicate, failed.")
    task: str | None = None
    task_hash: str | None = Field(default=None, index=True)
    interaction_id: UUID | None = None
    passed: bool | None = None
    cost_usd: float | None = None
    detail: str | None = None


class OtelExport(SQLModel, table=True):
    """How far the log has been exported to one OpenTelemetry endpoint, of traces or of logs."""

    __tablename__ = "otel_export"

    endpoint: str = Field(primary_key=True)
    exported_until: datetime = Field(
        sa_type=DateTime(timezone=True), description="Newest ingested_at that was sent."
    )
    last_id: UUID | None = None
    unsettled: list[str] | None = Field(
        default=None,
        sa_type=JSON,
        description="Ids of newer ones that were sent, whose elders may not be committed yet.",
    )
    n_exported: int = Field(sa_column=Column(BigInteger, nullable=False, default=0))
