"""Who answers: who serves each role, experiments and promotions; and who may ask, for how much."""

from datetime import date, datetime
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

AB, HOLD_BACK = "ab", "hold_back"
"""Kinds of an Experiment: is the treatment better; is what was promoted still no worse."""

EPISODE, USER, AGENT = "episode", "user", "agent"
"""What a unit of an experiment is; the last two are sticky and analysed per unit."""

OFF, ASSISTED, ON = "off", "assisted", "on"
"""What a role's `auto_promote` may be: only propose, wait for one click, act alone."""


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
    kind: str = Field(default=AB, description="ab or hold_back.")
    unit_kind: str = Field(default=EPISODE, description="episode, user or agent.")
    control_model_version_id: UUID = Field(foreign_key="model_version.id")
    treatment_model_version_id: UUID = Field(foreign_key="model_version.id")
    treatment_share: float = Field(default=0.5, description="Of the present phase; 0 is shadow.")
    phase: int = Field(default=0, description="Number of the present phase of its ramp.")
    salt: str
    plan: dict[str, Any] = Field(
        default_factory=dict, sa_type=JSON, description="Thresholds, fixed when it starts."
    )
    status: str = RUNNING
    state: dict[str, Any] = Field(
        default_factory=dict, sa_type=JSON, description="Latest evidence: wins, losses, e-values, …"
    )
    seen_xid: int | None = Field(
        default=None,
        sa_type=BigInteger,
        exclude=True,  # it says nothing outside of this database
        description="Transaction from which on feedback was not looked at; null: all of it.",
    )
    decision_id: UUID | None = Field(default=None, foreign_key="decision.id")
    proposed_at: datetime | None = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        description="When it was proven and left to a person, by the role's auto_promote.",
    )
    started_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))
    ended_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))


class ExperimentPhase(SQLModel, table=True):
    """One step of an experiment's ramp: the share of units that its treatment got, and since when.

    The split is checked per phase, since it is another one in each.
    """

    __tablename__ = "experiment_phase"

    experiment_id: UUID = Field(foreign_key="experiment.id", primary_key=True)
    number: int = Field(primary_key=True)
    share: float
    reason: str = ""
    started_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))


class ExperimentLook(SQLModel, table=True):
    """What was known of an experiment at one look that saw something new: evidence against time."""

    __tablename__ = "experiment_look"

    experiment_id: UUID = Field(foreign_key="experiment.id", primary_key=True)
    looked_at: datetime = Field(
        default_factory=now, sa_type=DateTime(timezone=True), primary_key=True
    )
    phase: int = 0
    n_treatment: int = Field(default=0, description="Units with a known outcome.")
    n_control: int = 0
    e_value: float | None = Field(default=None, description="Of better, as its rule reads it.")
    needed_e: float | None = Field(default=None, description="What decides.")
    estimate: float | None = Field(default=None, description="Treatment minus control.")
    low: float | None = Field(default=None, description="Of its confidence sequence.")
    high: float | None = None
    split_e: float | None = Field(default=None, description="Against 'split as planned'.")


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
    stratum: str = Field(default="", description="Task type, difficulty and day.")
    phase: int = Field(default=0, description="Of the experiment's ramp when it was assigned.")
    assigned_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))
    n_calls: int = 0
    n_errors: int = 0
    n_slow: int = Field(default=0, description="Calls over the latency limit.")
    n_refusals: int = Field(default=0, description="Calls that the model would not answer.")
    n_tool_calls: int = Field(default=0, description="Tool calls in its answers.")
    n_bad_tool_calls: int = Field(
        default=0, description="Of them, of an unknown tool or with arguments that are no JSON."
    )
    n_fallbacks: int = Field(default=0, description="Calls that another model answered in the end.")
    cost_usd: float = 0.0
    tokens: int = Field(default=0, sa_type=BigInteger, description="Of prompts and answers.")
    n_tasks: int = Field(default=0, description="Of a sticky unit: tasks with a known outcome.")
    n_successes: int = Field(default=0, description="Of a sticky unit: tasks that succeeded.")
    score: float | None = Field(default=None, description="0-1, where outcomes are scores.")
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


class GuardWatch(SQLModel, table=True):
    """What the guard has seen of one promotion, and up to where it has read the log."""

    __tablename__ = "guard_watch"

    promotion_id: UUID = Field(foreign_key="promotion.id", primary_key=True)
    state: dict[str, Any] = Field(
        default_factory=dict, sa_type=JSON, description="Limits, counts and evidence by check."
    )
    watermark: dict[str, Any] = Field(
        default_factory=dict, sa_type=JSON, description="Snapshot of transactions last read in."
    )
    updated_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))


class RolePolicy(SQLModel, table=True):
    """What the router may do for a role by itself; a role without a row has the defaults."""

    __tablename__ = "role_policy"

    role: str = Field(primary_key=True)
    auto_promote: str = Field(default=ON, description="off, assisted or on.")
    hold_back_share: float = Field(
        default=0.05, description="Of units that stay with the version before, after a promotion."
    )
    emergency_since: datetime | None = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        description="Since when everything of the role goes to the baseline, whatever runs.",
    )
    baseline_model_version_id: UUID | None = Field(
        default=None,
        foreign_key="model_version.id",
        description="What an emergency stop sends everything to; None: the version before.",
    )
    settings: dict[str, Any] = Field(
        default_factory=dict, sa_type=JSON, description="Cooldown, guard limits, who may call what."
    )
    actor: str = "flywheel"
    updated_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))


class GatewayKey(SQLModel, table=True):
    """A key: only its hash is kept; what it opens, what it may ask for, and how much of it."""

    __tablename__ = "gateway_key"

    id: UUID = Field(default_factory=new_id, primary_key=True)
    name: str = Field(unique=True)
    prefix: str = Field(description="Its first characters, to tell keys apart.")
    key_hash: str = Field(unique=True, description="SHA-256 of the key, hexadecimal.")
    kind: str = Field(default="agent", description="Who carries it: agent, user or service.")
    roles: list[str] | None = Field(default=None, sa_type=JSON, description="None: every role.")
    projects: list[str] | None = Field(
        default=None, sa_type=JSON, description="None: every project."
    )
    scopes: list[str] | None = Field(
        default=None, sa_type=JSON, description="What it opens; None: the gateway alone."
    )
    limits: dict[str, Any] = Field(
        default_factory=dict, sa_type=JSON, description="Requests, tokens and dollars; see limits."
    )
    actor: str = "flywheel"
    created_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))
    expires_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))
    revoked_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))
    previous_hash: str | None = Field(
        default=None, description="Of the secret before the last rotation, while it opens still."
    )
    previous_expires_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))
    last_used_at: datetime | None = Field(
        default=None, sa_type=DateTime(timezone=True), description="To about a minute."
    )


class BudgetLimit(SQLModel, table=True):
    """How much of a measure a scope may use in one window; the defaults hold where no row is."""

    __tablename__ = "budget_limit"

    scope: str = Field(primary_key=True, description="all, role:<role>, project:<name> or key:<id>")
    measure: str = Field(primary_key=True, description="tokens_per_day, cost_usd_per_month, …")
    amount: float
    actor: str = "flywheel"
    updated_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))


class BudgetWindow(SQLModel, table=True):
    """What a scope has used of a measure in one window, and what is promised to running calls."""

    __tablename__ = "budget_window"
    __table_args__ = (Index("ix_budget_window_starts_at", "starts_at"),)

    scope: str = Field(primary_key=True)
    measure: str = Field(primary_key=True)
    starts_at: datetime = Field(sa_type=DateTime(timezone=True), primary_key=True)
    used: float = 0.0
    leased: float = Field(default=0.0, description="Handed to gateway processes, not yet settled.")
    updated_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))


class BudgetLease(SQLModel, table=True):
    """A part of a window that one gateway process may hand out; what a killed one held lapses."""

    __tablename__ = "budget_lease"
    __table_args__ = (Index("ix_budget_lease_window", "scope", "measure", "starts_at"),)

    id: UUID = Field(default_factory=new_id, primary_key=True)
    scope: str
    measure: str
    starts_at: datetime = Field(sa_type=DateTime(timezone=True))
    amount: float
    process_id: UUID
    expires_at: datetime = Field(sa_type=DateTime(timezone=True))


class UsageDay(SQLModel, table=True):
    """What was asked and what it cost, summed up by day, role, project, model and key."""

    __tablename__ = "usage_day"

    day: date = Field(primary_key=True)
    role: str = Field(primary_key=True)
    project: str = Field(primary_key=True)
    model: str = Field(primary_key=True)
    key_name: str = Field(default="", primary_key=True, description="Empty: no key of the gateway.")
    n_calls: int = Field(default=0, sa_type=BigInteger)
    n_errors: int = Field(default=0, sa_type=BigInteger)
    n_cached: int = Field(default=0, sa_type=BigInteger, description="Answered by the cache.")
    n_estimated: int = Field(
        default=0, sa_type=BigInteger, description="Calls whose tokens nobody stated."
    )
    n_unpriced: int = Field(
        default=0, sa_type=BigInteger, description="Calls with tokens of a model without a price."
    )
    input_tokens: int = Field(default=0, sa_type=BigInteger)
    output_tokens: int = Field(default=0, sa_type=BigInteger)
    cost_usd: float = 0.0


class GatewayProcess(SQLModel, table=True):
    """A gateway process as it last reported: its upstreams' health and its counters."""

    __tablename__ = "gateway_process"

    id: UUID = Field(default_factory=new_id, primary_key=True)
    host: str
    pid: int
    state: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    started_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))
    seen_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))


class SpecialistFit(SQLModel, table=True):
    """What was learned from outcomes about which model suits which kind of task of a role."""

    __tablename__ = "specialist_fit"

    id: UUID = Field(default_factory=new_id, primary_key=True)
    role: str = Field(index=True)
    n_outcomes: int
    fitted: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    report: dict[str, Any] = Field(
        default_factory=dict, sa_type=JSON, description="How well it did on outcomes held out."
    )
    decision_id: UUID | None = Field(default=None, foreign_key="decision.id")
    created_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))
