"""Live experiments: start, assign, collect outcomes, and decide by always-valid statistics.

The unit is an episode: its arm is drawn by hash and written down before its first call. What
happens counts for the arm that was assigned (intention to treat), upstream failures and time-outs
too. `evaluate` may run after every outcome; a final state is final, repeating it changes nothing.
Method: pairs by assignment order within a stratum, see `router.stats`.
"""

import math
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text, update
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import Session, col, select

from foundation import decisions
from foundation.decisions import Ruling
from foundation.errors import BadInput, Conflict, NotFound
from foundation.tables import Decision, now
from router import stats
from router.assign import assign as draw_arm
from router.promote import (
    end_experiment,
    lock_role,
    promote,
    require_servable,
    running_experiment,
)
from router.tables import (
    CONTROL,
    HALTED,
    PROMOTED,
    ROLLED_BACK,
    RUNNING,
    STAYED,
    STOPPED,
    TREATMENT,
    Assignment,
    Experiment,
)
from trainer import registry
from trainer.tables import EXPERIMENTAL, ModelVersion

ARMS = (CONTROL, TREATMENT)


@dataclass(frozen=True)
class ExperimentPlan:
    """Everything that decides an experiment, fixed when it starts."""

    treatment_share: float = 0.5
    """Share of units that the treatment serves, 0-1 exclusive."""
    alpha: float = 0.05
    """Chance of ever promoting a treatment that is not better; 0.01 for unattended promotion."""
    min_per_arm: int = 50
    """Units with a known outcome that each arm needs before a promotion."""
    min_days: float = 7.0
    """Days an experiment lasts at least before a promotion: one weekly cycle."""
    max_per_arm: int = 1400
    """Units with a known outcome per arm at which an undecided experiment ends as `stayed`."""
    outcome_timeout_s: float = 86_400.0
    """Seconds after its assignment at which a unit without outcome counts as a failure."""
    srm_e: float = 1000.0
    """E-value against the planned split that halts."""
    harm_e: float = 20.0
    """E-value for harm, or against a limit below, that rolls back."""
    error_limit: float = 0.02
    """Tolerated share of failed calls, 0-1."""
    slow_limit_ms: float = 3000.0
    """Latency above which a call is slow, in milliseconds."""
    slow_share: float = 0.05
    """Tolerated share of slow calls, 0-1: p95 below the latency limit."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise _bad_plan(name, value, "a number")
        for name in ("treatment_share", "alpha", "error_limit", "slow_share"):
            value = getattr(self, name)
            if not 0 < value < 1:
                raise _bad_plan(name, value, "a number between 0 and 1")
        for name in ("min_per_arm", "min_days", "outcome_timeout_s", "slow_limit_ms"):
            if getattr(self, name) < 0:
                raise _bad_plan(name, getattr(self, name), "zero or more")
        for name in ("srm_e", "harm_e"):
            if getattr(self, name) <= 1:
                raise _bad_plan(name, getattr(self, name), "more than 1, no evidence is E = 1")
        if self.max_per_arm < max(1, self.min_per_arm):
            raise _bad_plan("max_per_arm", self.max_per_arm, "at least min_per_arm and 1")


def _bad_plan(name: str, value: Any, expected: str) -> BadInput:
    return BadInput(f"experiment plan, {name}", value, expected, "See docs for what it means.")


PLANS = {
    "default": ExperimentPlan(),
    "demo": ExperimentPlan(min_per_arm=20, min_days=0.0, max_per_arm=400, outcome_timeout_s=600.0),
}
"""Plans by profile; `demo` has no weekly cycle to wait for."""


@dataclass(frozen=True)
class Evidence:
    """What an experiment has shown so far, per arm where it says so: the inputs of its rule."""

    assigned: dict[str, int]
    analysed: dict[str, int]
    """Units with a known or timed-out outcome."""
    successes: dict[str, int]
    timed_out: dict[str, int]
    calls: dict[str, int]
    errors: dict[str, int]
    slow: dict[str, int]
    pairs: int
    wins: int
    """Pairs won by the treatment only, by the outcomes as they were first settled."""
    losses: int
    max_log_e: float
    """The highest log E of 'better' so far, for the always-valid p-value."""
    days: float
    late: dict[str, int] = field(default_factory=dict)
    """Units whose feedback came after they had timed out."""
    late_wins: int | None = None
    """Pairs won with late feedback taken for the outcome; None: recorded before that counted."""
    late_losses: int | None = None

    @property
    def readings(self) -> tuple[tuple[int, int], ...]:
        """Pairs won and lost as first settled, and with late feedback: a proof must hold in both.

        Outcomes that change could make a proof of chance; the smaller of an e-process and anything
        else cannot.
        """
        settled = (self.wins, self.losses)
        if self.late_wins is None or self.late_losses is None:
            return (settled,)
        return (settled, (self.late_wins, self.late_losses))

    @property
    def log_e(self) -> float:
        """Log E of 'the treatment is better'."""
        return min(float(stats.log_e_pairs(wins, losses)) for wins, losses in self.readings)

    @property
    def log_e_harm(self) -> float:
        """Log E of 'the treatment is worse'."""
        return min(float(stats.log_e_pairs(losses, wins)) for wins, losses in self.readings)

    @property
    def score(self) -> str:
        """The pairs in words."""
        words = f"{self.wins} pairs won and {self.losses} lost of {self.pairs}"
        if self.readings[-1] == self.readings[0]:
            return words
        return f"{words} ({self.late_wins} and {self.late_losses} with late feedback)"


def start(
    session: Session, role: str, treatment: ModelVersion, plan: ExperimentPlan, actor: str
) -> Experiment:
    """Start comparing `treatment` with the version that serves `role` now.

    Raises:
        NotFound: the role is not configured, or nobody serves it.
        BadInput: the treatment is of another role, a control, or quarantined.
        Conflict: the treatment serves already, or an experiment of the role is running.
    """
    require_servable(role, treatment)
    serving = lock_role(session, role)
    if serving.model_version_id == treatment.id:
        raise Conflict(
            "experiment",
            treatment.name,
            f"a treatment that does not serve the role {role!r} yet",
            "Name a candidate instead.",
        )
    running = running_experiment(session, role)
    if running is not None:
        raise Conflict(
            "experiment",
            treatment.name,
            f"no running experiment for the role {role!r}",
            f"Stop experiment {running.id} first, or wait for its end.",
        )
    experiment = Experiment(
        role=role,
        control_model_version_id=serving.model_version_id,
        treatment_model_version_id=treatment.id,
        treatment_share=plan.treatment_share,
        salt=secrets.token_hex(8),
        plan=asdict(plan),
    )
    session.add(experiment)
    registry.set_stage(session, treatment, EXPERIMENTAL)
    decisions.record(
        session,
        "router.start",
        RUNNING,
        [f"{treatment.name} gets {plan.treatment_share:.0%} of the tasks of {role}"],
        inputs={"control": str(serving.model_version_id), "treatment": str(treatment.id)},
        thresholds=asdict(plan),
        role=role,
        subject_id=experiment.id,
        actor=actor,
    )
    return experiment


def get_experiment(session: Session, experiment_id: UUID) -> Experiment:
    """Return an experiment by id; raises NotFound."""
    experiment = session.get(Experiment, experiment_id, populate_existing=True)
    if experiment is None:
        raise NotFound(
            "experiment",
            str(experiment_id),
            "the id of a stored experiment",
            "List them with: flywheel experiment list",
        )
    return experiment


def list_experiments(session: Session, role: str | None = None) -> list[Experiment]:
    """Return the experiments, newest first; of one role if named."""
    query = select(Experiment).order_by(col(Experiment.id).desc())
    return list(session.exec(query.where(Experiment.role == role) if role else query).all())


def assign(session: Session, experiment: Experiment, unit: str, stratum: str) -> Assignment:
    """Return the assignment of `unit`, writing it down if this is its first call.

    The first writer's row stays, so every later call of the unit keeps its arm and its stratum.
    """
    arm = draw_arm(experiment.id, experiment.salt, unit, experiment.treatment_share)
    row = Assignment(experiment_id=experiment.id, unit=unit, arm=arm, stratum=stratum)
    values = row.model_dump(exclude={"sequence"})
    session.execute(insert(Assignment).values(values).on_conflict_do_nothing())
    return session.exec(
        select(Assignment).where(Assignment.experiment_id == experiment.id, Assignment.unit == unit)
    ).one()


def record_call(
    session: Session, experiment_id: UUID, unit: str, error: bool, latency_ms: float | None
) -> None:
    """Count one call of an assigned unit; a unit that was never assigned changes nothing.

    A call without a measured latency is not slow.
    """
    session.execute(
        _COUNT_CALL,
        {"experiment": experiment_id, "unit": unit, "error": int(error), "latency": latency_ms},
    )


_COUNT_CALL = text(
    """
    UPDATE assignment SET
        n_calls = n_calls + 1,
        n_errors = n_errors + :error,
        n_slow = n_slow + coalesce(
            CAST(:latency AS float) > (experiment.plan->>'slow_limit_ms')::float, false
        )::int
    FROM experiment
    WHERE experiment.id = experiment_id AND experiment_id = :experiment AND unit = :unit
    """
)


_SETTLE = text(
    """
    WITH open AS (
        SELECT id, unit FROM assignment WHERE experiment_id = :experiment AND {undecided}
    ), said AS (
        SELECT * FROM feedback
        WHERE kind = 'success' AND value IS NOT NULL AND ingested_at >= :since
    ), found AS (
        SELECT open.id, 0 AS level, said.value, said.created_at, said.id AS said_id
        FROM open JOIN said ON said.episode_id::text = open.unit
        WHERE said.interaction_id IS NULL
        UNION ALL
        SELECT open.id, 1, said.value, said.created_at, said.id
        FROM said JOIN interaction i ON i.id = said.interaction_id AND i.role = :role
        JOIN open ON open.unit = i.episode_id::text
        UNION ALL
        SELECT open.id, 1, said.value, said.created_at, said.id
        FROM said JOIN interaction i ON i.id = said.interaction_id AND i.role = :role
        JOIN open ON open.unit = i.unit_id
    ), first AS (
        SELECT DISTINCT ON (id) id, value FROM found ORDER BY id, level, created_at, said_id
    )
    UPDATE assignment SET
        outcome = first.value >= 0.5,
        outcome_at = coalesce(outcome_at, :moment),
        late_at = CASE WHEN timed_out THEN CAST(:moment AS timestamptz) END
    FROM first WHERE assignment.id = first.id AND {undecided}
    """.format(undecided="(outcome IS NULL OR (timed_out AND late_at IS NULL))")
)
"""Feedback on the episode as a whole speaks for it; else the first on one of the role's calls.

A unit that had timed out keeps its `outcome_at`, and so its pair its place in the evidence.
"""


def collect_outcomes(session: Session, experiment: Experiment) -> int:
    """Settle the open units that have `success` feedback or waited too long; return how many.

    What feedback has settled is never changed. What a time-out has settled changes once, if
    feedback comes after all; `Evidence.readings` keeps the statistics honest. Feedback about
    another role's call of the same episode says nothing about this role.
    """
    moment = now()
    told = session.execute(
        _SETTLE,
        {
            "experiment": experiment.id,
            "role": experiment.role,
            "since": experiment.started_at,
            "moment": moment,
        },
    )
    late = session.execute(
        update(Assignment)
        .where(
            col(Assignment.experiment_id) == experiment.id,
            col(Assignment.outcome).is_(None),
            col(Assignment.assigned_at)
            <= moment - timedelta(seconds=_plan(experiment).outcome_timeout_s),
        )
        .values(outcome=False, outcome_at=moment, timed_out=True)
        .execution_options(synchronize_session=False)
    )
    return int(told.rowcount) + int(late.rowcount)  # type: ignore[attr-defined]


def gather(session: Session, experiment: Experiment) -> tuple[Evidence, list[Assignment]]:
    """Return what an experiment has shown so far, and the units behind it."""
    units = _units(session, experiment)
    pairs = stats.pair_evidence(stats.pair_outcomes(units, with_late=False))
    told = stats.pair_evidence(stats.pair_outcomes(units))
    lasted = (experiment.ended_at or now()) - experiment.started_at
    known = [unit for unit in units if unit.outcome is not None]
    evidence = Evidence(
        assigned=_per_arm(units, lambda unit: 1),
        analysed=_per_arm(known, lambda unit: 1),
        successes=_per_arm(known, lambda unit: int(bool(unit.outcome))),
        timed_out=_per_arm(known, lambda unit: int(unit.timed_out)),
        calls=_per_arm(units, lambda unit: unit.n_calls),
        errors=_per_arm(units, lambda unit: unit.n_errors),
        slow=_per_arm(units, lambda unit: unit.n_slow),
        pairs=pairs.n_pairs,
        wins=pairs.wins,
        losses=pairs.losses,
        max_log_e=min(pairs.max_log_e, told.max_log_e),
        days=lasted / timedelta(days=1),
        late=_per_arm(units, lambda unit: int(unit.late_at is not None)),
        late_wins=told.wins,
        late_losses=told.losses,
    )
    return evidence, units


def _units(session: Session, experiment: Experiment) -> list[Assignment]:
    return list(
        session.exec(
            select(Assignment)
            .where(Assignment.experiment_id == experiment.id)
            .order_by(col(Assignment.sequence))
            .execution_options(populate_existing=True)
        ).all()
    )


def _per_arm(units: Sequence[Assignment], count: Any) -> dict[str, int]:
    return {arm: sum(count(unit) for unit in units if unit.arm == arm) for arm in ARMS}


@decisions.rule("router.experiment")
def rule(inputs: dict[str, Any], thresholds: dict[str, Any]) -> Ruling:
    """Say how an experiment stands: halted, rolled_back, promoted, stayed or running.

    Args:
        inputs: the fields of `Evidence`.
        thresholds: the fields of `ExperimentPlan`.
    """
    seen, plan = decisions.load(Evidence, inputs), decisions.load(ExperimentPlan, thresholds)
    if uneven := _uneven_split(seen, plan):
        return Ruling(HALTED, uneven)
    if harm := _harm(seen, plan):
        return Ruling(ROLLED_BACK, harm)
    e_value = stats.e_value(seen.log_e)
    score = f"{seen.score}: E = {e_value:.3g}"
    per_arm = min(seen.analysed.values())
    if e_value >= 1 / plan.alpha:
        proof = f"{score}, at least {1 / plan.alpha:g}: the treatment is better"
        missing = _unmet_minimums(seen, plan)
        return Ruling(RUNNING if missing else PROMOTED, (proof, *missing))
    if per_arm >= plan.max_per_arm:
        end = (
            f"{per_arm} units per arm, the planned end, without proof that the treatment is better"
        )
        return Ruling(STAYED, (end, score))
    return Ruling(RUNNING, (f"{score}, below {1 / plan.alpha:g}: undecided",))


def _uneven_split(seen: Evidence, plan: ExperimentPlan) -> tuple[str, ...]:
    reasons = []
    for name, counts in (("assigned", seen.assigned), ("analysed", seen.analysed)):
        treated, n = counts[TREATMENT], sum(counts.values())
        e_value = stats.e_value(float(stats.log_e_srm(treated, n, plan.treatment_share)))
        if e_value >= plan.srm_e:
            reasons.append(
                f"{treated} of {n} {name} units are in treatment, planned "
                f"{plan.treatment_share:.0%}: E = {e_value:.3g}, at least {plan.srm_e:g}; "
                "the split is broken and nothing can be concluded"
            )
    return tuple(reasons)


def _harm(seen: Evidence, plan: ExperimentPlan) -> tuple[str, ...]:
    calls, errors, slow = (part[TREATMENT] for part in (seen.calls, seen.errors, seen.slow))
    checks = (
        (
            seen.log_e_harm,
            f"{seen.score}: the treatment is worse",
        ),
        (
            stats.log_e_rate(errors, calls, plan.error_limit),
            f"{errors} of {calls} calls failed, the limit is {plan.error_limit:.1%}",
        ),
        (
            stats.log_e_rate(slow, calls, plan.slow_share),
            f"{slow} of {calls} calls took over {plan.slow_limit_ms:g} ms, "
            f"the limit is {plan.slow_share:.1%}",
        ),
    )
    return tuple(
        f"{words}: E = {stats.e_value(float(log_e)):.3g}, at least {plan.harm_e:g}"
        for log_e, words in checks
        if stats.e_value(float(log_e)) >= plan.harm_e
    )


def _unmet_minimums(seen: Evidence, plan: ExperimentPlan) -> tuple[str, ...]:
    missing = []
    if min(seen.analysed.values()) < plan.min_per_arm:
        missing.append(
            f"{min(seen.analysed.values())} units in the smaller arm, "
            f"at least {plan.min_per_arm} are needed"
        )
    if seen.days < plan.min_days:
        missing.append(f"{seen.days:.1f} days, at least {plan.min_days:g} are needed")
    return tuple(missing)


def evaluate(session: Session, experiment: Experiment) -> Decision | None:
    """Apply the rule and act on it in this transaction; None while the experiment goes on.

    An experiment that has ended gives its Decision again and changes nothing.
    """
    lock_role(session, experiment.role)
    experiment = get_experiment(session, experiment.id)
    if experiment.status != RUNNING:
        return session.get(Decision, experiment.decision_id)
    evidence, units = gather(session, experiment)
    ruling = rule(asdict(evidence), experiment.plan)
    experiment.state = _state(evidence, units, _plan(experiment), ruling)
    session.add(experiment)
    if ruling.outcome == RUNNING:
        session.flush()
        return None
    decision = decisions.decide(
        session,
        "router.experiment",
        evidence,
        experiment.plan,
        role=experiment.role,
        subject_id=experiment.id,
    )
    if decision.outcome == PROMOTED:
        promote(
            session,
            experiment.role,
            registry.get_version(session, str(experiment.treatment_model_version_id)),
            reason=decision.reasons[0],
            actor=decision.actor,
            experiment=experiment,
            decision=decision,
        )
    end_experiment(session, experiment, decision.outcome, decision)
    return decision


def _state(
    seen: Evidence, units: list[Assignment], plan: ExperimentPlan, ruling: Ruling
) -> dict[str, Any]:
    """Return what is kept in the row for display, as of the latest look."""
    gain = stats.stratified_difference(units, plan.alpha, plan.max_per_arm)
    return {
        **asdict(seen),
        "ties": seen.pairs - seen.wins - seen.losses,
        "e_value": stats.e_value(seen.log_e),
        "p_value": stats.always_valid_p(seen.max_log_e),
        "difference": asdict(gain) if gain else None,
        "reasons": list(ruling.reasons),
    }


def stop(session: Session, experiment: Experiment, reason: str, actor: str) -> Decision:
    """End a running experiment by hand; the control goes on serving.

    Stopping one that has ended gives the Decision of its end and changes nothing.
    """
    lock_role(session, experiment.role)
    experiment = get_experiment(session, experiment.id)
    ended = session.get(Decision, experiment.decision_id) if experiment.decision_id else None
    if ended is not None:
        return ended
    evidence, _ = gather(session, experiment)
    decision = decisions.record(
        session,
        "router.stop",
        STOPPED,
        [reason],
        inputs=asdict(evidence),
        role=experiment.role,
        subject_id=experiment.id,
        actor=actor,
    )
    end_experiment(session, experiment, STOPPED, decision)
    return decision


@dataclass(frozen=True)
class ExperimentStatus:
    """An experiment for display; rates are 0-1, the interval may be peeked at any time."""

    experiment_id: str
    role: str
    status: str
    control: str
    treatment: str
    evidence: Evidence
    success_rate: dict[str, float | None]
    e_value: float
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
    reasons: tuple[str, ...]


def status(session: Session, experiment: Experiment) -> ExperimentStatus:
    """Return how an experiment stands, computed from its units now."""
    seen, units = gather(session, experiment)
    plan = _plan(experiment)
    gain = stats.stratified_difference(units, plan.alpha, plan.max_per_arm)
    versions = [
        registry.get_version(session, str(version_id))
        for version_id in (
            experiment.control_model_version_id,
            experiment.treatment_model_version_id,
        )
    ]
    return ExperimentStatus(
        experiment_id=str(experiment.id),
        role=experiment.role,
        status=experiment.status,
        control=versions[0].name,
        treatment=versions[1].name,
        evidence=seen,
        success_rate={
            arm: seen.successes[arm] / seen.analysed[arm] if seen.analysed[arm] else None
            for arm in ARMS
        },
        e_value=stats.e_value(seen.log_e),
        harm_e_value=stats.e_value(seen.log_e_harm),
        p_value=stats.always_valid_p(seen.max_log_e),
        gain=gain.estimate if gain else None,
        gain_low=gain.low if gain else None,
        gain_high=gain.high if gain else None,
        confidence=1 - plan.alpha,
        more_per_arm=more_per_arm(seen, plan),
        reasons=_reasons(session, experiment, seen),
    )


def _reasons(session: Session, experiment: Experiment, seen: Evidence) -> tuple[str, ...]:
    ended = session.get(Decision, experiment.decision_id) if experiment.decision_id else None
    return tuple(ended.reasons) if ended else rule(asdict(seen), experiment.plan).reasons


def more_per_arm(seen: Evidence, plan: ExperimentPlan) -> int | None:
    """Return the further units per arm until E reaches 1/alpha if the shares of pairs stay as seen.

    Zero when it is there already; None with no pairs, or when the planned end comes first.
    """
    so_far = min(seen.analysed.values())
    if not seen.pairs:
        return None
    for more in range(max(0, plan.max_per_arm - so_far) + 1):
        grown = (seen.pairs + more) / seen.pairs
        log_e = min(
            float(stats.log_e_pairs(wins * grown, losses * grown)) for wins, losses in seen.readings
        )
        if log_e >= -math.log(plan.alpha):
            return max(more, plan.min_per_arm - so_far, 0)
    return None


def _plan(experiment: Experiment) -> ExperimentPlan:
    return decisions.load(ExperimentPlan, experiment.plan)


def plan_from(profile: str, **changes: Any) -> ExperimentPlan:
    """Return the plan of a profile with some of its fields changed.

    Raises:
        NotFound: no such profile.
        BadInput: a field does not exist, or its value is not acceptable.
    """
    if profile not in PLANS:
        raise NotFound("experiment profile", profile, f"one of {', '.join(PLANS)}", "Pick one.")
    unknown = sorted(changes.keys() - asdict(PLANS[profile]).keys())
    if unknown:
        raise _bad_plan(unknown[0], changes[unknown[0]], "a field of the plan")
    return replace(PLANS[profile], **changes)


def running_experiments(session: Session) -> list[Experiment]:
    """Return the running experiments of all roles, oldest first."""
    return list(
        session.exec(
            select(Experiment).where(Experiment.status == RUNNING).order_by(col(Experiment.id))
        ).all()
    )
