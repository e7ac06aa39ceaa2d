"""Wire shapes of the ingest API, server side. The client builds the same by `collector.record`."""

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from collector.record import FEEDBACK_KINDS, FEEDBACK_SOURCES
from foundation.settings import get_settings
from foundation.tables import now

MAX_BATCH = 5_000
"""Records of one batch; a larger one is refused whole and the client splits it."""

Count = Annotated[int, Field(ge=0, lt=2**31)]
Total = Annotated[int, Field(ge=0, lt=2**63)]
Whole = Annotated[int, Field(ge=-(2**63), lt=2**63)]
MAX_NAME = 500
Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
Label = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
"""A short text of ours that PostgreSQL can hold."""


class InteractionRecord(BaseModel):
    """One LLM call: every column of `Interaction` that a writer may set, and the payload."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, protected_namespaces=())

    id: UUID
    key: Name | None = None
    role: Name
    task_type: Name | None = None
    project: Name = Field(default_factory=lambda: get_settings().project)
    episode_id: UUID | None = None
    parent_id: UUID | None = None
    unit_id: Name | None = None
    experiment_id: UUID | None = None
    arm: Name | None = None
    model_version_id: UUID | None = None
    gen_ai_operation_name: Name = "chat"
    gen_ai_provider_name: Name | None = None
    gen_ai_request_model: Name | None = None
    gen_ai_response_model: Name | None = None
    gen_ai_response_id: Name | None = None
    gen_ai_response_finish_reasons: list[str] | None = None
    gen_ai_request_temperature: float | None = None
    gen_ai_request_max_tokens: Count | None = None
    gen_ai_request_top_p: float | None = None
    gen_ai_request_seed: Whole | None = None
    gen_ai_request_stream: bool | None = None
    gen_ai_conversation_id: Name | None = None
    gen_ai_prompt_name: Name | None = None
    gen_ai_prompt_version: Name | None = None
    gen_ai_usage_input_tokens: Count | None = None
    gen_ai_usage_output_tokens: Count | None = None
    gen_ai_usage_cache_read_input_tokens: Count | None = None
    gen_ai_usage_reasoning_output_tokens: Count | None = None
    tool_schema_hash: Name | None = None
    config_hash: Name | None = None
    semconv_version: Name | None = None
    status: Literal["success", "error", "cut"] = "success"
    error_type: str | None = None
    completed: bool = True
    latency_ms: float | None = Field(default=None, ge=0)
    ttft_ms: float | None = Field(default=None, ge=0)
    cost_usd: float | None = Field(default=None, ge=0)
    usage_estimated: bool = False
    scrub: dict[str, int] | None = None
    scrub_version: Name | None = None
    source: Name = "client"
    client_version: Name | None = None
    started_at: AwareDatetime = Field(default_factory=now)
    request: dict[str, Any]
    response: dict[str, Any] | None = None
    attributes: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _ordered_by_time(self) -> "InteractionRecord":
        if self.id.version != 7:
            raise ValueError("id must be a UUIDv7: the log is partitioned by the time inside it")
        return self


class FeedbackRecord(BaseModel):
    """One statement about an interaction or an episode: the columns of `Feedback` a writer sets."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    id: UUID
    project: Name | None = None
    interaction_id: UUID | None = None
    interaction_key: Name | None = None
    response_id: Name | None = None
    episode_id: UUID | None = None
    episode_key: Name | None = Field(default=None, exclude=True)
    kind: str
    name: Name | None = None
    value: float | None = None
    text: str | None = None
    loser_interaction_id: UUID | None = None
    loser_interaction_key: Name | None = None
    loser_response_id: Name | None = None
    source: str = "human"
    actor: Name | None = None
    details: dict[str, Any] | None = None
    scrub: dict[str, int] | None = None
    scrub_version: Name | None = None
    created_at: AwareDatetime = Field(default_factory=now)

    @model_validator(mode="after")
    def _addressed(self) -> "FeedbackRecord":
        """Settle what the caller's own keys mean; an episode's is its id by now (`admission`)."""
        if self.interaction_key or self.loser_interaction_key:
            self.project = self.project or get_settings().project
        if self.interaction_id is None and _names_a_call(self):
            # While it waits for its call it must not pass for a word on the whole episode.
            self.episode_id = None
        return self

    @model_validator(mode="after")
    def _says_something(self) -> "FeedbackRecord":
        fault = feedback_fault(self)
        if fault is not None:
            raise ValueError(fault)
        return self


def feedback_fault(record: FeedbackRecord) -> str | None:
    """Return what a feedback statement lacks for its kind, or None."""
    if record.kind not in FEEDBACK_KINDS:
        return f"kind {record.kind!r} is not one of {', '.join(FEEDBACK_KINDS)}"
    if record.source not in FEEDBACK_SOURCES:
        return f"source {record.source!r} is not one of {', '.join(FEEDBACK_SOURCES)}"
    if record.interaction_id is None and record.episode_id is None and not _names_a_call(record):
        return (
            "what it speaks of is needed: interaction_id, interaction_key, response_id, "
            "episode_id or episode_key"
        )
    return _value_fault(record)


def _names_a_call(record: FeedbackRecord) -> bool:
    return record.interaction_key is not None or record.response_id is not None


def _names_a_loser(record: FeedbackRecord) -> bool:
    named = record.loser_interaction_id, record.loser_interaction_key, record.loser_response_id
    return any(name is not None for name in named)


def _value_fault(record: FeedbackRecord) -> str | None:
    match record.kind:
        case "rating" if record.value is None or not 1 <= record.value <= 5:
            return "a rating needs a value from 1 to 5"
        case "success" if record.value not in (0, 1):
            return "a success needs the value 0 or 1"
        case "metric" if record.value is None or not record.name:
            return "a metric needs a name and a value"
        case "comment" | "correction" | "category" if not record.text:
            return f"a {record.kind} needs a text"
        case "preference" if not _names_a_loser(record) or (
            record.interaction_id is None and not _names_a_call(record)
        ):
            return (
                "a preference needs interaction_id (the winner) and loser_interaction_id, "
                "or their keys or response ids"
            )
    return None


class Account(BaseModel):
    """The books of one spool writer over its whole life, in records."""

    writer: Label
    seen: Total
    delivered: Total
    waiting: Total
    held: Total = 0
    damaged: Total = 0
    dropped: dict[Label, Total] = Field(default_factory=dict, description="By reason.")


class BatchHead(BaseModel):
    """Who sends a batch and how its books stand: the first line of an NDJSON body."""

    source: Label
    dropped: dict[Label, Count] = Field(
        default_factory=dict,
        description="Records the writer dropped since its last batch, by reason, if it keeps no "
        "account.",
    )
    account: Account | None = None


class IngestBatch(BatchHead):
    """Records of one client instance. Each is checked on its own, so they come as any JSON."""

    interactions: list[Any] = Field(default_factory=list, max_length=MAX_BATCH)
    feedback: list[Any] = Field(default_factory=list, max_length=MAX_BATCH)


class RecordResult(BaseModel):
    """What became of one record; `reason` starts with a code that is counted, then a colon."""

    id: str
    status: Literal["stored", "duplicate", "rejected"]
    reason: str | None = None


class IngestAnswer(BaseModel):
    """One result per record in the order of the body: of JSON, interactions before feedback."""

    results: list[RecordResult]


class SourceCounts(BaseModel):
    """Records of one source by outcome: stored, duplicate, rejected:<code>."""

    source: str
    counts: dict[str, int]
