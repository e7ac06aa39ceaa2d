"""How fast a candidate is beside its baseline, with an interval: batches are timed in pairs.

A single ratio of two totals says more of the machine's other work than of the models. The same
batches are sent to both in turn, so the median of the ratios of batches is compared, with the
order-statistic interval of a median (binomial, distribution-free).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from scipy.stats import binom

from evaluator.tables import Evaluation

BATCH_RATES = "batch_tokens_per_s"
"""Key of an evaluation's settings: output tokens per second of each batch, None if not counted."""


@dataclass(frozen=True)
class SpeedRatio:
    """Candidate tokens/s over baseline tokens/s; the interval is None for under six batches."""

    estimate: float
    low: float | None
    high: float | None


def speed_ratio(baseline: Evaluation, candidate: Evaluation) -> SpeedRatio | None:
    """Compare two evaluations of the same batches; None if no batch was counted in both."""
    rates = [found.settings.get(BATCH_RATES) or [] for found in (baseline, candidate)]
    return ratio_of(*rates)


def ratio_of(
    baseline: Sequence[float | None], candidate: Sequence[float | None]
) -> SpeedRatio | None:
    """Compare the rates of paired batches; the i-th of both are the same prompts."""
    ratios = sorted(new / old for old, new in zip(baseline, candidate, strict=False) if old and new)
    if not ratios:
        return None
    rank = int(binom.ppf(0.025, len(ratios), 0.5))  # ratios that may lie outside on each side
    if rank < 1:
        return SpeedRatio(median(ratios), None, None)
    return SpeedRatio(median(ratios), ratios[rank - 1], ratios[-rank])
