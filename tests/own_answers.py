"""Tasks and rewards for trainings that learn from their own answers, without a grader."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tiny_base import QUICK, make_rows

from trainer.recipe import Recipe
from trainer.recipe.reinforcement import AS_GRADED, Reinforcement

TASKS = [{"prompt": row["prompt"], "task_id": row["example_id"]} for row in make_rows(8)]

KNOBS = Reinforcement(n_answers=4, max_new_tokens=8, cut_answers=AS_GRADED)


def recipe(method: str, **changes: Any) -> Recipe:
    """Two steps of 16 answers to 4 tasks, in two passes each; knobs of the group by their names."""
    own = {name: changes.pop(name) for name in set(changes) & set(Reinforcement.RANGES)}
    base = replace(
        QUICK,
        method=method,
        epochs=1,
        gradient_accumulation=2,
        early_stopping_patience=0,
        reinforcement=replace(KNOBS, **own),
    )
    return replace(base, **changes)


def early_letters(rows: Sequence[Mapping[str, Any]], answers: Sequence[str]) -> list[float | None]:
    """Reward answers for letters of the first half of the alphabet."""
    return [sum("a" <= c <= "m" for c in answer) / max(1, len(answer)) for answer in answers]


def vivid(base: Path, folder: Path, scale: float = 8.0) -> Path:
    """Return a copy of the tiny base that is sure of some tokens: its random weights are not."""
    import shutil

    from safetensors.torch import load_file, save_file

    shutil.copytree(base, folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"] *= scale
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder
