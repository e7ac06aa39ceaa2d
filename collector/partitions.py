"""Weekly partitions of the log: made ahead, dropped whole at the end of their retention.

`interaction` and `interaction_payload` are range-partitioned by their UUIDv7 id, whose first 48
bits are the time. A partition holds one ISO week (Monday 00:00 UTC to the next) and is named by it:
`interaction_p2026w47`. What falls outside every week (clocks gone wrong, old imports) is kept in
`interaction_default`, and moves when its week is made.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Literal
from uuid import UUID

from sqlalchemy import Connection, text

from foundation.ids import first_id_at

Part = Literal["interaction", "payload"]

TABLES: dict[Part, str] = {"interaction": "interaction", "payload": "interaction_payload"}

PARTITION_NAME = re.compile(r"^(interaction|interaction_payload)_(p(\d{4})w(\d{2})|default)$")
"""Names of partitions, which no migration knows of."""

_LOCK = 0x666C7977
"""Advisory lock of whoever changes partitions."""

WEEK = timedelta(days=7)


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


def start_of(name: str) -> datetime | None:
    """Return the start of the week of a partition name; None for other names and the default."""
    match = PARTITION_NAME.match(name)
    if match is None or match[3] is None:
        return None
    return datetime.fromisocalendar(int(match[3]), int(match[4]), 1).replace(tzinfo=UTC)
