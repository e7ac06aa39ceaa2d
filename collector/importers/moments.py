"""Times as logs write them: ISO text with or without a zone, or a number since 1970."""

from datetime import UTC, datetime
from typing import Any

RECORDED_AT = datetime(2024, 1, 1, tzinfo=UTC)
"""The date of records that name none: a fixed one, so that importing again gives the same ids."""

_UNITS_PER_S = (1, 1_000, 1_000_000, 1_000_000_000)
_YEAR_3000_S = 32_503_680_000


def moment_of(value: Any) -> datetime | None:
    """Return the UTC time that a value names, or None if it names none from 1970 to 2999.

    Text without a zone is UTC. Of numbers the size tells seconds, milliseconds, micro- or
    nanoseconds.
    """
    match value:
        case bool():
            return None
        case int() | float():
            return _of_number(value)
        case str():
            return _of_text(value.strip())
        case datetime():
            return _checked(value)
    return None


def milliseconds_between(start: Any, end: Any) -> float | None:
    """Return the milliseconds from one time to a later one; None if either names none."""
    first, last = moment_of(start), moment_of(end)
    if first is None or last is None or last < first:
        return None
    return (last - first).total_seconds() * 1000


def _of_text(text: str) -> datetime | None:
    try:
        return _of_number(float(text))
    except ValueError:
        pass
    try:
        return _checked(datetime.fromisoformat(text.removesuffix(" UTC")))
    except ValueError:
        return None


def _of_number(value: float) -> datetime | None:
    for units in _UNITS_PER_S:
        if 0 < value / units < _YEAR_3000_S:
            return datetime.fromtimestamp(value / units, tz=UTC)
    return None


def _checked(moment: datetime) -> datetime | None:
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return aware.astimezone(UTC) if 1970 <= moment.year < 3000 else None
