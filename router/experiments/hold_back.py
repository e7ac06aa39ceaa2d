"""The hold-back: after a promotion a few units stay with the version before, so that both are seen.

It is an experiment like another: its control is who serves, which was promoted, and its treatment,
with a small share, the version before. It asks whether what was promoted is still no worse, and
ends by itself or for the next A/B.
"""

import secrets
from dataclasses import asdict, replace

from sqlmodel import Session

from foundation import decisions
from router.experiments.plan import plan_of
from router.experiments.ramp import begin_phase
from router.policy import policy_of
from router.promote import was_quarantined
from router.tables import HOLD_BACK, RUNNING, Experiment
from trainer import registry


def begin_hold_back(session: Session, won: Experiment) -> Experiment | None:
    """Keep a share of the units with the version before; None if plan or policy hold nothing back.

    Nor is anything held back for a version that was ever quarantined: a person let it serve, and
    nothing goes back to it by itself.

    Call it in the transaction of the promotion, with the experiment ended.
    """
    plan, share = plan_of(won), policy_of(session, won.role).hold_back_share
    before = registry.get_version(session, str(won.control_model_version_id))
    if plan.hold_back_days == 0 or share == 0 or was_quarantined(session, before):
        return None
    watched = replace(plan, treatment_share=share, ramp=())
    held = Experiment(
        role=won.role,
        kind=HOLD_BACK,
        unit_kind=won.unit_kind,
        control_model_version_id=won.treatment_model_version_id,
        treatment_model_version_id=before.id,
        treatment_share=share,
        salt=secrets.token_hex(8),
        plan=asdict(watched),
    )
    session.add(held)
    session.flush()
    begin_phase(session, held, 0, f"after experiment {won.id}")
    decisions.record(
        session,
        "router.hold_back_start",
        RUNNING,
        [f"{share:.0%} of the tasks of {won.role} stay with {before.name}"],
        inputs={"experiment": str(won.id)},
        thresholds=asdict(watched),
        role=won.role,
        subject_id=held.id,
    )
    return held
