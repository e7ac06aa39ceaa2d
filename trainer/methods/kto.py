"""Kahneman-Tversky optimisation with TRL: good answers likelier, bad ones less so, without pairs.

How far the model has moved in all (a KL term, by the answers of a batch put behind each other's
prompts) is what a single answer is held against. TRL takes that from one pass, whose answers may be
few, or one: put behind its own prompt, it tells nothing. Here it comes from the whole optimizer
batch. So the loss still depends on that batch, but not on how it is cut into passes.
"""

import random
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from datasets import Dataset
from trl import KTOConfig, KTOTrainer

from foundation.errors import BadInput
from trainer.adapters import with_adapter
from trainer.arguments import precision_of, shared
from trainer.base import load_model
from trainer.lesson import Lesson, Prepared
from trainer.methods.dpo import keep
from trainer.pairs import Labelled, Pairs, counts, labelled, pairs_of, require_both
from trainer.whole_batch import WholeBatch

__all__ = ["build", "keep", "prepare"]


def prepare(lesson: Lesson) -> Prepared:
    """Tokenise the answers of the pairs.

    Raises:
        BadInput: good or bad answers are missing, or an optimizer step sees one answer only.
    """
    if lesson.recipe.effective_batch_size < 2:
        raise BadInput(
            "recipe.batch_size x gradient_accumulation",
            1,
            "at least 2 for kto, which puts each answer of a step behind another's prompt",
            "Raise either of them.",
        )
    pairs, held_out = pairs_of(lesson)
    learned = labelled(pairs)
    require_both(learned)
    metrics = counts(pairs, held_out)
    return Prepared(
        train=_shuffled(learned, lesson.recipe.seed, lesson.recipe.effective_batch_size),
        validation=_side_by_side(held_out, _even(lesson)) if len(held_out) else None,
        n_rows=len(learned),
        metrics={
            **metrics,
            "rows": len(learned),
            "good_rows": sum(learned.label),
            "dropped": dict(learned.dropped),
        },
    )


def build(lesson: Lesson, prepared: Prepared) -> KTOTrainer:
    """Return TRL's trainer over the base with its adapter."""
    recipe = lesson.recipe
    model = load_model(lesson.base_model, recipe.held_as, precision_of(recipe))
    return WholeBatchKTO(
        recipe.batch_size,
        model=with_adapter(model, lesson),
        args=arguments(lesson, prepared),
        train_dataset=prepared.train,
        eval_dataset=prepared.validation,
        processing_class=lesson.tokenizer,
    )


def arguments(lesson: Lesson, prepared: Prepared) -> KTOConfig:
    """Return the configuration of TRL's trainer."""
    knobs = lesson.recipe.preference
    given = shared(lesson, prepared.n_rows, has_validation=prepared.validation is not None)
    return KTOConfig(
        **{
            **given,
            "per_device_train_batch_size": max(2, lesson.recipe.batch_size),
            "per_device_eval_batch_size": _even(lesson),
        },
        max_length=None,  # cut by `trainer.pairs`, which spares the answers
        beta=knobs.beta,
        desirable_weight=knobs.desirable_weight,
        undesirable_weight=knobs.undesirable_weight,
        precompute_ref_log_probs=knobs.precompute_reference,
        disable_dropout=True,
        train_sampling_strategy="sequential",  # rows are shuffled, and matched in their batches
    )


class WholeBatchKTO(WholeBatch, KTOTrainer):  # type: ignore[misc]
    """TRL's trainer on rows that are tokens already, its loss and KL taken over the whole batch."""

    _moved: torch.Tensor | None = None

    def __init__(self, batch_size: int, **given: Any) -> None:
        super().__init__(**given)
        # TRL refuses a single row, since it matches rows within a pass; here passes share theirs.
        self.args.per_device_train_batch_size = self._train_batch_size = batch_size

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset

    def count(self, inputs: Mapping[str, Any]) -> dict[str, float]:
        """Return the answers."""
        return {"rows": len(inputs["label"])}

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """Collect the passes of a step, and see over all of them how far the model has moved."""
        passes, n_items = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._moved = None
        if passes:
            moved = [self._how_far(self._prepare_inputs(dict(one))) for one in passes]
            self._moved = torch.cat(moved).mean().clamp(min=0)
        return passes, n_items

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Take TRL's loss of a pass with the KL of the whole batch, weighed by its answers."""
        share = self.weights(inputs)["rows"]
        if not model.training:
            self._rank(model, inputs)
            return super().compute_loss(model, inputs, *args, **kwargs)
        given = {**inputs, "ref_KL_logps": torch.zeros(1)} if self.precompute_ref_logps else inputs
        return super().compute_loss(model, given, *args, **kwargs) * share

    def _compute_kl_logps(self, model: Any, batch: Any) -> Any:
        """Return, in training, the known distance to the reference, whose own is 0."""
        if self._moved is None or not self.model.training:
            return super()._compute_kl_logps(model, batch)
        is_reference = self.model.active_adapter != "default"
        return torch.zeros(1, device=self._moved.device) if is_reference else self._moved[None]

    @torch.no_grad()
    def _how_far(self, batch: Any) -> torch.Tensor:
        """Return log-probability minus the reference's of each answer behind another's prompt."""
        self._moved = None
        with self.compute_loss_context_manager():
            now: torch.Tensor = self._compute_kl_logps(self.model, batch)
            if self.precompute_ref_logps:
                before = batch["ref_KL_logps"]
            else:
                _, before = self.compute_ref_log_probs(self.model, batch)
            moved: torch.Tensor = now.float() - before.float()
            return moved

    @torch.no_grad()
    def _rank(self, model: Any, inputs: Any) -> None:
        """Note how many pairs of a validation batch are ranked right, winners before losers."""
        labels = inputs["input_ids"].masked_fill(inputs["completion_mask"] == 0, -100)
        said = model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            labels=labels,
            fused_lm_head=True,
            use_cache=False,
        ).log_probs.sum(-1)
        reference = (
            inputs["ref_logps"]
            if self.precompute_ref_logps
            else self.compute_ref_log_probs(self.model, inputs)[0]
        )
        rewards = said - reference
        right = (rewards[0::2] > rewards[1::2]).float().mean()
        self._metrics["eval"]["rewards/accuracies"].append(right.item())


def _shuffled(found: Labelled, seed: int, n_together: int) -> Dataset:
    order = list(range(len(found)))
    random.Random(seed).shuffle(order)
    rows = [(found.prompt_ids[i], found.completion_ids[i], found.label[i]) for i in order]
    return _dataset(rows, n_together)


def _side_by_side(pairs: Pairs, n_together: int) -> Dataset:
    """Return held-out pairs as rows, each winner before its loser."""
    rows = [
        (prompt, answer, label)
        for prompt, *answers in zip(
            pairs.prompt_ids, pairs.chosen_ids, pairs.rejected_ids, strict=True
        )
        for answer, label in zip(answers, (True, False), strict=True)
    ]
    return _dataset(rows, n_together)


def _dataset(rows: list[tuple[list[int], list[int], bool]], n_together: int) -> Dataset:
    """Return rows as TRL takes them; beside its own each has the answer of the row before it.

    Among the rows of a batch: what is matched is what the batch learns.
    """
    others = []
    for start in range(0, len(rows), n_together):
        answers = [answer for _, answer, _ in rows[start : start + n_together]]
        others += [answers[-1], *answers[:-1]]
    return Dataset.from_dict(
        {
            "prompt_ids": [prompt for prompt, _, _ in rows],
            "completion_ids": [answer for _, answer, _ in rows],
            "KL_completion_ids": others,
            "label": [label for _, _, label in rows],
        }
    )


def _even(lesson: Lesson) -> int:
    """Return rows of a validation batch, which pairs are not to be torn by."""
    return lesson.recipe.batch_size + lesson.recipe.batch_size % 2
