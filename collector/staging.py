"""Rows into a table by COPY, over a temporary table, so that rows that are there already are left.

COPY is the quickest way in but stops at the first row that exists. So rows go into a session's
temporary table, which costs no write-ahead log, and from there with `ON CONFLICT DO NOTHING`. The
temporary table is made inside the transaction and emptied at its end: a pooler that hands each
transaction to another connection (PgBouncer) does not notice. Binary format: nothing is escaped,
and JSON is written as the very bytes it was made of.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID
from zlib import crc32

import psycopg
from psycopg import Cursor
from sqlalchemy import Column, Table, types
from sqlalchemy.dialects import postgresql
from sqlmodel import Session, SQLModel

from collector.admission import as_json

Values = list[Any]


@dataclass(frozen=True)
class Destination:
    """A table and the columns that rows bring, in their order.

    Attributes:
        table: its name.
        columns: names of the columns.
        copy_types: names of the PostgreSQL types that values are sent as.
        json_prefixes: what goes before the bytes of a JSON value, by the column's place: `jsonb`
            has a version byte.
    """

    table: str
    columns: tuple[str, ...]
    copy_types: tuple[str, ...]
    json_prefixes: tuple[tuple[int, bytes], ...]

    @property
    def staged(self) -> str:
        """Name of the temporary table; other columns make another one."""
        return f"staged_{self.table}_{crc32(self.column_list.encode()):08x}"

    @property
    def column_list(self) -> str:
        """The columns as SQL lists them."""
        return ", ".join(self.columns)

    def values(self, columns: dict[str, Any]) -> Values:
        """Return a row as COPY takes it: JSON columns as bytes, the others as they are."""
        row = [columns.get(name) for name in self.columns]
        for place, prefix in self.json_prefixes:
            if row[place] is not None:
                row[place] = prefix + as_json(row[place])
        return row


def destination(model: type[SQLModel]) -> Destination:
    """Return the destination that takes every column of a table that the server does not fill."""
    table: Table = model.__table__  # type: ignore[attr-defined]
    columns = [column for column in table.columns if column.server_default is None]
    return Destination(
        table.name,
        tuple(column.name for column in columns),
        tuple(_copy_type(column) for column in columns),
        tuple(
            (place, b"\x01" if isinstance(column.type, postgresql.JSONB) else b"")
            for place, column in enumerate(columns)
            if isinstance(column.type, types.JSON)
        ),
    )


def _copy_type(column: Column[Any]) -> str:
    """Return the type whose binary form the column reads; `bytea` is bytes as they are."""
    if isinstance(column.type, types.JSON):
        return "bytea"
    compiled = str(column.type.compile(dialect=postgresql.dialect()))  # type: ignore[no-untyped-call]
    return _NAMES.get(compiled, compiled.lower())


_NAMES = {
    "VARCHAR": "text",
    "FLOAT": "float8",
    "INTEGER": "int4",
    "BIGINT": "int8",
    "BOOLEAN": "bool",
    "TIMESTAMP WITH TIME ZONE": "timestamptz",
}


def cursor_of(session: Session) -> Cursor[Any]:
    """Return a psycopg cursor inside the session's transaction."""
    connection = session.connection().connection.driver_connection
    assert isinstance(connection, psycopg.Connection)
    return connection.cursor()


def insert_new(cursor: Cursor[Any], into: Destination, rows: Sequence[Values]) -> set[UUID]:
    """Insert the rows whose id the table does not have; return the ids of those.

    They go in the order of their ids, so that transactions with the same ids wait for each other
    and cannot deadlock.
    """
    cursor.execute(
        f"CREATE TEMPORARY TABLE IF NOT EXISTS {into.staged} (LIKE {into.table}) "
        "ON COMMIT DELETE ROWS"
    )
    cursor.execute(f"DELETE FROM {into.staged}")  # an earlier batch of this transaction
    copy_rows(cursor, into, into.staged, rows)
    cursor.execute(
        f"INSERT INTO {into.table} ({into.column_list}) "
        f"SELECT {into.column_list} FROM {into.staged} ORDER BY id "
        "ON CONFLICT DO NOTHING RETURNING id"
    )
    return {identifier for (identifier,) in cursor.fetchall()}


def copy_rows(cursor: Cursor[Any], into: Destination, table: str, rows: Iterable[Values]) -> None:
    """Append rows to `table`, which has the destination's columns, by COPY."""
    with cursor.copy(f"COPY {table} ({into.column_list}) FROM STDIN (FORMAT binary)") as copy:
        copy.set_types(into.copy_types)
        for row in rows:
            copy.write_row(row)
