"""The training job, and how to order one. No torch until a worker takes the job up."""

from typing import Any
from uuid import UUID

from sqlmodel import Session

from curation.export import get_dataset
from foundation.database import session_scope
from foundation.errors import BadInput
from foundation.ids import new_id
from foundation.runs import RunHandle, enqueue, job
from foundation.settings import get_settings
from trainer.recipe import Recipe
from trainer.registry import get_version, require_role
from trainer.tables import TrainingRun

TRAIN_JOB = "trainer.train"


@job(TRAIN_JOB, queue="gpu")
def train_model(run: RunHandle, training_run_id: str, is_control: bool = False) -> dict[str, Any]:
    """Do one training; resumes from its checkpoints when it was started before."""
    from trainer.run import train

    version_id = train(run, UUID(training_run_id), is_control=is_control)
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
    dataset_id: UUID,
    base_model: str | None,
    recipe: Recipe,
    *,
    is_control: bool = False,
) -> TrainingRun:
    """Order a training: its row and its queued run; the message leaves with the commit.

    Args:
        session: of the surrounding transaction.
        role: whose model; the dataset must be of the same role.
        dataset_id: a stored version with training rows.
        base_model: folder or hub name; None for FLYWHEEL_BASE_MODEL.
        recipe: all knobs.
        is_control: the version will be marked as never to be served.

    Raises:
        BadInput: unknown role, no base model, a dataset of another role or without rows.
        NotFound: no such dataset.
    """
    require_role(role)
    base_model = base_model or get_settings().base_model
    if not base_model:
        raise BadInput(
            "base model",
            base_model,
            "a folder or hub name",
            "Name one, or set FLYWHEEL_BASE_MODEL.",
        )
    _require_dataset(session, role, dataset_id)
    training_id = new_id()
    run = enqueue(
        session,
        TRAIN_JOB,
        {"training_run_id": str(training_id), "is_control": is_control},
        role=role,
    )
    training = TrainingRun(
        id=training_id,
        run_id=run.id,
        role=role,
        dataset_id=dataset_id,
        base_model=base_model,
        method=recipe.method,
        recipe=recipe.to_dict(),
        seed=recipe.seed,
    )
    session.add(training)
    session.flush()
    return training


def _require_dataset(session: Session, role: str, dataset_id: UUID) -> None:
    dataset = get_dataset(session, dataset_id)
    if dataset.role != role or dataset.kind != "sft":
        raise BadInput(
            "dataset",
            f"{dataset.kind} dataset of {dataset.role}",
            f"an sft dataset of {role}",
            "Name another dataset or role.",
        )
    if dataset.n_train == 0:
        raise BadInput(
            "dataset", "no training rows", "at least one", "Collect more, then curate again."
        )
