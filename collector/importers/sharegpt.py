"""ShareGPT conversations: `{"conversations": [{"from", "value"}], "system"?, "tools"?}`.

Turns are `human`, `gpt`, `system`, `function_call` and `observation` (or their many other names);
`tools` may be JSON text. Calls that follow a turn of `gpt` directly belong to it. Every answer
becomes an interaction with what came before it as its request.
"""

from collections.abc import Iterator
from typing import Any

from collector.importers.answers import one_per_answer
from collector.importers.lines import Imported, Malformed, Reject, read_rows
from collector.importers.messages import asked_with, openai_messages, with_system
from collector.importers.row import Row
from collector.importers.source import Source

FORMAT = "sharegpt"
_FIELDS = ("conversations", "conversation", "messages", "dialog", "dialogue", "turns", "items")
_KEPT = ("id", "images", "videos", "audios", "source", "category", "tags", "language", "lang")


def read(source: Source) -> Iterator[Imported | Reject]:
    """Yield the records of one file."""
    return read_rows(source, _translate)


def recognises(row: dict[str, Any]) -> bool:
    """Tell a row with a list of turns."""
    return "conversations" in row or "conversation" in row


def _translate(raw: dict[str, Any], place: int, source: Source) -> list[Imported]:
    field = next((name for name in _FIELDS if raw.get(name)), None)
    if field is None:
        raise Malformed(
            f"got the fields {', '.join(sorted(raw))[:200]}, expected 'conversations' with turns"
        )
    row = Row.of(FORMAT, raw, place, source)
    request = asked_with(raw.get("model"), raw.get("tools") or raw.get("functions"))
    messages = with_system(openai_messages(raw[field], field), raw)
    kept = {name: raw[name] for name in _KEPT if raw.get(name)}
    return one_per_answer(row, request, messages, attributes=kept or None)
