"""Odds ratio preference optimisation: imitate the winner, and lower the odds of the loser.

Our own loss, by equations 6 and 7 of "ORPO: Monolithic Preference Optimization without Reference
Model" (2403.07691), not that of `trl.experimental`, which any patch release may change: that one
imitates the prompt too, and takes its mean over the tokens of one pass. Here a pair's loss is the
winner's mean negative log-likelihood per token plus beta times -log sigmoid of the log odds ratio,
and an optimizer step's the mean over its pairs. No reference model is asked.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from torch.nn.functional import cross_entropy, logsigmoid
from transformers import Trainer, TrainingArguments
from trl.trainer.dpo_trainer import DataCollatorForPreference

from trainer.adapters import with_adapter
from trainer.arguments import precision_of, shared
from trainer.base import load_model
from trainer.lesson import Lesson, Prepared
from trainer.methods.dpo import keep, prepare
from trainer.whole_batch import WholeBatch

__all__ = ["build", "keep", "prepare"]

SURE = -1e-4
"""Greatest mean log-probability whose odds are taken: those of a certain answer are infinite."""


def build(lesson: Lesson, prepared: Prepared) -> Trainer:
    """Return our trainer over the base with its adapter."""
    recipe = lesson.recipe
    model = load_model(lesson.base_model, recipe.held_as, precision_of(recipe))
    return OddsRatio(
        beta=recipe.preference.beta,
        model=with_adapter(model, lesson),
        args=arguments(lesson, prepared),
        train_dataset=prepared.train,
        eval_dataset=prepared.validation,
        processing_class=lesson.tokenizer,
        data_collator=DataCollatorForPreference(lesson.tokenizer.pad_token_id),
    )


def arguments(lesson: Lesson, prepared: Prepared) -> TrainingArguments:
    """Return the configuration of the trainer."""
    given = shared(lesson, prepared.n_rows, has_validation=prepared.validation is not None)
    return TrainingArguments(**given, remove_unused_columns=False)


def odds_ratio_loss(
    chosen: torch.Tensor, rejected: torch.Tensor, beta: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss of each pair and its log odds ratio.

    Args:
        chosen: mean log-probability per token of each winner, (pairs,).
        rejected: of each loser, (pairs,).
        beta: weight of the odds ratio (the paper's lambda).
    """
    ratio = _log_odds(chosen) - _log_odds(rejected)
    return -chosen - beta * logsigmoid(ratio), ratio


def mean_log_probs(logits: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return each row's mean log-probability over the tokens of its answer, (rows,).

    Args:
        logits: (rows, tokens, vocabulary).
        ids: (rows, tokens).
        mask: 1 over the answer, (rows, tokens).
    """
    answer = mask[:, 1:].float()
    surprise = cross_entropy(logits[:, :-1].transpose(1, 2).float(), ids[:, 1:], reduction="none")
    return -(surprise * answer).sum(1) / answer.sum(1)


class OddsRatio(WholeBatch, Trainer):  # type: ignore[misc]
    """The loss above, with TRL's names for what is measured."""

    loss_is_scaled_for_ga = False  # so each pass is divided by the number of passes

    def __init__(self, beta: float, **given: Any) -> None:
        self._beta = beta
        self._metrics: dict[str, dict[str, list[float]]] = {
            "train": defaultdict(list),
            "eval": defaultdict(list),
        }
        super().__init__(**given)

    def count(self, inputs: Mapping[str, Any]) -> dict[str, float]:
        """Return the pairs."""
        return {"rows": len(inputs["input_ids"]) // 2}

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the mean loss of a pass, weighed by its pairs."""
        ids, mask = inputs["input_ids"], inputs["completion_mask"]
        out = model(input_ids=ids, attention_mask=inputs["attention_mask"], use_cache=False)
        chosen, rejected = mean_log_probs(out.logits, ids, mask).chunk(2)
        losses, ratio = odds_ratio_loss(chosen, rejected, self._beta)
        measured = self._metrics["train" if model.training else "eval"]
        measured["rewards/accuracies"].append((chosen > rejected).float().mean().item())
        measured["rewards/margins"].append(ratio.detach().mean().item())
        loss = losses.mean() * self.weights(inputs)["rows"]
        return (loss, out) if return_outputs else loss

    def prediction_step(
        self, model: Any, inputs: Any, *_: Any, **__: Any
    ) -> tuple[Any, None, None]:
        """Return the loss of a validation batch; transformers would look for labels."""
        with torch.no_grad(), self.compute_loss_context_manager():
            return self.compute_loss(model, self._prepare_inputs(inputs)).detach(), None, None

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log the loss with what was measured since."""
        mode = "train" if self.model.training else "eval"
        self.weigh_measured()
        for name, values in self._metrics[mode].items():
            logs[name if mode == "train" else f"eval_{name}"] = sum(values) / len(values)
        self._metrics[mode].clear()
        Trainer.log(self, logs, start_time)


def _log_odds(mean_log_prob: torch.Tensor) -> torch.Tensor:
    sure = mean_log_prob.clamp(max=SURE)
    return sure - torch.log(-torch.expm1(sure))
