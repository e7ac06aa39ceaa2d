"""Every number of the demo in one place, with why it is what it is."""

from dataclasses import dataclass, field

from flywheel.demo.pretraining_data import PretrainingMix


@dataclass(frozen=True, slots=True)
class BaseRecipe:
    """The tiny base model and its training from nothing.

    The shape fields are those of `trainer.pretrain.BaseShape`, the others of `PretrainRecipe`;
    they are repeated here because this module must not load torch.

    Attributes:
        steps: optimizer steps.
        batch: chats per step.
        learning_rate: peak, of AdamW.
        threads: torch threads; part of the recipe, since sums depend on it in the last digits.
        seed: of weights and order. One base serves every demo seed.
        hidden: width.
        layers: transformer blocks.
        heads: attention heads.
        kv_heads: key/value heads.
        mlp: width of the feed-forward part.
        vocab: ids of the tokenizer.
        mix: the training chats; their number is `steps` x `batch`.
    """

    steps: int = 750
    batch: int = 32
    learning_rate: float = 4e-3
    threads: int = 2
    seed: int = 0
    hidden: int = 96
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    mlp: int = 288
    vocab: int = 1024
    mix: PretrainingMix = field(default_factory=PretrainingMix)


@dataclass(frozen=True, slots=True)
class LoraRecipe:
    """How one role's adapter is trained.

    Attributes:
        rank: of the adapter, on all linear layers; alpha is twice the rank, dropout 0.
        learning_rate: peak, with a cosine to 0.
        epochs: passes over the kept examples.
        batch: examples per step.
        warmup_steps: of linear warm-up.
    """

    rank: int = 16
    learning_rate: float = 3e-3
    epochs: int = 2
    batch: int = 16
    warmup_steps: int = 5


@dataclass(frozen=True, slots=True)
class RoleRecipe:
    """How much traffic one role plays, and how its adapter is trained.

    Attributes:
        tasks: distinct tasks asked.
        samples: own attempts at each, at temperature 1.
        expert_share: share of the role's calls answered by the scripted expert, 0-1, on
            tasks of their own (`expert_calls` of them).
        lora: of the adapter.
    """

    tasks: int
    samples: int
    expert_share: float
    lora: LoraRecipe = field(default_factory=LoraRecipe)

    @property
    def attempts(self) -> int:
        """Own attempts in all."""
        return self.tasks * self.samples

    @property
    def expert_calls(self) -> int:
        """Calls answered by the expert."""
        return round(self.attempts * self.expert_share / (1 - self.expert_share))


@dataclass(frozen=True, slots=True)
class DemoRecipe:
    """One turn of the wheel on two CPU cores.

    Attributes:
        base: the base model.
        roles: per role its traffic and its training.
        expert_accuracy: how often the scripted expert is right, 0-1.
        eval_tasks: held-out tasks of a benchmark.
        eval_samples: answers per task, at temperature 1.
        max_new_tokens: longest answer; a right one takes at most 65.
    """

    base: BaseRecipe = field(default_factory=BaseRecipe)
    roles: dict[str, RoleRecipe] = field(
        default_factory=lambda: {
            "coder": RoleRecipe(tasks=400, samples=4, expert_share=0.11),
            "tester": RoleRecipe(240, 2, expert_share=0.11, lora=LoraRecipe(epochs=4)),
            "reviewer": RoleRecipe(240, 2, expert_share=0.11, lora=LoraRecipe(epochs=3)),
        }
    )
    expert_accuracy: float = 0.85
    eval_tasks: int = 200
    eval_samples: int = 3
    max_new_tokens: int = 80
