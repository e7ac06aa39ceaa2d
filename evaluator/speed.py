"""How fast a candidate is beside its baseline, with an interval: batches are timed in pairs.

A single ratio of two totals says more of the machine's other work than of the models. The same
batches are sent to both in turn, so the median of the ratios of batches is compared, with the
order-statistic interval of a median (binomial, distribution-free).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from scipy.special import bdtr

from evaluator.tables import Evaluation

BATCH_RATES = "batch_tokens_per_s"
"""Key of an evaluation's settings: output tokens per second of each batch, None if not counted."""
TOGETHER = "together"
"""Key of an evaluation's settings: the same for those that were sent the same batches in turn."""

ADAPTER_USE = "adapter"
"""Key of an evaluation's settings: whether an adapter worked beside the base's weights."""
NO_ADAPTER, UNMERGED = "none", "unmerged"


@dataclass(frozen=True)
class SpeedRatio:
    """A median, mostly of candidate tokens/s over baseline tokens/s.

    The interval is None for fewer than six values.
    """

    estimate: float
    low: float | None
    high: float | None


def speed_ratio(baseline: Evaluation, candidate: Evaluation) -> SpeedRatio | None:
    """Compare two evaluations of the same batches; None if no batch was counted in both.

    Batches of two evaluations that did not run side by side met two states of the machine: None.
    """
    if baseline.settings.get(TOGETHER) != candidate.settings.get(TOGETHER):
        return None
    rates = [found.settings.get(BATCH_RATES) or [] for found in (baseline, candidate)]
    return ratio_of(*rates)


def speed_basis(baseline: Evaluation, candidate: Evaluation) -> str:
    """Return what a ratio of their speeds is a ratio of: batch size, adapters merged or not.

    An adapter beside the weights costs up to half of the speed; merged it would cost nothing.
    """
    found = [one.settings for one in (baseline, candidate)]
    sizes = sorted({str(one.get("batch_size", "unknown")) for one in found})
    uses = [str(one.get(ADAPTER_USE, "unknown")) for one in found]
    return (
        f"batch size {' and '.join(sizes)}; adapter of the baseline: {uses[0]}, "
        f"of the candidate: {uses[1]}"
    )


def ratio_of(
    baseline: Sequence[float | None], candidate: Sequence[float | None]
) -> SpeedRatio | None:
    """Compare the rates of paired batches; the i-th of both are the same prompts."""
    pairs = zip(baseline, candidate, strict=False)
    return median_of([new / old for old, new in pairs if old and new])


def median_of(values: Sequence[float]) -> SpeedRatio | None:
    """Return the median of ratios or rates with its interval; None without any."""
    ordered = sorted(values)
    if not ordered:
        return None
    outside = bdtr(np.arange(len(ordered) + 1), len(ordered), 0.5)
    rank = int(np.searchsorted(outside, 0.025))  # values that may lie outside on each side
    if rank < 1:
        return SpeedRatio(median(ordered), None, None)
    return SpeedRatio(median(ordered), ordered[rank - 1], ordered[-rank])
