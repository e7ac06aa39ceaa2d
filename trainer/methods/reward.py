"""A Bradley-Terry reward model with TRL: scores that differ by the log odds of being preferred.

The base with one output in the place of its vocabulary: an adapter, and on top of it the head,
which is drawn by the seed, learned, and kept with the adapter. `trainer.reward_model` loads both.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset
from safetensors import safe_open
from trl import RewardConfig, RewardTrainer

from foundation.errors import BadInput
from trainer.adapters import with_adapter
from trainer.arguments import precision_of, shared
from trainer.base import load_model
from trainer.lesson import Lesson, Prepared
from trainer.measured import measured_at
from trainer.pairs import Pairs, counts, pairs_of
from trainer.reward_model import OneScore
from trainer.whole_batch import WholeBatch

ACCURACY = "eval_accuracy"


def prepare(lesson: Lesson) -> Prepared:
    """Tokenise the pairs; raises BadInput where none is left, or it is to go on from a version."""
    if lesson.earlier is not None:
        raise BadInput(
            "version to go on from",
            lesson.earlier.name,
            "none: a reward model begins from its base, with a head of its own",
            "Order the training without it.",
        )
    learned, held_out = pairs_of(lesson)
    return Prepared(
        train=_dataset(learned),
        validation=_dataset(held_out) if len(held_out) else None,
        n_rows=len(learned),
        metrics=counts(learned, held_out),
    )


def build(lesson: Lesson, prepared: Prepared) -> RewardTrainer:
    """Return TRL's trainer over the base with its adapter and its head."""
    recipe = lesson.recipe
    model = load_model(lesson.base_model, recipe.held_as, precision_of(recipe), kind=OneScore)
    return WholeBatchReward(
        model=with_adapter(model, lesson, task_type="SEQ_CLS"),
        args=arguments(lesson, prepared),
        train_dataset=prepared.train,
        eval_dataset=prepared.validation,
        processing_class=lesson.tokenizer,
    )


def keep(lesson: Lesson, prepared: Prepared, checkpoint: Path, target: Path) -> None:
    """Make sure that the head is kept, and tell how many held-out pairs it ranks as people did.

    Raises:
        BadInput: the kept weights have no head: a fresh one would be drawn whenever it is loaded.
    """
    with safe_open(target / "adapter_model.safetensors", framework="pt") as weights:
        heads = [name for name in weights.keys() if ".score." in name]
    if not heads:
        raise BadInput("reward model", str(target), "weights of its score head", "Report this.")
    prepared.metrics["validation_accuracy"] = measured_at(checkpoint, ACCURACY)


def arguments(lesson: Lesson, prepared: Prepared) -> RewardConfig:
    """Return the configuration of TRL's trainer."""
    return RewardConfig(
        **shared(lesson, prepared.n_rows, has_validation=prepared.validation is not None),
        max_length=None,  # cut by `trainer.pairs`, which spares the answers
        center_rewards_coefficient=lesson.recipe.preference.center_rewards or None,
        disable_dropout=False,  # nothing is compared with a reference here
    )


class WholeBatchReward(WholeBatch, RewardTrainer):  # type: ignore[misc]
    """TRL's trainer, its loss taken over the whole batch."""

    def count(self, inputs: Mapping[str, Any]) -> dict[str, float]:
        """Return the pairs."""
        return {"rows": len(inputs["input_ids"]) // 2}

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Weigh TRL's loss by the pairs of the pass."""
        share = self.weights(inputs)["rows"]
        found = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        return (found[0] * share, found[1]) if return_outputs else found * share


def _dataset(pairs: Pairs) -> Dataset:
    """Return pairs as TRL takes them: each answer behind the prompt."""
    return Dataset.from_dict(
        {
            name: [p + a for p, a in zip(pairs.prompt_ids, answers, strict=True)]
            for name, answers in (
                ("chosen_ids", pairs.chosen_ids),
                ("rejected_ids", pairs.rejected_ids),
            )
        }
    )
