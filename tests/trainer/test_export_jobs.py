"""Exports, merges and combinations from order to what is published, on a real database."""

import asyncio
import json
import shutil
from dataclasses import replace

import fitting
import httpx
import pytest
from fastapi import FastAPI
from sqlmodel import select
from stored_datasets import add_dataset
from stored_versions import add_adapter
from tiny_base import QUICK, make_rows
from typer.testing import CliRunner

from foundation import artifacts, runs
from foundation.errors import BadInput, Conflict, NotFound
from foundation.settings import get_settings
from foundation.tables import DONE, FAILED
from trainer import rewards
from trainer.export import api, combine, gguf_formats, tasks, workplace
from trainer.export.tasks import (
    find_export,
    list_exports,
    start_combine,
    start_export,
    start_merge,
    write_out,
)
from trainer.registry import ensure_base_version, get_version, list_versions, version_folder
from trainer.rewards import TaskRows
from trainer.tables import ModelExport

ROWS = make_rows(16)


@pytest.fixture
def dataset(session, tmp_path):
    return add_dataset(session, tmp_path / "dataset", ROWS[:12], ROWS[12:])


@pytest.fixture(scope="module")
def trained(tiny_base, tmp_path_factory):
    """The folders of two adapters of four steps."""
    recipe = replace(QUICK, max_steps=4, eval_steps=4)
    return [
        fitting.train(
            tiny_base, tmp_path_factory.mktemp("adapter"), replace(recipe, seed=seed), ROWS
        ).folder
        for seed in (0, 1)
    ]


@pytest.fixture
def adapter(session, dataset, tiny_base, trained):
    return add_adapter(session, dataset, tiny_base, trained[0])


@pytest.fixture
def other(session, dataset, tiny_base, trained, adapter):
    return add_adapter(session, dataset, tiny_base, trained[1])


def done(session, order):
    session.commit()
    finished = runs.execute(order.id)
    session.expire_all()
    return finished


def left_of_work():
    root = get_settings().home / "work"
    return [path for kind in root.glob("*") for path in kind.iterdir()]


def test_what_passes_is_published_with_its_verdict_and_once(session, adapter, tmp_path):
    run = done(session, start_export(session, adapter, "gguf-q8_0"))
    assert run.status == DONE, run.error
    (export,) = list_exports(session)
    assert export.parity["n_prompts"] == 16, "compared by what it learned from"
    assert export.parity["reasons"] == []
    assert (
        export.size_bytes
        == artifacts.fetch(export.artifact_uri).joinpath("model.gguf").stat().st_size
    )
    again = done(session, start_export(session, adapter, "gguf-q8_0"))
    assert again.result == run.result
    assert [one.run_id for one in list_exports(session)] == [run.id], "not made twice"
    assert left_of_work() == []
    folder = write_out(find_export(session, adapter, "gguf-q8_0"), tmp_path / "out")
    assert [path.name for path in folder.iterdir()] == ["model.gguf"]


def test_a_damaged_export_is_not_published(session, adapter, monkeypatch):
    """Damaged between its writing and its check; whole again, it is published."""
    write = gguf_formats.write

    def damaged(original, folder, variant):
        write(original, folder, variant)
        path = folder / "model.gguf"
        raw = bytearray(path.read_bytes())
        first = len(raw) * 7 // 10
        raw[first : first + 500] = bytes(byte ^ 0x55 for byte in raw[first : first + 500])
        path.write_bytes(raw)

    stored = artifacts_stored()
    monkeypatch.setattr(gguf_formats, "write", damaged)
    order = start_export(session, adapter, "gguf-f32")
    failed = done(session, order)
    assert failed.status == FAILED
    assert "Nothing was published" in failed.error
    assert session.exec(select(ModelExport)).all() == []
    assert artifacts_stored() == stored
    assert left_of_work() == []
    monkeypatch.setattr(gguf_formats, "write", write)
    runs.retry(session, order.id)
    assert done(session, order).status == DONE
    assert find_export(session, adapter, "gguf-f32").parity["logit_error"] < 1e-5


def artifacts_stored():
    root = get_settings().home
    return sorted(path.name for path in root.rglob("*") if path.is_file())


@pytest.fixture
def suite(monkeypatch):
    """Sign up graders that give the answers of the original 1, and those of its copy `worth`."""

    def grade(worth):
        first = []

        def reward(rows, answers):
            first.append(None)
            return [1.0 if len(first) == 1 else worth] * len(answers)

        rows = [{"prompt": row["prompt"], "task_id": row["example_id"]} for row in ROWS[:4]]
        monkeypatch.setattr(
            rewards,
            "_signed_up",
            [(lambda name: Opened(TaskRows(rows, [], reward)), lambda session, name: None)],
        )

    return grade


class Opened:
    def __init__(self, tasks):
        self.tasks = tasks

    def __enter__(self):
        return self.tasks

    def __exit__(self, *_):
        return None


def test_what_loses_too_many_tasks_is_published_no_longer(session, adapter, suite):
    assert done(session, start_export(session, adapter, "gguf-f16")).status == DONE
    suite(worth=1.0)
    compared = done(session, start_export(session, adapter, "gguf-f16", "doubles"))
    assert compared.result["parity"]["measures"]["pass_rate"] == 1
    assert len(list_exports(session)) == 1
    same = done(session, start_export(session, adapter, "gguf-f16", "doubles"))
    assert same.result == compared.result, "the same suite is not asked twice"
    suite(worth=0.5)
    lost = done(session, start_export(session, adapter, "gguf-f16", "others"))
    assert lost.status == FAILED
    assert "pass rate 50.0%, was 100.0%" in lost.error
    assert list_exports(session) == []


def test_a_full_disk_ends_it_with_nothing_left(session, adapter, monkeypatch):
    free = shutil.disk_usage("/")
    monkeypatch.setattr(
        workplace.shutil, "disk_usage", lambda _: type(free)(free.total, free.total, 1024)
    )
    run = done(session, start_export(session, adapter, "hf"))
    assert run.status == FAILED
    assert "Make room" in run.error
    assert left_of_work() == []
    assert list_exports(session) == []


def test_a_merge_is_a_version_and_is_exported_whole(session, adapter):
    run = done(session, start_merge(session, adapter))
    assert run.status == DONE, run.error
    merged = get_version(session, run.result["name"])
    assert (merged.kind, merged.parent_id, merged.name) == ("merged", adapter.id, "coder-v2-merged")
    assert merged.made_by["parity"]["agreement"] == 1
    assert done(session, start_merge(session, adapter)).result["name"] == merged.name
    assert done(session, start_export(session, merged, "vllm")).status == DONE
    with pytest.raises(BadInput, match="expected one of adapter"):
        start_export(session, merged, "hf-lora")
    with pytest.raises(BadInput, match="an adapter"):
        start_merge(session, merged)


def test_a_combination_is_a_version_that_is_read_again(session, adapter, other):
    run = done(session, start_combine(session, [adapter, other], [0.5, 0.5], "cat", "tester"))
    assert run.status == DONE, run.error
    made = get_version(session, run.result["name"])
    assert (made.role, made.kind, made.parent_id) == ("tester", "adapter", adapter.id)
    assert made.made_by["of"] == ["coder-v1", "coder-v2"]
    assert made.made_by["errors"].keys() == {"cat", "svd", "linear", "ties", "dare"}
    parts = combine.read_parts([version_folder(one) for one in (made, adapter, other)])
    wanted = combine.combine(parts[1:], [0.5, 0.5]).factors
    assert combine.relative_error(parts[0], wanted) < 1e-6


def test_a_combination_written_wrongly_is_no_version(session, adapter, other, monkeypatch):
    import trainer.export.run as run_file

    write = combine.write_combination

    def half(made, like, folder):
        halved = {name: (a, b / 2) for name, (a, b) in made.factors.items()}
        write(replace(made, factors=halved), like, folder)

    monkeypatch.setattr(run_file, "write_combination", half)
    failed = done(session, start_combine(session, [adapter, other], [1.0, 1.0], "svd", "coder"))
    assert failed.status == FAILED
    assert "its files are off by 0.5" in failed.error
    assert len(list_versions(session)) == 2


def test_what_cannot_be_ordered(session, adapter, tiny_base, tmp_path):
    base = ensure_base_version(session, "coder", str(tiny_base))
    with pytest.raises(BadInput, match="gguf-q2"):
        start_export(session, adapter, "gguf-q2")
    with pytest.raises(BadInput, match="hf-lora"):
        start_export(session, base, "hf-lora")
    with pytest.raises(BadInput, match="two or more"):
        start_combine(session, [adapter], [1.0], "cat", "coder")
    with pytest.raises(NotFound, match="flywheel model export coder-v1 --format onnx"):
        find_export(session, adapter, "onnx")
    foreign = adapter.model_copy(update={"base_model": "another/base"})
    for ask in (
        lambda: tasks.combine_errors([adapter, foreign], [0.5, 0.5]),
        lambda: start_combine(session, [adapter, foreign], [0.5, 0.5], "cat", "coder"),
    ):
        with pytest.raises(Conflict, match="one base under all"):
            ask()
    adapter.files_removed_at = adapter.created_at
    with pytest.raises(Conflict, match="still has its files"):
        start_export(session, adapter, "hf")


def test_the_commands(session, adapter, database, tmp_path):
    from flywheel.cli import app

    def say(*words, code=0):
        said = CliRunner().invoke(app, ["model", *words])
        assert said.exit_code == code, said.output
        return said.output

    to = tmp_path / "copy"
    made = json.loads(say("export", "coder-v1", "--format", "hf-lora", "--to", str(to), "--json"))
    assert made["folder"] == str(to)
    assert (to / "adapter_model.safetensors").exists()
    assert "hf-lora" in say("exports", "coder-v1")
    assert json.loads(say("exports", "--json"))[0]["format"] == "hf-lora"
    assert "gguf-lora-q8_0" in say("formats")
    assert json.loads(say("merge", "coder-v1", "--json"))["name"] == "coder-v2-merged"
    table = json.loads(
        say("combine", "coder-v1=1", "coder-v1=-0.5", "--role", "coder", "--dry-run", "--json")
    )
    assert table["cat"]["error"] < 1e-6


def test_where_the_files_cannot_go_is_said_before_the_work(session, adapter, database, tmp_path):
    from flywheel.cli import app

    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("")
    for words, said in (
        (["--to", str(tmp_path / "full")], "a new one, or an empty one"),
        (["--to", str(tmp_path / "new"), "--queue"], "no --queue"),
    ):
        answer = CliRunner().invoke(app, ["model", "export", "coder-v1", *words])
        assert answer.exit_code != 0
        assert said in str(answer.exception)
    assert list_exports(session) == []


def test_the_http_door(session, adapter, database):
    app = FastAPI()
    app.include_router(api.routes)
    path = "/model-versions/coder-v1"

    async def visit() -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://door/v1") as client:
            formats = (await client.get("/export-formats")).json()
            assert formats["hf-lora"]["kinds"] == ["adapter"]
            ordered = await client.post(f"{path}/exports", json={"format": "hf-lora"})
            assert ordered.status_code == 202
            assert runs.execute(ordered.json()["id"]).status == DONE
            (export,) = (await client.get(f"{path}/exports")).json()
            assert export["format"] == "hf-lora"
            merge = await client.post(f"{path}/merge")
            assert merge.json()["status"] == "queued"
            weights = {"weights": {"coder-v1": 1.0}, "role": "coder"}
            with pytest.raises(BadInput, match="two or more"):
                await client.post("/model-versions/combine", json=weights)

    asyncio.run(visit())
