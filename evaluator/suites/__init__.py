"""Suites: named, versioned, hashed lists of tasks, and the readers that make tasks of public data.

Files: `task` (one task and the hash of many), `jsonl` (the exchange format), `store` (the tables),
`protect` (keeps them out of datasets), `humaneval` and `mbpp` (readers of the public benchmarks).
"""

from collections.abc import Callable
from pathlib import Path

from evaluator.suites.humaneval import read_humaneval
from evaluator.suites.jsonl import read_tasks, write_tasks
from evaluator.suites.mbpp import read_mbpp
from evaluator.suites.protect import protect_suites
from evaluator.suites.store import add_suite, list_suites, load_suite, tasks_of
from evaluator.suites.task import Task, TaskLike, content_hash

READERS: dict[str, Callable[[Path], list[Task]]] = {
    "humaneval": read_humaneval,
    "mbpp": read_mbpp,
    "tasks": read_tasks,
}
"""Format name -> reader; `tasks` is our own exchange format."""

__all__ = [
    "READERS",
    "Task",
    "TaskLike",
    "add_suite",
    "content_hash",
    "list_suites",
    "load_suite",
    "protect_suites",
    "read_humaneval",
    "read_mbpp",
    "read_tasks",
    "tasks_of",
    "write_tasks",
]
