"""Confidence intervals that more than one room states."""

import math
from typing import Final

Z_95: Final = 1.959963984540054
"""Standard normal quantile of 0.975."""


def wilson(rate: float, n: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval (1927) of a proportion (0-1) of n trials, n at least 1.

    95 of 100 is 0.888 to 0.978.
    """
    z2 = Z_95**2
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (rate * (1 - rate) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    return max(0.0, centre - half), min(1.0, centre + half)
