"""The comparison by difficulty, task type and domain: where a candidate gains and where it loses.

Of twenty slices of two equal models one is "significant" at 5 %. So every slice carries its p-value
adjusted for the number of slices (Holm 1979) beside its interval, which is not adjusted, and only
the adjusted one may name a slice.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

from evaluator.comparison import Outcomes, compare_outcomes
from evaluator.paired import holm
from foundation.errors import BadInput

ATTRIBUTES = ("difficulty", "task_type", "domain")
ALPHA = 0.05


@dataclass(frozen=True)
class Slice:
    """The comparison on the tasks of one attribute's value; points are percentage points.

    Attributes:
        attribute: difficulty, task_type or domain.
        value: of the attribute.
        p_value: of this slice alone.
        p_adjusted: for the number of slices looked at.
        is_shown: whether the slice differs, the number of slices taken into account.
    """

    attribute: str
    value: str
    n_tasks: int
    n_clusters: int
    baseline_rate: float
    candidate_rate: float
    improvement_points: float
    ci_low: float
    ci_high: float
    smallest_detectable_points: float
    p_value: float
    p_adjusted: float
    is_shown: bool


def slices_of(
    baseline: Outcomes,
    candidate: Outcomes,
    attributes: Mapping[str, Mapping[str, Any]],
    families: Mapping[str, str] | None = None,
) -> list[Slice]:
    """Compare within each value of each attribute; none for an attribute with a single value.

    Args:
        baseline: outcomes of the baseline.
        candidate: outcomes of the candidate.
        attributes: task id -> its attributes.
        families: task id -> family, as in `compare_outcomes`.
    """
    compared = []
    for attribute in ATTRIBUTES:
        groups: dict[str, list[str]] = defaultdict(list)
        for task in baseline:
            if attribute in attributes.get(task, {}):
                groups[str(attributes[task][attribute])].append(task)
        if len(groups) < 2:
            continue
        for value, tasks in sorted(groups.items()):
            try:
                own = {task: baseline[task] for task in tasks}
                compared.append((attribute, value, compare_outcomes(own, candidate, families)))
            except BadInput:  # nobody answered a task of it
                continue
    adjusted = holm([found.p_value for _, _, found in compared])
    return [
        Slice(
            attribute,
            value,
            found.n_tasks,
            found.n_clusters,
            found.baseline_rate,
            found.candidate_rate,
            found.improvement_points,
            found.ci_low,
            found.ci_high,
            found.smallest_detectable_points,
            found.p_value,
            p_adjusted,
            p_adjusted < ALPHA,
        )
        for (attribute, value, found), p_adjusted in zip(compared, adjusted, strict=True)
    ]


def note_on(slices: list[Slice]) -> str:
    """Return what a reader of the slices has to know."""
    if not slices:
        return "No attribute of the tasks has more than one value: nothing to slice by."
    named = [f"{one.attribute} {one.value}" for one in slices if one.is_shown]
    return (
        f"{len(slices)} slices: p-values are adjusted for that number (Holm), intervals are not. "
        + (f"Shown to differ: {', '.join(named)}." if named else "None is shown to differ.")
        + _too_few(slices)
    )


def _too_few(slices: list[Slice]) -> str:
    """Say which slices no difference could show: signs of n families give p-values from 2 / 2^n."""
    needed = next(n for n in count(1) if len(slices) * 2 / 2**n < ALPHA)
    n_small = sum(one.n_clusters < needed for one in slices)
    if not n_small:
        return ""
    return (
        f" {n_small} of {len(slices)} could not be, however large the difference: among so many "
        f"slices that takes {needed} families of tasks."
    )
