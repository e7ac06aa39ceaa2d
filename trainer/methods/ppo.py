"""PPO: own answers, a value head that foretells their reward token by token, and clipped steps.

TRL removed its own. This one is TRL's GRPO with other advantages and another loss: sampling,
rewards, batches and checkpoints are those of grpo. The head reads the last hidden state and
teaches the adapter nothing, so that the adapter's gradient is the policy's alone.
"""

import os
import shutil
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from trl import GRPOConfig, GRPOTrainer

from foundation.errors import BadInput
from trainer import own_answers
from trainer.advantages import (
    explained,
    gae,
    policy_loss,
    token_rewards,
    value_loss,
    whitened,
)
from trainer.lesson import Lesson, Prepared
from trainer.own_answers import OwnAnswers, adapted, arguments, arithmetic, prepare
from trainer.recipe.reinforcement import Reinforcement
from trainer.sampling import require_same_policy, right_padded

__all__ = ["build", "keep", "prepare"]

VALUE_HEAD: Final = "value_head.safetensors"


class ValueHead(nn.Module):
    """Foretells the reward to come from a hidden state; says 0 before it has learned."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        said = nn.Linear(hidden, 1)
        nn.init.zeros_(said.weight)
        nn.init.zeros_(said.bias)
        self.layers = nn.Sequential(nn.Linear(hidden, hidden), nn.Tanh(), said)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return values, (answers, tokens), of states (answers, tokens, hidden)."""
        own = next(self.parameters()).dtype  # of more bits than the base's, where that has few
        values: Tensor = self.layers(hidden.detach().to(own)).squeeze(-1)
        return values


class Ppo(OwnAnswers, GRPOTrainer):  # type: ignore[misc]
    """GRPO's loop over answers of ours, with PPO's advantages and losses."""

    def learn_from(self, lesson: Lesson) -> None:
        """Take the recipe's knobs, and a head: that of the earlier version if it kept one."""
        super().learn_from(lesson)
        self.knobs: Reinforcement = lesson.recipe.reinforcement
        torch.manual_seed(lesson.recipe.seed)
        self.model.value_head = ValueHead(self.model.config.get_text_config().hidden_size)
        self.model.value_head.to(self.accelerator.device)
        if lesson.earlier is not None:
            self._load_head(lesson.earlier.folder)

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """Give the head a rate of its own, and no weight decay."""
        head = self.model.value_head
        head.requires_grad_(False)
        optimizer = super().create_optimizer(*args, **kwargs)
        head.requires_grad_(True)
        optimizer.add_param_group(
            {"params": list(head.parameters()), "lr": self.knobs.value_lr, "weight_decay": 0.0}
        )
        return optimizer

    # --- answers and what they taught ---

    def _generate_single_turn(self, prompt_ids: Any, *_: Any, **__: Any) -> Any:
        self._sampled = self._answer(prompt_ids)
        return self._sampled.answers, None

    def _calculate_rewards(self, *args: Any) -> Tensor:
        self._rewards = super()._calculate_rewards(*args)
        return self._rewards

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Tensor]:
        batch: dict[str, Tensor] = super()._generate_and_score_completions(inputs)
        if not self.model.training:
            return batch
        rewards = self._rewards.squeeze(1)  # NaN: left out
        mask = batch["completion_mask"] * ~rewards.isnan().unsqueeze(1)
        old, values = self._as_sampled(batch)
        seen = right_padded(self._sampled.log_probs, 0.0, old.device)
        require_same_policy(seen, old, batch["completion_mask"], arithmetic(self))
        reference = batch.get("ref_per_token_logps", old)
        rewarded = token_rewards(
            rewards.nan_to_num(), old - reference, batch["completion_mask"], self.knobs.kl
        )
        advantages = gae(rewarded, values, mask, self.knobs.discount, self.knobs.gae_lambda)
        returns = advantages + values
        self._metrics["train"]["explained_variance"].append(explained(values, returns, mask))
        if "ref_per_token_logps" in batch:
            distance = ((old - reference) * mask).sum() / mask.sum()
            self._metrics["train"]["kl"].append(float(distance))
        return {
            **{name: batch[name] for name in ("prompt_ids", "prompt_mask", "completion_ids")},
            "completion_mask": batch["completion_mask"],
            "learned_mask": mask,
            "old_log_probs": old,
            "old_values": values,
            "advantages": whitened(advantages, mask),
            "returns": returns,
            "num_items_in_batch": mask.sum().clamp(min=1),
        }

    @torch.no_grad()
    def _as_sampled(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return log-probabilities and values of the answers before the first update."""
        size = self.args.per_device_train_batch_size
        parts = [
            self._read(
                self.model,
                {
                    name: batch[name][start : start + size]
                    for name in ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask")
                },
            )[:2]
            for start in range(0, len(batch["prompt_ids"]), size)
        ]
        return torch.cat([old for old, _ in parts]), torch.cat([values for _, values in parts])

    def _read(self, model: Any, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return log-probability, value and entropy of each token of the answers."""
        answers = batch["completion_ids"]
        n = answers.shape[1]
        with self.accelerator.autocast():
            said = model(
                input_ids=torch.cat([batch["prompt_ids"], answers], dim=1),
                attention_mask=torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1),
                output_hidden_states=True,
                use_cache=False,
                logits_to_keep=n + 1,
            )
        # What stands before a token foretells it, and is the state that it is chosen in.
        logits = said.logits[:, -n - 1 : -1].float()  # (answers, tokens, vocabulary)
        likely = (logits / self.temperature).log_softmax(-1)
        log_probs = likely.gather(-1, answers.unsqueeze(-1)).squeeze(-1)
        values = self.model.value_head(said.hidden_states[-1][:, -n - 1 : -1])
        return log_probs, values, -(likely.exp() * likely).sum(-1)

    # --- the loss ---

    def _compute_loss(self, model: Any, inputs: dict[str, Tensor]) -> Tensor:
        log_probs, values, entropy = self._read(model, inputs)
        mask, old = inputs["learned_mask"], inputs["old_log_probs"]
        policy = policy_loss(log_probs, old, inputs["advantages"], self.knobs.clip)
        value = value_loss(values, inputs["old_values"], inputs["returns"], self.knobs.clip)
        whole = policy + self.knobs.value_weight * value - self.knobs.entropy * entropy
        n = mask.sum().clamp(min=1)
        moved = ((log_probs - old).exp() - 1).abs() > self.knobs.clip
        for name, found in (
            ("entropy", entropy),
            ("value_loss", value),
            ("clip_ratio/region_mean", moved.float()),
        ):
            self._metrics["train"][name].append(float((found.detach() * mask).sum() / n))
        passes = self.current_gradient_accumulation_steps / self.args.steps_per_generation
        loss: Tensor = (whole * mask).sum() / (inputs["num_items_in_batch"] * passes)
        return loss

    # --- checkpoints ---

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        save_file(self.model.value_head.state_dict(), folder / VALUE_HEAD)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint:
            self._load_head(Path(checkpoint))

    def _load_head(self, folder: Path) -> None:
        if (folder / VALUE_HEAD).is_file():
            self.model.value_head.load_state_dict(load_file(folder / VALUE_HEAD))


def build(lesson: Lesson, prepared: Prepared) -> Ppo:
    """Return the trainer.

    Raises:
        BadInput: several processes: gradients of the value head would not be shared.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise BadInput("processes", os.environ["WORLD_SIZE"], "one, of ppo", "Use grpo or rloo.")
    ppo = Ppo(
        model=adapted(lesson),
        reward_funcs=[lesson.reward],  # asked through OwnAnswers: TRL would log each prompt
        args=GRPOConfig(**arguments(lesson, prepared)),
        train_dataset=prepared.train,
        eval_dataset=prepared.validation,
        processing_class=lesson.tokenizer,
    )
    ppo.learn_from(lesson)
    return ppo


def keep(lesson: Lesson, prepared: Prepared, checkpoint: Path, target: Path) -> None:
    """Keep the head beside the adapter: a training that goes on from it need not learn it again."""
    own_answers.keep(lesson, prepared, checkpoint, target)
    shutil.copyfile(checkpoint / VALUE_HEAD, target / VALUE_HEAD)
