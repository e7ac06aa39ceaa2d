"""What students learn of a teacher: held-out tasks answered right before and after, on three seeds.

A teacher, the demo's base with an adapter, learns the coder's tasks from right answers. The
students, the same base, learn of it by each kind of distillation: from its answers as they come,
only from those that pass when executed, from its distributions, and from its distributions on
their own answers. Pass rates are of held-out tasks at temperature 1, executed in the sandbox.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from benchmarks.bars import Figure
from benchmarks.demo_tasks import MAX_NEW_TOKENS, answered, no_report, passed, row_of
from benchmarks.training_effects import figures_of
from evaluator.sandbox import Sandbox
from flywheel.demo.language import tasks
from trainer.data import Row
from trainer.fit import fit
from trainer.lesson import Lesson, Trained
from trainer.recipe import DISTILL, GKD, PRESETS, Recipe
from trainer.recipe.distillation import Distillation

SAMPLES: Final = 2
LEARN: Final = replace(PRESETS["demo"], eval_steps=10_000, early_stopping_patience=0)
SOFT: Final = Distillation(temperature=1.0, alpha=0.9)
OWN: Final = Distillation(temperature=1.0, on_policy=1.0, max_new_tokens=MAX_NEW_TOKENS)


class School:
    """A teacher on one seed, its answers, and the tasks that everybody is examined by.

    Attributes:
        teacher: folder of its adapter.
        held_out: tasks that nobody learns from.
    """

    def __init__(self, base: Path, folder: Path, sandbox: Sandbox, seed: int, quick: bool) -> None:
        self.base, self.folder, self.sandbox, self.seed = base, folder, sandbox, seed
        n_learned, n_asked, n_held_out = (200, 120, 60) if quick else (1000, 500, 200)
        learned = tasks("coder", "train", n_learned, seed)
        self.asked = tasks("coder", "train", n_asked, seed + 1_000)
        self.held_out = tasks("coder", "held_out", n_held_out, seed)
        rows = [row_of(task, task.reference) for task in learned]
        self.teacher = self.train("teacher", LEARN, rows).folder

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
        return fit(Lesson(str(base or self.base), own, rows, [], work, no_report, teacher=teacher))

    def pass_rate(self, model: Path, adapter: Path | None = None) -> float:
        """Return the share of sampled answers to the held-out tasks that pass."""
        attempts = answered(model, adapter, self.held_out, self.seed, self.sandbox, samples=SAMPLES)
        return passed(attempts)

    def lessons(self) -> tuple[list[Row], list[Row]]:
        """Return the teacher's answers as rows: all of them, and those that pass."""
        said = answered(self.base, self.teacher, self.asked, self.seed, self.sandbox, samples=1)
        return (
            [row_of(one.task, one.text) for one in said],
            [row_of(one.task, one.text) for one in said if one.passed],
        )


def effects(base: Path, seed: int, quick: bool) -> dict[str, tuple[float, float]]:
    """Return what each kind of distillation changed: pass rates (0-1) before and after.

    The teacher's own pass rate is the after of `teacher`.
    """
    with tempfile.TemporaryDirectory(prefix="bench-distill-") as scratch, Sandbox() as sandbox:
        school = School(base, Path(scratch), sandbox, seed, quick)
        before = school.pass_rate(base)
        rows, right = school.lessons()
        teacher = (str(base), school.teacher)
        soft = replace(LEARN, method=DISTILL, distillation=SOFT)
        own = replace(soft, method=GKD, distillation=OWN, epochs=1.0)
        arms: dict[str, Callable[[str], Trained]] = {
            "its answers": lambda name: school.train(name, LEARN, rows),
            "its verified answers": lambda name: school.train(name, LEARN, right),
            "distill": lambda name: school.train(name, soft, rows, teacher=teacher),
            "gkd": lambda name: school.train(name, own, rows, teacher=teacher),
        }
        found = {"the teacher": (before, school.pass_rate(base, school.teacher))}
        for name, train in arms.items():
            found[name] = (before, school.pass_rate(base, train(name).folder))
        return found


def measure(quick: bool) -> list[Figure]:
    """Return the figures of the teacher and of its students."""
    return figures_of(effects, quick)
