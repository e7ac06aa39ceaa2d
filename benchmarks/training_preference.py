"""What learning from pairs changes: tasks answered right before and after, by every method.

The demo's base answers training tasks of the demo's coder four times each at temperature 1. Its
answers are executed; one that passed and one that failed make a pair. Each method learns from the
same pairs, and answers held-out tasks in the same way. A reward model answers nothing: it ranks
held-out pairs, and picks one of four answers to each held-out task.
"""

import random
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.bars import Figure
from benchmarks.demo_tasks import Attempt, answered, no_report, passed
from benchmarks.training_effects import figures_of
from evaluator.sandbox import Sandbox
from flywheel.demo.language import DemoTask, tasks
from foundation.chat import message
from trainer.fit import fit
from trainer.lesson import Lesson
from trainer.recipe import PRESETS, Recipe
from trainer.recipe.preference import Preference
from trainer.reward_model import RewardModel

PAIRS_PER_TASK = 2
REWARD_PAIRS, PICKED = "reward", "reward: best of 4"

_QUICK = replace(PRESETS["demo"], eval_steps=10_000, early_stopping_patience=0)
RECIPES: Mapping[str, Recipe] = {
    "dpo": replace(
        _QUICK,
        method="dpo",
        lr=1e-3,
        preference=Preference(losses=("sigmoid", "sft"), loss_weights=(1.0, 1.0)),
    ),
    "kto": replace(_QUICK, method="kto", lr=1e-4),
    "orpo": replace(_QUICK, method="orpo", lr=1e-3),
    "reward": replace(_QUICK, method="reward", lr=3e-3, epochs=4),
}


def measure(quick: bool) -> list[Figure]:
    """Return what each method changed."""
    return figures_of(effects, quick)


def effects(base: Path, seed: int, quick: bool) -> dict[str, tuple[float, float]]:
    """Return what each method changed, as shares of 0-1: (before, after).

    Args:
        base: folder of the demo's base.
        seed: of tasks, sampling and trainings.
        quick: a third of the tasks: an idea, not a figure.

    Returns:
        For `dpo`, `kto` and `orpo` the share of sampled answers to held-out tasks that pass. For
        `reward` the share of held-out pairs ranked right, before: by lot. For `reward: best of 4`
        the share of held-out tasks whose best-scored answer passes, before: of any answer.
    """
    n_train, n_held_out = (160, 80) if quick else (500, 200)
    learned = tasks("coder", "train", n_train, seed)
    held_out = tasks("coder", "held_out", n_held_out, seed)
    with tempfile.TemporaryDirectory() as scratch, Sandbox() as sandbox:
        attempts = answered(base, None, learned, seed, sandbox)
        before = answered(base, None, held_out, seed, sandbox)
        rows, unseen = pairs_of(attempts, seed), pairs_of(before, seed)
        found = {}
        for method, recipe in RECIPES.items():
            lesson = Lesson(
                str(base),
                replace(recipe, seed=seed),
                rows,
                unseen,
                Path(scratch) / method,
                no_report,
            )
            lesson.folder.mkdir()
            trained = fit(lesson)
            if method == REWARD_PAIRS:
                found[method] = (0.5, trained.metrics["validation_accuracy"])
                model = RewardModel(str(base), trained.folder)
                found[PICKED] = (passed(before), passed(best_of(before, model)))
            else:
                after = answered(base, trained.folder, held_out, seed, sandbox)
                found[method] = (passed(before), passed(after))
    return found


def pairs_of(attempts: Sequence[Attempt], seed: int) -> list[dict[str, Any]]:
    """Return preference rows: to one task, an answer that passed over one that failed."""
    dice = random.Random(seed)
    rows = []
    for task, found in _by_task(attempts).items():
        good, bad = ([a.text for a in found if a.passed is right] for right in (True, False))
        both = [(one, other) for one in sorted(set(good)) for other in sorted(set(bad))]
        for chosen, rejected in dice.sample(both, min(PAIRS_PER_TASK, len(both))):
            rows.append(
                {
                    "prompt": [message("user", task.prompt)],
                    "chosen": [message("assistant", chosen)],
                    "rejected": [message("assistant", rejected)],
                }
            )
    return rows


def best_of(attempts: Sequence[Attempt], model: RewardModel) -> list[Attempt]:
    """Return of each task the answer that a reward model scores best."""
    asked = [([message("user", a.task.prompt)], a.text) for a in attempts]
    scores = dict(zip(map(id, attempts), model.scores(asked), strict=True))
    return [max(found, key=lambda a: scores[id(a)]) for found in _by_task(attempts).values()]


def _by_task(attempts: Sequence[Attempt]) -> dict[DemoTask, list[Attempt]]:
    found: dict[DemoTask, list[Attempt]] = {}
    for attempt in attempts:
        found.setdefault(attempt.task, []).append(attempt)
    return found
