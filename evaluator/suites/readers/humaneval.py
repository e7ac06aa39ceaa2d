"""Reader of HumanEval (openai/human-eval, MIT): continue a function, checked by `check(candidate)`.

Never train on these tasks.
"""

from pathlib import Path

from evaluator.suites.jsonl import field_of, read_rows
from evaluator.suites.task import Task
from foundation.chat import message

ORIGIN = "openai/human-eval, MIT"
_ASK = "Complete this Python function. Answer with the whole function in one code block."


def read_humaneval(path: Path) -> list[Task]:
    """Read rows of task_id, prompt, entry_point and test; raises as `read_tasks`."""
    tasks = []
    for number, row in read_rows(path):
        task_id, prompt, entry_point, test = (
            field_of(path, number, row, name, str)
            for name in ("task_id", "prompt", "entry_point", "test")
        )
        tasks.append(
            Task(
                task_id,
                [message("user", f"{_ASK}\n\n```python\n{prompt}```")],
                "asserts",
                {"entry_point": entry_point, "prompt": prompt, "test": test},
                {"task_type": "function", "origin": ORIGIN},
            )
        )
    return tasks
