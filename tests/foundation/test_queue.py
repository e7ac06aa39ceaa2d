"""The queues are there, and nobody who made them holds a transaction open."""

from by_hand import python
from conftest import PROJECT
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
    assert session.scalar(OPEN) <= before
    names = set(session.scalars(text("SELECT name FROM kombu_queue")))
    assert set(QUEUES) <= names


FORKED_LATE = """
import os
from kombu.transport.sqlalchemy import Transport
from sqlalchemy import text
from foundation.queue import declare_queues, forget_broker_connections

def server(engine):
    with engine.connect() as connection:
        return connection.scalar(text("SELECT pg_backend_pid()"))

declare_queues()
((engine, _),) = Transport.Channel._engines.values()
mine = server(engine)
child = os.fork()
if child == 0:
    forget_broker_connections()
    declare_queues()
    ((anew, _),) = Transport.Channel._engines.values()
    os._exit(0 if server(anew) != mine else 1)
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status), server(engine) == mine)
"""


def test_a_late_forked_process_gets_broker_connections_of_its_own(database: str) -> None:
    said = python("-c", FORKED_LATE, folder=PROJECT, FLYWHEEL_DATABASE_URL=database)
    assert said.out.split() == ["0", "True"], said.err
