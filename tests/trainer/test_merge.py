"""A merge is its adapter: the same logits, the same text; and one that changes nothing is none."""

import json
from dataclasses import replace

import pytest
import torch
from fitting import train
from safetensors.torch import load_file, save_file
from tiny_base import QUICK, make_rows
from transformers import AutoModelForCausalLM, AutoTokenizer

from foundation.errors import BadInput
from trainer.export.merge import NothingChanged, merged_folder
from trainer.export.parity import ParityFailed, Said, Tolerance, judge

PROMPTS = [row["prompt"] for row in make_rows(12)]


@pytest.fixture(scope="module")
def adapter(tiny_base, tmp_path_factory):
    """An adapter of six steps, which already says something else than its base."""
    recipe = replace(QUICK, epochs=1)
    return train(tiny_base, tmp_path_factory.mktemp("adapter"), recipe, make_rows(48)).folder


def scaled(adapter, folder, factor):
    """Write the adapter with its product multiplied."""
    folder.mkdir()
    (folder / "adapter_config.json").write_text((adapter / "adapter_config.json").read_text())
    tensors = load_file(adapter / "adapter_model.safetensors")
    tensors = {k: v * factor if "lora_B" in k else v for k, v in tensors.items()}
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def test_merged_equals_adapter(tiny_base, adapter, tmp_path):
    merged = merged_folder(str(tiny_base), adapter, tmp_path / "merged", PROMPTS)
    assert merged.dtype == "float32"
    assert merged.parity.n_prompts == 12
    assert merged.parity.agreement == 1
    assert merged.parity.logit_error < 1e-5
    assert merged.change.n_layers == 14
    assert merged.heard > 0.01
    names = {path.name for path in merged.folder.iterdir()}
    assert names >= {"model.safetensors", "tokenizer.json", "chat_template.jinja"}
    assert "generation_config.json" in names
    assert not [name for name in names if name.startswith("adapter")]
    theirs, own = (AutoTokenizer.from_pretrained(f) for f in (tiny_base, merged.folder))
    assert own.chat_template == theirs.chat_template
    assert own.get_vocab() == theirs.get_vocab()
    json.dumps(merged.as_json(), allow_nan=False)


def test_a_base_of_sixteen_bits_gives_a_merge_of_sixteen_bits(tiny_base, adapter, tmp_path):
    half = tmp_path / "half"
    AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.bfloat16).save_pretrained(half)
    AutoTokenizer.from_pretrained(tiny_base).save_pretrained(half)
    merged = merged_folder(str(half), adapter, tmp_path / "merged", PROMPTS)
    assert merged.dtype == "bfloat16"
    assert 0 < merged.change.rounded < 0.5
    stored = load_file(merged.folder / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16}
    fine = merged_folder(str(half), adapter, tmp_path / "fine", PROMPTS, torch.float32)
    assert fine.dtype == "float32"
    assert fine.parity.logit_error < merged.parity.logit_error


@pytest.mark.parametrize("factor", [0.0, 1e-6], ids=["nothing", "almost-nothing"])
def test_a_merge_that_changes_nothing_is_refused(tiny_base, adapter, tmp_path, factor):
    idle = scaled(adapter, tmp_path / "idle", factor)
    with pytest.raises(NothingChanged, match="the base under a new name"):
        merged_folder(str(tiny_base), idle, tmp_path / "merged", PROMPTS)
    assert not (tmp_path / "merged").exists()


def test_what_rounding_swallows_is_refused(tiny_base, adapter, tmp_path):
    faint = scaled(adapter, tmp_path / "faint", 1e-3)
    with pytest.raises(NothingChanged, match="lost in rounding"):
        merged_folder(str(tiny_base), faint, tmp_path / "merged", PROMPTS, torch.bfloat16)
    assert merged_folder(str(tiny_base), faint, tmp_path / "fine", PROMPTS).parity.passed


def test_an_adapter_of_another_base_is_refused(tiny_base, adapter, tmp_path):
    wide = scaled(adapter, tmp_path / "wide", 1.0)
    tensors = load_file(wide / "adapter_model.safetensors")
    wider = {k: torch.cat([v, v]) if "lora_B" in k else v for k, v in tensors.items()}
    save_file(wider, wide / "adapter_model.safetensors")
    with pytest.raises(BadInput, match="trained on this base"):
        merged_folder(str(tiny_base), wide, tmp_path / "merged", PROMPTS)


def said(*answers, scale=1.0):
    logits = torch.arange(12.0).reshape(2, 6).numpy() * scale
    return Said(tuple(answers), tuple(logits for _ in answers))


def test_the_verdict_names_each_reason():
    tolerance = Tolerance(0.01, 1.0)
    assert judge(said((1, 2)), said((1, 2)), tolerance).passed
    other = judge(said((1, 2), (3,)), said((1, 2), (4,), scale=1.1), tolerance)
    assert other.agreement == 0.5
    assert other.logit_error == pytest.approx(0.1)
    assert len(other.reasons) == 2
    assert not judge(said(), said(), tolerance).passed
    broken = judge(said((1,)), said((1,), scale=float("nan")), tolerance)
    assert not broken.passed
    shifted = Said(((1,),), (said((1,)).logits[0] + 5,))
    assert judge(said((1,)), shifted, tolerance).logit_error < 1e-12
    assert "50%" in str(ParityFailed("it", other.reasons))
