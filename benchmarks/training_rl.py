"""What learning from rewards does: sampled pass@1 on held-out demo tasks before and after.

One core, a base of half a million weights whose answers to coder tasks are right in a third of the
cases. Rewards are execution in the sandbox; held-out tasks share no meaning with the learned ones.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from evaluator.graders import GradedTask
from evaluator.rewards import rewards_of
from evaluator.sandbox import Sandbox
from flywheel.demo import language
from flywheel.demo.traffic import graded_task
from trainer.recipe import GRPO, PPO, PRESETS, RLOO, Recipe
from trainer.recipe.reinforcement import Reinforcement

STEPS, ANSWERS, GROUP = 40, 64, 8
LONGEST: Final = 48
TASKS, HELD_OUT, SAMPLES = 400, 200, 4

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


def effects(
    base: Path, seed: int, quick: bool, methods: Sequence[str] = tuple(RECIPES)
) -> dict[str, tuple[float, float]]:
    """Return method -> sampled pass@1 before and after, 0-1; quick: an eighth of the steps."""
    held_out = [graded_task(task) for task in language.tasks("coder", "held_out", HELD_OUT, 0)]
    found = {}
    with tempfile.TemporaryDirectory() as work, Sandbox(workers=1) as sandbox:
        before = pass_rate(base, None, held_out, sandbox)
        for method in methods:
            recipe = replace(RECIPES[method], seed=seed)
            recipe = replace(recipe, max_steps=STEPS // 8) if quick else recipe
            adapter = learn(base, recipe, Path(work) / method, sandbox)
            found[method] = (before, pass_rate(base, adapter, held_out, sandbox))
    return found


def learn(base: Path, recipe: Recipe, folder: Path, sandbox: Sandbox) -> Path:
    """Train with execution as the reward; return the adapter's folder."""
    from trainer.fit import fit
    from trainer.lesson import Lesson

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
        report=lambda done, total, unit, **measures: None,
        reward=rewards_of(tasks, sandbox),
    )
    return fit(lesson).folder


def pass_rate(
    base: Path, adapter: Path | None, tasks: Sequence[GradedTask], sandbox: Sandbox
) -> float:
    """Return the mean success of answers sampled at temperature 1, `SAMPLES` to each task."""
    import torch
    from peft import PeftModel

    from trainer.base import load_model, load_tokenizer
    from trainer.fit import torch_threads
    from trainer.own_answers import prompt_text
    from trainer.sampling import Sampling, sample

    tokenizer = load_tokenizer(str(base))
    model: Any = load_model(str(base)).eval()
    if adapter is not None:
        model = PeftModel.from_pretrained(model, str(adapter)).eval()
    how = Sampling(1.0, LONGEST, (tokenizer.eos_token_id,), tokenizer.pad_token_id)
    texts = [prompt_text({"prompt": task.prompt_messages}, tokenizer) for task in tasks]
    prompts = tokenizer(texts, add_special_tokens=False)["input_ids"]
    torch.manual_seed(0)  # the same dice before and after
    with torch_threads(1):
        asked = [prompt for prompt in prompts for _ in range(SAMPLES)]
        answers = [
            answer
            for start in range(0, len(asked), 200)
            for answer in sample(model, asked[start : start + 200], how).answers
        ]
    texts = tokenizer.batch_decode(answers, skip_special_tokens=True)
    rows = [{"task_id": task.task_id} for task in tasks for _ in range(SAMPLES)]
    found = rewards_of({task.task_id: task for task in tasks}, sandbox)(rows, texts)
    return sum(one or 0.0 for one in found) / len(found)


def main() -> None:
    """Print one line of JSON for each seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", default=list(RECIPES))
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    for seed in given.seeds:
        began = time.process_time()
        found: Mapping[str, tuple[float, float]] = effects(
            given.base, seed, given.quick, given.methods
        )
        line = {name: [round(100 * rate, 1) for rate in rates] for name, rates in found.items()}
        spent = round(time.process_time() - began, 1)
        print(json.dumps({"seed": seed, "pass@1": line, "cpu_s": spent}), flush=True)


if __name__ == "__main__":
    main()
