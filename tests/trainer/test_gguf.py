"""GGUF held against the `gguf` library: blocks bit for bit, headers both ways, adapters read."""

import json
from dataclasses import replace

import numpy as np
import pytest
from fitting import train
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, dequantize, quants
from safetensors.numpy import load_file
from tiny_base import QUICK, make_rows

from trainer.export import gguf, gguf_lora

VALUES = np.random.default_rng(5).normal(size=(16, 64)).astype(np.float32)
VALUES[0] = 0
VALUES[1, :32] = -1.5  # one value throughout a block


@pytest.mark.parametrize(
    ("kind", "theirs"),
    [
        (gguf.F32, GGMLQuantizationType.F32),
        (gguf.F16, GGMLQuantizationType.F16),
        (gguf.BF16, GGMLQuantizationType.BF16),
        (gguf.Q8_0, GGMLQuantizationType.Q8_0),
        (gguf.Q4_0, GGMLQuantizationType.Q4_0),
    ],
    ids=["F32", "F16", "BF16", "Q8_0", "Q4_0"],
)
def test_every_type_has_the_bytes_of_the_library(kind, theirs, tmp_path):
    path = tmp_path / "one.gguf"
    planned = {"t.weight": gguf.Planned(VALUES.shape, kind, lambda: VALUES)}
    gguf.write_planned(path, {"general.architecture": "llama"}, planned)
    (tensor,) = GGUFReader(path).tensors
    assert tensor.tensor_type == theirs
    assert bytes(tensor.data.tobytes()) == quants.quantize(VALUES, theirs).tobytes()
    with path.open("rb") as file:
        read = gguf.read_tensor(file, gguf.read_header(path).tensors["t.weight"])
    np.testing.assert_array_equal(read, dequantize(tensor.data, theirs).reshape(VALUES.shape))


def test_values_are_read_by_the_library_as_they_were_written(tmp_path):
    said = {
        "general.architecture": "llama",
        "a.flag": True,
        "a.count": 7,
        "a.part": 0.25,
        "a.words": ["one", "ünö"],
        "a.numbers": [3, -1],
    }
    gguf.write(tmp_path / "a.gguf", said, {"t": VALUES[:2, :3].copy()})
    reader = GGUFReader(tmp_path / "a.gguf")
    assert {key: reader.fields[key].contents() for key in said} == said
    assert reader.tensors[0].data.shape == (2, 3)


def test_a_file_of_the_library_is_read(tmp_path):
    writer = GGUFWriter(tmp_path / "b.gguf", "qwen2")
    writer.add_uint64("qwen2.attention.head_count", 4)
    writer.add_array("tokenizer.ggml.tokens", ["a", "b"])
    writer.add_tensor("blk.0.attn_q.weight", VALUES)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    header = gguf.read_header(tmp_path / "b.gguf")
    assert gguf_lora.shape_of_gguf(header) == gguf_lora.Shape("qwen2", 4, 4)
    with (tmp_path / "b.gguf").open("rb") as file:
        read = gguf.read_tensor(file, header.tensors["blk.0.attn_q.weight"])
    np.testing.assert_array_equal(read, VALUES)


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_an_adapter_comes_back_from_gguf_as_peft_had_it(architecture, tiny_base, tmp_path):
    recipe = replace(QUICK, max_steps=1, eval_steps=1, rslora=True)
    folder = train(tiny_base, tmp_path / "train", recipe, make_rows(8)).folder
    shape = gguf_lora.Shape(architecture, 2, 1)
    gguf_lora.write_adapter(
        gguf_lora.read_adapter(folder, shape), shape, tmp_path / "a.gguf", gguf.F32
    )
    gguf_lora.adapter_of_gguf(tmp_path / "a.gguf", folder, shape, tmp_path / "back")
    scales = [gguf_lora.read_pairs(one) for one in (folder, tmp_path / "back")]
    before, after = (
        {name: scale * b @ a for name, (a, b, scale) in pairs.items()} for pairs in scales
    )
    assert before.keys() == after.keys()
    assert all(np.abs(change).max() > 1e-4 for change in before.values())
    for name, change in before.items():
        np.testing.assert_allclose(after[name], change, atol=1e-6)
    assert load_file(tmp_path / "back" / "adapter_model.safetensors").keys() == (
        load_file(folder / "adapter_model.safetensors").keys()
    )
    assert json.loads((tmp_path / "back" / "adapter_config.json").read_text())["r"] == recipe.r
