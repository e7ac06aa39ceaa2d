"""The emergency stop: everything of a role, or of all, to its baseline within a second.

It changes no promotion and ends no experiment: the gateway's picture of who serves is overlaid, so
that `resume` puts back what was there. Until then nothing is promoted and no experiment decides.
"""

from uuid import UUID

from sqlmodel import Session, col, select

from foundation import decisions
from foundation.tables import Decision, now
from router.policy import locked_policy
from router.promote import lock_role, previous_version
from router.tables import RolePolicy, RoleServing
from trainer import registry
from trainer.tables import QUARANTINED, ModelVersion

STOPPED_NOW, RESUMED = "stopped", "resumed"


def stop(session: Session, reason: str, actor: str, role: str | None = None) -> list[Decision]:
    """Send everything of `role`, or of every served role, to the baseline; a Decision for each.

    The baseline is the one of the role's policy, else the version before, else who serves: then
    only experiments lose their traffic. Stopping what is stopped changes nothing.

    Raises:
        NotFound: the role is not configured, or nobody serves it.
    """
    return [
        decision
        for name in ([role] if role else served_roles(session))
        if (decision := _stop_role(session, name, reason, actor))
    ]


def _stop_role(session: Session, role: str, reason: str, actor: str) -> Decision | None:
    serving = lock_role(session, role)
    policy = locked_policy(session, role)
    if policy.emergency_since is not None:
        return None
    now_serving = registry.get_version(session, str(serving.model_version_id))
    target = baseline_of(session, policy) or now_serving
    policy.emergency_since, policy.updated_at, policy.actor = now(), now(), actor
    policy.settings = {**policy.settings, "emergency_model_version_id": str(target.id)}
    session.add(policy)
    return decisions.record(
        session,
        "router.emergency",
        STOPPED_NOW,
        [reason, f"everything of {role} goes to {target.name}"],
        inputs={"from": now_serving.name, "to": target.name},
        role=role,
        subject_id=target.id,
        actor=actor,
    )


def resume(session: Session, reason: str, actor: str, role: str | None = None) -> list[Decision]:
    """Let `role`, or every stopped role, be served as before the stop; a Decision for each.

    Raises:
        NotFound: the role is not configured, or nobody serves it.
    """
    return [
        decision
        for name in ([role] if role else sorted(baselines(session)))
        if (decision := _resume_role(session, name, reason, actor))
    ]


def _resume_role(session: Session, role: str, reason: str, actor: str) -> Decision | None:
    serving = lock_role(session, role)
    policy = locked_policy(session, role)
    if policy.emergency_since is None:
        return None
    lasted = now() - policy.emergency_since
    policy.emergency_since, policy.updated_at, policy.actor = None, now(), actor
    policy.settings = {
        name: value
        for name, value in policy.settings.items()
        if name != "emergency_model_version_id"
    }
    session.add(policy)
    serves = registry.get_version(session, str(serving.model_version_id))
    return decisions.record(
        session,
        "router.emergency",
        RESUMED,
        [reason, f"{serves.name} serves {role} again, after {lasted.total_seconds():.0f} s"],
        role=role,
        subject_id=serves.id,
        actor=actor,
    )


def baseline_of(session: Session, policy: RolePolicy) -> ModelVersion | None:
    """Return what a stop would send everything of the policy's role to; None: who serves now."""
    named = policy.baseline_model_version_id
    if named is not None:
        version = registry.get_version(session, str(named))
        if version.stage != QUARANTINED:
            return version
    return previous_version(session, policy.role)


def baselines(session: Session) -> dict[str, UUID]:
    """Return the version that answers for each stopped role: what the gateway's picture overlays.

    A role in it has no experiment: nobody is assigned until it is resumed.
    """
    rows = session.exec(
        select(RolePolicy).where(col(RolePolicy.emergency_since).is_not(None))
    ).all()
    return {row.role: UUID(row.settings["emergency_model_version_id"]) for row in rows}


def served_roles(session: Session) -> list[str]:
    """Return the roles that somebody serves, sorted."""
    return list(session.exec(select(RoleServing.role).order_by(col(RoleServing.role))).all())
