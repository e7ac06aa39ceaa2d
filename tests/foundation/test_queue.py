"""The queues are there, and nobody who made them holds a transaction open."""

from sqlalchemy import text
from sqlmodel import Session

from foundation.queue import QUEUES, declare_queues

OPEN = text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    " AND state LIKE 'idle in transaction%' AND query LIKE '%kombu%'"
)


def test_who_declares_the_queues_leaves_no_transaction_open(session: Session) -> None:
    before = session.scalar(OPEN)
    declare_queues()
    declare_queues()
    assert session.scalar(OPEN) == before
    names = set(session.scalars(text("SELECT name FROM kombu_queue")))
    assert set(QUEUES) <= names
