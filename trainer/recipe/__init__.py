"""Recipe: every knob of one training, checked when it is built, and the named presets.

No torch here: the web process and the command line build and check recipes too. What only some
methods need stands in a group of its own: preference, reinforcement, distillation, continual.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Final

from foundation.errors import BadInput, MissingExtra
from trainer.recipe.continual import CONTINUAL, PLAIN, Continual
from trainer.recipe.distillation import Distillation
from trainer.recipe.preference import Preference
from trainer.recipe.ranges import (
    REMEDY,
    Range,
    check,
    given,
    names,
    not_negative,
    number,
    one_of,
    positive,
    share,
    whole,
)
from trainer.recipe.reinforcement import Reinforcement

SFT_LORA, SFT_QLORA, SFT_FULL = "sft-lora", "sft-qlora", "sft-full"
DPO, KTO, ORPO, REWARD = "dpo", "kto", "orpo", "reward"
GRPO, RLOO, PPO = "grpo", "rloo", "ppo"
DISTILL, GKD = "distill", "gkd"
METHODS: Final = (
    *(SFT_LORA, SFT_QLORA, SFT_FULL, DPO, KTO, ORPO, REWARD, GRPO, RLOO, PPO, DISTILL, GKD),
)
SCHEDULERS: Final = ("linear", "cosine", "constant", "constant_with_warmup")
SERVABLE_RANKS: Final = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks that vLLM accepts, so that every adapter can be served next to others."""

ALL_LINEAR: Final = ("all-linear",)
"""Every linear layer but the output head and a router of experts, attention and MLP alike."""

NF4, INT8 = "nf4", "int8"
AO_INT8, AO_FP8 = "ao-int8", "ao-fp8"
QUANTIZATIONS: Final = ("none", NF4, INT8, AO_INT8, AO_FP8)
"""How the frozen base is held: bitsandbytes' NF4 and int8, torchao's weight-only int8 and fp8."""

NO_PACKING, BFD, PADDING_FREE = "none", "bfd", "padding-free"
AUTO, BF16, FP16, FP32 = "auto", "bf16", "fp16", "fp32"
DROP, TRUNCATE = "drop", "truncate"


@dataclass(frozen=True)
class Recipe:
    """All knobs of one training.

    Attributes:
        method: sft-lora, sft-qlora (the frozen base in 4 bits), sft-full (no adapter), dpo, kto,
            orpo, reward, grpo, rloo, ppo, distill or gkd; see `trainer.methods`.
        r: rank of the adapter, one that vLLM serves; unused by sft-full.
        alpha: numerator of the adapter's scale alpha / r, above 0.
        dropout: share of the adapter's inputs dropped while training, 0 to below 1.
        target_modules: names of the layers that get an adapter, or ("all-linear",).
        rslora: scale by alpha / sqrt(r) instead, for large ranks.
        dora: learn each weight's length apart from its direction; cannot be served beside others.
        quantization: how the frozen base is held in memory: none, nf4, int8, ao-int8, ao-fp8.
        lr: peak learning rate of AdamW, above 0, below 1.
        epochs: passes over the training rows, above 0; fractions are allowed.
        max_steps: optimizer steps instead of epochs; 0: as many as the epochs say.
        batch_size: rows per forward pass, at least 1.
        gradient_accumulation: forward passes per optimizer step, at least 1.
        warmup: optimizer steps of linear warm-up, at least 0.
        scheduler: how the rate falls after warm-up: linear, cosine, constant,
            constant_with_warmup.
        weight_decay: of AdamW, at least 0.
        max_grad_norm: longest gradient, longer ones are scaled down; above 0.
        max_length: tokens of the longest row, at least 8.
        too_long: what becomes of longer rows: drop, or truncate (a prompt loses its beginning, an
            answer is never cut); counted in either case.
        packing: none (rows are padded to the longest of their batch), padding-free (the rows of a
            batch end to end, none sees another), bfd (as many rows end to end as fit `max_length`,
            `batch_size` of those in a batch) or auto (padding-free where method and base allow it,
            which is the same sum in a fraction of the time). Not TRL's `wrapped`: it cuts rows and
            lets them see each other.
        neftune: noise on the embeddings while training (NEFTune's alpha), at least 0; 0: none.
        eval_steps: optimizer steps between two looks at the validation loss, each followed by a
            checkpoint; at least 1.
        early_stopping_patience: looks without improvement after which training ends; 0: never.
            The checkpoint of the lowest validation loss is kept in either case.
        precision: auto (bf16 on a GPU that has it, fp16 on another one, fp32 on a CPU), bf16, fp16
            or fp32.
        gradient_checkpointing: recompute activations to save memory, on a GPU only.
        threads: torch threads on a CPU; 0: as FLYWHEEL_TORCH_THREADS says. Equal results need
            equal threads.
        report_to: trackers that are told too: trackio, mlflow, wandb, tensorboard.
        seed: of the adapter's first weights, the order of rows and the dropout; at least 0.
        preference: of dpo, kto, orpo, reward.
        reinforcement: of grpo, rloo, ppo.
        distillation: of distill, gkd.
        continual: what keeps earlier skills.
    """

    method: str = SFT_LORA
    r: int = 16
    alpha: int = 32
    dropout: float = 0.0
    target_modules: tuple[str, ...] = ALL_LINEAR
    rslora: bool = False
    dora: bool = False
    quantization: str = "none"
    lr: float = 2e-4
    epochs: float = 2.0
    max_steps: int = 0
    batch_size: int = 4
    gradient_accumulation: int = 4
    warmup: int = 10
    scheduler: str = "cosine"
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    max_length: int = 4096
    too_long: str = DROP
    packing: str = AUTO
    neftune: float = 0.0
    eval_steps: int = 50
    early_stopping_patience: int = 3
    precision: str = AUTO
    gradient_checkpointing: bool = True
    threads: int = 0
    report_to: tuple[str, ...] = ()
    seed: int = 0
    preference: Preference = field(default_factory=Preference)
    reinforcement: Reinforcement = field(default_factory=Reinforcement)
    distillation: Distillation = field(default_factory=Distillation)
    continual: Continual = field(default_factory=Continual)

    RANGES: ClassVar[Mapping[str, Range]] = {
        "method": one_of(*METHODS),
        "r": one_of(*SERVABLE_RANKS),
        "alpha": whole(1),
        "dropout": share(below_one=True),
        "target_modules": names("layer names, or ('all-linear',)"),
        "rslora": one_of(True, False),
        "dora": one_of(True, False),
        "quantization": one_of(*QUANTIZATIONS),
        "lr": number(lambda x: 0 < x < 1, "a rate above 0, below 1"),
        "epochs": number(lambda x: 0 < x <= 1000, "passes above 0, at most 1000"),
        "max_steps": whole(0),
        "batch_size": whole(1),
        "gradient_accumulation": whole(1),
        "warmup": whole(0),
        "scheduler": one_of(*SCHEDULERS),
        "weight_decay": not_negative(),
        "max_grad_norm": positive(),
        "max_length": whole(8),
        "too_long": one_of(DROP, TRUNCATE),
        "packing": (
            one_of(AUTO, NO_PACKING, BFD, PADDING_FREE)[0],
            f"one of {AUTO}, {NO_PACKING}, {BFD}, {PADDING_FREE} (wrapped cuts rows and lets them "
            "see each other)",
        ),
        "neftune": not_negative(),
        "eval_steps": whole(1),
        "early_stopping_patience": whole(0),
        "precision": one_of(AUTO, BF16, FP16, FP32),
        "gradient_checkpointing": one_of(True, False),
        "threads": whole(0),
        "report_to": names("names of trackers", may_be_empty=True),
        "seed": whole(0),
        "preference": given(Preference),
        "reinforcement": given(Reinforcement),
        "distillation": given(Distillation),
        "continual": given(Continual),
    }

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            BadInput: naming the field, its value and its range.
        """
        for name in ("target_modules", "report_to"):
            value = getattr(self, name)
            object.__setattr__(self, name, (value,) if isinstance(value, str) else tuple(value))
        check(self, "recipe")

    @property
    def effective_batch_size(self) -> int:
        """Rows per optimizer step."""
        return self.batch_size * self.gradient_accumulation

    @property
    def held_as(self) -> str:
        """How the frozen base is held: sft-qlora means NF4 unless another way is named."""
        return (
            NF4 if self.method == SFT_QLORA and self.quantization == "none" else self.quantization
        )

    @property
    def content_hash(self) -> str:
        """SHA-256 of the recipe: equal recipes have equal hashes."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; `from_dict` gives the same recipe back."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Recipe":
        """Build a recipe from plain values; `preset` names the one that the others change.

        A group (preference, reinforcement, distillation, continual) is a mapping of its own knobs.

        Raises:
            BadInput: an unknown field or preset, or a value out of range.
        """
        base = preset(values["preset"]) if "preset" in values else cls()
        changes = {name: value for name, value in values.items() if name != "preset"}
        _require_known(changes, cls, "recipe")
        for name, kind in GROUPS.items():
            if isinstance(changes.get(name), Mapping):
                _require_known(changes[name], kind, f"recipe.{name}")
                changes[name] = replace(getattr(base, name), **changes[name])
        for name in ("target_modules", "report_to"):
            if name in changes and not isinstance(changes[name], list | tuple | str):
                raise BadInput(f"recipe.{name}", changes[name], cls.RANGES[name][1], REMEDY)
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
            raise BadInput(f"recipe file {path}", values, "a mapping of recipe fields", REMEDY)
        return cls.from_dict(values)


GROUPS: Final[dict[str, type[Any]]] = {
    "preference": Preference,
    "reinforcement": Reinforcement,
    "distillation": Distillation,
    "continual": Continual,
}
"""Groups of knobs that only some methods need, by their name in a recipe."""


def _require_known(values: Mapping[str, Any], kind: type[Any], where: str) -> None:
    known = {entry.name for entry in fields(kind)}
    for name in values:
        if name not in known:
            raise BadInput(f"{where} field", name, f"one of {', '.join(sorted(known))}", REMEDY)


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
    # The plan's second setting: a wide adapter on the attention.
    "hafs": Recipe(
        r=64,
        alpha=128,
        dropout=0.1,
        target_modules=("q_proj", "k_proj", "v_proj", "o_proj"),
        epochs=3,
        warmup=100,
        weight_decay=0.01,
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
        precision=FP32,
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


__all__ = ["CONTINUAL", "GROUPS", "METHODS", "PLAIN", "PRESETS", "Recipe", "preset"]
