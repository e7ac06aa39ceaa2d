"""The job of a joint training, and how to order one. No torch until a worker takes the job up."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlmodel import Session

from foundation.database import session_scope
from foundation.errors import BadInput
from foundation.ids import new_id
from foundation.runs import RunHandle, enqueue, job
from foundation.tables import Run
from trainer.recipe import Recipe
from trainer.registry import get_version
from trainer.tables import TrainingRun
from trainer.tasks import require_trainable

JOINT_JOB = "trainer.train_joint"


@dataclass(frozen=True)
class JointOrder:
    """What one role brings to a joint training.

    Attributes:
        role: whose adapter.
        dataset_id: a stored sft dataset of that role.
        recipe: of sft-lora; rank, layers, rate, batch and patience may differ from role to role.
    """

    role: str
    dataset_id: UUID | None
    recipe: Recipe


@job(JOINT_JOB, queue="gpu")
def train_jointly(run: RunHandle, training_run_ids: list[str]) -> dict[str, Any]:
    """Do several trainings over one base; resumes from their checkpoints."""
    from trainer.joint.run import train_joint

    made = train_joint(run, [UUID(one) for one in training_run_ids])
    with session_scope() as session:
        versions = [get_version(session, one) for one in made]
        return {
            "model_version_ids": [str(version.id) for version in versions],
            "names": [version.name for version in versions],
            "metrics": {version.role: version.metrics for version in versions},
        }


def start_joint(
    session: Session,
    orders: Sequence[JointOrder],
    base_model: str | None = None,
    *,
    ordered_by: str = "person",
) -> Run:
    """Order trainings that run together: one run, and a row for each role.

    Args:
        session: of the surrounding transaction.
        orders: of at least two roles.
        base_model: folder or hub name, the same for all; None: as `start_training`.
        ordered_by: person, turn, schedule, search, or the trigger that fired.

    Raises:
        BadInput: a role twice, fewer than two, or what `start_training` refuses.
        NotFound: no such dataset.
    """
    roles = [order.role for order in orders]
    if len(set(roles)) != len(roles) or len(roles) < 2:
        raise BadInput("roles", roles, "two or more, each once", "Name other roles.")
    bases = [
        require_trainable(session, order.role, order.dataset_id, base_model, order.recipe)
        for order in orders
    ]
    ids = [new_id() for _ in orders]
    run = enqueue(session, JOINT_JOB, {"training_run_ids": [str(one) for one in ids]})
    for training_id, order, base in zip(ids, orders, bases, strict=True):
        session.add(
            TrainingRun(
                id=training_id,
                run_id=run.id,
                role=order.role,
                dataset_id=order.dataset_id,
                base_model=base,
                method=order.recipe.method,
                ordered_by=ordered_by,
                recipe=order.recipe.to_dict(),
                seed=order.recipe.seed,
            )
        )
    session.flush()
    return run
