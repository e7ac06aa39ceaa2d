"""A training from its order to its version, on a real database, its worker killed or not."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from sqlmodel import select
from stored_datasets import add_dataset, order
from tiny_base import QUICK, make_rows

import trainer.api
from foundation import runs
from foundation.errors import BadInput, FlywheelError, NotFound
from foundation.ids import new_id
from foundation.settings import get_settings
from foundation.tables import CANCELLED, DONE, FAILED
from trainer.fit import weights_sha256
from trainer.hardware import probe
from trainer.registry import ensure_base_version, get_version, list_versions, version_folder
from trainer.tables import PRODUCTION, TrainingRun
from trainer.tasks import start_training


@pytest.fixture
def dataset(session, tmp_path):
    rows = make_rows(64)
    return add_dataset(session, tmp_path / "dataset", rows[:48], rows[48:])


@pytest.mark.slow
def test_from_order_to_version(session, dataset, tiny_base):
    training = order(session, dataset, tiny_base)
    done = runs.execute(training.run_id)
    assert done.status == DONE, done.error
    assert done.progress["done"] == done.progress["total"] == 24
    session.expire_all()
    version = get_version(session, done.result["name"])
    assert version.name == "coder-v1"
    assert version.stage == "candidate"
    assert version.training_run_id == training.id
    assert version.dataset_id == dataset.id
    assert version.metrics["rows"] == 48
    training = session.get(TrainingRun, training.id)
    assert training.metrics["steps"] == 24
    assert training.history[0]["step"] == 1
    manifest = training.manifest
    assert manifest["dataset_hash"] == dataset.content_hash
    assert manifest["recipe_hash"] == QUICK.content_hash
    assert manifest["adapter_sha256"] == weights_sha256(version_folder(version))
    assert manifest["attempts"] == 1
    assert manifest["cpu_s"] > 0
    assert manifest["libraries"]["trl"]
    assert not (get_settings().home / "work" / "training" / str(training.id)).exists()


@pytest.mark.slow
def test_a_message_delivered_twice_makes_one_version(session, dataset, tiny_base):
    from trainer.run import train

    training = order(session, dataset, tiny_base, replace(QUICK, epochs=1), is_control=True)
    done = runs.execute(training.run_id)
    assert runs.execute(training.run_id) is None
    handle = runs.RunHandle(done, "another")
    assert str(train(handle, training.id)) == done.result["model_version_id"]
    assert get_version(session, done.result["name"]).is_control


@pytest.mark.slow
def test_a_cancelled_training_stops_and_registers_nothing(session, dataset, tiny_base, monkeypatch):
    training = order(session, dataset, tiny_base)
    honest = runs.RunHandle.progress

    def cancel_then_report(self, done, total, unit, **measures):
        runs.cancel(session, training.run_id)
        session.commit()
        honest(self, done, total, unit, **measures)

    monkeypatch.setattr(runs.RunHandle, "progress", cancel_then_report)
    assert runs.execute(training.run_id) is None
    session.expire_all()
    assert runs.get_run(session, training.run_id).status == CANCELLED
    assert list_versions(session) == []


def test_a_failed_training_names_its_reason(session, dataset, tmp_path):
    training = order(session, dataset, tmp_path / "no-base")
    done = runs.execute(training.run_id)
    assert done.status == FAILED
    assert "no-base" in done.error
    assert "Traceback" not in done.error
    assert list_versions(session) == []


def without_template(base):
    (base / "chat_template.jinja").unlink()


def with_more_words(base):
    file = base / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    last = tokenizer["added_tokens"][-1]
    tokenizer["added_tokens"].append({**last, "id": 4_000, "content": "<|tool|>"})
    file.write_text(json.dumps(tokenizer))


def with_own_code(base):
    file = base / "config.json"
    own = {"model_type": "own", "auto_map": {"AutoConfig": "own.Own"}}
    file.write_text(json.dumps(json.loads(file.read_text()) | own))
    (base / "own.py").write_text("raise SystemExit('this was run')")


def with_half_its_weights(base):
    file = base / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])


@pytest.mark.parametrize(
    ("change", "break_it", "reason"),
    [
        ({"max_length": 8}, None, "48 left out: too long"),
        ({"target_modules": ("q_proj", "nope")}, None, "linear layers of the base: down_proj"),
        ({}, without_template, "expected a chat template"),
        ({}, with_more_words, "ids below "),
        ({}, with_own_code, "FLYWHEEL_TRUSTED_BASES"),
        ({}, with_half_its_weights, "expected a readable model folder"),
    ],
    ids=["too long", "target", "template", "tokenizer", "own code", "half"],
)
def test_bad_input_fails_with_its_reason_and_leaves_nothing(
    session, dataset, tiny_base, tmp_path, change, break_it, reason
):
    base = Path(shutil.copytree(tiny_base, tmp_path / "a-base"))
    if break_it is not None:
        break_it(base)
    stored = sorted((get_settings().home / "artifacts").rglob("*"))
    training = order(session, dataset, base, replace(QUICK, **change))
    done = runs.execute(training.run_id)
    assert done.status == FAILED
    assert reason in done.error
    assert "Traceback" not in done.error
    assert list_versions(session) == []
    assert sorted((get_settings().home / "artifacts").rglob("*")) == stored
    session.expire_all()
    training = session.get(TrainingRun, training.id)
    assert (training.metrics, training.history, training.manifest) == ({}, [], {})


def test_what_cannot_be_ordered(session, dataset, tmp_path):
    with pytest.raises(BadInput, match="plumber"):
        start_training(session, "plumber", dataset.id, "/base", QUICK)
    with pytest.raises(BadInput, match="an sft dataset of tester"):
        start_training(session, "tester", dataset.id, "/base", QUICK)
    with pytest.raises(BadInput, match="flywheel model add coder FOLDER"):
        start_training(session, "coder", dataset.id, None, QUICK)
    with pytest.raises(NotFound, match="dataset"):
        start_training(session, "coder", new_id(), "/base", QUICK)
    empty = add_dataset(session, tmp_path / "empty", [])
    with pytest.raises(BadInput, match="no training rows"):
        start_training(session, "coder", empty.id, "/base", QUICK)
    assert session.exec(select(TrainingRun)).all() == []


def test_no_base_named_is_the_one_that_the_role_uses(session, dataset, monkeypatch):
    ensure_base_version(session, "tester", "/of-another-role")
    ensure_base_version(session, "coder", "gpt", kind="external").stage = PRODUCTION
    serving = ensure_base_version(session, "coder", "/serving")
    ensure_base_version(session, "coder", "/newest")
    assert start_training(session, "coder", dataset.id, None, QUICK).base_model == "/newest"
    serving.stage = PRODUCTION
    assert start_training(session, "coder", dataset.id, None, QUICK).base_model == "/serving"
    monkeypatch.setattr(get_settings(), "base_model", "/set")
    assert start_training(session, "coder", dataset.id, None, QUICK).base_model == "/set"
    assert start_training(session, "coder", dataset.id, "/base", QUICK).base_model == "/base"


def test_the_http_door(session, dataset, database):
    session.commit()
    app = FastAPI()
    app.include_router(trainer.api.routes)
    order = {"role": "coder", "dataset_id": str(dataset.id), "base_model": "/base"}

    async def visit() -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://door/v1") as client:
            answer = await client.post("/trainings", json={**order, "recipe": {"preset": "demo"}})
            assert answer.status_code == 202
            made = answer.json()
            assert made["recipe"]["lr"] == 3e-3
            listed = (await client.get("/trainings?role=coder")).json()
            assert [row["id"] for row in listed] == [made["id"]]
            read = (await client.get(f"/trainings/{made['id']}")).json()
            assert read["run"]["status"] == "queued"
            assert set((await client.get("/recipes")).json()) == {"plan", "hafs", "default", "demo"}
            assert (await client.get("/model-versions")).json() == []
            with pytest.raises(FlywheelError, match="coder-v7"):
                await client.get("/model-versions/coder-v7")
            with pytest.raises(FlywheelError, match=r"recipe\.lr"):
                await client.post("/trainings", json={**order, "recipe": {"lr": 7}})
            misspelt = await client.post("/trainings", json={**order, "base": "/other"})
            assert misspelt.status_code == 422

    asyncio.run(visit())


def test_the_machine_is_probed_without_torch():
    script = (
        "import sys; from trainer.hardware import probe; print(probe(), 'torch' in sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert found.stdout.strip().endswith("False"), found.stderr
    assert probe().memory_gb > 0.1
    assert probe().cpu_cores >= 1


def test_the_web_process_does_not_load_torch():
    script = "import sys, trainer.api, trainer.plan; print('torch' in sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert found.stdout.strip() == "False", found.stderr
