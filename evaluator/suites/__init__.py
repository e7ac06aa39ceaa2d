"""Suites: named, versioned, hashed lists of tasks, and the readers that make tasks of public data.

Files: `task` (one task and the hash of many), `jsonl` (the exchange format), `store` (the tables),
`protect` (keeps them out of datasets), `readers` (of other people's benchmarks), `built_in` (ours).
"""

from collections.abc import Callable
from pathlib import Path

from evaluator.suites.jsonl import read_tasks, write_tasks
from evaluator.suites.protect import protect_suites
from evaluator.suites.readers.bugfixes import read_bugfixes
from evaluator.suites.readers.humaneval import read_humaneval
from evaluator.suites.readers.inspect import read_inspect
from evaluator.suites.readers.lm_eval import read_lm_eval
from evaluator.suites.readers.mbpp import read_mbpp, read_mbpp_plus
from evaluator.suites.readers.quixbugs import read_quixbugs
from evaluator.suites.store import add_suite, freeze, list_suites, load_suite, tasks_of
from evaluator.suites.task import Task, TaskLike, content_hash

READERS: dict[str, Callable[[Path], list[Task]]] = {
    "bugsinpy": read_bugfixes,
    "humaneval": read_humaneval,
    "inspect": read_inspect,
    "lm_eval": read_lm_eval,
    "mbpp": read_mbpp,
    "mbpp_plus": read_mbpp_plus,
    "quixbugs": read_quixbugs,
    "tasks": read_tasks,
}
"""Format name -> reader; `tasks` is our own exchange format."""

__all__ = [
    "READERS",
    "Task",
    "TaskLike",
    "add_suite",
    "content_hash",
    "freeze",
    "list_suites",
    "load_suite",
    "protect_suites",
    "read_humaneval",
    "read_mbpp",
    "read_tasks",
    "tasks_of",
    "write_tasks",
]
