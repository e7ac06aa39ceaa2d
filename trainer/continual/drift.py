"""A learning rate that falls as the model drifts from what it was.

A few old rows are held; now and then the KL from the old version's predictions of their answers to
the new ones is measured, and the scheduled rate is divided by 1 + KL / `drift_nats`. So the rate
halves at that drift, and rises again where the model comes back.
"""

from typing import Any, Final

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from trainer.continual.old_model import OldModel, alone, answers, divergence, evaluating
from trainer.continual.replay import old_rows
from trainer.continual.state import Tensors, checkpoint_file, load_json, save_json
from trainer.lesson import Lesson

DRIFT = "drift.json"
HELD_ROWS: Final = 16
LOOKS: Final = 20
"""Old rows that are looked at, and how often in a training."""


class AdaptRate(TrainerCallback):  # type: ignore[misc]
    """Divides the rate of each step by 1 + the drift last measured, in units of `drift_nats`."""

    def __init__(self, lesson: Lesson, begun: Tensors) -> None:
        self.begun, self.say = begun, lesson.say
        self.drift_nats = lesson.recipe.continual.drift_nats
        self.rows = old_rows(lesson, HELD_ROWS)
        self.drift = 0.0
        self._old: OldModel | None = None
        self._rates: list[float] = []

    @property
    def factor(self) -> float:
        """What the scheduled rate is multiplied by: above 0, at most 1."""
        return 1 / (1 + self.drift / self.drift_nats)

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any,
        **kwargs: Any,
    ) -> None:
        """Take the model, and the drift of the checkpoint."""
        self._old = OldModel(model, self.begun)
        if state.global_step:
            file = checkpoint_file(args.output_dir, state.global_step, DRIFT)
            self.drift = float(load_json(file)["drift_nats"])

    def on_pre_optimizer_step(self, *_: Any, optimizer: Any, **__: Any) -> None:
        """Lower the rate for this step."""
        self._rates = [group["lr"] for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["lr"] *= self.factor

    def on_optimizer_step(self, *_: Any, optimizer: Any, **__: Any) -> None:
        """Give the schedule its rate back."""
        for group, rate in zip(optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Measure, if it is time; before the step's checkpoint."""
        if state.global_step % max(1, state.max_steps // LOOKS) == 0:
            self.drift = self.measure()
            self.say(
                "INFO",
                f"step {state.global_step}: drift {self.drift:.3g} nats, rate x {self.factor:.2f}",
            )

    def measure(self) -> float:
        """Return the KL per learned token, over the held old rows."""
        assert self._old is not None
        model, total, n = self._old.model, 0.0, 0
        with torch.no_grad(), evaluating(model):
            for ids, labels in self.rows:
                inputs = alone(model, ids)
                told = torch.tensor([labels], device=inputs["input_ids"].device)
                old, learned = answers(self._old.logits(inputs), told)
                new, _ = answers(model(**inputs).logits, told)
                total += float(divergence(old, new))
                n += len(learned)
        return total / n

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Put it into the checkpoint."""
        if state.is_world_process_zero:
            file = checkpoint_file(args.output_dir, state.global_step, DRIFT)
            save_json({"drift_nats": self.drift}, file)
