"""A version as rows and as a folder, read back by what others read it with."""

import json
from pathlib import Path

import pytest
from published import add_example, add_pair, published

from curation.export import get_dataset, load_rows, read, write_export
from curation.tables import Dataset, DatasetShard
from evaluator.suites.jsonl import read_tasks
from foundation.artifacts import put
from foundation.chat import message
from foundation.errors import BadInput, NotFound
from foundation.ids import new_id


@pytest.fixture
def dataset(session) -> Dataset:
    for split, n in (("train", 5), ("validation", 2)):
        for i in range(n):
            add_example(session, f"{split} {i}", f"answer {i}", split=split, task_type="count")
    session.flush()
    return published(session)[0]


def loaded(folder: Path, cache: Path):
    """The folder as `datasets` reads it, told nothing more."""
    from datasets import disable_progress_bars, load_dataset

    disable_progress_bars()
    return load_dataset(str(folder), cache_dir=str(cache))


@pytest.mark.parametrize("format", ["parquet", "chat", "prompt_completion", "alpaca"])
def test_a_folder_is_read_by_load_dataset(session, dataset, tmp_path, format):
    counts = write_export(session, dataset.id, tmp_path / "out", format)
    assert counts == {"train": 5, "validation": 2, "test": 0}
    found = loaded(tmp_path / "out", tmp_path / "cache")
    assert {split: len(rows) for split, rows in found.items()} == {"train": 5, "validation": 2}
    row = found["train"][0]
    if format == "parquet":
        assert row["prompt"] == [message("user", "train 0")]
        assert row["completion"] == [message("assistant", "answer 0")]
        assert row["task_type"] == "count"
    if format == "chat":
        assert [m["content"] for m in row["messages"]] == ["train 0", "answer 0"]


@pytest.mark.parametrize("format", ["dpo", "kto", "parquet"])
def test_a_folder_of_pairs_is_read_by_load_dataset(session, tmp_path, format):
    add_pair(session, "sort", "sorted(x)", "x")
    dataset, _ = published(session, kind="preference")
    write_export(session, dataset.id, tmp_path / "out", format)
    found = loaded(tmp_path / "out", tmp_path / "cache")
    columns = {
        "dpo": {"prompt", "chosen", "rejected"},
        "kto": {"prompt", "completion", "label"},
        "parquet": {"prompt", "chosen", "rejected", "basis", "margin"} - {"margin"},
    }[format]
    assert columns <= set(found["train"].column_names)


@pytest.mark.parametrize("format", ["argilla", "label_studio"])
def test_labelling_tools_get_one_array_and_their_settings(session, dataset, tmp_path, format):
    write_export(session, dataset.id, tmp_path / "out", format)
    records = json.loads((tmp_path / "out" / "train.json").read_text())
    assert len(records) == 5
    assert json.loads((tmp_path / "out" / "test.json").read_text()) == []


def test_a_set_of_tasks_is_a_suite(session, tmp_path):
    add_example(session, "What is 2 + 2?", "4", split="test", scores={"outcome": True})
    session.flush()
    dataset, _ = published(session, kind="eval")
    write_export(session, dataset.id, tmp_path / "out", "tasks")
    (task,) = read_tasks(tmp_path / "out" / "test.jsonl")
    assert (task.grader, task.reference["answer"]) == ("exact", "4")


def test_the_same_version_gives_the_same_bytes(session, dataset, tmp_path):
    for name in ("one", "two"):
        write_export(session, dataset.id, tmp_path / name)
    one, two = (
        {p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("one", "two")
    )
    assert one == two
    assert {"card.json", "card.html", "README.md", "train-00000-of-00001.parquet"} <= one.keys()


def test_a_folder_with_something_in_it_is_left_alone(session, dataset, tmp_path):
    (tmp_path / "mine").write_text("keep")
    with pytest.raises(BadInput, match="folder"):
        write_export(session, dataset.id, tmp_path)
    with pytest.raises(BadInput, match="format"):
        write_export(session, dataset.id, tmp_path / "out", "dpo")
    assert [path.name for path in tmp_path.iterdir() if path.name != "home"] == ["mine"]


def test_nothing_half_written_is_left(session, dataset, tmp_path):
    shard = session.get(DatasetShard, (dataset.id, "validation", 0))
    shard.uri = "sha256/gone"
    session.flush()
    with pytest.raises(NotFound, match="artifact"):
        write_export(session, dataset.id, tmp_path / "out" / "chat", "chat")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_version_written_before_there_were_shards_is_read(session, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path / "v1"
    folder.mkdir()
    plain = [message("user", "hello")]
    row = {
        "example_id": str(new_id()),
        "interaction_id": str(new_id()),
        "task_type": None,
        "prompt": plain,
        "completion": [message("assistant", "hi")],
        "prompt_json": json.dumps([{"role": "user", "content": [{"type": "text"}]}]),
        "score": 1.0,
        "corrected": False,
        "split_key": "k",
    }
    pq.write_table(pa.Table.from_pylist([row]), folder / "train.parquet")
    dataset = Dataset(role="coder", number=1, content_hash="x", n_train=1)
    session.add(dataset)
    session.flush()
    session.add(
        DatasetShard(
            dataset_id=dataset.id,
            split="train",
            position=0,
            shard=f"v1-{dataset.id}-train",
            n_rows=1,
            uri=put(folder).uri,
            file="train.parquet",
        )
    )
    session.flush()
    (found,) = load_rows(session, dataset.id, "train")
    assert found["prompt"] == [{"role": "user", "content": [{"type": "text"}]}]
    (whole,) = read(session, dataset.id, "train")
    assert len(whole["row_hash"]) == 64
    assert write_export(session, dataset.id, tmp_path / "out", "chat")["train"] == 1


def test_what_is_not_there_is_named(session, dataset):
    with pytest.raises(NotFound, match="dataset"):
        get_dataset(session, new_id())
    with pytest.raises(BadInput, match="split"):
        load_rows(session, dataset.id, "training")
