"""Weekly partitions of the log: made ahead, dropped whole at the end of their retention.

`interaction` and `interaction_payload` are range-partitioned by their UUIDv7 id, whose first 48
bits are the time. A partition holds one ISO week (Monday 00:00 UTC to the next) and is named by it:
`interaction_p2026w47`. What falls outside every week (clocks gone wrong, old imports) is kept in
`interaction_default`, and moves when its week is made.
"""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from psycopg.errors import LockNotAvailable
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

from foundation.ids import first_id_at

Part = Literal["interaction", "payload"]

TABLES: dict[Part, str] = {"interaction": "interaction", "payload": "interaction_payload"}

PARTITION_NAME = re.compile(r"^(interaction|interaction_payload)_(p(\d{4})w(\d{2})|default)$")
"""Names of partitions, which no migration knows of."""

_LOCK = 0x666C7977
"""Advisory lock of whoever changes partitions."""

WEEK = timedelta(days=7)
LOCK_MS = 200
"""That one try to drop a week waits for who reads the log: everybody else waits behind it."""
TRIES = 20
_ROWS_AT_ONCE = 5000


@dataclass(frozen=True)
class Expired:
    """A partition whose last moment is past its retention; rows are PostgreSQL's estimate."""

    name: str
    start: datetime
    n_rows: int
    n_bytes: int


def summarize(connection: Connection) -> None:
    """Note in the index by transactions what came to its end: else all of that is read each time.

    Those whose partition is being vacuumed, which does the same, are left for the next time.
    """
    with connection.begin():
        names = connection.execute(_BY_TRANSACTION).scalars().all()
    for name in names:
        try:
            with connection.begin():
                connection.execute(text("SET LOCAL lock_timeout = '100ms'"))
                connection.execute(_SUMMARIZE, {"name": name})
        except OperationalError as error:
            if not isinstance(error.orig, LockNotAvailable):
                raise


_SUMMARIZE = text("SELECT brin_summarize_new_values(CAST(:name AS regclass))")
_BY_TRANSACTION = text(
    "SELECT inhrelid::regclass::text FROM pg_inherits "
    "WHERE inhparent = 'ix_interaction_written_xid'::regclass ORDER BY 1 DESC"
)


def week_start(moment: datetime) -> datetime:
    """Return Monday 00:00 UTC of the week of `moment`."""
    day = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return day - timedelta(days=day.weekday())


def partition_name(table: str, start: datetime) -> str:
    """Return the name of the partition of `table` for the week that starts at `start`."""
    year, week, _ = start.isocalendar()
    return f"{table}_p{year}w{week:02d}"


def bounds(start: datetime) -> tuple[UUID, UUID]:
    """Return the first id of a week and the first of the next."""
    return first_id_at(start), first_id_at(start + WEEK)


def ensure_partitions(connection: Connection, now: datetime, ahead: int) -> list[str]:
    """Make the partitions of last week, this week and `ahead` weeks more; return those made.

    Safe to call often and from several processes. Rows of such a week that wait in the default
    partition are moved.
    """
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)").bindparams(key=_LOCK))
    first = week_start(now) - WEEK
    made = []
    for table in TABLES.values():
        existing = set(partitions_of(connection, table))
        if f"{table}_default" not in existing:
            connection.execute(text(f"CREATE TABLE {table}_default PARTITION OF {table} DEFAULT"))
            made.append(f"{table}_default")
        for weeks in range(ahead + 2):
            start = first + weeks * WEEK
            if partition_name(table, start) not in existing:
                made.append(_make(connection, table, start))
    return made


def partitions_of(connection: Connection, table: str) -> list[str]:
    """Return the names of the partitions of `table`, sorted."""
    rows = connection.execute(
        text(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
            "WHERE i.inhparent = CAST(:table AS regclass) ORDER BY c.relname"
        ).bindparams(table=table)
    )
    return [str(name) for (name,) in rows]


def _make(connection: Connection, table: str, start: datetime) -> str:
    """Make a partition beside the table, fill it from the default one, then attach it.

    PostgreSQL refuses a new partition while the default one holds rows of its range.
    """
    name, (low, high) = partition_name(table, start), bounds(start)
    connection.execute(text(f"CREATE TABLE {name} (LIKE {table} INCLUDING ALL)"))
    connection.execute(
        text(
            f"WITH moved AS (DELETE FROM {table}_default WHERE id >= :low AND id < :high "
            f"RETURNING *) INSERT INTO {name} SELECT * FROM moved"
        ).bindparams(low=low, high=high)
    )
    connection.execute(
        text(f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ('{low}') TO ('{high}')")
    )
    return name


def drop_before(connection: Connection, part: Part, moment: datetime) -> list[str]:
    """End the retention of one part of the log: drop its weeks that ended by `moment`.

    Older rows of the default partition are deleted. Returns the names of the dropped partitions.
    """
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)").bindparams(key=_LOCK))
    table = TABLES[part]
    dropped = [
        name
        for name in partitions_of(connection, table)
        if (start := start_of(name)) is not None and start + WEEK <= moment
    ]
    for name in dropped:
        connection.execute(text(f"DROP TABLE {name}"))
    connection.execute(
        text(f"DELETE FROM {table}_default WHERE id < :low").bindparams(low=first_id_at(moment))
    )
    return dropped


def expired(connection: Connection, part: Part, moment: datetime) -> list[Expired]:
    """Return the weeks of a part that had ended by `moment`, oldest first; reads the catalogue."""
    rows = connection.execute(_SIZES, {"table": TABLES[part]})
    found = [
        Expired(row.name, start, row.n_rows, row.n_bytes)
        for row in rows
        if (start := start_of(row.name)) is not None and start + WEEK <= moment
    ]
    return sorted(found, key=lambda one: one.start)


def drop_week(engine: Engine, name: str, tries: int = TRIES, pause_s: float = 0.5) -> bool:
    """Drop one partition without holding up who reads or writes the log; return whether it went.

    Dropping needs the table for itself for a moment. Each try waits `LOCK_MS` for it at most and
    then lets everybody pass who has queued behind. (DETACH CONCURRENTLY, which would need no such
    moment, is not to be had for a table with a default partition.)
    """
    for number in range(tries):
        try:
            with engine.begin() as connection:
                connection.execute(text(f"SET LOCAL lock_timeout = {LOCK_MS}"))
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)").bindparams(key=_LOCK))
                connection.execute(text(f"DROP TABLE IF EXISTS {name}"))
            return True
        except OperationalError as error:
            if not isinstance(error.orig, LockNotAvailable):
                raise
        if number + 1 < tries:
            time.sleep(pause_s)
    return False


def count_outside(connection: Connection, part: Part, moment: datetime) -> int:
    """Return the rows of the default partition that are older than `moment`."""
    query = text(f"SELECT count(*) FROM {TABLES[part]}_default WHERE id < :low")
    return int(connection.execute(query, {"low": first_id_at(moment)}).scalar_one())


def delete_outside(engine: Engine, part: Part, moment: datetime) -> int:
    """Delete old rows of the default partition, a few thousand in a transaction."""
    table = f"{TABLES[part]}_default"
    query = text(
        f"DELETE FROM {table} WHERE ctid = ANY(ARRAY("
        f"SELECT ctid FROM {table} WHERE id < :low LIMIT {_ROWS_AT_ONCE}))"
    )
    return sum(deleted(engine, query, {"low": first_id_at(moment)}))


def deleted(engine: Engine, statement: Any, values: dict[str, Any]) -> Iterator[int]:
    """Repeat a statement that deletes some rows, each time in its own transaction, until none."""
    while True:
        with engine.begin() as connection:
            n_rows = int(connection.execute(statement, values).rowcount)
        if not n_rows:
            return
        yield n_rows


_SIZES = text(
    """
    SELECT child.relname AS name, greatest(child.reltuples, 0)::bigint AS n_rows,
        pg_total_relation_size(child.oid) AS n_bytes
    FROM pg_inherits JOIN pg_class AS child ON child.oid = inhrelid
    WHERE inhparent = CAST(:table AS regclass)
    """
)


def start_of(name: str) -> datetime | None:
    """Return the start of the week of a partition name; None for other names and the default."""
    match = PARTITION_NAME.match(name)
    if match is None or match[3] is None:
        return None
    return datetime.fromisocalendar(int(match[3]), int(match[4]), 1).replace(tzinfo=UTC)
