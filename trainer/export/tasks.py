"""The jobs that merge, combine and export versions, and how to order one. No torch until then."""

import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlmodel import Session, col, select

from foundation import artifacts
from foundation.errors import BadInput, Conflict, NotFound
from foundation.runs import RunHandle, enqueue, job
from foundation.tables import Run
from trainer.export import get_format
from trainer.export.ways import require_way
from trainer.registry import ADAPTER, BASE, require_files, require_role, version_folder
from trainer.rewards import require_suite
from trainer.tables import ModelExport, ModelVersion

EXPORT_JOB, MERGE_JOB, COMBINE_JOB = "trainer.export", "trainer.merge", "trainer.combine"


def start_export(
    session: Session, version: ModelVersion, format: str, suite: str | None = None
) -> Run:
    """Order a version in a format of others; the message leaves with the commit.

    Args:
        session: of the surrounding transaction.
        version: an adapter, a base of ours, or a whole model.
        format: a name in `trainer.export.FORMATS`.
        suite: tasks to compare pass rates by, NAME or NAME@VERSION; None: texts and logits alone.

    Raises:
        BadInput: no such format, or none for this kind of version.
        NotFound: no such suite.
        Conflict: its files were removed, or the suite is a draft.
    """
    kinds = get_format(format).kinds
    if version.kind not in kinds:
        raise BadInput(
            f"{version.name} as {format}",
            version.kind,
            f"one of {', '.join(kinds)}",
            "Take another.",
        )
    _require_there(version)
    if suite is not None:
        require_suite(session, suite)
    params = {"version_id": str(version.id), "format": format, "suite": suite}
    return enqueue(session, EXPORT_JOB, params, role=version.role)


def start_merge(session: Session, version: ModelVersion) -> Run:
    """Order an adapter merged into its base, a version of its own.

    Raises:
        BadInput: the version is no adapter.
        Conflict: its files were removed.
    """
    _require_adapter(version)
    return enqueue(session, MERGE_JOB, {"version_id": str(version.id)}, role=version.role)


def start_combine(
    session: Session,
    versions: Sequence[ModelVersion],
    weights: Sequence[float],
    how: str,
    role: str,
    rank: int | None = None,
) -> Run:
    """Order one adapter that stands for the weighted sum of several over one base.

    Args:
        session: of the surrounding transaction.
        versions: at least two adapters.
        weights: one for each.
        how: cat (exact), svd, linear, ties or dare.
        role: whose version it will be.
        rank: of the result; None for the default of `trainer.export.combine.combine`.

    Raises:
        BadInput: no such way or role, no adapter, too few, or weights that are none.
        Conflict: adapters over different bases, or files were removed.
    """
    require_role(role)
    require_way(how, weights, len(versions), rank)
    _require_over_one_base(versions)
    params = {
        "version_ids": [str(version.id) for version in versions],
        "weights": list(weights),
        "how": how,
        "role": role,
        "rank": rank,
    }
    return enqueue(session, COMBINE_JOB, params, role=role)


@job(EXPORT_JOB, queue="gpu")
def export_version(
    run: RunHandle, version_id: str, format: str, suite: str | None = None
) -> dict[str, Any]:
    """Write a version in a format, read it again, and store it if it is the same."""
    from trainer.export.run import export

    return export(run, UUID(version_id), format, suite)


@job(MERGE_JOB, queue="gpu")
def merge_version(run: RunHandle, version_id: str) -> dict[str, Any]:
    """Merge an adapter into its base and register what came of it."""
    from trainer.export.run import merge

    return merge(run, UUID(version_id))


@job(COMBINE_JOB, queue="cpu")
def combine_versions(
    run: RunHandle,
    version_ids: list[str],
    weights: list[float],
    how: str,
    role: str,
    rank: int | None = None,
) -> dict[str, Any]:
    """Combine adapters and register what came of it."""
    from trainer.export.run import combined

    return combined(run, [UUID(one) for one in version_ids], weights, how, role, rank)


def combine_errors(
    versions: Sequence[ModelVersion], weights: Sequence[float], rank: int | None = None
) -> dict[str, dict[str, Any]]:
    """Return rank and error of each way to combine adapters, before one is chosen.

    Raises:
        BadInput: a version is no plain adapter, or the weights are none.
        Conflict: adapters over different bases, or files were removed.
    """
    from trainer.export.combine import errors, read_parts

    _require_over_one_base(versions)
    require_way("cat", weights, len(versions), rank)
    return errors(read_parts([version_folder(one) for one in versions]), weights, rank)


def list_exports(session: Session, version: ModelVersion | None = None) -> list[ModelExport]:
    """Return what is published, newest first, of one version or of all."""
    query = select(ModelExport).order_by(col(ModelExport.id).desc())
    if version is not None:
        query = query.where(ModelExport.model_version_id == version.id)
    return list(session.exec(query).all())


def find_export(session: Session, version: ModelVersion, format: str) -> ModelExport:
    """Return a version's export; raises NotFound, or BadInput for no such format."""
    get_format(format)
    for export in list_exports(session, version):
        if export.format == format:
            return export
    raise NotFound(
        f"export of {version.name}",
        format,
        "a format that it was exported as",
        f"Run: flywheel model export {version.name} --format {format}",
    )


def write_out(export: ModelExport, folder: Path) -> Path:
    """Copy an export's files to a new folder, which is there whole or not at all.

    Raises:
        Conflict: something is there already.
        NotFound: the store lost the files.
    """
    require_free(folder)
    source = artifacts.fetch(export.artifact_uri)
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.unfinished")
    try:
        shutil.copytree(source, unfinished)
        if folder.exists():
            folder.rmdir()
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def require_free(folder: Path) -> None:
    """Check that files can be written out to a folder; raises Conflict where something is."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Conflict("folder", str(folder), "a new one, or an empty one", "Name another folder.")


def _require_over_one_base(versions: Sequence[ModelVersion]) -> None:
    for version in versions:
        _require_adapter(version)
    bases = {version.base_model for version in versions}
    if len(bases) > 1:
        raise Conflict(
            "adapters", ", ".join(sorted(bases)), "one base under all", "Train them on one base."
        )


def _require_adapter(version: ModelVersion) -> None:
    if version.kind != ADAPTER:
        raise BadInput(
            version.name, version.kind, "an adapter", "Name one that was trained as one."
        )
    _require_there(version)


def _require_there(version: ModelVersion) -> None:
    if version.kind != BASE:
        require_files(version)
