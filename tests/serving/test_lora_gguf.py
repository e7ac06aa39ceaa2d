"""Adapters as GGUF: what llama.cpp's own converter writes, and the base with the adapter merged in.

`write_adapter` was compared with llama.cpp's `convert_lora_to_gguf.py` on a Qwen2 and a Llama:
names, shapes and bytes of all tensors were equal. Here the same is asked of the arithmetic.
"""

import json
import os

import numpy as np
import pytest
from safetensors.numpy import save_file

from foundation.whole import whole_file
from trainer.export import gguf
from trainer.export import gguf_lora as lora

RANK, OUT, IN, HEADS, KV = 4, 64, 32, 4, 2
Q, DOWN = "self_attn.q_proj", "mlp.down_proj"
LLAMA = lora.Shape("llama", HEADS, KV)
QWEN = lora.Shape("qwen2", HEADS, KV)


@pytest.fixture
def adapter(tmp_path):
    """Return a function that writes a PEFT folder with chosen settings and modules."""

    def write(modules=(Q, DOWN), rank=RANK, dtype=np.float32, **settings):
        random = np.random.default_rng(1)
        tensors = {}
        for module in modules:
            prefix = f"base_model.model.model.layers.0.{module}"
            tensors[f"{prefix}.lora_A.weight"] = random.normal(size=(rank, IN)).astype(dtype)
            tensors[f"{prefix}.lora_B.weight"] = random.normal(size=(OUT, rank)).astype(dtype)
        folder = tmp_path / "adapter"
        folder.mkdir(exist_ok=True)
        save_file(tensors, folder / "adapter_model.safetensors")
        config = {"peft_type": "LORA", "r": rank, "lora_alpha": 8, "bias": "none", **settings}
        (folder / "adapter_config.json").write_text(json.dumps(config))
        return folder, tensors

    return write


@pytest.fixture
def base(tmp_path):
    """A GGUF model of two layers that the adapter changes and one that it does not."""
    random = np.random.default_rng(2)
    names = ("blk.0.attn_q.weight", "blk.0.ffn_down.weight", "blk.0.attn_v.weight")
    tensors = {name: random.normal(size=(OUT, IN)).astype(np.float32) for name in names}
    values = {
        "general.architecture": "qwen2",
        "qwen2.attention.head_count": HEADS,
        "qwen2.attention.head_count_kv": KV,
    }
    gguf.write(tmp_path / "base.gguf", values, tensors)
    return tmp_path / "base.gguf", tensors


def tensors_of(path):
    header = gguf.read_header(path)
    with path.open("rb") as file:
        return {name: gguf.read_tensor(file, one) for name, one in header.tensors.items()}


def test_an_adapter_reads_back_as_it_was_written(adapter, tmp_path):
    folder, tensors = adapter()
    lora.write_adapter(lora.read_adapter(folder, QWEN), QWEN, tmp_path / "a.gguf")
    header = gguf.read_header(tmp_path / "a.gguf")
    assert header.is_adapter
    assert header.architecture == "qwen2"
    assert header.values["adapter.lora.alpha"] == 8
    found = tensors_of(tmp_path / "a.gguf")
    assert found.keys() == {
        f"blk.0.{layer}.weight.lora_{side}" for layer in ("attn_q", "ffn_down") for side in "ab"
    }
    a = tensors[f"base_model.model.model.layers.0.{Q}.lora_A.weight"]
    assert np.array_equal(found["blk.0.attn_q.weight.lora_a"], a)


def test_the_rows_of_llamas_rotary_layers_are_reordered_and_no_others(adapter):
    folder, tensors = adapter()
    pairs = lora.read_adapter(folder, LLAMA).pairs
    b = tensors[f"base_model.model.model.layers.0.{Q}.lora_B.weight"]
    size = OUT // HEADS
    expected = [
        b[head * size + half * (size // 2) + i]
        for head in range(HEADS)
        for i in range(size // 2)
        for half in (0, 1)
    ]
    assert np.array_equal(pairs["blk.0.attn_q"][1], expected)
    down = tensors[f"base_model.model.model.layers.0.{DOWN}.lora_B.weight"]
    assert np.array_equal(pairs["blk.0.ffn_down"][1], down)


def test_a_merge_adds_the_product_and_leaves_the_rest(adapter, base, tmp_path):
    path, before = base
    folder, tensors = adapter()
    shape = lora.shape_of_gguf(gguf.read_header(path))
    assert shape == QWEN
    lora.merge(path, lora.read_adapter(folder, shape), tmp_path / "merged.gguf")
    after = tensors_of(tmp_path / "merged.gguf")
    prefix = f"base_model.model.model.layers.0.{Q}"
    delta = tensors[f"{prefix}.lora_B.weight"] @ tensors[f"{prefix}.lora_A.weight"]
    expected = before["blk.0.attn_q.weight"] + 8 / RANK * delta
    assert np.allclose(after["blk.0.attn_q.weight"], expected, atol=1e-5)
    assert np.array_equal(after["blk.0.attn_v.weight"], before["blk.0.attn_v.weight"])
    assert list(tmp_path.glob("*.unfinished")) == []


@pytest.mark.parametrize(
    ("settings", "scale"),
    [
        ({}, 8 / RANK),
        ({"use_rslora": True}, 8 / RANK**0.5),
        ({"alpha_pattern": {"q_proj": 2}}, 2 / RANK),
    ],
    ids=["plain", "rank-stabilised", "alpha-of-a-module"],
)
def test_scales_of_every_kind_end_in_the_same_product(adapter, settings, scale):
    folder, tensors = adapter(**settings)
    found = lora.read_adapter(folder, QWEN)
    a, b = found.pairs["blk.0.attn_q"]
    prefix = f"base_model.model.model.layers.0.{Q}"
    expected = scale * tensors[f"{prefix}.lora_B.weight"] @ tensors[f"{prefix}.lora_A.weight"]
    assert np.allclose(found.alpha / RANK * b @ a, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"peft_type": "LOHA"}, "peft_type"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "all"}, "bias"),
        ({"lora_alpha": 0}, "lora_alpha"),
        ({"modules": ("mlp.experts",)}, "mlp.experts"),
    ],
    ids=["dora", "not-lora", "whole-modules", "bias", "no-scale", "unknown-layer"],
)
def test_what_would_be_left_out_is_refused(adapter, settings, said):
    folder, _ = adapter(**settings)
    with pytest.raises(lora.NotConvertible, match=said):
        lora.read_adapter(folder, QWEN)


def test_an_adapter_of_another_model_is_not_merged(adapter, base, tmp_path):
    path, _ = base
    folder, _ = adapter(modules=("mlp.up_proj",))
    with pytest.raises(lora.NotConvertible, match="another model"):
        lora.merge(path, lora.read_adapter(folder, QWEN), tmp_path / "merged.gguf")
    assert not (tmp_path / "merged.gguf").exists()


@pytest.mark.parametrize(
    ("kind", "worst"),
    [(gguf.F32, 0), (gguf.F16, 2e-3), (gguf.BF16, 2e-2), (gguf.Q8_0, 3e-2)],
    ids=["F32", "F16", "BF16", "Q8_0"],
)
def test_each_type_is_written_as_it_is_read(tmp_path, kind, worst):
    values = np.random.default_rng(3).normal(size=(8, 64)).astype(np.float32)
    values[0] = 0
    tensor = gguf.Tensor("t", values.shape, kind, 7)
    path = tmp_path / "raw"
    path.write_bytes(b"\0" * 7)
    with path.open("r+b") as file:
        gguf.write_tensor(file, tensor, values)
        file.flush()
        assert path.stat().st_size == 7 + tensor.size
        once = gguf.read_tensor(file, tensor)
        assert np.abs(once - values).max() <= worst
        gguf.write_tensor(file, tensor, once)
        assert np.allclose(gguf.read_tensor(file, tensor), once, atol=1e-6), "no drift"


@pytest.mark.parametrize("size", [0, 3, 20, 60, 200])
def test_a_file_that_ends_early_is_said_to(base, tmp_path, size):
    path, _ = base
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(path.read_bytes()[:size])
    with pytest.raises(gguf.BadGguf, match=r"cut\.gguf"):
        gguf.read_header(cut)


def test_weights_of_sixteen_bits_are_read(adapter, tmp_path):
    folder, _ = adapter(dtype=np.float16)
    a, b = lora.read_adapter(folder, QWEN).pairs["blk.0.attn_q"]
    assert a.dtype == b.dtype == np.float32


def test_a_file_is_whole_or_not_there(tmp_path):
    path = tmp_path / "some.file"

    def fail_halfway():
        with whole_file(path) as unfinished:
            unfinished.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_halfway()
    assert list(tmp_path.iterdir()) == []
    left, young = (tmp_path / f".some.file.{name}.unfinished" for name in ("old", "young"))
    left.write_text("of a killed process")
    young.write_text("of a living one")
    os.utime(left, (0, 0))
    with whole_file(path) as one, whole_file(path) as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert {p.name for p in tmp_path.iterdir()} == {"some.file", young.name}
