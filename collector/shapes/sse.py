"""Read the events of a server-sent event stream from its bytes, as far as they came."""

import json
from collections.abc import Iterator
from typing import Any

from collector.shapes import Event

DONE = b"[DONE]"


def events(body: bytes) -> Iterator[Event]:
    """Yield each event whose data is a JSON object; a last one that was cut is left out."""
    name: str | None = None
    data: list[bytes] = []
    offset = 0
    for line in body.splitlines(keepends=True):
        offset += len(line)
        field, _, value = line.rstrip(b"\r\n").partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ").decode("utf-8", "replace")
        elif not field and not value:
            yield from _event(name, data, offset)
            name, data = None, []
    yield from _event(name, data, offset)


def is_done(body: bytes) -> bool:
    """Return whether the body ends with OpenAI's closing `[DONE]`."""
    return body.rstrip().endswith(DONE)


def _event(name: str | None, data: list[bytes], end: int) -> Iterator[Event]:
    """Yield the event of some lines of data; or each line's, of a server that parts none."""
    parsed = _json(b"\n".join(data)) if data else None
    if isinstance(parsed, dict):
        yield Event(name, parsed, end)
    elif len(data) > 1:
        for line in data:
            if isinstance(alone := _json(line), dict):
                yield Event(name, alone, end)


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # [DONE], or the last line of a stream that was cut
        return None
