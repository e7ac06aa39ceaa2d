"""One joint training, from its rows to a ModelVersion of each role."""

import shutil
from collections.abc import Sequence
from uuid import UUID

from foundation.runs import RunHandle
from trainer.joint.fit import fit_joint
from trainer.run import read_order, register, said_at_the_end, version_made, work_folder


def train_joint(run: RunHandle, training_run_ids: Sequence[UUID]) -> list[UUID]:
    """Do the trainings of stored rows together and return the ids of the versions they made.

    A worker that takes it up again goes on from the last checkpoint, and registers only what is
    not registered yet.

    Raises:
        NotFound: a training, its dataset or the base model.
        BadInput: trainings that cannot be done together.
        RunCancelled: the run is no longer this worker's.
    """
    folder = work_folder(run.id)
    made = [version_made(one) for one in training_run_ids]
    if not all(made):
        orders = [read_order(one, folder, run) for one in training_run_ids]
        names = [order.training.role for order in orders]
        verb = "going on with" if folder.exists() else "learning together for"
        run.lines.say("INFO", f"{verb} {', '.join(names)}")
        trained = fit_joint([order.lesson for order in orders], folder, run.progress, names=names)
        for order, one in zip(orders, trained, strict=True):
            register(order, one, run.attempts, is_control=False)
            run.lines.say("INFO", f"{order.training.role}: {said_at_the_end(one)}")
        made = [version_made(one) for one in training_run_ids]
    shutil.rmtree(folder, ignore_errors=True)
    return [one for one in made if one is not None]
