"""What the samples of one evaluation say beside its stored figures: reliability, time, statuses."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from sqlmodel import Session, col, select

from evaluator.estimate import success_rate
from evaluator.metrics.passk import pass_k
from evaluator.slices import ATTRIBUTES
from evaluator.tables import Evaluation, Sample, SuiteTask
from foundation.database import explain_row
from trainer.tables import ModelVersion

SHARES: Final = tuple(percent / 100 for percent in range(5, 100, 5))
"""Shares of the answers whose latency a curve shows; p50 and p95 are among them."""
_MODEL: Final = ("name", "kind", "base_model", "stage", "content_hash", "artifact_uri")

Json = dict[str, Any]
ByTask = Mapping[str, Sequence[bool | None]]
"""Task id -> one entry per sample: passed, failed, or None for lost or not graded."""


@dataclass(frozen=True)
class Outcome:
    """One answer without its text."""

    task_id: str
    passed: bool | None
    status: str
    latency_ms: float | None


def side_of(session: Session, evaluation: Evaluation, outcomes: Sequence[Outcome]) -> Json:
    """Return what a report says of one evaluation beside its row, from all of its answers.

    Returns:
        `model` (None if it is no version of ours), `statuses`, `reliability`, `passes`, and
        `latency_ms`; what was not measured is None.
    """
    return {
        "model": model_of(session, evaluation),
        **figures_of(outcomes, evaluation.samples_per_task, _is_fresh(evaluation.metrics)),
    }


def figures_of(outcomes: Sequence[Outcome], samples_per_task: int, is_fresh: bool) -> Json:
    """Return the figures of `side_of` that come from the answers alone.

    Args:
        outcomes: all answers.
        samples_per_task: answers asked for each task.
        is_fresh: whether all of them were given now, so that their times belong together.
    """
    by_task = by_task_of(outcomes)
    times = [one.latency_ms for one in outcomes if one.latency_ms is not None]
    return {
        "statuses": dict(Counter(one.status for one in outcomes).most_common()),
        "reliability": reliability(by_task, samples_per_task),
        "passes": passes(by_task, samples_per_task),
        "latency_ms": quantiles(times) if is_fresh else None,
    }


def outcomes_in(session: Session, evaluation: Evaluation) -> list[Outcome]:
    """Return all answers of an evaluation without their texts, by task and number."""
    rows = session.exec(
        select(SuiteTask.task_id, Sample.passed, Sample.status, Sample.latency_ms)
        .join(Sample, col(Sample.suite_task_id) == SuiteTask.id)
        .where(Sample.evaluation_id == evaluation.id)
        .order_by(SuiteTask.task_id, col(Sample.number))
    )
    return [Outcome(*row) for row in rows]


def by_task_of(outcomes: Sequence[Outcome]) -> dict[str, list[bool | None]]:
    """Return the outcomes of each task, in their order."""
    found: dict[str, list[bool | None]] = defaultdict(list)
    for one in outcomes:
        found[one.task_id].append(one.passed)
    return dict(found)


def rates_of(by_task: ByTask) -> dict[str, float]:
    """Return the share (0-1) of each task's known answers that passed; of tasks with any."""
    known = {
        task: [passed for passed in answers if passed is not None]
        for task, answers in by_task.items()
    }
    return {task: sum(answers) / len(answers) for task, answers in known.items() if answers}


def reliability(by_task: ByTask, samples_per_task: int) -> list[Json]:
    """Return pass@k and pass^k (0-1) for each k that every answered task has answers for."""
    answered = [one for one in by_task.values() if any(passed is not None for passed in one)]
    found = [pass_k(answered, k) for k in range(1, samples_per_task + 1)]
    return [
        {"k": one.k, "at_least_one": one.at_least_one, "all_of_them": one.all_of_them}
        for one in found
        if one.n_tasks and not one.n_short
    ]


def passes(by_task: ByTask, samples_per_task: int) -> Json:
    """Return `tasks`, by how many of their answers passed (0 to all), and how many are left out.

    Tasks with a lost or ungraded answer are `incomplete` and in no bin.
    """
    counts, incomplete = [0] * (samples_per_task + 1), 0
    for answers in by_task.values():
        known = [passed for passed in answers if passed is not None]
        if len(known) == samples_per_task:
            counts[sum(known)] += 1
        else:
            incomplete += 1
    return {"tasks": counts, "incomplete": incomplete}


def quantiles(values: Sequence[float]) -> Json | None:
    """Return the quantiles at `SHARES` (`at`), `p50`, `p95` and how many; None of nothing."""
    if not values:
        return None
    at = [round(float(value), 3) for value in np.quantile(values, SHARES)]
    by_share = dict(zip(SHARES, at, strict=True))
    pairs = [[share, value] for share, value in by_share.items()]
    return {"n": len(values), "p50": by_share[0.5], "p95": by_share[0.95], "at": pairs}


def kinds_of(by_task: ByTask, attributes: Mapping[str, Mapping[str, Any]]) -> list[Json]:
    """Return the success by difficulty, task type and domain, of attributes with several values.

    Args:
        by_task: outcomes of each task.
        attributes: task id -> its attributes.
    """
    found = []
    for attribute in ATTRIBUTES:
        groups: dict[str, list[str]] = defaultdict(list)
        for task in by_task:
            if attribute in attributes.get(task, {}):
                groups[str(attributes[task][attribute])].append(task)
        if len(groups) > 1:
            for value, tasks in sorted(groups.items()):
                families = [str(attributes[task].get("family", task)) for task in tasks]
                found.append(_kind(attribute, value, [by_task[task] for task in tasks], families))
    return found


def _kind(
    attribute: str,
    value: str,
    answers: Collection[Sequence[bool | None]],
    families: Sequence[str],
) -> Json:
    rate = success_rate(answers, families)
    return {
        "attribute": attribute,
        "value": value,
        "n_tasks": rate.n_tasks,
        "rate": rate.rate,
        "ci_low": rate.low,
        "ci_high": rate.high,
    }


def model_of(session: Session, evaluation: Evaluation) -> Json | None:
    """Return what the registry knows of the model; None if it is no version of ours."""
    if evaluation.model_version_id is None:
        return None
    row = explain_row(session.get_one(ModelVersion, evaluation.model_version_id))
    return {name: row[name] for name in _MODEL}


def _is_fresh(metrics: Mapping[str, Any]) -> bool:
    return not (metrics.get("answers") or {}).get("cached")
