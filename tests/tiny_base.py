"""A Qwen2 model of 20,000 random weights, rows to train it on, and a recipe of a second."""

from dataclasses import replace
from pathlib import Path

from trainer.recipe import PRESETS, Recipe

QUICK: Recipe = replace(
    PRESETS["demo"], lr=2e-2, epochs=4, batch_size=8, eval_steps=4, dropout=0.05, threads=1
)
"""24 steps on 48 rows; dropout, so that a resumed run needs the random state back."""


def build_tiny_base(folder: Path) -> Path:
    import torch

    from trainer.pretrain import BaseShape, new_model
    from trainer.tokenizer import train_tokenizer

    texts = [m["content"] for row in make_rows(64) for m in row["prompt"] + row["completion"]]
    tokenizer = train_tokenizer(texts, 300)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        shape = BaseShape(
            hidden=32,
            layers=2,
            heads=2,
            kv_heads=1,
            mlp=64,
            vocab=len(tokenizer),
            max_positions=128,
        )
        model = new_model(shape, tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_rows(n: int, answer: str | None = None) -> list[dict]:
    """Sums; with `answer`, that answer to all of them."""
    return [
        {
            "prompt": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": f"add {i % 8} and {i // 8}"},
            ],
            "completion": [
                {"role": "assistant", "content": answer or f"the sum is {i % 8 + i // 8}"}
            ],
            "example_id": str(i),
            "task_type": "sum",
        }
        for i in range(n)
    ]
