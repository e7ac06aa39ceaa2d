"""One training, from its row to a ModelVersion; any worker may go on where another one died."""

import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlmodel import select

from curation.export import get_dataset, load_rows
from curation.tables import TRAIN, VALIDATION, Dataset
from foundation import artifacts
from foundation.database import session_scope
from foundation.runs import RunHandle
from foundation.settings import get_settings
from trainer.base import is_folder
from trainer.data import Row
from trainer.methods import sft
from trainer.methods.sft import Trained
from trainer.recipe import SFT_FULL, Recipe
from trainer.registry import ADAPTER, FULL, get_training, register_adapter
from trainer.tables import ModelVersion, TrainingRun

LIBRARIES = ("torch", "transformers", "trl", "peft", "tokenizers", "datasets", "accelerate")


@dataclass(frozen=True)
class _Order:
    """What a training needs, read in one transaction before the long work."""

    training: TrainingRun
    dataset: Dataset
    recipe: Recipe
    rows: list[Row]
    validation: list[Row]


def train(run: RunHandle, training_run_id: UUID, *, is_control: bool = False) -> UUID:
    """Do the training of a stored row and return the id of the version it made.

    Opens its own short transactions: none is held while torch works. A training that was done is
    not done again.

    Raises:
        NotFound: the training, its dataset or its base model.
        BadInput: no row is left to learn from.
        RunCancelled: the run is no longer this worker's.
    """
    folder = work_folder(training_run_id)
    made = _version_made(training_run_id)
    if made is not None:
        shutil.rmtree(folder, ignore_errors=True)  # killed before it came to that
        return made
    order = _read(training_run_id)
    goes_on = folder.exists()
    run.lines.say(
        "INFO",
        f"{'going on with' if goes_on else 'learning from'} {len(order.rows):,} rows, "
        f"{len(order.validation):,} for validation, on {Path(order.training.base_model).name}",
    )
    folder.mkdir(parents=True, exist_ok=True)
    trained = sft.train(
        order.training.base_model,
        order.rows,
        order.validation,
        order.recipe,
        folder,
        run.progress,
    )
    version_id = _register(order, trained, run.attempts, is_control)
    run.lines.say("INFO", _said_at_the_end(trained))
    shutil.rmtree(folder)
    return version_id


def _said_at_the_end(trained: Trained) -> str:
    m = trained.metrics
    early = ", stopped early" if m["stopped_early"] else ""
    best = m["best_validation_loss"]
    validation = f"; best validation loss {best:.4g} at step {m['best_step']}" if best else ""
    return f"trained {m['steps']} of {m['planned_steps']} steps{early}{validation}"


def work_folder(training_run_id: UUID) -> Path:
    """Return the folder of a training's checkpoints; it is removed when the version is stored."""
    return get_settings().home.absolute() / "work" / "training" / str(training_run_id)


def _version_made(training_run_id: UUID) -> UUID | None:
    with session_scope() as session:
        version = session.exec(
            select(ModelVersion).where(ModelVersion.training_run_id == training_run_id)
        ).first()
        return version.id if version else None


def _read(training_run_id: UUID) -> _Order:
    with session_scope() as session:
        training = get_training(session, training_run_id)
        dataset = get_dataset(session, training.dataset_id)
        return _Order(
            training,
            dataset,
            Recipe.from_dict(training.recipe),
            load_rows(session, dataset.id, TRAIN),
            load_rows(session, dataset.id, VALIDATION),
        )


def _register(order: _Order, trained: Trained, attempts: int, is_control: bool) -> UUID:
    artifact = artifacts.put(trained.folder)
    manifest = _manifest(order, trained, artifact.content_hash, attempts)
    with session_scope() as session:
        training = get_training(session, order.training.id)
        training.metrics, training.history = trained.metrics, trained.history
        training.manifest = manifest
        session.add(training)
        version = register_adapter(
            session,
            training,
            artifact,
            {**trained.metrics, "size_bytes": artifact.size_bytes},
            kind=FULL if order.recipe.method == SFT_FULL else ADAPTER,
            is_control=is_control,
        )
        return version.id


def _manifest(order: _Order, trained: Trained, artifact_hash: str, attempts: int) -> dict[str, Any]:
    """Return what it takes to make the same weights again, and what making them took."""
    base = order.training.base_model
    return {
        "dataset_id": str(order.dataset.id),
        "dataset_hash": order.dataset.content_hash,
        "recipe_hash": order.recipe.content_hash,
        "base_model": base,
        "base_hash": artifacts.hash_tree(Path(base))[0] if is_folder(base) else None,
        "seed": order.recipe.seed,
        "code_version": version("agent-flywheel"),
        "libraries": {name: version(name) for name in LIBRARIES},
        "python": platform.python_version(),
        "machine": platform.machine(),
        "adapter_sha256": trained.weights_sha256,
        "artifact_hash": artifact_hash,
        "attempts": attempts,
        **trained.environment,
    }
