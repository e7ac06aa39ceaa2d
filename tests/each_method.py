"""A lesson of every method by its name: rows, a reward, a teacher, a recipe of two steps."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from tiny_base import QUICK, make_rows

from foundation.chat import message
from trainer.methods import METHODS, TASKS
from trainer.recipe import Recipe
from trainer.recipe.reinforcement import Reinforcement

SHORT: Recipe = replace(QUICK, max_steps=2, eval_steps=2, batch_size=8, lr=1e-3, dropout=0.0)


def rows_for(method: str) -> list[dict[str, Any]]:
    rows = make_rows(24)
    if METHODS[method].reads == "preference":
        return [
            {
                "prompt": row["prompt"],
                "chosen": row["completion"],
                "rejected": [message("assistant", "no idea at all")],
            }
            for row in rows
        ]
    if METHODS[method].reads == TASKS:
        return [{"prompt": row["prompt"], "task_id": row["example_id"]} for row in rows]
    return rows


def reward(rows: Any, answers: list[str]) -> list[float]:
    """By the letters of an answer: no two answers of a group are worth the same for long."""
    return [sum(map(ord, answer)) % 7 / 6 for answer in answers]


def lesson_of(method: str, tiny_base: Path, teacher: Path) -> dict[str, Any]:
    if METHODS[method].reads == TASKS:
        return {"reward": reward}
    return {"teacher": (str(tiny_base), teacher)} if method in ("distill", "gkd") else {}


def recipe_of(method: str) -> Recipe:
    answers = Reinforcement(n_answers=8, max_new_tokens=48)  # shorter ones never end
    recipe = replace(SHORT, method=method, reinforcement=answers)
    if method in ("distill", "gkd"):
        distillation = replace(recipe.distillation, teacher="base", max_new_tokens=8)
        return replace(recipe, distillation=distillation)
    return recipe
