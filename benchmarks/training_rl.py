"""What learning from rewards does: sampled pass@1 on held-out demo tasks before and after.

One core, a base of half a million weights whose answers to coder tasks are right in a third of the
cases. Rewards are execution in the sandbox; held-out tasks share no meaning with the learned ones.
"""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

from benchmarks.bars import Figure
from benchmarks.demo_tasks import answered, no_report, passed
from benchmarks.training_effects import figures_of
from evaluator.rewards import rewards_of
from evaluator.sandbox import Sandbox
from flywheel.demo import language
from flywheel.demo.traffic import graded_task
from trainer.fit import fit
from trainer.lesson import Lesson
from trainer.recipe import GRPO, PPO, PRESETS, RLOO, Recipe
from trainer.recipe.reinforcement import Reinforcement

STEPS, ANSWERS, GROUP = 40, 64, 8
LONGEST: Final = 48
TASKS, HELD_OUT = 400, 200

_BASE: Final = replace(
    PRESETS["demo"],
    max_steps=STEPS,
    batch_size=ANSWERS,
    early_stopping_patience=0,
    eval_steps=STEPS,
    reinforcement=Reinforcement(n_answers=GROUP, max_new_tokens=LONGEST),
)
RECIPES: Final[dict[str, Recipe]] = {
    GRPO: replace(_BASE, method=GRPO, lr=3e-3),
    RLOO: replace(_BASE, method=RLOO, lr=1e-3),
    PPO: replace(_BASE, method=PPO, lr=3e-3),
}


def measure(quick: bool) -> list[Figure]:
    """Return what each method changed."""
    return figures_of(effects, quick)


def effects(base: Path, seed: int, quick: bool) -> dict[str, tuple[float, float]]:
    """Return method -> sampled pass@1 before and after, 0-1; quick: an eighth of the steps."""
    held_out = language.tasks("coder", "held_out", HELD_OUT, seed)
    found = {}
    with tempfile.TemporaryDirectory() as work, Sandbox(workers=1) as sandbox:
        before = passed(answered(base, None, held_out, seed, sandbox))
        for method, recipe in RECIPES.items():
            recipe = replace(recipe, seed=seed, max_steps=STEPS // 8 if quick else STEPS)
            adapter = learn(base, recipe, Path(work) / method, sandbox)
            found[method] = (before, passed(answered(base, adapter, held_out, seed, sandbox)))
    return found


def learn(base: Path, recipe: Recipe, folder: Path, sandbox: Sandbox) -> Path:
    """Train with execution as the reward; return the adapter's folder."""
    tasks = {
        task.key: graded_task(task)
        for task in language.tasks("coder", "train", TASKS, recipe.seed + 1)
    }
    folder.mkdir(parents=True)
    lesson = Lesson(
        base_model=str(base),
        recipe=recipe,
        rows=[{"prompt": t.prompt_messages, "task_id": key} for key, t in tasks.items()],
        validation=[],
        folder=folder,
        report=no_report,
        reward=rewards_of(tasks, sandbox),
    )
    return fit(lesson).folder
