"""Suite for testers: test how the parts of a module work together.

Graded by the mutants that the tests kill, and by the faults in the wiring that they notice.
"""

from functools import cache

from evaluator.suites.built_in.coder import LICENCE, ORIGIN
from evaluator.suites.built_in.modules import Variant, variants
from evaluator.suites.built_in.modules.family import NAME_IN_TESTS
from evaluator.suites.task import Task
from foundation.chat import message

MIN_SCORE = 0.8
MIN_KILLS = 0.8
MAX_MUTANTS = 150
_EASY_LINES, _MEDIUM_LINES = 65, 71
_ASK = (
    "Answer with one file of pytest tests in one code block. Import the parts from "
    f"`{NAME_IN_TESTS}`. Test how the parts work together: build them as they are used, go through "
    "several scenarios from one end to the other, and look at what each part holds afterwards. "
    "Your tests must pass on this module and fail on versions of it with a small fault, above all "
    "in what one part hands to another and when. Read neither its code nor its bytecode."
)


def integration_tasks() -> list[Task]:
    """100 modules of collaborating parts to write tests for."""
    return [
        Task(
            variant.task_id,
            [message("user", _prompt(variant))],
            "mutation",
            {
                "code": variant.code,
                "module": NAME_IN_TESTS,
                "min_score": MIN_SCORE,
                "max_mutants": MAX_MUTANTS,
                "wrong": list(variant.wrong.values()),
                "min_kills": MIN_KILLS,
            },
            {
                "task_type": "integration-tests",
                "difficulty": _difficulty(variant),
                "domain": variant.family.domain,
                "family": variant.family.name,
                "licence": LICENCE,
                "origin": ORIGIN,
            },
        )
        for variant in variants()
    ]


def reference_answer(task: Task) -> str:
    """What a thorough tester would answer."""
    return f"```python\n{_by_id()[task.task_id].tests}```\n"


@cache
def _by_id() -> dict[str, Variant]:
    return {variant.task_id: variant for variant in variants()}


def _difficulty(variant: Variant) -> str:
    """By the length of the module: longer ones have more to go wrong."""
    n_lines = len(variant.code.splitlines())
    if n_lines <= _EASY_LINES:
        return "easy"
    return "medium" if n_lines <= _MEDIUM_LINES else "hard"


def _prompt(variant: Variant) -> str:
    return (
        "Write pytest tests of how the parts of this module, "
        f"`{NAME_IN_TESTS}`, work together:\n\n"
        f"```python\n{variant.code}```\n\nIt is meant to do this:\n\n{variant.specification}\n\n"
        f"{_ASK}"
    )
