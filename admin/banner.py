"""The banner of every page: the roles that an emergency stop holds, read with each page."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session, col

from foundation.database import session_scope
from foundation.errors import FlywheelError
from router.tables import RolePolicy


@dataclass(frozen=True)
class Stopped:
    """A role whose calls all go to its baseline."""

    role: str
    since: datetime
    version_id: UUID
    """Of the baseline."""


def stopped_roles(session: Session) -> Sequence[Stopped]:
    """Return the stopped roles by name; empty in ordinary times."""
    rows = session.scalars(
        select(RolePolicy)
        .where(col(RolePolicy.emergency_since).is_not(None))
        .order_by(col(RolePolicy.role))
    ).all()
    return [
        Stopped(row.role, row.emergency_since, UUID(row.settings["emergency_model_version_id"]))
        for row in rows
        if row.emergency_since is not None
    ]


def stopped_if_known() -> Sequence[Stopped]:
    """Return the stopped roles for a page that reads nothing else; empty if nobody can tell."""
    with suppress(SQLAlchemyError, FlywheelError), session_scope() as session:
        return stopped_roles(session)
    return ()


def names(stopped: Sequence[Stopped]) -> str:
    """Return what a page shows, to be compared with what holds later."""
    return ",".join(f"{one.role}@{one.since.timestamp():.0f}" for one in stopped)
