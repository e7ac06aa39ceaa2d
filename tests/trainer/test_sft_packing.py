"""However a batch is cut or laid out, the loss and the gradient are the same."""

from dataclasses import replace
from types import SimpleNamespace

import fitting
import pytest
import torch
from tiny_base import QUICK, make_rows
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.qwen2.modeling_qwen2 import Qwen2MLP

import trainer.arguments
from foundation.errors import BadInput
from trainer.apart import APART, keep_rows_apart
from trainer.base import load_model
from trainer.data import IGNORED
from trainer.recipe import Recipe

STEPS = replace(
    QUICK, dropout=0.0, max_steps=2, batch_size=8, packing="none", early_stopping_patience=0
)


def uneven_rows(n):
    """Rows of one to three turns, so that a padded batch is a third of padding."""
    rows = make_rows(n)
    for i, row in enumerate(rows):
        earlier = [
            m for j in range(i % 3) for m in (rows[j]["prompt"][1], rows[j]["completion"][0])
        ]
        row["prompt"] = [row["prompt"][0], *earlier, *row["prompt"][1:]]
    return rows


ROWS = uneven_rows(24)


def measured(base, folder, recipe, rows=ROWS, validation=(), said=None):
    say = (lambda level, text: said.append(text)) if said is not None else lambda level, text: None
    trained = fitting.train(base, folder, recipe, rows, list(validation), say=say)
    return [(line["loss"], line["grad_norm"]) for line in trained.history if "loss" in line]


@pytest.fixture(scope="module")
def padded(tiny_base, tmp_path_factory):
    return measured(tiny_base, tmp_path_factory.mktemp("padded"), STEPS)


@pytest.mark.parametrize(
    "change",
    [
        {"packing": "padding-free"},
        {"batch_size": 4, "gradient_accumulation": 2},
        {"batch_size": 2, "gradient_accumulation": 4, "packing": "padding-free"},
    ],
    ids=["padding-free", "accumulated", "padding-free-accumulated"],
)
def test_a_layout_changes_neither_loss_nor_gradient(padded, tiny_base, tmp_path, change):
    found = measured(tiny_base, tmp_path, replace(STEPS, **change))
    for one, other in zip(found, padded, strict=True):
        assert one == pytest.approx(other, rel=2e-5)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_packed_rows_have_the_loss_and_gradient_of_padded_ones(tiny_base, tmp_path, accumulation):
    """All rows in one step, since packing decides which rows stand together."""
    every = replace(STEPS, max_steps=1, batch_size=len(ROWS), max_length=128)
    (padded,) = measured(tiny_base, tmp_path / "a", every)
    said = []
    packed = replace(every, packing="bfd", batch_size=16, gradient_accumulation=accumulation)
    (found,) = measured(tiny_base, tmp_path / "b", packed, said=said)
    assert found == pytest.approx(padded, rel=2e-5)
    assert not said, "the tiny base keeps rows apart"


def test_recomputed_activations_give_the_same_loss_and_gradient(
    padded, tiny_base, tmp_path, monkeypatch
):
    """The recipe asks for it on a GPU only; forced here."""
    calls = []
    honest = Qwen2MLP.forward

    def counted(self, states):
        calls.append(torch.is_grad_enabled())
        return honest(self, states)

    monkeypatch.setattr(Qwen2MLP, "forward", counted)
    monkeypatch.setattr(trainer.arguments, "recomputes", lambda recipe: True)
    found = measured(tiny_base, tmp_path, replace(STEPS, packing="padding-free"))
    assert found[0] == pytest.approx(padded[0], rel=2e-5)
    assert found[1] == pytest.approx(padded[1], rel=2e-5)
    assert sum(calls) == 2 * 2 * 2, "two steps of two layers, each of them twice"


def test_logits_are_those_of_learned_tokens_only(tiny_base, tmp_path):
    """And the loss is the model's own over all of them."""
    from trainer.methods import sft

    lesson = fitting.lesson(tiny_base, tmp_path, replace(STEPS, packing="padding-free"), ROWS)
    answers = sft.build(lesson, sft.prepare(lesson))
    batch = answers.data_collator([answers.train_dataset[i] for i in range(4)])
    asked = []
    model = answers.model.get_base_model()
    model.lm_head.register_forward_hook(lambda module, given, found: asked.append(found.shape[1]))
    loss = answers.compute_loss(answers.model, dict(batch))
    n_learned = int((batch["labels"] != IGNORED).sum())
    assert asked == [n_learned]
    whole = answers.model(**{k: v for k, v in batch.items() if k != "labels"}).logits[0, :-1]
    wanted = batch["labels"][0, 1:]
    own = torch.nn.functional.cross_entropy(whole, wanted, ignore_index=IGNORED)
    assert loss.item() == pytest.approx(own.item(), rel=1e-5)


@pytest.mark.parametrize("packing", ["none", "padding-free"])
def test_a_loss_in_tiles_is_the_same(tiny_base, tmp_path, monkeypatch, packing):
    """What a GPU, and a vocabulary too large to hold its logits, is given."""
    from trainer.methods import sft

    recipe = replace(STEPS, packing=packing)
    plain = measured(tiny_base, tmp_path / "a", recipe)
    monkeypatch.setattr(sft, "MOST_LOGITS", 0)
    tiled = measured(tiny_base, tmp_path / "b", recipe)
    assert tiled[0] == pytest.approx(plain[0], rel=2e-5)


def test_a_batch_with_nothing_to_learn_is_an_error(tiny_base, tmp_path):
    from trainer.methods import sft

    lesson = fitting.lesson(tiny_base, tmp_path, STEPS, ROWS)
    answers = sft.build(lesson, sft.prepare(lesson))
    ids = torch.tensor([[1, 2, 3]])
    masked = {"input_ids": ids, "labels": torch.full_like(ids, IGNORED)}
    with pytest.raises(BadInput, match="every label masked"):
        answers.compute_loss(answers.model, masked)


def test_the_attention_of_rows_end_to_end_is_that_of_each_alone(tiny_base):
    model = load_model(str(tiny_base))
    assert keep_rows_apart(model)
    assert model.config._attn_implementation == APART


def small(**changes):
    config = {
        "vocab_size": 300,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
    }
    return config | changes


@pytest.mark.parametrize(
    ("kind", "shape", "holds"),
    [
        ("mistral", small(sliding_window=8, head_dim=16), True),
        ("mixtral", small(num_local_experts=4), True),
        ("gpt2", {"vocab_size": 300, "n_embd": 32, "n_layer": 2, "n_head": 2}, True),
        ("gemma2", small(head_dim=16), False),  # a cap on the logits of attention
        ("mamba", {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2}, False),
    ],
)
def test_rows_are_padded_where_they_would_see_each_other(kind, shape, holds):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **shape))
    own = model.config._attn_implementation
    assert keep_rows_apart(model) == holds
    assert model.config._attn_implementation == (APART if holds else own)
    assert model.training


def test_a_base_that_carries_a_state_is_padded_and_that_is_said(tiny_base, tmp_path, monkeypatch):
    from trainer.methods import sft

    monkeypatch.setattr(sft, "keep_rows_apart", lambda model: False)
    said = []
    recipe = replace(STEPS, packing="padding-free")
    lesson = fitting.lesson(
        tiny_base, tmp_path, recipe, ROWS, say=lambda level, text: said.append(text)
    )
    answers = sft.build(lesson, sft.prepare(lesson))
    assert not answers.padding_free
    assert "rows are padded" in said[-1]


def test_wrapped_packing_is_refused():
    with pytest.raises(BadInput, match="wrapped cuts rows and lets them see each other"):
        Recipe(packing="wrapped")


def test_rows_are_told_from_the_ends_given():
    from trainer.apart import NotPlain, attention_apart

    states = torch.randn(1, 2, 6, 4)
    ends = torch.tensor([0, 2, 6])
    found, _ = attention_apart(SimpleNamespace(), states, states, states, None, cu_seq_lens_q=ends)
    alone, _ = attention_apart(
        SimpleNamespace(), *[states[:, :, 2:]] * 3, None, cu_seq_lens_q=torch.tensor([0, 4])
    )
    assert torch.equal(found[:, 2:], alone)
    with pytest.raises(NotPlain):
        attention_apart(SimpleNamespace(), states, states, states, None)
