"""Every format: what is written is read again by others' code and is the same, damaged it is not.

A Qwen2 base with an adapter that says something else than it, and Llamas, whose rows GGUF reorders.
"""

import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch
import yaml
from fitting import train
from tiny_base import QUICK, make_rows
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from foundation.errors import BadInput, BadSetting
from trainer.compress.prune import pruned
from trainer.export import (
    ADAPTERS,
    FORMATS,
    format_module,
    get_format,
    gguf_formats,
    gguf_model,
)
from trainer.export.gguf_lora import NotConvertible
from trainer.export.gguf_tokens import split_name
from trainer.export.ollama import read_modelfile
from trainer.export.original import Graded, Original
from trainer.export.parity import ParityFailed

PROMPTS = [row["prompt"] for row in make_rows(6)]
EXACT = ("gguf-f32", "gguf-lora-f32", "hf", "hf-lora", "onnx", "vllm")


@pytest.fixture(scope="module")
def adapter(tiny_base, tmp_path_factory):
    recipe = replace(QUICK, epochs=1)
    return train(tiny_base, tmp_path_factory.mktemp("adapter"), recipe, make_rows(48)).folder


@pytest.fixture(scope="module")
def original(tiny_base, adapter, tmp_path_factory):
    """What the adapter says, and its merge: found out once for all formats."""
    return Original("coder-v7", str(tiny_base), adapter, tmp_path_factory.mktemp("work"), PROMPTS)


@pytest.fixture(scope="module")
def written(original, tmp_path_factory):
    """Return a function that gives the folder of a format, written once."""
    folders = {}

    def write(name):
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp(name)
            format_module(name).write(original, folders[name], FORMATS[name].variant)
        return folders[name]

    return write


# torch's exporter to ONNX takes as long as everything else here
NAMES = [pytest.param(n, marks=pytest.mark.slow) if n == "onnx" else n for n in FORMATS]


@pytest.mark.parametrize("name", NAMES)
def test_each_format_is_read_again_and_the_same(name, original, written):
    parity = format_module(name).check(original, written(name), FORMATS[name].variant)
    assert parity.passed, parity.reasons
    assert parity.n_prompts == len(PROMPTS)
    json.dumps(parity.as_json(), allow_nan=False)
    if name in EXACT:
        assert parity.agreement == 1
        assert parity.logit_error < 1e-4
    else:
        assert 0 < parity.logit_error <= parity.tolerance.logit_error
    if not name.startswith("gguf-lora"):  # which hold no tokenizer
        assert parity.measures.get("same_ids", parity.measures.get("template")) == len(PROMPTS)


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_file_does_not_pass(name, original, written, tmp_path):
    """Bits are turned in the middle of the weights, where no reader has a checksum."""
    folder = shutil.copytree(written(name), tmp_path / name)
    damage(folder)
    fresh = replace(original, work=tmp_path)  # what was read of the file before must not count
    fresh.__dict__["_heard"] = original._heard
    with suppress(ParityFailed):  # where its reader refuses the file
        assert not format_module(name).check(fresh, folder, FORMATS[name].variant).passed


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tokenizer.ggml.eos_token_id", 5),
        ("tokenizer.chat_template", "{{ messages }}"),
        ("tokenizer.ggml.token_type", None),
    ],
)
def test_a_file_that_ends_or_shows_chats_otherwise_does_not_pass(
    key, value, original, tokenizer, tmp_path, monkeypatch
):
    honest = gguf_model.tokenizer_values

    def wrong(*args):
        values = honest(*args)
        types = [1] * len(values["tokenizer.ggml.token_type"])  # none of them special
        return values | {key: types if value is None else value}

    monkeypatch.setattr(gguf_model, "tokenizer_values", wrong)
    copied = replace(original, adapter=None, work=tmp_path / "work")
    (tmp_path / "out").mkdir()
    gguf_formats.write(copied, tmp_path / "out", "f32")
    reasons = gguf_formats.check(copied, tmp_path / "out", "f32").reasons
    assert any((key if value else "token 0") in reason for reason in reasons), reasons


def test_a_copy_that_ends_its_answers_elsewhere_does_not_pass(original, written, tmp_path):
    folder = shutil.copytree(written("hf"), tmp_path / "copy")
    settings = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps(settings | {"eos_token_id": 5}))
    reasons = format_module("hf").check(original, folder, "whole").reasons
    assert any("answers end at" in reason for reason in reasons), reasons


def damage(folder):
    """Turn half the bits of a tenth of the largest file, behind its header."""
    path = max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    raw = bytearray(path.read_bytes())
    first, n = len(raw) * 7 // 10, len(raw) // 10
    raw[first : first + n] = bytes(byte ^ 0x55 for byte in raw[first : first + n])
    path.write_bytes(raw)


def small_model(folder, tokenizer, kind="llama", **settings):
    """Write a model of random weights whose every tensor matters."""
    config = {"llama": LlamaConfig, "mistral": MistralConfig}[kind](
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.3,
        **settings,
    )
    torch.manual_seed(0)
    {"llama": LlamaForCausalLM, "mistral": MistralForCausalLM}[kind](config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Original("base", str(folder), None, folder.parent / f"work-{folder.name}", PROMPTS)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("llama", {"tie_word_embeddings": True}),
        ("llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}),
        ("mistral", {"sliding_window": None}),
    ],
    ids=["tied", "another-theta", "mistral"],
)
def test_other_shapes_are_the_same_in_gguf(kind, settings, tokenizer, tmp_path):
    original = small_model(tmp_path / "base", tokenizer, kind, **settings)
    (tmp_path / "out").mkdir()
    gguf_formats.write(original, tmp_path / "out", "f32")
    parity = gguf_formats.check(original, tmp_path / "out", "f32")
    assert parity.passed, parity.reasons
    assert parity.agreement == 1
    assert parity.logit_error < 1e-5


def test_a_version_without_some_heads_is_the_same_in_gguf(tokenizer, tmp_path):
    small_model(tmp_path / "base", tokenizer)
    cut = pruned(str(tmp_path / "base"), "heads", 0.5, make_rows(6), tmp_path / "cut")
    original = Original("cut", str(cut.folder), None, tmp_path / "work", PROMPTS)
    (tmp_path / "out").mkdir()
    gguf_formats.write(original, tmp_path / "out", "f32")
    assert gguf_formats.check(original, tmp_path / "out", "f32").passed


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}, "rope"),
        ({"kind": "mistral", "sliding_window": 16}, "sliding window"),
    ],
    ids=["scaled-rope", "window"],
)
def test_shapes_that_gguf_would_change_are_refused(settings, said, tokenizer, tmp_path):
    original = small_model(tmp_path / "base", tokenizer, **settings)
    (tmp_path / "out").mkdir()
    with pytest.raises(BadInput, match=said):
        gguf_formats.write(original, tmp_path / "out", "f16")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_tokenizer_that_llama_cpp_cannot_name_is_refused(tokenizer):
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    assert split_name(state) == "qwen2"
    (split, *rest) = state["pre_tokenizer"]["pretokenizers"]
    split["pattern"]["Regex"] = split["pattern"]["Regex"].replace("N}", "N}{1,2}")
    with pytest.raises(NotConvertible, match="none of those that llama.cpp has a name for"):
        split_name(state)
    with pytest.raises(NotConvertible, match="Unigram"):
        split_name({"model": {"type": "Unigram"}, "normalizer": None})


def test_pass_rates_are_compared_where_tasks_are_graded(original, written):
    """The copy loses what its grader takes from it, and is refused for that alone."""
    rows = [{"prompt": prompt, "task_id": str(i)} for i, prompt in enumerate(PROMPTS)]
    asked = []

    def reward(rows, answers):
        asked.append(len(answers))
        return [1.0 if len(asked) == 1 else 0.0] * len(answers)

    graded = replace(original, graded=Graded(rows, reward))
    parity = format_module("gguf-q8_0").check(graded, written("gguf-q8_0"), "q8_0")
    assert asked[:2] == [len(PROMPTS)] * 2
    assert parity.measures["source_pass_rate"] == 1
    assert parity.measures["pass_rate"] == 0
    assert "pass rate 0.0%, was 100.0%: allowed to lose 1 points" in parity.reasons


def test_the_script_of_vllm_starts_it_with_files_that_are_there(written, tmp_path):
    folder = written("vllm")
    (tmp_path / "vllm").write_text('#!/bin/sh\nfor word in "$@"; do echo "$word"; done\n')
    (tmp_path / "vllm").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    silent = subprocess.run([folder / "serve.sh"], env=environment, capture_output=True, text=True)
    assert silent.returncode != 0
    assert "BASE_MODEL: set it to the folder of" in silent.stderr
    said = subprocess.run(
        [folder / "serve.sh", "--port", "9"],
        env=environment | {"BASE_MODEL": "/models/base"},
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
    ).stdout.splitlines()
    assert said == [
        *("serve", "/models/base", "--config", f"{folder}/vllm.yaml"),
        *("--chat-template", f"{folder}/chat_template.jinja"),
        *("--lora-modules", f"coder-v7={folder}/adapter", "--port", "9"),
    ]
    service = yaml.safe_load((folder / "compose.yaml").read_text())["services"]["vllm"]
    assert service["command"][0] == "/base"
    assert service["deploy"]["resources"]["reservations"]["devices"][0]["driver"] == "nvidia"
    config = yaml.safe_load((folder / "vllm.yaml").read_text())
    assert config["max-lora-rank"] == 16


def test_the_modelfile_names_its_files_and_stops(written, original):
    said = read_modelfile(written("ollama-lora") / "Modelfile")
    assert said["FROM"] == ["./model.gguf"]
    assert said["ADAPTER"] == ["./adapter.gguf"]
    assert said["stop"] == [original.tokenizer.eos_token]
    assert "{{ range .Messages }}" in said["TEMPLATE"][0]


def test_a_modelfile_without_its_file_is_refused(written, original, tmp_path):
    folder = shutil.copytree(written("ollama"), tmp_path / "ollama")
    (folder / "model.gguf").unlink()
    with pytest.raises(BadInput, match=r"no \./model\.gguf"):
        format_module("ollama").check(original, folder, "whole")


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{{ m.content|upper }}{% endfor %}",
        "{% for m in messages %}{{ loop.index }}{{ m.content }}{% endfor %}",
        "{{ messages|tojson }}",
    ],
    ids=["changes-it", "counts", "all-in-one"],
)
def test_a_template_that_ollama_has_no_words_for_is_refused(template, tokenizer, tmp_path):
    original = small_model(tmp_path / "base", tokenizer)
    original.tokenizer.chat_template = template
    (tmp_path / "out").mkdir()
    with pytest.raises(BadInput, match="fixed texts around each message"):
        format_module("ollama").write(original, tmp_path / "out", "whole")


@pytest.mark.parametrize(
    ("python", "why"), [("/no/python", "No such file"), (sys.executable, "llama_cpp")]
)
@pytest.mark.skipif(find_spec("llama_cpp") is not None, reason="it has llama-cpp-python")
def test_an_interpreter_without_llama_cpp_is_named(
    python, why, original, written, settings, monkeypatch
):
    from foundation.settings import get_settings

    monkeypatch.setenv("FLYWHEEL_LLAMA_CPP_PYTHON", python)
    get_settings.cache_clear()
    with pytest.raises(BadSetting, match=why):
        gguf_formats.check(original, written("gguf-f32"), "f32")


def test_formats_are_for_the_versions_that_they_say(tmp_path):
    assert {n for n, f in FORMATS.items() if f.kinds == ADAPTERS} == {
        *("hf-lora", "gguf-lora-f32", "gguf-lora-f16", "gguf-lora-q8_0", "ollama-lora")
    }
    with pytest.raises(BadInput, match="gguf-q2"):
        get_format("gguf-q2")
