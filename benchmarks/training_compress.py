"""What is kept when a model gets smaller: quantised, pruned, or distilled into a smaller one.

The teacher of `training_distill`, as one whole model, beside what is made of it; the product plan's
claims stand in the details, they are no bars of ours: they were made for models whose matrices are
all of them, on hardware with kernels for few bits. What has a bar is what we promise: each copy
passed its gate of parity, and INT8 keeps the accuracy that is claimed.

Speeds are tokens said in a second of CPU time on one thread, eight answers at once, in turns with
the model's source. A model of half a million weights spends its time between matrix products, and
embeddings, which keep their type, are a fifth of it; so sizes and speeds are also taken of a wider
model of random weights, of which nobody can say what it knows.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any, Final

import torch

from benchmarks.bars import Figure
from benchmarks.demo_tasks import base_folder, row_of
from benchmarks.training_distill import LEARN, SOFT, School
from evaluator.sandbox import Sandbox
from flywheel.demo.language import tasks
from foundation.chat import message
from trainer.base import load_model, load_tokenizer
from trainer.compress.measure import n_bytes, speed_ratio
from trainer.compress.prune import pruned
from trainer.compress.quantize import quantized
from trainer.compress.ways import FP8, HEADS, INT4, INT8, NEURONS, NF4
from trainer.data import Row
from trainer.export.merge import merged_folder
from trainer.export.prompts import asked
from trainer.pretrain import BaseShape, new_model
from trainer.recipe import DISTILL, SFT_FULL

SEEDS: Final = (0, 1, 2)
STUDENT_LAYERS: Final = (0, 3)
"""Of the teacher's four, with which a smaller student begins, as DistilBERT did: from nothing it
learns none of the tasks in a minute."""
WIDE: Final = BaseShape(hidden=512, layers=4, heads=8, kv_heads=4, mlp=1536)

HEAL: Final = replace(LEARN, method=SFT_FULL, lr=1e-3, epochs=3.0)
"""After weights or layers have left: all of what is left learns."""

CLAIMS: Final = {
    "int8": (4.0, 2.0, 0.99),
    "int4": (8.0, 3.0, 0.95),
    "distilled": (2.5, 2.0, 0.90),
    "pruned": (2.0, 1.5, 0.97),
}
"""Of the product plan: how many times smaller, how many times faster, share of accuracy kept."""

BARS: Final = {"int8": 0.99}
"""Least share of the pass rate that is kept, where the plan's claim is ours, too."""


@dataclass(frozen=True)
class Line:
    """One smaller model beside its source.

    Attributes:
        name: how it was made.
        claim: whose claim of the plan it stands beside, if any.
        size: bytes of the source over its own.
        speed: tokens that it says while the source says one.
        passed: its pass rate, 0-1; None of random weights.
        kept: that over the source's.
    """

    name: str
    claim: str | None
    size: float
    speed: float
    passed: float | None = None
    kept: float | None = None


def measure(quick: bool) -> list[Figure]:
    """Return the table of sizes, speeds and what is kept; each is the mean over the seeds."""
    torch.set_num_threads(1)
    base = base_folder()
    tables = [table(base, seed, quick) for seed in (SEEDS[:1] if quick else SEEDS)]
    by_name = [list(lines) for lines in zip(*tables, strict=True)]
    wide = of_random_weights(base)
    return [*(f for lines in by_name for f in _figures(lines, quick)), *_wide_figures(wide)]


def table(base: Path, seed: int, quick: bool) -> list[Line]:
    """Return what is left of the teacher, as one whole model, when it gets smaller."""
    with tempfile.TemporaryDirectory(prefix="bench-compress-") as scratch, Sandbox() as sandbox:
        school = School(base, Path(scratch), sandbox, seed, quick)
        whole = merged_folder(str(base), school.teacher, school.folder / "whole").folder
        known = school.pass_rate(whole)
        rows, right = school.lessons()
        lines = [Line("the teacher itself", None, 1.0, 1.0, known, 1.0)]

        def add(name: str, claim: str | None, made: Path, size: float, speed: float) -> None:
            passed = school.pass_rate(made)
            lines.append(Line(name, claim, size, speed, passed, passed / known))

        for way in (INT8, INT4, FP8):
            prompts = [row["prompt"] for row in rows[:16]]
            small = quantized(str(whole), way, school.folder / way, prompts)
            add(way, way, small.folder, small.size_ratio, small.speed_ratio)
        for what, share in ((NEURONS, 0.3), (NEURONS, 0.5), (HEADS, 0.5)):
            name = f"{share:.0%} of {what} pruned"
            cut = pruned(str(whole), what, share, rows, school.folder / name)
            add(name, None, cut.folder, cut.size_ratio, cut.speed_ratio)
            healed = school.train(f"{name}, healed", HEAL, right, cut.folder).folder
            add(f"{name}, healed", "pruned", healed, cut.size_ratio, cut.speed_ratio)
        student = _small_student(school, whole, rows)
        add("distilled into half the layers", "distilled", student, *_beside(whole, student))
        return lines


def _small_student(school: School, whole: Path, rows: Sequence[Row]) -> Path:
    """Return a student of fewer layers that learned of the teacher, first answers, then more."""
    words, shallow = load_tokenizer(str(whole)), load_model(str(whole))
    layers = shallow.model.layers
    shallow.model.layers = torch.nn.ModuleList([layers[i] for i in STUDENT_LAYERS])
    shallow.config.num_hidden_layers = len(STUDENT_LAYERS)
    shallow.config.layer_types = shallow.config.layer_types[: len(STUDENT_LAYERS)]
    fresh = school.folder / "fresh"
    shallow.save_pretrained(fresh)
    words.save_pretrained(fresh)
    small = school.train("small", replace(HEAL, lr=2e-3), rows, fresh).folder
    taught = replace(LEARN, method=DISTILL, distillation=SOFT, r=32, alpha=64, epochs=3.0)
    adapter = school.train("student", taught, rows, small, teacher=(str(whole), None)).folder
    return merged_folder(str(small), adapter, school.folder / "small-whole").folder


def of_random_weights(base: Path) -> list[Line]:
    """Return sizes and speeds of a model whose matrices are most of it."""
    words = load_tokenizer(str(base))
    learned = tasks("coder", "train", 16, 0)
    rows = [row_of(task, task.reference) for task in learned]
    prompts = [row["prompt"] for row in rows]
    with tempfile.TemporaryDirectory(prefix="bench-compress-") as scratch:
        folder = Path(scratch)
        wide = folder / "wide"
        torch.manual_seed(0)
        new_model(replace(WIDE, vocab=len(words)), words).save_pretrained(wide)
        words.save_pretrained(wide)
        lines = []
        for way in (INT8, INT4, NF4, FP8):
            made = quantized(str(wide), way, folder / way, prompts)
            lines.append(Line(f"{way}, wide", way, made.size_ratio, made.speed_ratio))
        for what in (NEURONS, HEADS):
            cut = pruned(str(wide), what, 0.5, rows, folder / what)
            lines.append(Line(f"50% of {what}, wide", "pruned", cut.size_ratio, cut.speed_ratio))
        return lines


def _beside(source: Path, copy: Path) -> tuple[float, float]:
    words = load_tokenizer(str(source))
    prompts = [[message("user", task.prompt)] for task in tasks("coder", "train", 8, 0)]
    ids = [one.ids for one in asked(words, prompts)]
    models = load_model(str(source)), load_model(str(copy))
    return n_bytes(str(source)) / n_bytes(str(copy)), speed_ratio(*models, ids)


def _figures(lines: Sequence[Line], quick: bool) -> list[Figure]:
    """Return size, speed and share of accuracy kept of one way, over the seeds."""
    one = lines[0]
    kept = [line.kept for line in lines if line.kept is not None]
    detail = {"claimed": CLAIMS.get(one.claim or ""), "seeds": [asdict(line) for line in lines]}
    return [
        *_sizes(lines, detail),
        Figure(
            f"{one.name}: of the pass rate kept",
            round(mean(kept), 4),
            "x",
            at_least=None if quick else BARS.get(one.name),
            detail=detail,
            note=_claim(one, 2),
        ),
    ]


def _wide_figures(lines: Sequence[Line]) -> list[Figure]:
    return [
        figure
        for line in lines
        for figure in _sizes([line], {"claimed": CLAIMS.get(line.claim or ""), **asdict(line)})
    ]


def _sizes(lines: Sequence[Line], detail: dict[str, Any]) -> list[Figure]:
    name = lines[0].name
    sizes = [line.size for line in lines], [line.speed for line in lines]
    return [
        Figure(
            f"{name}: times {what}",
            round(mean(values), 3),
            "x",
            detail=detail,
            note=_claim(lines[0], place),
        )
        for place, (what, values) in enumerate(zip(("smaller", "faster"), sizes, strict=True))
    ]


def _claim(line: Line, place: int) -> str:
    """Return what the plan claims, beside the figure."""
    claimed = CLAIMS.get(line.claim or "")
    return f"the plan claims {claimed[place]:g}" if claimed else ""
