"""Geometry of the plots: numbers in, places out; the templates draw them. Pure.

A picture has no view box: across, everything is a percentage of the width it is given; down, it is
pixels. So one picture fits a phone and a desk, and its text keeps its size.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, TypeGuard

MARGIN: Final = 2.0
"""Per cent of the width that stay free on both sides, so that a mark at the end is whole."""
HEIGHT: Final = 220.0
TOP: Final = 12.0
BOTTOM: Final = HEIGHT - 28.0
LEFT: Final = 13.0
"""Per cent of the width that the labels of an upright axis take."""
REACH: Final = 3.0
"""An axis is at most so many times as long as what it must show; longer intervals are cut."""

Number = float | None


@dataclass(frozen=True)
class Scale:
    """Values from `low` to `high` on a stretch from `start` to `end`."""

    low: float
    high: float
    start: float = MARGIN
    end: float = 100.0 - MARGIN

    def at(self, value: float) -> float:
        """Return the place of a value; what lies outside is put at the end that it passed."""
        if self.high <= self.low:
            return (self.start + self.end) / 2
        share = (value - self.low) / (self.high - self.low)
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)


@dataclass(frozen=True)
class Tick:
    """A mark of an axis: where, and what it says."""

    at: float
    label: str


@dataclass(frozen=True)
class Estimate:
    """A value with its interval; what is None or not finite is not drawn.

    Attributes:
        is_main: the axis must show all of it.
    """

    value: Number
    low: Number
    high: Number
    is_main: bool = False


@dataclass(frozen=True)
class Mark:
    """An estimate with its places; None where there is nothing to draw."""

    at: Number
    start: Number
    end: Number
    is_cut_low: bool
    is_cut_high: bool


@dataclass(frozen=True)
class Forest:
    """Estimates below each other on one axis.

    Attributes:
        marks: one of each estimate, in their order.
        ticks: of the axis.
        lines: place of each upright line by name.
        band: from where to where a band around 0 is shaded; None for none.
    """

    marks: tuple[Mark, ...]
    ticks: tuple[Tick, ...]
    lines: Mapping[str, float]
    band: tuple[float, float] | None


def forest(
    estimates: Sequence[Estimate],
    lines: Mapping[str, float],
    band: Number = None,
    bounds: tuple[float, float] = (-100.0, 100.0),
) -> Forest:
    """Place estimates on one axis.

    The axis shows all lines, the band and every main estimate, and as much of the others as makes
    it no more than `REACH` times as long.

    Args:
        estimates: what is shown.
        lines: name -> value of an upright line.
        band: half the width of a band around 0.
        bounds: values that can be.
    """
    half = band if is_number(band) else None
    needed = [*lines.values(), *((-half, half) if half is not None else ())]
    needed += _ends(one for one in estimates if one.is_main)
    scale = _axis(needed, _ends(estimates), bounds)
    at = ticks(scale.low, scale.high, 6)
    return Forest(
        tuple(_mark(one, scale) for one in estimates),
        tuple(Tick(scale.at(value), _label(value, bounds[0] < 0)) for value in at),
        {name: scale.at(value) for name, value in lines.items()},
        (scale.at(-half), scale.at(half)) if half is not None else None,
    )


def _axis(needed: Sequence[float], wanted: Sequence[float], bounds: tuple[float, float]) -> Scale:
    seen = [*needed, *wanted]
    if not seen:
        return Scale(*bounds)
    must = needed or seen
    more = (max(must) - min(must)) * (REACH - 1) / 2
    low, high = max(min(seen), min(must) - more), min(max(seen), max(must) + more)
    edge = (high - low) * 0.04 or 1.0
    return Scale(max(low - edge, bounds[0]), min(high + edge, bounds[1]))


def _mark(estimate: Estimate, scale: Scale) -> Mark:
    low, high = estimate.low, estimate.high
    return Mark(
        at=_placed(estimate.value, scale),
        start=_placed(low, scale),
        end=_placed(high, scale),
        is_cut_low=is_number(low) and low < scale.low,
        is_cut_high=is_number(high) and high > scale.high,
    )


def _placed(value: Number, scale: Scale) -> Number:
    return scale.at(value) if is_number(value) else None


def _ends(estimates: Iterable[Estimate]) -> list[float]:
    ends = (end for one in estimates for end in (one.value, one.low, one.high))
    return [end for end in ends if is_number(end)]


def _label(value: float, is_signed: bool) -> str:
    text = f"{value:+g}" if is_signed and value else f"{value:g}"
    return text.replace("-", "\u2212")


def ticks(low: float, high: float, about: int) -> list[float]:
    """Return the round numbers within `low` to `high`, in about `about` steps of 1, 2 or 5 x 10^k.

    A range without width has one.
    """
    if not high > low:
        return [low]
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(size * power for size in (1, 2, 5, 10) if size * power >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


@dataclass(frozen=True)
class Point:
    """A point of a curve: x in per cent of the width, y in pixels."""

    x: float
    y: float


@dataclass(frozen=True)
class Curve:
    """A curve as the stretches between neighbouring points; a gap has none."""

    name: str
    points: tuple[Point, ...]
    stretches: tuple[tuple[Point, Point], ...]


@dataclass(frozen=True)
class Curves:
    """Curves over one pair of axes."""

    curves: tuple[Curve, ...]
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]


def curves(
    named: Mapping[str, Sequence[tuple[float, Number]]],
    across: tuple[float, float],
    up: tuple[float, float] | None = None,
    at: Sequence[float] | None = None,
) -> Curves | None:
    """Place curves of (x, y) on the same two axes; None if there is no finite point.

    Args:
        named: name of a curve -> its points, in order; one that is None or not finite is a gap.
        across: ends of the axis across.
        up: ends of the upright axis; by default from 0 to the highest value.
        at: where the axis across has its ticks; by default at round numbers.
    """
    highest = max((y for points in named.values() for _, y in points if is_number(y)), default=None)
    if highest is None:
        return None
    x_scale = Scale(*across, start=LEFT)
    ends = up or (0.0, highest or 1.0)
    y_scale = Scale(*ends, start=BOTTOM, end=TOP)
    return Curves(
        tuple(_curve(name, points, x_scale, y_scale) for name, points in named.items()),
        tuple(Tick(x_scale.at(x), f"{x:g}") for x in at or ticks(*across, 5)),
        tuple(Tick(y_scale.at(y), f"{y:,g}") for y in ticks(*ends, 4)),
    )


def _curve(name: str, points: Sequence[tuple[float, Number]], x: Scale, y: Scale) -> Curve:
    placed = [Point(x.at(one), y.at(value)) if is_number(value) else None for one, value in points]
    return Curve(
        name,
        tuple(point for point in placed if point),
        tuple((first, second) for first, second in pairwise(placed) if first and second),
    )


@dataclass(frozen=True)
class Column:
    """One column: x and width in per cent of the width, y and height in pixels."""

    x: float
    width: float
    y: float
    height: float
    n: int


@dataclass(frozen=True)
class Columns:
    """Counts of several sides in the same bins, on one scale."""

    by_side: Mapping[str, tuple[Column, ...]]
    labels: tuple[Tick, ...]


def columns(counts: Mapping[str, Sequence[int]], labels: Sequence[str]) -> Columns | None:
    """Place the counts of each side in bins beside each other; None if all are 0.

    Args:
        counts: side -> count of each bin, as many as there are labels.
        labels: names of the bins.
    """
    highest = max((n for side in counts.values() for n in side), default=0)
    if not highest:
        return None
    bin_width = (100.0 - 2 * MARGIN) / len(labels)
    width = 0.8 * bin_width / len(counts)
    rises = Scale(0.0, highest, 0.0, BOTTOM - TOP - 10)
    return Columns(
        {
            side: tuple(
                Column(
                    x=MARGIN + number * bin_width + 0.1 * bin_width + place * width,
                    width=width,
                    y=BOTTOM - rises.at(n),
                    height=rises.at(n),
                    n=n,
                )
                for number, n in enumerate(found)
            )
            for place, (side, found) in enumerate(counts.items())
        },
        tuple(
            Tick(MARGIN + (number + 0.5) * bin_width, label) for number, label in enumerate(labels)
        ),
    )


@dataclass(frozen=True)
class Part:
    """One part of a whole, in per cent of its length."""

    label: str
    n: int
    x: float
    width: float


def parts(counts: Mapping[str, int]) -> list[Part]:
    """Return the parts of a whole from left to right, without empty ones; none of an empty one."""
    total, x, made = sum(counts.values()), 0.0, []
    for label, n in counts.items():
        if n:
            made.append(Part(label, n, x, 100.0 * n / total))
            x += made[-1].width
    return made


def is_number(value: Number) -> TypeGuard[float]:
    """Return whether there is a finite number to draw."""
    return value is not None and math.isfinite(value)
