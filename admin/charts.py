"""Geometry of the pictures: pure functions from numbers to SVG coordinates; templates draw them.

The content policy forbids style attributes, so every length is an SVG attribute.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from foundation import intervals


@dataclass(frozen=True)
class Tick:
    """One mark of an axis: where, and what it says."""

    at: float
    label: str


@dataclass(frozen=True)
class Line:
    """One curve: a name, its SVG `points`, and its last value."""

    name: str
    points: str
    last_x: float
    last_y: float
    last_value: float


@dataclass(frozen=True)
class LineChart:
    """Curves over steps inside a `width` x `height` box with an inner plot area."""

    width: float
    height: float
    left: float
    bottom: float
    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


def line_chart(
    series: Mapping[str, Sequence[tuple[float, float]]], width: float = 720, height: float = 260
) -> LineChart | None:
    """Place named series of (x, y) in a box; None when no series has a finite point."""
    finite = {name: _finite(points) for name, points in series.items()}
    finite = {name: points for name, points in finite.items() if points}
    if not finite:
        return None
    left, right, top, bottom = 48.0, width - 56.0, 14.0, height - 28.0
    xs = [x for points in finite.values() for x, _ in points]
    ys = [y for points in finite.values() for _, y in points]
    x_marks, y_marks = nice_ticks(min(xs), max(xs), 6), nice_ticks(min(ys), max(ys), 4)
    x_of = _scale(min(xs), max(xs), left, right)
    y_of = _scale(min(ys + y_marks), max(ys + y_marks), bottom, top)
    return LineChart(
        width,
        height,
        left,
        bottom,
        tuple(_line(name, points, x_of, y_of) for name, points in finite.items()),
        tuple(Tick(x_of(x), f"{x:g}") for x in x_marks if min(xs) <= x <= max(xs)),
        tuple(Tick(y_of(y), f"{y:g}") for y in y_marks),
    )


def _finite(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    return sorted((x, y) for x, y in points if math.isfinite(x) and math.isfinite(y))


def _line(name: str, points: list[tuple[float, float]], x_of: Any, y_of: Any) -> Line:
    placed = [(x_of(x), y_of(y)) for x, y in points]
    text = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
    return Line(name, text, placed[-1][0], placed[-1][1], points[-1][1])


def _scale(low: float, high: float, start: float, end: float) -> Any:
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def nice_ticks(low: float, high: float, about: int) -> list[float]:
    """Return round numbers covering `low`..`high` in about `about` steps of 1, 2 or 5 x 10^k.

    A range too small for its own size counts as one point, which gets an axis of width 1.
    """
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-3):
        low, high = low - 0.5, high + 0.5
    raw = (high - low) / about
    exponent = math.floor(math.log10(raw))
    step = next(m * 10.0**exponent for m in (1, 2, 5, 10, 20) if m * 10.0**exponent >= raw)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(i * step, 1 - exponent) for i in range(first, last + 1)]


@dataclass(frozen=True)
class Interval:
    """A value with its interval, placed on an axis; every coordinate in SVG units."""

    name: str
    tone: str
    value: float
    low: float
    high: float
    at: float
    start: float
    end: float


@dataclass(frozen=True)
class IntervalChart:
    """Intervals below each other on one axis 0..`width`; `zero` is None when off the axis."""

    width: float
    rows: tuple[Interval, ...]
    ticks: tuple[Tick, ...]
    zero: float | None


def interval_chart(
    rows: Sequence[tuple[str, str, float | None, float | None, float | None]],
    *,
    unit: str = "%",
    scale: float = 100.0,
    width: float = 600,
    include_zero: bool = False,
    bounds: tuple[float, float] | None = None,
    axis: tuple[float, float] | None = None,
) -> IntervalChart | None:
    """Place (name, tone, value, low, high) rows on one axis; None when no row has a value.

    Values are multiplied by `scale` for display (shares become percent). A missing bound is the
    value itself. `bounds` keeps the ticks within possible values; `axis` fixes both ends.
    """
    known = [(n, t, v, v if lo is None else lo, v if hi is None else hi)
             for n, t, v, lo, hi in rows if v is not None]  # fmt: skip
    if not known:
        return None
    edges = [scale * e for _, _, _, lo, hi in known for e in (lo, hi)] + [0.0] * include_zero
    marks = nice_ticks(min(edges), max(edges), 5)
    if bounds is not None:
        marks = [m for m in marks if bounds[0] <= m <= bounds[1]] or list(bounds)
    low, high = axis or (min(marks + edges), max(marks + edges))
    x_of = _scale(low, high, 8.0, width - 8.0)
    placed = tuple(
        Interval(n, t, v * scale, lo * scale, hi * scale,
                 x_of(v * scale), x_of(lo * scale), x_of(hi * scale))
        for n, t, v, lo, hi in known
    )  # fmt: skip
    ticks = tuple(Tick(x_of(m), f"{m:g}{unit}") for m in marks)
    return IntervalChart(width, placed, ticks, x_of(0.0) if low <= 0 <= high else None)


@dataclass(frozen=True)
class Bar:
    """One bar: its name, its count, and its share of the longest bar and of the total, in 0-1."""

    name: str
    n: int
    share: float
    of_total: float


def bars(counts: dict[str, int]) -> list[Bar]:
    """Return counts as bars, longest first; empty for no counts."""
    longest, total = max(counts.values(), default=0) or 1, sum(counts.values()) or 1
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [Bar(name, n, n / longest, n / total) for name, n in ordered]


@dataclass(frozen=True)
class Gauge:
    """Evidence on a logarithmic axis: where it stands and where the threshold is, in 0-1."""

    value: float
    threshold: float
    at: float
    threshold_at: float
    one_at: float
    reached: bool

    @property
    def start(self) -> float:
        """Where the bar from 1 to the value begins."""
        return min(self.at, self.one_at)

    @property
    def length(self) -> float:
        """How long that bar is."""
        return abs(self.at - self.one_at)


def evidence_gauge(e_value: float | None, threshold: float) -> Gauge | None:
    """Place an e-value on a log axis from 1/threshold to ten times the larger of both."""
    if e_value is None or threshold <= 1:
        return None
    low = -math.log10(threshold)
    high = math.log10(max(e_value, threshold)) + 0.5
    place = _scale(low, high, 0.0, 1.0)
    at = place(max(low, math.log10(max(e_value, 1e-300))))
    return Gauge(
        e_value, threshold, at, place(math.log10(threshold)), place(0.0), e_value >= threshold
    )


def wilson(successes: int, n: int) -> tuple[float, float] | None:
    """Return the Wilson 95 % interval of a rate; None without trials."""
    return intervals.wilson(successes / n, n) if n else None
