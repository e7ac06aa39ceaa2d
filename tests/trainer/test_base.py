"""What is refused of a base model, before anything is trained on it."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from foundation.errors import BadInput
from foundation.settings import get_settings
from trainer.base import context_of, load_model, load_tokenizer
from trainer.export.merge import own_dtype
from trainer.export.original import Original

OWN_CODE = """
from pathlib import Path
from transformers import Qwen2Config, Qwen2ForCausalLM

Path(__file__).with_name("was-run").touch()
Path({mark!r}).touch()

class OwnConfig(Qwen2Config):
    model_type = "own"

class OwnModel(Qwen2ForCausalLM):
    config_class = OwnConfig
"""


@pytest.fixture
def own_code(tiny_base, tmp_path):
    """The tiny base as a model that transformers does not know, with code that leaves a mark."""
    folder = Path(shutil.copytree(tiny_base, tmp_path / "own"))
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "own"
    config["auto_map"] = {
        "AutoConfig": "own.OwnConfig",
        "AutoModelForCausalLM": "own.OwnModel",
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(OWN_CODE.format(mark=str(tmp_path / "was-run")))
    return folder


def test_an_export_asks_nobody_at_the_terminal_whether_to_run_such_code(
    own_code, tmp_path, monkeypatch
):
    asked = []
    monkeypatch.setattr("builtins.input", lambda text: asked.append(text) or "y")
    original = Original("base", str(own_code), None, tmp_path / "work")
    for look in (lambda: original.config, lambda: original.tokenizer, lambda: original.asked):
        with pytest.raises(BadInput, match="FLYWHEEL_TRUSTED_BASES"):
            look()
    with pytest.raises(BadInput, match="FLYWHEEL_TRUSTED_BASES"):
        own_dtype(str(own_code))
    assert not asked
    assert not (tmp_path / "was-run").exists()


def test_code_that_comes_with_a_base_is_not_run(own_code, tmp_path):
    for load in (load_tokenizer, load_model, context_of):
        with pytest.raises(BadInput, match="FLYWHEEL_TRUSTED_BASES"):
            load(str(own_code))
    assert not (tmp_path / "was-run").exists()


def test_code_of_a_trusted_base_is_run(own_code, tmp_path, monkeypatch, settings):
    monkeypatch.setenv("FLYWHEEL_TRUSTED_BASES", json.dumps([str(own_code)]))
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "m"))
    get_settings.cache_clear()
    assert type(load_model(str(own_code))).__name__ == "OwnModel"
    assert load_tokenizer(str(own_code)).chat_template
    assert (tmp_path / "was-run").exists()


def test_weights_in_a_pickle_are_not_read(tiny_base, tmp_path):
    folder = Path(shutil.copytree(tiny_base, tmp_path / "pickled"))
    weights = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    with pytest.raises(BadInput, match="safetensors"):
        load_model(str(folder))


def test_a_tokenizer_with_more_ids_than_embeddings_is_refused(tiny_base, tmp_path):
    folder = Path(shutil.copytree(tiny_base, tmp_path / "other"))
    tokenizer = load_tokenizer(str(folder))
    tokenizer.add_tokens(["<|tool|>"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(BadInput, match=r"ids up to \d+"):
        load_tokenizer(str(folder))


def test_the_context_is_the_base_s(tiny_base):
    assert context_of(str(tiny_base)) == 128
