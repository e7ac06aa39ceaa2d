"""The Celery application: its broker, its queues, and the rule that a message carries only an id.

The database is the truth. A message `(run_id)` asks a worker to take up that row; losing it, or
getting it twice, changes nothing (`foundation.runs`). With no `FLYWHEEL_BROKER_URL` kombu's
SQLAlchemy transport keeps the messages in the same PostgreSQL. That transport does not redeliver
what a killed worker held, which is one of the reasons for the sweeper.
"""

from functools import lru_cache

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
        task_reject_on_worker_lost=True,
        task_ignore_result=True,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        task_default_queue="cpu",
        broker_connection_retry_on_startup=True,
        broker_transport_options=_transport_options(broker_url()),
        task_serializer="json",
        accept_content=["json"],
    )
    return queue


def _transport_options(url: str) -> dict[str, float]:
    if url.startswith("redis"):
        return {"visibility_timeout": LONGEST_JOB_S}
    return {}


def declare_queues() -> None:
    """Create the queues and the embedded broker's tables; not safe in two processes at once."""
    with get_queue().connection_for_write() as connection:
        channel = connection.channel()
        for name in QUEUES:
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
