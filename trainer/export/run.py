"""One export, merge or combination, from its order to what is published: after the gate, or never.

Everything is made in a folder of the run's own, which is removed however it ends; a run that is
taken up again begins anew, and finds what was published before.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from sqlmodel import Session, select

from curation.export import latest_dataset, read
from curation.tables import TRAIN, VALIDATION
from foundation import artifacts
from foundation.artifacts import Artifact
from foundation.database import session_scope
from foundation.errors import BadInput
from foundation.runs import RunHandle
from trainer.export import FORMATS, format_module
from trainer.export.combine import (
    Combination,
    combine,
    errors,
    read_parts,
    relative_error,
    write_combination,
)
from trainer.export.merge import merged_folder
from trainer.export.original import MOST_GRADED, Graded, Original
from trainer.export.parity import Parity, ParityFailed
from trainer.export.prompts import PLAIN, Messages
from trainer.export.workplace import workplace
from trainer.fit import torch_threads
from trainer.registry import ADAPTER, BASE, MERGED, get_version, register_made, version_folder
from trainer.rewards import graded_tasks
from trainer.tables import ModelExport, ModelVersion

MOST_PROMPTS: Final = 60
"""Looked at; some may be too long to ask."""

AS_STORED: Final = 1e-5
"""How far the files of a combination may be off: it is computed in 64 bits and stored in 32."""

SUITE: Final = "suite"
"""Measure of a verdict: the suite whose tasks were asked."""


@dataclass(frozen=True)
class _Order:
    """What a job needs, read in one transaction before the long work."""

    version_id: UUID
    name: str
    base_model: str
    adapter: Path | None
    prompts: Sequence[Messages]


def export(run: RunHandle, version_id: UUID, format: str, suite: str | None) -> dict[str, Any]:
    """Publish a version in a format, once it was read again and found the same.

    What was published before is not made twice, unless a suite is named that it was not compared
    by; if it loses too much there, it is published no longer.

    Raises:
        ParityFailed: it is not the same; nothing is kept of it.
        BadInput: this version cannot be written so.
        NoRoom: there is no room.
    """
    known = _published(version_id, format, suite)
    if known is not None:
        return known
    order = _read(version_id)
    try:
        artifact, parity = _made(run, order, format, suite)
    except ParityFailed:
        _withdraw(version_id, format)
        raise
    return _publish(run, version_id, format, artifact, parity)


def _made(run: RunHandle, order: _Order, format: str, suite: str | None) -> tuple[Artifact, Parity]:
    """Write a version, read it again and store it; raises ParityFailed if it is not the same."""
    way, module = FORMATS[format], format_module(format)
    with _working(run, order) as work, _graded(suite) as graded:
        prompts = order.prompts if graded is None else [row["prompt"] for row in graded.rows]
        original = Original(order.name, order.base_model, order.adapter, work, prompts, graded)
        target = work / "export"
        target.mkdir()
        run.progress(0, 3, "steps")
        module.write(original, target, way.variant)
        run.progress(1, 3, "steps")
        parity: Parity = module.check(original, target, way.variant)
        run.progress(2, 3, "steps", logit_error=parity.logit_error, agreement=parity.agreement)
        run.lines.say("INFO", _said(parity))
        if not parity.passed:
            raise ParityFailed(f"{order.name} as {format}", parity.reasons)
        if suite is not None:
            parity = replace(parity, measures={**parity.measures, SUITE: suite})
        return artifacts.put(target), parity


def _publish(
    run: RunHandle, version_id: UUID, format: str, artifact: Artifact, parity: Parity
) -> dict[str, Any]:
    with session_scope() as session:
        session.get(ModelVersion, version_id, with_for_update=True)  # one run at a time publishes
        row = _row(session, version_id, format) or ModelExport(
            model_version_id=version_id,
            format=format,
            artifact_uri="",
            content_hash="",
            size_bytes=0,
        )
        row.run_id, row.parity = run.id, parity.as_json()
        row.artifact_uri, row.content_hash = artifact.uri, artifact.content_hash
        row.size_bytes = artifact.size_bytes
        session.add(row)
        session.flush()
        return _told(row)


def _withdraw(version_id: UUID, format: str) -> None:
    with session_scope() as session:
        row = _row(session, version_id, format)
        if row is not None:
            session.delete(row)  # its files are garbage now


def merge(run: RunHandle, version_id: UUID) -> dict[str, Any]:
    """Register an adapter merged into its base, once it was found equal to both.

    Raises:
        ParityFailed: merged is not adapter, or the adapter changes nothing.
        NoRoom: there is no room.
    """
    order = _read(version_id)
    assert order.adapter is not None, "only an adapter is ordered to be merged"
    with _working(run, order) as work:
        merged = merged_folder(order.base_model, order.adapter, work / "merged", order.prompts)
        run.lines.say("INFO", _said(merged.parity))
        artifact = artifacts.put(merged.folder)
    with session_scope() as session:
        made = register_made(
            session,
            get_version(session, version_id),
            MERGED,
            artifact,
            made_by={"how": "merge", "of": [order.name], **merged.as_json()},
            metrics={"size_bytes": artifact.size_bytes},
        )
        return {"model_version_id": str(made.id), "name": made.name, **merged.as_json()}


def combined(
    run: RunHandle,
    version_ids: Sequence[UUID],
    weights: Sequence[float],
    how: str,
    role: str,
    rank: int | None,
) -> dict[str, Any]:
    """Register one adapter that stands for several, with the error of each way to make it.

    Raises:
        BadInput: they cannot be combined so.
        ParityFailed: what was written is not what was computed.
        NoRoom: there is no room.
    """
    orders = [_read(one) for one in version_ids]
    parts = read_parts([order.adapter for order in orders if order.adapter is not None])
    table = errors(parts, weights, rank)
    made = combine(parts, weights, how, rank)
    run.lines.say("INFO", f"{how} at rank {made.rank}: {made.error:.2g} off the weighted sum")
    with _working(run, orders[0]) as work:
        assert orders[0].adapter is not None, "only adapters are ordered to be combined"
        write_combination(made, orders[0].adapter, work / "combined")
        _require_as_made(made, work / "combined")
        artifact = artifacts.put(work / "combined")
    told = {"how": how, "rank": made.rank, "error": made.error, "errors": table}
    names = [order.name for order in orders]
    with session_scope() as session:
        version = register_made(
            session,
            get_version(session, version_ids[0]),
            ADAPTER,
            artifact,
            made_by={"of": names, "weights": list(weights), **told},
            metrics={"size_bytes": artifact.size_bytes},
            name_suffix="combined",
            role=role,
        )
        return {"model_version_id": str(version.id), "name": version.name, **told}


def prompts_of(session: Session, version: ModelVersion) -> list[Messages]:
    """Return prompts of the data that a version learned from, or that its role has now."""
    newest = latest_dataset(session, version.role)
    dataset_id = version.dataset_id or (newest.id if newest else None)
    if dataset_id is None:
        return list(PLAIN)
    rows = chain.from_iterable(read(session, dataset_id, split) for split in (VALIDATION, TRAIN))
    return [row["prompt"] for row in islice(rows, MOST_PROMPTS)] or list(PLAIN)


def _read(version_id: UUID) -> _Order:
    with session_scope() as session:
        version = get_version(session, version_id)
        files = None if version.kind == BASE else version_folder(version)
        is_adapter = version.kind == ADAPTER
        return _Order(
            version_id=version.id,
            name=version.name,
            base_model=version.base_model if files is None or is_adapter else str(files),
            adapter=files if is_adapter else None,
            prompts=prompts_of(session, version),
        )


def _require_as_made(made: Combination, folder: Path) -> None:
    off = relative_error(read_parts([folder])[0], made.factors)
    if not off <= AS_STORED:
        raise ParityFailed("combination", [f"its files are off by {off:.2g}, allowed {AS_STORED}"])


@contextmanager
def _working(run: RunHandle, order: _Order) -> Iterator[Path]:
    with workplace("export", run.id, order.base_model) as work, torch_threads(0):
        yield work


@contextmanager
def _graded(suite: str | None) -> Iterator[Graded | None]:
    """Yield tasks with who grades their answers, or None where none were asked for."""
    if suite is None:
        yield None
        return
    with graded_tasks(suite) as tasks:
        rows = [*tasks.validation, *tasks.rows][:MOST_GRADED]
        if not rows:
            raise BadInput("suite", suite, "one with tasks", "Name another one.")
        yield Graded(rows, tasks.reward)


def _published(version_id: UUID, format: str, suite: str | None) -> dict[str, Any] | None:
    with session_scope() as session:
        row = _row(session, version_id, format)
        if row is None or not artifacts.exists(row.artifact_uri):
            return None
        was_asked = suite is None or row.parity["measures"].get(SUITE) == suite
        return _told(row) if was_asked else None


def _row(session: Session, version_id: UUID, format: str) -> ModelExport | None:
    return session.exec(
        select(ModelExport).where(
            ModelExport.model_version_id == version_id, ModelExport.format == format
        )
    ).first()


def _told(row: ModelExport) -> dict[str, Any]:
    return {
        "export_id": str(row.id),
        "format": row.format,
        "artifact_uri": row.artifact_uri,
        "size_bytes": row.size_bytes,
        "parity": row.parity,
    }


def _said(parity: Parity) -> str:
    verdict = "the same" if parity.passed else f"not the same: {'; '.join(parity.reasons)}"
    return (
        f"{verdict} on {parity.n_prompts} prompts: logits off by {parity.logit_error:.2g}, "
        f"equal text on {parity.agreement:.0%}"
    )
