import json
import shutil

import pytest
import torch
from tiny_base import make_rows
from transformers import AutoModelForCausalLM

from foundation.errors import BadInput
from trainer.base import load_model, load_tokenizer
from trainer.compress import prune, quantize
from trainer.compress.ways import PARTS, WAYS
from trainer.export.parity import ParityFailed, Tolerance

ROWS = make_rows(24)
PROMPTS = [row["prompt"] for row in ROWS[:6]]


@pytest.fixture(scope="module")
def wide_base(tiny_base, tmp_path_factory):
    """A model whose widths are whole blocks of NF4, with two key/value heads."""
    from trainer.pretrain import BaseShape, new_model

    words = load_tokenizer(str(tiny_base))
    folder = tmp_path_factory.mktemp("wide")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        new_model(BaseShape(64, 2, 4, 2, 128, len(words), 128), words).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("way", WAYS)
def test_a_quantised_model_is_read_back_from_the_disk(way, wide_base, tmp_path):
    made = quantize.quantized(str(wide_base), way, tmp_path / "made", PROMPTS)
    assert made.parity.passed
    assert 0 < made.parity.logit_error < made.parity.tolerance.logit_error
    assert made.size_ratio > 1.5
    assert made.speed_ratio > 0
    assert not list(made.folder.glob("*.bin"))
    config = json.loads((made.folder / "config.json").read_text())
    assert config["quantization_config"]["quant_method"] in ("torchao", "bitsandbytes")
    assert json.dumps(made.as_json())


def test_only_packed_weights_save_more_than_a_byte_each(wide_base, tmp_path):
    sizes = {
        way: quantize.quantized(str(wide_base), way, tmp_path / way, PROMPTS).n_bytes
        for way in ("int8", "int4", "nf4")
    }
    assert sizes["nf4"] < sizes["int8"] <= sizes["int4"]


def test_nf4_refuses_widths_that_a_cpu_cannot_multiply(tiny_base, tmp_path):
    with pytest.raises(BadInput, match=r"nf4 of .*q_proj, 32 wide"):
        quantize.quantized(str(tiny_base), "nf4", tmp_path)
    with pytest.raises(BadInput, match="int3"):
        quantize.quantized(str(tiny_base), "int3", tmp_path)


def test_what_lost_too_much_is_refused(wide_base, tmp_path, monkeypatch):
    monkeypatch.setitem(quantize.TOLERANCES, "int4", Tolerance(0.001, 0.0))
    with pytest.raises(ParityFailed, match="logits are off"):
        quantize.quantized(str(wide_base), "int4", tmp_path / "made", PROMPTS)


@pytest.mark.parametrize("way", ["int8", "nf4"])
def test_the_engine_answers_with_a_quantised_model(way, wide_base, tmp_path):
    from serving.engine import Engine
    from serving.rows import Row

    folder = quantize.quantized(str(wide_base), way, tmp_path / "made", PROMPTS).folder
    engine = Engine.load(folder, threads=1)
    answer = engine.start(Row(engine.encode(PROMPTS[0]), max_new_tokens=4))
    while engine.step():
        pass
    assert answer.generation.output_tokens > 0


@pytest.mark.parametrize("what", PARTS)
def test_pruning_makes_smaller_matrices_that_plain_transformers_load(what, wide_base, tmp_path):
    made = prune.pruned(str(wide_base), what, 0.5, ROWS, tmp_path / "made")
    model = AutoModelForCausalLM.from_pretrained(made.folder)
    layer = model.model.layers[1]
    if what == "neurons":
        assert model.config.intermediate_size == layer.mlp.down_proj.in_features == 64
        assert made.kept == 64
    else:
        assert model.config.num_attention_heads == 2
        assert model.config.num_key_value_heads == 2
        assert layer.self_attn.o_proj.in_features == 32
        assert layer.self_attn.q_proj.bias.shape == (32,)
        assert made.kept == 2
    assert made.size_ratio > 1
    assert made.loss_after > 0
    assert json.dumps(made.as_json())


def test_what_adds_nothing_leaves_first_and_the_model_says_the_same(wide_base, tmp_path):
    """Neurons and heads whose output is thrown away are found, and their loss is none."""
    silent = AutoModelForCausalLM.from_pretrained(wide_base)
    with torch.no_grad():
        for layer in silent.model.layers:
            layer.mlp.down_proj.weight[:, 1::2] = 0
            layer.self_attn.o_proj.weight.view(64, 4, 16)[:, [0, 3]] = 0
    silent.save_pretrained(tmp_path / "silent")
    load_tokenizer(str(wide_base)).save_pretrained(tmp_path / "silent")
    ids = torch.arange(40)[None]
    expected = load_model(str(tmp_path / "silent"))(ids).logits
    for what in PARTS:
        made = prune.pruned(str(tmp_path / "silent"), what, 0.5, ROWS, tmp_path / what)
        found = load_model(str(made.folder))(ids).logits
        assert torch.allclose(found, expected, atol=1e-5), what
        assert made.loss_after == pytest.approx(made.loss_before, rel=1e-5)


def test_importance_is_the_change_of_the_loss_to_first_order(wide_base):
    """A neuron's importance of one row's one token is what scaling its output does to the loss."""
    model, tokenizer = load_model(str(wide_base)), load_tokenizer(str(wide_base))
    learned = prune.encode(ROWS[:1], tokenizer, 128)
    answer = next(i for i, label in enumerate(learned.labels[0]) if label != -100)
    ids = torch.tensor([learned.input_ids[0][: answer + 1]])
    labels = torch.full_like(ids, -100)
    labels[0, -1] = ids[0, -1]
    importance, loss = prune.measured_importance(model, [(ids, labels)], "neurons")
    down, step = model.model.layers[1].mlp.down_proj, 1e-2
    for neuron in importance[1].topk(3).indices.tolist():
        before = down.weight[:, neuron].detach().clone()
        down.weight.data[:, neuron] = before * (1 - step)
        moved = abs(prune.mean_loss(model, [(ids, labels)]) - loss)
        down.weight.data[:, neuron] = before
        # only the last place has a gradient that reaches the loss through this last layer
        assert moved == pytest.approx(step * importance[1][neuron].item(), rel=0.05)


def test_what_cannot_be_pruned(tiny_base, wide_base, tmp_path):
    for what, share in (("layers", 0.5), ("heads", 0.0), ("heads", 1.0)):
        with pytest.raises(BadInput):
            prune.pruned(str(wide_base), what, share, ROWS, tmp_path)
    with pytest.raises(BadInput, match="leaves some, not all, of the 2 heads"):
        prune.pruned(str(wide_base), "heads", 0.2, ROWS, tmp_path)
    with pytest.raises(BadInput, match="0 rows"):
        prune.pruned(str(wide_base), "neurons", 0.5, [], tmp_path)
    other = tmp_path / "other"
    shutil.copytree(tiny_base, other)
    from transformers import GPT2Config, GPT2LMHeadModel

    words = len(load_tokenizer(str(tiny_base)))
    GPT2LMHeadModel(GPT2Config(vocab_size=words, n_embd=16, n_layer=1, n_head=2)).save_pretrained(
        other
    )
    with pytest.raises(BadInput, match="gpt2"):
        prune.pruned(str(other), "neurons", 0.5, ROWS, tmp_path / "no")
