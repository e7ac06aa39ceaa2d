"""What the paired answers of two models say: outcomes in, a Comparison out; pure.

Sample i of one model meets sample i of the other on the same task. The statistics are
`evaluator.paired`'s.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evaluator.paired import Floats, Integers, interval, mcnemar_exact, sign_flip_p
from foundation.errors import BadInput

SIGN_FLIP, MCNEMAR = "sign_flip", "mcnemar_exact"
"""What a p-value is from: exchanging the models' names, or the discordant tasks alone."""

_DIGITS = 9  # 0.7 - 0.6 must be 10 points, not 9.999999999999998

Outcomes = Mapping[str, Sequence[bool | None]]
"""Task id -> one entry per sample, in order: passed, failed, or None for a lost answer."""


@dataclass(frozen=True)
class Comparison:
    """What the paired samples say; rates are 0-1, points and bounds percentage points.

    Attributes:
        n_tasks: tasks with at least one pair of answers.
        n_samples: pairs of answers counted.
        n_lost_baseline: answers of the baseline that are missing; excluded pairwise.
        n_lost_candidate: the same for the candidate.
        n_clusters: families of tasks; tasks without a family count as their own.
        ci_low: lower end of the two-sided 95 % interval of the improvement.
        ci_high: upper end.
        bound_low: one-sided 95 % lower bound: above 0, the gain is shown.
        bound_high: one-sided 95 % upper bound.
        bootstrap_low: lower end of the bootstrap's own 95 % interval; None without spread.
        bootstrap_high: upper end.
        p_value: two-sided, of 'it is the same model'.
        method: what the p-value is from.
        tasks_better: tasks where the candidate's mean is higher.
        tasks_worse: tasks where it is lower.
        tasks_tied: tasks where both did alike.
        smallest_detectable_points: gain whose lower bound is above 0 in 4 of 5 cases.
    """

    n_tasks: int
    n_samples: int
    n_lost_baseline: int
    n_lost_candidate: int
    n_clusters: int
    baseline_rate: float
    candidate_rate: float
    improvement_points: float
    ci_low: float
    ci_high: float
    bound_low: float
    bound_high: float
    bootstrap_low: float | None
    bootstrap_high: float | None
    p_value: float
    method: str
    tasks_better: int
    tasks_worse: int
    tasks_tied: int
    smallest_detectable_points: float


@dataclass(frozen=True)
class TaskMeans:
    """Mean success of both models on each task that both answered, and the tasks' clusters."""

    baseline: Floats
    candidate: Floats
    samples: Integers
    clusters: Integers

    @property
    def one_answer(self) -> bool:
        """Whether every task is its own cluster and was answered once."""
        return len(np.unique(self.clusters)) == len(self.samples) and int(self.samples.max()) == 1


def compare_outcomes(
    baseline: Outcomes, candidate: Outcomes, families: Mapping[str, str] | None = None
) -> Comparison:
    """Compare two sets of outcomes on the tasks that both have.

    A pair with a lost answer is left out.

    Args:
        baseline: outcomes of the baseline.
        candidate: outcomes of the candidate.
        families: task id -> family, to cluster by; tasks not named stand alone.

    Raises:
        BadInput: no task has a pair of answers.
    """
    means = task_means(baseline, candidate, families)
    difference = means.candidate - means.baseline
    found = interval(difference[None, :], means.clusters, means.one_answer)
    better, worse = int((difference > 0).sum()), int((difference < 0).sum())
    return Comparison(
        n_tasks=len(difference),
        n_samples=int(means.samples.sum()),
        n_lost_baseline=_lost(baseline, candidate),
        n_lost_candidate=_lost(candidate, baseline),
        n_clusters=found.n_clusters,
        baseline_rate=float(means.baseline.mean()),
        candidate_rate=float(means.candidate.mean()),
        improvement_points=points(found.mean[0]),
        ci_low=points(found.low[0]),
        ci_high=points(found.high[0]),
        bound_low=points(found.bound_low[0]),
        bound_high=points(found.bound_high[0]),
        bootstrap_low=_points_if_any(found.bootstrap_low[0]),
        bootstrap_high=_points_if_any(found.bootstrap_high[0]),
        p_value=mcnemar_exact(better, worse)
        if means.one_answer
        else sign_flip_p(difference, means.clusters),
        method=MCNEMAR if means.one_answer else SIGN_FLIP,
        tasks_better=better,
        tasks_worse=worse,
        tasks_tied=len(difference) - better - worse,
        smallest_detectable_points=points(found.smallest_detectable[0]),
    )


def task_means(
    baseline: Outcomes, candidate: Outcomes, families: Mapping[str, str] | None = None
) -> TaskMeans:
    """Return the means of both over the tasks that both answered; raises BadInput if none."""
    named = families or {}
    pairs = {
        task: known
        for task, answers in baseline.items()
        if task in candidate and (known := _known(answers, candidate[task]))
    }
    if not pairs:
        n_shared = sum(task in candidate for task in baseline)
        raise BadInput(
            "comparison",
            f"{len(baseline)} and {len(candidate)} tasks, {n_shared} in common",
            "at least one task that both sides answered",
            "Evaluate both on the same suite.",
        )
    means = np.array([np.mean(np.array(known, dtype=float), axis=0) for known in pairs.values()])
    keys = [("family", named[task]) if task in named else ("task", task) for task in pairs]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return TaskMeans(
        means[:, 0],
        means[:, 1],
        np.array([len(known) for known in pairs.values()]),
        np.array([numbers[key] for key in keys]),
    )


def _known(
    baseline: Sequence[bool | None], candidate: Sequence[bool | None]
) -> list[tuple[bool, bool]]:
    return [
        (first, second)
        for first, second in zip(baseline, candidate, strict=False)
        if first is not None and second is not None
    ]


def _lost(of: Outcomes, other: Outcomes) -> int:
    return sum(
        passed is None for task, answers in of.items() if task in other for passed in answers
    )


def points(share: float) -> float:
    """Return a share as percentage points, free of what binary fractions add."""
    return round(100 * float(share), _DIGITS)


def _points_if_any(share: float) -> float | None:
    return None if np.isnan(share) else points(share)
