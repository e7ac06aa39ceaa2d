"""Smaller versions from order to registry row, on a real database."""

from dataclasses import replace

import fitting
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from stored_datasets import add_dataset
from stored_versions import add_adapter
from tiny_base import QUICK, make_rows
from typer.testing import CliRunner

import trainer.compress.tasks as compress
from flywheel.app import answer_error
from foundation import runs
from foundation.errors import BadInput, FlywheelError
from foundation.settings import get_settings
from foundation.tables import DONE, FAILED
from trainer.base import load_model
from trainer.compress import api, quantize
from trainer.export.parity import Tolerance
from trainer.registry import ensure_base_version, get_version, list_versions, version_folder

ROWS = make_rows(24)


@pytest.fixture
def dataset(session, tmp_path):
    return add_dataset(session, tmp_path / "dataset", ROWS[:16], ROWS[16:])


@pytest.fixture(scope="module")
def trained(tiny_base, tmp_path_factory):
    """The folder of an adapter of four steps."""
    recipe = replace(QUICK, max_steps=4, eval_steps=4)
    return fitting.train(tiny_base, tmp_path_factory.mktemp("adapter"), recipe, ROWS).folder


@pytest.fixture
def adapter(session, dataset, tiny_base, trained):
    return add_adapter(session, dataset, tiny_base, trained)


def test_an_adapter_is_merged_quantised_and_registered(session, adapter):
    order = compress.start_quantize(session, adapter, "int8")
    session.commit()
    done = runs.execute(order.id)
    assert done.status == DONE, done.error
    made = get_version(session, done.result["name"])
    assert (made.name, made.kind, made.parent_id) == ("coder-v2-int8", "quantized", adapter.id)
    assert made.made_by == {"of": ["coder-v1"], "way": "int8"}
    assert made.dataset_id == adapter.dataset_id
    assert made.metrics["size_ratio"] > 1
    assert made.metrics["parity"]["n_prompts"] == 16, "compared by what it learned from"
    assert load_model(str(version_folder(made))).config.quantization_config is not None
    with pytest.raises(BadInput, match="quantized"):
        compress.start_quantize(session, made, "int8")


def test_what_lost_too_much_is_no_version_and_leaves_nothing(session, adapter, monkeypatch):
    monkeypatch.setitem(quantize.TOLERANCES, "int8", Tolerance(1e-6, 1.0))
    order = compress.start_quantize(session, adapter, "int8")
    session.commit()
    done = runs.execute(order.id)
    assert done.status == FAILED
    assert "logits are off" in done.error
    assert [version.name for version in list_versions(session)] == ["coder-v1"]
    assert list((get_settings().home / "work" / "compress").iterdir()) == []


@pytest.mark.slow
def test_a_pruned_version_recovers_on_the_rows_it_was_pruned_by(session, adapter):
    heal = replace(QUICK, method="sft-full", lr=2e-3, max_steps=6, eval_steps=6)
    order = compress.start_prune(session, adapter, 0.5, what="neurons", recover=heal)
    session.commit()
    done = runs.execute(order.id)
    assert done.status == DONE, done.error
    made = get_version(session, done.result["name"])
    assert (made.name, made.kind) == ("coder-v2-pruned", "pruned")
    assert made.made_by["share"] == 0.5
    assert made.metrics["recovered"]["last_loss"] < made.metrics["recovered"]["first_loss"]
    assert load_model(str(version_folder(made))).config.intermediate_size == 32
    again = compress.start_quantize(session, made, "fp8")
    session.commit()
    assert runs.execute(again.id).result["name"] == "coder-v3-fp8"


def test_what_cannot_be_ordered(session, adapter, tiny_base, tmp_path):
    base = ensure_base_version(session, "coder", str(tiny_base))
    with pytest.raises(BadInput, match="an sft dataset"):
        compress.start_prune(session, base, 0.5, what="heads")
    with pytest.raises(BadInput, match="sft-full"):
        compress.start_prune(session, adapter, 0.5, what="heads", recover=QUICK)
    with pytest.raises(BadInput, match="int3"):
        compress.start_quantize(session, adapter, "int3")
    other = ensure_base_version(session, "coder", "gpt-x", kind="external")
    with pytest.raises(BadInput, match="external"):
        compress.start_quantize(session, other, "int8")


def test_the_commands(session, adapter, database):
    from flywheel.cli import app

    said = CliRunner().invoke(app, ["model", "quantize", "coder-v1", "--to", "fp8", "--json"])
    assert said.exit_code == 0, said.output
    assert '"coder-v2-fp8"' in said.output
    said = CliRunner().invoke(app, ["model", "prune", "coder-v1", "--queue", "--json"])
    assert '"queued"' in said.output


def test_the_http_door(session, adapter):
    app = FastAPI()
    app.include_router(api.routes)
    app.add_exception_handler(FlywheelError, answer_error)
    with TestClient(app, base_url="http://door/v1/model-versions/coder-v1") as client:
        smaller = client.post("/quantize", json={"to": "int8"})
        assert (smaller.status_code, smaller.json()["status"]) == (202, "queued")
        assert client.post("/quantize", json={"to": "int1"}).status_code == 400
        pruned = client.post("/prune", json={"what": "heads", "share": 0.5})
        assert pruned.json()["params"]["dataset_id"] == str(adapter.dataset_id)
        refused = client.post("/prune", json={"recover": {"preset": "demo"}})
        assert "sft-full" in refused.text
        assert client.post("/prune", json={"share": 1.5}).status_code == 400
