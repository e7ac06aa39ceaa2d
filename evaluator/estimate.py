"""The success rate of one model over one suite, with its interval."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from foundation.intervals import wilson

CONFIDENCE = 0.95


@dataclass(frozen=True)
class SuccessRate:
    """Mean success over tasks (0-1) with a 95 % interval; all None if nothing was answered."""

    rate: float | None
    low: float | None
    high: float | None
    n_tasks: int
    n_samples: int
    n_lost: int


def success_rate(outcomes: Iterable[Sequence[bool | None]]) -> SuccessRate:
    """Estimate from one sequence per task: passed, failed, or None for a lost answer.

    Lost answers are counted apart and leave the rate. The interval is Wilson's over tasks if each
    has one answer, else the t interval of the task means (samples of one task are not independent);
    task means without spread fall back to Wilson's.
    """
    tasks = [list(task) for task in outcomes]
    known = [[passed for passed in task if passed is not None] for task in tasks]
    answered = [task for task in known if task]
    n_samples = sum(map(len, answered))
    n_lost = sum(map(len, tasks)) - n_samples
    if not answered:
        return SuccessRate(None, None, None, 0, 0, n_lost)
    means = np.array([np.mean(task) for task in answered])
    rate = float(means.mean())
    if all(len(task) == 1 for task in answered) or np.ptp(means) == 0:
        low, high = wilson(rate, len(means))
    else:
        half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, len(means) - 1) * stats.sem(means))
        low, high = max(0.0, rate - half), min(1.0, rate + half)
    return SuccessRate(rate, low, high, len(answered), n_samples, n_lost)
