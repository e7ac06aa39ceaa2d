import json
from dataclasses import fields

import pytest

from foundation.errors import BadInput
from trainer.recipe import GROUPS, PRESETS, Recipe, preset


def test_the_plan_preset_is_the_plan():
    plan = PRESETS["plan"]
    assert (plan.r, plan.alpha, plan.dropout) == (8, 32, 0.1)
    assert plan.target_modules == ("q_proj", "v_proj")
    assert (plan.lr, plan.epochs, plan.warmup) == (2e-4, 3, 100)
    assert plan.effective_batch_size == 16
    assert (plan.weight_decay, plan.max_grad_norm) == (0.01, 1.0)


def test_every_field_has_a_range():
    for kind in (Recipe, *GROUPS.values()):
        assert set(kind.RANGES) == {field.name for field in fields(kind)}


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("method", "sft-full", "sft"),
        ("r", 1, 2),
        ("r", 512, 513),
        ("alpha", 1, 0),
        ("dropout", 0, 1.0),
        ("dropout", 0.99, -0.01),
        ("target_modules", ["q_proj"], []),
        ("target_modules", ["q_proj"], [""]),
        ("lr", 1e-9, 0),
        ("lr", 0.99, 1.0),
        ("lr", 1e-3, float("nan")),
        ("lr", 1e-3, "1e-3"),
        ("epochs", 0.5, 0),
        ("batch_size", 1, 0),
        ("batch_size", 4, 4.0),
        ("batch_size", 4, True),
        ("gradient_accumulation", 1, 0),
        ("warmup", 0, -1),
        ("scheduler", "constant", "cosinus"),
        ("weight_decay", 0, -0.1),
        ("max_grad_norm", 0.1, 0),
        ("max_length", 8, 7),
        ("eval_steps", 1, 0),
        ("early_stopping_patience", 0, -1),
        ("threads", 0, -1),
        ("seed", 0, -1),
    ],
)
def test_a_value_out_of_range_is_named_with_its_range(name, good, bad):
    Recipe.from_dict({name: good})
    with pytest.raises(BadInput) as caught:
        Recipe.from_dict({name: bad})
    assert f"recipe.{name}" in str(caught.value)
    assert caught.value.expected


@pytest.mark.parametrize("name", PRESETS)
def test_a_recipe_survives_json(name):
    recipe = PRESETS[name]
    again = Recipe.from_dict(json.loads(json.dumps(recipe.to_dict())))
    assert again == recipe
    assert again.content_hash == recipe.content_hash


def test_a_preset_is_changed_field_by_field():
    recipe = Recipe.from_dict({"preset": "demo", "seed": 3})
    assert recipe.seed == 3
    assert recipe.lr == PRESETS["demo"].lr
    assert recipe.content_hash != PRESETS["demo"].content_hash


def test_an_unknown_field_or_preset_is_refused():
    with pytest.raises(BadInput, match="learning_rate"):
        Recipe.from_dict({"learning_rate": 1e-3})
    with pytest.raises(BadInput, match="nope"):
        preset("nope")
    with pytest.raises(BadInput, match="nope"):
        Recipe.from_dict({"preset": "nope"})


def test_yaml(tmp_path):
    file = tmp_path / "coder.yaml"
    file.write_text("preset: plan\nlr: 0.001\ntarget_modules: [q_proj]\n")
    assert Recipe.from_yaml(file) == Recipe.from_dict(
        {"preset": "plan", "lr": 0.001, "target_modules": ["q_proj"]}
    )
    file.write_text("- a\n- list\n")
    with pytest.raises(BadInput, match="mapping"):
        Recipe.from_yaml(file)
    file.write_text("{unclosed")
    with pytest.raises(BadInput, match="readable YAML"):
        Recipe.from_yaml(file)
    with pytest.raises(BadInput, match="readable YAML"):
        Recipe.from_yaml(tmp_path / "absent.yaml")
