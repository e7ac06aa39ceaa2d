"""The scheduler: what must happen by itself, on one leader at a time.

Several may run; a PostgreSQL advisory lock lets one lead, and another takes over when it dies.
Each duty is a plain function with a period; a duty that fails is logged and tried at its next turn.
One that takes long comes less often: it leaves others four times as long as it took, up to half a
minute.

After the database was away, no worker could beat either: the sweep waits until they could have.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

import flywheel.worker  # noqa: F401  the sweeper must know every room's jobs
from collector.feedback import anomalies
from collector.partitions import ensure_partitions, summarize
from collector.tasks import join
from evaluator.drift import watch_all
from flywheel import leader
from flywheel.adapters import keep_adapters_loaded
from flywheel.retention_tasks import order_retention
from flywheel.scheduling import tick
from foundation import log_ids, run_meters, tracing
from foundation.database import get_engine, session_scope
from foundation.errors import DatabaseUnavailable
from foundation.meters import SCHEDULER, Counter, gauge
from foundation.outage import first_line
from foundation.queue import forget_delivered
from foundation.runs import kinds, sweep
from foundation.settings import get_settings
from foundation.tables import now
from router.tasks import watch

log = logging.getLogger(__name__)

duty_runs = Counter(
    "flywheel_duty_runs",
    "scheduler",
    "Duties that this scheduler did: ok or failed.",
    ("duty", "outcome"),
    (SCHEDULER,),
)
duty_success = gauge(
    "flywheel_duty_last_success_timestamp_seconds",
    "scheduler",
    "When a duty last succeeded here, seconds since 1970; a standby has none.",
    ("duty",),
    (SCHEDULER,),
)
leading = gauge(
    "flywheel_scheduler_leading", "scheduler", "1 while this scheduler leads.", (), (SCHEDULER,)
)

LEADER_LOCK = leader.LOCK

SWEEP = "sweep lost runs"
PACE = 5.0
"""Least time from one turn of a duty to the next, in times of what the turn took."""
LONGEST_PAUSE_S = 30.0
"""That this asks for: a duty may have waited for a model's server, and guards others, too."""


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
        Duty(SWEEP, min(5.0, settings.lost_after_s / 2), sweep),
        Duty("watch experiments and guards", 5.0, watch),
        Duty("keep adapters loaded", 5.0, keep_adapters_loaded),
        Duty("train what is due", 5.0, tick),
        Duty("join feedback", 10.0, partial(join, timedelta(minutes=2))),
        Duty("watch for drift", 60.0, _watch_for_drift),
        Duty("note new calls in their index", 60.0, _summarize),
        Duty("watch sources of feedback", 600.0, _watch_sources),
        Duty("join feedback of an outage", 3600.0, partial(join, timedelta(days=1))),
        Duty("make partitions ahead", 3600.0, _partitions),
        Duty("forget delivered messages", 3600.0, forget_delivered),
        Duty("end retention", 3600.0, order_retention),
    ]


@dataclass
class Standing:
    """How this scheduler stands, for whoever asks its port.

    Attributes:
        leads: whether it has the lead.
        reason: why it can neither lead nor stand by; None while it can.
        succeeded: by duty, when it last did.
    """

    leads: bool = False
    reason: str | None = "has not looked who leads yet"
    succeeded: dict[str, float] = field(default_factory=dict)

    def told(self) -> dict[str, str]:
        """Return what /readyz says."""
        return {"reason": self.reason} if self.reason else {"role": _ROLE[self.leads]}

    def families(self) -> list[Any]:
        """Return what /metrics says beside the counts."""
        at = [((name,), moment) for name, moment in self.succeeded.items()]
        return [leading.family([((), float(self.leads))]), duty_success.family(at)]


_ROLE = {True: "leader", False: "standby"}


def _watch_for_drift() -> None:
    with session_scope() as session:
        watch_all(session)


def _watch_sources() -> None:
    for role in get_settings().roles:
        with session_scope() as session:
            anomalies.watch(session, role)


def _summarize() -> None:
    with get_engine().connect() as connection:
        summarize(connection)


def _partitions() -> None:
    with get_engine().begin() as connection:
        ensure_partitions(connection, now(), get_settings().partitions_ahead)


def run_scheduler(
    stop: threading.Event, tick_s: float = 1.0, standing: Standing | None = None
) -> None:
    """Lead when the lock is free, wait for it otherwise, until `stop` is set.

    Args:
        stop: ends it.
        tick_s: seconds between two looks at what is due.
        standing: is told how it stands.
    """
    _count_from_zero()
    standing = standing or Standing()
    is_away, sweep_from = False, 0.0
    while not stop.is_set():
        try:
            _lead(stop, tick_s, sweep_from, standing)
        except (SQLAlchemyError, DatabaseUnavailable) as error:
            if not is_away:  # said once, however long that lasts
                log.warning("scheduler: the database does not answer (%s)", first_line(error))
            is_away = True
            standing.reason = f"the database does not answer ({first_line(error)})"
            sweep_from = time.monotonic() + get_settings().lost_after_s
        else:
            is_away = False
        finally:
            standing.leads = False
        stop.wait(tick_s)


def _count_from_zero() -> None:
    """Make series of what may go wrong: an alert would miss a first time that begins at 1."""
    for kind in kinds():
        run_meters.lost.inc(kind, by=0)
    for duty in duties():
        duty_runs.inc(duty.name, "failed", by=0)


def _lead(stop: threading.Event, tick_s: float, sweep_from: float, standing: Standing) -> None:
    """Take the lead if it is free, and do what is due until it is lost; raises SQLAlchemyError.

    The lock belongs to a transaction that stays open as long as the lead: behind a pooler such as
    PgBouncer a session's lock would stay with a connection that others use, and never be let go.
    Between its statements this transaction holds no snapshot and has no number: vacuum goes on.
    """
    with get_engine().connect() as connection:
        for limit in _SILENT_LEADER:
            connection.execute(text(limit))
        leads = connection.execute(text("SELECT pg_try_advisory_xact_lock(:k)"), {"k": LEADER_LOCK})
        standing.leads, standing.reason = leads.scalar_one(), None
        if not standing.leads:
            return
        log.info("scheduler: this process leads")
        todo = duties()
        for duty in todo:
            duty.due = sweep_from if duty.name == SWEEP else 0.0
        while not stop.wait(tick_s):
            connection.execute(text("SELECT 1"))  # losing the connection means losing the lead
            for duty in todo:
                _perform(duty, standing)


_SILENT_LEADER = (
    "SET LOCAL idle_in_transaction_session_timeout = 0",
    "SET LOCAL tcp_keepalives_idle = 10",
    "SET LOCAL tcp_keepalives_interval = 5",
    "SET LOCAL tcp_keepalives_count = 3",
)
"""A leader whose machine vanished is let go after 25 s; over a socket they do nothing."""


def _perform(duty: Duty, standing: Standing) -> None:
    begun = time.monotonic()
    if begun < duty.due:
        return
    try:
        with log_ids.binding(duty=duty.name), tracing.span(f"duty {duty.name}"):
            duty.function()
        duty_runs.inc(duty.name, "ok")
        standing.succeeded[duty.name] = time.time()
    except Exception:  # whatever one duty meets (a full disk, a server that is gone), others go on
        duty_runs.inc(duty.name, "failed")
        log.exception("scheduler: %s failed, next try in %.0f s", duty.name, duty.period_s)
    finally:
        took = time.monotonic() - begun
        duty.due = begun + max(duty.period_s, min(PACE * took, took + LONGEST_PAUSE_S))
