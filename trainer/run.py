"""One training, from its row to a ModelVersion; any worker may go on where another one died."""

import platform
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlmodel import Session, select

from curation.export import get_dataset
from curation.tables import SFT, TRAIN, VALIDATION, Dataset
from foundation import artifacts
from foundation.database import session_scope
from foundation.errors import BadInput
from foundation.footprint import forget_peak
from foundation.runs import RunHandle
from foundation.settings import get_settings
from trainer.base import is_folder
from trainer.callbacks import peak_memory_mb
from trainer.fit import fit
from trainer.foretell import compared, raise_if_refused, require_fit
from trainer.lesson import Earlier, Lesson, Trained
from trainer.lineage import ancestors
from trainer.methods import METHODS, TASKS
from trainer.recipe import Recipe
from trainer.registry import (
    ADAPTER,
    BASE,
    FULL,
    get_training,
    get_version,
    register_adapter,
    version_folder,
)
from trainer.rewards import TaskRows, graded_tasks, model_reward
from trainer.rows import rows_of
from trainer.tables import ModelVersion, TrainingRun

LIBRARIES = ("torch", "transformers", "trl", "peft", "tokenizers", "datasets", "accelerate")


@dataclass(frozen=True)
class Order:
    """What a training needs, read in one transaction before the long work.

    Attributes:
        training: its row.
        dataset: that it learns from; None: it answers tasks.
        lesson: the same, as `fit` takes it.
    """

    training: TrainingRun
    dataset: Dataset | None
    lesson: Lesson


def train(
    run: RunHandle,
    training_run_id: UUID,
    *,
    is_control: bool = False,
    teach: Callable[[Lesson], Trained] = fit,
) -> UUID:
    """Do the training of a stored row and return the id of the version it made.

    Opens its own short transactions: none is held while torch works. A training that was done is
    not done again. `teach` is how: in this process, or launched in several.

    Raises:
        NotFound: the training, its dataset or its base model.
        BadInput: no row is left to learn from.
        RunCancelled: the run is no longer this worker's.
    """
    folder = work_folder(training_run_id)
    made = version_made(training_run_id)
    if made is not None:
        shutil.rmtree(folder, ignore_errors=True)  # killed before it came to that
        return made
    order = read_order(training_run_id, folder, run)
    goes_on = folder.exists()
    tasks = graded_tasks(order.training.suite) if order.training.suite else nullcontext()
    with tasks as found:
        lesson = _with_tasks(order.lesson, found) if found else order.lesson
        run.lines.say(
            "INFO",
            f"{'going on with' if goes_on else 'learning from'} {len(lesson.rows):,} rows, "
            f"{len(lesson.validation):,} for validation, on {Path(lesson.base_model).name}",
        )
        if not goes_on:
            _require_fit(lesson, training_run_id)
            folder.mkdir(parents=True, exist_ok=True)
        forget_peak()
        trained = teach(lesson)
    version_id = register(order, trained, run.attempts, is_control)
    run.lines.say("INFO", said_at_the_end(trained))
    shutil.rmtree(folder)
    return version_id


def _require_fit(lesson: Lesson, training_run_id: UUID) -> None:
    """Write the estimate into the row; raise DoesNotFit once the refusal is stored."""
    with session_scope() as session:
        training = get_training(session, training_run_id)
        decision = require_fit(session, training, lesson.recipe, lesson.rows)
    lesson.say("INFO", f"{decision.outcome}: {' '.join(decision.reasons)}")
    raise_if_refused(decision)


def said_at_the_end(trained: Trained) -> str:
    """Return how a training ended, for its log."""
    m = trained.metrics
    early = ", stopped early" if m["stopped_early"] else ""
    best = m["best_validation_loss"]
    validation = f"; best validation loss {best:.4g} at step {m['best_step']}" if best else ""
    return f"trained {m['steps']} of {m['planned_steps']} steps{early}{validation}"


def work_folder(training_run_id: UUID) -> Path:
    """Return the folder of a training's checkpoints; it is removed when the version is stored."""
    return get_settings().home.absolute() / "work" / "training" / str(training_run_id)


def version_made(training_run_id: UUID) -> UUID | None:
    """Return the version that a training has made already, or None."""
    with session_scope() as session:
        version = session.exec(
            select(ModelVersion).where(ModelVersion.training_run_id == training_run_id)
        ).first()
        return version.id if version else None


def read_order(training_run_id: UUID, folder: Path, run: RunHandle) -> Order:
    """Read the row of a training and everything it names."""
    with session_scope() as session:
        training = get_training(session, training_run_id)
        recipe = Recipe.from_dict(training.recipe)
        dataset = get_dataset(session, training.dataset_id) if training.dataset_id else None
        lesson = Lesson(
            base_model=training.base_model,
            recipe=recipe,
            rows=rows_of(session, dataset, TRAIN, recipe),
            validation=rows_of(session, dataset, VALIDATION, recipe),
            folder=folder,
            report=run.progress,
            earlier=_earlier(session, training),
            teacher=_teacher(session, training, recipe),
            reward=_reward(session, recipe),
            say=run.lines.say,
            check=run.check,
        )
        return Order(training, dataset, lesson)


def _earlier(session: Session, training: TrainingRun) -> Earlier | None:
    """Return the version that a training goes on from, with what that learned from."""
    if training.from_version_id is None:
        return None
    version = get_version(session, training.from_version_id)
    line = ancestors(session, version)
    datasets = [get_dataset(session, v.dataset_id) for v in line if v.dataset_id is not None]
    return Earlier(
        name=version.name,
        folder=version_folder(version),
        rows=[
            row
            for dataset in datasets
            if dataset.kind == SFT
            for row in rows_of(session, dataset, TRAIN)
        ],
        ancestors=[version_folder(v) for v in line if v.kind == ADAPTER],
    )


def _teacher(
    session: Session, training: TrainingRun, recipe: Recipe
) -> tuple[str, Path | None] | None:
    """Return the base model and adapter of who teaches; a name that is no version is a base."""
    name = recipe.distillation.teacher
    if name is None:
        return None
    version = session.exec(select(ModelVersion).where(ModelVersion.name == name)).first()
    if version is None:
        if "/" not in name and not Path(name).is_dir():
            raise BadInput(
                "recipe.distillation.teacher",
                name,
                "the name of a version, a folder, or OWNER/NAME on the hub",
                "List versions: flywheel model list",
            )
        return name, None
    if version.kind == BASE:
        return version.base_model, None
    if version.kind == ADAPTER:
        return version.base_model, version_folder(version)
    if version.kind == FULL or version.kind == "merged":
        return str(version_folder(version)), None
    raise BadInput(
        "recipe.distillation.teacher",
        f"{name} ({version.kind})",
        "an adapter, a whole model or a base of ours",
        "Its distributions cannot be read from outside; learn from its answers with sft instead.",
    )


def _reward(session: Session, recipe: Recipe) -> Any:
    name = recipe.reinforcement.reward_model
    if METHODS[recipe.method].reads != TASKS or name is None:
        return None
    version = get_version(session, name)
    return model_reward(version.base_model, version_folder(version))


def _with_tasks(lesson: Lesson, tasks: TaskRows) -> Lesson:
    return replace(
        lesson,
        rows=tasks.rows,
        validation=tasks.validation,
        reward=lesson.reward or tasks.reward,
    )


def register(order: Order, trained: Trained, attempts: int, is_control: bool) -> UUID:
    """Store what was trained as a version, with where it comes from; return its id."""
    artifact = artifacts.put(trained.folder)
    manifest = _manifest(order, trained, artifact.content_hash, attempts)
    memory_mb = None if "processes" in trained.environment else peak_memory_mb()
    with session_scope() as session:
        training = get_training(session, order.training.id)
        training.metrics, training.history = trained.metrics, trained.history
        training.manifest = manifest
        training.estimate = compared(
            training.estimate, trained.metrics, trained.environment["wall_s"], memory_mb
        )
        session.add(training)
        version = register_adapter(
            session,
            training,
            artifact,
            {**trained.metrics, "size_bytes": artifact.size_bytes},
            kind=METHODS[order.lesson.recipe.method].makes,
            is_control=is_control,
        )
        return version.id


def _manifest(order: Order, trained: Trained, artifact_hash: str, attempts: int) -> dict[str, Any]:
    """Return what it takes to make the same weights again, and what making them took."""
    base = order.training.base_model
    recipe = order.lesson.recipe
    return {
        "dataset_id": str(order.dataset.id) if order.dataset else None,
        "dataset_hash": order.dataset.content_hash if order.dataset else None,
        "suite": order.training.suite,
        "from_version": order.lesson.earlier.name if order.lesson.earlier else None,
        "recipe_hash": recipe.content_hash,
        "base_model": base,
        "base_hash": artifacts.hash_tree(Path(base))[0] if is_folder(base) else None,
        "seed": recipe.seed,
        "code_version": version("agent-flywheel"),
        "libraries": {name: version(name) for name in LIBRARIES},
        "python": platform.python_version(),
        "machine": platform.machine(),
        "adapter_sha256": trained.weights_sha256,
        "artifact_hash": artifact_hash,
        "attempts": attempts,
        **trained.environment,
    }
