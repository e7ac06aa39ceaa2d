"""Each way to learn from answers: two steps make it better, and what it leaves loads again."""

import json
from dataclasses import replace

import fitting
import pytest
import torch
from peft import PeftModel
from tiny_base import QUICK, make_rows
from transformers import AutoConfig, AutoModelForCausalLM

from foundation.errors import BadInput
from trainer.adapters import expert_weights, linear_layers, say_what_stays
from trainer.base import load_model, load_tokenizer
from trainer.data import encode

ROWS, VALIDATION = make_rows(48)[:40], make_rows(48)[40:]
STEPS = replace(QUICK, max_steps=2, eval_steps=1, dropout=0.0, packing="padding-free", lr=1e-2)
HELD = ("nf4", "int8", "ao-int8", "ao-fp8")


def loss_of(model, base):
    """The loss of a model on the training rows."""
    tokenizer = load_tokenizer(str(base))
    encoded = encode(ROWS, tokenizer, 128)
    model.eval()
    total = 0.0
    with torch.no_grad():
        for ids, labels in zip(encoded.input_ids, encoded.labels, strict=True):
            found = model(input_ids=torch.tensor([ids]), labels=torch.tensor([labels]))
            total += float(found.loss)
    return total / len(ROWS)


def losses(trained, name="validation_loss"):
    return [line[name] for line in trained.history if name in line]


@pytest.fixture(scope="module")
def base_loss(tiny_base):
    return loss_of(load_model(str(tiny_base)), tiny_base)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"rslora": True},
        {"dora": True},
        {"neftune": 5.0},
        {"precision": "bf16"},
        {"packing": "bfd", "max_length": 128, "batch_size": 2},
        {"packing": "none"},
        {"method": "sft-qlora"},
        *({"quantization": held} for held in HELD),
    ],
    ids=lambda change: "-".join(map(str, change.values())) or "lora",
)
def test_an_adapter_learns_and_loads_over_the_plain_base(tiny_base, tmp_path, base_loss, change):
    trained = fitting.train(tiny_base, tmp_path, replace(STEPS, **change), ROWS, VALIDATION)
    first, second = losses(trained)
    assert second < first < base_loss
    model = PeftModel.from_pretrained(load_model(str(tiny_base)), str(trained.folder))
    assert loss_of(model, tiny_base) < base_loss - 0.1
    config = json.loads((trained.folder / "adapter_config.json").read_text())
    assert config["use_rslora"] == change.get("rslora", False)
    assert config["use_dora"] == change.get("dora", False)


def test_all_weights_learn_and_stay_in_32_bits(tiny_base, tmp_path, base_loss):
    recipe = replace(STEPS, method="sft-full", precision="bf16", lr=1e-3)
    trained = fitting.train(tiny_base, tmp_path, recipe, ROWS, VALIDATION)
    first, second = losses(trained)
    assert second < first < base_loss
    model = AutoModelForCausalLM.from_pretrained(trained.folder)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert loss_of(model, tiny_base) < base_loss


@pytest.mark.slow
@pytest.mark.parametrize("held", HELD)
def test_a_base_in_few_bits_goes_on_after_an_interruption(tiny_base, tmp_path, held):
    """With looks at the validation loss between: they must not pack the weights for generation."""
    recipe = replace(STEPS, quantization=held, max_steps=4, dropout=0.05)
    whole = fitting.train(tiny_base, tmp_path / "whole", recipe, ROWS, VALIDATION)

    def interrupt(done, total, unit, **measures):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitting.train(tiny_base, tmp_path / "cut", recipe, ROWS, VALIDATION, interrupt)
    resumed = fitting.train(tiny_base, tmp_path / "cut", recipe, ROWS, VALIDATION)
    assert resumed.weights_sha256 == whole.weights_sha256
    assert losses(resumed) == losses(whole)
    assert losses(whole)[-1] < losses(whole)[0]


@pytest.mark.parametrize("held", ["nf4", "int8"])
def test_the_adapter_over_few_bits_is_learned_in_32_bits(tiny_base, tmp_path, held):
    """TRL takes it down to 16, where steps smaller than a 256th of a weight are rounded away."""
    from trainer.methods import sft

    lesson = fitting.lesson(tiny_base, tmp_path, replace(STEPS, quantization=held), ROWS)
    answers = sft.build(lesson, sft.prepare(lesson))
    learned = {p.dtype for p in answers.model.parameters() if p.requires_grad}
    assert learned == {torch.float32}


def test_noise_is_only_there_while_training(tiny_base, tmp_path):
    """NEFTune: other losses while training, and the same model before it."""
    plain = fitting.train(tiny_base, tmp_path / "a", STEPS, ROWS, VALIDATION)
    noisy = fitting.train(tiny_base, tmp_path / "b", replace(STEPS, neftune=5.0), ROWS, VALIDATION)
    assert losses(plain, "loss") != losses(noisy, "loss")


@pytest.mark.parametrize(("packing", "end_to_end"), [("auto", False), ("padding-free", True)])
def test_noise_is_that_of_a_row_by_itself(tiny_base, tmp_path, packing, end_to_end):
    """It is divided by the root of a row's tokens, and rows end to end are one row there."""
    from trainer.methods import sft

    said = []
    recipe = replace(STEPS, neftune=5.0, packing=packing)
    lesson = fitting.lesson(
        tiny_base, tmp_path, recipe, ROWS, say=lambda level, text: said.append(text)
    )
    assert sft.build(lesson, sft.prepare(lesson)).padding_free is end_to_end
    assert any("less noise" in text for text in said) is end_to_end


def test_half_precision_is_computed_on_a_gpu_only(tiny_base, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("this machine can")
    with pytest.raises(BadInput, match="fp16"):
        fitting.train(tiny_base, tmp_path, replace(STEPS, precision="fp16"), ROWS)


def test_rows_beyond_the_context_of_the_base_are_counted_and_said(tiny_base, tmp_path):
    long = make_rows(2)
    for row in long:
        row["prompt"][1]["content"] += " please" * 60
    said = []
    recipe = replace(STEPS, max_steps=1, max_length=512)
    for policy, n_rows in (("drop", 8), ("truncate", 10)):
        trained = fitting.train(
            tiny_base,
            tmp_path / policy,
            replace(recipe, too_long=policy),
            [*ROWS[:8], *long],
            say=lambda level, text: said.append(text),
        )
        assert trained.metrics["rows"] == n_rows
        assert trained.metrics["dropped"] == ({"too long": 2} if policy == "drop" else {})
        assert trained.metrics["shortened"] == n_rows - 8
    assert said == [
        "rows of at most 128 tokens: that is the context of the base",
        "left out 2 of 10 training rows: too long",
        "rows of at most 128 tokens: that is the context of the base",
        "shortened the prompts of 2 of 10 training rows to fit 128 tokens",
    ]


@pytest.mark.parametrize("kind", ["mixtral", "qwen3_moe", "qwen2_moe"])
def test_routers_and_heads_get_no_adapter(kind, tmp_path, tiny_base):
    shape = {
        "vocab_size": 300,
        "hidden_size": 32,
        "intermediate_size": 64,
        "moe_intermediate_size": 32,
        "shared_expert_intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "num_experts" if "qwen" in kind else "num_local_experts": 4,
    }
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **shape))
    found = linear_layers(model)
    assert {"q_proj", "k_proj", "v_proj", "o_proj"} <= found
    assert not found & {"lm_head", "gate", "shared_expert_gate", "router"}
    assert expert_weights(model)
    said = []
    lesson = fitting.lesson(tiny_base, tmp_path, STEPS, ROWS, say=lambda *line: said.append(line))
    say_what_stays(model, lesson)
    assert "get no adapter" in said[0][1]


def test_a_mixture_of_experts_trains(tiny_base, tmp_path):
    """Its attention learns; routers and experts stay, to the bit."""
    folder = tmp_path / "moe"
    tokenizer = load_tokenizer(str(tiny_base))
    config = AutoConfig.for_model(
        "qwen3_moe",
        vocab_size=len(tokenizer),
        hidden_size=32,
        moe_intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        num_experts=4,
        num_experts_per_tok=2,
        max_position_embeddings=128,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    trained = fitting.train(folder, tmp_path / "run", STEPS, ROWS, VALIDATION)
    first, second = losses(trained)
    assert second < first
    learned = json.loads((trained.folder / "adapter_config.json").read_text())["target_modules"]
    assert learned == ["k_proj", "o_proj", "q_proj", "v_proj"]
