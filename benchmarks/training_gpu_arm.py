"""One arm of `benchmarks.training_gpu`, or the base that all of them learn on."""

import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from benchmarks.training_gpu import ROLES, Shape, conversations
from benchmarks.training_speed_arm import Meter, ours, trl
from trainer.recipe import Recipe


def make_base(folder: Path, shape: Shape) -> None:
    """Write a base of random weights, with a tokenizer of about a thousand ids."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from trainer.tokenizer import train_tokenizer

    texts = [m["content"] for row in conversations(50, 512) for m in row["prompt"]]
    tokenizer = train_tokenizer(texts, 1024)
    config = Qwen2Config(
        vocab_size=shape.vocab,
        hidden_size=shape.hidden,
        intermediate_size=shape.mlp,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=32768,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="bfloat16",
    )
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        torch.set_default_dtype(torch.bfloat16)
        try:
            model = Qwen2ForCausalLM(config)
        finally:
            torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def measure(order: dict[str, Any]) -> dict[str, Any]:
    """Make the base, or do one arm's training and return what it took."""
    shape = Shape(**order["shape"])
    if "make" in order:
        make_base(Path(order["make"]), shape)
        return {}
    if order["arm"].startswith("three"):
        return {"step_s": _three(order), "peak_gb": _peak_gb()}
    import torch

    recipe = Recipe.from_dict(order["recipe"])
    meter, train = Meter(), trl if order["arm"] == "trl" else ours
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with meter.watching():
        train(Path(order["base"]), Path(order["folder"]), recipe, order["rows"][0])
    steady = meter.passes[order["warm_passes"] :]
    seconds = steady[-1][0] - steady[0][0]
    n_tokens = sum(n for _, n in steady[1:])
    return {
        "tokens_per_s": n_tokens / seconds,
        "flops_per_s": n_tokens / seconds * _flops_per_token(order, shape, recipe),
        "padding": 1 - meter.n_tokens / meter.n_slots,
        "peak_gb": _peak_gb(),
    }


def _flops_per_token(order: dict[str, Any], shape: Shape, recipe: Recipe) -> float:
    from trainer.base import load_tokenizer
    from trainer.data import encode

    tokenizer = load_tokenizer(order["base"])
    encoded = encode(order["rows"][0], tokenizer, recipe.max_length, recipe.too_long)
    lengths = [len(ids) for ids in encoded.input_ids]
    return shape.flops(lengths, encoded.n_learned_tokens, recipe.r) / sum(lengths)


def _three(order: dict[str, Any]) -> float:
    """Return the seconds of one step of three adapters, jointly or one after the other."""
    from trainer.fit import fit
    from trainer.joint.fit import fit_joint
    from trainer.lesson import Lesson

    marks: list[float] = []

    def mark(done: float, total: float, unit: str, **measures: Any) -> None:
        marks.append(time.perf_counter())

    folder, recipe = Path(order["folder"]), Recipe.from_dict(order["recipe"])
    lessons = [
        Lesson(order["base"], recipe, rows, [], folder / role, mark)
        for role, rows in zip(ROLES, order["rows"], strict=True)
    ]
    if order["arm"] == "three jointly":
        fit_joint(lessons, folder / "joint", mark, names=ROLES)
        return _step_s(marks)
    total = 0.0
    for lesson in lessons:
        marks.clear()
        lesson.folder.mkdir(parents=True, exist_ok=True)
        fit(lesson)
        total += _step_s(marks)
    return total


def _step_s(marks: list[float]) -> float:
    """Return the mean seconds of a step, the first quarter apart."""
    steady = marks[len(marks) // 4 :]
    return (steady[-1] - steady[0]) / max(1, len(steady) - 1)


def _peak_gb() -> float | None:
    import torch

    return torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else None


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # of libraries, to each other
    sys.stdout.write(f"\nMEASURED {json.dumps(measure(json.load(sys.stdin)))}\n")
