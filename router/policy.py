"""What the router may do for a role by itself: promote, hold back, and which limits its guard has.

A role without a row has the defaults: it promotes alone, and keeps 5 % back for two weeks.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Final

from sqlalchemy.dialects.postgresql import insert
from sqlmodel import Session, col, select

from foundation import decisions
from foundation.errors import BadInput
from foundation.tables import now
from router.access import CALLABLE
from router.keys import AGENT, SERVICE, USER
from router.promote import require_role, require_servable
from router.tables import ASSISTED, OFF, ON, RolePolicy
from trainer import registry
from trainer.tables import QUARANTINED

AUTO_PROMOTE = (OFF, ASSISTED, ON)
KINDS: Final = (AGENT, USER, SERVICE)
"""Kinds of keys whose access is a policy's to change."""
ACCESS: Final = {stage: kinds for stage, kinds in CALLABLE.items() if stage != QUARANTINED}
"""Kinds of keys that may ask for a version by its name where no policy says otherwise, by stage.

Nothing opens quarantine.
"""
MOST_HELD_BACK = 0.5


def policy_of(session: Session, role: str) -> RolePolicy:
    """Return the policy of a role; the defaults, not stored, where nobody has set one."""
    return session.get(RolePolicy, role, populate_existing=True) or RolePolicy(role=role)


def list_policies(session: Session) -> dict[str, RolePolicy]:
    """Return the policies that were set, by role."""
    rows = session.exec(select(RolePolicy).order_by(col(RolePolicy.role))).all()
    return {row.role: row for row in rows}


def locked_policy(session: Session, role: str) -> RolePolicy:
    """Return the stored policy of a role, made if there is none, locked until the transaction ends.

    Raises:
        NotFound: the role is not configured.
    """
    require_role(role)
    fresh = RolePolicy(role=role).model_dump()
    session.execute(insert(RolePolicy).values(fresh).on_conflict_do_nothing())
    return session.exec(
        select(RolePolicy)
        .where(RolePolicy.role == role)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one()


def set_policy(
    session: Session,
    role: str,
    *,
    actor: str,
    auto_promote: str | None = None,
    hold_back_share: float | None = None,
    baseline: str | None = None,
    guard: Mapping[str, Any] | None = None,
    access: Mapping[str, Sequence[str]] | None = None,
    reason: str = "",
) -> RolePolicy:
    """Change what is given of a role's policy and record it.

    Args:
        session: The transaction.
        role: The agent role.
        actor: Who decided.
        auto_promote: `off` proposes only, `assisted` waits for one click, `on` acts alone.
        hold_back_share: Share of units (0-0.5) that stay with the version before, after a
            promotion; 0: none.
        baseline: Version (name or id) that an emergency stop sends everything to; empty: the
            version before.
        guard: Changed fields of `router.guard.GuardThresholds`; the others are as they come.
        access: Kinds of keys that may ask for a version by its name, by stage, where that is
            otherwise than `router.access.CALLABLE`.
        reason: Why, in the words of who changed it.

    Raises:
        NotFound: the role is not configured, or the baseline does not exist.
        BadInput: a value is not acceptable.
    """
    policy = locked_policy(session, role)
    if auto_promote is not None:
        policy.auto_promote = _known_mode(auto_promote)
    if hold_back_share is not None:
        policy.hold_back_share = _held_back(hold_back_share)
    if baseline == "":
        policy.baseline_model_version_id = None
    elif baseline is not None:
        version = registry.get_version(session, baseline)
        require_servable(role, version)
        policy.baseline_model_version_id = version.id
    if guard is not None:
        policy.settings = {**policy.settings, "guard": _guarded(guard)}
    if access is not None:
        policy.settings = {**policy.settings, "access": _opened(access)}
    policy.actor, policy.updated_at = actor, now()
    session.add(policy)
    session.flush()
    decisions.record(
        session,
        "router.policy",
        policy.auto_promote,
        [in_words(policy), *([reason] if reason else [])],
        inputs=policy.model_dump(mode="json"),
        role=role,
        actor=actor,
    )
    return policy


def in_words(policy: RolePolicy) -> str:
    """Return what a policy does, in a sentence."""
    does = {
        OFF: "a proven candidate is only proposed",
        ASSISTED: "a proven candidate waits for one click",
        ON: "a proven candidate is promoted",
    }[policy.auto_promote]
    return (
        f"{policy.role}: {does}; {policy.hold_back_share:.0%} of the tasks stay with the version "
        "before, after a promotion"
    )


def _known_mode(wanted: str) -> str:
    if wanted not in AUTO_PROMOTE:
        raise BadInput("auto_promote", wanted, f"one of {', '.join(AUTO_PROMOTE)}", "Pick one.")
    return wanted


def _held_back(share: float) -> float:
    if not 0 <= share <= MOST_HELD_BACK:
        raise BadInput(
            "hold-back share", share, f"a share from 0 to {MOST_HELD_BACK}", "Give 0.05 for 5 %."
        )
    return float(share)


def _guarded(given: Mapping[str, Any]) -> dict[str, Any]:
    from router.guard import GuardThresholds  # loads scipy, which who only reads policies spares

    known = {one.name for one in fields(GuardThresholds)}
    for name, value in given.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if name not in known or not is_number or not math.isfinite(value):
            expected = f"a number for one of {', '.join(sorted(known))}"
            raise BadInput(f"guard, {name}", value, expected, "See docs/decisions.md.")
    GuardThresholds(**given)
    return dict(given)


def _opened(given: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    kinds = (AGENT, USER, SERVICE)
    stages = [stage for stage in CALLABLE if stage != QUARANTINED]
    for stage, allowed in given.items():
        if stage not in stages:
            raise BadInput(
                "access", stage, f"one of {', '.join(stages)}", "Nothing opens quarantine."
            )
        for kind in allowed:
            if kind not in kinds:
                raise BadInput(
                    f"access, {stage}", kind, f"one of {', '.join(kinds)}", "Correct it."
                )
    return {stage: sorted(set(allowed)) for stage, allowed in given.items()}
