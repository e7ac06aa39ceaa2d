"""Suites: named, versioned, hashed lists of tasks, and the readers that make tasks of public data.

Files: `task` (one task and the hash of many), `jsonl` (the exchange format), `store` (the tables),
`humaneval` and `mbpp` (readers of the public benchmarks).
"""

from evaluator.suites.jsonl import read_tasks, write_tasks
from evaluator.suites.store import add_suite, list_suites, load_suite, tasks_of
from evaluator.suites.task import Task, TaskLike, content_hash

__all__ = [
    "Task",
    "TaskLike",
    "add_suite",
    "content_hash",
    "list_suites",
    "load_suite",
    "read_tasks",
    "tasks_of",
    "write_tasks",
]
