"""Recipe: every knob of one training, checked when it is built, and the named presets.

No torch here: the web process and the command line build and check recipes too.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from foundation.errors import BadInput, MissingExtra

SFT_LORA, SFT_QLORA, SFT_FULL = "sft-lora", "sft-qlora", "sft-full"
METHODS = (SFT_LORA, SFT_QLORA, SFT_FULL)
SCHEDULERS = ("linear", "cosine", "constant", "constant_with_warmup")
SERVABLE_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks that vLLM accepts, so that every adapter can be served next to others."""

ALL_LINEAR = ("all-linear",)
"""Every linear layer but the output head, attention and feed-forward alike."""

_REMEDY = "Correct the recipe, or start from a preset: plan, default, demo."


@dataclass(frozen=True)
class Recipe:
    """All knobs of one training.

    Attributes:
        method: sft-lora, sft-qlora (the frozen base in 4 bits) or sft-full (no adapter).
        r: rank of the adapter, one that vLLM serves; unused by sft-full.
        alpha: numerator of the adapter's scale alpha / r, above 0.
        dropout: share of the adapter's inputs dropped while training, 0 to below 1.
        target_modules: names of the layers that get an adapter, or ("all-linear",).
        lr: peak learning rate of AdamW, above 0, below 1.
        epochs: passes over the training rows, above 0; fractions are allowed.
        batch_size: rows per forward pass, at least 1.
        gradient_accumulation: forward passes per optimizer step, at least 1.
        warmup: optimizer steps of linear warm-up, at least 0.
        scheduler: how the rate falls after warm-up: linear, cosine, constant,
            constant_with_warmup.
        weight_decay: of AdamW, at least 0.
        max_grad_norm: longest gradient, longer ones are scaled down; above 0.
        max_length: tokens of the longest row; longer rows are left out and counted; at least 8.
        eval_steps: optimizer steps between two looks at the validation loss, each followed by a
            checkpoint; at least 1.
        early_stopping_patience: looks without improvement after which training ends; 0: never.
            The checkpoint of the lowest validation loss is kept in either case.
        bf16: compute in bfloat16 on a GPU; a CPU run is fp32 whatever this says.
        gradient_checkpointing: recompute activations to save memory, on a GPU only.
        threads: torch threads on a CPU; 0: as FLYWHEEL_TORCH_THREADS says. Equal results need
            equal threads.
        seed: of the adapter's first weights, the order of rows and the dropout; at least 0.
    """

    method: str = SFT_LORA
    r: int = 16
    alpha: int = 32
    dropout: float = 0.0
    target_modules: tuple[str, ...] = ALL_LINEAR
    lr: float = 2e-4
    epochs: float = 2.0
    batch_size: int = 4
    gradient_accumulation: int = 4
    warmup: int = 10
    scheduler: str = "cosine"
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    max_length: int = 4096
    eval_steps: int = 50
    early_stopping_patience: int = 3
    bf16: bool = True
    gradient_checkpointing: bool = True
    threads: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            BadInput: naming the field, its value and its range.
        """
        object.__setattr__(self, "target_modules", tuple(self.target_modules))
        for name, (accepts, expected) in _RANGES.items():
            value = getattr(self, name)
            if not accepts(value):
                raise BadInput(f"recipe.{name}", value, expected, _REMEDY)

    @property
    def effective_batch_size(self) -> int:
        """Rows per optimizer step."""
        return self.batch_size * self.gradient_accumulation

    @property
    def content_hash(self) -> str:
        """SHA-256 of the recipe: equal recipes have equal hashes."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; `from_dict` gives the same recipe back."""
        return {**asdict(self), "target_modules": list(self.target_modules)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Recipe":
        """Build a recipe from plain values; `preset` names the one that the others change.

        Raises:
            BadInput: an unknown field or preset, or a value out of range.
        """
        known = {field.name for field in fields(cls)}
        base = preset(values["preset"]) if "preset" in values else cls()
        changes = {name: value for name, value in values.items() if name != "preset"}
        for name in changes:
            if name not in known:
                raise BadInput("recipe field", name, f"one of {', '.join(sorted(known))}", _REMEDY)
        return replace(base, **changes)

    @classmethod
    def from_yaml(cls, path: Path) -> "Recipe":
        """Read a recipe from a YAML mapping; needs PyYAML, which the extra [train] brings.

        Raises:
            BadInput: the file is not a mapping of recipe fields.
            MissingExtra: PyYAML is not installed.
        """
        try:
            import yaml
        except ImportError as error:
            raise MissingExtra("yaml", "train") from error
        try:
            values = yaml.safe_load(path.read_text())
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise BadInput("recipe file", str(path), "a readable YAML file", str(error)) from error
        if not isinstance(values, dict):
            raise BadInput(f"recipe file {path}", values, "a mapping of recipe fields", _REMEDY)
        return cls.from_dict(values)


def _whole(at_least: int) -> tuple[Callable[[Any], bool], str]:
    def accepts(value: Any) -> bool:
        return type(value) is int and value >= at_least

    return accepts, f"a whole number of at least {at_least}"


def _number(accepts: Callable[[float], bool], expected: str) -> tuple[Callable[[Any], bool], str]:
    def check(value: Any) -> bool:
        return type(value) in (int, float) and accepts(value)

    return check, expected


def _one_of(choices: tuple[Any, ...]) -> tuple[Callable[[Any], bool], str]:
    return lambda value: value in choices, f"one of {', '.join(map(str, choices))}"


def _are_names(value: tuple[Any, ...]) -> bool:
    return bool(value) and all(isinstance(name, str) and name for name in value)


_RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "method": _one_of(METHODS),
    "r": _one_of(SERVABLE_RANKS),
    "alpha": _whole(1),
    "dropout": _number(lambda x: 0 <= x < 1, "a share of 0 to below 1"),
    "target_modules": (_are_names, "layer names, or ('all-linear',)"),
    "lr": _number(lambda x: 0 < x < 1, "a rate above 0, below 1"),
    "epochs": _number(lambda x: 0 < x <= 1000, "passes above 0, at most 1000"),
    "batch_size": _whole(1),
    "gradient_accumulation": _whole(1),
    "warmup": _whole(0),
    "scheduler": _one_of(SCHEDULERS),
    "weight_decay": _number(lambda x: 0 <= x < float("inf"), "a number of at least 0"),
    "max_grad_norm": _number(lambda x: 0 < x < float("inf"), "a number above 0"),
    "max_length": _whole(8),
    "eval_steps": _whole(1),
    "early_stopping_patience": _whole(0),
    "bf16": _one_of((True, False)),
    "gradient_checkpointing": _one_of((True, False)),
    "threads": _whole(0),
    "seed": _whole(0),
}

PRESETS: dict[str, Recipe] = {
    # The product plan's own setting, kept for comparison.
    "plan": Recipe(
        r=8,
        alpha=32,
        dropout=0.1,
        target_modules=("q_proj", "v_proj"),
        lr=2e-4,
        epochs=3,
        batch_size=4,
        gradient_accumulation=4,
        warmup=100,
        scheduler="linear",
        weight_decay=0.01,
        max_grad_norm=1.0,
    ),
    # What measures best: all linear layers, alpha 2r, no dropout ("LoRA Without Regret", 2025).
    "default": Recipe(),
    # For a base of half a million parameters on two CPU cores.
    "demo": Recipe(
        lr=3e-3,
        epochs=2,
        batch_size=16,
        gradient_accumulation=1,
        warmup=0,
        max_length=512,
        eval_steps=10,
        early_stopping_patience=3,
        bf16=False,
        gradient_checkpointing=False,
        threads=1,
    ),
}


def preset(name: str) -> Recipe:
    """Return a preset by name; raises BadInput for an unknown one."""
    try:
        return PRESETS[name]
    except (KeyError, TypeError):
        raise BadInput(
            "recipe preset", name, f"one of {', '.join(PRESETS)}", "Name one of those."
        ) from None
