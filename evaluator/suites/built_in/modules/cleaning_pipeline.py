"""Readings of sensors: parsed, checked against the range of their sensor, and stored.

A line is `sensor minute value`, the value in tenths of a degree. Sensors have a range, both ends
included. The store keeps one value for each sensor and minute; rejected lines are kept with a
reason: `format`, `sensor` (not known), `range` or `duplicate`.
"""

from dataclasses import dataclass

KEEP_FIRST = True
CLIP = True


@dataclass(frozen=True)
class Reading:
    """A line that was understood."""

    sensor: str
    minute: int
    value: int


class Rejected(Exception):
    """Says why a line is not stored."""


def parse(line: str) -> Reading:
    """The reading of a line."""
    parts = line.split()
    try:
        sensor, minute, value = parts[0], int(parts[1]), int(parts[2])
    except (IndexError, ValueError):
        raise Rejected("format") from None
    return Reading(sensor, minute, value)


class Ranges:
    """What each sensor can measure."""

    def __init__(self, ranges: dict[str, tuple[int, int]]) -> None:
        self.ranges = ranges

    def check(self, reading: Reading) -> Reading:
        """The reading, as it may be stored."""
        if reading.sensor not in self.ranges:
            raise Rejected("sensor")
        low, high = self.ranges[reading.sensor]
        if CLIP:
            return Reading(reading.sensor, reading.minute, min(max(reading.value, low), high))
        elif not low <= reading.value <= high:
            raise Rejected("range")
        else:
            return reading


class Store:
    """Values by sensor and minute."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, int], int] = {}

    def write(self, reading: Reading) -> None:
        """Stores a reading."""
        key = (reading.sensor, reading.minute)
        if KEEP_FIRST and key in self.values:
            raise Rejected("duplicate")
        self.values[key] = reading.value


def load(lines: list[str], ranges: Ranges, store: Store) -> list[tuple[int, str]]:
    """Stores lines; returns number (from 1) and reason of those rejected."""
    rejected = []
    for number, line in enumerate(lines, start=1):
        try:
            store.write(ranges.check(parse(line)))
        except Rejected as error:
            rejected.append((number, str(error)))
    return rejected
