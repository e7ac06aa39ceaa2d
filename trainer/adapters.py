"""The adapter that a training learns: new by the recipe, or the one of the version before."""

from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model

from foundation.errors import BadInput
from trainer.lesson import Lesson
from trainer.recipe import ALL_LINEAR, SFT_FULL, Recipe

NEVER = ("lm_head", "score", "gate", "router", "shared_expert_gate")
"""Linear layers that `all-linear` leaves alone: the heads, and the routers of experts."""


def with_adapter(model: Any, lesson: Lesson, *, task_type: str = "CAUSAL_LM") -> Any:
    """Return the model with a trainable adapter; as it is for a training of all weights.

    Call it after seeding: the first weights are drawn here. A training that goes on from a version
    goes on with that version's own matrices, so its rank and layers are those. A base in few bits
    is taken as it is: peft freezes it and keeps the adapter in 32 bits, and peft's own preparation
    would hold embeddings and head in 32 bits too, two gigabytes more at 7B.

    Raises:
        BadInput: a target module that the base does not have.
    """
    recipe = lesson.recipe
    if recipe.method == SFT_FULL:
        return model
    if lesson.earlier is not None:
        model = PeftModel.from_pretrained(model, str(lesson.earlier.folder), is_trainable=True)
        # The kept file does not tell where its base was: peft would ask the hub at each checkpoint.
        model.peft_config["default"].base_model_name_or_path = lesson.base_model
        return model
    require_targets(model, recipe)
    say_what_stays(model, lesson)
    return get_peft_model(model, lora_config(recipe, model, task_type=task_type))


def lora_config(recipe: Recipe, model: Any, *, task_type: str = "CAUSAL_LM") -> LoraConfig:
    """Return the recipe's adapter over a model."""
    all_linear = recipe.target_modules == ALL_LINEAR
    return LoraConfig(
        task_type=task_type,
        r=recipe.r,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        use_rslora=recipe.rslora,
        use_dora=recipe.dora,
        target_modules=sorted(linear_layers(model)) if all_linear else list(recipe.target_modules),
        bias="none",
    )


def linear_layers(model: Any) -> set[str]:
    """Return the last names of the model's linear layers that an adapter may sit on."""
    head = model.get_output_embeddings()
    return {
        name.rsplit(".", 1)[-1]
        for name, module in model.named_modules()
        if (isinstance(module, torch.nn.Linear) or hasattr(module, "in_features"))
        and module is not head
    } - set(NEVER)


def expert_weights(model: Any) -> list[str]:
    """Return the names of weights that hold many experts in one tensor; they are no layers."""
    return [
        name
        for name, weight in model.named_parameters()
        if ".experts." in name and weight.ndim == 3
    ]


def say_what_stays(model: Any, lesson: Lesson) -> None:
    """Say that the experts of a mixture stay as they are: an adapter sits on layers."""
    experts = expert_weights(model)
    if experts and lesson.recipe.target_modules == ALL_LINEAR:
        lesson.say(
            "WARNING",
            f"the {len(experts)} weights of experts, such as {experts[0]}, are held in one tensor "
            "each and get no adapter; attention and other dense layers do",
        )


def require_targets(model: Any, recipe: Recipe) -> None:
    """Check each target by name: peft is content when any one of them exists."""
    if recipe.target_modules == ALL_LINEAR:
        return
    linear = linear_layers(model)
    for target in recipe.target_modules:
        if target not in linear:
            raise BadInput(
                "recipe.target_modules",
                target,
                f"linear layers of the base: {', '.join(sorted(linear))}",
                "Name some of those, or all-linear.",
            )
