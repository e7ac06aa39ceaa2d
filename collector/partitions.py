"""Weekly partitions of the log, by the time inside the UUIDv7 id.

Partitions are made ahead and dropped whole at the end of their own retention; rows outside every
partition (old imports, clocks that are wrong) land in the default one, so nothing is refused.
"""

from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, text

from foundation.ids import first_id_at

PARTITIONED = ("interaction", "interaction_payload")
WEEK = timedelta(days=7)
_FIRST_MONDAY = datetime(1970, 1, 5, tzinfo=UTC)


def week_of(moment: datetime) -> datetime:
    """Return the Monday, 00:00 UTC, of a moment's week."""
    return _FIRST_MONDAY + (moment - _FIRST_MONDAY) // WEEK * WEEK


def partition_name(table: str, week: datetime) -> str:
    """Return the partition's name, such as `interaction_p20261116`."""
    return f"{table}_p{week:%Y%m%d}"


def ensure_partitions(connection: Connection, moment: datetime, ahead: int) -> list[str]:
    """Make the partitions of this week and the `ahead` following ones; return the new names.

    A week whose rows already lie in the default partition is left there.
    """
    weeks = [week_of(moment) + i * WEEK for i in range(ahead + 1)]
    return [
        name
        for table in PARTITIONED
        for week in weeks
        if (name := _ensure_partition(connection, table, week)) is not None
    ]


def _ensure_partition(connection: Connection, table: str, week: datetime) -> str | None:
    name = partition_name(table, week)
    low, high = first_id_at(week), first_id_at(week + WEEK)
    if connection.execute(text("SELECT to_regclass(:name)"), {"name": name}).scalar() is not None:
        return None
    stray = text(f"SELECT EXISTS (SELECT FROM {table}_default WHERE id >= :low AND id < :high)")
    if connection.execute(stray, {"low": low, "high": high}).scalar():
        return None
    connection.execute(
        text(f"CREATE TABLE {name} PARTITION OF {table} FOR VALUES FROM ('{low}') TO ('{high}')")
    )
    return name


def drop_before(connection: Connection, table: str, moment: datetime) -> list[str]:
    """Drop the partitions of `table` that end at or before `moment`; return their names."""
    named = text(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = CAST(:t AS regclass)"
    )
    dropped = []
    for (name,) in connection.execute(named, {"t": table}).all():
        prefix = f"{table}_p"
        if not name.startswith(prefix):
            continue
        week = datetime.strptime(name.removeprefix(prefix), "%Y%m%d").replace(tzinfo=UTC)
        if week + WEEK <= moment:
            connection.execute(text(f"DROP TABLE {name}"))
            dropped.append(name)
    return dropped
