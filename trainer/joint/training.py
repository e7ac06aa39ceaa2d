"""One start of a joint training: the base with all adapters, their learners, and a step of all."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from peft import get_peft_model
from torch import Tensor
from torch.nn.functional import cross_entropy, pad
from transformers import set_seed
from trl.trainer.utils import add_fused_lm_head

from trainer.adapters import lora_config, require_targets
from trainer.apart import keep_rows_apart
from trainer.arguments import precision_of
from trainer.base import load_model
from trainer.data import IGNORED
from trainer.guards import Diverged
from trainer.joint.learner import Learner, cut, n_learned
from trainer.joint.mixed import Mix, weights_of
from trainer.lesson import Lesson, Prepared
from trainer.recipe import BF16, NO_PACKING

MOST_LOGITS = 64 * 2**20
"""Logits that are held at once on a CPU; for more, TRL's loss works in tiles."""
REENTRANT, PLAIN_AGAIN = "reentrant", "plain"


class Training:
    """One start of a joint training: the model with all adapters, and the learners."""

    def __init__(
        self,
        lessons: Sequence[Lesson],
        names: Sequence[str],
        data: Sequence[Prepared],
        again: str | None,
    ) -> None:
        self.model, self.end_to_end = _model_with_adapters(lessons, again)
        self.pad_id: int = lessons[0].tokenizer.pad_token_id
        self.precision = precision_of(lessons[0].recipe)
        self.device = next(self.model.parameters()).device
        self.n_ids: int = self.model.get_output_embeddings().weight.shape[0]
        self.learners = [
            Learner(name, _adapter(i), lesson, prepared, weights_of(self.model, _adapter(i)))
            for i, (name, lesson, prepared) in enumerate(zip(names, lessons, data, strict=True))
        ]
        self.step = 0
        self.n_tokens = 0
        self.read_clock: dict[str, float] = {}

    @property
    def n_steps(self) -> int:
        """Steps of the longest of the learners."""
        return max(learner.n_steps for learner in self.learners)

    @property
    def is_done(self) -> bool:
        """Whether every learner has ended."""
        return all(learner.progress.is_done for learner in self.learners)

    def losses(self, mix: Mix, parts: Sequence[tuple[Learner, list[Any]]], number: int) -> Tensor:
        """Return the loss of each learner, summed over the learned tokens of its rows."""
        mix.parts = [
            learner.part_of(rows, number, end_to_end=self.end_to_end) for learner, rows in parts
        ]
        batch = self._batch([row for _, rows in parts for row in rows])
        kind = self.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=self.precision == BF16):
            per_token = self._per_token(batch)  # rows x tokens
        if self.end_to_end:
            sizes = [sum(len(row["input_ids"]) for row in rows) for _, rows in parts]
            return torch.stack([each.sum() for each in torch.split(per_token[0], sizes)])
        sizes = [len(rows) for _, rows in parts]
        return torch.stack([rows.sum() for rows in torch.split(per_token, sizes)])

    def _batch(self, rows: Sequence[dict[str, list[int]]]) -> dict[str, Any]:
        lengths = torch.tensor([len(row["input_ids"]) for row in rows])
        self.n_tokens += int(lengths.sum()) if self.model.training else 0
        return self._in_line(rows, lengths) if self.end_to_end else self._padded(rows, lengths)

    def _in_line(self, rows: Sequence[dict[str, list[int]]], lengths: Tensor) -> dict[str, Any]:
        """Return the rows end to end in one; no row foretells the first token of the next."""
        ends = pad(lengths.cumsum(0), (1, 0)).to(self.device, torch.int32)
        places = torch.cat([torch.arange(n) for n in lengths.tolist()])
        ids = [token for row in rows for token in row["input_ids"]]
        labels = [label for row in rows for label in (IGNORED, *row["labels"][1:])]
        return {
            "input_ids": torch.tensor([ids], device=self.device),
            "labels": torch.tensor([labels], device=self.device),
            "position_ids": places[None].to(self.device),
            "cu_seq_lens_q": ends,
            "cu_seq_lens_k": ends,
            "max_length_q": int(lengths.max()),
            "max_length_k": int(lengths.max()),
        }

    def _padded(self, rows: Sequence[dict[str, list[int]]], lengths: Tensor) -> dict[str, Any]:
        width = int(lengths.max())

        def padded(name: str, filler: int) -> Tensor:
            lines = [torch.tensor(row[name]) for row in rows]
            whole = [pad(line, (0, width - len(line)), value=filler) for line in lines]
            return torch.stack(whole).to(self.device)

        return {
            "input_ids": padded("input_ids", self.pad_id),
            "attention_mask": (torch.arange(width) < lengths[:, None]).long().to(self.device),
            "labels": padded("labels", IGNORED),
        }

    def _per_token(self, batch: dict[str, Any]) -> Tensor:
        """Return the loss of each token, rows x tokens; 0 where none is learned."""
        labels = batch.pop("labels")
        places = (labels[:, 1:] != IGNORED).any(0).nonzero().flatten()  # each before a learned one
        if labels.is_cuda or labels.shape[0] * len(places) * self.n_ids > MOST_LOGITS:
            found = self.model(**batch, labels=labels, use_cache=False, fused_lm_head=True)
            before: Tensor = -found.log_probs.view(labels.shape[0], -1)
            return pad(before, (labels.shape[1] - before.shape[1], 0))
        logits = self.model(**batch, use_cache=False, logits_to_keep=places).logits.float()
        wanted = labels[:, 1:][:, places]
        flat = cross_entropy(
            logits.flatten(0, 1), wanted.flatten(), ignore_index=IGNORED, reduction="none"
        )
        whole = flat.new_zeros(labels.shape)
        return whole.index_copy(1, places + 1, flat.view(wanted.shape))

    def learn(self, mix: Mix) -> None:
        """Take one optimizer step of every learner that has not ended; raises Diverged."""
        active = [learner for learner in self.learners if not learner.progress.is_done]
        passes = [learner.next_passes() for learner in active]
        n_items = [sum(map(n_learned, mine)) for mine in passes]
        sums = dict.fromkeys(range(len(active)), 0.0)
        self.model.train()
        for number in range(max(map(len, passes))):
            present = [i for i, mine in enumerate(passes) if number < len(mine)]
            losses = self.losses(mix, [(active[i], passes[i][number]) for i in present], number)
            weights = torch.tensor([n_items[i] for i in present], device=self.device)
            means = losses / weights
            means.sum().backward()  # type: ignore[no-untyped-call]
            for i, mean in zip(present, means.tolist(), strict=True):
                sums[i] += mean
        for i, learner in enumerate(active):
            self._judge(learner, learner.step(sums[i]))
            if learner.is_to_look:
                self._judge(learner, learner.look(self.validation_loss(mix, learner)))
            learner.progress.is_done |= learner.progress.step >= learner.n_steps
        self.step += 1

    def _judge(self, learner: Learner, wrong: str | None) -> None:
        if wrong is not None:
            loss = learner.seen.get("loss", math.nan)
            lr = learner.seen.get("lr", learner.args.learning_rate)
            raise Diverged(learner.progress.step, loss, lr, f"{learner.name}: {wrong}")

    def validation_loss(self, mix: Mix, learner: Learner) -> float:
        """Return the loss per learned token of the held-out rows, however they are cut."""
        self.model.eval()
        with torch.no_grad():
            total = sum(
                self.losses(mix, [(learner, rows)], 0).item()
                for rows in cut(learner.held_out, learner.lesson.recipe.batch_size)
            )
        return total / n_learned(learner.held_out)

    def measures(self) -> dict[str, float]:
        """Return the last losses, of all learners together and of each under its name."""
        found = {
            f"{learner.name}_{measure}": value
            for learner in self.learners
            for measure, value in learner.seen.items()
        }
        losses = [learner.seen["loss"] for learner in self.learners if "loss" in learner.seen]
        if losses:
            found["loss"] = sum(losses) / len(losses)
        return found


def _adapter(number: int) -> str:
    return f"adapter{number}"


def _model_with_adapters(lessons: Sequence[Lesson], again: str | None) -> tuple[Any, bool]:
    """Return the model, and whether its rows may lie end to end."""
    first = lessons[0].recipe
    model: Any = load_model(lessons[0].base_model, "none", precision_of(first))
    wanted = all(lesson.recipe.packing != NO_PACKING for lesson in lessons)
    end_to_end = wanted and keep_rows_apart(model)
    for lesson in lessons:
        require_targets(model, lesson.recipe)
    # All before the first adapter: its own matrices are linear layers too.
    configs = [lora_config(lesson.recipe, model) for lesson in lessons]
    peft_model: Any = None
    for number, (lesson, config) in enumerate(zip(lessons, configs, strict=True)):
        set_seed(lesson.recipe.seed)  # each adapter begins as it would alone
        if peft_model is None:
            peft_model = get_peft_model(model, config, adapter_name=_adapter(number))
        else:
            peft_model.add_adapter(_adapter(number), config)
    for name, weight in peft_model.named_parameters():
        weight.requires_grad = "lora_" in name  # peft freezes all but the active adapter
        if weight.requires_grad:
            weight.data = weight.data.float()
    add_fused_lm_head(peft_model.get_base_model())
    if again is not None:
        peft_model.enable_input_require_grads()
        peft_model.get_base_model().activation_checkpointing_enable(
            activation_checkpointing_kwargs={"use_reentrant": again == REENTRANT}
        )
    return peft_model.to("cuda" if torch.cuda.is_available() else "cpu"), end_to_end
