"""How an experiment stands, for display: computed from its units now."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlmodel import Session

from foundation.tables import Decision
from router import stats
from router.experiments.evidence import ARMS, Evidence, gather
from router.experiments.life import current_rule
from router.experiments.looks import estimate_of
from router.experiments.plan import ExperimentPlan, plan_of
from router.experiments.rule import attended, needed_e
from router.tables import RUNNING, Experiment
from trainer import registry


@dataclass(frozen=True)
class ExperimentStatus:
    """An experiment for display; rates are 0-1, the interval may be peeked at any time."""

    experiment_id: str
    role: str
    kind: str
    status: str
    control: str
    treatment: str
    treatment_share: float
    phase: int
    ramp: Sequence[float]
    unit_kind: str
    outcome_kind: str
    is_proposed: bool
    evidence: Evidence
    success_rate: dict[str, float | None]
    e_value: float
    needed_e: float
    """E-value that would be proof; more than 1/alpha while other roles' experiments run."""
    harm_e_value: float
    p_value: float
    """Always-valid p-value of 'the treatment is not better'."""
    gain: float | None
    """Treatment minus control success rate, stratified; None until both arms have outcomes."""
    gain_low: float | None
    gain_high: float | None
    confidence: float
    more_per_arm: int | None
    """Further units per arm until a promotion if the trend holds; None: not within the plan."""
    smallest_gain: float | None
    """The gain that the plan can show with a chance of 80 %, at the control's rate; 0-1."""
    classic: str
    """The plain t-test for the record, and what peeking at it would have done."""
    reasons: tuple[str, ...]


def status(session: Session, experiment: Experiment) -> ExperimentStatus:
    """Return how an experiment stands, computed from its units now."""
    seen, units = gather(session, experiment)
    plan = plan_of(experiment)
    gain = estimate_of(seen, stats.stratified_difference(units, plan.alpha, plan.max_per_arm))
    rates = {
        arm: seen.successes[arm] / seen.analysed[arm] if seen.analysed[arm] else None
        for arm in ARMS
    }
    control, treatment = (
        registry.get_version(session, str(version_id)).name
        for version_id in (
            experiment.control_model_version_id,
            experiment.treatment_model_version_id,
        )
    )
    return ExperimentStatus(
        experiment_id=str(experiment.id),
        role=experiment.role,
        kind=experiment.kind,
        status=experiment.status,
        control=control,
        treatment=treatment,
        treatment_share=experiment.treatment_share,
        phase=experiment.phase,
        ramp=plan.shares,
        unit_kind=experiment.unit_kind,
        outcome_kind=plan.outcome_kind,
        is_proposed=experiment.proposed_at is not None and experiment.status == RUNNING,
        evidence=seen,
        success_rate=rates,
        e_value=stats.e_value(seen.log_e),
        needed_e=needed_e(seen, attended(plan, seen)),
        harm_e_value=stats.e_value(seen.log_e_harm),
        p_value=stats.always_valid_p(seen.max_log_e),
        gain=gain["estimate"],
        gain_low=gain["low"],
        gain_high=gain["high"],
        confidence=1 - plan.alpha,
        more_per_arm=more_per_arm(seen, attended(plan, seen)),
        smallest_gain=_smallest_gain(rates[ARMS[0]], plan),
        classic=stats.classic_record(units).in_words,
        reasons=_reasons(session, experiment, seen),
    )


def _smallest_gain(baseline: float | None, plan: ExperimentPlan) -> float | None:
    if baseline is None or not 0 < baseline < 1:
        return None
    return stats.detectable_effect(baseline, plan.max_per_arm, plan.alpha)


def _reasons(session: Session, experiment: Experiment, seen: Evidence) -> tuple[str, ...]:
    ended = session.get(Decision, experiment.decision_id) if experiment.decision_id else None
    if ended is not None:
        return tuple(ended.reasons)
    return current_rule(experiment)(asdict(seen), experiment.plan).reasons


def more_per_arm(seen: Evidence, plan: ExperimentPlan) -> int | None:
    """Return the further units per arm until E is proof if the shares of pairs stay as seen.

    Zero when it is there already; None with no pairs, or when the planned end comes first.
    """
    so_far = min(seen.analysed.values())
    if not seen.pairs or seen.scores is not None:
        return None
    needed = math.log(needed_e(seen, plan))
    for more in range(max(0, plan.max_per_arm - so_far) + 1):
        grown = (seen.pairs + more) / seen.pairs
        log_e = min(
            float(stats.log_e_pairs(wins * grown, losses * grown)) for wins, losses in seen.readings
        )
        if log_e >= needed:
            return max(more, plan.min_per_arm - so_far, 0)
    return None
