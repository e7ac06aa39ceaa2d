"""One training in a process of its own, ours or TRL's, measured: `benchmarks.training_speed`."""

import json
import os
import resource
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trainer.recipe import Recipe

Rows = list[dict[str, Any]]


class Meter:
    """What a training does, seen from transformers' trainer, which both arms are made of."""

    def __init__(self) -> None:
        self.n_tokens = self.n_slots = 0
        self.saving_s = 0.0
        self.first_step_at: float | None = None
        self.passes: list[tuple[float, int]] = []
        """When each forward and backward pass was done, and its tokens."""

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Count tokens, padding, and the seconds of checkpoints, of every training within."""
        import torch
        from transformers import Trainer

        step, save = Trainer.training_step, Trainer._save_checkpoint

        def counted(trainer: Any, model: Any, inputs: dict[str, Any], *more: Any) -> Any:
            slots, mask = inputs["input_ids"].numel(), inputs.get("attention_mask")
            n_tokens = slots if mask is None else int(mask.sum())
            loss = step(trainer, model, inputs, *more)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.n_slots += slots
            self.n_tokens += n_tokens
            self.passes.append((time.perf_counter(), n_tokens))
            self.first_step_at = self.first_step_at or time.time()
            return loss

        def timed(*given: Any) -> Any:
            began = time.perf_counter()
            try:
                return save(*given)
            finally:
                self.saving_s += time.perf_counter() - began

        Trainer.training_step, Trainer._save_checkpoint = counted, timed
        try:
            yield
        finally:
            Trainer.training_step, Trainer._save_checkpoint = step, save


def ours(base: Path, folder: Path, recipe: Recipe, rows: Rows, kill_at: int | None = None) -> Path:
    """Train as a user does, and return the adapter's folder."""
    from trainer.fit import fit
    from trainer.lesson import Lesson

    def report_or_die(done: float, total: float, unit: str, **measures: Any) -> None:
        if done == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    folder.mkdir(parents=True, exist_ok=True)
    return fit(Lesson(str(base), recipe, rows, [], folder, report_or_die)).folder


def trl(base: Path, folder: Path, recipe: Recipe, rows: Rows) -> Path:
    """Train with TRL's defaults for all that is not the task itself, and return the adapter's."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    trainer = SFTTrainer(
        model=str(base),
        args=SFTConfig(
            output_dir=str(folder),
            per_device_train_batch_size=recipe.batch_size,
            gradient_accumulation_steps=recipe.gradient_accumulation,
            num_train_epochs=recipe.epochs,
            max_steps=recipe.max_steps or -1,
            max_length=recipe.max_length,
            learning_rate=recipe.lr,
            lr_scheduler_type=recipe.scheduler,
            warmup_steps=recipe.warmup,
            seed=recipe.seed,
            report_to="none",
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),  # without it the default of bf16 is refused
        ),
        train_dataset=Dataset.from_list(rows),
        peft_config=LoraConfig(
            task_type="CAUSAL_LM",
            r=recipe.r,
            lora_alpha=recipe.alpha,
            lora_dropout=recipe.dropout,
            target_modules="all-linear",
        ),
    )
    trainer.train()
    trainer.save_model(str(folder / "adapter"))
    return folder / "adapter"


def loss_of(base: Path, adapter: Path, rows: Rows) -> float:
    """Return the mean loss per token of the answers, in nats, of the plain base with an adapter."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from trainer.base import load_tokenizer
    from trainer.data import encode

    encoded = encode(rows, load_tokenizer(str(base)), 10**6)
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = PeftModel.from_pretrained(plain, str(adapter)).eval()
    total = 0.0
    with torch.no_grad():
        for ids, labels in zip(encoded.input_ids, encoded.labels, strict=True):
            wanted = torch.tensor(labels[1:])
            logits = model(input_ids=torch.tensor([ids])).logits[0, :-1].float()
            total += float(torch.nn.functional.cross_entropy(logits, wanted, reduction="sum"))
    return total / encoded.n_learned_tokens


def measure(order: dict[str, Any]) -> dict[str, float]:
    """Do one training by an order of `training_speed`, and return what it took."""
    import trainer.fit
    import trainer.methods.sft  # noqa: F401  (what is imported once is no part of a training)

    recipe = Recipe.from_dict(order["recipe"])
    base, folder = Path(order["base"]), Path(order["folder"])
    meter, loaded_at = Meter(), time.time()
    wall, cpu = time.perf_counter(), time.process_time()
    with meter.watching():
        if order["arm"] == "ours":
            adapter = ours(base, folder, recipe, order["rows"], order.get("kill_at"))
        else:
            adapter = trl(base, folder, recipe, order["rows"])
    wall_s, cpu_s = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert meter.first_step_at is not None, "a training has a step"
    return {
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "tokens": meter.n_tokens,
        "tokens_per_s": meter.n_tokens / wall_s,
        "tokens_per_cpu_s": meter.n_tokens / cpu_s,
        "padding": 1 - meter.n_tokens / meter.n_slots,
        "peak_mb": peak / (2**20 if sys.platform == "darwin" else 2**10),
        "checkpoint_share": meter.saving_s / wall_s,
        "first_step_s": meter.first_step_at - order["began"],
        "loaded_first_step_s": meter.first_step_at - loaded_at,
        "validation_loss": loss_of(base, adapter, order["held_out"]),
    }


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # of libraries, to each other
    measured = measure(json.load(sys.stdin))
    sys.stdout.write(f"\nMEASURED {json.dumps(measured)}\n")
