"""The jobs that make a smaller version of a version, and how to order one. No torch until then."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from sqlmodel import Session

from curation.export import get_dataset, load_rows
from curation.tables import SFT, TRAIN, VALIDATION, Dataset
from foundation import artifacts
from foundation.database import session_scope
from foundation.errors import BadInput
from foundation.runs import RunHandle, enqueue, job
from foundation.tables import Run
from trainer.compress.ways import require_share, require_way, require_whole
from trainer.data import Row
from trainer.export.prompts import PLAIN, Messages
from trainer.recipe import SFT_FULL, Recipe
from trainer.registry import PRUNED, QUANTIZED, get_version, register_made
from trainer.tables import ModelVersion

if TYPE_CHECKING:
    from trainer.compress.source import Source

QUANTIZE_JOB, PRUNE_JOB = "trainer.quantize", "trainer.prune"
MOST_PROMPTS: Final = 60
"""Looked at; some may be too long to ask."""


def start_quantize(session: Session, version: ModelVersion, way: str) -> Run:
    """Order a version with fewer bits per weight; the message leaves with the commit.

    Args:
        session: of the surrounding transaction.
        version: an adapter, or a whole model of full precision.
        way: int8, int4, nf4 or fp8.

    Raises:
        BadInput: another way, or a version that is none of those.
    """
    require_way(way)
    require_whole(version)
    params = {"version_id": str(version.id), "way": way}
    return enqueue(session, QUANTIZE_JOB, params, role=version.role)


def start_prune(
    session: Session,
    version: ModelVersion,
    share: float,
    *,
    what: str,
    dataset_id: UUID | None = None,
    recover: Recipe | None = None,
) -> Run:
    """Order a version with fewer heads or neurons; the message leaves with the commit.

    Args:
        session: of the surrounding transaction.
        version: an adapter, or a whole model of full precision.
        share: of them that leaves each layer, above 0, below 1.
        what: heads or neurons.
        dataset_id: whose rows importance is measured on; None: those that the version learned from.
        recover: all knobs of a training of all weights on the same rows afterwards; None: none.

    Raises:
        BadInput: another share, part or version, no sft dataset, or a recipe of another method.
        NotFound: no such dataset.
    """
    require_share(what, share)
    require_whole(version)
    dataset = _rows_to_weigh_by(session, version, dataset_id)
    if recover is not None and recover.method != SFT_FULL:
        raise BadInput(
            "recipe.method", recover.method, SFT_FULL, "What was cut heals with all weights."
        )
    params = {
        "version_id": str(version.id),
        "share": share,
        "what": what,
        "dataset_id": str(dataset.id),
        "recover": recover.to_dict() if recover else None,
    }
    return enqueue(session, PRUNE_JOB, params, role=version.role)


@job(QUANTIZE_JOB, queue="gpu")
def quantize_version(run: RunHandle, version_id: str, way: str) -> dict[str, Any]:
    """Make a version with fewer bits per weight."""
    from trainer.compress.quantize import quantized

    order = _read(version_id, None)
    with _working(run, order) as (whole, folder):
        made = quantized(whole, way, folder / "quantized", order.prompts)
        return _register(order, QUANTIZED, made.folder, {"way": way}, made.as_json(), way)


@job(PRUNE_JOB, queue="gpu")
def prune_version(
    run: RunHandle,
    version_id: str,
    share: float,
    what: str,
    dataset_id: str,
    recover: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Make a version with fewer heads or neurons, and let it recover if that was ordered."""
    from trainer.compress.prune import pruned

    order = _read(version_id, UUID(dataset_id))
    with _working(run, order) as (whole, folder):
        made = pruned(whole, what, share, order.rows, folder / "pruned")
        kept, figures = made.folder, made.as_json()
        if recover is not None:
            kept, figures["recovered"] = _recovered(run, order, made.folder, folder, recover)
        how = {"what": what, "share": share, "dataset_id": dataset_id, "recipe": recover}
        return _register(order, PRUNED, kept, how, figures, "pruned")


@dataclass(frozen=True)
class _Order:
    """What a job needs, read in one transaction before the long work.

    Attributes:
        version_id: of the version that is made smaller.
        name: of it.
        source: its files.
        rows: that it learned from, or that importance is measured on.
        validation: for the recovery.
    """

    version_id: UUID
    name: str
    source: "Source"
    rows: Sequence[Row]
    validation: Sequence[Row]

    @property
    def prompts(self) -> Sequence[Messages]:
        """What the two are compared by."""
        return [row["prompt"] for row in self.rows[:MOST_PROMPTS]] or PLAIN


def _read(version_id: str, dataset_id: UUID | None) -> _Order:
    from trainer.compress.source import source_of

    with session_scope() as session:
        version = get_version(session, UUID(version_id))
        dataset_id = dataset_id or version.dataset_id
        dataset = get_dataset(session, dataset_id) if dataset_id else None
        rows, validation = (
            load_rows(session, dataset.id, split) if dataset and dataset.kind == SFT else []
            for split in (TRAIN, VALIDATION)
        )
        return _Order(version.id, version.name, source_of(version), rows, validation)


@contextmanager
def _working(run: RunHandle, order: _Order) -> Iterator[tuple[str, Path]]:
    """Yield the whole model, and a folder that is removed afterwards; raises NoRoom."""
    from trainer.compress.source import whole_folder
    from trainer.export.workplace import workplace
    from trainer.fit import torch_threads

    with workplace("compress", run.id, order.source.base_model) as folder, torch_threads(0):
        run.lines.say("INFO", f"making {order.name} smaller")
        yield whole_folder(order.source, folder / "whole", order.prompts), folder


def _recovered(
    run: RunHandle, order: _Order, model: Path, folder: Path, recover: dict[str, Any]
) -> tuple[Path, dict[str, Any]]:
    """Train all weights of a pruned model on the rows it was pruned by."""
    from trainer.fit import fit
    from trainer.lesson import Lesson

    work = folder / "recovery"
    work.mkdir()
    lesson = Lesson(
        base_model=str(model),
        recipe=Recipe.from_dict(recover),
        rows=order.rows,
        validation=order.validation,
        folder=work,
        report=run.progress,
        say=run.lines.say,
    )
    trained = fit(lesson)
    return trained.folder, trained.metrics


def _register(
    order: _Order,
    kind: str,
    folder: Path,
    how: dict[str, Any],
    figures: dict[str, Any],
    suffix: str,
) -> dict[str, Any]:
    artifact = artifacts.put(folder)
    with session_scope() as session:
        made = register_made(
            session,
            get_version(session, order.version_id),
            kind,
            artifact,
            made_by={"of": [order.name], **how},
            metrics=figures,
            name_suffix=suffix,
        )
        return {"model_version_id": str(made.id), "name": made.name, **figures}


def _rows_to_weigh_by(session: Session, version: ModelVersion, dataset_id: UUID | None) -> Dataset:
    dataset_id = dataset_id or version.dataset_id
    dataset = get_dataset(session, dataset_id) if dataset_id else None
    if dataset is None or dataset.kind != SFT or dataset.n_train == 0:
        raise BadInput(
            "dataset",
            None if dataset is None else f"{dataset.kind} dataset {dataset.number}",
            "an sft dataset with training rows, which say what matters",
            "Name one with --dataset.",
        )
    return dataset
