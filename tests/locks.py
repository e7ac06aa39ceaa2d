"""Who holds advisory locks in the database of a test, and what that keeps back."""

from sqlalchemy import text

from foundation.database import get_engine

_HOLDERS = text(
    "SELECT a.state, a.backend_xid, a.backend_xmin FROM pg_locks l "
    "JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory' AND l.granted "
    "AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


def holders() -> list[tuple[str, object, object]]:
    """State, number and snapshot of each transaction that holds one."""
    with get_engine().connect() as connection:
        return [tuple(row) for row in connection.execute(_HOLDERS)]
