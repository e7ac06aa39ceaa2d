"""The planned mode: a fixed number of looks at fixed sizes, with bounds for exactly those looks.

Group-sequential analysis with the spending functions of Lan and DeMets. Where the end is fixed it
needs fewer units than evidence that holds at every moment. The looks must not depend on the data:
here they are taken after fixed numbers of pairs, or on fixed days, whenever the code is run.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from foundation.errors import BadInput
from router.stats.pairs import Floats

OBRIEN_FLEMING, POCOCK = "obrien_fleming", "pocock"

_SPENDING: dict[str, Callable[[float, float], float]] = {
    OBRIEN_FLEMING: lambda alpha, t: 2 * float(ndtr(ndtri(alpha / 2) / math.sqrt(t))),
    POCOCK: lambda alpha, t: alpha * math.log1p((math.e - 1) * t),
}
_FARTHEST = 8.0
"""Standard deviations beyond which no probability is left to integrate; the bound of no look."""
_NODES_PER_STEP = 8
"""Nodes of the integration within one standard deviation of a step between two looks."""
_LEAST_STEP = 0.002


@dataclass(frozen=True)
class Look:
    """One look: what it saw and what it had to see."""

    number: int
    """From 1."""
    n: int
    """Pairs, or units of both arms."""
    fraction: float
    """Of the planned information, 0-1."""
    z: float
    """Standard errors above 0; of 'better', negative where the treatment is worse."""
    bound: float

    @property
    def shown(self) -> bool:
        """Whether the treatment is shown to be better."""
        return self.z >= self.bound

    @property
    def harm(self) -> bool:
        """Whether it is shown to be worse, by a test of the same alpha."""
        return -self.z >= self.bound


def spent(alpha: float, fraction: float, spending: str = OBRIEN_FLEMING) -> float:
    """Return the part of alpha (one-sided) that may be spent until a fraction of the information.

    Raises:
        BadInput: no such spending function.
    """
    if spending not in _SPENDING:
        raise BadInput("spending of alpha", spending, " or ".join(_SPENDING), "Pick one of them.")
    return _SPENDING[spending](alpha, min(1.0, fraction))


@lru_cache(maxsize=256)
def bounds(
    alpha: float,
    fractions: tuple[float, ...],
    spending: str = OBRIEN_FLEMING,
    ended: bool = False,
) -> tuple[float, ...]:
    """Return the bound of z at each look so that the chance of ever crossing one is `alpha`.

    The density of the paths that have crossed none is integrated from look to look (Armitage,
    McPherson & Rowe 1969). Reproduces the published tables of five looks to 3 decimals.

    Args:
        alpha: one-sided, 0-1.
        fractions: of the planned information at each look, rising, the last at most 1.
        spending: `obrien_fleming` (careful at first) or `pocock` (even).
        ended: the last look is the end though its fraction is below 1, and spends what is left.

    Raises:
        BadInput: no such spending function; fractions that do not rise by at least 0.002.
    """
    steps = np.diff((0.0, *fractions))
    if not fractions or steps.min() < _LEAST_STEP or fractions[-1] > 1 + 1e-9:
        raise BadInput(
            "fractions of the planned looks",
            list(fractions),
            f"numbers that rise by at least {_LEAST_STEP} up to at most 1",
            "Plan fewer looks.",
        )
    found: list[float] = []
    nodes, density, before = np.zeros(1), np.ones(1), 0.0
    for fraction, step in zip(fractions, steps, strict=True):
        is_end = ended and fraction == fractions[-1]
        until = alpha if is_end else spent(alpha, fraction, spending)
        edge = _edge(nodes, density, math.sqrt(step), until - before, math.sqrt(fraction))
        found.append(edge / math.sqrt(fraction))
        nodes, density = _continued(nodes, density, math.sqrt(step), edge, math.sqrt(fraction))
        before = until
    return tuple(found)


def _edge(nodes: Floats, density: Floats, step: float, chance: float, scale: float) -> float:
    """Return the value of the path that it surpasses at this look with the chance."""
    from scipy.optimize import brentq  # here: it takes long to import, and few ask

    def excess(edge: float) -> float:
        return float(density @ ndtr((nodes - edge) / step)) - chance

    highest = _FARTHEST * scale
    return float(brentq(excess, -highest, highest, xtol=1e-10)) if excess(highest) < 0 else highest


def _continued(
    nodes: Floats, density: Floats, step: float, edge: float, scale: float
) -> tuple[Floats, Floats]:
    """Return nodes below the edge and the weighted density of the paths that are there."""
    lowest = -_FARTHEST * scale
    n_nodes = max(64, math.ceil(_NODES_PER_STEP * (edge - lowest) / step / 2))
    at, weights = _gauss_legendre(n_nodes)
    half = (edge - lowest) / 2
    new = lowest + half * (at + 1)  # [new]
    kernel = np.exp(-(((new[:, None] - nodes) / step) ** 2) / 2)  # [new, old]
    return new, half * weights * (kernel @ density) / (step * math.sqrt(2 * math.pi))


@lru_cache(maxsize=256)
def _gauss_legendre(n: int) -> tuple[Floats, Floats]:
    at, weights = np.polynomial.legendre.leggauss(n)
    return at, weights


def equal_looks(n_looks: int) -> tuple[float, ...]:
    """Return the fractions of `n_looks` evenly spaced looks, the last at 1."""
    return tuple((number + 1) / n_looks for number in range(n_looks))


def planned_looks(
    differences: Sequence[float] | Floats,
    n_max: int,
    n_looks: int = 5,
    alpha: float = 0.05,
    spending: str = OBRIEN_FLEMING,
    ended: bool = False,
) -> list[Look]:
    """Return the looks that are due, each after its fixed number of pairs, up to the last one.

    An experiment may reach its planned end with fewer pairs than `n_max`, since not every unit
    finds a partner. The end is then the last look, for what is left of alpha.

    z is the sum of the differences over the root of the sum of their squares: for pairs won and
    lost it is McNemar's (wins - losses) / sqrt(wins + losses).

    Args:
        differences: treatment minus control of each pair in the order they became known.
        n_max: pairs of the last look.
        n_looks: evenly spaced.
        alpha: one-sided, over all looks.
        spending: as of `bounds`.
        ended: the planned end has come, by a number of units or a date, not by what they said.

    Raises:
        BadInput: as `bounds`.
    """
    found = np.asarray(differences, dtype=float)
    sizes = [math.ceil(round(fraction * n_max, 6)) for fraction in equal_looks(n_looks)]
    fractions = equal_looks(n_looks)
    due = [size for size in sizes if size <= len(found)]
    ends_early = ended and len(found) < n_max and _is_apart(len(found), due, n_max)
    if ends_early:
        due.append(len(found))
        fractions = (*fractions[: len(due) - 1], len(found) / n_max)
    limits = bounds(alpha, fractions, spending, ends_early)
    return [
        Look(number, size, fraction, _z_after(found[:size]), limit)
        for number, (size, fraction, limit) in enumerate(
            zip(due, fractions, limits, strict=False), start=1
        )
    ]


def _is_apart(n: int, due: Sequence[int], n_max: int) -> bool:
    """Return whether the end is far enough from the last look to be one of its own."""
    return n - (due[-1] if due else 0) >= max(1, 2 * _LEAST_STEP * n_max)


def _z_after(differences: Floats) -> float:
    squares = float((differences**2).sum())
    return float(differences.sum()) / math.sqrt(squares) if squares > 0 else 0.0


def for_few(bound: float, freedom: float) -> float:
    """Return the bound of Student's t with the same tail as a bound of z.

    With few units the error of the estimate is an estimate, too.
    """
    return float(-stdtrit(freedom, ndtr(-bound))) if freedom > 0 else math.inf


def tail(t: float, freedom: float) -> float:
    """Return the one-sided p-value of Student's t."""
    return float(stdtr(freedom, -t))
