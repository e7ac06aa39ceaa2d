"""Evidence that stands whatever is still open: no order of answering can feign it.

What is known early is a choice. If the failures of one arm hang until they time out, and all else
is told at once, the pairs that are known are won ones: three of four experiments between equals
found a winner. Here pairs come in the order of assignment, and an open outcome counts against the
claim. Both only lower the evidence that there will be once all is told, and of that the inequality
of Ville holds over all moments at once, however one of them is chosen.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evaluator.evidence import log_e_mean_above
from router.stats.pairs import Floats, Unit, assigned_last, assigned_pairs
from router.stats.ramp import Phased, comparisons, log_e_path
from router.tables import CONTROL, TREATMENT


@dataclass(frozen=True)
class SureEvidence:
    """Log E of 'better' and of harm with all that is open against it; the highest of 'better'."""

    log_e: float
    max_log_e: float
    log_e_harm: float


def sure_ramp(
    units: Sequence[Phased], shares: Mapping[int, float], value: Callable[[Phased], float]
) -> SureEvidence:
    """Return what pairs and canary blocks of all phases show for certain.

    Args:
        units: in any order.
        shares: of treatment, 0-1, by the number of the phase.
        value: 0 or 1, of a unit with a known outcome.
    """

    def path(favoured: str, sign: int) -> tuple[Floats, int]:
        found = comparisons(units, shares, _against(value, favoured))
        found.sort(key=lambda one: assigned_last(one.units))
        differences = np.array([sign * one.difference for one in found], dtype=float)
        paired = np.array([one.is_pair for one in found], dtype=bool)
        return log_e_path(differences, paired), _first_open([one.is_known for one in found])

    return _sure(path(TREATMENT, 1), path(CONTROL, -1))


def sure_pairs(
    units: Iterable[Unit], value: Callable[[Unit], float], minimum: float = 0.0
) -> SureEvidence:
    """Return what pairs of scores show for certain.

    Args:
        units: in any order.
        value: the score of a unit with a known outcome, 0-1.
        minimum: improvement that must be surpassed, 0 <= minimum < 1. Harm is always against 0.
    """
    pairs = assigned_pairs(units)
    known = [all(unit.outcome is not None for unit in pair) for pair in pairs]

    def path(favoured: str, sign: int, threshold: float) -> tuple[Floats, int]:
        worst = _against(value, favoured)
        differences = [sign * (worst(treated) - worst(control)) for treated, control in pairs]
        return log_e_mean_above(differences, threshold), _first_open(known)

    return _sure(path(TREATMENT, 1, minimum), path(CONTROL, -1, 0.0))


def settled_differences(units: Iterable[Unit], value: Callable[[Unit], float]) -> Floats:
    """Return treatment minus control of the pairs before the first open one, as assigned, [n]."""
    differences = []
    for treated, control in assigned_pairs(units):
        if treated.outcome is None or control.outcome is None:
            break
        differences.append(value(treated) - value(control))
    return np.array(differences, dtype=float)


def _against(value: Callable[[Unit], float], favoured: str) -> Callable[[Unit], float]:
    """Return `value` with open units of the `favoured` arm as 0, and of the other as 1."""

    def worst(unit: Unit) -> float:
        return value(unit) if unit.outcome is not None else float(unit.arm != favoured)

    return worst


def _first_open(known: Sequence[bool]) -> int:
    return known.index(False) if False in known else len(known)


def _sure(better: tuple[Floats, int], harm: tuple[Floats, int]) -> SureEvidence:
    """Take the highest since the first open comparison: each is below what it will be."""
    (path, first), (harm_path, harm_first) = better, harm
    return SureEvidence(
        log_e=float(path[first:].max()),
        max_log_e=float(path.max()),
        log_e_harm=float(harm_path[harm_first:].max()),
    )
