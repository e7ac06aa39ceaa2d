"""Answers whose grader threw, in a comparison: no model wins by making graders throw.

Such an answer is neither right nor wrong. Were it left out, a model could leave its failures out,
by answers that make graders throw. So it counts as a failure of its side. Only a task on which the
grader threw at both sides is taken to be at fault itself: there these answers are left out, in
pairs, as lost ones are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from evaluator.comparison import points

UNGRADED: Literal["ungraded"] = "ungraded"
Graded = bool | None | Literal["ungraded"]
"""Passed, failed, lost (None), or an answer whose grader threw."""
Answered = Mapping[str, Sequence[Graded]]
"""Task id -> what became of each sample, in order."""


@dataclass(frozen=True)
class Counted:
    """The outcomes that are compared, and what was made of ungraded answers to shared tasks.

    Attributes:
        baseline: task id -> outcomes; None is left out in pairs.
        candidate: the same.
        n_baseline: ungraded answers of the baseline.
        n_candidate: of the candidate.
        n_left_out: of both, those on tasks at fault; all others count as failures.
        graded_points: improvement over the pairs whose answers were both graded, percentage points;
            None if no ungraded answer counts as a failure.
    """

    baseline: dict[str, list[bool | None]]
    candidate: dict[str, list[bool | None]]
    n_baseline: int
    n_candidate: int
    n_left_out: int
    graded_points: float | None


def count_ungraded(baseline: Answered, candidate: Answered) -> Counted:
    """Say what ungraded answers of two models count for."""
    shared = baseline.keys() & candidate.keys()
    faulty = {t for t in shared if UNGRADED in baseline[t] and UNGRADED in candidate[t]}
    counts = [sum(_ungraded(side[task]) for task in shared) for side in (baseline, candidate)]
    left_out = sum(_ungraded(side[task]) for side in (baseline, candidate) for task in faulty)
    return Counted(
        baseline=_outcomes(baseline, faulty),
        candidate=_outcomes(candidate, faulty),
        n_baseline=counts[0],
        n_candidate=counts[1],
        n_left_out=left_out,
        graded_points=_gain(baseline, candidate) if sum(counts) > left_out else None,
    )


def _outcomes(answered: Answered, faulty: set[str]) -> dict[str, list[bool | None]]:
    return {
        task: [(None if task in faulty else False) if one == UNGRADED else one for one in answers]
        for task, answers in answered.items()
    }


def _ungraded(answers: Sequence[Graded]) -> int:
    return sum(one == UNGRADED for one in answers)


def _gain(baseline: Answered, candidate: Answered) -> float:
    """Return the improvement where both were graded; 0 if nowhere."""
    by_task = [
        [
            float(after) - float(before)
            for before, after in zip(answers, candidate.get(task, ()), strict=False)
            if isinstance(before, bool) and isinstance(after, bool)
        ]
        for task, answers in baseline.items()
    ]
    return points(fmean([fmean(pairs) for pairs in by_task if pairs] or [0.0]))
