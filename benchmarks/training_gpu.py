"""A supervised training on one GPU: tokens per second, share of the peak, memory, beside plain TRL.

python -m benchmarks.training_gpu [--shape qwen2.5-7b|tiny] [--steps N] [--json FILE]

The base has the shape of Qwen2.5-7B and random weights, which changes neither speed nor memory; no
claim about quality can come of it. Rows are conversations of 64 to 2,048 tokens, most of them far
shorter, as agents' are. Each arm is a process of its own. `--shape tiny` runs all of it on a CPU in
this process, to see that it runs; without a GPU there is nothing else to measure.

FLOPs are those that learning needs, whatever else is computed: over frozen weights 4 per weight of
a layer and token (2 forward, 2 for the gradient of what the layer was given), the head on learned
tokens only, causal attention at half its square, the adapter at 6. Recomputed activations count for
nothing, so a run that recomputes has the lower share.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from benchmarks.bars import RESULTS, Figure, report
from flywheel.demo.language import tasks
from trainer.recipe import PRESETS, Recipe

CONTEXT: Final = 2048
RECIPE: Final = replace(
    PRESETS["default"], epochs=1, max_length=CONTEXT, eval_steps=10**6, warmup=0
)
ROLES: Final = ("coder", "tester", "reviewer")
PEAK_FLOPS: Final = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40": 181e12}
"""Dense bfloat16 of a GPU, by a part of its name."""
NO_GPU: Final = "no GPU here: nothing was measured (--shape tiny runs all of it on a CPU)"


@dataclass(frozen=True)
class Shape:
    """A Qwen2 model.

    Attributes:
        hidden: width.
        layers: transformer blocks.
        mlp: width of the feed-forward part.
        heads: attention heads.
        kv_heads: key/value heads.
        vocab: rows of the embedding.
    """

    hidden: int
    layers: int
    mlp: int
    heads: int
    kv_heads: int
    vocab: int

    @property
    def layer_weights(self) -> int:
        """Weights of one block that a token is multiplied with."""
        kv = self.hidden * self.kv_heads // self.heads
        return 2 * self.hidden * (self.hidden + kv) + 3 * self.hidden * self.mlp

    def adapter_weights(self, r: int) -> int:
        """Weights of an adapter of rank `r` on all linear layers of one block."""
        kv = self.hidden * self.kv_heads // self.heads
        widths = 2 * (2 * self.hidden) + 2 * (self.hidden + kv) + 3 * (self.hidden + self.mlp)
        return r * widths

    def flops(self, lengths: Sequence[int], n_learned: int, r: int) -> float:
        """Return the FLOPs of learning rows of these lengths once."""
        n_tokens = sum(lengths)
        weights = self.layers * (4 * self.layer_weights + 6 * self.adapter_weights(r))
        attention = self.layers * 3 * 4 * self.hidden * sum(n * n / 2 for n in lengths)
        return n_tokens * weights + attention + 4 * n_learned * self.hidden * self.vocab


SHAPES: Final = {
    "qwen2.5-7b": Shape(3584, 28, 18944, 28, 4, 152064),
    "tiny": Shape(32, 2, 64, 2, 1, 1024),
}
ARMS: Final[dict[str, dict[str, Any]]] = {
    "ours": {"gradient_checkpointing": False},
    "ours, recomputing": {"gradient_checkpointing": True},
    "trl": {},
    "qlora": {"method": "sft-qlora", "gradient_checkpointing": True},
    "three apart": {"batch_size": 1, "gradient_checkpointing": False},
    "three jointly": {"batch_size": 1, "gradient_checkpointing": False},
}


def main() -> int:
    """Measure, print the table, return 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="qwen2.5-7b")
    parser.add_argument("--steps", type=int, default=12, help="optimizer steps of each arm")
    parser.add_argument("--json", type=Path, help="write the figures there, too: docs/figures/…")
    given = parser.parse_args()
    found = figures(None, quick=False, shape=given.shape, steps=given.steps)
    name = "training-gpu" if given.shape != "tiny" else "training-gpu-tiny"
    status = report(name, found)
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(RESULTS / f"{name}.json", given.json)
    return status


def figures(
    base: Path | None, quick: bool, *, shape: str = "qwen2.5-7b", steps: int = 12
) -> list[Figure]:
    """Measure every arm; one figure that says so where there is no GPU.

    Args:
        base: not looked at: the base is made here.
        quick: fewer steps.
        shape: a name in `SHAPES`.
        steps: optimizer steps of each arm.
    """
    import torch

    is_dry = shape == "tiny"
    if not torch.cuda.is_available() and not is_dry:
        return [Figure("supervised training on a GPU", None, "tokens/s", note=NO_GPU)]
    steps = min(steps, 6) if quick else steps
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "base"
        _call({"make": str(made), "shape": asdict(SHAPES[shape])}, here=is_dry)
        found: dict[str, dict[str, Any]] = {}
        for arm in ARMS:
            order = _order(arm, made, Path(folder) / arm.replace(" ", "-"), shape, steps)
            found[arm] = _call(order, here=is_dry)
            shutil.rmtree(order["folder"], ignore_errors=True)
    return _table(found, "the CPU" if is_dry else torch.cuda.get_device_name(), is_dry)


def conversations(n: int, longest: int, seed: int = 0) -> list[dict[str, Any]]:
    """Return conversations whose lengths spread as agents' do: most short, a few as long as fit.

    Lengths are in tokens of the demo's tokenizer, about; the longest ones are shortened to fit.
    """
    rng = random.Random(f"gpu/{seed}")
    pool = tasks("coder", "train", 200, seed)
    rows = []
    for _ in range(n):
        wanted = min(longest, max(64, int(rng.lognormvariate(6.4, 0.8))))
        turns = [
            {"role": role, "content": text}
            for one in (rng.choice(pool) for _ in range(max(1, wanted // 90)))
            for role, text in (("user", one.prompt), ("assistant", one.reference))
        ]
        rows.append({"prompt": turns[:-1], "completion": turns[-1:]})
    return rows


def _order(arm: str, base: Path, folder: Path, shape: str, steps: int) -> dict[str, Any]:
    recipe: Recipe = replace(RECIPE, **ARMS[arm], too_long="truncate")
    longest = CONTEXT
    if shape == "tiny":
        recipe, longest = replace(recipe, batch_size=1, gradient_accumulation=2, threads=1), 128
    n_rows = steps * recipe.effective_batch_size
    return {
        "arm": arm,
        "base": str(base),
        "folder": str(folder),
        "recipe": recipe.to_dict(),
        "rows": [conversations(n_rows, longest, seed) for seed in range(len(ROLES))],
        "shape": asdict(SHAPES[shape]),
        "warm_passes": max(1, steps // 4) * recipe.gradient_accumulation,
    }


def _call(order: dict[str, Any], here: bool) -> dict[str, Any]:
    """Carry out an order in a process of its own, or in this one; why not, where it fails."""
    if here:
        from benchmarks.training_gpu_arm import measure

        return measure(order)
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks.training_gpu_arm"],
        input=json.dumps(order),
        capture_output=True,
        text=True,
        cwd=Path(__file__).resolve().parent.parent,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
    )
    lines = [line for line in process.stdout.splitlines() if line.startswith("MEASURED ")]
    if process.returncode or not lines:
        last = (process.stderr.strip().splitlines() or ["no output"])[-1]
        return {"failed": f"rc {process.returncode}: {last[:300]}"}
    found: dict[str, Any] = json.loads(lines[-1].removeprefix("MEASURED "))
    return found


def _table(found: dict[str, dict[str, Any]], device: str, is_dry: bool) -> list[Figure]:
    peak = next((flops for part, flops in PEAK_FLOPS.items() if part in device), None)
    best = max(("ours", "ours, recomputing"), key=lambda arm: _of(found[arm], "tokens_per_s") or 0)
    ours, theirs = (_of(found[arm], "tokens_per_s") for arm in (best, "trl"))
    flops = _of(found[best], "flops_per_s")
    return [
        Figure(
            f"{device}: tokens per second, ours over TRL's defaults",
            ours / theirs if ours and theirs else None,
            "x",
            at_least=None if is_dry else 1.5,
            detail=found,
        ),
        Figure(
            f"{device}: share of its peak, {best}",
            flops / peak if flops and peak else None,
            "of peak",
            at_least=0.45 if "H200" in device else None,
            note="" if peak else "no peak is known of this device",
        ),
        *_each(found),
        *_jointly(found),
    ]


def _each(found: dict[str, dict[str, Any]]) -> list[Figure]:
    return [
        Figure(f"{label}, {arm}", _of(run, name), unit, note=run.get("failed", ""))
        for arm, run in found.items()
        for label, name, unit in (
            ("tokens per second", "tokens_per_s", "tokens/s"),
            ("peak memory", "peak_gb", "GiB"),
        )
    ]


def _jointly(found: dict[str, dict[str, Any]]) -> list[Figure]:
    """Return three adapters at once over three one after the other; below 1 joint is faster."""
    apart, jointly = found["three apart"], found["three jointly"]
    seconds = _of(jointly, "step_s"), _of(apart, "step_s")
    return [
        Figure(
            "a step of three adapters jointly, over three steps apart",
            seconds[0] / seconds[1] if seconds[0] and seconds[1] else None,
            "x",
            note=jointly.get("failed", ""),
        )
    ]


def _of(run: dict[str, Any], name: str) -> float | None:
    value: float | None = run.get(name)
    return value


if __name__ == "__main__":
    sys.exit(main())
