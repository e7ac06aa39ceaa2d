"""Reader of MBPP, sanitized, with EvalPlus' corrections: write a function, checked by asserts.

Only tasks whose own solution passes its corrected asserts are read: a test that refuses the
reference measures nothing. Never train on these tasks.
"""

from pathlib import Path
from typing import Any

from evaluator.suites.jsonl import field_of, read_rows
from evaluator.suites.task import Task
from foundation.chat import message

ORIGIN = "google-research/mbpp (CC BY 4.0), corrected by evalplus/evalplus (Apache-2.0)"
_ASK = "Answer with the whole function in one code block."


def read_mbpp(path: Path, *, keep_flawed: bool = False) -> list[Task]:
    """Read rows of task_id, prompt, entry_point, assertion and test_list; raises as `read_tasks`.

    Args:
        path: a file in the shape of EvalPlus' MbppBase, with `canonical_passes_assertion`.
        keep_flawed: also read tasks whose reference fails its own asserts.
    """
    rows = read_rows(path)
    return [
        _task(path, number, row)
        for number, row in rows
        if keep_flawed or row.get("canonical_passes_assertion", True)
    ]


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
