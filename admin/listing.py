"""Tables: columns that sort, keyset pages, addresses that say it all, exports of the same rows.

Without an order asked for a table is newest first, by the UUIDv7 id. Another order is that of the
newest `WINDOW` rows which fit the filters, so that no click sorts a whole log; where there are more
the page says so.
"""

import base64
import binascii
import csv
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from itertools import chain
from typing import Any, Final, Generic, Literal, TypeVar
from uuid import UUID

from fastapi import Query
from fastapi.responses import StreamingResponse
from psycopg.errors import DataError, DatatypeMismatch, UndefinedFunction
from sqlalchemy import ColumnElement, Select, and_, literal, or_, select, text
from sqlalchemy.exc import DBAPIError, StatementError
from sqlmodel import Session

from admin.paging import PAGE_SIZE, identity_of
from foundation.database import session_scope
from foundation.errors import BadInput

WINDOW: Final = 10_000
EXPORT_PAGE: Final = 500
EXPORT_TIMEOUT_MS: Final = 60_000
"""Of each page of an export: nobody waits for it before a screen."""

T = TypeVar("T")

Find = Callable[[Session, str], tuple[list[Any], str | None]]
"""From a cursor (empty: from the start) to the next rows and the cursor after them."""


@dataclass(frozen=True)
class Column(Generic[T]):
    """One column: its head, what it sorts by, and what an export says."""

    name: str
    """In addresses and exports."""
    label: str
    """Its head; empty: an export's column only, not on the page."""
    value: Callable[[T], Any] | None = None
    """What an export says of a row; None: the page's column only."""
    sort: Any = None
    """SQL expression; None: it does not sort."""
    numeric: bool = False
    first: Literal["up", "down"] = "down"
    """The order of the first click."""


@dataclass
class Asked:
    """What the address asks of a table, as a dependency of its route."""

    sort: str = Query("", description="Name of a column, with - before it for descending.")
    before: str = Query("", description="Where the page begins: the cursor of the one before.")
    format: Literal["", "csv", "jsonl"] = Query("", description="An export instead of a page.")


@dataclass(frozen=True)
class Head:
    """The head of a column as a page shows it."""

    label: str
    numeric: bool
    query: Mapping[str, str] | None
    """Of the address that sorts by it; None: it does not sort."""
    order: str
    """ascending, descending or none, in the words of ARIA."""


@dataclass(frozen=True)
class Table(Generic[T]):
    """A table as its template receives it."""

    rows: Sequence[T]
    heads: Sequence[Head]
    query: Mapping[str, str]
    """Filters and order, of its shareable address."""
    older: Mapping[str, str] | None
    """Of the address of the next page; None: this was the last."""
    window: int | None = None
    """Newest rows that were sorted, where that may not be all of them."""

    @property
    def width(self) -> int:
        """How many columns it has."""
        return len(self.heads)


@dataclass(frozen=True)
class Listing(Generic[T]):
    """How a noun is listed: its columns, and the id that pages go by."""

    columns: Sequence[Column[T]]
    key: Any
    """The SQL column of the id, newest last."""
    name: str
    """Of the file of an export."""
    size: int = PAGE_SIZE
    window: int = WINDOW
    sortable: Mapping[str, Column[T]] = field(init=False)

    def __post_init__(self) -> None:
        found = {column.name: column for column in self.columns if column.sort is not None}
        object.__setattr__(self, "sortable", found)

    def page(
        self,
        session: Session,
        query: Select[Any],
        asked: Asked,
        filters: Mapping[str, str],
        read: Callable[[Session, Sequence[Any]], Sequence[T]],
    ) -> Table[T]:
        """Return one page.

        Args:
            session: to read by.
            query: rows that fit the filters, unordered; its first entity or column has the id.
            asked: order and cursor.
            filters: as the address says them, for the addresses of heads and of the next page.
            read: makes the page's rows of the query's, with what else they show in a fixed number
                of queries.

        Raises:
            BadInput: there is no such column, or the cursor is none of this table.
        """
        found, older = self.rows(session, query, asked, self.size)
        kept = {**filters, **({"sort": asked.sort} if asked.sort else {})}
        return Table(
            read(session, found),
            self.heads(asked, filters),
            kept,
            {**kept, "before": older} if older else None,
            self.window if asked.sort and (older or asked.before) else None,
        )

    def rows(
        self, session: Session, query: Select[Any], asked: Asked, size: int
    ) -> tuple[list[Any], str | None]:
        """Return up to `size` rows in the order asked for, and the cursor to go on with.

        Raises:
            BadInput: there is no such column, or the cursor is none of this table.
        """
        if not asked.sort:
            return self._newest_first(session, query, asked, size)
        page = self._sorted_ids(query, asked, size)
        found = _executed(
            session,
            query.add_columns(page.c.value)
            .join(page, page.c.id == self.key)
            .order_by(None)
            .order_by(*_order(page.c, asked.sort)),
            asked.before,
        )
        shown = found[:size]
        older = _as_cursor(shown[-1][-1], identity_of(shown[-1])) if len(found) > size else None
        return [_without_last(row) for row in shown], older

    def _sorted_ids(self, query: Select[Any], asked: Asked, size: int) -> Any:
        """Return the page's ids with the value sorted by, as a subquery.

        The page is cut before its rows are joined: the whole window's would be read otherwise.
        """
        column = self._column(asked.sort.removeprefix("-"))
        window = (
            query.with_only_columns(self.key.label("id"), column.sort.label("value"))
            .order_by(None)
            .order_by(self.key.desc())
            .limit(self.window)
            .subquery()
        )
        page = select(window.c.id, window.c.value).order_by(*_order(window.c, asked.sort))
        if asked.before:
            page = page.where(_beyond(window.c, asked))
        return page.limit(size + 1).subquery()

    def export(
        self,
        query: Select[Any],
        asked: Asked,
        read: Callable[[Session, Sequence[Any]], Sequence[T]],
        find: Find | None = None,
    ) -> StreamingResponse:
        """Answer with every row that fits, a page at a time: a long table holds no transaction.

        The first page is read before the answer begins, so that a wrong address or a database that
        is away is refused as on any page. What breaks later breaks the connection: an export that
        ended well has its end.

        Args:
            query: rows that fit.
            asked: order, cursor and format.
            read: as of `page`.
            find: finds the rows after a cursor; None: `rows` does.
        """
        batches = self._batches(find or self._finder(query, asked), asked.before, read)
        first = next(batches)
        return self._attachment(chain([first], batches), asked)

    def attach(self, rows: Sequence[T], asked: Asked) -> StreamingResponse:
        """Answer with rows that are all there already, as `export` does."""
        return self._attachment(iter([rows]), asked)

    def _attachment(self, batches: Iterator[Sequence[T]], asked: Asked) -> StreamingResponse:
        columns = [column for column in self.columns if column.value is not None]
        write = _csv if asked.format == "csv" else _jsonl
        kind = "text/csv" if asked.format == "csv" else "application/x-ndjson"
        return StreamingResponse(
            write(columns, batches),
            media_type=f"{kind}; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="{self.name}.{asked.format}"'},
        )

    def heads(self, asked: Asked, filters: Mapping[str, str]) -> list[Head]:
        """Return the heads of the page's columns, as `asked` has sorted them."""
        return [self._head(column, asked, filters) for column in self.columns if column.label]

    def _finder(self, query: Select[Any], asked: Asked) -> Find:
        def find(session: Session, before: str) -> tuple[list[Any], str | None]:
            return self.rows(session, query, Asked(asked.sort, before, ""), EXPORT_PAGE)

        return find

    def _batches(
        self, find: Find, before: str, read: Callable[[Session, Sequence[Any]], Sequence[T]]
    ) -> Iterator[Sequence[T]]:
        at: str | None = before
        while at is not None:
            with session_scope() as session:
                session.execute(text("SET TRANSACTION READ ONLY"))
                session.execute(text(f"SET LOCAL statement_timeout = {EXPORT_TIMEOUT_MS}"))
                found, at = find(session, at)
                rows = read(session, found)
                session.expunge_all()
            yield rows

    def _newest_first(
        self, session: Session, query: Select[Any], asked: Asked, size: int
    ) -> tuple[list[Any], str | None]:
        if asked.before:
            query = query.where(self.key < _uuid(asked.before))
        found = session.execute(query.order_by(self.key.desc()).limit(size + 1)).all()
        shown = found[:size]
        older = str(identity_of(shown[-1])) if len(found) > size else None
        return [row[0] if len(row) == 1 else row for row in shown], older

    def _column(self, name: str) -> Column[T]:
        if name not in self.sortable:
            raise BadInput(
                "sort", name, f"one of {', '.join(self.sortable)}", "Choose a column's head."
            )
        return self.sortable[name]

    def _head(self, column: Column[T], asked: Asked, filters: Mapping[str, str]) -> Head:
        if column.sort is None:
            return Head(column.label, column.numeric, None, "")
        name, down = column.name, f"-{column.name}"
        order = {name: "ascending", down: "descending"}.get(asked.sort, "none")
        first, other = (down, name) if column.first == "down" else (name, down)
        turn = {first: other, other: ""}.get(asked.sort, first)
        return Head(
            column.label, column.numeric, {**filters, **({"sort": turn} if turn else {})}, order
        )


def _without_last(row: Any) -> Any:
    values = tuple(row)[:-1]
    return values[0] if len(values) == 1 else values


def _uuid(cursor: str) -> UUID:
    try:
        return UUID(cursor)
    except ValueError:
        raise _not_a_cursor(cursor) from None


def _order(columns: Any, sort: str) -> tuple[ColumnElement[Any], ...]:
    value = columns.value.desc() if sort.startswith("-") else columns.value.asc()
    return value.nulls_last(), columns.id.desc()


def _beyond(columns: Any, asked: Asked) -> ColumnElement[bool]:
    """Return what holds for the rows after the cursor's: unknown values come last, both ways."""
    at, last = _cursor(asked.before)
    if at is None:
        return and_(columns.value.is_(None), columns.id < last)
    if isinstance(at, bool):  # which SQLAlchemy compares by IS, and not by order
        at = literal(at)
    beyond = columns.value < at if asked.sort.startswith("-") else columns.value > at
    return or_(beyond, and_(columns.value == at, columns.id < last), columns.value.is_(None))


def _executed(session: Session, query: Select[Any], cursor: str) -> Sequence[Any]:
    """Run a query whose cursor may be anybody's: a value of another kind is their mistake."""
    try:
        return session.execute(query).all()
    except StatementError as error:
        of_value = (DataError, DatatypeMismatch, UndefinedFunction)
        if not cursor or (isinstance(error, DBAPIError) and not isinstance(error.orig, of_value)):
            raise
        raise _not_a_cursor(cursor) from error


def _as_cursor(value: Any, identifier: UUID) -> str:
    """Return the place of a row: the value sorted by, named where JSON has no such kind, and id."""
    if isinstance(value, datetime):
        value = {"time": value.isoformat()}
    elif isinstance(value, UUID):
        value = {"id": str(value)}
    elif isinstance(value, Decimal):
        value = {"number": str(value)}
    return base64.urlsafe_b64encode(json.dumps([value, str(identifier)]).encode()).decode()


_KINDS: Final[Mapping[str, Callable[[str], Any]]] = {
    "time": datetime.fromisoformat,
    "id": UUID,
    "number": Decimal,
}


def _cursor(given: str) -> tuple[Any, UUID]:
    try:
        value, identifier = json.loads(base64.urlsafe_b64decode(given))
        if isinstance(value, dict):
            ((kind, said),) = value.items()
            value = _KINDS[kind](said)
        if isinstance(value, str):
            value.encode()  # half of a surrogate pair is no text
        elif isinstance(value, list):
            raise ValueError(given)
        return value, UUID(identifier)
    except (
        *(binascii.Error, ValueError, TypeError, AttributeError, KeyError),
        *(ArithmeticError, RecursionError),
    ):
        raise _not_a_cursor(given) from None


def _not_a_cursor(given: str) -> BadInput:
    return BadInput("before", given, "the cursor of a page of this table", "Begin without it.")


def _csv(columns: Sequence[Column[T]], batches: Iterator[Sequence[T]]) -> Iterator[str]:
    yield _csv_line([column.name for column in columns])
    for rows in batches:
        yield "".join(_csv_line([_cell(_value(c, row)) for c in columns]) for row in rows)


def _csv_line(cells: Sequence[Any]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue()


_BEGINS_FORMULA: Final = (*"=+-@\t\r\n", *"\uff1d\uff0b\uff0d\uff20")
"""Also the wide forms that some spreadsheets read as the narrow ones."""


def _cell(value: Any) -> Any:
    """Return a cell that no spreadsheet runs: text that begins as a formula is quoted (OWASP)."""
    if isinstance(value, (dict, list, tuple)):
        value = json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, str) and value.startswith(_BEGINS_FORMULA):
        return f"'{value}"
    return value


def _jsonl(columns: Sequence[Column[T]], batches: Iterator[Sequence[T]]) -> Iterator[str]:
    for rows in batches:
        yield "".join(
            json.dumps({c.name: _value(c, row) for c in columns}, ensure_ascii=False, default=str)
            + "\n"
            for row in rows
        )


def _value(column: Column[T], row: T) -> Any:
    """Return what an export says: times in ISO 8601, numbers that JSON has, others as they are."""
    assert column.value is not None
    value = column.value(row)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Decimal):
        value = float(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
