"""The benchmarks of training run, and count what they say they count."""

import json
import sys

import pytest
import torch
from tiny_base import build_tiny_base, make_rows

from benchmarks import training_gpu
from benchmarks.training_speed import RECIPE, conversations
from benchmarks.training_speed_arm import Meter, loss_of, ours
from trainer.recipe import Recipe


def test_conversations_are_of_uneven_lengths_and_end_with_an_answer():
    rows = conversations(60)
    assert rows == conversations(60)
    turns = [len(row["prompt"]) for row in rows]
    assert set(turns) == {1, 3, 5, 7}
    assert {row["prompt"][-1]["role"] for row in rows} == {"user"}
    assert {len(row["completion"]) for row in rows} == {1}


def test_a_training_is_metered(tmp_path):
    base = build_tiny_base(tmp_path / "base")
    recipe = Recipe.from_dict(
        RECIPE.to_dict() | {"max_steps": 2, "batch_size": 4, "packing": "none"}
    )
    meter, rows = Meter(), make_rows(8)
    with meter.watching():
        adapter = ours(base, tmp_path / "run", recipe, rows)
    assert len(meter.passes) == 2
    assert 0 < meter.n_tokens <= meter.n_slots
    assert meter.saving_s > 0
    assert 0 < loss_of(base, adapter, rows) < 10


def test_flops_are_counted_by_hand():
    shape = training_gpu.Shape(hidden=8, layers=2, mlp=16, heads=2, kv_heads=1, vocab=100)
    block = 8 * 8 + 8 * 4 + 8 * 4 + 8 * 8 + 3 * 8 * 16  # q, k, v, o, and the three of the MLP
    assert shape.layer_weights == block
    lora = 2 * (16 + 12 + 12 + 16 + 24 + 24 + 24)
    assert shape.adapter_weights(2) == lora
    per_token = 2 * (4 * block + 6 * lora)
    attention = 2 * 3 * 4 * 8 * (3 * 3 + 5 * 5) / 2
    head = 4 * 3 * 8 * 100
    assert shape.flops([3, 5], 3, 2) == 8 * per_token + attention + head


def test_the_shape_of_7b_has_the_weights_of_7b():
    shape = training_gpu.SHAPES["qwen2.5-7b"]
    assert shape.layers * shape.layer_weights == pytest.approx(6.53e9, rel=0.01)
    matmuls = shape.layers * shape.layer_weights + shape.hidden * shape.vocab
    assert matmuls == pytest.approx(7.07e9, rel=0.01)


@pytest.mark.skipif(torch.cuda.is_available(), reason="it would measure")
def test_without_a_gpu_it_says_so():
    (figure,) = training_gpu.figures(None, quick=True)
    assert figure.measured is None
    assert figure.passed
    assert "no GPU here" in figure.note


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of libraries, to each other
def test_all_of_the_gpu_benchmark_runs_on_a_cpu_with_a_tiny_shape(tmp_path, monkeypatch):
    monkeypatch.setattr(training_gpu, "RESULTS", tmp_path)
    monkeypatch.setattr("benchmarks.bars.RESULTS", tmp_path)
    file = tmp_path / "figures" / "gpu.json"
    monkeypatch.setattr(
        sys, "argv", ["training_gpu", "--shape", "tiny", "--steps", "4", "--json", str(file)]
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert training_gpu.main() == 0
    finally:
        torch.set_num_threads(threads)
    found = {one["name"]: one for one in json.loads(file.read_text())["figures"]}
    for arm in ("ours", "ours, recomputing", "trl", "qlora"):
        assert found[f"tokens per second, {arm}"]["measured"] > 0
    assert found["a step of three adapters jointly, over three steps apart"]["measured"] > 0
