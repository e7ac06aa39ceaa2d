"""The training job, and how to order one. No torch until a worker takes the job up."""

from dataclasses import asdict
from functools import partial
from typing import Any
from uuid import UUID

from sqlmodel import Session

from curation.export import get_dataset
from foundation.database import session_scope
from foundation.errors import BadInput, Conflict
from foundation.ids import new_id
from foundation.runs import RunHandle, enqueue, job
from foundation.settings import get_settings
from trainer.launch import Launch, shared_out
from trainer.methods import METHODS, TASKS
from trainer.recipe import CONTINUAL, Recipe
from trainer.registry import ADAPTER, base_of_role, get_version, require_role
from trainer.rewards import require_suite
from trainer.rows import READABLE
from trainer.tables import ModelVersion, TrainingRun

TRAIN_JOB = "trainer.train"


@job(TRAIN_JOB, queue="gpu")
def train_model(
    run: RunHandle,
    training_run_id: str,
    is_control: bool = False,
    launch: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Do one training; resumes from its checkpoints when it was started before.

    `launch` has the fields of a `Launch`, for several processes; None: it is done in this one.
    """
    from trainer.fit import fit
    from trainer.launcher import launched
    from trainer.run import train

    teach = partial(launched, launch=Launch(**launch)) if launch else fit
    version_id = train(run, UUID(training_run_id), is_control=is_control, teach=teach)
    with session_scope() as session:
        version = get_version(session, version_id)
        return {
            "model_version_id": str(version.id),
            "name": version.name,
            "metrics": version.metrics,
        }


def start_training(
    session: Session,
    role: str,
    dataset_id: UUID | None,
    base_model: str | None,
    recipe: Recipe,
    *,
    is_control: bool = False,
    suite: str | None = None,
    earlier: ModelVersion | None = None,
    ordered_by: str = "person",
    search_run_id: UUID | None = None,
    launch: Launch | None = None,
) -> TrainingRun:
    """Order a training: its row and its queued run; the message leaves with the commit.

    Args:
        session: of the surrounding transaction.
        role: whose model; the dataset must be of the same role.
        dataset_id: a stored version with training rows; None for a method that answers tasks.
        base_model: folder or hub name; None for that of `earlier`, else FLYWHEEL_BASE_MODEL, else
            the one that the role uses (`trainer.registry.base_of_role`).
        recipe: all knobs.
        is_control: the version will be marked as never to be served.
        suite: tasks to learn from, NAME or NAME@VERSION, for a method that answers tasks.
        earlier: the version to go on from; None: from the base.
        ordered_by: person, turn, schedule, search, or the trigger that fired.
        search_run_id: the search that it is a trial of.
        launch: how it is spread over several processes; None: it is done in the worker's own.

    Raises:
        BadInput: unknown role, no base model, a dataset of another role or kind or without rows;
            a recipe that cannot be shared out to the processes.
        Conflict: the earlier version is of another role or base, or is no adapter.
        NotFound: no such dataset.
    """
    base_model = require_trainable(
        session, role, dataset_id, base_model, recipe, suite=suite, earlier=earlier
    )
    if launch is not None:
        shared_out(recipe, launch.world)
    training_id = new_id()
    run = enqueue(
        session,
        TRAIN_JOB,
        {
            "training_run_id": str(training_id),
            "is_control": is_control,
            "launch": asdict(launch) if launch else None,
        },
        role=role,
    )
    training = TrainingRun(
        id=training_id,
        run_id=run.id,
        role=role,
        dataset_id=dataset_id,
        suite=suite,
        base_model=base_model,
        method=recipe.method,
        from_version_id=earlier.id if earlier else None,
        ordered_by=ordered_by,
        search_run_id=search_run_id,
        recipe=recipe.to_dict(),
        seed=recipe.seed,
    )
    session.add(training)
    session.flush()
    return training


def require_trainable(
    session: Session,
    role: str,
    dataset_id: UUID | None,
    base_model: str | None,
    recipe: Recipe,
    *,
    suite: str | None = None,
    earlier: ModelVersion | None = None,
) -> str:
    """Check an order before it is one, and return the base model that it means.

    Raises:
        BadInput, Conflict, NotFound: as `start_training`.
    """
    require_role(role)
    if not base_model:
        base_model = earlier.base_model if earlier else get_settings().base_model
    base_model = base_model or base_of_role(session, role)
    if not base_model:
        raise BadInput(
            "base model",
            base_model,
            "a folder or hub name",
            f"Name it: --base FOLDER, or register it once: flywheel model add {role} FOLDER",
        )
    _require_data(session, role, recipe, dataset_id, suite)
    _require_earlier(role, base_model, recipe, earlier)
    return base_model


def _require_data(
    session: Session, role: str, recipe: Recipe, dataset_id: UUID | None, suite: str | None
) -> None:
    reads = METHODS[recipe.method].reads
    if reads == TASKS:
        if suite is None:
            raise BadInput("suite", None, f"tasks for {recipe.method} to answer", "Name a suite.")
        require_suite(session, suite)
        return
    if suite is not None:
        raise BadInput(
            "suite", suite, f"none for {recipe.method}, which reads datasets", "Leave it out."
        )
    expected = f"{'an' if reads == 'sft' else 'a'} {reads} dataset of {role}"
    if dataset_id is None:
        raise BadInput("dataset", None, expected, "Name one; list them: flywheel dataset list")
    dataset = get_dataset(session, dataset_id)
    if dataset.role != role or dataset.kind not in READABLE[reads]:
        raise BadInput(
            "dataset",
            f"{dataset.kind} dataset of {dataset.role}",
            expected,
            f"{recipe.method} reads no other: name another dataset, role or method.",
        )
    if dataset.n_train == 0:
        raise BadInput(
            "dataset", "no training rows", "at least one", "Collect more, then curate again."
        )


def _require_earlier(
    role: str, base_model: str, recipe: Recipe, earlier: ModelVersion | None
) -> None:
    if earlier is None:
        if recipe.continual.method in CONTINUAL:
            raise BadInput(
                "recipe.continual.method",
                recipe.continual.method,
                "a version to go on from",
                "Name it: flywheel train --continual METHOD --from VERSION",
            )
        return
    if (earlier.role, earlier.base_model, earlier.kind) != (role, base_model, ADAPTER):
        raise Conflict(
            "version to go on from",
            f"{earlier.name}: {earlier.kind} of {earlier.role} on {earlier.base_model}",
            f"an adapter of {role} on {base_model}",
            "Name another version, or train from the base.",
        )
