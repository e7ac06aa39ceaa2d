"""What a reader of a format is given, and what it yields: records understood and rejected lines."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from collector.importers.source import Row as SourceRow
from collector.importers.source import Source


@dataclass(frozen=True)
class Imported:
    """One interaction understood, the feedback on it, and whether its answer was lost.

    `line` is its place in the file: a line, or the number of an item of a document, from 1. Several
    interactions may share a place; places never go back. A `preference` feedback belongs to the
    item of its winner and names the loser's interaction, which may be another item's.
    """

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
    """Reads one file of a format."""

    def __call__(self, source: Source) -> Iterator[Imported | Reject]:
        """Yield what each line or item is or why it is rejected, in order; raises nothing."""
        ...


class Malformed(ValueError):
    """A row that is JSON but not of the format; the text says what is missing."""

    code: ClassVar[str] = "malformed"


class NoAnswer(Malformed):
    """A row of the format in which no model answered: there is no interaction to keep."""

    code: ClassVar[str] = "no_answer"


Translate = Callable[[dict[str, Any], int, Source], Iterable[Imported | Reject]]
"""Makes of one row, its place and its file what it holds; raises `Malformed`."""


def read_rows(
    source: Source, translate: Translate, rows: Iterable[SourceRow] | None = None
) -> Iterator[Imported | Reject]:
    """Yield what `translate` makes of each row of a JSONL file or a JSON document.

    A row of a shape that nobody foresaw is rejected like any other: it never ends the import.
    `rows` are those of a file that is neither lines nor a document.
    """
    for number, text, row in source.rows() if rows is None else rows:
        if isinstance(row, str):
            yield Reject(number, row, text)
            continue
        try:
            found = list(translate(row, number, source))
        except Malformed as error:
            yield Reject(number, f"{error.code}: {error}", text)
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            yield Reject(number, f"unexpected: {type(error).__name__}: {error}", text)
        except RecursionError:
            yield Reject(number, "too_deep: nested too deeply", text)
        else:
            yield from found


def text_field(row: dict[str, Any], name: str) -> str:
    """Return a field that must be text.

    Raises:
        Malformed: it is missing or of another type.
    """
    value = row.get(name)
    if not isinstance(value, str):
        raise Malformed(f"{name}: got {value!r:.80}, expected a text")
    return value


def parsed(value: Any) -> Any:
    """Return JSON that hides in a text (an object or a list) as values, anything else as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value
