"""The model registry: versions of each role, their names, stages and files. No torch.

Front desk of the room. A version's `name` is what the engine and the gateway call it; a base
version is called by its base model's own name (`served_name`).
"""

from pathlib import Path
from typing import Any, Final
from uuid import UUID

from sqlalchemy import func, text
from sqlmodel import Session, col, select

from foundation import artifacts, decisions
from foundation.artifacts import Artifact
from foundation.errors import BadInput, Conflict, NotFound
from foundation.settings import get_settings
from trainer.provenance import Untrusted as Untrusted
from trainer.provenance import attest, require_readable, require_trusted
from trainer.safe_files import require_safe as require_safe
from trainer.tables import (
    CANDIDATE,
    EXPERIMENTAL,
    PRODUCTION,
    QUARANTINED,
    RETIRED,
    ModelVersion,
    TrainingRun,
)

ADAPTER, FULL, BASE, EXTERNAL = "adapter", "full", "base", "external"
MERGED, QUANTIZED, PRUNED, REWARD = "merged", "quantized", "pruned", "reward"

STAGES = (CANDIDATE, EXPERIMENTAL, PRODUCTION, RETIRED, QUARANTINED)

TRANSITIONS: dict[str, tuple[str, ...]] = {
    CANDIDATE: (EXPERIMENTAL, PRODUCTION, RETIRED, QUARANTINED),
    # A candidate that the experiment did not prefer goes back, or leaves.
    EXPERIMENTAL: (PRODUCTION, CANDIDATE, RETIRED, QUARANTINED),
    PRODUCTION: (RETIRED, QUARANTINED),
    # A rollback brings the version before back.
    RETIRED: (PRODUCTION, QUARANTINED),
    # A person who has looked may let it out: then it serves by a promotion, and never by itself.
    QUARANTINED: (RETIRED,),
}
"""The stages that may follow each stage; staying is always allowed."""

MADE: Final = (ADAPTER, MERGED, QUANTIZED, PRUNED, FULL)
"""Kinds that may be made of other versions without a training."""

STAGE_BY_HAND: Final = "trainer.stage"
"""Kind of the Decision of a person who sets a stage."""

FILES_LOCK: Final = {"key": "model_version/files"}
"""Key of the lock that keeps files from being collected while they are registered."""

_LIST_VERSIONS = "List them with: flywheel model list"


def require_role(role: str) -> None:
    """Check that `role` is one of the deployment's; raises BadInput."""
    roles = get_settings().roles
    if role not in roles:
        raise BadInput("role", role, f"one of {', '.join(roles)}", "Add it to FLYWHEEL_ROLES.")


def require_stage(stage: str) -> None:
    """Check that there is such a stage; raises BadInput."""
    if stage not in STAGES:
        raise BadInput("stage", stage, f"one of {', '.join(STAGES)}", "Name one of those.")


def ensure_base_version(
    session: Session, role: str, base_model: str, name: str | None = None, kind: str = BASE
) -> ModelVersion:
    """Return the version that stands for an untrained base model, adding it once.

    The first base of a role has number 0, so that its first training makes version 1.

    Args:
        session: of the surrounding transaction.
        role: whose baseline it may be.
        base_model: folder or hub name of `kind` base; what its server calls it, of external.
        name: of the version; default `<role>-base`.
        kind: base, which our engine runs, or external, which an upstream or litellm answers for.

    Raises:
        BadInput: unknown role or kind, or an empty base model.
        Conflict: the name belongs to another version.
    """
    require_role(role)
    if kind not in (BASE, EXTERNAL):
        raise BadInput("kind of a baseline", kind, f"{BASE} or {EXTERNAL}", "Name one of those.")
    if not base_model:
        raise BadInput("base model", base_model, "a folder or hub name", "Set FLYWHEEL_BASE_MODEL.")
    _lock_role(session, role)
    known = session.exec(
        select(ModelVersion).where(
            ModelVersion.role == role,
            ModelVersion.kind == kind,
            ModelVersion.base_model == base_model,
        )
    ).first()
    if known is not None:
        return known
    latest = _latest_number(session, role)
    number = 0 if latest is None else latest + 1
    name = name or (f"{role}-{kind}" if number == 0 else f"{role}-{kind}-{number}")
    return _add(
        session,
        ModelVersion(role=role, number=number, name=name, kind=kind, base_model=base_model),
    )


def base_of_role(session: Session, role: str) -> str | None:
    """Return the base model that a role uses: that of who serves, else its newest base.

    None where no version with weights of ours serves, and no base is registered.
    """
    query = select(ModelVersion.base_model).where(ModelVersion.role == role)
    newest_first = col(ModelVersion.number).desc()
    serves = query.where(ModelVersion.stage == PRODUCTION, ModelVersion.kind != EXTERNAL)
    known = query.where(ModelVersion.kind == BASE)
    return (
        session.exec(serves.order_by(newest_first)).first()
        or session.exec(known.order_by(newest_first)).first()
    )


def register_adapter(
    session: Session,
    training_run: TrainingRun,
    artifact: Artifact,
    metrics: dict[str, Any],
    *,
    kind: str = ADAPTER,
    is_control: bool = False,
) -> ModelVersion:
    """Add the version that a training made; calling it again returns the same version.

    Its parent is the version that the training went on from, else the base of its role.

    Args:
        session: of the transaction that also finishes the training.
        training_run: a stored row.
        artifact: folder of the adapter (or of the whole model, for `kind` full).
        metrics: of the training, copied to the version.
        kind: adapter, full or reward.
        is_control: trained as a control, never to be served.

    Raises:
        BadInput: the files hold what runs code, or no sound safetensors.
        NotFound: the store has not the files.
    """
    _lock_role(session, training_run.role)
    known = session.exec(
        select(ModelVersion).where(ModelVersion.training_run_id == training_run.id)
    ).first()
    if known is not None:
        return known
    folder = _safe_files(session, artifact, training_run.base_model)
    number = next_number(session, training_run.role)
    return _add_made(
        session,
        folder,
        ModelVersion(
            role=training_run.role,
            number=number,
            name=f"{training_run.role}-v{number}{'-control' if is_control else ''}",
            kind=kind,
            base_model=training_run.base_model,
            artifact_uri=artifact.uri,
            content_hash=artifact.content_hash,
            is_control=is_control,
            training_run_id=training_run.id,
            dataset_id=training_run.dataset_id,
            parent_id=training_run.from_version_id or _base_of(session, training_run),
            metrics=metrics,
        ),
    )


def register_made(
    session: Session,
    parent: ModelVersion,
    kind: str,
    artifact: Artifact,
    *,
    made_by: dict[str, Any],
    metrics: dict[str, Any],
    name_suffix: str | None = None,
    role: str | None = None,
    base_model: str | None = None,
) -> ModelVersion:
    """Add a version that no training made: merged, quantized, pruned, or several in one.

    The same content of the same kind and parent is one version: calling it again returns that.

    Args:
        session: of the surrounding transaction; the files are stored already.
        parent: the version that it was made of, the first one of several.
        kind: one of `MADE`.
        artifact: its files.
        made_by: how, of which versions (`of`: their names), and what it passed.
        metrics: measured while it was made.
        name_suffix: of its name after the number; default: its kind.
        role: whose it is; default: the parent's.
        base_model: the base that its files need; default: the parent's.

    Raises:
        BadInput: unknown role or kind, or files that hold what runs code, or no sound safetensors.
        NotFound: the store has not the files.
        Conflict: it is to serve, and its parent is a reward model.
    """
    role = role or parent.role
    require_role(role)
    if kind not in MADE:
        raise BadInput("kind of a made version", kind, f"one of {', '.join(MADE)}", "Name one.")
    if parent.kind == REWARD:
        raise Conflict(
            "parent", f"{parent.name} (reward)", "a version that answers", "Name another one."
        )
    _lock_role(session, role)
    known = session.exec(
        select(ModelVersion).where(
            ModelVersion.parent_id == parent.id,
            ModelVersion.kind == kind,
            ModelVersion.role == role,
            ModelVersion.content_hash == artifact.content_hash,
            col(ModelVersion.training_run_id).is_(None),
            col(ModelVersion.files_removed_at).is_(None),
        )
    ).first()
    if known is not None:
        return known
    folder = _safe_files(session, artifact, base_model or parent.base_model)
    number = next_number(session, role)
    return _add_made(
        session,
        folder,
        ModelVersion(
            role=role,
            number=number,
            name=f"{role}-v{number}-{name_suffix or kind}",
            kind=kind,
            base_model=base_model or parent.base_model,
            artifact_uri=artifact.uri,
            content_hash=artifact.content_hash,
            is_control=parent.is_control,
            dataset_id=parent.dataset_id,
            parent_id=parent.id,
            metrics=metrics,
            made_by=made_by,
        ),
    )


def next_number(session: Session, role: str) -> int:
    """Return the number of the role's next trained version, at least 1.

    One whose name a person gave to a base is passed over: a training must not end without a name.
    """
    number = (_latest_number(session, role) or 0) + 1
    names = set(session.exec(select(ModelVersion.name)).all())
    while any(f"{role}-v{number}{ending}" in names for ending in ("", "-control")):
        number += 1
    return number


def get_version(session: Session, name_or_id: str | UUID) -> ModelVersion:
    """Return a version by its name or id; raises NotFound."""
    identifier = _as_uuid(name_or_id)
    version = (
        session.get(ModelVersion, identifier)
        if identifier
        else session.exec(select(ModelVersion).where(ModelVersion.name == name_or_id)).first()
    )
    if version is None:
        raise NotFound(
            "model version",
            str(name_or_id),
            "the name (coder-v3) or id of a stored version",
            _LIST_VERSIONS,
        )
    return version


def list_versions(
    session: Session, role: str | None = None, stage: str | None = None
) -> list[ModelVersion]:
    """Return the versions, newest first, of one role or stage or of all."""
    query = select(ModelVersion).order_by(col(ModelVersion.id).desc())
    if role is not None:
        query = query.where(ModelVersion.role == role)
    if stage is not None:
        query = query.where(ModelVersion.stage == stage)
    return list(session.exec(query).all())


def set_stage(session: Session, version: ModelVersion, stage: str) -> ModelVersion:
    """Move a version to a stage that may follow its own; the same stage changes nothing.

    Only `router.promote` brings a version to production: it also records who serves.

    Raises:
        BadInput: no such stage.
        Conflict: the stage may not follow, or the version may never serve: a control, a reward
            model, or one whose files were collected.
    """
    require_stage(stage)
    session.refresh(version, with_for_update=True)
    if stage == version.stage:
        return version
    if stage not in TRANSITIONS[version.stage]:
        raise Conflict(
            f"stage of {version.name}",
            stage,
            f"one of {', '.join(TRANSITIONS[version.stage])} after {version.stage}",
            "Take the steps in order.",
        )
    if stage in (EXPERIMENTAL, PRODUCTION):
        _require_servable(version, stage)
    version.stage = stage
    session.add(version)
    session.flush()
    return version


def set_stage_by_hand(
    session: Session, version: ModelVersion, stage: str, *, reason: str | None, actor: str
) -> ModelVersion:
    """Move a version to a stage as `set_stage` does, by a person's word, which a Decision keeps."""
    before = version.stage
    set_stage(session, version, stage)
    decisions.record(
        session,
        STAGE_BY_HAND,
        stage,
        [reason] if reason else [],
        inputs={"from": before, "to": stage},
        role=version.role,
        subject_id=version.id,
        actor=actor,
    )
    return version


def _require_servable(version: ModelVersion, stage: str) -> None:
    what = f"stage of {version.name}"
    if version.is_control:
        raise Conflict(what, stage, "no traffic for a control", "Promote another one.")
    if version.kind == REWARD:
        raise Conflict(
            what, stage, "no traffic for a reward model", "It scores, and never answers."
        )
    require_files(version)
    require_trusted(version)


def require_files(version: ModelVersion) -> None:
    """Check that a version's files were not collected as garbage; raises Conflict."""
    if version.files_removed_at is not None:
        raise Conflict(
            f"files of {version.name}",
            f"removed at {version.files_removed_at:%Y-%m-%d %H:%M}",
            "a version that still has its files",
            "Its row tells how it was made: train it again, or name another version.",
        )


def pin(session: Session, version: ModelVersion, because: str | None) -> ModelVersion:
    """Keep a version's files whatever becomes of it; None lets go of it.

    Raises:
        BadInput: an empty reason.
        Conflict: its files are gone already.
    """
    if because is not None and not because.strip():
        raise BadInput("reason", because, "why the files are to stay", "Say it in a few words.")
    session.flush()
    session.refresh(version, with_for_update=True)  # a collection may be about to remove them
    if because is not None:
        require_files(version)
    version.pinned_because = because
    session.add(version)
    session.flush()
    return version


def served_name(version: ModelVersion) -> str:
    """Return what a server calls the version: its name, or the model for a base or external one."""
    return version.base_model if version.kind in (BASE, EXTERNAL) else version.name


def version_folder(version: ModelVersion) -> Path:
    """Return the local folder of the version's files, fetched from the artifact store.

    Raises:
        NotFound: the version has no files of its own (a base), or the store lost them.
        Conflict: they were collected as garbage.
        Untrusted: they are not what was registered, or a signature that the deployment asks for is
            missing.
        BadInput: something that runs is among them, and nobody signed them.
    """
    require_files(version)
    if version.artifact_uri is None:
        raise NotFound(
            f"files of {version.name}",
            version.kind,
            "an adapter or a full model",
            f"Its model is {version.base_model}.",
        )
    folder = artifacts.fetch(version.artifact_uri)
    require_readable(version, folder)
    return folder


def get_training(session: Session, training_run_id: UUID) -> TrainingRun:
    """Return a training by id; raises NotFound."""
    training = session.get(TrainingRun, training_run_id)
    if training is None:
        raise NotFound(
            "training",
            str(training_run_id),
            "the id of a stored training",
            "List them with: GET /v1/trainings",
        )
    return training


def lock_files(session: Session) -> None:
    """Keep files as they are until the transaction ends.

    Who registers files holds it together with others, who collects garbage holds it alone: so files
    that were found to be there when they were registered cannot go before the row is committed.
    """
    query = "SELECT pg_advisory_xact_lock_shared(hashtextextended(:key, 0))"
    session.execute(text(query), FILES_LOCK)


def _safe_files(session: Session, artifact: Artifact, base_model: str) -> Path:
    """Return a folder of the files, which are there and run no code when they are read."""
    lock_files(session)
    folder = artifacts.fetch(artifact.uri)
    trusts = base_model in get_settings().trusted_bases
    require_safe("files of a model version", folder, may_have_code=trusts)
    return folder


def _add_made(session: Session, folder: Path, version: ModelVersion) -> ModelVersion:
    """Add a version with files, and sign what it is."""
    attest(session, _add(session, version), folder)
    return version


def _base_of(session: Session, training_run: TrainingRun) -> UUID | None:
    return session.exec(
        select(ModelVersion.id).where(
            ModelVersion.role == training_run.role,
            ModelVersion.kind == BASE,
            ModelVersion.base_model == training_run.base_model,
        )
    ).first()


def _add(session: Session, version: ModelVersion) -> ModelVersion:
    taken = session.exec(select(ModelVersion).where(ModelVersion.name == version.name)).first()
    if taken is not None:
        raise Conflict(
            "model version name",
            version.name,
            "a name that is free",
            f"It belongs to {taken.role} version {taken.number} of {taken.base_model}.",
        )
    session.add(version)
    session.flush()
    return version


def _latest_number(session: Session, role: str) -> int | None:
    return session.exec(
        select(func.max(ModelVersion.number)).where(ModelVersion.role == role)
    ).one()


def _lock_role(session: Session, role: str) -> None:
    """Let one transaction at a time number the versions of a role."""
    session.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"),
        {"key": f"model_version/{role}"},
    )


def _as_uuid(value: str | UUID) -> UUID | None:
    if isinstance(value, UUID):
        return value
    try:
        return UUID(value)
    except ValueError:
        return None
