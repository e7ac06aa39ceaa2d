"""Suite for testers: write unit tests for this function. Graded by the mutants that they kill."""

from functools import cache

from evaluator.suites.built_in.coder import attributes_of
from evaluator.suites.built_in.functions import Variant, variants
from evaluator.suites.task import Task
from foundation.chat import message

MODULE = "solution"
MIN_SCORE = 0.8
_EASY_LINES, _MEDIUM_LINES = 9, 13
_ASK = (
    f"Answer with one file of pytest tests in one code block. Import the function from `{MODULE}`. "
    "Test every rule, the limits on both sides and the errors: your tests must pass on this "
    "function "
    "and fail on versions of it with a small fault. Read neither its code nor its bytecode."
)


def unit_tasks() -> list[Task]:
    """100 functions to write tests for."""
    return [
        Task(
            variant.task_id,
            [message("user", _prompt(variant))],
            "mutation",
            {
                "code": variant.code,
                "module": MODULE,
                "entry_point": variant.family.name,
                "min_score": MIN_SCORE,
                "inputs": [*variant.inputs, *variant.decoys],
            },
            attributes_of(variant, "unit-tests", _difficulty(variant)),
        )
        for variant in variants("tested")
    ]


def reference_answer(task: Task) -> str:
    """What a thorough tester would answer: a parametrised file over the function's inputs."""
    return f"```python\n{_test_file(_by_id()[task.task_id])}```\n"


@cache
def _by_id() -> dict[str, Variant]:
    return {variant.task_id: variant for variant in variants("tested")}


def _difficulty(variant: Variant) -> str:
    """By the length of the function: longer ones have more to go wrong."""
    n_lines = len(variant.code.splitlines())
    if n_lines <= _EASY_LINES:
        return "easy"
    return "medium" if n_lines <= _MEDIUM_LINES else "hard"


def _prompt(variant: Variant) -> str:
    return (
        f"Write pytest tests for this function of the module `{MODULE}`:\n\n"
        f"```python\n{variant.code}```\n\nIt is meant to do this:\n\n{variant.specification}\n\n"
        f"{_ASK}"
    )


def _test_file(variant: Variant) -> str:
    name = variant.family.name
    inputs = [*variant.inputs, *variant.decoys]
    results = [(arguments, variant.result(arguments)) for arguments in inputs]
    good = [f"    ({args!r}, {found.value!r}),\n" for args, found in results if not found.error]
    bad = [f"    ({args!r}, {found.error}),\n" for args, found in results if found.error]
    parts = [
        f"import pytest\nfrom {MODULE} import {name}\n",
        f'@pytest.mark.parametrize(("arguments", "expected"), [\n{"".join(good)}])\n'
        "def test_values(arguments, expected):\n"
        f"    found = {name}(*arguments)\n"
        "    assert type(found) is type(expected)\n"
        "    assert found == "
        + ("expected\n" if variant.family.tolerance is None else "pytest.approx(expected)\n"),
    ]
    if bad:
        parts.append(
            f'@pytest.mark.parametrize(("arguments", "error"), [\n{"".join(bad)}])\n'
            "def test_errors(arguments, error):\n"
            f"    with pytest.raises(error):\n        {name}(*arguments)\n"
        )
    return "\n\n".join(parts)
