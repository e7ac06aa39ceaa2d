"""Supervised fine-tuning with TRL: LoRA, QLoRA or all weights, loss on the answers only."""

from collections.abc import Sequence
from typing import Any, Final

import torch
from datasets import Dataset
from peft import PeftModel
from torch.nn.functional import cross_entropy
from trl import SFTConfig, SFTTrainer
from trl.trainer.utils import add_fused_lm_head

from foundation.errors import BadInput
from trainer.adapters import with_adapter
from trainer.apart import keep_rows_apart
from trainer.arguments import shared, weights_precision
from trainer.base import context_of, load_model
from trainer.continual import keep_state as keep
from trainer.continual import mixed, protected, starting_point
from trainer.data import IGNORED, Encoded, Row, encode, require_labels
from trainer.lesson import Lesson, Prepared
from trainer.recipe import AUTO, BFD, NO_PACKING, PADDING_FREE
from trainer.sharded import Sharded, give_back_after_looks

__all__ = ["AnswerTrainer", "arguments", "build", "keep", "prepare"]

MOST_LOGITS: Final = 64 * 2**20
"""Logits that are held at once on a CPU; for more, TRL's loss works in tiles."""


def prepare(lesson: Lesson) -> Prepared:
    """Tokenise the rows; raises BadInput where no row is left to learn from."""
    learned = _encoded(lesson, lesson.rows, "training")
    held_out = _encoded(lesson, lesson.validation, "validation")
    require_labels(learned.labels, "training rows", learned.dropped)
    learned, held_out = mixed(lesson, learned, held_out)
    return Prepared(
        train=_dataset(learned),
        validation=_dataset(held_out) if len(held_out) else None,
        n_rows=len(learned),
        metrics={
            "rows": len(learned),
            "validation_rows": len(held_out),
            "dropped": dict(learned.dropped),
            "validation_dropped": dict(held_out.dropped),
            "shortened": learned.n_shortened,
            "validation_shortened": held_out.n_shortened,
            "learned_tokens_per_epoch": learned.n_learned_tokens,
        },
    )


def build(lesson: Lesson, prepared: Prepared) -> "AnswerTrainer":
    """Return TRL's trainer over the base with its adapter."""
    recipe = lesson.recipe
    model = load_model(
        lesson.base_model, recipe.held_as, weights_precision(recipe), shards=lesson.shards
    )
    if lesson.shards > 1:
        give_back_after_looks(model)
    packing = packing_on(model, lesson)
    kind = AnswerTrainer if lesson.shards == 1 else ShardedAnswerTrainer
    trainer = kind(
        model=with_adapter(model, starting_point(lesson)),
        args=arguments(lesson, prepared, packing),
        train_dataset=prepared.train,
        eval_dataset=prepared.validation,
        processing_class=lesson.tokenizer,
    )
    require_labels(trainer.train_dataset["labels"], "rows that the trainer was given")
    protected(trainer, lesson)
    return trainer


def packing_on(model: Any, lesson: Lesson) -> str:
    """Return how to lay out rows: as the recipe says, or padded if the model would mix them.

    NEFTune's noise is the smaller the longer a row is, and takes rows end to end for one.
    """
    recipe, packing = lesson.recipe, lesson.recipe.packing
    if packing == AUTO and (recipe.batch_size == 1 or recipe.neftune):
        return NO_PACKING
    if packing == NO_PACKING:
        return NO_PACKING
    if recipe.neftune:
        lesson.say(
            "WARNING", f"packing {packing}: less noise of neftune than on rows by themselves"
        )
    if keep_rows_apart(model):
        return PADDING_FREE if packing == AUTO else packing
    lesson.say(
        "INFO" if packing == AUTO else "WARNING",
        "rows are padded: on this base a row that lies behind another one would see it",
    )
    return NO_PACKING


def arguments(lesson: Lesson, prepared: Prepared, packing: str = NO_PACKING) -> SFTConfig:
    """Return the configuration of TRL's trainer, for rows laid out as `packing_on` says."""
    return SFTConfig(
        **shared(lesson, prepared.n_rows, has_validation=prepared.validation is not None),
        max_length=max_length_of(lesson) if packing == BFD else None,
        packing=packing == BFD,
        eval_packing=False,
        padding_free=packing != NO_PACKING,
        neftune_noise_alpha=lesson.recipe.neftune or None,
    )


def max_length_of(lesson: Lesson) -> int:
    """Return the tokens of the longest row: the recipe's, or fewer where the base has fewer."""
    return min(lesson.recipe.max_length, context_of(lesson.base_model) or lesson.recipe.max_length)


class AnswerTrainer(SFTTrainer):  # type: ignore[misc]
    """TRL's trainer, with logits of nothing but the tokens that are learned.

    TRL works out the entropy and the rank of every token too, and without Triton those of the
    prompts. Both cost a third of a step on a CPU, and nobody reads them here.

    A validation loss is the mean over the learned tokens. transformers takes the mean over batches,
    so that the same weights would have another loss with other batches: after a lack of memory, or
    in another trial of a search.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        model = self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model
        add_fused_lm_head(model)
        self._n_ids: int = model.get_output_embeddings().weight.shape[0]
        for weight in self.model.parameters():
            # TRL takes the adapter over a quantised base down to 16 bits, where small steps vanish.
            if weight.requires_grad and weight.dtype != torch.float32:
                weight.data = weight.data.float()

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Return the loss per learned token of the optimizer step that the batch is part of.

        Raises:
            BadInput: the batch has nothing to learn.
        """
        assert not return_outputs, "nothing here reads the logits"
        labels = inputs["labels"]
        places = (labels[:, 1:] != IGNORED).any(0).nonzero().flatten()  # each before a learned one
        if not len(places):
            raise BadInput(
                "a batch", "every label masked", "at least one token to learn", "Check the dataset."
            )
        asked = {name: value for name, value in inputs.items() if name != "labels"}
        asked["use_cache"] = False
        if self.aux_loss_enabled:
            asked["output_router_logits"] = True
        self._count_tokens(inputs)
        if self.compute_loss_func is not None:
            return self.compute_loss_func(
                model(**asked), labels, num_items_in_batch=num_items_in_batch
            )
        loss, n_learned, aux_loss = self._summed(model, asked, labels, places)
        if num_items_in_batch is None:
            return loss / n_learned + self._of_routers(aux_loss, 1)
        if self.args.average_tokens_across_devices:
            loss = loss * self.accelerator.num_processes  # which gradients are averaged over
        return loss / num_items_in_batch + self._of_routers(
            aux_loss, self.current_gradient_accumulation_steps
        )

    def evaluation_loop(
        self, dataloader: Any, *args: Any, metric_key_prefix: str = "eval", **options: Any
    ) -> Any:
        """Look at held-out rows; each learned token counts as much as any other."""
        self._looked = torch.zeros(2, dtype=torch.float64, device=self.accelerator.device)
        found = super().evaluation_loop(
            dataloader, *args, metric_key_prefix=metric_key_prefix, **options
        )
        total, n_learned = self.accelerator.reduce(self._looked).tolist()
        found.metrics[f"{metric_key_prefix}_loss"] = total / n_learned
        return found

    def prediction_step(
        self, model: Any, inputs: dict[str, Any], *args: Any, **options: Any
    ) -> Any:
        """Return the loss of a batch, and add it up."""
        found = super().prediction_step(model, inputs, *args, **options)
        n_learned = (inputs["labels"][:, 1:] != IGNORED).sum().double()
        self._looked += torch.stack([found[0].double() * n_learned, n_learned]).to(self._looked)
        return found

    def _summed(
        self, model: Any, asked: dict[str, Any], labels: torch.Tensor, places: torch.Tensor
    ) -> tuple[Any, Any, Any]:
        """Return the loss summed over learned tokens, their number, and the loss of routers."""
        if labels.is_cuda or labels.shape[0] * len(places) * self._n_ids > MOST_LOGITS:
            found = model(**asked, labels=labels, fused_lm_head=True)
            return -found.log_probs.sum(), found.label_mask.sum(), found.aux_loss
        found = model(**asked, logits_to_keep=places)
        wanted = labels[:, 1:][:, places].flatten()
        logits = found.logits.flatten(0, 1).float()  # rows and places x ids
        loss = cross_entropy(logits, wanted, ignore_index=IGNORED, reduction="sum")
        return loss, (wanted != IGNORED).sum(), getattr(found, "aux_loss", None)

    def _of_routers(self, aux_loss: Any, steps: int) -> Any:
        return 0.0 if aux_loss is None else self.router_aux_loss_coef * aux_loss / steps

    def _count_tokens(self, inputs: dict[str, Any]) -> None:
        if not self.model.training:
            return
        mask = inputs.get("attention_mask")
        n_tokens = torch.as_tensor(inputs["input_ids"].numel() if mask is None else mask.sum())
        if self.accelerator.num_processes > 1:
            n_tokens = self.accelerator.reduce(n_tokens.to(self.accelerator.device))
        self._total_train_tokens += int(n_tokens)
        self._metrics["train"]["num_tokens"] = [self._total_train_tokens]


class ShardedAnswerTrainer(Sharded, AnswerTrainer):
    """The same over a base that is spread over several processes."""


def _encoded(lesson: Lesson, rows: Sequence[Row], kind: str) -> Encoded:
    """Tokenise rows, and say what became of those that could not stay as they were."""
    recipe, longest = lesson.recipe, max_length_of(lesson)
    encoded = encode(rows, lesson.tokenizer, longest, recipe.too_long)
    if longest < recipe.max_length and kind == "training":
        lesson.say("INFO", f"rows of at most {longest} tokens: that is the context of the base")
    for reason, n_rows in encoded.dropped.items():
        lesson.say("WARNING", f"left out {n_rows} of {len(rows)} {kind} rows: {reason}")
    if encoded.n_shortened:
        lesson.say(
            "WARNING",
            f"shortened the prompts of {encoded.n_shortened} of {len(rows)} {kind} rows to fit "
            f"{longest} tokens",
        )
    return encoded


def _dataset(encoded: Encoded) -> Any:
    return Dataset.from_dict({"input_ids": encoded.input_ids, "labels": encoded.labels})
