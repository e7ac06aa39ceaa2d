"""The scheduler: what must happen by itself, on one leader at a time.

Several may run; a PostgreSQL advisory lock lets one lead, and another takes over when it dies.
Each duty is a plain function with a period; a duty that fails is logged and tried at its next turn.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

import flywheel.worker  # noqa: F401  the sweeper must know every room's jobs
from collector.partitions import ensure_partitions
from collector.tasks import join
from evaluator.drift import watch_all
from flywheel.adapters import keep_adapters_loaded
from flywheel.scheduling import tick
from foundation.database import get_engine, session_scope
from foundation.errors import FlywheelError
from foundation.queue import forget_delivered
from foundation.runs import sweep
from foundation.settings import get_settings
from foundation.tables import now
from router.tasks import watch

log = logging.getLogger(__name__)

LEADER_LOCK = 0x666C7973  # "flys"


@dataclass
class Duty:
    """One periodic function and when it is due next (monotonic seconds)."""

    name: str
    period_s: float
    function: Callable[[], object]
    due: float = field(default=0.0)


def duties() -> list[Duty]:
    """Return what the leader does, most frequent first."""
    settings = get_settings()
    return [
        Duty("sweep lost runs", min(5.0, settings.lost_after_s / 2), sweep),
        Duty("watch experiments and guards", 5.0, watch),
        Duty("keep adapters loaded", 5.0, keep_adapters_loaded),
        Duty("train what is due", 5.0, tick),
        Duty("join feedback", 10.0, partial(join, timedelta(minutes=2))),
        Duty("watch for drift", 60.0, _watch_for_drift),
        Duty("join feedback of an outage", 3600.0, partial(join, timedelta(days=1))),
        Duty("make partitions ahead", 3600.0, _partitions),
        Duty("forget delivered messages", 3600.0, forget_delivered),
    ]


def _watch_for_drift() -> None:
    with session_scope() as session:
        watch_all(session)


def _partitions() -> None:
    with get_engine().begin() as connection:
        ensure_partitions(connection, now(), get_settings().partitions_ahead)


def run_scheduler(stop: threading.Event, tick_s: float = 1.0) -> None:
    """Lead when the lock is free, wait for it otherwise, until `stop` is set."""
    while not stop.is_set():
        try:
            _lead(stop, tick_s)
        except SQLAlchemyError:
            log.exception("scheduler: the database does not answer, trying again")
        stop.wait(tick_s)


def _lead(stop: threading.Event, tick_s: float) -> None:
    with get_engine().connect() as connection:
        leads = connection.execute(text("SELECT pg_try_advisory_lock(:k)"), {"k": LEADER_LOCK})
        if not leads.scalar_one():
            return
        connection.commit()
        log.info("scheduler: this process leads")
        todo = duties()
        while not stop.wait(tick_s):
            connection.execute(text("SELECT 1"))  # losing the connection means losing the lead
            connection.commit()
            for duty in todo:
                _perform(duty)


def _perform(duty: Duty) -> None:
    if time.monotonic() < duty.due:
        return
    duty.due = time.monotonic() + duty.period_s
    try:
        duty.function()
    except (FlywheelError, SQLAlchemyError):
        log.exception("scheduler: %s failed, next try in %.0f s", duty.name, duty.period_s)
