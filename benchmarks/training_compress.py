"""What is kept when a model gets smaller: quantised, pruned, or distilled into a smaller one.

    python -m benchmarks.training_compress BASE [--seeds N] [--quick] [--only effects,table]

The base is a folder that `flywheel demo` built. A teacher, the base with an adapter, learns the
demo's coder tasks from right answers. The effects are what students (the same base) learn of it by
each kind of distillation: from its answers as they come, only from those that pass when executed,
from its distributions, and from its distributions on their own answers; beside the claims of the
product plan, the table is what is left of the teacher when it gets smaller. Pass rates are of
held-out tasks at temperature 1, executed in the sandbox.

Speeds are tokens said in a second of CPU time on one thread, eight answers at once, in turns with
the model's source. A model of half a million weights spends its time between matrix products, and
embeddings, which keep their type, are a fifth of it; so sizes and speeds are also taken of a wider
model of random weights, of which nobody can say what it knows.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.bars import Figure, report
from evaluator.graders import grade_many
from evaluator.sandbox import Sandbox
from flywheel.demo.language import DemoTask, right_answer, tasks
from flywheel.demo.traffic import graded_task
from foundation.chat import message
from serving.engine import Engine
from trainer.base import load_model, load_tokenizer
from trainer.compress.measure import n_bytes, speed_ratio
from trainer.compress.prune import pruned
from trainer.compress.quantize import quantized
from trainer.compress.ways import FP8, HEADS, INT4, INT8, NEURONS, NF4
from trainer.data import Row
from trainer.export.merge import merged_folder
from trainer.export.prompts import asked
from trainer.fit import fit
from trainer.lesson import Lesson, Trained
from trainer.pretrain import BaseShape, new_model
from trainer.recipe import DISTILL, GKD, PRESETS, SFT_FULL, Recipe
from trainer.recipe.distillation import Distillation

SAMPLES, MAX_NEW_TOKENS = 2, 64
STUDENT_LAYERS = (0, 3)
"""Of the teacher's four, with which a smaller student begins, as DistilBERT did: from nothing it
learns none of the tasks in a minute."""
WIDE = BaseShape(hidden=512, layers=4, heads=8, kv_heads=4, mlp=1536)

LEARN = replace(PRESETS["demo"], eval_steps=10_000, early_stopping_patience=0)
HEAL = replace(LEARN, method=SFT_FULL, lr=1e-3, epochs=3.0)
"""After weights or layers have left: all of what is left learns."""
SOFT = Distillation(temperature=1.0, alpha=0.9)

CLAIMS = {
    "int8": (4.0, 2.0, 0.99),
    "int4": (8.0, 3.0, 0.95),
    "distilled": (2.5, 2.0, 0.90),
    "pruned": (2.0, 1.5, 0.97),
}
"""Of the product plan: how many times smaller, how many times faster, share of accuracy kept."""


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


class School:
    """A teacher on one seed, its answers, and the tasks that everybody is examined by."""

    def __init__(self, base: Path, folder: Path, sandbox: Sandbox, seed: int, quick: bool) -> None:
        self.base, self.folder, self.sandbox, self.seed = base, folder, sandbox, seed
        n_learned, n_asked, n_held_out = (200, 120, 60) if quick else (1000, 500, 200)
        dice = random.Random(f"compress/{seed}")
        learned = tasks("coder", "train", n_learned, seed)
        self.asked = tasks("coder", "train", n_asked, seed + 1_000)
        self.held_out = tasks("coder", "held_out", n_held_out, seed)
        self.teacher = self.train("teacher", LEARN, _rows(learned, right_answer, dice)).folder

    def train(
        self,
        name: str,
        recipe: Recipe,
        rows: Sequence[Row],
        base: Path | None = None,
        teacher: tuple[str, Path | None] | None = None,
    ) -> Trained:
        """Train on rows, over the base or another one."""
        work = self.folder / name
        work.mkdir()
        own = replace(recipe, seed=self.seed)
        where = str(base or self.base)
        return fit(Lesson(where, own, rows, [], work, _quiet, teacher=teacher))

    def answers(self, model: Path, adapter: Path | None, asked: Sequence[DemoTask]) -> list[str]:
        """Return one answer to each task at temperature 1."""
        engine = Engine.load(model, threads=1, adapters={"one": adapter} if adapter else None)
        said = engine.generate(
            [[message("user", task.prompt)] for task in asked],
            adapter="one" if adapter else None,
            max_new_tokens=MAX_NEW_TOKENS,
            seed=[self.seed * 1_000_003 + i for i in range(len(asked))],
        )
        return [answer.text for answer in said]

    def passes(self, asked: Sequence[DemoTask], said: Sequence[str]) -> list[bool]:
        """Execute answers."""
        graded = grade_many([graded_task(task) for task in asked], list(said), self.sandbox)
        return [grade.passed for grade in graded]

    def pass_rate(self, model: Path, adapter: Path | None = None) -> float:
        """Return the share of sampled answers to the held-out tasks that pass."""
        asked = [task for task in self.held_out for _ in range(SAMPLES)]
        return mean(self.passes(asked, self.answers(model, adapter, asked)))

    def lessons(self) -> tuple[list[Row], list[Row]]:
        """Return the teacher's answers as rows: all of them, and those that pass."""
        said = self.answers(self.base, self.teacher, self.asked)
        rows = [_row(task, text) for task, text in zip(self.asked, said, strict=True)]
        passed = self.passes(self.asked, said)
        return rows, [row for row, is_right in zip(rows, passed, strict=True) if is_right]


def effects(base: Path, seed: int, quick: bool = False) -> dict[str, tuple[float, float]]:
    """Return what each kind of distillation changed: pass rates (0-1) before and after.

    The teacher's own pass rate is the after of `teacher`.

    Args:
        base: folder of the demo's base.
        seed: of tasks, sampling and trainings.
        quick: a fraction of the tasks: an idea, not a figure.
    """
    with tempfile.TemporaryDirectory() as scratch, Sandbox() as sandbox:
        school = School(base, Path(scratch), sandbox, seed, quick)
        before = school.pass_rate(base)
        rows, right = school.lessons()
        teacher = (str(base), school.teacher)
        soft = replace(LEARN, method=DISTILL, distillation=SOFT)
        own = Distillation(temperature=1.0, on_policy=1.0, max_new_tokens=MAX_NEW_TOKENS)
        arms: dict[str, Callable[[str], Trained]] = {
            "answers": lambda name: school.train(name, LEARN, rows),
            "verified answers": lambda name: school.train(name, LEARN, right),
            "distill": lambda name: school.train(name, soft, rows, teacher=teacher),
            "gkd": lambda name: school.train(
                name,
                replace(soft, method=GKD, distillation=own, epochs=1.0),
                rows,
                teacher=teacher,
            ),
        }
        found = {"teacher": (before, school.pass_rate(base, school.teacher))}
        for name, train in arms.items():
            found[name] = (before, school.pass_rate(base, train(name).folder))
        return found


def table(base: Path, seed: int, quick: bool = False) -> list[Line]:
    """Return what is left of the teacher, as one whole model, when it gets smaller."""
    with tempfile.TemporaryDirectory() as scratch, Sandbox() as sandbox:
        folder = Path(scratch)
        school = School(base, folder, sandbox, seed, quick)
        whole = merged_folder(str(base), school.teacher, folder / "whole").folder
        known = school.pass_rate(whole)
        rows, right = school.lessons()
        prompts = [row["prompt"] for row in rows[:16]]
        lines = [Line("teacher", None, 1.0, 1.0, known, 1.0)]

        def add(name: str, claim: str | None, made: Path, size: float, speed: float) -> None:
            passed = school.pass_rate(made)
            lines.append(Line(name, claim, size, speed, passed, passed / known))

        for way in (INT8, INT4, FP8):
            small = quantized(str(whole), way, folder / way, prompts)
            add(way, way, small.folder, small.size_ratio, small.speed_ratio)
        for what, share in ((NEURONS, 0.3), (NEURONS, 0.5), (HEADS, 0.5)):
            name = f"{share:.0%} of {what} pruned"
            cut = pruned(str(whole), what, share, rows, folder / name)
            add(name, None, cut.folder, cut.size_ratio, cut.speed_ratio)
            healed = school.train(f"{name}, healed", HEAL, right, cut.folder).folder
            add(f"{name}, healed", "pruned", healed, cut.size_ratio, cut.speed_ratio)
        student = _small_student(school, whole, rows)
        add("distilled into half the layers", "distilled", student, *_beside(whole, student))
        return [*lines, *_of_random_weights(base, folder)]


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


def _of_random_weights(base: Path, folder: Path) -> list[Line]:
    """Return sizes and speeds of a model whose matrices are most of it."""
    words = load_tokenizer(str(base))
    wide = folder / "wide"
    torch.manual_seed(0)
    new_model(replace(WIDE, vocab=len(words)), words).save_pretrained(wide)
    words.save_pretrained(wide)
    rows = [_row(task, task.reference) for task in tasks("coder", "train", 16, 0)]
    lines = []
    for way in (INT8, INT4, NF4, FP8):
        made = quantized(str(wide), way, folder / f"wide-{way}", [row["prompt"] for row in rows])
        lines.append(Line(f"{way}, wide", None, made.size_ratio, made.speed_ratio))
    for what in (NEURONS, HEADS):
        cut = pruned(str(wide), what, 0.5, rows, folder / f"wide-{what}")
        lines.append(Line(f"50% of {what}, wide", None, cut.size_ratio, cut.speed_ratio))
    return lines


def _beside(source: Path, copy: Path) -> tuple[float, float]:
    words = load_tokenizer(str(source))
    prompts = [[message("user", task.prompt)] for task in tasks("coder", "train", 8, 0)]
    ids = [one.ids for one in asked(words, prompts)]
    models = load_model(str(source)), load_model(str(copy))
    return n_bytes(str(source)) / n_bytes(str(copy)), speed_ratio(*models, ids)


def _rows(
    asked: Sequence[DemoTask], answer: Callable[[DemoTask, random.Random], str], dice: random.Random
) -> list[Row]:
    return [_row(task, answer(task, dice)) for task in asked]


def _row(task: DemoTask, text: str) -> Row:
    return {
        "prompt": [message("user", task.prompt)],
        "completion": [message("assistant", text)],
    }


def _quiet(done: float, total: float, unit: str, **measures: Any) -> None:
    """Take no notice of progress."""


def figures_of(lines: Sequence[Line], seed: int) -> list[Figure]:
    """Return the table as figures; the claims stand in their details, they are no bars of ours."""
    found = []
    for line in lines:
        claimed = CLAIMS.get(line.claim or "", (None, None, None))
        measured = (line.size, line.speed, line.kept)
        names = ("times smaller", "times faster", "of the pass rate kept")
        for name, value, claim in zip(names, measured, claimed, strict=True):
            if value is not None:
                detail = {**asdict(line), "claimed": claim}
                found.append(Figure(f"{line.name}, seed {seed}: {name}", value, "x", detail=detail))
    return found


def main() -> int:
    """Measure, print the tables, and keep them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", type=Path)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="effects,table")
    given = parser.parse_args()
    torch.set_num_threads(1)
    figures: list[Figure] = []
    for seed in range(given.seeds):
        if "effects" in given.only:
            started = time.process_time()
            found = effects(given.base, seed, given.quick)
            _print_effects(found, seed, time.process_time() - started)
            figures += [
                Figure(f"{name}, seed {seed}: pass rate", after, "share", detail={"before": before})
                for name, (before, after) in found.items()
            ]
        if "table" in given.only:
            started = time.process_time()
            lines = table(given.base, seed, given.quick)
            _print_table(lines, seed, time.process_time() - started)
            figures += figures_of(lines, seed)
    return report("training-compress", figures)


def _print_effects(found: dict[str, tuple[float, float]], seed: int, seconds: float) -> None:
    title = f"distillation, seed {seed}, {seconds:.0f} CPU seconds"
    shown_table = Table("student learns from", "before", "after", title=title)
    for name, shares in found.items():
        shown_table.add_row(name, *(f"{100 * share:.1f} %" for share in shares))
    Console().print(shown_table)


def _print_table(lines: Sequence[Line], seed: int, seconds: float) -> None:
    title = f"smaller, seed {seed}, {seconds:.0f} CPU seconds"
    headings = ("model", "smaller", "faster", "passes", "kept", "the plan claims")
    shown_table = Table(*headings, title=title)
    for line in lines:
        claimed = CLAIMS.get(line.claim or "")
        shown_table.add_row(
            line.name,
            f"{line.size:.2f} x",
            f"{line.speed:.2f} x",
            "" if line.passed is None else f"{100 * line.passed:.1f} %",
            "" if line.kept is None else f"{100 * line.kept:.0f} %",
            "" if claimed is None else "{:g} x, {:g} x, {:.0%}".format(*claimed),
        )
    Console(width=140).print(shown_table)


if __name__ == "__main__":
    sys.exit(main())
