"""The ramp: how the treatment's share of the units grows, phase by phase."""

from dataclasses import asdict

from sqlmodel import Session

from foundation import decisions
from foundation.tables import Decision
from router.experiments.evidence import Evidence
from router.experiments.plan import plan_of
from router.experiments.rule import ADVANCED, ramp_rule
from router.tables import Experiment, ExperimentPhase


def begin_phase(session: Session, experiment: Experiment, number: int, reason: str) -> None:
    """Give the treatment the share of a phase from now on, and write down since when."""
    share = plan_of(experiment).shares[number]
    experiment.phase, experiment.treatment_share = number, share
    session.add(experiment)
    session.add(
        ExperimentPhase(experiment_id=experiment.id, number=number, share=share, reason=reason)
    )
    session.flush()


def advance(session: Session, experiment: Experiment, seen: Evidence) -> Decision | None:
    """Begin the next phase if the rule says so; return its Decision, None if nothing changes.

    Units keep the arm that they have; only new ones feel the new share.
    """
    if not seen.phases or ramp_rule(asdict(seen), experiment.plan).outcome != ADVANCED:
        return None
    decision = decisions.decide(
        session,
        "router.ramp",
        seen,
        experiment.plan,
        role=experiment.role,
        subject_id=experiment.id,
    )
    begin_phase(session, experiment, experiment.phase + 1, decision.reasons[0])
    return decision
