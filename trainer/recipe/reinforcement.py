"""Knobs of the methods that learn from rewards of their own answers: grpo, rloo, ppo."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from trainer.recipe.ranges import (
    Range,
    check,
    name_or_none,
    not_negative,
    number,
    one_of,
    positive,
    share,
    whole,
)

GRADED, REWARD_MODEL = "graded", "reward-model"
REWARDS: Final = (GRADED, REWARD_MODEL)
NOTHING, AS_GRADED, LEFT_OUT = "nothing", "as-graded", "left-out"
CUT_ANSWERS: Final = (NOTHING, AS_GRADED, LEFT_OUT)


@dataclass(frozen=True)
class Reinforcement:
    """How answers are sampled and what they are rewarded for.

    Attributes:
        reward: graded (the graders of the tasks: code is executed in the sandbox) or reward-model.
        reward_model: of reward-model, the name of a version that the method `reward` made.
        n_answers: answers to each prompt, which are compared with each other; at least 2.
        temperature: of sampling, above 0.
        max_new_tokens: longest answer, at least 1.
        cut_answers: what an answer is worth that did not end by itself: nothing (so that the model
            learns to end), as-graded, or left-out (it teaches nothing).
        kl: weight of the distance from the model that the training began from, at least 0.
        clip: share that a token's probability ratio may move in one update, above 0, to 1.
        updates_per_batch: passes over each batch of answers, at least 1.
        entropy: ppo, weight of a bonus for undecided tokens, at least 0.
        discount: ppo, of later rewards, 0-1.
        gae_lambda: ppo, between one-step (0) and whole-answer (1) advantages.
        value_lr: ppo, peak rate of the value head, above 0.
        value_weight: ppo, of the value's loss beside the policy's, at least 0.
    """

    reward: str = GRADED
    reward_model: str | None = None
    n_answers: int = 8
    temperature: float = 1.0
    max_new_tokens: int = 256
    cut_answers: str = NOTHING
    kl: float = 0.0
    clip: float = 0.2
    updates_per_batch: int = 1
    entropy: float = 0.0
    discount: float = 1.0
    gae_lambda: float = 0.95
    value_lr: float = 1e-3
    value_weight: float = 0.1

    RANGES: ClassVar[Mapping[str, Range]] = {
        "reward": one_of(*REWARDS),
        "reward_model": name_or_none("the name of a reward model's version"),
        "n_answers": whole(2),
        "temperature": positive(),
        "max_new_tokens": whole(1),
        "cut_answers": one_of(*CUT_ANSWERS),
        "kl": not_negative(),
        "clip": number(lambda x: 0 < x <= 1, "a share above 0, to 1"),
        "updates_per_batch": whole(1),
        "entropy": not_negative(),
        "discount": share(),
        "gae_lambda": share(),
        "value_lr": positive(),
        "value_weight": not_negative(),
    }

    def __post_init__(self) -> None:
        """Check every field; raises BadInput."""
        check(self, "recipe.reinforcement")
