"""Candidate against baseline on the same tasks: the paired difference, its interval, the verdict.

Both models answer the same tasks, so the difference is taken within each task and its error is
estimated over tasks (or over task families, when tasks of one family rise and fall together).
Samples of one task are not independent: they only sharpen that task's mean. (Miller, "Adding Error
Bars to Evals", arXiv 2411.00640.)
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sqlmodel import Session, col, select

from evaluator.decide import RULE, DeployInputs, DeployThresholds
from evaluator.speed import speed_ratio
from evaluator.tables import Evaluation, Sample, Suite, SuiteTask, Verdict
from foundation.decisions import decide
from foundation.errors import BadInput, Conflict
from foundation.ids import new_id

PAIRED_T, MCNEMAR = "paired_t", "mcnemar_exact"
CONFIDENCE = 0.95
POWER = 0.80
_NO_SPREAD = 1e-12
_DIGITS = 9  # 0.7 - 0.6 must be 10 points, not 9.999999999999998

Outcomes = Mapping[str, Sequence[bool | None]]
"""Task id -> one entry per sample, in order: passed, failed, or None for a lost answer."""


@dataclass(frozen=True)
class Comparison:
    """What the paired samples say; rates are 0-1, `_points` and the interval percentage points.

    Attributes:
        n_tasks: tasks with at least one pair of answers.
        n_samples: pairs of answers counted.
        n_lost_baseline: answers of the baseline that are missing; excluded pairwise.
        n_lost_candidate: the same for the candidate.
        n_clusters: families of tasks, or `n_tasks` without families.
        tasks_better: tasks where the candidate's mean is higher.
        tasks_worse: tasks where it is lower.
        p_value: two-sided, of 'no difference'.
        method: what the p-value is from.
        smallest_detectable_points: gain that this suite shows in 4 of 5 cases.
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
    p_value: float
    method: str
    tasks_better: int
    tasks_worse: int
    smallest_detectable_points: float


@dataclass(frozen=True)
class _TaskPair:
    baseline: float
    candidate: float
    samples: int
    family: str


def compare_outcomes(
    baseline: Outcomes, candidate: Outcomes, families: Mapping[str, str] | None = None
) -> Comparison:
    """Compare two sets of outcomes on the tasks that both have.

    Sample i of one side meets sample i of the other; a pair with a lost answer is left out.

    Args:
        baseline: outcomes of the baseline.
        candidate: outcomes of the candidate.
        families: task id -> family, to cluster by; tasks not named stand alone.

    Raises:
        BadInput: no task has a pair of answers.
    """
    shared = [task for task in baseline if task in candidate]
    lost_baseline = sum(passed is None for task in shared for passed in baseline[task])
    lost_candidate = sum(passed is None for task in shared for passed in candidate[task])
    pairs = [
        pair
        for task in shared
        if (pair := _pair(baseline[task], candidate[task], (families or {}).get(task, task)))
    ]
    if not pairs:
        raise BadInput(
            "comparison",
            f"{len(baseline)} and {len(candidate)} tasks, {len(shared)} in common",
            "at least one task that both sides answered",
            "Evaluate both on the same suite.",
        )
    return _summarise(pairs, lost_baseline, lost_candidate)


def _pair(
    baseline: Sequence[bool | None], candidate: Sequence[bool | None], family: str
) -> _TaskPair | None:
    known = [
        (first, second)
        for first, second in zip(baseline, candidate, strict=False)
        if first is not None and second is not None
    ]
    if not known:
        return None
    means = np.mean(np.array(known, dtype=float), axis=0)
    return _TaskPair(float(means[0]), float(means[1]), len(known), family)


def _summarise(pairs: list[_TaskPair], lost_baseline: int, lost_candidate: int) -> Comparison:
    baseline = np.array([pair.baseline for pair in pairs])
    candidate = np.array([pair.candidate for pair in pairs])
    difference = candidate - baseline
    families = [pair.family for pair in pairs]
    n_clusters = len(set(families))
    error = _standard_error(difference, families)
    mean = float(difference.mean())
    freedom = n_clusters - 1
    reach = float(stats.t.ppf(0.5 + CONFIDENCE / 2, freedom)) if freedom else np.inf
    half = reach * error if freedom else 2.0
    better, worse = int((difference > 0).sum()), int((difference < 0).sum())
    exact = n_clusters == len(pairs) and all(pair.samples == 1 for pair in pairs)
    return Comparison(
        n_tasks=len(pairs),
        n_samples=sum(pair.samples for pair in pairs),
        n_lost_baseline=lost_baseline,
        n_lost_candidate=lost_candidate,
        n_clusters=n_clusters,
        baseline_rate=float(baseline.mean()),
        candidate_rate=float(candidate.mean()),
        improvement_points=_points(mean),
        ci_low=_points(max(-1.0, mean - half)),
        ci_high=_points(min(1.0, mean + half)),
        p_value=mcnemar_exact(better, worse) if exact else _t_p_value(mean, error, freedom),
        method=MCNEMAR if exact else PAIRED_T,
        tasks_better=better,
        tasks_worse=worse,
        smallest_detectable_points=_smallest_detectable(error, freedom),
    )


def _standard_error(difference: NDArray[np.float64], families: list[str]) -> float:
    """Return the cluster-robust error of the mean; with families of one it is s / sqrt(n).

    If no family differs from the others there is no spread to estimate from; two imaginary tasks,
    one gained and one lost, then stand for what was not seen (Bonett & Price 2012).
    """
    error = _clustered_error(difference, families)
    if error > _NO_SPREAD:
        return error
    return _clustered_error(np.append(difference, [1.0, -1.0]), [*families, "\0gained", "\0lost"])


def _clustered_error(difference: NDArray[np.float64], families: list[str]) -> float:
    sums: dict[str, float] = defaultdict(float)
    for family, value in zip(families, difference - difference.mean(), strict=True):
        sums[family] += float(value)
    if len(sums) == 1:
        return float("inf")
    squares = sum(value**2 for value in sums.values())
    return float(np.sqrt(len(sums) / (len(sums) - 1) * squares) / len(difference))


def _t_p_value(mean: float, error: float, freedom: int) -> float:
    return float(2 * stats.t.sf(abs(mean) / error, freedom)) if freedom else 1.0


def mcnemar_exact(better: int, worse: int) -> float:
    """Return the exact two-sided McNemar p-value of discordant counts; 1 if there are none."""
    discordant = better + worse
    if discordant == 0:
        return 1.0
    return min(1.0, float(2 * stats.binom.cdf(min(better, worse), discordant, 0.5)))


def _smallest_detectable(error: float, freedom: int) -> float:
    if not freedom:
        return 100.0
    multiple = stats.t.ppf(0.5 + CONFIDENCE / 2, freedom) + stats.t.ppf(POWER, freedom)
    return min(100.0, _points(float(multiple * error)))


def _points(share: float) -> float:
    return round(100 * share, _DIGITS)


def compare(
    session: Session,
    baseline: Evaluation,
    candidate: Evaluation,
    *,
    thresholds: DeployThresholds | None = None,
    ab_significant: bool | None = None,
    family: str | None = None,
    actor: str = "flywheel",
) -> Verdict:
    """Compare two evaluations of one suite, decide, and store the Verdict with its Decision.

    Args:
        session: an open session; the caller commits.
        baseline: the evaluation of who serves now.
        candidate: the evaluation of who might.
        thresholds: of the deploy rule.
        ab_significant: what an A/B test said, if one has ended.
        family: name of the task attribute to cluster by, such as `family`; None treats tasks alone.
        actor: who asked.

    Raises:
        Conflict: the evaluations are of different suites, or of different versions of one.
        BadInput: no task was answered by both.
    """
    suite = _shared_suite(session, baseline, candidate)
    measured = compare_outcomes(
        outcomes_of(session, baseline),
        outcomes_of(session, candidate),
        families_of(session, suite, family) if family else None,
    )
    speed = speed_ratio(baseline, candidate)
    verdict_id = new_id()
    decision = decide(
        session,
        RULE,
        DeployInputs(
            improvement_points=measured.improvement_points,
            ci_low=measured.ci_low,
            ci_high=measured.ci_high,
            speed_ratio=speed.estimate if speed else None,
            speed_ratio_low=speed.low if speed else None,
            ab_significant=ab_significant,
            evidence=_evidence(suite, baseline, candidate, measured),
        ),
        thresholds or DeployThresholds(),
        role=suite.role,
        subject_id=verdict_id,
        actor=actor,
    )
    verdict = Verdict(
        id=verdict_id,
        role=suite.role,
        suite_id=suite.id,
        baseline_evaluation_id=baseline.id,
        candidate_evaluation_id=candidate.id,
        n_tasks=measured.n_tasks,
        improvement_points=measured.improvement_points,
        ci_low=measured.ci_low,
        ci_high=measured.ci_high,
        p_value=measured.p_value,
        speed_ratio=speed.estimate if speed else None,
        outcome=decision.outcome,
        decision_id=decision.id,
    )
    session.add(verdict)
    session.flush()
    return verdict


def _shared_suite(session: Session, baseline: Evaluation, candidate: Evaluation) -> Suite:
    if baseline.suite_id != candidate.suite_id:
        raise Conflict(
            "comparison",
            f"{baseline.subject} and {candidate.subject} on different suites",
            "two evaluations of the same version of one suite",
            "Evaluate the older one again on the newer suite.",
        )
    return session.get_one(Suite, baseline.suite_id)


def _evidence(
    suite: Suite, baseline: Evaluation, candidate: Evaluation, measured: Comparison
) -> dict[str, Any]:
    return {
        "suite": f"{suite.name}@{suite.version}",
        "suite_hash": suite.content_hash,
        "baseline": baseline.subject,
        "candidate": candidate.subject,
        "baseline_tokens_per_s": baseline.tokens_per_s,
        "candidate_tokens_per_s": candidate.tokens_per_s,
        **asdict(measured),
    }


def outcomes_of(session: Session, evaluation: Evaluation) -> dict[str, list[bool | None]]:
    """Return the outcomes of an evaluation: task id -> passed per sample number; lost is None."""
    rows = session.exec(
        select(SuiteTask.task_id, Sample.passed)
        .join(Sample, col(Sample.suite_task_id) == SuiteTask.id)
        .where(Sample.evaluation_id == evaluation.id)
        .order_by(SuiteTask.task_id, col(Sample.number))
    )
    outcomes: dict[str, list[bool | None]] = defaultdict(list)
    for task_id, passed in rows:
        outcomes[task_id].append(passed)
    return dict(outcomes)


def families_of(session: Session, suite: Suite, attribute: str) -> dict[str, str]:
    """Return task id -> the value of a task attribute, for the tasks that have it."""
    rows = session.exec(
        select(SuiteTask.task_id, SuiteTask.attributes).where(SuiteTask.suite_id == suite.id)
    )
    return {task: str(values[attribute]) for task, values in rows if attribute in values}
