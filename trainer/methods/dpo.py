"""Direct preference optimisation with TRL: make the winner of each pair likelier than the loser.

Likelier than under the model that the training began from, which is the base, or with
`lesson.earlier` that version: TRL keeps a frozen copy of the adapter as it was. Dropout is off, or
the two would differ before anything is learned.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from trainer.adapters import with_adapter
from trainer.arguments import precision_of, shared
from trainer.base import load_model
from trainer.lesson import Lesson, Prepared
from trainer.measured import measured_at
from trainer.pairs import Pairs, counts, pairs_of
from trainer.whole_batch import WholeBatch

SFT_LOSS = "sft"
ACCURACY = "eval_rewards/accuracies"


def prepare(lesson: Lesson) -> Prepared:
    """Tokenise the pairs; raises BadInput where none is left."""
    learned, held_out = pairs_of(lesson)
    return Prepared(
        train=dataset_of(learned),
        validation=dataset_of(held_out) if len(held_out) else None,
        n_rows=len(learned),
        metrics=counts(learned, held_out),
    )


def build(lesson: Lesson, prepared: Prepared) -> DPOTrainer:
    """Return TRL's trainer over the base with its adapter."""
    recipe = lesson.recipe
    model = load_model(lesson.base_model, recipe.held_as, precision_of(recipe))
    return WholeBatchDPO(
        model=with_adapter(model, lesson),
        args=arguments(lesson, prepared),
        train_dataset=prepared.train,
        eval_dataset=prepared.validation,
        processing_class=lesson.tokenizer,
    )


def keep(lesson: Lesson, prepared: Prepared, checkpoint: Path, target: Path) -> None:
    """Tell how many held-out pairs the kept adapter ranks as people did, beside its adapter."""
    prepared.metrics["validation_accuracy"] = measured_at(checkpoint, ACCURACY)


def arguments(lesson: Lesson, prepared: Prepared) -> DPOConfig:
    """Return the configuration of TRL's trainer."""
    knobs = lesson.recipe.preference
    return DPOConfig(
        **shared(lesson, prepared.n_rows, has_validation=prepared.validation is not None),
        max_length=None,  # cut by `trainer.pairs`, which spares the answers
        beta=knobs.beta,
        loss_type=list(knobs.losses),
        loss_weights=list(knobs.loss_weights),
        label_smoothing=knobs.label_smoothing,
        precompute_ref_log_probs=knobs.precompute_reference,
        disable_dropout=True,
    )


def dataset_of(pairs: Pairs) -> Dataset:
    """Return pairs as TRL's collator takes them."""
    return Dataset.from_dict(pairs.columns)


class WholeBatchDPO(WholeBatch, DPOTrainer):  # type: ignore[misc]
    """TRL's trainer on rows that are tokens already, its loss taken over the whole batch."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset

    def count(self, inputs: Mapping[str, Any]) -> dict[str, float]:
        """Return the pairs, and the winners' tokens, over which TRL's `sft` is a mean."""
        mask = inputs["completion_mask"]  # (2 * pairs, tokens), winners first
        pairs = len(mask) // 2
        return {"rows": pairs, "tokens": int(mask[:pairs].sum())}

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Weigh each of the losses by what it is a mean over."""
        share = self.weights(inputs)
        self.loss_weights = [
            weight * share["tokens" if loss == SFT_LOSS else "rows"]
            for loss, weight in zip(self.loss_types, self.args.loss_weights, strict=True)
        ]
        return super().compute_loss(model, inputs, *args, **kwargs)
