"""Versions as a worker registers them: an adapter with its files, dataset and training."""

from foundation import artifacts
from foundation.ids import new_id
from foundation.tables import Run
from trainer.registry import register_adapter
from trainer.tables import ModelVersion, TrainingRun


def add_adapter(session, dataset, base, folder) -> ModelVersion:
    """Register the adapter of a folder as trained on a dataset."""
    run = Run(kind="trainer.train")
    session.add(run)
    session.flush()
    training = TrainingRun(
        id=new_id(),
        run_id=run.id,
        role=dataset.role,
        dataset_id=dataset.id,
        base_model=str(base),
        method="sft-lora",
    )
    session.add(training)
    session.flush()
    version = register_adapter(session, training, artifacts.put(folder), {})
    session.commit()
    return version
