"""Geometry of the pictures: pure functions from numbers to SVG coordinates; templates draw them.

The content policy forbids style attributes, so every length is an SVG attribute. What is measured
in percent of the width fits any screen without its text shrinking: `plot` (macro `plot`),
`histogram`, `parted_bars`, `trend`, `dot_plot`. What is not a finite number is left out, and empty
data is None, for which the macros draw nothing.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from admin.formats import compact
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

    A range too small for its own size counts as one point, which gets an axis of width 1, or of a
    millionth of its size if that is more.
    """
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-3):
        half = max(0.5, 1e-6 * abs(low))
        low, high = low - half, high + half
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


POINTS_AT_MOST: Final = 400
"""Of one curve; more are thinned so that every extreme stays."""
TABLE_ROWS: Final = 60
"""Of the table below a plot; more are left out evenly, and the table says so."""
_TONES: Final = 6

_LARGEST: Final = 1e300
"""Beyond it a value counts as without end: differences of two must be numbers, too."""

Xs = float | datetime


@dataclass(frozen=True)
class Data:
    """The figures of a picture as a table, for who cannot or would not look at it."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class AxisTick:
    """One mark of an axis: along x in percent of the width, along y in pixels from the top."""

    at: float
    label: str
    time: str = ""
    """ISO time, where the label is a time of day that a script may put into the viewer's zone."""


@dataclass(frozen=True)
class Curve:
    """One curve of a plot: `points` in a box of 1000 x the plot's height, drawn stretched."""

    name: str
    tone: str
    points: str
    end_x: float
    """Of its last point, in percent of the width."""
    end_y: float
    last: str
    """Its last value, in words."""


@dataclass(frozen=True)
class Band:
    """A shaded area between two curves, in the same box as a curve."""

    name: str
    tone: str
    points: str


@dataclass(frozen=True)
class Level:
    """A horizontal line that the curves are held against, such as a threshold."""

    name: str
    at: float
    value: str


@dataclass(frozen=True)
class Plot:
    """Curves over a number or a time. Across it is measured in percent, so that it fits any width.

    Its text keeps its size where the picture shrinks: only curves and bands are stretched.
    """

    label: str
    height: float
    top: float
    bottom: float
    curves: tuple[Curve, ...]
    bands: tuple[Band, ...]
    levels: tuple[Level, ...]
    x_ticks: tuple[AxisTick, ...]
    y_ticks: tuple[AxisTick, ...]
    x_title: str
    y_title: str
    notes: tuple[str, ...]
    data: Data


def plot(
    series: Mapping[str, Sequence[tuple[Xs, float]]],
    *,
    label: str,
    bands: Mapping[str, Sequence[tuple[Xs, float, float]]] | None = None,
    levels: Mapping[str, float] | None = None,
    tones: Mapping[str, str] | None = None,
    log: bool = False,
    within: tuple[float, float] | None = None,
    x_title: str = "",
    y_title: str = "",
    y_format: Callable[[float], str] | None = None,
    height: float = 240,
) -> Plot | None:
    """Place curves, shaded bands and threshold lines in one box; None without a finite point.

    Args:
        series: points (x, y) by the name of their curve; x all numbers or all times (aware).
        label: what the picture is of; the last value of each curve is added for screen readers.
        bands: points (x, low, high) by name; a bound that is not finite reaches the edge. A band
            of the name of a curve has its tone.
        levels: lines across, by name.
        tones: class of a curve or band; otherwise c0, c1, … in order.
        log: whether y is logarithmic; what is not above 0 is left out, and a note says so.
        within: lowest and highest y shown; what lies beyond is drawn at the edge.
        x_title: unit of x, such as `step`.
        y_title: unit of y.
        y_format: how a value is said.
        height: in pixels.
    """
    say = y_format or _said
    lines = {name: _placeable(points, log) for name, points in series.items()}
    areas = {name: _bounded(points, log) for name, points in (bands or {}).items()}
    lines = {name: points for name, points in lines.items() if points}
    areas = {name: points for name, points in areas.items() if points}
    marks = {n: v for n, v in (levels or {}).items() if _is_known(v) and (v > 0 or not log)}
    xs = [x for points in lines.values() for x, _ in points]
    xs += [x for points in areas.values() for x, _, _ in points]
    ys = [y for points in lines.values() for _, y in points]
    ys += [y for rows in areas.values() for _, *both in rows for y in both if _is_known(y)]
    if not xs or not ys:
        return None
    ys += marks.values()
    top, bottom = 22.0, height - 28.0
    low, high, y_marks = _y_axis(ys, within, log)
    y_of = _y_scale(low, high, bottom, top, log)
    x_of = _scale(min(xs), max(xs), 0.0, 1000.0) if min(xs) < max(xs) else lambda _: 500.0
    tone_of = _tones([*lines, *areas], tones or {})
    is_time = any(isinstance(p[0], datetime) for p in _all_points(series, bands or {}))
    left_out = sum(len(points) for points in series.values()) - sum(map(len, lines.values()))
    return Plot(
        label=_spoken(label, {name: say(points[-1][1]) for name, points in lines.items()}),
        height=height,
        top=top,
        bottom=bottom,
        curves=tuple(
            _curve(name, tone_of[name], points, x_of, y_of, say) for name, points in lines.items()
        ),
        bands=tuple(_area(n, tone_of[n], points, x_of, y_of) for n, points in areas.items()),
        levels=tuple(Level(n, round(y_of(v), 1), say(v)) for n, v in marks.items()),
        x_ticks=_x_ticks(min(xs), max(xs), x_of, is_time),
        y_ticks=tuple(AxisTick(round(y_of(y), 1), say(y)) for y in y_marks),
        x_title="UTC" if is_time and not x_title else x_title,
        y_title=y_title,
        notes=(f"{left_out:,} points cannot be drawn here: not finite, or not above 0.",)
        if left_out
        else (),
        data=_plot_data(lines, areas, say, is_time, x_title),
    )


def thinned(
    points: Sequence[tuple[float, float]], most: int = POINTS_AT_MOST
) -> list[tuple[float, float]]:
    """Return at most `most` points, in order: of each stretch its lowest and highest, and the ends.

    An extreme is never smoothed away, as it would be by every n-th point or by means.
    """
    if len(points) <= most:
        return list(points)
    inner, n_buckets = points[1:-1], (most - 2) // 2
    kept = [points[0]]
    for n in range(n_buckets):
        start, end = (len(inner) * k // n_buckets for k in (n, n + 1))
        places = range(start, end)
        extremes = {min(places, key=lambda i: inner[i][1]), max(places, key=lambda i: inner[i][1])}
        kept += [inner[i] for i in sorted(extremes)]
    return [*kept, points[-1]]


def _placeable(points: Sequence[tuple[Xs, float]], log: bool) -> list[tuple[float, float]]:
    found = ((_number(x), y) for x, y in points)
    return sorted((x, y) for x, y in found if _is_known(x) and _is_known(y) and (y > 0 or not log))


def _bounded(
    points: Sequence[tuple[Xs, float, float]], log: bool
) -> list[tuple[float, float, float]]:
    """Return a band's points in order; on a log axis a lower bound of 0 or less has no end."""
    found = sorted(
        (_number(x), low if low > 0 or not log else -math.inf, high)
        for x, low, high in points
        if not math.isnan(low) and not math.isnan(high) and (high > 0 or not log)
    )
    return [row for row in found if _is_known(row[0])]


def _number(x: Xs) -> float:
    return x.timestamp() if isinstance(x, datetime) else float(x)


def _y_axis(
    ys: Sequence[float], within: tuple[float, float] | None, log: bool
) -> tuple[float, float, list[float]]:
    """Return both ends of the axis and its marks, all within the ends."""
    low, high = min(ys), max(ys)
    if within is not None:
        low, high = max(low, within[0]), min(high, within[1])
        low, high = (low, high) if low <= high else within
    marks = log_ticks(low, high) if log else nice_ticks(low, high, 4)
    if within is not None:
        marks = [m for m in marks if within[0] <= m <= within[1]] or [low, high]
    return min(low, *marks), max(high, *marks), marks


def log_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Return powers of ten that cover `low`..`high`, both above 0; at most about `about` + 2."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    last = max(last, first + 1)
    step = max(1, math.ceil((last - first) / about))
    return [10.0**e for e in range(max(first, -307), min(last, 307) + 1, step)]


def _y_scale(low: float, high: float, bottom: float, top: float, log: bool) -> Any:
    """Return the place of a value; what lies beyond an end, even without end, is at the end."""
    if log:
        low, high = math.log10(low), math.log10(high)
    place = _scale(low, high, bottom, top)

    def at(value: float) -> float:
        if log:
            value = math.log10(value) if value > 0 else -math.inf
        return float(place(min(max(value, low), high)))

    return at


def _curve(
    name: str,
    tone: str,
    points: list[tuple[float, float]],
    x_of: Any,
    y_of: Any,
    say: Callable[[float], str],
) -> Curve:
    placed = [(x_of(x), y_of(y)) for x, y in thinned(points)]
    text = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
    end_x, end_y = placed[-1]
    return Curve(name, tone, text, round(end_x / 10, 2), round(end_y, 1), say(points[-1][1]))


def _area(
    name: str, tone: str, points: list[tuple[float, float, float]], x_of: Any, y_of: Any
) -> Band:
    some = _widest(points, POINTS_AT_MOST // 2)
    over = [f"{x_of(x):.1f},{y_of(high):.1f}" for x, _, high in some]
    under = [f"{x_of(x):.1f},{y_of(low):.1f}" for x, low, _ in reversed(some)]
    return Band(name, tone, " ".join(over + under))


def _widest(
    points: list[tuple[float, float, float]], most: int
) -> list[tuple[float, float, float]]:
    """Return at most `most` points of a band, each as wide as the widest that it stands for."""
    if len(points) <= most:
        return points
    parts = [points[len(points) * n // most : len(points) * (n + 1) // most] for n in range(most)]
    wide = [(p[0][0], min(low for _, low, _ in p), max(high for *_, high in p)) for p in parts]
    return [*wide[:-1], (points[-1][0], *wide[-1][1:])]


def _tones(names: Iterable[str], given: Mapping[str, str]) -> dict[str, str]:
    ordered = list(dict.fromkeys(names))
    return {name: given.get(name, f"c{n % _TONES}") for n, name in enumerate(ordered)}


def _all_points(*groups: Mapping[str, Sequence[tuple[Any, ...]]]) -> Iterable[tuple[Any, ...]]:
    return (point for group in groups for points in group.values() for point in points)


_STEPS_S: Final = (
    *(60, 300, 900, 1_800, 3_600, 3 * 3_600, 6 * 3_600, 12 * 3_600),
    *(86_400 * days for days in (1, 2, 7, 14, 28, 91, 182, 364, 1_820, 9_100)),
)
"""Steps of an axis of time, in seconds."""


def _x_ticks(low: float, high: float, x_of: Any, is_time: bool) -> tuple[AxisTick, ...]:
    if not is_time:
        marks = [x for x in nice_ticks(low, high, 5) if low <= x <= high]
        return tuple(AxisTick(round(x_of(x) / 10, 2), _said(x)) for x in marks)
    step = next((s for s in _STEPS_S if (high - low) / s <= 6), _STEPS_S[-1])
    numbers = range(math.ceil(low / step), math.floor(high / step) + 1)
    moments = [float(n * step) for n in numbers[:: math.ceil(len(numbers) / 8) or 1]] or [low]
    form = "" if step >= 86_400 else "%a %H:%M" if high - low > 86_400 else "%H:%M"
    return tuple(_time_tick(m, round(x_of(m) / 10, 2), form) for m in moments)


def _time_tick(timestamp: float, at: float, form: str) -> AxisTick:
    moment = datetime.fromtimestamp(timestamp, UTC)
    if form:
        return AxisTick(at, moment.strftime(form), moment.isoformat())
    return AxisTick(at, f"{moment.day} {moment:%b}")


def _plot_data(
    lines: Mapping[str, Sequence[tuple[float, float]]],
    areas: Mapping[str, Sequence[tuple[float, float, float]]],
    say: Callable[[float], str],
    is_time: bool,
    x_title: str,
) -> Data:
    cells: dict[float, dict[str, str]] = {}
    for name, points in lines.items():
        for x, y in points:
            cells.setdefault(x, {})[name] = say(y)
    for name, rows in areas.items():
        for x, low, high in rows:
            cells.setdefault(x, {})[f"{name}, from to"] = f"{_end(low, say)} to {_end(high, say)}"
    heads = [*lines, *(f"{name}, from to" for name in areas)]
    every = math.ceil(len(cells) / TABLE_ROWS) or 1
    chosen = sorted(cells, reverse=True)[::every][::-1]
    spoken = [(_moment(x) if is_time else _said(x), cells[x]) for x in chosen]
    return Data(
        (x_title or ("time (UTC)" if is_time else "x"), *heads),
        tuple((x, *(row.get(head, "") for head in heads)) for x, row in spoken),
        f"Every {every}th of {len(cells):,} rows, back from the last." if every > 1 else "",
    )


def _end(value: float, say: Callable[[float], str]) -> str:
    return say(value) if _is_known(value) else "no bound"


def _moment(timestamp: float) -> str:
    return f"{datetime.fromtimestamp(timestamp, UTC):%Y-%m-%d %H:%M}"


def _said(value: float) -> str:
    """Return a number briefly: `0.25`, `1,500`, `48.2k`, `1e-05`."""
    if abs(value) >= 1e15:
        return f"{value:.0e}"
    if abs(value) >= 10_000:
        return f"{'−' if value < 0 else ''}{compact(abs(value))}"
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}"


def _spoken(label: str, figures: Mapping[str, str]) -> str:
    said = "; ".join(f"{name} {value}" for name, value in figures.items())
    return f"{label}. Last: {said}." if said else label


@dataclass(frozen=True)
class Column:
    """One column of a histogram, across in percent of the width, down in pixels."""

    x: float
    width: float
    y: float
    height: float
    label: str
    n: int
    of_total: float


@dataclass(frozen=True)
class Mark:
    """A vertical line in a histogram, such as a median, in percent of the width."""

    name: str
    at: float
    value: str
    level: int
    """Of its label, 0 topmost: labels that would overlap stand below each other."""


@dataclass(frozen=True)
class Histogram:
    """How often values fall into ranges; every range as wide as the next, whatever it covers."""

    label: str
    height: float
    bottom: float
    columns: tuple[Column, ...]
    marks: tuple[Mark, ...]
    x_ticks: tuple[AxisTick, ...]
    y_ticks: tuple[AxisTick, ...]
    x_title: str
    data: Data


def histogram(
    bins: Sequence[tuple[float, float | None, int]],
    *,
    label: str,
    marks: Mapping[str, float] | None = None,
    x_title: str = "",
    x_format: Callable[[float], str] | None = None,
    height: float = 200,
) -> Histogram | None:
    """Place counts by range as columns; None where nothing was counted.

    Args:
        bins: (from, to, count) in order, each `to` the next one's `from`; a last `to` of None has
            no end.
        label: what is counted; where most are is added for screen readers.
        marks: values to mark by name, such as quantiles; what no bin covers is left out.
        x_title: unit of the values.
        x_format: how a value is said.
        height: in pixels.
    """
    say = x_format or _said
    total, most = sum(n for *_, n in bins), max((n for *_, n in bins), default=0)
    if most <= 0:
        return None
    found = {name: _place_in(bins, value) for name, value in (marks or {}).items()}
    placed = sorted((at, name) for name, at in found.items() if at is not None)
    top, bottom = 22.0 + 16.0 * len(placed), height - 28.0
    y_marks = [y for y in nice_ticks(0, most, 3) if y == int(y) and y >= 0]
    y_of = _scale(0, max(most, *y_marks), bottom, top)
    width = 100 / len(bins)
    columns = tuple(
        Column(
            x=round(i * width + 0.06 * width, 3),
            width=round(0.88 * width, 3),
            y=round(y_of(n), 1),
            height=round(bottom - y_of(n), 1),
            label=_range(low, high, say),
            n=n,
            of_total=n / total,
        )
        for i, (low, high, n) in enumerate(bins)
    )
    every = math.ceil(len(bins) / 8)
    highest = max(columns, key=lambda column: column.n)
    return Histogram(
        label=f"{label}. Most: {highest.label}, {highest.n:,} of {total:,}.",
        height=height,
        bottom=bottom,
        columns=columns,
        marks=tuple(
            Mark(name, round(at, 2), say((marks or {})[name]), level)
            for level, (at, name) in enumerate(placed)
        ),
        x_ticks=tuple(
            AxisTick(round(i * width, 2), say(low))
            for i, (low, _, _) in enumerate(bins)
            if i % every == 0
        ),
        y_ticks=tuple(AxisTick(round(y_of(y), 1), _said(y)) for y in y_marks),
        x_title=x_title,
        data=Data(
            (x_title or "range", "count", "share"),
            tuple((c.label, f"{c.n:,}", f"{c.of_total * 100:.1f} %") for c in columns),
        ),
    )


def _place_in(bins: Sequence[tuple[float, float | None, int]], value: float) -> float | None:
    """Return where a value stands, in percent; within a bin as if its values were spread evenly."""
    for i, (low, high, _) in enumerate(bins):
        is_last = i == len(bins) - 1
        if low <= value and (high is None or value < high or (is_last and value == high)):
            inside = 0.5 if high is None or high <= low else (value - low) / (high - low)
            return (i + inside) / len(bins) * 100
    return None


def _range(low: float, high: float | None, say: Callable[[float], str]) -> str:
    return f"{say(low)} and more" if high is None else f"{say(low)} to {say(high)}"


@dataclass(frozen=True)
class Part:
    """One part of a bar, across in percent of the width."""

    name: str
    tone: str
    x: float
    width: float
    n: float
    share: float
    """Of its own row, 0-1."""


@dataclass(frozen=True)
class PartedRow:
    """One row of a chart of bars: its name, its parts, and their sum."""

    name: str
    parts: tuple[Part, ...]
    total: float


@dataclass(frozen=True)
class PartedBars:
    """Horizontal bars in parts; stacked in one line, or grouped below each other."""

    rows: tuple[PartedRow, ...]
    legend: tuple[tuple[str, str], ...]
    """Name and tone of each part."""
    grouped: bool
    label: str


def parted_bars(
    rows: Mapping[str, Mapping[str, float]],
    *,
    label: str,
    grouped: bool = False,
    shares: bool = False,
    tones: Mapping[str, str] | None = None,
) -> PartedBars | None:
    """Place counts by row and part; None where every count is 0.

    Args:
        rows: count by part, by the name of the row; a part that a row lacks is 0.
        label: what the picture is of.
        grouped: whether the parts of a row stand below each other, to be compared, instead of
            one after the other.
        shares: whether each row fills the whole width, so that mixes are compared.
        tones: class of a part; otherwise c0, c1, … in order.
    """
    names = list(dict.fromkeys(name for parts in rows.values() for name in parts))
    counted: dict[str, dict[str, float]] = {
        row: {name: _count(parts.get(name)) for name in names} for row, parts in rows.items()
    }
    sizes = [n if grouped else sum(p.values()) for p in counted.values() for n in p.values()]
    longest = max(sizes, default=0.0)
    if longest <= 0:
        return None
    tone_of = _tones(names, tones or {})
    placed = []
    for row, parts in counted.items():
        total = sum(parts.values())
        whole = (total or 1.0) if shares else longest
        at, found = 0.0, []
        for name, n in parts.items():
            width = 100 * n / whole
            share = n / total if total else 0.0
            found.append(Part(name, tone_of[name], round(at, 3), round(width, 3), n, share))
            at = 0.0 if grouped else at + width
        placed.append(PartedRow(row, tuple(found), total))
    return PartedBars(tuple(placed), tuple((n, tone_of[n]) for n in names), grouped, label)


def _count(value: float | None) -> float:
    return value if value is not None and _is_known(value) and value > 0 else 0.0


@dataclass(frozen=True)
class Trend:
    """A small line without axes beside a number, in a box of 100 x `height`, drawn stretched."""

    label: str
    height: float
    points: str
    end_y: float


def trend(values: Sequence[float | None], *, label: str, height: float = 28) -> Trend | None:
    """Place values at equal steps, oldest first; None for fewer than two that are known.

    The axis begins at 0 where no value is below it, so that noise does not look like a trend.
    """
    known = [(float(i), float(v)) for i, v in enumerate(values) if v is not None and _is_known(v)]
    if len(known) < 2:
        return None
    low, high = min(0.0, *(y for _, y in known)), max(y for _, y in known)
    x_of = _scale(known[0][0], known[-1][0], 0.0, 100.0)
    y_of = _scale(low, high, height - 3.0, 3.0)
    placed = [(x_of(x), y_of(y)) for x, y in thinned(known, 120)]
    first, last = known[0][1], known[-1][1]
    return Trend(
        f"{label}: from {_said(first)} to {_said(last)} over {len(values)} steps",
        height,
        " ".join(f"{x:.1f},{y:.1f}" for x, y in placed),
        round(placed[-1][1], 1),
    )


@dataclass(frozen=True)
class Dot:
    """A value with its interval, across in percent of the width."""

    name: str
    tone: str
    at: float
    start: float
    end: float
    said: str
    bounds: str


@dataclass(frozen=True)
class DotRow:
    """One slice of a dot plot: its name, a word beside it, and its dots."""

    name: str
    note: str
    dots: tuple[Dot, ...]


@dataclass(frozen=True)
class DotPlot:
    """Values with intervals of many slices on one axis, one slice a row."""

    label: str
    rows: tuple[DotRow, ...]
    ticks: tuple[AxisTick, ...]
    zero: float | None
    """Where 0, or what stands for no difference, is; None: not on the axis."""
    legend: tuple[tuple[str, str], ...]


DotGiven = tuple[str, float | None, float | None, float | None]
"""Name of a series, value, low, high."""


def dot_plot(
    rows: Sequence[tuple[str, str, Sequence[DotGiven]]],
    *,
    label: str,
    zero: float | None = None,
    within: tuple[float, float] | None = None,
    tones: Mapping[str, str] | None = None,
    value_format: Callable[[float], str] | None = None,
) -> DotPlot | None:
    """Place the slices' values and intervals on one axis; None where no slice has a value.

    Args:
        rows: (name, a word beside it, dots) of each slice; each dot (series, value, low, high) in
            the units shown. A missing bound is the value; a value not known leaves its dot out.
        label: what the picture is of.
        zero: a value that the axis shows in any case, with a line, such as no difference.
        within: lowest and highest possible value; ticks and intervals keep to it.
        tones: class of a series; otherwise c0, c1, … in order.
        value_format: how a value is said.
    """
    say = value_format or _said
    known = [(name, note, [d for d in dots if _is_known(d[1])]) for name, note, dots in rows]
    edges = [e for *_, ds in known for _, *vs in ds for e in vs if e is not None and _is_known(e)]
    if not edges:
        return None
    edges += [] if zero is None else [zero]
    if within is not None:
        edges = [min(max(e, within[0]), within[1]) for e in edges]
    marks = nice_ticks(min(edges), max(edges), 4)
    if within is not None:
        marks = [m for m in marks if within[0] <= m <= within[1]] or sorted(set(within))
    low, high = min(edges + marks), max(edges + marks)
    place = _scale(low, high, 3.0, 97.0)

    def x_of(value: float) -> float:
        return round(float(place(min(max(value, low), high))), 2)

    names = [name for *_, dots in known for name, *_ in dots]
    tone_of = _tones(names, tones or {})
    return DotPlot(
        label,
        tuple(
            DotRow(name, note, tuple(_dot(d, tone_of[d[0]], x_of, say) for d in dots))
            for name, note, dots in known
        ),
        tuple(AxisTick(x_of(m), say(m)) for m in marks),
        None if zero is None else x_of(zero),
        tuple(tone_of.items()),
    )


def _is_known(value: float | None) -> bool:
    return value is not None and abs(value) <= _LARGEST


def _dot(given: DotGiven, tone: str, x_of: Any, say: Callable[[float], str]) -> Dot:
    name, value, low, high = given
    assert value is not None
    low = value if low is None or math.isnan(low) else low
    high = value if high is None or math.isnan(high) else high
    bounds = "" if low == high else f"{_end(low, say)} to {_end(high, say)}"
    return Dot(name, tone, x_of(value), x_of(low), x_of(high), say(value), bounds)
