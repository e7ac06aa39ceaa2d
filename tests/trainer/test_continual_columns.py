"""Frozen ranks beside learned ones: bits stay, the start computes the old, masks hold."""

import json
from dataclasses import replace

import pytest
import torch
from continual_line import OLD, TWO_STEPS, VALIDATION, learn, version
from peft import PeftModel
from safetensors.torch import load_file, save_file

from foundation.errors import BadInput
from trainer.base import load_model
from trainer.continual.orthogonal import overlap
from trainer.continual.ranks import (
    FrozenChanged,
    Ranks,
    TrainOnly,
    concentrated,
    make_room,
    n_used,
    rank_axis,
    require_unchanged,
    servable_rank,
)
from trainer.continual.state import adapter_config, adapter_weights
from trainer.recipe.continual import Continual

DECAYING = replace(TWO_STEPS, weight_decay=0.1)
"""Weight decay moves what has no gradient, too."""


@pytest.fixture(scope="module")
def first(tiny_base, tmp_path_factory):
    return version(learn(tiny_base, tmp_path_factory.mktemp("first"), None, rows=OLD))


def logits_of(base, folder):
    model = PeftModel.from_pretrained(load_model(str(base)), str(folder)).eval()
    with torch.no_grad():
        return model(input_ids=torch.arange(3, 40)[None]).logits


def ranks_of(folder, ranks):
    return {name: ranks.of(name, matrix) for name, matrix in adapter_weights(folder).items()}


def same(one, other):
    assert one.keys() == other.keys()
    return all(torch.equal(one[name], other[name]) for name in one)


def test_ranks_are_padded_to_what_is_served():
    assert [servable_rank(n) for n in (1, 2, 16, 24, 48, 512)] == [1, 8, 16, 32, 64, 512]
    with pytest.raises(BadInput, match="at most 512"):
        servable_rank(513)


@pytest.mark.slow
@pytest.mark.parametrize("n_new", [8, 16])
@pytest.mark.parametrize("rslora", [False, True])
def test_an_adapter_with_room_computes_what_it_did(n_new, rslora, first, tiny_base, tmp_path):
    old = tmp_path / "old"
    old.mkdir()
    config = {**adapter_config(first.folder), "use_rslora": rslora}
    (old / "adapter_config.json").write_text(json.dumps(config))
    save_file(adapter_weights(first.folder), old / "adapter_model.safetensors", {"format": "pt"})
    make_room(adapter_weights(old), config, 16, n_new, 0, tmp_path / "grown")
    assert adapter_config(tmp_path / "grown")["r"] == 32
    assert same(ranks_of(old, Ranks(0, 16)), ranks_of(tmp_path / "grown", Ranks(0, 16)))
    before, after = logits_of(tiny_base, old), logits_of(tiny_base, tmp_path / "grown")
    torch.testing.assert_close(after, before, rtol=0, atol=2e-6)
    room = ranks_of(tmp_path / "grown", Ranks(16, 16 + n_new))
    assert all(bool(m.any()) == (rank_axis(name) == 0) for name, m in room.items())
    padding = ranks_of(tmp_path / "grown", Ranks(16 + n_new, 32))
    assert not any(m.any() for m in padding.values())


def test_the_best_directions_are_kept():
    torch.manual_seed(0)
    names = "x.lora_A.weight", "x.lora_B.weight"
    weights = {names[0]: torch.randn(6, 20), names[1]: torch.randn(12, 6)}
    kept_a, kept_b = weights[names[0]][:2].clone(), weights[names[1]][:, :2].clone()
    update = weights[names[1]][:, 2:] @ weights[names[0]][2:]
    concentrated(weights, Ranks(2, 6), 2)
    u, s, vh = torch.linalg.svd(update.double(), full_matrices=False)
    best = (u[:, :2] * s[:2] @ vh[:2]).float()
    found = weights[names[1]][:, 2:] @ weights[names[0]][2:]
    torch.testing.assert_close(found, best, rtol=1e-4, atol=1e-4)
    assert torch.equal(weights[names[0]][:2], kept_a)
    assert torch.equal(weights[names[1]][:, :2], kept_b)
    assert n_used(weights) == 4
    assert not weights[names[0]][4:].any()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["progressive", "orthogonal"])
def test_old_columns_keep_their_bits_and_new_ones_learn(method, first, tiny_base, tmp_path):
    second = learn(tiny_base, tmp_path / "b", first, Continual(method), DECAYING)
    assert same(ranks_of(second.folder, Ranks(0, 16)), ranks_of(first.folder, Ranks(0, 16)))
    learned = ranks_of(second.folder, Ranks(16, 32))
    assert all(bool(m.any()) for m in learned.values())
    third = learn(tiny_base, tmp_path / "c", version(second), Continual(method), DECAYING)
    assert same(ranks_of(third.folder, Ranks(0, 32)), ranks_of(second.folder, Ranks(0, 32)))
    assert not any(m.any() for m in ranks_of(third.folder, Ranks(48, 64)).values())
    columns = json.loads((third.folder / "continual" / "columns.json").read_text())
    assert columns == {"columns": [[0, 16], [16, 32], [32, 48]], "rank": 64}


@pytest.mark.slow
def test_the_overlap_falls_and_without_strength_nothing_is_asked(first, tiny_base, tmp_path):
    recipe = replace(TWO_STEPS, epochs=4.0)
    found = {}
    for strength in (0.0, 0.5):
        continual = Continual("orthogonal", orthogonal_lambda=strength)
        trained = learn(tiny_base, tmp_path / str(strength), first, continual, recipe)
        found[strength] = (
            trained.weights_sha256,
            overlap(adapter_weights(trained.folder), Ranks(0, 16), Ranks(16, 32)),
        )
    progressive = learn(tiny_base, tmp_path / "p", first, Continual("progressive"), recipe)
    assert found[0.0][0] == progressive.weights_sha256
    assert found[0.5][1] < 0.7 * found[0.0][1]


@pytest.mark.slow
def test_packnet_keeps_half_of_the_free_ranks_each_time(first, tiny_base, tmp_path):
    continual, earlier = Continual("packnet"), None
    versions = []
    for i in range(4):
        trained = learn(tiny_base, tmp_path / str(i), earlier, continual, DECAYING)
        versions.append(trained.folder)
        earlier = version(trained, f"v{i}")
    mask = json.loads((versions[-1] / "continual" / "packnet.json").read_text())
    assert mask == {"tasks": [[0, 8], [8, 12], [12, 14], [14, 15]], "rank": 16}
    for (_, kept), one, later in zip(mask["tasks"], versions, versions[1:], strict=False):
        assert same(ranks_of(one, Ranks(0, kept)), ranks_of(later, Ranks(0, kept)))
        assert not any(m.any() for m in ranks_of(one, Ranks(kept, 16)).values())
    last = learn(tiny_base, tmp_path / "last", earlier, continual, DECAYING)
    with pytest.raises(BadInput, match="free ranks of the adapter: got 0"):
        learn(tiny_base, tmp_path / "none", version(last), continual, DECAYING)


@pytest.mark.slow
def test_packnet_thins_a_version_that_was_trained_plainly(first, tiny_base, tmp_path):
    trained = learn(tiny_base, tmp_path, first, Continual("packnet"))
    thinned = adapter_weights(first.folder)
    concentrated(thinned, Ranks(0, 16), 8)
    kept = {name: Ranks(0, 8).of(name, matrix) for name, matrix in thinned.items()}
    assert same(ranks_of(trained.folder, Ranks(0, 8)), kept)
    assert n_used(adapter_weights(trained.folder)) == 12


@pytest.mark.slow
def test_packnet_thins_what_stopped_before_its_turn(tiny_base, tmp_path):
    recipe = replace(TWO_STEPS, lr=5e-2, epochs=40.0, eval_steps=2, early_stopping_patience=1)
    trained = learn(
        tiny_base, tmp_path, None, Continual("packnet"), recipe, rows=OLD, validation=VALIDATION
    )
    assert trained.metrics["stopped_early"]
    assert trained.metrics["steps"] < 2 / 3 * trained.metrics["planned_steps"]
    assert n_used(adapter_weights(trained.folder)) == 8


def test_frozen_weights_that_changed_are_found(tmp_path):
    names = ("x.lora_A.weight", "x.lora_B.weight")
    shapes = ((4, 3), (5, 4))
    for folder in ("before", "after"):
        (tmp_path / folder).mkdir()
        weights = {name: torch.ones(shape) for name, shape in zip(names, shapes, strict=True)}
        if folder == "after":
            weights[names[1]][2, 1] = 1.0000001
        save_file(weights, tmp_path / folder / "adapter_model.safetensors")
    require_unchanged(tmp_path / "after", tmp_path / "before", Ranks(2, 4))
    with pytest.raises(FrozenChanged, match=r"x\.lora_B\.weight"):
        require_unchanged(tmp_path / "after", tmp_path / "before", Ranks(0, 2))


@pytest.mark.slow
def test_a_training_that_moved_a_frozen_weight_fails_at_its_end(first, tiny_base):
    base = load_model(str(tiny_base))
    model = PeftModel.from_pretrained(base, str(first.folder), is_trainable=True)
    guard = TrainOnly(Ranks(8, 16))
    guard.on_train_begin(None, None, None, model=model)
    name, parameter = next((n, p) for n, p in model.named_parameters() if "lora_B" in n)
    with torch.no_grad():
        parameter[0, 9] += 1
    guard.on_train_end()
    with torch.no_grad():
        parameter[0, 7] += 1
    with pytest.raises(FrozenChanged, match=name.replace(".default", "")):
        guard.on_train_end()


def test_a_stored_adapter_is_read_as_peft_writes_it(first):
    weights = load_file(first.folder / "adapter_model.safetensors")
    assert weights.keys() == adapter_weights(first.folder).keys()
