"""The Celery application: its broker, its queues, and the rule that a message carries only an id.

The database is the truth. A message `(run_id)` asks a worker to take up that row; losing it, or
getting it twice, changes nothing (`foundation.runs`). With no `FLYWHEEL_BROKER_URL` kombu's
SQLAlchemy transport keeps the messages in the same PostgreSQL. That transport does not redeliver
what a killed worker held, which is one of the reasons for the sweeper.

Deployments that share a broker tell their queues apart by `FLYWHEEL_QUEUE_PREFIX`.
"""

from functools import lru_cache
from typing import Any

from celery import Celery
from kombu import Exchange, Queue
from kombu.transport.sqlalchemy import Transport as DatabaseTransport
from sqlalchemy import text

from foundation.database import database_url, session_scope, sqlalchemy_url
from foundation.settings import get_settings

LONGEST_JOB_S = 7 * 24 * 3600
"""Redis gives a message to a second worker after this long; longer than any training."""

QUEUES = ("ingest", "cpu", "gpu")

# Transport options of this transport go to create_engine, so the attribute is the only way.
DatabaseTransport.polling_interval = 0.2

_establish_lazily = DatabaseTransport.establish_connection


def _establish(transport: DatabaseTransport) -> object:
    """Connect in truth: else a worker whose database is away takes itself for connected.

    It would try again some times a second, with a traceback each, instead of every few seconds.
    """
    connection = _establish_lazily(transport)
    session = transport._avail_channels[-1].session
    try:
        session.execute(text("SELECT 1"))
    finally:
        session.close()
    return connection


DatabaseTransport.establish_connection = _establish


def broker_url() -> str:
    """Return the broker of this deployment, the database itself by default."""
    configured = get_settings().broker_url
    return configured or f"sqla+{sqlalchemy_url(database_url())}"


@lru_cache(maxsize=1)
def get_queue() -> Celery:
    """Return the process-wide Celery application."""
    queue = Celery("flywheel", broker=broker_url())
    queue.conf.update(
        task_acks_late=True,
        # A message given back would find its run claimed, by the process that was killed: the
        # sweeper sends it again. And the embedded broker bears no second thread giving it back.
        task_reject_on_worker_lost=False,
        task_ignore_result=True,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        task_default_queue=queue_name("cpu"),
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # a worker outlives any restart of its broker
        # RabbitMQ closes the channel of a job that takes longer than its consumer_timeout, half an
        # hour by default. It sends the message again, which finds its run claimed.
        broker_channel_error_retry=True,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_transport_options=_transport_options(broker_url()),
        task_serializer="json",
        accept_content=["json"],
    )
    return queue


def forget_broker_connections() -> None:
    """Drop the embedded broker's connections after a fork: they are the parent's.

    kombu keeps its engines for the whole process, and SQLAlchemy does not look who uses them. A
    worker's first processes fork before there are any; one that replaces another does not.
    """
    engines = DatabaseTransport.Channel._engines
    for engine, _ in engines.values():
        engine.dispose(close=False)
    engines.clear()


def _transport_options(url: str) -> dict[str, Any]:
    if url.startswith(("redis", "sentinel")):
        return {"visibility_timeout": LONGEST_JOB_S}
    if url.startswith("sqla"):  # these go to create_engine
        # As `foundation.database` connects: PgBouncer hands each transaction another connection.
        return {"pool_pre_ping": True, "connect_args": {"prepare_threshold": None}}
    return {}


def queue_name(queue: str) -> str:
    """Return what the broker calls one of `QUEUES`: its name after this deployment's prefix."""
    return f"{get_settings().queue_prefix}{queue}"


def declare_queues() -> None:
    """Create the queues and the embedded broker's tables; not safe in two processes at once."""
    with get_queue().connection_for_write() as connection:
        channel = connection.channel()
        for name in map(queue_name, QUEUES):
            Queue(name, Exchange(name), name)(channel).declare()
        session = getattr(channel, "session", None)
        if session is not None:  # the embedded broker's, whose last look at a queue stays open
            session.close()


def forget_delivered(days: int = 1) -> int:
    """Delete delivered messages, which the embedded broker's transport keeps; return how many."""
    if not broker_url().startswith("sqla"):
        return 0
    with session_scope() as session:
        deleted = session.execute(
            text(
                "DELETE FROM kombu_message WHERE NOT visible "
                "AND timestamp < now() - make_interval(days => :days)"
            ).bindparams(days=days)
        )
    count: int = deleted.rowcount  # type: ignore[attr-defined]
    return count
