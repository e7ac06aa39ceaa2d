"""The database goes away and comes back: which errors say so, and how to wait for it.

A restart, a fail-over or a cut wire ends connections in the middle of anything. What was committed
stays, what was not is gone, so whoever meets such an error may do the same again.
"""

import logging
import time
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

import psycopg
from sqlalchemy.exc import DBAPIError, PendingRollbackError

from foundation.errors import DatabaseUnavailable
from foundation.redaction import redact

log = logging.getLogger(__name__)

T = TypeVar("T")

FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 5.0

_SENT_AWAY: Final = frozenset(
    {
        "57P01",  # admin_shutdown: a restart, or pg_terminate_backend
        "57P02",  # crash_shutdown
        "57P03",  # cannot_connect_now: it starts up
        "57P05",  # idle_session_timeout
        "25006",  # read_only_sql_transaction: a standby that is not promoted yet
        "53300",  # too_many_connections
    }
)
_LOST_TRANSACTION: Final = "8s2b"
"""SQLAlchemy's code of a transaction whose connection broke before."""


def is_outage(error: BaseException | None) -> bool:
    """Say whether an error, or what caused it, is the loss of the database and no mistake."""
    return any(_is_outage(one) for one in _chain(error))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _is_outage(error: BaseException) -> bool:
    if isinstance(error, DBAPIError):
        return error.connection_invalidated or (error.orig is not None and _is_outage(error.orig))
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | psycopg.InternalError):
        state = error.sqlstate
        if state is None:  # libpq's own: refused, reset, closed
            return not isinstance(error, psycopg.InternalError)
        return state in _SENT_AWAY or state.startswith("08")
    if isinstance(error, PendingRollbackError):
        return error.code == _LOST_TRANSACTION
    return isinstance(error, DatabaseUnavailable)


def first_line(error: BaseException) -> str:
    """Return the first line of an error, without secrets, for a log."""
    return redact(str(error).strip().partition("\n")[0])


def patiently(action: Callable[[], T], patience_s: float, what: str) -> T:
    """Do `action` again while the database is away, and return what it returns.

    It may have been done already when its connection broke: the answer to a commit can be lost.

    Raises:
        Exception: of `action`, its last one after `patience_s`, and any that is no outage at once.
    """
    end = time.monotonic() + patience_s
    pause_s, is_told = FIRST_PAUSE_S, False
    while True:
        try:
            return action()
        except Exception as error:
            if not is_outage(error) or time.monotonic() + pause_s > end:
                raise
            if not is_told:
                log.warning("%s: waiting for the database (%s)", what, first_line(error))
                is_told = True
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
