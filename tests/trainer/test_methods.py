"""Every method by name, two steps each: what it reads, what it makes, and that it learned."""

from dataclasses import replace

import pytest
import torch
from fitting import train
from safetensors.torch import load_file
from tiny_base import QUICK, make_rows

from foundation.chat import message
from trainer.lesson import Earlier
from trainer.methods import ADAPTER, METHODS, TASKS, method_module
from trainer.recipe import CONTINUAL, PRESETS, Recipe
from trainer.recipe import METHODS as NAMES
from trainer.recipe.reinforcement import Reinforcement

SHORT = replace(QUICK, max_steps=2, eval_steps=2, batch_size=8, lr=1e-3, dropout=0.0)


BEGIN_THE_LINE = ("si", "packnet")
"""Ways to learn on whose first training keeps something for the next one."""


def rows_for(method: str) -> list[dict]:
    rows = make_rows(24)
    if METHODS[method].reads == "preference":
        return [
            {
                "prompt": row["prompt"],
                "chosen": row["completion"],
                "rejected": [message("assistant", "no idea at all")],
            }
            for row in rows
        ]
    if METHODS[method].reads == TASKS:
        return [{"prompt": row["prompt"], "task_id": row["example_id"]} for row in rows]
    return rows


def reward(rows, answers):
    """By the letters of an answer: no two answers of a group are worth the same for long."""
    return [sum(map(ord, answer)) % 7 / 6 for answer in answers]


def lesson_of(method: str, tiny_base, teacher) -> dict:
    if METHODS[method].reads == TASKS:
        return {"reward": reward}
    return {"teacher": (str(tiny_base), teacher)} if method in ("distill", "gkd") else {}


def recipe_of(method: str) -> Recipe:
    answers = Reinforcement(n_answers=8, max_new_tokens=48)  # shorter ones never end
    recipe = replace(SHORT, method=method, reinforcement=answers)
    if method in ("distill", "gkd"):
        distillation = replace(recipe.distillation, teacher="base", max_new_tokens=8)
        return replace(recipe, distillation=distillation)
    return recipe


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
