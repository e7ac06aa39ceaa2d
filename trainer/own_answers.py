"""What grpo, rloo and ppo share: a model's own answers to tasks, sampled, rewarded and kept.

`OwnAnswers` stands before one of TRL's trainers and takes over what would fail silently there:

- prompts are tokenised as at inference (a second BOS would be another prompt);
- answers come of `trainer.sampling`, and what answers is proven to be the adapter in training;
- the order of tasks follows the epoch, and answers that wait for their next update are kept in the
  checkpoint: TRL starts both anew, so that a resumed training would be another one;
- validation asks with the same dice each time, and the best checkpoint is that of the best reward:
  TRL's validation loss says nothing.
"""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from datasets import Dataset
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import Trainer

from foundation.errors import BadInput
from trainer.adapters import with_adapter
from trainer.arguments import precision_of, shared
from trainer.base import load_model
from trainer.data import TOO_LONG, Row, split_text
from trainer.lesson import Lesson, Prepared
from trainer.measured import measured_at
from trainer.recipe import Recipe
from trainer.rewarding import Rewarder
from trainer.sampling import (
    Sampled,
    Sampling,
    require_same_policy,
    require_trained_adapter,
    right_padded,
    sample,
)

WAITING: Final = "waiting-answers.safetensors"
"""In a checkpoint: answers that further updates are to learn from."""
CHECKED_ROWS: Final = 4
"""Answers of each batch that sampler and trainer are compared on."""
VALIDATION_TASKS: Final = 256
"""Most validation tasks that are answered at each look."""


def prepare(lesson: Lesson) -> Prepared:
    """Render the tasks' prompts; those without room for an answer are left out and counted.

    Raises:
        BadInput: no reward, or a geometry by which no batch holds whole groups of answers.
    """
    if lesson.reward is None:
        raise BadInput("reward", None, "a suite's graders or a reward model", "Name a suite.")
    require_geometry(lesson.recipe)
    learned, dropped = _asked(lesson, lesson.rows)
    held_out, held_out_dropped = _asked(lesson, lesson.validation[:VALIDATION_TASKS])
    per_batch = _answers_per_batch(lesson.recipe) // lesson.recipe.reinforcement.n_answers
    if len(learned) < per_batch:
        raise BadInput(
            "tasks to learn from",
            len(learned),
            f"at least {per_batch}, as many as one batch of answers asks",
            "Name a larger suite, or lower recipe.batch_size or recipe.gradient_accumulation.",
        )
    updates = lesson.recipe.reinforcement.updates_per_batch
    n_answers = lesson.recipe.reinforcement.n_answers
    return Prepared(
        train=learned,
        validation=held_out if len(held_out) else None,
        n_rows=len(learned) // per_batch * per_batch * n_answers * updates,
        metrics={
            "rows": len(learned),
            "validation_rows": len(held_out),
            "dropped": dict(dropped),
            "validation_dropped": dict(held_out_dropped),
            "answers_per_epoch": len(learned) // per_batch * per_batch * n_answers,
        },
    )


def require_geometry(recipe: Recipe) -> None:
    """Check that a batch of answers holds whole groups.

    Raises:
        BadInput: it does not; the message says what would fit.
    """
    n, answers = recipe.reinforcement.n_answers, _answers_per_batch(recipe)
    if answers % n:
        raise BadInput(
            "recipe.batch_size x recipe.gradient_accumulation",
            f"{recipe.batch_size} x {recipe.gradient_accumulation} = {answers} answers",
            f"a multiple of recipe.reinforcement.n_answers, which is {n}",
            f"Accumulate {-(-answers // n) * n} answers, or ask for fewer of each.",
        )


def _answers_per_batch(recipe: Recipe) -> int:
    return recipe.effective_batch_size * int(os.environ.get("WORLD_SIZE", "1"))


def _asked(lesson: Lesson, rows: Sequence[Row]) -> tuple[Dataset, Counter[str]]:
    """Return prompts as text with the places of their rows."""
    texts, places, dropped = [], [], Counter[str]()
    room = lesson.recipe.max_length - lesson.recipe.reinforcement.max_new_tokens
    for place, row in enumerate(rows):
        prompt = prompt_text(row, lesson.tokenizer)
        if len(lesson.tokenizer(prompt, add_special_tokens=False)["input_ids"]) > room:
            dropped[TOO_LONG] += 1
            continue
        texts.append(prompt)
        places.append(place)
    return Dataset.from_dict({"prompt": texts, "place": places}), dropped


def prompt_text(row: Row, tokenizer: Any) -> str:
    """Return what the model is shown of a task, as at inference."""
    said = {"completion": [{"role": "assistant", "content": "."}]}
    return split_text({**row, **said}, tokenizer)[0]


def arguments(lesson: Lesson, prepared: Prepared) -> dict[str, Any]:
    """Return the keyword arguments that `GRPOConfig` and `RLOOConfig` share."""
    knobs = lesson.recipe.reinforcement
    has_validation = prepared.validation is not None
    common = shared(lesson, prepared.n_rows, has_validation=has_validation)
    if has_validation:
        common |= {"metric_for_best_model": "eval_reward", "greater_is_better": True}
    return common | {
        "num_generations": knobs.n_answers,
        "num_generations_eval": 1,
        "max_completion_length": knobs.max_new_tokens,
        "temperature": knobs.temperature,
        "beta": knobs.kl,
        "epsilon": knobs.clip,
        "num_iterations": knobs.updates_per_batch,
        # Left-out answers get no reward and so no advantage; TRL's mask would blind its attention.
        "mask_truncated_completions": False,
        # What answers and what is trained are the same function only without dropout.
        "disable_dropout": True,
        "remove_unused_columns": False,
    }


def adapted(lesson: Lesson) -> Any:
    """Return the base with the adapter that is to learn."""
    recipe = lesson.recipe
    return with_adapter(load_model(lesson.base_model, recipe.held_as, precision_of(recipe)), lesson)


class ByEpoch(torch.utils.data.Sampler[int]):
    """The order of tasks: whole batches, each as often as it is stepped on, new in each epoch.

    TRL's own order goes on from where it was, so that a training resumed in its second epoch would
    see the first one's again. It is told the epoch by transformers.
    """

    def __init__(self, n: int, seed: int, *, per_batch: int, answers: int, uses: int) -> None:
        self.n, self.seed, self.epoch = n, seed, 0
        self.per_batch, self.answers, self.uses = per_batch, answers, uses

    def set_epoch(self, epoch: int) -> None:
        """Take the order of another epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        dice = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(self.n, generator=dice).tolist()
        for start in range(0, self.n - self.per_batch + 1, self.per_batch):
            batch = order[start : start + self.per_batch]
            for _ in range(self.uses):
                for place in batch:
                    yield from [place] * self.answers

    def __len__(self) -> int:
        return self.n // self.per_batch * self.per_batch * self.answers * self.uses


class OwnAnswers(Trainer):  # type: ignore[misc]
    """Goes before one of TRL's trainers of own answers, in the list of bases."""

    def learn_from(self, lesson: Lesson) -> None:
        """Take what TRL's own arguments cannot say; called once, after the trainer is built."""
        knobs = lesson.recipe.reinforcement
        assert lesson.reward is not None, "prepare() refuses a lesson without one"
        self._worth = {
            "train": Rewarder(lesson.reward, lesson.rows, knobs.cut_answers, lesson.say),
            "eval": Rewarder(lesson.reward, lesson.validation, knobs.cut_answers),
        }
        self._how = Sampling(
            knobs.temperature,
            knobs.max_new_tokens,
            tuple(self.eos_token_ids),
            self.processing_class.pad_token_id,
        )

    @property
    def _mode(self) -> str:
        return "train" if self.model.training else "eval"

    # --- answers ---

    def _tokenize_prompts(self, prompts: list[str]) -> Any:
        ids = self.processing_class(text=prompts, add_special_tokens=False)["input_ids"]
        return ids, None, {}

    def _answer(self, prompts: list[list[int]]) -> Sampled:
        """Sample answers from the adapter in training, and prove that it is that one."""
        require_trained_adapter(self.model)
        mode = self._mode
        self.model.eval()  # in training mode gradient checkpointing would switch off the cache
        try:
            sampled = sample(self.answering_model(), prompts, self._how)
        finally:
            self.model.train(mode == "train")
        self._metrics[mode]["sampling_gap"].append(self.policy_gap(sampled))
        return sampled

    def answering_model(self) -> Any:
        """Return who answers: the model in training itself."""
        return self.accelerator.unwrap_model(self.model)

    @torch.no_grad()
    def policy_gap(self, sampled: Sampled) -> float:
        """Return how far sampler and trainer are apart on some answers; raises SampledAnother."""
        rows = range(min(CHECKED_ROWS, len(sampled.prompts)))
        device = self.accelerator.device
        width = max(len(sampled.prompts[row]) for row in rows)
        filled = [width - len(sampled.prompts[row]) for row in rows]
        prompts = [
            [self._how.pad] * n + sampled.prompts[row] for n, row in zip(filled, rows, strict=True)
        ]
        answers = right_padded([sampled.answers[row] for row in rows], self._how.pad, device)
        mask = right_padded([[1] * len(sampled.answers[row]) for row in rows], 0, device)
        shown = torch.tensor([[0] * n + [1] * (width - n) for n in filled], device=device)
        trained = self._get_per_token_logps_and_entropies(
            self.model,
            torch.cat([torch.tensor(prompts, device=device), answers], dim=1),
            torch.cat([shown, mask], dim=1),
            answers.shape[1],
        )[0]
        seen = right_padded([sampled.log_probs[row] for row in rows], 0.0, device)
        return require_same_policy(seen, trained.float(), mask, arithmetic(self))

    # --- rewards ---

    def _calculate_rewards(
        self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any
    ) -> torch.Tensor:
        is_cut = [ids[-1] not in self._how.ends for ids in completion_ids_list]
        found = self._worth[self._mode]([row["place"] for row in inputs], completions, is_cut)
        own = [[torch.nan if reward is None else reward] for reward in found]
        gathered: torch.Tensor = self.accelerator.gather(
            torch.tensor(own, device=self.accelerator.device)
        )
        return gathered

    # --- order and validation ---

    def _get_train_sampler(self, dataset: Any = None) -> ByEpoch:
        args = self.args
        return ByEpoch(
            len(self.train_dataset),
            args.seed,
            per_batch=args.generation_batch_size // args.num_generations,
            answers=args.num_generations,
            uses=args.steps_per_generation * args.num_iterations,
        )

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """Look at the validation tasks: with the same dice each time, and without moving others."""
        with torch.random.fork_rng():
            torch.manual_seed(self.args.seed)
            return super().evaluate(*args, **kwargs)

    def prediction_step(self, model: Any, inputs: Any, *_: Any, **__: Any) -> Any:
        """Answer and reward only: the loss of answers says nothing about how good they are."""
        self._prepare_inputs(inputs)
        return None, None, None

    # --- checkpoints ---

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        uses = self.args.steps_per_generation * self.num_iterations
        if self._buffered_inputs is not None and self._step % uses:
            path = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}" / WAITING
            updates = str(self._step // self.args.steps_per_generation)
            save_file(_joined(self._buffered_inputs), path, {"updates": updates})

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        path = Path(checkpoint or "") / WAITING
        if checkpoint and path.is_file():
            with safe_open(path, "pt") as file:
                updates = int(file.metadata()["updates"])
            # As many parts as this start steps through: after a lack of memory those are more.
            parts = self.args.steps_per_generation
            self._step = updates * parts
            self._buffered_inputs = _split(load_file(path, str(self.accelerator.device)), parts)


def keep(lesson: Lesson, prepared: Prepared, checkpoint: Path, target: Path) -> None:
    """Tell the best checkpoint's validation reward, by which it was chosen."""
    prepared.metrics["best_validation_loss"] = None
    prepared.metrics["best_validation_reward"] = measured_at(checkpoint, "eval_reward")


def _joined(parts: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Return the parts of a batch as one; what has no rows is the same in each."""
    return {
        name: torch.cat([part[name] for part in parts]) if one.dim() else one.clone()
        for name, one in parts[0].items()
    }


def _split(whole: Mapping[str, torch.Tensor], n: int) -> list[dict[str, torch.Tensor]]:
    """Undo `_joined`, into `n` parts."""
    rows = {name: one.chunk(n) if one.dim() else [one] * n for name, one in whole.items()}
    return [{name: some[number] for name, some in rows.items()} for number in range(n)]


def arithmetic(trainer: Any) -> torch.dtype:
    """Return in what a trainer computes, or bfloat16 for whatever is as rough."""
    args, model = trainer.args, trainer.model
    if args.bf16 or args.fp16 or hasattr(model.config, "quantization_config"):
        return torch.bfloat16
    dtype: torch.dtype = model.dtype
    return dtype
