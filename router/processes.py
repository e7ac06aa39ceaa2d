"""The gateway processes as they last reported: for the health page, whichever of them shows it."""

import logging
import os
import socket
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import delete
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session, col, select

from foundation.database import session_scope
from foundation.errors import FlywheelError
from foundation.tables import now
from router.tables import GatewayProcess

log = logging.getLogger(__name__)

ALIVE: Final = timedelta(seconds=15)
"""A process that has said nothing for longer is not shown."""
FORGOTTEN: Final = timedelta(hours=1)


def tell(session: Session, process_id: UUID, state: Mapping[str, Any]) -> None:
    """Write down how this process is; those that were killed are forgotten after an hour."""
    moment = now()
    row = {"host": socket.gethostname(), "pid": os.getpid(), "state": state, "seen_at": moment}
    session.execute(
        insert(GatewayProcess)
        .values(id=process_id, started_at=moment, **row)
        .on_conflict_do_update(index_elements=["id"], set_={"state": state, "seen_at": moment})
    )
    session.execute(delete(GatewayProcess).where(col(GatewayProcess.seen_at) < moment - FORGOTTEN))


def forget(process_id: UUID) -> None:
    """Take a process that ends out of the list; a database that is away changes nothing."""
    try:
        with session_scope() as session:
            session.execute(delete(GatewayProcess).where(col(GatewayProcess.id) == process_id))
    except (SQLAlchemyError, FlywheelError) as error:
        log.warning("process %s stays in the list: %s", process_id, error)


def here(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return this process as the health page takes it."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "seen": "now", **state}


def alive(session: Session, besides: UUID) -> list[dict[str, Any]]:
    """Return the other processes that live, as the health page takes them."""
    moment = now()
    rows = session.exec(
        select(GatewayProcess)
        .where(GatewayProcess.seen_at > moment - ALIVE, GatewayProcess.id != besides)
        .order_by(col(GatewayProcess.started_at))
    ).all()
    return [
        {"host": row.host, "pid": row.pid, "seen": _ago(moment, row.seen_at), **row.state}
        for row in rows
    ]


def _ago(moment: datetime, seen_at: datetime) -> str:
    return f"{max(0.0, (moment - seen_at).total_seconds()):.0f} s ago"
