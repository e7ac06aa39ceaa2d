"""Suites for coders: write this function. Graded by calling it on inputs it was not shown."""

from evaluator.suites.built_in.functions import Variant, variants
from evaluator.suites.task import Task
from foundation.chat import message

LICENCE = "Apache-2.0"
ORIGIN = "agent-flywheel built-in"
_ASK = (
    "Answer with the whole function, with the imports that it needs, in one code block. Use the "
    "standard library only."
)


def easy_tasks() -> list[Task]:
    """100 tasks of one idea each."""
    return _tasks("easy")


def medium_tasks() -> list[Task]:
    """100 tasks of two or three interacting rules each."""
    return _tasks("medium")


def hard_tasks() -> list[Task]:
    """100 tasks that need an algorithm or a small interpreter."""
    return _tasks("hard")


def reference_answer(task: Task) -> str:
    """What a perfect coder would answer."""
    return f"```python\n{task.reference['code']}```\n"


def attributes_of(variant: Variant, task_type: str, difficulty: str) -> dict[str, str]:
    """The attributes of a task about a variant."""
    return {
        "task_type": task_type,
        "difficulty": difficulty,
        "domain": variant.family.domain,
        "family": variant.family.name,
        "licence": LICENCE,
        "origin": ORIGIN,
    }


def _tasks(tier: str) -> list[Task]:
    return [
        Task(
            variant.task_id,
            [message("user", _prompt(variant))],
            "calls",
            _reference(variant),
            attributes_of(variant, "function", tier),
        )
        for variant in variants(tier)
    ]


def _reference(variant: Variant) -> dict[str, object]:
    reference: dict[str, object] = {
        "entry_point": variant.family.name,
        "code": variant.code,
        "inputs": variant.inputs,
        "decoys": variant.decoys,
    }
    if variant.family.tolerance is not None:
        reference["tolerance"] = variant.family.tolerance
    return reference


def _prompt(variant: Variant) -> str:
    examples = "\n".join(variant.examples())
    imports = "from typing import Any\n\n" if "Any" in variant.signature else ""
    return (
        f"Write this Python function:\n\n```python\n{imports}{variant.signature}\n```\n\n"
        f"{variant.specification}\n\nExamples:\n\n```python\n{examples}\n```\n\n{_ASK}"
    )
