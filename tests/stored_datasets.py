"""Datasets as curation stores them, from rows of a test, and trainings on them."""

from uuid import UUID

from tiny_base import QUICK

from curation.publish.rows import make_row
from curation.publish.shards import FILE, write_shard
from curation.tables import Dataset, DatasetShard
from foundation import artifacts
from foundation.ids import new_id
from trainer.tables import TrainingRun
from trainer.tasks import start_training


def add_dataset(session, folder, rows, validation=(), role="coder") -> Dataset:
    """Write rows as curation does, in the order given."""
    dataset = Dataset(
        role=role,
        number=new_id().int % 10**6,
        content_hash="",
        n_train=len(rows),
        n_validation=len(validation),
    )
    session.add(dataset)
    session.flush()
    for split, examples in (("train", rows), ("validation", validation)):
        if not examples:
            continue
        (folder / split).mkdir(parents=True)
        write_shard(folder / split / FILE, [_row(i, row) for i, row in enumerate(examples)])
        artifact = artifacts.put(folder / split)
        dataset.content_hash += artifact.content_hash
        session.add(
            DatasetShard(
                dataset_id=dataset.id,
                split=split,
                position=0,
                shard=artifact.content_hash,
                n_rows=len(examples),
                uri=artifact.uri,
            )
        )
    session.flush()
    return dataset


def _row(index, row) -> dict:
    return make_row(
        {
            "id": UUID(int=index),
            "interaction_id": UUID(int=index),
            "task_type": row["task_type"],
            "prompt": row["prompt"],
            "answer": row["completion"][0]["content"],
            "score": 1.0,
        }
    )


def order(session, dataset, base, recipe=QUICK, **options) -> TrainingRun:
    training = start_training(session, "coder", dataset.id, str(base), recipe, **options)
    session.commit()
    return training
