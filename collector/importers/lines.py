"""What a reader of a format yields: imported records and rejected lines."""

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class Imported:
    """One line understood: an interaction, the feedback on it, and whether its answer was lost."""

    line: int
    interaction: dict[str, Any]
    feedback: list[dict[str, Any]] = field(default_factory=list)
    lost: bool = False


@dataclass(frozen=True)
class Reject:
    """One line not understood; `reason` starts with a code and a colon."""

    line: int
    reason: str
    text: str


class Reader(Protocol):
    """Reads one file of a format, line by line."""

    def __call__(self, path: Path) -> Iterator[Imported | Reject]:
        """Yield a result for each line that is not blank, in order."""
        ...


class Malformed(ValueError):
    """A line that is JSON but not of the format; the text says what is missing."""


def json_lines(path: Path) -> Iterator[tuple[int, str, dict[str, Any] | Reject]]:
    """Yield (line number from 1, text, object or reject) of a JSONL file, plain or gzipped.

    A file that breaks off (a truncated or damaged gzip) ends with a reject.
    """
    number = 0
    try:
        with _open(path) as file:
            for number, raw in enumerate(file, start=1):
                text = raw.decode("utf-8", "replace").strip()
                if text:
                    yield number, text, _parsed(number, text)
    except (OSError, EOFError, zlib.error) as error:
        yield number + 1, "", Reject(number + 1, f"unreadable: {error}", "")


def _open(path: Path) -> Any:
    return gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb")


def _parsed(number: int, text: str) -> dict[str, Any] | Reject:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        return Reject(number, f"not_json: {error}", text)
    if not isinstance(value, dict):
        return Reject(number, f"not_an_object: a JSON {type(value).__name__}", text)
    return value


def text_field(row: dict[str, Any], name: str) -> str:
    """Return a field that must be text.

    Raises:
        Malformed: it is missing or of another type.
    """
    value = row.get(name)
    if not isinstance(value, str):
        raise Malformed(f"{name}: got {value!r:.80}, expected a text")
    return value
