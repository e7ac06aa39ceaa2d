"""The mapping file of the format `mapped`: which column of a row is what.

YAML; a value that starts with `$` is a path into the row (`$.a.b[0]`, `$['odd name']`), anything
else a constant. Everything wrong with the file is said at once, before the first row is read.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from collector.importers.lines import Malformed, parsed
from collector.record import FEEDBACK_KINDS, FEEDBACK_SOURCES
from foundation.errors import BadInput

SAID = ("messages", "prompt", "system", "answer", "tools", "request", "response")
TEXTS = ("role", "project", "task_type", "model", "episode", "key", "unit_id", "status")
NUMBERS = ("latency_ms", "ttft_ms", "cost_usd", "input_tokens", "output_tokens")
OTHERS = ("started_at", "attributes", "feedback")
KEYS = (*SAID, *TEXTS, *NUMBERS, *OTHERS)
FEEDBACK_KEYS = ("kind", "value", "values", "text", "name", "source", "actor")

_STEP = re.compile(
    r"""\.(?P<name>[\w-]+)|\[(?P<index>-?\d+)\]|\[(?P<quote>['"])(?P<odd>.+?)(?P=quote)\]"""
)


@dataclass(frozen=True)
class Column:
    """A path into a row, as it was written and as steps; or a constant, without steps."""

    written: Any
    steps: tuple[str | int, ...] | None

    def value(self, row: Mapping[str, Any]) -> Any:
        """Return what the row holds there, reading JSON text on the way; None for nothing."""
        if self.steps is None:
            return self.written
        found: Any = row
        for step in self.steps:
            found = parsed(found)
            if isinstance(step, str) and isinstance(found, Mapping):
                found = found.get(step)
            elif isinstance(step, int) and isinstance(found, list):
                found = found[step] if -len(found) <= step < len(found) else None
            else:
                return None
        return None if found == "" else found

    def text(self, row: Mapping[str, Any]) -> str | None:
        """Return a text or a number as text; None for nothing; raises Malformed."""
        value = self.value(row)
        if value is None or isinstance(value, str):
            return value
        if isinstance(value, int | float):
            return str(value)
        raise self.fault(value, "a text")

    def number(self, row: Mapping[str, Any]) -> float | None:
        """Return a number, from its text too; None for nothing; raises Malformed."""
        value = self.value(row)
        if value is None:
            return None
        try:
            return float(value)
        except (TypeError, ValueError):
            raise self.fault(value, "a number") from None

    def fault(self, value: Any, expected: str) -> Malformed:
        """Return the error of a row that holds something else here."""
        return Malformed(f"{self.written}: got {value!r:.80}, expected {expected}")


@dataclass(frozen=True)
class Statement:
    """Feedback that each row may carry: left out where its value and its text are empty."""

    kind: str
    name: str
    source: str
    value: Column | None
    values: Mapping[str, float] | None
    text: Column | None
    actor: Column | None

    def number(self, row: Mapping[str, Any]) -> float | None:
        """Return the value, by the table of `values` if there is one; raises Malformed."""
        if self.value is None:
            return None
        if self.values is None:
            given = self.value.value(row)
            truth = _TRUTH.get(str(given).strip().lower()) if self.kind == "success" else None
            return self.value.number(row) if truth is None else truth
        word = self.value.text(row) if self.value.value(row) not in (True, False) else None
        word = str(self.value.value(row)).lower() if word is None else word
        if self.value.value(row) is None:
            return None
        if word not in self.values:
            raise self.value.fault(word, f"one of {', '.join(self.values)}")
        return self.values[word]


_TRUTH = {"true": 1.0, "yes": 1.0, "1": 1.0, "false": 0.0, "no": 0.0, "0": 0.0}


@dataclass(frozen=True)
class RowMapping:
    """A checked mapping file."""

    columns: Mapping[str, Column]
    attributes: Mapping[str, Column]
    feedback: Sequence[Statement]


def read_mapping(path: Path | None) -> RowMapping:
    """Read and check a mapping file.

    Raises:
        BadInput: there is none, it is no YAML, or an entry is unknown or lacks something.
    """
    if path is None:
        raise BadInput("mapping file", None, "a YAML file", "Name it: --map FILE.")
    entries = _yaml(path)
    _require_known(path, "", entries, KEYS)
    asked = any(name in entries for name in ("messages", "prompt", "request"))
    answered = any(name in entries for name in ("messages", "answer", "response"))
    if not (asked and answered):
        raise BadInput(
            f"mapping file {path}",
            sorted(entries),
            "messages, or prompt (or request) and answer (or response)",
            "See docs/importing.md.",
        )
    attributes = entries.get("attributes") or {}
    statements = entries.get("feedback") or []
    if not isinstance(attributes, Mapping) or not isinstance(statements, list):
        raise BadInput(
            f"mapping file {path}",
            {"attributes": attributes, "feedback": statements},
            "attributes as names with paths, feedback as a list",
            "See docs/importing.md.",
        )
    return RowMapping(
        {n: _column(path, n, v) for n, v in entries.items() if n not in ("attributes", "feedback")},
        {str(n): _column(path, f"attributes.{n}", v) for n, v in attributes.items()},
        [_statement(path, f"feedback[{i}]", item) for i, item in enumerate(statements)],
    )


def _yaml(path: Path) -> dict[str, Any]:
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(
            "mapping file", str(path), f"a readable file ({error.strerror})", ""
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        shown = " ".join(str(error).split())
        raise BadInput("mapping file", str(path), f"YAML ({shown})", "Mend it.") from None
    if not isinstance(entries, dict):
        raise BadInput(
            f"mapping file {path}", entries, "names with paths", "See docs/importing.md."
        )
    return {str(name): value for name, value in entries.items()}


def _require_known(path: Path, place: str, entries: Any, known: Sequence[str]) -> None:
    unknown = sorted(set(entries) - set(known)) if isinstance(entries, Mapping) else [entries]
    if unknown:
        raise BadInput(
            f"mapping file {path}{place and ', '}{place}",
            unknown[0],
            f"one of {', '.join(known)}",
            "Mend or remove it.",
        )


def _column(path: Path, name: str, written: Any) -> Column:
    if not isinstance(written, str) or not written.startswith("$"):
        return Column(written, None)
    steps: list[str | int] = []
    at = 1
    while at < len(written):
        step = _STEP.match(written, at)
        if step is None:
            raise BadInput(
                f"mapping file {path}, {name}",
                written,
                "a path such as $.a.b[0] or $['odd name']",
                "A constant does not start with $.",
            )
        steps.append(int(step["index"]) if step["index"] else step["name"] or step["odd"])
        at = step.end()
    return Column(written, tuple(steps))


def _statement(path: Path, place: str, item: Any) -> Statement:
    _require_known(path, place, item, FEEDBACK_KEYS)
    kinds = tuple(kind for kind in FEEDBACK_KINDS if kind != "preference")
    for name, given, allowed in (
        ("kind", item.get("kind"), kinds),
        ("source", item.get("source", "human"), FEEDBACK_SOURCES),
    ):
        if given not in allowed:
            raise BadInput(
                f"mapping file {path}, {place}.{name}", given, f"one of {', '.join(allowed)}", ""
            )
    values = item.get("values")
    if not (item.get("value") is not None or item.get("text") is not None):
        raise BadInput(f"mapping file {path}, {place}", item, "a value or a text", "Name its path.")
    return Statement(
        kind=item["kind"],
        name=str(item.get("name") or item["kind"]),
        source=item.get("source", "human"),
        value=_optional(path, f"{place}.value", item.get("value")),
        values=_numbers(path, f"{place}.values", values) if values is not None else None,
        text=_optional(path, f"{place}.text", item.get("text")),
        actor=_optional(path, f"{place}.actor", item.get("actor")),
    )


def _optional(path: Path, place: str, written: Any) -> Column | None:
    return None if written is None else _column(path, place, written)


def _numbers(path: Path, place: str, values: Any) -> dict[str, float]:
    """Return a table of words and numbers; YAML reads some words (yes, true) as booleans."""
    try:
        return {
            str(word).lower() if isinstance(word, bool) else str(word): float(number)
            for word, number in values.items()
        }
    except (AttributeError, TypeError, ValueError):
        raise BadInput(
            f"mapping file {path}, {place}", values, "words with numbers", "Such as {good: 1}."
        ) from None
