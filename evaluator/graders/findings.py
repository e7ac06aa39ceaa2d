"""Reading the findings of a code review, from JSON or from words.

Lenient in form, strict in meaning: what names no line points nowhere, and an answer that neither
lists findings nor says that there are none cannot be read.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from evaluator.graders.answers import final_text

MAX_CHARACTERS: Final = 500_000
"""What is read of an answer: a review longer than that is none."""

NOWHERE: Final = -(10**6)
"""The line of a finding that names none."""


@dataclass(frozen=True)
class Finding:
    """One remark of a review; lines from 1, texts empty where nothing is said."""

    line: int
    last_line: int
    kind: str = ""
    severity: str = ""
    comment: str = ""


_LISTS: Final = ("findings", "issues", "bugs", "problems", "vulnerabilities", "comments", "review")
_LINE_KEYS: Final = ("line", "lines", "line_number", "lineno", "line_start", "start_line")
_KIND_KEYS: Final = ("kind", "type", "category", "rule", "cwe", "name")
_SEVERITY_KEYS: Final = ("severity", "level", "priority")
_COMMENT_KEYS: Final = ("comment", "message", "description", "title", "explanation", "detail")
_STARTS: Final = 20

_OPENING = re.compile(r"[\[{]")
_FENCE = re.compile(r"^[ \t]*```.*?(?:^[ \t]*```|\Z)", re.M | re.S)
_NUMBERS = re.compile(r"(\d{1,6})(?:\s*(?:-|–|—|\.\.|to|and|,)\s*(\d{1,6}))?")
_PLACE = re.compile(
    r"(?:\blines?\b|\bln\.?|\bL(?=\d))[\s#:*`]*(\d{1,6})(?:\s*(?:-|–|—|to)\s*L?(\d{1,6}))?"
    r"|^[\s*>`-]*(\d{1,6})(?:-(\d{1,6}))?[*`]*\s*:",
    re.IGNORECASE,
)
_HEADING = re.compile(r"\s*(?:#+|\*\*|\d{1,3}[.)]|[-*])\s*\S.{0,100}\Z")
_SEVERITY = re.compile(
    r"\b(critical|blocker|high|severe|major|medium|moderate|low|minor|trivial|info)\b", re.I
)
_NOTHING = re.compile(
    r"\b(?:no|without|any|zero|0)\s+(?:\w+[\s-]+){0,4}?"
    r"(?:issues?|problems?|bugs?|findings?|defects?|faults?|vulnerabilit\w+|weakness\w*|concerns?)\b"
    r"|\bnothing (?:to (?:report|fix|flag)|wrong)|\blgtm\b|\bfindings?\s*:\s*none\b"
    r"|\A\W*none\W*\Z"
    r"|\b(?:looks?|is|are|seems?)\s+(?:\w+\s+){0,2}?(?:clean|correct|fine|good|safe|secure|sound)\b",
    re.IGNORECASE,
)


def read_findings(answer: str) -> list[Finding] | None:
    """Return the findings of a review; empty when it says that there are none.

    Equal findings count once. None when it can be read neither as JSON nor as words.
    """
    text = final_text(answer)[:MAX_CHARACTERS]
    rows = _json_rows(text)
    if rows:
        return list(dict.fromkeys(map(_from_row, rows)))
    words = _FENCE.sub("\n", text)
    found = list(dict.fromkeys(_from_words(words)))
    if found:
        return found
    return [] if rows is not None or _NOTHING.search(words) else None


# --- JSON


def _json_rows(text: str) -> list[dict[str, Any]] | None:
    """The objects of the first JSON value that lists findings; empty after an empty list only.

    None without such a value.
    """
    reader = json.JSONDecoder()
    place, single, is_empty = 0, [], False
    for _ in range(_STARTS):
        start = _OPENING.search(text, place)
        if start is None:
            break
        try:
            value, place = reader.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            place = start.end()
            continue
        rows = _rows_of(value)
        if rows:
            return rows
        is_empty |= rows is not None
        if isinstance(value, dict) and any(key in value for key in _LINE_KEYS):
            single.append(value)  # one object per line, without a list around them
    return single or ([] if is_empty else None)


def _rows_of(value: Any) -> list[dict[str, Any]] | None:
    if isinstance(value, dict):
        value = next((value[key] for key in _LISTS if isinstance(value.get(key), list)), None)
    if not isinstance(value, list):
        return None
    rows = [row for row in value if isinstance(row, dict)]
    return rows if len(rows) == len(value) else None


def _from_row(row: Mapping[str, Any]) -> Finding:
    line, last = _lines_of(_first(row, _LINE_KEYS))
    end = row.get("end_line", row.get("last_line", row.get("line_end")))
    if isinstance(end, int) and not isinstance(end, bool) and end >= line:
        last = end
    return Finding(
        line,
        last,
        *(str(_first(row, keys) or "") for keys in (_KIND_KEYS, _SEVERITY_KEYS, _COMMENT_KEYS)),
    )


def _first(row: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    return next((row[key] for key in keys if row.get(key) is not None), None)


def _lines_of(value: Any) -> tuple[int, int]:
    """The lines that a JSON value names: 12, "12", "L12", "12-14" or [12, 14]."""
    if isinstance(value, list):
        value = " - ".join(str(one) for one in value[:2])
    match = _NUMBERS.search(str(value)) if value is not None else None
    return _range(match[1], match[2]) if match else (NOWHERE, NOWHERE)


def _range(first: str, last: str | None) -> tuple[int, int]:
    low, high = int(first), int(last or first)
    return (low, high) if low <= high else (low, low)


# --- words


def _from_words(text: str) -> Iterator[Finding]:
    """A finding for each text line that names a line; what follows it up to the next belongs to it.

    Further lines named in the same text line ("set in line 3") are part of the remark.
    """
    place: tuple[int, int] | None = None
    said: list[str] = []
    for written in text.splitlines():
        match = _PLACE.search(written)
        if match is None:
            said.append(written)
            continue
        heading = [said.pop()] if said and _HEADING.match(said[-1]) else []
        if place is not None:
            yield _remark(place, said)
        said = heading
        place = _range(match[1] or match[3], match[2] or match[4])
        said.append(written)
    if place is not None:
        yield _remark(place, said)


def _remark(place: tuple[int, int], said: list[str]) -> Finding:
    comment = " ".join(one.strip() for one in said)
    severity = _SEVERITY.search(comment)
    return Finding(*place, "", severity[1] if severity else "", comment)
