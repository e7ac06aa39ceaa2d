"""A file under import: its bytes, gunzipped, as lines or as the values of a JSON document.

Memory stays constant: one line or one item is held at a time, and none above `MAX_ROW_BYTES`.
"""

import codecs
import gzip
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

MAX_ROW_BYTES = 64 * 1024 * 1024
"""A longer line or item is rejected unread; no record may be as large anyway."""

HEAD_BYTES = 64 * 1024
"""Of a file that are looked at to tell a document from lines."""

CHUNK_CHARS = 1024 * 1024

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
        """Yield the objects of a JSONL file, a JSON list, or JSON values one after the other.

        A file that breaks off (a truncated or damaged gzip) ends with a reason.
        """
        number = 0
        try:
            for number, text, row in self._values() if self._is_document() else self._lines():
                yield number, text, row
        except (OSError, EOFError, zlib.error) as error:
            yield number + 1, "", f"unreadable: {error}"

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


def _not_an_object(value: Any) -> str:
    return f"not_an_object: a JSON {type(value).__name__}"


def _json_values(file: IO[str]) -> Iterator[tuple[Any, str]]:
    """Yield (value, "") of a list's items or of values in a row, then (None, fault) if it breaks.

    An item is decoded as soon as it is whole, so a long list is never in memory at once.
    """
    buffer, at, wanted = file.read(CHUNK_CHARS).lstrip(), 0, CHUNK_CHARS
    in_list = buffer.startswith("[")
    at += in_list
    while True:
        at = _BETWEEN.match(buffer, at).end()  # type: ignore[union-attr]
        if in_list and buffer.startswith("]", at):
            return
        try:
            value, at = _decoder.raw_decode(buffer, at)
        except RecursionError:
            yield None, "too_deep: nested too deeply"
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
