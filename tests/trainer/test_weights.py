"""Differences of weights: the same as of the whole matrices, whatever the rank and the type."""

import math

import numpy as np
import pytest
import torch
from adapters_on_disk import adapter, halves
from safetensors.torch import save_file

from foundation.errors import BadInput
from trainer.weights import compare_adapters, compare_models, overall


@pytest.mark.parametrize("ranks", [(2, 2), (2, 5)])
def test_it_is_what_the_whole_matrices_say(tmp_path, ranks):
    pairs = [halves(rank, seed) for seed, rank in enumerate(ranks)]
    one, two = (
        adapter(tmp_path / f"{i}", {"q": pair}, lora_alpha=8) for i, pair in enumerate(pairs)
    )
    updates = [8 / rank * b @ a for rank, (a, b) in zip(ranks, pairs, strict=True)]
    norms = [np.linalg.norm(update) for update in updates]
    (found,) = compare_adapters(one, two)
    assert found.relative == pytest.approx(
        np.linalg.norm(updates[0] - updates[1]) / max(norms), rel=1e-5
    )
    assert found.cosine == pytest.approx(
        (updates[0] * updates[1]).sum() / math.prod(norms), rel=1e-4
    )
    assert (found.norm, found.other_norm) == (pytest.approx(norms[0]), pytest.approx(norms[1]))


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({}, 4.0),
        ({"use_rslora": True}, 8 / math.sqrt(2)),
        ({"alpha_pattern": {"q": 2}}, 1.0),
        ({"alpha_pattern": {"other": 2}}, 4.0),
    ],
)
def test_the_scale_of_the_adapter_counts(tmp_path, config, scale):
    a, b = halves(2, 0)
    plain = adapter(tmp_path / "one", {"layers.0.q": (a, b)}, lora_alpha=2)  # scale 1
    other = adapter(tmp_path / "two", {"layers.0.q": (a, b)}, **config)
    (found,) = compare_adapters(plain, other)
    assert found.other_norm / found.norm == pytest.approx(scale, rel=1e-5)
    assert found.cosine == pytest.approx(1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_every_type_of_float_is_read(tmp_path, dtype):
    pair = halves(2, 3)
    exact = adapter(tmp_path / "exact", {"q": pair})
    (found,) = compare_adapters(exact, adapter(tmp_path / "held", {"q": pair}, dtype))
    assert found.relative < 0.01
    assert found.cosine > 0.9999


def test_equal_and_opposite_and_absent(tmp_path):
    a, b = halves(2, 0)
    one = adapter(tmp_path / "one", {"q": (a, b), "only": (a, b)})
    two = adapter(tmp_path / "two", {"q": (a, b), "other": (a, b * 0)})
    minus = adapter(tmp_path / "minus", {"q": (a, -b), "only": (a, b)})
    same = {d.layer: d for d in compare_adapters(one, two)}
    assert (same["q"].relative, same["q"].cosine) == (0.0, pytest.approx(1.0))
    assert (same["only"].relative, same["only"].cosine) == (1.0, None)
    assert (same["other"].relative, same["other"].cosine) == (0.0, None)
    opposite = compare_adapters(one, minus)
    assert {d.layer: round(d.relative, 5) for d in opposite} == {"q": 2.0, "only": 0.0}
    assert overall(opposite)["cosine"] == pytest.approx(0.0, abs=1e-6)
    assert overall([]) == {"relative": None, "cosine": None}


def test_layers_of_other_shapes_are_left_out(tmp_path):
    one = adapter(tmp_path / "one", {"q": halves(2, 0), "k": halves(2, 0)})
    two = adapter(tmp_path / "two", {"q": halves(2, 0), "k": halves(2, 0, n_in=5)})
    assert [d.layer for d in compare_adapters(one, two)] == ["q"]


def test_whole_models_are_compared_tensor_by_tensor(tmp_path):
    for name, factor in (("one", 1.0), ("two", 3.0)):
        (tmp_path / name).mkdir()
        tensors = {"w": torch.ones(4, 3) * factor, "n": torch.ones(2, dtype=torch.int8)}
        save_file(tensors, tmp_path / name / "model.safetensors")
    (found,) = compare_models(tmp_path / "one", tmp_path / "two")
    assert (found.layer, found.relative) == ("w", pytest.approx(2 / 3))
    assert found.cosine == pytest.approx(1.0)


@pytest.mark.parametrize("content", [b"", b"\0" * 8, b"\xff" * 20, b"\x04\0\0\0\0\0\0\0oops"])
def test_damaged_files_are_told(tmp_path, content):
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.safetensors").write_bytes(content)
    with pytest.raises(BadInput, match="adapter_model.safetensors"):
        compare_adapters(tmp_path, tmp_path)


def test_what_is_no_plain_adapter_is_told(tmp_path):
    with pytest.raises(BadInput, match="adapter_config.json"):
        compare_adapters(tmp_path, tmp_path)
    dora = adapter(tmp_path / "dora", {"q": halves(2, 0)}, use_dora=True)
    with pytest.raises(BadInput, match="DoRA"):
        compare_adapters(dora, dora)
