"""From raw spool lines to scrubbed wire records: what the agent's thread does not wait for.

A raw line is either a call, `{"kind": "interaction", "id", "role", "at", "columns", "request",
"response", "episode"}`, whose record is still to be built, or any record that is built already,
`{"kind", "record", "episode"}`. Any process can prepare any line.
"""

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from collector.record import built_record, plain, to_json
from collector.scrub import Scrubber, scrub_record

INTERACTION, FEEDBACK = "interaction", "feedback"
"""Kinds of lines."""

EPISODES = 256
"""Episodes whose numbering of placeholders is remembered, the latest ones."""

_STRANGE = (b"\\u0000", b"\\ud", b"\\uD", b"NaN", b"Infinity")
"""What JSON text holds where PostgreSQL could not keep it; often it is harmless."""


class Preparer:
    """Builds and scrubs; within an episode the same value gets the same placeholder.

    Called by one thread at a time, or by several.
    """

    def __init__(self) -> None:
        self._scrubbers: OrderedDict[str, Scrubber] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, payload: bytes) -> bytes:
        """Return the scrubbed line of a raw one; whatever it raises, the record must be held."""
        line = self.read(payload)
        record = line["record"] if "record" in line else self.build(line)
        return self.write({"kind": line["kind"], "record": self.clean(line, record)})

    def clean(self, line: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
        """Return the scrubbed record of a raw line."""
        return scrub_record(record, self._scrubber(line.get("episode")))

    def read(self, payload: bytes) -> dict[str, Any]:
        """Return the values of a raw line, such as PostgreSQL can keep; raises ValueError."""
        line: dict[str, Any] = json.loads(payload, parse_constant=_named)
        return plain(line) if any(strange in payload for strange in _STRANGE) else line

    def write(self, line: Mapping[str, Any]) -> bytes:
        """Return the scrubbed line as it is spooled; raises TypeError where JSON has no value."""
        try:
            return to_json(line)
        except ValueError:  # 1e999 is an infinity too, and looks like any number
            return to_json(plain(line))

    def build(self, line: Mapping[str, Any]) -> dict[str, Any]:
        """Return the unscrubbed record of a raw line that holds a call."""
        columns = dict(line["columns"])
        started = columns.pop("started_at", None)
        if started is None:
            started = datetime.fromtimestamp(line["at"], UTC).isoformat()
        return built_record(
            line["id"], line["role"], line["request"], line["response"], started, columns
        )

    def _scrubber(self, episode: str | None) -> Scrubber:
        if episode is None:
            return Scrubber()
        with self._lock:
            scrubber = self._scrubbers.setdefault(episode, Scrubber())
            self._scrubbers.move_to_end(episode)
            if len(self._scrubbers) > EPISODES:
                self._scrubbers.popitem(last=False)
        return scrubber


def _named(constant: str) -> str:
    """Return the name of a number that JSON lacks, as `plain` does."""
    return str(float(constant))
