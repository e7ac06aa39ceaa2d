"""What learning from critique and revision changes: tasks answered right before and after.

The demo's base answers training tasks of the demo's coder. Each answer is criticised under a drawn
principle and revised, in the words and by the readers of the product. A model of half a million
weights can do neither, so the critic is a script that plays a competent one: it finds a fault where
execution does, and revises to the reference. What is measured is what its revisions teach, not how
good a critic is. The base then learns them, by imitation and as pairs over what they replace.
"""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from benchmarks.bars import Figure
from benchmarks.demo_tasks import Attempt, answered, no_report, passed, row_of
from benchmarks.training_effects import figures_of
from curation.constitution.principles import load
from curation.constitution.questions import (
    ask_critique,
    ask_revision,
    read_critique,
    read_revision,
)
from evaluator.sandbox import Sandbox
from flywheel.demo.language import tasks
from foundation.chat import message
from trainer.fit import fit
from trainer.lesson import Lesson
from trainer.recipe import PRESETS
from trainer.recipe.preference import Preference

_DEMO = replace(PRESETS["demo"], eval_steps=10_000, early_stopping_patience=0)
_DPO = Preference(losses=("sigmoid", "sft"), loss_weights=(1.0, 1.0))
RECIPES = {
    "revisions, sft-lora": _DEMO,
    "revisions over answers, dpo": replace(_DEMO, method="dpo", lr=1e-3, preference=_DPO),
}


def measure(quick: bool) -> list[Figure]:
    """Return what each way to learn the revisions changed."""
    return figures_of(effects, quick)


def effects(base: Path, seed: int, quick: bool) -> dict[str, tuple[float, float]]:
    """Return per way the share (0-1) of held-out answers that pass, (before, after)."""
    n_train, n_held_out = (160, 80) if quick else (500, 200)
    held_out = tasks("coder", "held_out", n_held_out, seed)
    found = {}
    with tempfile.TemporaryDirectory() as scratch, Sandbox() as sandbox:
        asked = tasks("coder", "train", n_train, seed)
        revisions = revised(answered(base, None, asked, seed, sandbox, samples=1), seed)
        rows = {
            "sft-lora": [row_of(one.task, better) for one, better in revisions],
            "dpo": [pair_of(one, better) for one, better in revisions],
        }
        before = passed(answered(base, None, held_out, seed, sandbox))
        for name, recipe in RECIPES.items():
            folder = Path(scratch) / recipe.method
            folder.mkdir()
            known = replace(recipe, seed=seed)
            kept = fit(Lesson(str(base), known, rows[recipe.method], [], folder, no_report)).folder
            found[name] = (before, passed(answered(base, kept, held_out, seed, sandbox)))
    return found


def revised(attempts: Sequence[Attempt], seed: int) -> list[tuple[Attempt, str]]:
    """Return the answers that were found at fault, each with its revision."""
    constitution = load()
    found = []
    for attempt in attempts:
        principle = constitution.drawn(uuid5(NAMESPACE_OID, attempt.task.key), seed)
        mark, _ = ask_critique(principle, attempt.task.prompt, attempt.text)
        said = {"mark": mark, "principle": principle.name, "fault": not attempt.passed}
        critique = read_critique(json.dumps(said | {"critique": "It fails."}), mark, principle)
        if critique is None or not critique.fault:
            continue
        mark, _ = ask_revision(principle, attempt.task.prompt, attempt.text, critique.text)
        reply = f"<<<REVISION {mark}\n{attempt.task.reference}\n{mark} REVISION>>>"
        better = read_revision(reply, mark)
        if better is not None:
            found.append((attempt, better))
    return found


def pair_of(attempt: Attempt, better: str) -> dict[str, Any]:
    """Return the preference row of a revision over the answer it replaces."""
    return {
        "prompt": [message("user", attempt.task.prompt)],
        "chosen": [message("assistant", better)],
        "rejected": [message("assistant", attempt.text)],
    }
