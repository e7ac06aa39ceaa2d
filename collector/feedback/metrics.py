"""Declared metrics: which way is better, and which values a statement may give.

A metric nobody declared is accepted with any value. A declared one is held to its range from then
on; what is stored already stays, since feedback is append-only.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import Session

from collector.tables import Metric
from foundation.errors import BadInput, NotFound
from foundation.tables import now

MAX, MIN = "max", "min"
OUT_OF_RANGE = "out_of_range"
"""Code of the refusal of a value outside its metric's range."""


@dataclass(frozen=True)
class MetricUse:
    """A metric by name: its declaration, if it has one, and what was said by it."""

    name: str
    direction: str | None
    """max or min; None: not declared."""
    low: float | None
    high: float | None
    description: str | None
    n: int
    """Statements."""
    lowest: float | None
    highest: float | None


def declare(
    session: Session,
    name: str,
    direction: str,
    low: float | None = None,
    high: float | None = None,
    description: str | None = None,
) -> Metric:
    """Declare a metric, or declare it anew.

    Raises:
        BadInput: no name, an unknown direction, or a range that holds no two values.
    """
    _require_sense(name, direction, low, high)
    said = {"direction": direction, "low": low, "high": high, "description": description}
    session.execute(
        insert(Metric)
        .values(name=name, created_at=now(), **said)
        .on_conflict_do_update(index_elements=["name"], set_=said)
    )
    return session.get_one(Metric, name, populate_existing=True)


def _require_sense(name: str, direction: str, low: float | None, high: float | None) -> None:
    if not name.strip() or len(name) > 500:
        raise BadInput("metric, name", name, "1 to 500 characters", "Name it.")
    if direction not in (MAX, MIN):
        raise BadInput(
            f"metric {name}, direction", direction, f"{MAX} or {MIN}", "Say which way is better."
        )
    for side, value in (("low", low), ("high", high)):
        if value is not None and not math.isfinite(value):
            raise BadInput(f"metric {name}, {side}", value, "a number", "Leave it out: no bound.")
    if low is not None and high is not None and low >= high:
        raise BadInput(f"metric {name}, range", (low, high), "low below high", "Exchange them.")


def withdraw(session: Session, name: str) -> None:
    """Take a declaration back; what was said by the metric stays.

    Raises:
        NotFound: the metric is not declared.
    """
    metric = session.get(Metric, name)
    if metric is None:
        raise NotFound(
            "metric", name, "the name of a declared metric", "List them with: flywheel metric list"
        )
    session.delete(metric)
    session.flush()


def declared(session: Session, names: Iterable[str]) -> dict[str, Metric]:
    """Return the declared ones of `names`, by name."""
    wanted = sorted(set(names))
    if not wanted:
        return {}
    rows = session.execute(
        text("SELECT name, direction, low, high FROM metric WHERE name = ANY(:names)"),
        {"names": wanted},
    )
    return {row.name: Metric(**row._mapping) for row in rows}


def range_fault(record: Mapping[str, Any], metrics: Mapping[str, Metric]) -> str | None:
    """Return why a feedback record's value is outside its metric's declared range, or None; pure.

    Args:
        record: its columns; only a `metric` can be at fault.
        metrics: declared ones by name, as `declared` gives them.
    """
    metric = metrics.get(record.get("name") or "")
    value = record.get("value")
    if record.get("kind") != "metric" or metric is None or value is None:
        return None
    below = metric.low is not None and value < metric.low
    above = metric.high is not None and value > metric.high
    if not (below or above):
        return None
    return f"metric {metric.name!r} got {value:g}, expected {range_text(metric.low, metric.high)}"


def range_text(low: float | None, high: float | None) -> str:
    """Return a range in words."""
    if low is not None and high is not None:
        return f"{low:g} to {high:g}"
    if low is not None:
        return f"{low:g} or more"
    return "any number" if high is None else f"{high:g} or less"


def normalised(value: float, metric: Metric) -> float | None:
    """Return a value on the scale 0 (worst) to 1 (best) of its metric's range and direction; pure.

    None where one end of the range is open: then there is no scale. Values beyond the range, said
    before it was declared, count as its end.
    """
    if metric.low is None or metric.high is None:
        return None
    share = min(max((value - metric.low) / (metric.high - metric.low), 0.0), 1.0)
    return share if metric.direction == MAX else 1.0 - share


def metrics_in_use(session: Session) -> list[MetricUse]:
    """Return declared metrics and those that were only said, by name."""
    rows = session.execute(
        text(
            """
            SELECT coalesce(metric.name, said.name) AS name, direction, low, high, description,
                   coalesce(n, 0) AS n, lowest, highest
            FROM metric FULL JOIN (
                SELECT name, count(*) AS n, min(value) AS lowest, max(value) AS highest
                FROM feedback WHERE kind = 'metric' GROUP BY name
            ) said ON said.name = metric.name
            ORDER BY 1
            """
        )
    )
    return [MetricUse(**row._mapping) for row in rows]
