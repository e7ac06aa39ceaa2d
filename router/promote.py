"""Who serves a role: the first version, promotions and rollbacks, each one transaction.

The row of `role_serving` is the mutex of its role: every change of who serves, and every start or
end of an experiment, locks it first (before the experiment's own row, so nothing can deadlock).
"""

from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

from sqlalchemy import ColumnElement, exists, tuple_
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from foundation import decisions
from foundation.errors import BadInput, Conflict, NotFound
from foundation.settings import get_settings
from foundation.tables import Decision, now
from router.tables import (
    AB,
    HALTED,
    HOLD_BACK,
    ROLLED_BACK,
    RUNNING,
    STAYED,
    STOPPED,
    Experiment,
    Promotion,
    RolePolicy,
    RoleServing,
)
from trainer import registry
from trainer.tables import CANDIDATE, PRODUCTION, QUARANTINED, RETIRED, ModelVersion

INITIAL, PROMOTE, ROLLBACK = "initial", "promote", "rollback"
"""Kinds of a Promotion."""

Prepare = Callable[[Session, ModelVersion], object]
"""Makes a version answerable, or raises: `serving.deploy.prepare`. It waits for the model server,
so it is called before the role is locked."""


def serving_version(session: Session, role: str) -> ModelVersion | None:
    """Return the model version that serves `role` now, or None before its first one."""
    return session.exec(
        select(ModelVersion)
        .join(RoleServing, col(RoleServing.model_version_id) == col(ModelVersion.id))
        .where(RoleServing.role == role)
    ).one_or_none()


def initial(
    session: Session,
    role: str,
    version: ModelVersion,
    *,
    reason: str = "the first version to serve the role",
    actor: str = "flywheel",
) -> Promotion:
    """Make `version` the first to serve `role`.

    Raises:
        NotFound: the role is not configured.
        BadInput: the version is of another role, a control, or quarantined.
        Conflict: somebody serves the role already.
    """
    require_servable(role, version)
    if serving_version(session, role) is not None:
        raise _already_begun(role, version)
    try:
        with session.begin_nested():
            return _change(
                session, None, role, version, INITIAL, reason=reason, actor=actor, decision=None
            )
    except IntegrityError as error:  # another process was first, after our look
        raise _already_begun(role, version) from error


def serve(
    session: Session,
    role: str,
    version: ModelVersion,
    *,
    reason: str,
    actor: str,
    prepare: Prepare | None = None,
) -> Promotion:
    """Let `version` serve `role` by a person's word: as its first one, or as `promote` does.

    The first one is not prepared: there is nobody whose calls could suffer, and the model server
    may come up later.

    Raises as `initial` and `promote`.
    """
    if serving_version(session, role) is None:
        return initial(session, role, version, reason=reason, actor=actor)
    return promote(session, role, version, reason=reason, actor=actor, prepare=prepare)


def promote(
    session: Session,
    role: str,
    version: ModelVersion,
    *,
    reason: str,
    actor: str,
    experiment: Experiment | None = None,
    decision: Decision | None = None,
    prepare: Prepare | None = None,
) -> Promotion:
    """Let `version` serve `role` from now on; the version that served until now is retired.

    A hold-back of the role ends for it.

    Args:
        session: The transaction in which all of it happens.
        role: The agent role.
        version: The version to serve.
        reason: Why, in a sentence.
        actor: Who decided.
        experiment: The running experiment that `version` won, if one was the reason.
        decision: The Decision behind it; without one a `router.promote` Decision is recorded.
        prepare: Makes the version answerable first; what it raises leaves everything as it was.

    Raises:
        NotFound: the role is not configured, or nobody serves it yet.
        BadInput: the version is of another role, a control, or quarantined.
        Conflict: the version serves already, another experiment of the role is running, or the role
            is stopped by an emergency.
    """
    require_servable(role, version)
    if prepare is not None:
        prepare(session, version)
    serving = lock_role(session, role)
    require_servable(role, registry.get_version(session, str(version.id)))
    require_no_emergency(session, role)
    if serving.model_version_id == version.id:
        raise Conflict(
            "promotion",
            version.name,
            f"a version that does not serve the role {role!r} yet",
            "It serves already: there is nothing to do.",
        )
    if experiment is None:
        make_room(session, role, version, "promotion", "Stop experiment {} first.")
    return _change(
        session,
        serving,
        role,
        version,
        PROMOTE,
        reason=reason,
        actor=actor,
        decision=decision,
        experiment_id=experiment.id if experiment else None,
    )


def rollback(
    session: Session,
    role: str,
    *,
    reason: str,
    actor: str,
    to: ModelVersion | None = None,
    decision: Decision | None = None,
) -> Promotion:
    """Put the previous version (or `to`) back and quarantine the one that serves now.

    An experiment that runs against the version rolled back loses its control, so it is stopped.

    Raises:
        NotFound: the role is not configured, nobody serves it, or no earlier version is left.
        BadInput: `to` is of another role, a control, or quarantined.
        Conflict: `to` serves already.
    """
    serving = lock_role(session, role)
    target = to or previous_version(session, role)
    if target is None:
        raise NotFound(
            "rollback",
            role,
            "a role with an earlier version that never was quarantined and is no control",
            "Name the version to serve: flywheel rollback ROLE --to VERSION",
        )
    require_servable(role, target)
    if target.id == serving.model_version_id:
        raise Conflict(
            "rollback",
            target.name,
            f"a version that does not serve the role {role!r} now",
            "It serves already: there is nothing to do.",
        )
    promotion = _change(
        session, serving, role, target, ROLLBACK, reason=reason, actor=actor, decision=decision
    )
    orphan = running_experiment(session, role)
    if orphan is not None and orphan.kind == HOLD_BACK:
        ended = session.get(Decision, promotion.decision_id)
        assert ended is not None
        end_experiment(session, orphan, ROLLED_BACK, ended)
    elif orphan is not None:
        stopped = decisions.record(
            session,
            "router.stop",
            STOPPED,
            [f"the role was rolled back, so its experiment lost its control: {reason}"],
            role=role,
            subject_id=orphan.id,
            actor=actor,
        )
        end_experiment(session, orphan, STOPPED, stopped)
    return promotion


def previous_version(session: Session, role: str) -> ModelVersion | None:
    """Return the version that served before the present one and may serve again, or None.

    One that was ever quarantined is passed over, whoever has let it out since: it serves by a
    person's word alone.
    """
    return previous_versions(session, [role]).get(role)


def previous_versions(session: Session, roles: Sequence[str]) -> dict[str, ModelVersion]:
    """Return the previous version of each of the roles that has one, in one query."""
    rows = session.exec(
        select(Promotion.role, ModelVersion)
        .join(ModelVersion, col(Promotion.to_model_version_id) == col(ModelVersion.id))
        .join(RoleServing, col(RoleServing.role) == col(Promotion.role))
        .where(
            col(Promotion.role).in_(roles),
            col(ModelVersion.id) != col(RoleServing.model_version_id),
            ModelVersion.stage != QUARANTINED,
            ~_was_quarantined(),
            col(ModelVersion.is_control).is_(False),
            col(ModelVersion.files_removed_at).is_(None),
        )
        .ext(distinct_on(col(Promotion.role)))
        .order_by(col(Promotion.role), col(Promotion.created_at).desc(), col(Promotion.id).desc())
    ).all()
    return dict(rows)


def was_quarantined(session: Session, version: ModelVersion) -> bool:
    """Say whether a version is quarantined, or was once."""
    return version.stage == QUARANTINED or bool(
        session.exec(
            select(ModelVersion.id).where(ModelVersion.id == version.id, _was_quarantined())
        ).first()
    )


_QUARANTINING: Final = (
    ("evaluator.forgetting", "quarantine"),
    (registry.STAGE_BY_HAND, QUARANTINED),
)
"""Kinds and outcomes of Decisions that quarantine their subject."""


def _was_quarantined() -> ColumnElement[bool]:
    """Return whether the query's version left its role by a rollback, or was quarantined else."""
    version = col(ModelVersion.id)
    left = aliased(Promotion)
    rolled_back = exists().where(
        col(left.from_model_version_id) == version, col(left.kind) == ROLLBACK
    )
    did_harm = exists().where(
        col(Experiment.treatment_model_version_id) == version,
        col(Experiment.kind) == AB,
        col(Experiment.status) == ROLLED_BACK,
    )
    set_apart = exists().where(
        col(Decision.subject_id) == version,
        tuple_(col(Decision.kind), col(Decision.outcome)).in_(_QUARANTINING),
    )
    return rolled_back | did_harm | set_apart


def lock_role(session: Session, role: str) -> RoleServing:
    """Lock the role until the transaction ends and return who serves it, read after the lock.

    Raises:
        NotFound: the role is not configured, or nobody serves it yet.
    """
    require_role(role)
    serving = session.exec(
        select(RoleServing)
        .where(RoleServing.role == role)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one_or_none()
    if serving is None:
        raise NotFound(
            "serving version",
            role,
            "a role that somebody serves",
            "Let a first one serve: flywheel promote VERSION --reason …",
        )
    return serving


def running_experiment(session: Session, role: str) -> Experiment | None:
    """Return the experiment that runs for `role`, or None; at most one can."""
    return session.exec(
        select(Experiment)
        .where(Experiment.role == role, Experiment.status == RUNNING)
        .execution_options(populate_existing=True)
    ).one_or_none()


def make_room(session: Session, role: str, version: ModelVersion, what: str, remedy: str) -> None:
    """End the hold-back of a locked role for `version`; raises Conflict if an A/B runs.

    Args:
        session: The transaction that holds the role's lock.
        role: The agent role.
        version: Who is to serve, or to be compared.
        what: `promotion` or `experiment`, for the message.
        remedy: What to do, with `{}` for the id of the experiment that runs.
    """
    running = running_experiment(session, role)
    if running is None:
        return
    if running.kind != HOLD_BACK:
        raise Conflict(
            what,
            version.name,
            f"no running experiment for the role {role!r}",
            remedy.format(running.id),
        )
    ended = decisions.record(
        session,
        "router.stop",
        STAYED,
        [f"the hold-back ends for the {what} of {version.name}"],
        role=role,
        subject_id=running.id,
    )
    end_experiment(session, running, STAYED, ended)


def is_stopped(session: Session, role: str) -> bool:
    """Say whether an emergency stop holds for a role."""
    policy = session.get(RolePolicy, role, populate_existing=True)
    return policy is not None and policy.emergency_since is not None


def require_no_emergency(session: Session, role: str) -> None:
    """Check that a role is not stopped; raises Conflict."""
    if is_stopped(session, role):
        raise Conflict(
            "emergency stop",
            role,
            "a role that is not stopped",
            f"Resume it first: flywheel emergency resume --role {role} --reason …",
        )


_STAGES: Final = {
    ROLLED_BACK: QUARANTINED,
    STAYED: RETIRED,
    HALTED: CANDIDATE,
    STOPPED: CANDIDATE,
}


def end_experiment(
    session: Session, experiment: Experiment, status: str, decision: Decision
) -> None:
    """Write the final state of an experiment; its treatment goes where that state sends it.

    A promoted treatment has its stage from the promotion. One that was rolled back is quarantined,
    one that showed no gain is retired, and one whose experiment was halted or stopped is a
    candidate again; that of a hold-back is retired. A treatment that serves, or is quarantined
    already, keeps its stage.
    """
    experiment.status, experiment.decision_id, experiment.ended_at = status, decision.id, now()
    session.add(experiment)
    stage = RETIRED if experiment.kind == HOLD_BACK else _STAGES.get(status)
    treatment = registry.get_version(session, str(experiment.treatment_model_version_id))
    if stage is not None and treatment.stage not in (PRODUCTION, QUARANTINED):
        registry.set_stage(session, treatment, stage)
    session.flush()


def require_role(role: str) -> None:
    """Check that the role is configured; raises NotFound."""
    known = get_settings().roles
    if role not in known:
        raise NotFound(
            "role", role, f"one of {', '.join(known)}", "Add it to FLYWHEEL_ROLES if it is new."
        )


def require_servable(role: str, version: ModelVersion) -> None:
    """Check that `version` may ever serve `role`.

    Raises:
        NotFound: the role is not configured.
        BadInput: the version is of another role, a control, a reward model, or quarantined.
        Conflict: its files were collected as garbage.
    """
    require_role(role)
    registry.require_files(version)
    if version.role != role:
        raise BadInput(
            "model version",
            f"{version.name} of the role {version.role}",
            f"a version of the role {role!r}",
            "List them with: flywheel model list",
        )
    if version.is_control:
        raise BadInput(
            "model version",
            version.name,
            "a version that was not trained as a control",
            "A control exists for comparison and never serves.",
        )
    if version.kind == registry.REWARD:
        raise BadInput(
            "model version",
            f"{version.name} (reward)",
            "a version that answers",
            "A reward model scores answers and gives none.",
        )
    if version.stage == QUARANTINED:
        raise BadInput(
            "model version",
            version.name,
            "a version that is not quarantined",
            "A quarantined version is kept for analysis; train its repair. If it was quarantined "
            "wrongly, set it to retired on its page first.",
        )


def _change(
    session: Session,
    serving: RoleServing | None,
    role: str,
    version: ModelVersion,
    kind: str,
    *,
    reason: str,
    actor: str,
    decision: Decision | None,
    experiment_id: UUID | None = None,
) -> Promotion:
    before = registry.get_version(session, str(serving.model_version_id)) if serving else None
    decision = decision or decisions.record(
        session,
        f"router.{kind}",
        "promoted" if kind == PROMOTE else "serving" if kind == INITIAL else "rolled_back",
        [reason],
        inputs={"from": before.name if before else None, "to": version.name},
        role=role,
        subject_id=version.id,
        actor=actor,
    )
    promotion = Promotion(
        role=role,
        kind=kind,
        from_model_version_id=before.id if before else None,
        to_model_version_id=version.id,
        experiment_id=experiment_id,
        decision_id=decision.id,
        reason=reason,
        actor=actor,
    )
    session.add(promotion)
    session.flush()
    if serving is None:
        serving = RoleServing(role=role, model_version_id=version.id, promotion_id=promotion.id)
    serving.model_version_id, serving.promotion_id = version.id, promotion.id
    serving.updated_at = now()
    session.add(serving)
    if before is not None:
        registry.set_stage(session, before, QUARANTINED if kind == ROLLBACK else RETIRED)
    registry.set_stage(session, version, PRODUCTION)
    session.flush()
    return promotion


def _already_begun(role: str, version: ModelVersion) -> Conflict:
    return Conflict(
        "first serving version",
        version.name,
        f"a role that nobody serves, {role!r} is served",
        "Use promote to replace who serves it.",
    )
