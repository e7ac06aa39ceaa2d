"""Who may look and decide: users, their sessions, one-time codes, and what each of them changed."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import DateTime, Index
from sqlmodel import Field, SQLModel

import router.tables  # noqa: F401  the tables of every lower room
from foundation.database import JSON
from foundation.ids import new_id
from foundation.tables import now


class User(SQLModel, table=True):
    """One person who may sign in."""

    __tablename__ = "admin_user"

    id: UUID = Field(default_factory=new_id, primary_key=True)
    name: str = Field(unique=True, description="What they sign in with, and are written as.")
    role: str = Field(description="viewer, reviewer, operator or admin.")
    password_hash: str | None = Field(
        default=None, description="Argon2id; None: they sign in with a code or through OIDC."
    )
    oidc_subject: str | None = Field(
        default=None, unique=True, description="Issuer and subject, of who comes through OIDC."
    )
    actor: str = Field(default="flywheel", description="Who made them.")
    created_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))
    disabled_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))
    seen_at: datetime | None = Field(
        default=None, sa_type=DateTime(timezone=True), description="When they last signed in."
    )


class UserSession(SQLModel, table=True):
    """One browser that is signed in; the database keeps the hash of what its cookie holds."""

    __tablename__ = "admin_session"

    token_hash: str = Field(primary_key=True, description="SHA-256 of the cookie, hexadecimal.")
    user_id: UUID = Field(foreign_key="admin_user.id", ondelete="CASCADE", index=True)
    via: str = Field(description="password, code or oidc.")
    address: str = Field(default="", description="Of who signed in.")
    agent: str = Field(default="", description="What their browser calls itself.")
    created_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))
    seen_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))
    expires_at: datetime = Field(sa_type=DateTime(timezone=True))


class SignInCode(SQLModel, table=True):
    """A one-time code, as the terminal prints it: it opens one session, once."""

    __tablename__ = "admin_sign_in_code"

    code_hash: str = Field(primary_key=True, description="SHA-256 of the code, hexadecimal.")
    user_id: UUID = Field(foreign_key="admin_user.id", ondelete="CASCADE")
    created_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))
    expires_at: datetime = Field(sa_type=DateTime(timezone=True))
    used_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))


class SignInAttempt(SQLModel, table=True):
    """Attempts to sign in that failed, or are under way, by name and by address."""

    __tablename__ = "admin_sign_in_attempt"

    subject: str = Field(
        primary_key=True, description="name:<hash of the name> or address:<address>."
    )
    starts_at: datetime = Field(
        sa_type=DateTime(timezone=True),
        primary_key=True,
        index=True,
        description="When it was; it counts for a quarter of an hour.",
    )
    n_failed: int = 0


class AuditEntry(SQLModel, table=True):
    """One change by a person: who, when, from where, what, and how it was before and after."""

    __tablename__ = "audit_entry"
    __table_args__ = (Index("ix_audit_entry_subject", "subject_kind", "subject_id"),)

    id: UUID = Field(default_factory=new_id, primary_key=True)
    actor: str = Field(index=True)
    role: str = Field(description="What they may do, as it was then.")
    action: str = Field(description="What was done, such as experiment.stop.")
    subject_kind: str = Field(default="")
    subject_id: str = Field(default="")
    before: dict[str, Any] | None = Field(default=None, sa_type=JSON)
    after: dict[str, Any] | None = Field(default=None, sa_type=JSON)
    reason: str | None = None
    via: str = Field(default="", description="password, code, oidc, key or command.")
    address: str = Field(default="", description="Where the request came from.")
    created_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))
