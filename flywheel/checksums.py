"""A checksum of each table, computed by the server: equal where every row says the same.

The sum of 64 bits of each row's SHA-256: rows need no order, partitions count as their whole, and
nothing is held in memory. Equal on every machine and version of PostgreSQL.
"""

from collections.abc import Collection, Iterator
from typing import Any, Final

from sqlalchemy import Connection, text

BROKER_TABLES: Final = ("kombu_message", "kombu_queue")
"""Messages on their way: no part of the truth, the sweeper sends what is missing again."""


def tables(connection: Connection) -> list[str]:
    """Return the tables of the schema, sorted; partitions are parts of theirs."""
    found = connection.execute(_TABLES).scalars()
    return [name for name in found if name not in BROKER_TABLES]


def checksums(
    connection: Connection,
    without: Collection[str] = (),
    columns: dict[str, list[str]] | None = None,
) -> dict[str, dict[str, Any]]:
    """Return `rows` and `sum` of each table, as the surrounding transaction sees them.

    Args:
        connection: in a transaction that reads one snapshot.
        without: tables that are left out.
        columns: of a table, only these; others are summed whole.
    """
    connection.execute(_AS_EVERYWHERE)
    return dict(_sums(connection, without, columns or {}))


def _sums(
    connection: Connection, without: Collection[str], columns: dict[str, list[str]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    for name in tables(connection):
        if name in without:
            continue
        said = "one"
        if name in columns:
            said = "ROW(" + ", ".join(f'one."{column}"' for column in columns[name]) + ")"
        row = connection.execute(text(_SUM.format(table=name, said=said))).one()
        yield name, {"rows": row.n, "sum": str(row.total)}


_TABLES = text(
    """
    SELECT relname FROM pg_class
    WHERE relkind IN ('r', 'p') AND NOT relispartition
      AND relnamespace = current_schema()::regnamespace
    ORDER BY relname
    """
)
_AS_EVERYWHERE = text(
    """
    SELECT set_config('TimeZone', 'UTC', true), set_config('DateStyle', 'ISO, YMD', true),
           set_config('IntervalStyle', 'postgres', true), set_config('bytea_output', 'hex', true),
           set_config('extra_float_digits', '1', true)
    """
)
_SUM: Final = """
    SELECT count(*) AS n, coalesce(sum(
        ('x' || left(encode(sha256(convert_to(({said})::text, 'UTF8')), 'hex'), 16))
        ::bit(64)::bigint::numeric
    ), 0) AS total
    FROM "{table}" AS one
"""
