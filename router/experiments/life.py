"""An experiment from its start to its end: start, look, propose, accept, stop."""

import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final
from uuid import UUID

from sqlmodel import Session, col, select

from foundation import decisions
from foundation.decisions import Ruling
from foundation.errors import Conflict, FlywheelError, NotFound
from foundation.tables import Decision, now
from router import stats
from router.experiments.evidence import Evidence, gather
from router.experiments.hold_back import begin_hold_back
from router.experiments.looks import note_look
from router.experiments.plan import ExperimentPlan, plan_of
from router.experiments.ramp import advance, begin_phase
from router.experiments.rule import PROPOSED, hold_back_rule, rule
from router.experiments.units import Unit
from router.policy import policy_of
from router.promote import (
    Prepare,
    end_experiment,
    is_stopped,
    lock_role,
    make_room,
    promote,
    require_no_emergency,
    require_servable,
    rollback,
)
from router.tables import (
    AB,
    HOLD_BACK,
    ON,
    PROMOTED,
    ROLLED_BACK,
    RUNNING,
    STOPPED,
    Experiment,
)
from trainer import registry
from trainer.tables import EXPERIMENTAL, ModelVersion

_RULES: Final[Mapping[str, decisions.Rule]] = {AB: rule, HOLD_BACK: hold_back_rule}
_NAMES: Final = {AB: "router.experiment", HOLD_BACK: "router.hold_back"}


def start(
    session: Session,
    role: str,
    treatment: ModelVersion,
    plan: ExperimentPlan,
    actor: str,
    reason: str = "",
) -> Experiment:
    """Start comparing `treatment` with the version that serves `role` now.

    A hold-back of the role ends for it. Where the role's auto_promote is on, the plan's
    `alpha_unattended` takes the place of its `alpha`. The reason is that of a person, if one
    started it.

    Raises:
        NotFound: the role is not configured, or nobody serves it.
        BadInput: the treatment is of another role, a control, or quarantined.
        Conflict: the treatment serves already, an experiment of the role is running, or the role
            is stopped by an emergency.
    """
    require_servable(role, treatment)
    serving = lock_role(session, role)
    require_no_emergency(session, role)
    if serving.model_version_id == treatment.id:
        raise Conflict(
            "experiment",
            treatment.name,
            f"a treatment that does not serve the role {role!r} yet",
            "Name a candidate instead.",
        )
    make_room(
        session, role, treatment, "experiment", "Stop experiment {} first, or wait for its end."
    )
    if policy_of(session, role).auto_promote == ON and plan.alpha_unattended < plan.alpha:
        plan = replace(plan, alpha=plan.alpha_unattended)
    experiment = Experiment(
        role=role,
        unit_kind=plan.unit_kind,
        control_model_version_id=serving.model_version_id,
        treatment_model_version_id=treatment.id,
        treatment_share=plan.shares[0],
        salt=secrets.token_hex(8),
        plan=asdict(plan),
    )
    session.add(experiment)
    session.flush()
    begin_phase(session, experiment, 0, "started")
    registry.set_stage(session, treatment, EXPERIMENTAL)
    decisions.record(
        session,
        "router.start",
        RUNNING,
        [
            f"{treatment.name} gets {_first_share(plan)} of the tasks of {role}",
            *([reason] if reason else []),
        ],
        inputs={"control": str(serving.model_version_id), "treatment": str(treatment.id)},
        thresholds=asdict(plan),
        role=role,
        subject_id=experiment.id,
        actor=actor,
    )
    return experiment


def _first_share(plan: ExperimentPlan) -> str:
    return " → ".join(f"{share:.0%}" for share in plan.shares)


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


def current_rule(experiment: Experiment) -> decisions.Rule:
    """Return the rule that decides an experiment of its kind."""
    return _RULES[experiment.kind]


def evaluate(
    session: Session, experiment: Experiment, prepare: Prepare | None = None
) -> Decision | None:
    """Look at an experiment and act on what its rule says, in this transaction.

    Returns None while it goes on as it is; else the Decision: of its end, of the next phase of its
    ramp, or of a proposal. An experiment that has ended gives the Decision of its end again and
    changes nothing; during an emergency nothing is decided.

    A version that cannot be prepared is not promoted: the experiment goes on and says why in its
    state.

    Args:
        session: The transaction.
        experiment: To look at.
        prepare: Makes a version answerable before it is promoted; called before any row is locked,
            since it waits for the model server.
    """
    unready, seen = None, None
    if experiment.status == RUNNING:
        seen = _look(session, experiment)
        if seen.ruling.outcome == PROMOTED and prepare is not None:
            unready = _prepared(session, experiment, prepare)
    lock_role(session, experiment.role)
    experiment = get_experiment(session, experiment.id)
    if experiment.status != RUNNING:
        return session.get(Decision, experiment.decision_id)
    if is_stopped(session, experiment.role):
        return None
    if seen is None or seen.ruling.outcome != RUNNING:
        seen = _look(session, experiment)  # what is acted on is read under the lock
    ruling = seen.ruling
    if ruling.outcome == PROMOTED and unready is not None:
        ruling = Ruling(RUNNING, (*ruling.reasons, unready))
    plan = plan_of(experiment)
    gain = stats.stratified_difference(seen.units, plan.alpha, plan.max_per_arm)
    experiment.state = _state(seen, gain, ruling)
    session.add(experiment)
    session.flush()
    is_last = ruling.outcome not in (RUNNING, PROPOSED)
    note_look(session, experiment, seen.evidence, gain, is_last=is_last)
    if ruling.outcome == RUNNING:
        return advance(session, experiment, seen.evidence)
    if ruling.outcome == PROPOSED:
        return _propose(session, experiment, seen.evidence)
    return _end(session, experiment, seen)


@dataclass(frozen=True)
class _Seen:
    """One look: the evidence, the units behind it, and what the rule says of it."""

    evidence: Evidence
    units: list[Unit]
    ruling: Ruling


def _look(session: Session, experiment: Experiment) -> _Seen:
    evidence, units = gather(session, experiment)
    return _Seen(evidence, units, current_rule(experiment)(asdict(evidence), experiment.plan))


def _prepared(session: Session, experiment: Experiment, prepare: Prepare) -> str | None:
    """Prepare the treatment; return why that failed, or None."""
    treatment = registry.get_version(session, str(experiment.treatment_model_version_id))
    try:
        prepare(session, treatment)
    except FlywheelError as error:
        return f"not promoted yet: {error}"
    return None


def _propose(session: Session, experiment: Experiment, evidence: Evidence) -> Decision | None:
    """Write down once that the treatment is proven and left to a person; the experiment goes on."""
    if experiment.proposed_at is not None:
        return None
    decision = decisions.decide(
        session,
        "router.experiment",
        evidence,
        experiment.plan,
        role=experiment.role,
        subject_id=experiment.id,
    )
    experiment.proposed_at = now()
    session.add(experiment)
    session.flush()
    return decision


def _end(session: Session, experiment: Experiment, seen: _Seen) -> Decision:
    decision = decisions.decide(
        session,
        _NAMES[experiment.kind],
        seen.evidence,
        experiment.plan,
        role=experiment.role,
        subject_id=experiment.id,
    )
    experiment.state = experiment.state | {
        "for_the_record": stats.classic_record(seen.units).in_words,
    }
    if experiment.kind == AB:
        return _end_ab(session, experiment, decision)
    if decision.outcome != ROLLED_BACK:
        end_experiment(session, experiment, decision.outcome, decision)
        return decision
    rollback(  # which ends the hold-back
        session,
        experiment.role,
        reason=decision.reasons[0],
        actor=decision.actor,
        to=registry.get_version(session, str(experiment.treatment_model_version_id)),
        decision=decision,
    )
    return decision


def _end_ab(session: Session, experiment: Experiment, decision: Decision) -> Decision:
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
    if decision.outcome == PROMOTED:
        begin_hold_back(session, experiment)
    return decision


def _state(look: _Seen, gain: stats.Difference | None, ruling: Ruling) -> dict[str, Any]:
    """Return what is kept in the row for display, as of the latest look."""
    seen = look.evidence
    return {
        **asdict(seen),
        "ties": seen.pairs - seen.wins - seen.losses,
        "e_value": stats.e_value(seen.log_e),
        "p_value": stats.always_valid_p(seen.max_log_e),
        "difference": asdict(gain) if gain else None,
        "reasons": list(ruling.reasons),
    }


def accept(
    session: Session,
    experiment: Experiment,
    actor: str,
    reason: str = "accepted",
    prepare: Prepare | None = None,
) -> Decision:
    """Promote the treatment of an experiment that has proposed it: the one click of `assisted`.

    The proof stands (it need not hold anew), but harm that was seen since goes before it: then the
    Decision is of that. One that has ended gives the Decision of its end and changes nothing.

    Raises:
        Conflict: nothing was proposed, or the role is stopped by an emergency.
        FlywheelError: the version cannot be prepared; nothing was changed.
    """
    if prepare is not None and experiment.status == RUNNING and experiment.proposed_at is not None:
        prepare(session, registry.get_version(session, str(experiment.treatment_model_version_id)))
    evaluate(session, experiment)
    experiment = get_experiment(session, experiment.id)
    if experiment.status != RUNNING:
        ended = session.get(Decision, experiment.decision_id)
        assert ended is not None
        return ended
    require_no_emergency(session, experiment.role)
    if experiment.proposed_at is None:
        raise Conflict(
            "experiment",
            str(experiment.id),
            "one that has proposed its treatment",
            "It is not proven yet: flywheel experiment show says what is missing.",
        )
    evidence, _ = gather(session, experiment)
    decision = decisions.record(
        session,
        "router.accept",
        PROMOTED,
        [f"{reason}: {evidence.score}, proposed {experiment.proposed_at:%Y-%m-%d %H:%M}"],
        inputs=asdict(evidence),
        role=experiment.role,
        subject_id=experiment.id,
        actor=actor,
    )
    return _end_ab(session, experiment, decision)


def stop(session: Session, experiment: Experiment, reason: str, actor: str) -> Decision:
    """End a running experiment by hand; who serves goes on serving.

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
