"""Reader of MBPP, sanitized, with EvalPlus' corrections: write a function, checked by asserts.

Only tasks whose own solution passes its corrected asserts are read: a test that refuses the
reference measures nothing. `read_mbpp_plus` calls the function on EvalPlus' further inputs too.
Never train on these tasks.
"""

import ast
from dataclasses import replace
from pathlib import Path
from typing import Any

from evaluator.graders import GradedTask, grade_many
from evaluator.sandbox import Sandbox
from evaluator.suites.jsonl import field_of, read_rows
from evaluator.suites.task import Task, is_storable
from foundation.chat import message
from foundation.errors import BadInput

ORIGIN = "google-research/mbpp (CC BY 4.0), corrected by evalplus/evalplus (Apache-2.0)"
_ASK = "Answer with the whole function in one code block."


def read_mbpp(path: Path, *, keep_flawed: bool = False) -> list[Task]:
    """Read rows of task_id, prompt, entry_point, assertion and test_list; raises as `read_tasks`.

    Args:
        path: a file in the shape of EvalPlus' MbppBase, with `canonical_passes_assertion`.
        keep_flawed: also read tasks whose reference fails its own asserts.
    """
    rows = read_rows(path)
    return [_task(path, number, row) for number, row in rows if keep_flawed or not _is_flawed(row)]


def read_mbpp_plus(path: Path) -> list[Task]:
    """Read the same rows; where JSON can say the inputs, base and plus inputs are called.

    The function's values are then compared with the reference's, by exact types. Tasks whose inputs
    hold tuples, sets or complex numbers, or whose reference does not pass so (it returns no plain
    values, or takes too long), keep their asserts. Inputs that no database keeps (NUL characters)
    are left out.
    """
    rows = [(number, row) for number, row in read_rows(path) if not _is_flawed(row)]
    tasks = [_task(path, number, row) for number, row in rows]
    wider = [_with_inputs(task, row) for task, (_, row) in zip(tasks, rows, strict=True)]
    with Sandbox() as sandbox:
        return [
            one if one is task or _passes_itself(one, sandbox) else task
            for task, one in zip(tasks, wider, strict=True)
        ]


def _passes_itself(task: Task, sandbox: Sandbox) -> bool:
    graded = GradedTask(task.task_id, task.prompt, task.grader, task.reference)
    try:
        return grade_many([graded], [task.reference["code"]], sandbox)[0].passed
    except BadInput:
        return False


def _is_flawed(row: dict[str, Any]) -> bool:
    return not row.get("canonical_passes_assertion", True)


def _with_inputs(task: Task, row: dict[str, Any]) -> Task:
    inputs = [
        one
        for one in (*(row.get("base_input") or []), *(row.get("plus_input") or []))
        if is_storable(one)
    ]
    code, entry_point = row.get("canonical_solution"), task.reference["entry_point"]
    if not row.get("plus_input") or not code or not _says_json(row["assertion"], entry_point):
        return task
    reference = {"entry_point": entry_point, "inputs": inputs, "code": code}
    if row.get("atol"):
        reference["tolerance"] = row["atol"]
    return replace(task, grader="calls", reference=reference)


def _says_json(assertion: str, entry_point: str) -> bool:
    """Return whether every call of the asserts has arguments that are plain JSON."""
    calls = [
        node
        for node in ast.walk(ast.parse(assertion))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == entry_point
    ]
    odd = (ast.Tuple, ast.Set, ast.Call, ast.Lambda, ast.Name, ast.BinOp)
    return bool(calls) and not any(
        isinstance(node, odd)
        for call in calls
        for argument in (*call.args, *(keyword.value for keyword in call.keywords))
        for node in ast.walk(argument)
    )


def _task(path: Path, number: int, row: dict[str, Any]) -> Task:
    row = {"test_list": [], "test_imports": [], **row}
    task_id, prompt, entry_point, assertion = (
        field_of(path, number, row, name, str)
        for name in ("task_id", "prompt", "entry_point", "assertion")
    )
    examples, imports = (
        field_of(path, number, row, name, list) for name in ("test_list", "test_imports")
    )
    example = f"It must pass this test:\n```python\n{examples[0]}\n```\n" if examples else ""
    question = prompt.strip().strip("'\"").strip()
    return Task(
        task_id,
        [message("user", f"{question}\n\n{example}{_ASK}")],
        "asserts",
        {"entry_point": entry_point, "assertion": assertion, "imports": imports},
        {"task_type": "function", "origin": ORIGIN},
    )
