"""The wheel as a picture: where six stages sit on a circle and how the arcs between them run."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

SIZE = 560.0
CENTRE = SIZE / 2
RADIUS = 196.0
NODE_RADIUS = 62.0
GAP_DEGREES = 3.5


@dataclass(frozen=True)
class Stage:
    """One stage: its one number, what it counts (in short lines), and the page behind it."""

    name: str
    number: str
    caption: tuple[str, ...]
    route: str
    awake: bool
    joint: str = " "
    """What stands between the lines of its caption where they are one."""


@dataclass(frozen=True)
class Spoke:
    """A stage in its place, and the arc that leads from it to the next."""

    stage: Stage
    x: float
    y: float
    arc: str
    hue: str


@dataclass(frozen=True)
class Wheel:
    """The whole picture."""

    size: float
    centre: float
    radius: float
    node_radius: float
    spokes: tuple[Spoke, ...]
    turning: bool


def draw(stages: Sequence[Stage], turning: bool) -> Wheel:
    """Place the stages clockwise from the top; arcs stop short of the circles they join."""
    step = 360 / len(stages)
    clear = math.degrees(2 * math.asin(NODE_RADIUS / (2 * RADIUS))) + GAP_DEGREES
    spokes = []
    for i, stage in enumerate(stages):
        angle = -90 + i * step
        x, y = _point(angle)
        arc = _arc(angle + clear, angle + step - clear)
        spokes.append(Spoke(stage, x, y, arc, f"stage-{i}"))
    return Wheel(SIZE, CENTRE, RADIUS, NODE_RADIUS, tuple(spokes), turning)


def _point(degrees: float) -> tuple[float, float]:
    radians = math.radians(degrees)
    x, y = CENTRE + RADIUS * math.cos(radians), CENTRE + RADIUS * math.sin(radians)
    return round(x, 2), round(y, 2)


def _arc(start: float, end: float) -> str:
    (x0, y0), (x1, y1) = _point(start), _point(end)
    return f"M {x0} {y0} A {RADIUS} {RADIUS} 0 0 1 {x1} {y1}"
