"""Every method by name, two steps each: what it reads, what it makes, and that it learned."""

from dataclasses import replace

import pytest
import torch
from each_method import SHORT, lesson_of, recipe_of, rows_for
from fitting import train
from safetensors.torch import load_file
from tiny_base import make_rows

from trainer.lesson import Earlier
from trainer.methods import ADAPTER, METHODS, method_module
from trainer.recipe import CONTINUAL, PRESETS
from trainer.recipe import METHODS as NAMES

BEGIN_THE_LINE = ("si", "packnet")
"""Ways to learn on whose first training keeps something for the next one."""


def test_the_registry_names_what_recipes_may():
    assert tuple(METHODS) == NAMES
    for name in METHODS:
        module = method_module(name)
        assert callable(module.prepare)
        assert callable(module.build)
        assert module.__doc__


@pytest.mark.parametrize("method", METHODS)
def test_two_steps_of_each_method_move_its_weights(method, before, tiny_base, tmp_path):
    rows = rows_for(method)
    trained = train(
        tiny_base,
        tmp_path,
        recipe_of(method),
        rows[:16],
        rows[16:],
        **lesson_of(method, tiny_base, before),
    )
    assert trained.metrics["steps"] == 2
    assert trained.metrics["rows"] == (32 if method == "kto" else 16), "both sides of a pair"
    files = {path.name for path in trained.folder.iterdir()}
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pth", ".pkl"))]
    if METHODS[method].makes == ADAPTER:
        assert {"adapter_config.json", "adapter_model.safetensors"} <= files
        weights = load_file(trained.folder / "adapter_model.safetensors")
        moved = [t for name, t in weights.items() if "lora_B" in name]
        assert moved
        assert any(torch.count_nonzero(t) for t in moved), "B begins at 0: nothing was learned"
    assert len(trained.weights_sha256) == 64


@pytest.fixture(scope="module")
def before(tiny_base, tmp_path_factory):
    """A version to go on from, and the rows that it learned from."""
    folder = tmp_path_factory.mktemp("before")
    return train(tiny_base, folder, SHORT, make_rows(16)).folder


@pytest.mark.parametrize("kept_by", CONTINUAL)
def test_two_steps_of_each_way_to_learn_on(kept_by, before, tiny_base, tmp_path):
    recipe = replace(SHORT, continual=replace(SHORT.continual, method=kept_by))
    if kept_by in BEGIN_THE_LINE:
        before = train(tiny_base, tmp_path / "first", recipe, make_rows(16)).folder
    earlier = Earlier("coder-v1", before, make_rows(16), [before])
    trained = train(
        tiny_base,
        tmp_path / "second",
        recipe,
        make_rows(16, "seven"),
        make_rows(8, "seven"),
        earlier=earlier,
    )
    assert trained.metrics["steps"] == 2
    old = load_file(before / "adapter_model.safetensors")
    new = load_file(trained.folder / "adapter_model.safetensors")
    assert old.keys() == new.keys()
    assert any(old[n].shape != new[n].shape or not torch.equal(old[n], new[n]) for n in old)


def test_presets_name_methods_that_exist():
    for recipe in PRESETS.values():
        assert recipe.method in METHODS
