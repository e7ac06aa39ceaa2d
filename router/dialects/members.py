"""The members of a JSON object and where each value is written, so that one can be replaced.

A request that passes through keeps every byte but those: numbers, spaces, escapes and the order of
keys stay as the caller wrote them, which no JSON library would promise of a dump.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

Span = tuple[int, int]
"""Where a value begins and ends, in characters."""

_DECODER = json.JSONDecoder()
_BLANK = re.compile(r"[ \t\n\r]*")


def members(text: str) -> Iterator[tuple[str, Any, Span]]:
    """Yield key, value and the value's span of each member of the JSON object `text`.

    Raises:
        ValueError: it is no JSON object.
        RecursionError: it is nested too deeply.
    """
    position = _expect(text, 0, "{")
    if text[position : position + 1] == "}":
        return _expect_end(text, position + 1)
    while True:
        key, position = _DECODER.raw_decode(text, position)
        if not isinstance(key, str):
            raise ValueError(f"expected a name at character {position}")
        start = _expect(text, position, ":")
        value, end = _DECODER.raw_decode(text, start)
        yield key, value, (start, end)
        position = _skip_blank(text, end)
        if text[position : position + 1] == "}":
            return _expect_end(text, position + 1)
        position = _expect(text, position, ",")


def _skip_blank(text: str, position: int) -> int:
    match = _BLANK.match(text, position)
    return match.end() if match else position


def _expect(text: str, position: int, mark: str) -> int:
    """Return the position after `mark` and the blanks around it."""
    position = _skip_blank(text, position)
    if text[position : position + 1] != mark:
        raise ValueError(f"expected {mark!r} at character {position}")
    return _skip_blank(text, position + 1)


def _expect_end(text: str, position: int) -> None:
    if _skip_blank(text, position) != len(text):
        raise ValueError(f"expected the end at character {position}")
