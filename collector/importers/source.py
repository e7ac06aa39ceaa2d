"""A file under import: its bytes, gunzipped, as lines or as the values of a JSON document.

Memory stays constant: one line or one item is held at a time, and none above `MAX_ROW_BYTES`.
"""

import codecs
import csv
import gzip
import json
import math
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from collector.record import plain

MAX_ROW_BYTES = 64 * 1024 * 1024
"""A longer line or item is rejected unread; no record may be as large anyway."""

HEAD_BYTES = 64 * 1024
"""Of a file that are looked at to tell a document from lines."""

CHUNK_CHARS = 1024 * 1024

PARQUET_ROWS = 256
"""Rows of a Parquet file that are turned into values at once."""

Row = tuple[int, str, dict[str, Any] | str]
"""Place from 1, text, and the object read from it, or the reason why there is none."""


@dataclass(frozen=True)
class Defaults:
    """What records get that say nothing of it themselves."""

    role: str = "coder"
    project: str = "default"
    task_type: str | None = None


@dataclass
class Source:
    """One file, what its records get by default, and how far it has been read.

    Args:
        path: of the file; a name that ends with `.gz` is gunzipped.
        defaults: role, project and task type of records that name none.
        mapping: file that says what the columns mean, for formats that need one.
        skip: places up to this one were imported before, and may be left out.
    """

    path: Path
    defaults: Defaults = field(default_factory=Defaults)
    mapping: Path | None = None
    skip: int = 0
    _raw: IO[bytes] | None = field(default=None, repr=False)

    def open(self) -> IO[bytes]:
        """Open the file for reading its bytes, gunzipped."""
        self._raw = raw = open(self.path, "rb")
        if self.path.suffix != ".gz":
            return raw
        unzipped = gzip.GzipFile(fileobj=raw)
        unzipped.myfileobj = raw  # type: ignore[assignment]  # closing the one closes the other
        return cast(IO[bytes], unzipped)

    def position(self) -> int:
        """Return how many bytes of the file, as it lies on the disk, were read: for progress."""
        if self._raw is None:
            return 0
        return self.size() if self._raw.closed else self._raw.tell()

    def size(self) -> int:
        """Return the size of the file on the disk, in bytes."""
        return self.path.stat().st_size

    def rows(self) -> Iterator[Row]:
        """Yield the objects of a JSONL file, a JSON list, JSON values in a row, or a table's rows.

        The name tells a table (`.parquet`, `.csv`, `.tsv`), the first two lines a JSON document.
        A file that breaks off (a truncated or damaged gzip) ends with a reason.
        """
        number = 0
        try:
            for number, text, row in self._rows():
                yield number, text, row
        except (OSError, EOFError, zlib.error, csv.Error, UnicodeDecodeError) as error:
            yield number + 1, "", f"unreadable: {error}"

    def _rows(self) -> Iterator[Row]:
        name = self.path.name.removesuffix(".gz")
        if name.endswith(".parquet"):
            return self._parquet()
        if name.endswith((".csv", ".tsv")):
            return self._csv("\t" if name.endswith(".tsv") else ",")
        return self._values() if self._is_document() else self._lines()

    def _parquet(self) -> Iterator[Row]:
        from pyarrow import ArrowException  # not by every import: it takes a third of a second
        from pyarrow.parquet import ParquetFile

        try:
            with self.open() as file, ParquetFile(file) as table:
                number = 0
                for batch in table.iter_batches(batch_size=PARQUET_ROWS):
                    for values in batch.to_pylist():
                        number += 1
                        if number > self.skip:
                            yield number, *_item_of(_json_values_of(values))
        except ArrowException as error:
            raise OSError(str(error).splitlines()[0]) from error

    def _csv(self, delimiter: str) -> Iterator[Row]:
        """Yield a table's rows by its header; a row of another width is faulty."""
        csv.field_size_limit(MAX_ROW_BYTES)
        with TextIOWrapper(cast(BinaryIO, self.open()), "utf-8-sig", "surrogateescape", "") as file:
            table = csv.reader(file, delimiter=delimiter, strict=True)
            header = next(table, [])
            for number, cells in enumerate(filter(None, table), start=1):
                if number <= self.skip:
                    continue
                if len(cells) != len(header):
                    text = delimiter.join(cells)
                    yield number, text, f"not_a_row: {len(cells)} cells, expected {len(header)}"
                else:
                    named = zip(header, cells, strict=True)
                    yield number, *_item_of({name: cell or None for name, cell in named})

    def _is_document(self) -> bool:
        """Tell a document from lines: a list, or an object that goes on in the second line."""
        with self.open() as file:
            head = file.read(HEAD_BYTES).removeprefix(codecs.BOM_UTF8)
        lines = (line.strip() for line in head.split(b"\n"))
        first, second = (*islice(filter(None, lines), 2), b"", b"")[:2]
        goes_on = first.startswith(b"{") and second.startswith((b'"', b"}"))
        return first.startswith(b"[") or (goes_on and isinstance(_row_of(first)[1], str))

    def _lines(self) -> Iterator[Row]:
        with self.open() as file:
            for number, raw in enumerate(_bounded_lines(file), start=1):
                line = raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw
                if number > self.skip and line.strip():
                    yield number, *_row_of(line)

    def _values(self) -> Iterator[Row]:
        with TextIOWrapper(
            cast(BinaryIO, self.open()), encoding="utf-8-sig", errors="surrogateescape"
        ) as file:
            for number, (value, fault) in enumerate(_json_values(file), start=1):
                if fault:
                    yield number, "", fault
                elif number > self.skip:
                    yield number, *_item_of(value)


def _bounded_lines(file: IO[bytes]) -> Iterator[bytes]:
    """Yield lines; one that is too long is cut, which its length tells, and its rest skipped."""
    while raw := file.readline(MAX_ROW_BYTES + 1):
        rest = raw
        while len(rest) > MAX_ROW_BYTES and not rest.endswith(b"\n"):
            rest = file.readline(MAX_ROW_BYTES + 1)
        yield raw


def _row_of(raw: bytes) -> tuple[str, dict[str, Any] | str]:
    """Return a line's text, and its object or what is wrong with it."""
    if len(raw) > MAX_ROW_BYTES:
        return "", f"too_large: a line of more than {MAX_ROW_BYTES} bytes"
    text = raw.decode("utf-8", "replace").strip()
    try:
        raw.decode("utf-8")
        value = _decoder.decode(text)
    except UnicodeDecodeError as error:
        return text, f"invalid_utf8: byte {error.start} of the line"
    except RecursionError:
        return text, "too_deep: nested too deeply"
    except ValueError as error:
        return text, f"not_json: {error}"
    return text, value if isinstance(value, dict) else _not_an_object(value)


def _item_of(value: Any) -> tuple[str, dict[str, Any] | str]:
    """Return an item's text, and the item or what is wrong with it."""
    text = json.dumps(value, ensure_ascii=False)
    if _BYTES_THAT_ARE_NO_UTF8.search(text):
        return text.encode("utf-8", "replace").decode(), "invalid_utf8: bytes of the item"
    return text, value if isinstance(value, dict) else _not_an_object(value)


def _json_values_of(value: Any) -> Any:
    """Return a table's value as JSON has it: times as text, NaN as null, bytes as text."""
    if isinstance(value, dict):
        return {str(name): _json_values_of(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_json_values_of(item) for item in value]
    if isinstance(value, float) and math.isnan(value):
        return None
    return plain(value)


def _not_an_object(value: Any) -> str:
    return f"not_an_object: a JSON {type(value).__name__}"


def _json_values(file: IO[str]) -> Iterator[tuple[Any, str]]:
    """Yield (value, "") of lists' items or of values in a row, then (None, fault) if it breaks.

    An item is decoded as soon as it is whole, so a long list is never in memory at once.
    """
    buffer, at, wanted, in_list = file.read(CHUNK_CHARS), 0, CHUNK_CHARS, False
    while True:
        at = _BETWEEN.match(buffer, at).end()  # type: ignore[union-attr]
        if buffer.startswith("]" if in_list else "[", at):
            in_list, at = not in_list, at + 1
            continue
        try:
            value, at = _decoder.raw_decode(buffer, at)
        except RecursionError:
            yield None, "too_deep: nested too deeply; what follows it was not read"
            return
        except ValueError as error:
            more = file.read(wanted) if len(buffer) - at <= MAX_ROW_BYTES else ""
            if more:
                buffer, at = buffer[at:] + more, 0
                wanted *= 2  # an item of n characters is tried log n times, not n
                continue
            if at < len(buffer) or in_list:
                yield None, f"not_json: {error}; what follows it was not read"
            return
        wanted = CHUNK_CHARS
        yield value, ""


_BETWEEN = re.compile(r"[ \t\r\n,]*")
_BYTES_THAT_ARE_NO_UTF8 = re.compile("[\udc80-\udcff]")
"""What Python's `surrogateescape` makes of them."""


def _constant(name: str) -> float | None:
    """Read NaN as null, which is what data frames mean by it."""
    return None if name == "NaN" else float(name)


_decoder = json.JSONDecoder(parse_constant=_constant)
