"""Where a text is quoted: looked for in every column of every table, and blanked where it may be.

A text is known again by fragments of it that need no escaping in JSON, a name by standing there as
a word of its own. The database's catalogue is asked, not this code's tables: a table of any floor
counts, also one that this code does not know.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import text
from sqlmodel import Session

ERASED: Final = "[erased]"
"""What stands where a quotation stood."""
SHORTEST_FRAGMENT: Final = 20
LONGEST_FRAGMENT: Final = 80
SHORTEST_NAME: Final = 6
"""Characters of a name that is looked for inside of texts; a shorter one is a word of prose."""

_ROWS_AT_ONCE: Final = 200

_RUN = re.compile(rf"[^\W_][\w ,.:;!?()=+*/-]{{{SHORTEST_FRAGMENT - 1},}}")
_SIGNS = re.compile(r"([%_\\])")
_ESCAPED: Final = r"\\\1"
_JSON_TYPES: Final = ("json", "jsonb")


@dataclass(frozen=True)
class Sought:
    """What is looked for: fragments of texts anywhere, and names as words of their own."""

    fragments: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    def is_in(self, said: str) -> bool:
        """Return whether a string quotes any of it; pure."""
        return any(one in said for one in self.fragments) or any(
            _is_word(name, said) for name in self.names
        )

    @property
    def patterns(self) -> list[str]:
        """Patterns of SQL's LIKE that each row with a quotation matches; some others do, too."""
        found = {
            form
            for one in (*self.fragments, *self.names)
            for form in (one, json.dumps(one)[1:-1], json.dumps(one, ensure_ascii=False)[1:-1])
        }
        return [f"%{_SIGNS.sub(_ESCAPED, one)}%" for one in sorted(found)]


@dataclass(frozen=True)
class Column:
    """A column that holds text or JSON."""

    table: str
    name: str
    is_json: bool


def fragments(texts: Iterable[str], each: int = 2) -> list[str]:
    """Return what texts are known again by: the longest runs of plain characters of each; pure.

    Args:
        texts: a short one, or one of signs alone, gives none.
        each: fragments of one text at most.
    """
    found: dict[str, None] = {}
    for one in texts:
        runs = sorted(set(_RUN.findall(one)), key=lambda run: (-len(run), run))
        found |= dict.fromkeys(run[:LONGEST_FRAGMENT].strip() for run in runs[:each])
    return list(found)


def text_columns(session: Session) -> list[Column]:
    """Return each column of text or JSON of the tables; partitions count as their whole."""
    return [
        Column(table, name, kind in _JSON_TYPES) for table, name, kind in session.execute(_COLUMNS)
    ]


def find(session: Session, sought: Sought, without: Collection[str] = ()) -> dict[str, int]:
    """Return in how many rows of which tables it is quoted; reads all but those `without`."""
    if not sought.patterns:
        return {}
    found = Counter[str]()
    by_table: dict[str, list[Column]] = {}
    for column in text_columns(session):
        by_table.setdefault(column.table, []).append(column)
    for table, columns in by_table.items():
        if table in without:
            continue
        for row in _rows_with(session, table, columns, sought, with_keys=False):
            found[table] += any(sought.is_in(_said(value)) for value in row)
    return dict(+found)


def blank(session: Session, sought: Sought, may: Callable[[Column], bool]) -> Counter[str]:
    """Blank each string that quotes it in the columns that may be; return rows by table.

    Of JSON the string goes, not the whole; of a text the whole. Keys and numbers stay.
    """
    changed = Counter[str]()
    if not sought.patterns:
        return changed
    by_table: dict[str, list[Column]] = {}
    for column in text_columns(session):
        if may(column):
            by_table.setdefault(column.table, []).append(column)
    for table, columns in by_table.items():
        for *values, part, place in list(
            _rows_with(session, table, columns, sought, with_keys=True)
        ):
            new = {
                column.name: blanked(value, sought)
                for column, value in zip(columns, values, strict=True)
            }
            old = dict(zip((column.name for column in columns), values, strict=True))
            if new != old:
                _write(session, table, columns, new, {"part": part, "place": place})
                changed[table] += 1
    return changed


def blanked(value: Any, sought: Sought) -> Any:
    """Return a value without the strings, at any depth, that quote it; pure."""
    if isinstance(value, str):
        return ERASED if sought.is_in(value) else value
    if isinstance(value, dict):
        return {
            (ERASED if sought.is_in(name) else name): blanked(one, sought)
            for name, one in value.items()
        }
    if isinstance(value, list):
        return [blanked(one, sought) for one in value]
    return value


def _rows_with(
    session: Session,
    table: str,
    columns: Sequence[Column],
    sought: Sought,
    *,
    with_keys: bool,
) -> Iterator[Any]:
    names = ", ".join(f'"{column.name}"' for column in columns)
    # Where a row lies is its key as long as it is locked: in which partition, and where in that.
    place, lock = (", tableoid, ctid::text", " FOR UPDATE") if with_keys else ("", "")
    where = " OR ".join(f'"{column.name}"::text LIKE ANY(:patterns)' for column in columns)
    query = text(f'SELECT {names}{place} FROM "{table}" WHERE {where}{lock}')
    values = {"patterns": sought.patterns}
    yield from session.execute(query, values, execution_options={"yield_per": _ROWS_AT_ONCE})


def _write(
    session: Session, table: str, columns: Sequence[Column], new: dict[str, Any], at: dict[str, Any]
) -> None:
    changes = ", ".join(
        f'"{c.name}" = CAST(:{c.name} AS jsonb)' if c.is_json else f'"{c.name}" = :{c.name}'
        for c in columns
    )
    given = {c.name: _as_json(new[c.name]) if c.is_json else new[c.name] for c in columns}
    where = "tableoid = CAST(:part AS oid) AND ctid = CAST(:place AS tid)"
    session.execute(text(f'UPDATE "{table}" SET {changes} WHERE {where}'), given | at)


def _as_json(value: Any) -> str | None:
    return None if value is None else json.dumps(value)


def _said(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False)


def _is_word(name: str, said: str) -> bool:
    if len(name) < SHORTEST_NAME:
        return said == name
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", said) is not None


_COLUMNS = text(
    """
    SELECT own.relname, a.attname, format_type(a.atttypid, NULL)
    FROM pg_class AS own
    JOIN pg_attribute AS a ON a.attrelid = own.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE own.relkind IN ('r', 'p') AND NOT own.relispartition
      AND own.relnamespace = current_schema()::regnamespace
      AND format_type(a.atttypid, NULL) IN ('json', 'jsonb', 'text', 'character varying')
    ORDER BY own.relname, a.attnum
    """
)
