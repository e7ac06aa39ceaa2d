"""The success rate of one model over one suite, with its interval."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foundation.intervals import wilson

CONFIDENCE = 0.95
_NO_SPREAD = 1e-12


@dataclass(frozen=True)
class SuccessRate:
    """Mean success over tasks (0-1) with a 95 % interval; all None if nothing was answered."""

    rate: float | None
    low: float | None
    high: float | None
    n_tasks: int
    n_samples: int
    n_lost: int


def success_rate(
    outcomes: Iterable[Sequence[bool | None]], families: Sequence[str] | None = None
) -> SuccessRate:
    """Estimate from one sequence per task: passed, failed, or None for a lost answer.

    Lost answers are counted apart and leave the rate. The interval is Wilson's over tasks if each
    has one answer, else the t interval of the task means (samples of one task are not independent);
    task means without spread fall back to Wilson's. Tasks of one family rise and fall together and
    count as one cluster: with ten variants of each problem, intervals over tasks alone would hold
    the truth in half of all cases only.

    Args:
        outcomes: of each task.
        families: of each task, in the same order; None: every task is its own.
    """
    tasks = [list(task) for task in outcomes]
    known = [[passed for passed in task if passed is not None] for task in tasks]
    answered = [task for task in known if task]
    names: Sequence[str | int] = range(len(known)) if families is None else families
    named = [name for name, task in zip(names, known, strict=True) if task]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(named))}
    n_samples = sum(map(len, answered))
    n_lost = sum(map(len, tasks)) - n_samples
    if not answered:
        return SuccessRate(None, None, None, 0, 0, n_lost)
    means = np.array([np.mean(task) for task in answered])
    rate = float(means.mean())
    if len(numbers) < len(named):
        low, high = _clustered(means, np.array([numbers[name] for name in named]))
    elif all(len(task) == 1 for task in answered) or np.ptp(means) == 0:
        low, high = wilson(rate, len(means))
    else:
        half = _t_quantile(len(means) - 1) * float(means.std(ddof=1)) / math.sqrt(len(means))
        low, high = max(0.0, rate - half), min(1.0, rate + half)
    return SuccessRate(rate, low, high, len(answered), n_samples, n_lost)


def _clustered(means: NDArray[np.float64], clusters: NDArray[np.int64]) -> tuple[float, float]:
    """Return the jackknife's t interval over clusters of tasks, as in `evaluator.paired`.

    0 to 1 if there is only one cluster; Wilson's, by their number, if all of them agree.
    """
    rate, sizes = float(means.mean()), np.bincount(clusters).astype(float)
    n_clusters, n_tasks = len(sizes), sizes.sum()
    if n_clusters == 1:
        return 0.0, 1.0
    without = (np.bincount(clusters, weights=means) - rate * sizes) / (n_tasks - sizes)
    error = math.sqrt((n_clusters - 1) / n_clusters * float((without**2).sum()))
    if error < _NO_SPREAD:
        return wilson(rate, n_clusters)
    half = _t_quantile(float(n_tasks**2 / (sizes**2).sum()) - 1) * error
    return max(0.0, rate - half), min(1.0, rate + half)


def _t_quantile(freedom: float) -> float:
    from scipy.special import stdtrit  # here, as commands that estimate nothing load this module

    return float(stdtrit(freedom, 0.5 + CONFIDENCE / 2))
