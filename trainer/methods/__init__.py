"""The methods by name: what each reads and makes, and the small file that does it.

A method's module has `prepare(lesson)`, which makes data of the rows and says what it left out, and
`build(lesson, prepared)`, which returns a transformers `Trainer` that has not begun. All that every
training needs (checkpoints, resuming, guards, what is kept) is `trainer.fit`'s. A module may have
`keep(lesson, prepared, checkpoint, target)` too, which adds files of its own to what is kept.

No torch here: a module is loaded when a worker takes up a training of its method.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final, Protocol

from curation.tables import PREFERENCE, SFT
from trainer.recipe import (
    DISTILL,
    DPO,
    GKD,
    GRPO,
    KTO,
    ORPO,
    PPO,
    REWARD,
    RLOO,
    SFT_FULL,
    SFT_LORA,
    SFT_QLORA,
)

TASKS: Final = "tasks"
"""Read by methods that answer by themselves: the tasks of a suite."""
ADAPTER, FULL, REWARD_MODEL = "adapter", "full", "reward"


@dataclass(frozen=True)
class Method:
    """One way to train.

    Attributes:
        module: file of `trainer.methods` that does it.
        reads: kind of dataset (sft, preference), or tasks.
        makes: kind of model version: adapter, full or reward.
        about: one line.
    """

    module: str
    reads: str
    makes: str
    about: str


METHODS: Final[dict[str, Method]] = {
    SFT_LORA: Method("sft", SFT, ADAPTER, "imitate good answers with an adapter"),
    SFT_QLORA: Method("sft", SFT, ADAPTER, "the same over a base held in few bits"),
    SFT_FULL: Method("sft", SFT, FULL, "imitate good answers with all weights"),
    DPO: Method("dpo", PREFERENCE, ADAPTER, "prefer the winner of each pair"),
    KTO: Method("kto", PREFERENCE, ADAPTER, "more of what was good, less of what was not"),
    ORPO: Method("orpo", PREFERENCE, ADAPTER, "imitate winners and push losers away at once"),
    REWARD: Method("reward", PREFERENCE, REWARD_MODEL, "score answers as the pairs do"),
    GRPO: Method("grpo", TASKS, ADAPTER, "own answers against the mean reward of their group"),
    RLOO: Method("rloo", TASKS, ADAPTER, "own answers against the reward of the others"),
    PPO: Method("ppo", TASKS, ADAPTER, "own answers with a value head and clipped steps"),
    DISTILL: Method("distill", SFT, ADAPTER, "match a teacher's distributions on given answers"),
    GKD: Method("gkd", SFT, ADAPTER, "match a teacher's distributions on own answers too"),
}


class MethodModule(Protocol):
    """What a method's file offers."""

    def prepare(self, lesson: Any) -> Any:
        """Return the `Prepared` data of a `Lesson`; raises BadInput where nothing is to learn."""

    def build(self, lesson: Any, prepared: Any) -> Any:
        """Return a transformers `Trainer`; called after seeding: its weights follow the seed."""


def method_module(name: str) -> MethodModule:
    """Return the file of a method, loading torch with it."""
    module: MethodModule = import_module(f"trainer.methods.{METHODS[name].module}")
    return module
