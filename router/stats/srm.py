"""Sample ratio mismatch: whether the units were split as planned, in each phase of a ramp.

An arm that loses units loses the wrong ones. The split is another one in each phase, so each has an
e-process of its own, and their product is one too: it holds at every look over the whole ramp.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from evaluator.evidence import log_e_srm


@dataclass(frozen=True)
class PhaseSplit:
    """How the units of one phase were split: `treated` of `n`, planned was `share` (0-1)."""

    share: float
    treated: int
    n: int


def log_e_split(phases: Iterable[PhaseSplit]) -> float:
    """Return log E against 'every phase was split as planned'; no units is 0.

    A phase with share 0 (shadow) or 1 leaves nothing to chance: one unit in the wrong arm is proof,
    and any other says nothing.
    """
    return sum((_log_e(phase) for phase in phases), 0.0)


def _log_e(phase: PhaseSplit) -> float:
    if phase.share <= 0:
        return math.inf if phase.treated else 0.0
    if phase.share >= 1:
        return math.inf if phase.treated < phase.n else 0.0
    return float(log_e_srm(phase.treated, phase.n, phase.share))
