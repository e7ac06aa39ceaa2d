"""One turn with its artifacts in an object store, each step on a machine that has nothing else."""

import io
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from object_store import client, keys, new_bucket, object_store, other_machine
from published import add_example, published
from sqlmodel import Session
from stored_datasets import order
from tiny_base import QUICK, build_tiny_base, make_rows

import flywheel.worker  # registers every room's jobs
from admin.models import files_of
from curation.erase import Subject, delete_files, erase
from curation.export import load_rows, parquet_of_split
from evaluator.answers import Answer
from evaluator.answers import Subject as Asked
from evaluator.run import evaluate_many
from evaluator.sandbox import Sandbox
from evaluator.suites import Task, add_suite
from foundation import runs
from foundation.artifact_sweep import stored
from foundation.settings import get_settings
from foundation.tables import DONE, now
from serving.engine import Engine
from trainer.garbage import collect
from trainer.registry import get_version, version_folder

pytestmark = pytest.mark.slow
SECRET = "seven and the number of my house"
SHORT = replace(QUICK, epochs=1, eval_steps=100)


@pytest.fixture
def bucket(session: Session, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, str]]:
    """An empty bucket that holds the artifacts; its server's address, and the root."""
    assert flywheel.worker.ROOMS
    with object_store() as address:
        yield address, new_bucket(monkeypatch, address)


def test_a_turn_by_four_machines(
    session: Session, bucket: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = build_tiny_base(tmp_path / "base")
    examples = [
        add_example(
            session,
            row["prompt"][-1]["content"] + (f" {SECRET}" if number == 3 else ""),
            row["completion"][0]["content"],
            split="train" if number < 16 else "validation",
            task_type="count",
        )
        for number, row in enumerate(make_rows(20))
    ]
    session.flush()
    dataset, _ = published(session)
    session.commit()
    assert says(bucket, SECRET)

    other_machine(monkeypatch, tmp_path / "trains")
    training = order(session, dataset, base, SHORT)
    done = runs.execute(training.run_id)
    assert done is not None
    assert done.status == DONE, done.error
    session.expire_all()
    version = get_version(session, done.result["name"])

    other_machine(monkeypatch, tmp_path / "evaluates")
    folder = version_folder(version)
    assert folder.is_relative_to(tmp_path / "evaluates")
    engine = Engine.load(str(base), threads=1, adapters={version.name: folder})

    def answers(prompts: list, seeds: list[int]) -> list[Answer]:
        made = engine.generate(prompts, adapter=version.name, max_new_tokens=4, temperature=0.0)
        return [Answer(one.text) for one in made]

    tasks = [Task("one", [{"role": "user", "content": "add"}], "exact", {"answer": "2"})]
    suite = add_suite(session, "sums", "coder", tasks)
    with Sandbox(workers=1) as sandbox:
        (evaluation,) = evaluate_many(
            session, suite, [Asked(version.name, answers, version.id)], 1, sandbox
        )
    session.commit()
    assert evaluation.model_version_id == version.id

    other_machine(monkeypatch, tmp_path / "looks")
    files, is_missing = files_of(version)
    assert not is_missing
    assert "adapter_model.safetensors" in {file.name for file in files}
    assert parquet_of_split(session, dataset.id, "train", tmp_path / "train.parquet") == 16
    assert len(load_rows(session, dataset.id, "validation")) == 4

    erase(session, Subject("interaction", (str(examples[3].interaction_id),)), actor="ada")
    session.commit()
    assert delete_files(session) >= 1
    session.commit()
    assert not says(bucket, SECRET)
    assert len(load_rows(session, dataset.id, "train")) == 15

    kept = {one.uri for one in stored()}
    (tmp_path / "orphan").mkdir()
    (tmp_path / "orphan" / "x").write_text("nobody's")
    orphan = {f"sha256/{put_orphan(tmp_path / 'orphan')}"}
    assert {one.uri for one in stored()} == kept | orphan
    collect({}, remove=True, moment=now() + timedelta(days=2))
    assert {one.uri for one in stored()} == kept, "what a row names stays, the orphan went"
    assert get_settings().home == tmp_path / "looks"


def put_orphan(folder: Path) -> str:
    from foundation.artifacts import put

    return put(folder).content_hash


def says(bucket: tuple[str, str], words: str) -> list[str]:
    """The objects that hold the words; Parquet is packed, so shards are read."""
    found = []
    address, root = bucket
    with client(address) as others:
        for key in keys(address, root):
            body = others.get_object(Bucket=root.split("/")[2], Key=f"wheel/{key}")["Body"].read()
            if key.endswith(".parquet"):
                body = str(pq.read_table(io.BytesIO(body)).to_pylist()).encode()
            if words.encode() in body:
                found.append(key)
    return found
