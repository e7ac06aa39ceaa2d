"""Which of it is worth learning: examples, their evidence, datasets, preference pairs, reviews.

Of each distinct compared text there is one `IndexedText`, found by the band keys of its MinHash
(`TEXT_BAND`); verified likenesses are `TextEdge`s. Verdicts (`Example.status`) follow from them.
Nothing has a foreign key to the log: payloads may expire before the examples made of them.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Index,
    LargeBinary,
    Table,
    UniqueConstraint,
    text,
)
from sqlmodel import Field, SQLModel

import collector.tables  # noqa: F401  the log that examples are made of
from foundation.database import JSON
from foundation.ids import new_id
from foundation.tables import now

KEPT, DROPPED = "kept", "dropped"
TRAIN, VALIDATION, TEST = "train", "validation", "test"
SFT, PREFERENCE, EVAL = "sft", "preference", "eval"
POSITIVE, NEGATIVE, LOST, UNJUDGED = "positive", "negative", "lost", "unjudged"
"""Polarity: proven good, proven or marked bad, nothing was answered, nobody said anything."""


class Example(SQLModel, table=True):
    """A curated item: its own copy of the text, its scores, and why it was kept or dropped."""

    __tablename__ = "example"
    __table_args__ = (
        UniqueConstraint("interaction_id", "variant"),
        Index("ix_example_role_status", "role", "variant", "status", "id"),
        Index("ix_example_text_id", "text_id"),
        Index("ix_example_cluster_id", "cluster_id"),
        Index("ix_example_episode_id", "episode_id"),
        Index("ix_example_split_key", "role", "variant", "split_key"),
        Index(
            "ix_example_protection",
            *("role", "variant", "protection", "id"),
            postgresql_where=text("status = 'kept' OR drop_reason = 'over_quota'"),
        ),
        Index(
            "ix_example_dropped",
            *("role", "variant", "drop_reason", "id"),
            postgresql_where=text("status = 'dropped'"),
        ),
        Index(
            "ix_example_over_quota",
            *("role", "variant"),
            postgresql_where=text("drop_reason = 'over_quota'"),
        ),
        Index(
            "ix_example_task_key",
            text("(scores->>'task_key')"),
            postgresql_where=text("scores->>'task_key' IS NOT NULL"),
        ),
        Index(
            "ix_example_unsettled",
            *("role", "variant", "id"),
            postgresql_where=text("needs_settling"),
        ),
        Index(
            "ix_example_needs_judging",
            *("role", "variant", "id"),
            postgresql_where=text("needs_judging"),
        ),
    )

    id: UUID = Field(default_factory=new_id, primary_key=True)
    role: str
    interaction_id: UUID
    variant: str = Field(
        default="default", description="Curation profile: default, or unverified for the control."
    )
    episode_id: UUID | None = None
    project: str = "default"
    task_type: str | None = None
    difficulty: str | None = Field(default=None, description="easy, medium or hard.")
    language: str | None = Field(default=None, description="Of the prose: ISO 639-1.")
    code_language: str | None = Field(default=None, description="Of the answer's code.")
    prompt: list[dict[str, Any]] = Field(sa_type=JSON, description="Messages before the answer.")
    answer: str
    answer_message: dict[str, Any] | None = Field(
        default=None, sa_type=JSON, description="The whole message, where text alone loses some."
    )
    corrected: bool = Field(default=False, description="Whether the answer is a human correction.")
    polarity: str = Field(default=UNJUDGED, description="positive, negative, lost or unjudged.")
    status: str = KEPT
    drop_reason: str | None = None
    duplicate_of: UUID | None = Field(default=None, description="The kept example it repeats.")
    similarity: float | None = Field(default=None, description="Exact Jaccard to duplicate_of.")
    score: float | None = Field(default=None, description="Quality in 0-1, calibrated.")
    scores: dict[str, Any] = Field(default_factory=dict, sa_type=JSON, description="Its parts.")
    disagreement: float | None = Field(
        default=None, description="How far its signals lie apart, 0-1; None: fewer than two."
    )
    reviewed: str | None = Field(
        default=None, description="accepted, rejected or edited by a person; None: not looked at."
    )
    text_id: int | None = Field(
        default=None,
        sa_column=Column(BigInteger, nullable=True),
        description="Its compared text; None: ruled out before it was compared.",
    )
    prompt_text_id: int | None = Field(
        default=None, sa_column=Column(BigInteger, nullable=True, index=True)
    )
    norm_hash: str = Field(description="SHA-256 of the normalised text.")
    row_hash: str = Field(default="", description="SHA-256 of what a dataset row of it says.")
    cluster_id: UUID | None = Field(default=None, description="Anchor of its duplicate cluster.")
    split: str = Field(default=TRAIN)
    split_key: str = Field(default="", description="What the split was drawn by.")
    n_tokens: int = Field(default=0, description="Words and punctuation marks, a cheap estimate.")
    protection: str = Field(
        default="", description="Digest of the protected texts that it was last held against."
    )
    source_xid: int | None = Field(
        default=None,
        sa_column=Column(BigInteger, nullable=True),
        description="Transaction that wrote the interaction as it was judged.",
    )
    needs_judging: bool = Field(default=False, description="A person or a rule changed its basis.")
    needs_settling: bool = Field(default=False, description="Its duplicates are open again.")
    started_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))
    created_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))


class IndexedText(SQLModel, table=True):
    """A distinct compared text of one role and variant: a whole example, or a prompt alone."""

    __tablename__ = "indexed_text"

    id: int = Field(
        sa_column=Column(BigInteger, primary_key=True, autoincrement=False),
        description="First 64 bits of the hash of role, variant, kind and text.",
    )
    role: str
    variant: str
    kind: str = Field(description="example or prompt.")
    signature_version: int = 1


TEXT_BAND = Table(
    "text_band",
    SQLModel.metadata,
    Column("key", BigInteger, nullable=False),
    Column("text_id", BigInteger, nullable=False),
    Index("ix_text_band_key", "key", postgresql_using="hash"),
)
"""The near-duplicate index in SQL: the band keys of each indexed text's MinHash.

Without a primary key, to be small (SQLModel would ask for one): a text's keys are written once,
when its `IndexedText` is, and found again from the text itself when they are to go.
"""


class TextEdge(SQLModel, table=True):
    """Two indexed texts found alike: the evidence of every near-duplicate verdict."""

    __tablename__ = "text_edge"
    __table_args__ = (Index("ix_text_edge_high", "high"),)

    low: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    high: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    kind: str = Field(description="near (verified), prompt (verified) or semantic (proposed).")
    similarity: float = Field(description="Exact Jaccard, or the cosine of a proposal.")
    rule_version: int = 1
    disposed: str | None = Field(
        default=None, description="Of a proposal: duplicate or distinct, by a rule or a person."
    )
    disposed_by: str | None = None
    created_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))


class TemplateText(SQLModel, table=True):
    """A text that many prompts or answers of a role repeat: left out when texts are compared."""

    __tablename__ = "template_text"
    __table_args__ = (UniqueConstraint("role", "digest"),)

    id: UUID = Field(default_factory=new_id, primary_key=True)
    role: str
    part: str = Field(description="prompt or answer.")
    digest: str = Field(description="SHA-256 of the normalised text.")
    text: str
    n_seen: int = Field(description="Texts of the sample that hold it.")
    share: float = Field(description="Of the sample that it was found in, 0-1.")
    active: bool = True
    found_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))


class CurationWatermark(SQLModel, table=True):
    """Up to where the log of a role has been looked at: every older transaction had ended."""

    __tablename__ = "curation_watermark"

    role: str = Field(primary_key=True)
    variant: str = Field(primary_key=True)
    seen_xid: int = Field(sa_column=Column(BigInteger, nullable=False))
    seen_until: datetime = Field(sa_type=DateTime(timezone=True))


class CurationBuild(SQLModel, table=True):
    """One pass from log to dataset, worked off in chunks by any number of workers."""

    __tablename__ = "curation_build"
    __table_args__ = (
        Index(
            "uq_curation_build_open",
            *("role", "variant"),
            unique=True,
            postgresql_where=text("finished_at IS NULL"),
        ),
    )

    id: UUID = Field(default_factory=new_id, primary_key=True)
    role: str
    variant: str
    kind: str = SFT
    recipe: dict[str, Any] = Field(sa_type=JSON)
    recipe_fingerprint: str
    everything: bool = Field(description="Whether the whole log is judged anew.")
    from_xid: int | None = Field(default=None, sa_column=Column(BigInteger, nullable=True))
    until_xid: int = Field(sa_column=Column(BigInteger, nullable=False))
    step: str = Field(default="judge", description="judge, compare, settle, publish or done.")
    counts: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    outcome: str | None = Field(default=None, description="published, unchanged or abandoned.")
    started_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))
    finished_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))


class CurationChunk(SQLModel, table=True):
    """Some rows of a build's step; whoever locks the row works it off in one transaction."""

    __tablename__ = "curation_chunk"
    __table_args__ = (
        UniqueConstraint("build_id", "step", "number"),
        Index(
            "ix_curation_chunk_open",
            *("build_id", "step"),
            postgresql_where=text("done_at IS NULL"),
        ),
    )

    id: UUID = Field(default_factory=new_id, primary_key=True)
    build_id: UUID = Field(foreign_key="curation_build.id", ondelete="CASCADE")
    step: str
    number: int
    ids: list[str] = Field(sa_type=JSON, description="Interactions to judge or texts to compare.")
    n_rows: int
    counts: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    done_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))


class JudgeCall(SQLModel, table=True):
    """An LLM judge's answer to one question, asked once and kept."""

    __tablename__ = "judge_call"

    key: str = Field(primary_key=True, description="Hash of model, rubric and what was judged.")
    model: str
    rubric: str
    interaction_id: UUID | None = Field(default=None, index=True)
    score: float | None = Field(default=None, description="0-1; None: no readable answer.")
    reason: str | None = None
    cost_usd: float | None = None
    created_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))


class Calibration(SQLModel, table=True):
    """A fitted map from raw scores to the chance of a trusted good outcome."""

    __tablename__ = "calibration"
    __table_args__ = (Index("ix_calibration_role", "role", "variant", "created_at"),)

    id: UUID = Field(default_factory=new_id, primary_key=True)
    role: str
    variant: str
    method: str = Field(description="isotonic, platt or identity (too few outcomes).")
    params: dict[str, Any] = Field(sa_type=JSON)
    n: int = Field(description="Trusted outcomes that it was fitted to.")
    brier_before: float | None = None
    brier_after: float | None = Field(default=None, description="Cross-validated.")
    created_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))


class Embedding(SQLModel, table=True):
    """The vectors of a text's chunks by one model; equal texts share them, being found by hash."""

    __tablename__ = "embedding"

    text_hash: str = Field(primary_key=True)
    model: str = Field(primary_key=True)
    vector: bytes = Field(
        sa_column=Column(LargeBinary, nullable=False), description="float16, chunk after chunk."
    )
    n_chunks: int = 1
    created_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))


class ProtectedText(SQLModel, table=True):
    """A benchmark's task, which no dataset may teach."""

    __tablename__ = "protected_text"
    __table_args__ = (UniqueConstraint("source", "item_id"),)

    id: UUID = Field(default_factory=new_id, primary_key=True)
    source: str = Field(description="suite:NAME@VERSION, or the name of a list.")
    item_id: str
    prompt: str
    solution: str = Field(default="", description="Reference answer, if there is one.")
    keys: list[str] = Field(
        default_factory=list,
        sa_type=JSON,
        description="Task keys, repositories and instance ids that are blocked by name.",
    )
    created_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))


class Contamination(SQLModel, table=True):
    """An example that repeats a protected text, how it was found, and how alike they are."""

    __tablename__ = "contamination"

    example_id: UUID = Field(primary_key=True)
    protected_id: UUID = Field(
        primary_key=True, foreign_key="protected_text.id", ondelete="CASCADE", index=True
    )
    method: str = Field(description="exact, ngram, near, identifier, rephrased or key.")
    similarity: float
    rule_version: int = 1
    created_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))


class PreferencePair(SQLModel, table=True):
    """Two answers to one task, the better one known from what really happened."""

    __tablename__ = "preference_pair"
    __table_args__ = (
        UniqueConstraint("winner_id", "loser_id", "basis", "variant"),
        Index("ix_preference_pair_role", "role", "variant", "status", "id"),
        Index("ix_preference_pair_loser_id", "loser_id"),
    )

    id: UUID = Field(default_factory=new_id, primary_key=True)
    role: str
    variant: str = "default"
    basis: str = Field(description="outcome, correction, human, rating, generated or constitution.")
    task_key: str = Field(description="What both answered: the caller's key or the prompt's hash.")
    project: str = "default"
    task_type: str | None = None
    winner_id: UUID = Field(description="Interaction; of a correction, the corrected one.")
    loser_id: UUID
    prompt: list[dict[str, Any]] = Field(sa_type=JSON)
    chosen: str
    rejected: str
    margin: float = Field(default=1.0, description="How sure, 0-1.")
    evidence: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    status: str = KEPT
    drop_reason: str | None = None
    split: str = TRAIN
    split_key: str = ""
    norm_hash: str
    row_hash: str = ""
    created_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))


class ConstitutionRevision(SQLModel, table=True):
    """What came of one training prompt under a drawn principle: a revised answer, or why none.

    A prompt goes through a constitution once. Texts are scrubbed. The pair, if there is one, is a
    `PreferencePair` of basis constitution.
    """

    __tablename__ = "constitution_revision"
    __table_args__ = (
        UniqueConstraint("role", "variant", "constitution", "task_key", "project"),
        Index("ix_constitution_revision_interaction_id", "interaction_id"),
        Index("ix_constitution_revision_run_id", "run_id"),
    )

    id: UUID = Field(default_factory=new_id, primary_key=True)
    role: str
    variant: str = "default"
    constitution: str = Field(description="Hash of the principles.")
    task_key: str
    project: str = "default"
    interaction_id: UUID = Field(description="Whose prompt it is.")
    run_id: UUID | None = Field(default=None, foreign_key="run.id")
    model: str = Field(description="Who criticised and revised.")
    principle: str = Field(description="Its name.")
    outcome: str = Field(description="revised, nothing_wrong, unchanged, unreadable or cut.")
    original: str = ""
    critique: str = ""
    revision: str | None = None
    n_calls: int = 0
    cost_usd: float = 0.0
    created_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))


class Dataset(SQLModel, table=True):
    """An immutable version of one role's examples or preference pairs."""

    __tablename__ = "dataset"
    __table_args__ = (UniqueConstraint("role", "kind", "variant", "number"),)

    id: UUID = Field(default_factory=new_id, primary_key=True)
    role: str = Field(index=True)
    kind: str = Field(default=SFT, description="sft, preference or eval.")
    variant: str = "default"
    number: int
    content_hash: str = Field(description="SHA-256 over its sorted rows and rule versions.")
    artifact_uri: str | None = None
    card: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    n_train: int = 0
    n_validation: int = 0
    n_test: int = 0
    run_id: UUID | None = Field(default=None, foreign_key="run.id")
    created_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))


class DatasetShard(SQLModel, table=True):
    """A file of a dataset's rows; versions that agree in a stretch of rows share its file."""

    __tablename__ = "dataset_shard"

    dataset_id: UUID = Field(primary_key=True, foreign_key="dataset.id", ondelete="CASCADE")
    split: str = Field(primary_key=True)
    position: int = Field(primary_key=True)
    shard: str = Field(index=True, description="SHA-256 of its rows.")
    n_rows: int
    uri: str = Field(description="Its artifact.")
    file: str = Field(default="rows.parquet", description="Name inside the artifact.")
    origin: str = Field(default="log", description="log, or the dataset that was mixed in.")


class ShardRow(SQLModel, table=True):
    """Which example (or preference pair) stands in a shard."""

    __tablename__ = "shard_row"

    shard: str = Field(primary_key=True)
    row_id: UUID = Field(primary_key=True, index=True)


class DatasetExample(SQLModel, table=True):
    """Membership of an example in a dataset version: a view over its shards, to read only."""

    __tablename__ = "dataset_example"
    __table_args__ = ({"info": {"is_view": True}},)

    dataset_id: UUID = Field(primary_key=True)
    example_id: UUID = Field(primary_key=True)
    split: str


class ReviewItem(SQLModel, table=True):
    """Something that waits for a person: an example, two answers to compare, a likeness."""

    __tablename__ = "review_item"
    __table_args__ = (
        UniqueConstraint("kind", "subject_id", "reason"),
        Index("ix_review_item_open", "role", "status", "priority"),
        Index("ix_review_item_subject_id", "subject_id"),
    )

    id: UUID = Field(default_factory=new_id, primary_key=True)
    role: str
    kind: str = Field(default="example", description="example, pair, likeness or sample.")
    subject_id: UUID = Field(
        description="The example or preference pair; of a likeness, a hash of its two texts; of a "
        "sample, one of the first answer."
    )
    other_id: UUID | None = Field(
        default=None,
        description="Of a likeness, its second example; of a sample, the other answer.",
    )
    reason: str = Field(
        description="random, uncertainty, disagreement, diversity, filter or semantic."
    )
    detail: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    priority: float = Field(default=0.0, description="Greater comes first.")
    n_wanted: int = Field(default=1, description="Labels of different reviewers that it needs.")
    status: str = Field(default="open", description="open, done or withdrawn.")
    assigned_to: str | None = None
    leased_by: str | None = None
    leased_until: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))
    created_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))


class ReviewLabel(SQLModel, table=True):
    """What one reviewer said about one item; undone labels stay, marked."""

    __tablename__ = "review_label"
    __table_args__ = (
        Index("ix_review_label_item_id", "item_id"),
        Index("ix_review_label_interaction_id", "interaction_id"),
        Index("ix_review_label_reviewer", "reviewer", "created_at"),
        Index("ix_review_label_created_at", "created_at"),
    )

    id: UUID = Field(default_factory=new_id, primary_key=True)
    item_id: UUID = Field(foreign_key="review_item.id", ondelete="CASCADE")
    interaction_id: UUID = Field(description="Whose answer was judged.")
    reviewer: str
    action: str = Field(description="accept, reject, edit, rate, relabel, compare or skip.")
    value: dict[str, Any] = Field(
        default_factory=dict,
        sa_type=JSON,
        description="rating; task_type, difficulty; answer and diff; winner and loser.",
    )
    reason: str | None = None
    seconds: float | None = Field(default=None, description="From lease to label.")
    undone_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))
    created_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))


class ReviewDraft(SQLModel, table=True):
    """What a reviewer had typed when they left."""

    __tablename__ = "review_draft"

    item_id: UUID = Field(primary_key=True, foreign_key="review_item.id", ondelete="CASCADE")
    reviewer: str = Field(primary_key=True)
    content: dict[str, Any] = Field(sa_type=JSON)
    saved_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))


class Erasure(SQLModel, table=True):
    """A removal at someone's request: what went, and what had been made of it."""

    __tablename__ = "erasure"

    id: UUID = Field(default_factory=new_id, primary_key=True)
    scope: str = Field(description="interaction, episode, unit or project.")
    subject_hash: str = Field(description="SHA-256 of what was named, which itself is not kept.")
    reason: str | None = None
    actor: str
    counts: dict[str, Any] = Field(sa_type=JSON)
    dataset_ids: list[str] = Field(sa_type=JSON, description="Versions that held it.")
    model_versions: list[str] = Field(
        default_factory=list, sa_type=JSON, description="Names of models that learned from it."
    )
    proof: dict[str, Any] | None = Field(
        default=None,
        sa_type=JSON,
        description="Digests of the names, suites that lost tasks, what a search found afterwards.",
    )
    created_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))
