"""What each method changes: held-out tasks answered right before and after, on three seeds.

The demo's coder answers held-out tasks four times each at temperature 1, its answers are executed;
then it is trained, and answers them again. Supervised arms learn from its own attempts: verified by
execution, or not (the control). The other methods' arms stand in files of their own.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import sqrt
from pathlib import Path
from statistics import mean, stdev
from typing import Final

from benchmarks.bars import Figure
from benchmarks.demo_tasks import answered, base_folder, no_report, passed, row_of
from evaluator.sandbox import Sandbox
from flywheel.demo.language import tasks
from trainer.data import Row
from trainer.export.merge import merged_folder
from trainer.fit import fit
from trainer.lesson import Lesson
from trainer.recipe import BFD, PRESETS, Recipe

SEEDS: Final = (0, 1, 2)
_T_2: Final = 4.303
"""Student's t for 95 % and two degrees of freedom."""

_DEMO = replace(PRESETS["demo"], eval_steps=10_000, early_stopping_patience=0, warmup=5)
VERIFIED, UNVERIFIED, TAUGHT = "verified", "unverified", "taught"
ARMS: Final[Mapping[str, tuple[str, Recipe]]] = {
    "sft-lora": (VERIFIED, _DEMO),
    "sft-lora, unverified (control)": (UNVERIFIED, _DEMO),
    "sft-lora, a teacher's answers": (TAUGHT, _DEMO),
    "sft-lora, preset plan": (
        VERIFIED,
        replace(_DEMO, r=8, alpha=32, dropout=0.1, target_modules=("q_proj", "v_proj")),
    ),
    "rsLoRA": (VERIFIED, replace(_DEMO, rslora=True, lr=1.5e-3)),
    "DoRA": (VERIFIED, replace(_DEMO, dora=True)),
    "bfd packing": (VERIFIED, replace(_DEMO, packing=BFD, batch_size=4)),
    "NEFTune": (VERIFIED, replace(_DEMO, neftune=5.0)),
    "QLoRA, nf4": (VERIFIED, replace(_DEMO, method="sft-qlora")),
    "QLoRA, int8": (VERIFIED, replace(_DEMO, quantization="int8")),
    "sft-full": (VERIFIED, replace(_DEMO, method="sft-full", lr=1e-3)),
}

Effects = Callable[[Path, int, bool], Mapping[str, tuple[float, float]]]


def effects(base: Path, seed: int, quick: bool) -> dict[str, tuple[float, float]]:
    """Return per arm the share (0-1) of held-out answers that pass, (before, after)."""
    n_train, n_held_out = (160, 60) if quick else (500, 200)
    learned = tasks("coder", "train", n_train, seed)
    held_out = tasks("coder", "held_out", n_held_out, seed)
    found = {}
    with tempfile.TemporaryDirectory(prefix="bench-effects-") as scratch, Sandbox() as sandbox:
        attempts = answered(base, None, learned, seed, sandbox)
        before = passed(answered(base, None, held_out, seed, sandbox))
        good = _distinct([row_of(a.task, a.text) for a in attempts if a.passed])
        # As many rows as the verified have: what differs is what they teach, not how much.
        every = _distinct([row_of(a.task, a.text) for a in attempts])[: len(good)]
        rows = {
            VERIFIED: good,
            UNVERIFIED: every,
            TAUGHT: [row_of(task, task.reference) for task in learned],
        }
        for place, (name, (source, recipe)) in enumerate(ARMS.items()):
            folder = Path(scratch) / str(place)
            folder.mkdir()
            lesson = Lesson(
                str(base), replace(recipe, seed=seed), rows[source], [], folder, no_report
            )
            again = answered(*_served(base, fit(lesson).folder, recipe), held_out, seed, sandbox)
            found[name] = (before, passed(again))
    return found


def _served(base: Path, kept: Path, recipe: Recipe) -> tuple[Path, Path | None]:
    """Return base and adapter to serve; what is no plain adapter is a whole model."""
    if recipe.method == "sft-full":
        return kept, None
    if recipe.dora:
        return merged_folder(str(base), kept, kept.parent / "merged").folder, None
    return base, kept


def measure(quick: bool) -> list[Figure]:
    """Return the figures of the supervised arms."""
    return figures_of(effects, quick)


def figures_of(
    effects: Effects, quick: bool, *, context: Sequence[str] = ("control", "best of")
) -> list[Figure]:
    """Return one figure for each arm: what it gained, in points, over the seeds.

    Args:
        effects: called with base, seed, quick; returns (before, after) by arm.
        quick: one seed and fewer tasks; no interval then, and no bar.
        context: arms whose names have such a word in them are not meant to gain: no bar.
    """
    base = base_folder()
    found = [effects(base, seed, quick) for seed in (SEEDS[:1] if quick else SEEDS)]
    return [figure_of(name, [one[name] for one in found], context) for name in found[0]]


def figure_of(
    name: str, pairs: Sequence[tuple[float, float]], context: Sequence[str] = ()
) -> Figure:
    """Return the mean gain of an arm in points; the bar is on the low end of its interval."""
    gains = [100 * (after - before) for before, after in pairs]
    low, high = interval(gains)
    has_bar = len(gains) > 1 and not any(word in name for word in context)
    shown = f"{100 * mean(b for b, _ in pairs):.1f} → {100 * mean(a for _, a in pairs):.1f} %"
    over = f"low end of 95 % over {len(gains)} seeds" if len(gains) > 1 else "one seed"
    return Figure(
        f"{name}: {shown}, gain, {over}",
        round(low, 2),
        "points",
        at_least=0.0 if has_bar else None,
        detail={
            "before": [round(100 * b, 2) for b, _ in pairs],
            "after": [round(100 * a, 2) for _, a in pairs],
            "gain": round(mean(gains), 2),
            "interval": [round(low, 2), round(high, 2)],
        },
        note=f"mean gain {mean(gains):+.1f}",
    )


def interval(gains: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % t-interval of a mean over seeds; of one seed the gain itself."""
    if len(gains) < 2:
        return gains[0], gains[0]
    half = _T_2 * stdev(gains) / sqrt(len(gains))
    return mean(gains) - half, mean(gains) + half


def _distinct(rows: Sequence[Row]) -> list[Row]:
    seen: dict[tuple[str, str], Row] = {}
    for row in rows:
        seen.setdefault((row["example_id"], row["completion"][0]["content"]), row)
    return list(seen.values())
