"""The demo's coder on its tiny base: answers, executed; what the training benchmarks measure by."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from evaluator.graders import grade_many
from evaluator.sandbox import Sandbox
from flywheel.demo.base import ensure_base
from flywheel.demo.language import DemoTask
from flywheel.demo.traffic import graded_task
from foundation.chat import message
from serving.engine import Engine
from trainer.data import Row

SAMPLES, MAX_NEW_TOKENS = 4, 64
BASE = "FLYWHEEL_BENCH_BASE"
"""Environment variable: the folder of a base that `flywheel demo` built. Unset: it is built."""


@dataclass(frozen=True)
class Attempt:
    """One answer to one task, and whether it passed."""

    task: DemoTask
    text: str
    passed: bool


def base_folder() -> Path:
    """Return the folder of the demo's base, building it first where there is none (two minutes)."""
    given = os.environ.get(BASE)
    if given:
        return Path(given)
    return ensure_base(Path(tempfile.gettempdir()) / "flywheel-bench")


def answered(
    base: Path,
    adapter: Path | None,
    asked: Sequence[DemoTask],
    seed: int,
    sandbox: Sandbox,
    *,
    samples: int = SAMPLES,
    temperature: float = 1.0,
) -> list[Attempt]:
    """Return answers to each task, executed; of a whole model too, whose folder is the base."""
    engine = Engine.load(base, threads=1, adapters={"one": adapter} if adapter else None)
    each = [task for task in asked for _ in range(samples)]
    answers = engine.generate(
        [[message("user", task.prompt)] for task in each],
        adapter="one" if adapter else None,
        max_new_tokens=MAX_NEW_TOKENS,
        temperature=temperature,
        seed=[seed * 1_000_003 + i for i in range(len(each))],
    )
    texts = [answer.text for answer in answers]
    grades = grade_many([graded_task(task) for task in each], texts, sandbox)
    return [
        Attempt(task, text, grade.passed)
        for task, text, grade in zip(each, texts, grades, strict=True)
    ]


def passed(attempts: Sequence[Attempt]) -> float:
    """Return the share of answers that passed, 0-1."""
    return mean(attempt.passed for attempt in attempts)


def row_of(task: DemoTask, answer: str) -> Row:
    """Return a row to learn from."""
    return {
        "prompt": [message("user", task.prompt)],
        "completion": [message("assistant", answer)],
        "example_id": task.key,
        "task_type": task.task_type,
    }


def no_report(done: float, total: float, unit: str, **measures: Any) -> None:
    """Take no notice of progress."""
