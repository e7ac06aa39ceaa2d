"""Front desk of comparisons: candidate against baseline on the same tasks, decided and stored.

`compare` reads two evaluations, says what answers without a grade count for (`evaluator.ungraded`),
measures what the baseline differs from itself by (`evaluator.noise`), the paired difference
(`evaluator.comparison`), the same by slice (`evaluator.slices`) and what was forgotten
(`evaluator.forgetting`), lets the rule decide (`evaluator.decide`), and stores it all as one
Verdict. Judges of pairs are asked before, by `evaluator.judge.judge_stored`.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any
from uuid import UUID

from sqlmodel import Session, col, select

from evaluator import forgetting
from evaluator.beside import sections_beside
from evaluator.comparison import Comparison, Outcomes, compare_outcomes, task_means
from evaluator.decide import RULE, DeployInputs, DeployThresholds, more_tasks_needed
from evaluator.forgetting import ForgettingInputs, ForgettingThresholds, share_kept
from evaluator.grading import ERROR
from evaluator.judge import JudgeReport, is_graded_by_rubric, rubric_flips
from evaluator.judge.gate import may_rubric_gate
from evaluator.learned import require_unlearned
from evaluator.noise import NoiseFloor, noise_of_repeat, noise_of_samples
from evaluator.slices import note_on, slices_of
from evaluator.speed import SpeedRatio, speed_basis, speed_ratio
from evaluator.tables import Evaluation, Sample, Suite, SuiteTask, Verdict
from evaluator.ungraded import UNGRADED, Counted, Graded, count_ungraded
from foundation.decisions import decide
from foundation.errors import Conflict
from foundation.ids import new_id
from foundation.tables import Decision
from trainer.registry import set_stage
from trainer.tables import CANDIDATE, QUARANTINED, ModelVersion

FAMILY = "family"
"""Task attribute that tasks are clustered by, where they have it."""


@dataclass(frozen=True)
class GeneralTasks:
    """Both models on a suite that has nothing to do with the role, to see what was forgotten."""

    baseline: Evaluation
    candidate: Evaluation
    thresholds: ForgettingThresholds = ForgettingThresholds()


@dataclass(frozen=True)
class _Measured:
    """All that a verdict rests on."""

    counted: Counted
    comparison: Comparison
    speed: SpeedRatio | None
    noise: NoiseFloor | None
    slices: dict[str, Any]


def compare(
    session: Session,
    baseline: Evaluation,
    candidate: Evaluation,
    *,
    thresholds: DeployThresholds | None = None,
    ab_significant: bool | None = None,
    family: str | None = None,
    repeated: Evaluation | None = None,
    general: GeneralTasks | None = None,
    judge: JudgeReport | None = None,
    sections: Mapping[str, Any] | None = None,
    actor: str = "flywheel",
) -> Verdict:
    """Compare two evaluations of one suite, decide, and store the Verdict with its Decisions.

    A candidate that has forgotten too much is quarantined, unless it serves already.

    Args:
        session: an open session; the caller commits.
        baseline: the evaluation of who serves now.
        candidate: the evaluation of who might.
        thresholds: of the deploy rule.
        ab_significant: what an A/B test said, if one has ended.
        family: task attribute to cluster by instead of `family`; tasks without it stand alone.
        repeated: a second evaluation of the baseline, to measure noise by.
        general: both on a general suite.
        judge: what judges said of the two; it may hold a deployment back, and only if it is fit to.
        sections: further sections of the report (identity, cost), stored as they are.
        actor: who asked.

    Raises:
        Conflict: the evaluations are of different suites, or of different versions of one, or the
            suite has changed since, or they are one and the same, or one model learned from its
            tasks.
        BadInput: no task was answered by both.
    """
    suite = shared_suite(session, baseline, candidate)
    attributes = attributes_of(session, suite)
    measured = _measure(
        count_ungraded(graded_of(session, baseline), graded_of(session, candidate)),
        outcomes_of(session, repeated) if repeated else None,
        attributes,
        family or FAMILY,
        speed_ratio(baseline, candidate),
    )
    limits = thresholds or DeployThresholds()
    verdict_id = new_id()
    forgot = _forgetting(session, general, suite.role, verdict_id, actor) if general else None
    decision = decide(
        session,
        RULE,
        replace(
            _deploy_inputs(suite, baseline, candidate, measured, limits, ab_significant, forgot),
            **_judged(session, baseline, candidate, judge),
        ),
        limits,
        role=suite.role,
        subject_id=verdict_id,
        actor=actor,
    )
    found = measured.comparison
    verdict = Verdict(
        id=verdict_id,
        role=suite.role,
        suite_id=suite.id,
        baseline_evaluation_id=baseline.id,
        candidate_evaluation_id=candidate.id,
        n_tasks=found.n_tasks,
        improvement_points=found.improvement_points,
        ci_low=found.ci_low,
        ci_high=found.ci_high,
        p_value=found.p_value,
        speed_ratio=measured.speed.estimate if measured.speed else None,
        outcome=decision.outcome,
        report={
            **sections_beside(baseline, candidate),
            **(sections or {}),
            **_report(measured, decision, forgot),
            "judge": judge.as_json() if judge else None,
        },
        decision_id=decision.id,
    )
    session.add(verdict)
    session.flush()
    return verdict


def _measure(
    counted: Counted,
    repeated: Outcomes | None,
    attributes: Mapping[str, Mapping[str, Any]],
    family: str,
    speed: SpeedRatio | None,
) -> _Measured:
    families = families_in(attributes, family)
    baseline, candidate = counted.baseline, counted.candidate
    slices = slices_of(baseline, candidate, attributes, families)
    return _Measured(
        counted=counted,
        comparison=compare_outcomes(baseline, candidate, families),
        speed=speed,
        noise=noise_of_repeat(baseline, repeated) if repeated else noise_of_samples(baseline),
        slices={"rows": [asdict(one) for one in slices], "note": note_on(slices)},
    )


def _deploy_inputs(
    suite: Suite,
    baseline: Evaluation,
    candidate: Evaluation,
    measured: _Measured,
    limits: DeployThresholds,
    ab_significant: bool | None,
    forgot: Decision | None,
) -> DeployInputs:
    found, speed, noise = measured.comparison, measured.speed, measured.noise
    counted = measured.counted
    return DeployInputs(
        improvement_points=found.improvement_points,
        ci_low=found.ci_low,
        ci_high=found.ci_high,
        speed_ratio=speed.estimate if speed else None,
        speed_ratio_low=speed.low if speed else None,
        ab_significant=ab_significant,
        bound_low=found.bound_low,
        bound_high=found.bound_high,
        more_tasks=more_tasks_needed(
            found.bound_low, found.bound_high, found.n_tasks, limits.minimum_points
        ),
        noise_floor_points=noise.points if noise else None,
        forgetting=forgot.outcome if forgot else None,
        ungraded_baseline=counted.n_baseline,
        ungraded_candidate=counted.n_candidate,
        ungraded_left_out=counted.n_left_out,
        graded_points=counted.graded_points,
        evidence=_evidence(suite, baseline, candidate, found),
    )


def _judged(
    session: Session, baseline: Evaluation, candidate: Evaluation, judge: JudgeReport | None
) -> dict[str, Any]:
    """Return what the deploy rule reads of judges: of those that graded, and of those on pairs."""
    found: dict[str, Any] = {}
    if is_graded_by_rubric(session, baseline):
        flips = rubric_flips(baseline, candidate)
        found = {"rubric_may_gate": may_rubric_gate(flips), "rubric_flip_rate": flips}
    if judge is not None:
        rate = judge.panel.score.win_rate
        found |= {
            "judge_may_gate": judge.may_gate,
            "judge_win_rate": rate.value,
            "judge_win_high": rate.interval[1] if rate.interval else None,
        }
    return found


def _report(measured: _Measured, decision: Decision, forgot: Decision | None) -> dict[str, Any]:
    counted = measured.counted
    return {
        "ungraded": {
            "baseline": counted.n_baseline,
            "candidate": counted.n_candidate,
            "left_out": counted.n_left_out,
            "graded_points": counted.graded_points,
        }
        if counted.n_baseline + counted.n_candidate
        else None,
        "noise_floor": asdict(measured.noise) if measured.noise else None,
        "comparison": {
            **asdict(measured.comparison),
            "more_tasks": decision.inputs["more_tasks"],
        },
        "slices": measured.slices,
        "forgetting": forgot
        and {
            **forgot.inputs,
            **forgot.rule,
            "outcome": forgot.outcome,
            "reasons": forgot.reasons,
            "decision_id": str(forgot.id),
        },
    }


def _forgetting(
    session: Session, general: GeneralTasks, role: str, verdict_id: UUID, actor: str
) -> Decision:
    """Decide what was forgotten; quarantine a candidate that has not served yet if it is much."""
    suite = shared_suite(session, general.baseline, general.candidate)
    counted = count_ungraded(
        graded_of(session, general.baseline), graded_of(session, general.candidate)
    )
    means = task_means(
        counted.baseline,
        counted.candidate,
        families_of(session, suite, FAMILY),
    )
    kept, low, high = share_kept(means.baseline, means.candidate, means.clusters)
    decision = decide(
        session,
        forgetting.RULE,
        ForgettingInputs(
            baseline_rate=float(means.baseline.mean()),
            candidate_rate=float(means.candidate.mean()),
            kept=kept,
            kept_low=low,
            kept_high=high,
            n_tasks=len(means.baseline),
            suite=f"{suite.name}@{suite.version}",
        ),
        general.thresholds,
        role=role,
        subject_id=general.candidate.model_version_id or verdict_id,
        actor=actor,
    )
    if decision.outcome == forgetting.QUARANTINE and general.candidate.model_version_id:
        version = session.get_one(ModelVersion, general.candidate.model_version_id)
        if version.stage == CANDIDATE:
            set_stage(session, version, QUARANTINED)
    return decision


def shared_suite(session: Session, baseline: Evaluation, candidate: Evaluation) -> Suite:
    """Return the suite that both answered as it is now; raises Conflict as `compare` does."""
    if baseline.id == candidate.id:
        raise Conflict(
            "comparison",
            f"the evaluation {baseline.id} twice",
            "two evaluations",
            "For the noise floor, evaluate the model a second time with another seed.",
        )
    if baseline.suite_id != candidate.suite_id:
        raise Conflict(
            "comparison",
            f"{baseline.subject} and {candidate.subject} on different suites",
            "two evaluations of the same version of one suite",
            "Evaluate the older one again on the newer suite.",
        )
    suite = session.get_one(Suite, baseline.suite_id)
    for evaluation in (baseline, candidate):
        if evaluation.suite_hash and evaluation.suite_hash != suite.content_hash:
            raise Conflict(
                f"comparison on {suite.name}@{suite.version}",
                f"{evaluation.subject} on tasks of hash {evaluation.suite_hash[:12]}",
                f"the tasks as they are now, of hash {suite.content_hash[:12]}",
                "The suite has changed since; evaluate it again.",
            )
    require_unlearned(session, suite, [baseline.model_version_id, candidate.model_version_id])
    return suite


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
        "speed_basis": speed_basis(baseline, candidate),
        **asdict(measured),
    }


def graded_of(session: Session, evaluation: Evaluation) -> dict[str, list[Graded]]:
    """Return the outcomes of an evaluation, answers without a grade told from lost ones."""
    rows = session.exec(
        select(SuiteTask.task_id, Sample.passed, Sample.status)
        .join(Sample, col(Sample.suite_task_id) == SuiteTask.id)
        .where(Sample.evaluation_id == evaluation.id)
        .order_by(SuiteTask.task_id, col(Sample.number))
    )
    outcomes: dict[str, list[Graded]] = defaultdict(list)
    for task_id, passed, status in rows:
        outcomes[task_id].append(UNGRADED if status == ERROR else passed)
    return dict(outcomes)


def outcomes_of(session: Session, evaluation: Evaluation) -> dict[str, list[bool | None]]:
    """Return task id -> passed per sample number; None for what is lost or has no grade."""
    return {
        task: [None if one == UNGRADED else one for one in answers]
        for task, answers in graded_of(session, evaluation).items()
    }


def attributes_of(session: Session, suite: Suite) -> dict[str, dict[str, Any]]:
    """Return task id -> attributes."""
    rows = session.exec(
        select(SuiteTask.task_id, SuiteTask.attributes).where(SuiteTask.suite_id == suite.id)
    )
    return {task: dict(own) for task, own in rows}


def families_of(session: Session, suite: Suite, attribute: str) -> dict[str, str]:
    """Return task id -> the value of a task attribute, for the tasks that have it."""
    return families_in(attributes_of(session, suite), attribute)


def families_in(attributes: Mapping[str, Mapping[str, Any]], attribute: str) -> dict[str, str]:
    """Return task id -> the value of a task attribute, for the tasks that have it."""
    return {task: str(own[attribute]) for task, own in attributes.items() if attribute in own}
