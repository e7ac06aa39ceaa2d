"""One task of a suite, and the hash that says whether two lists of tasks are the same."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from evaluator.graders import GRADERS, GradedTask
from foundation.chat import Message
from foundation.errors import BadInput

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


class TaskLike(Protocol):
    """What a suite keeps of a task: `Task`, a stored row, or a task of another room."""

    @property
    def task_id(self) -> str:
        """Name of the task, unique within its suite."""

    @property
    def prompt(self) -> Sequence[Message]:
        """Chat messages that ask for the answer."""

    @property
    def grader(self) -> str:
        """Name of the grader."""

    @property
    def reference(self) -> Mapping[str, Any]:
        """What the grader needs: tests, expected values."""

    @property
    def attributes(self) -> Mapping[str, Any]:
        """What slices and reports use: task_type, difficulty, family, licence, origin."""


@dataclass(frozen=True)
class Task:
    """One item of a benchmark; all values are plain JSON."""

    task_id: str
    prompt: list[Message]
    grader: str
    reference: dict[str, Any]
    attributes: dict[str, Any] = field(default_factory=dict)


def as_task(item: TaskLike | GradedTask) -> Task:
    """Return a suite's task from anything that has its fields.

    Raises:
        BadInput: it has no id, no messages, an unknown grader, or text that cannot be stored.
    """
    if isinstance(item, GradedTask):
        task = Task(item.task_id, item.prompt_messages, item.grader, item.reference)
    else:
        task = Task(
            item.task_id,
            list(item.prompt),
            item.grader,
            dict(item.reference),
            dict(item.attributes),
        )
    _require_sound(task)
    return task


def is_storable(value: Any) -> bool:
    """Return whether PostgreSQL keeps a JSON value: no NUL and no lone surrogate in its texts."""
    if isinstance(value, str):
        return not _UNSTORABLE.search(value)
    if isinstance(value, Mapping):
        return all(is_storable(name) and is_storable(one) for name, one in value.items())
    if isinstance(value, list | tuple):
        return all(map(is_storable, value))
    return True


def _require_sound(task: Task) -> None:
    what, remedy = f"task {task.task_id}", "Correct the suite."
    if not task.task_id.strip():
        raise BadInput("task id", task.task_id, "a name", remedy)
    if not task.prompt or not all(
        isinstance(said, Mapping) and {"role", "content"} <= said.keys() for said in task.prompt
    ):
        expected = "at least one message with role and content"
        raise BadInput(f"{what}: prompt", task.prompt, expected, remedy)
    if task.grader not in GRADERS:
        raise BadInput(f"{what}: grader", task.grader, f"one of {sorted(GRADERS)}", remedy)
    if not is_storable(asdict(task)):
        expected = "text without NUL characters and halves of surrogate pairs"
        raise BadInput(what, canonical_line(task), expected, remedy)


def content_hash(tasks: Iterable[TaskLike]) -> str:
    """Return the SHA-256 of the tasks as canonical JSON; their order does not matter.

    Raises:
        BadInput: a task holds a value that JSON cannot say (NaN, a set, an object).
    """
    digest = hashlib.sha256()
    for line in sorted(map(canonical_line, tasks)):
        digest.update(line.encode())
        digest.update(b"\n")
    return digest.hexdigest()


def canonical_line(task: TaskLike) -> str:
    """Return a task as one line of JSON with sorted keys; raises as `content_hash`."""
    try:
        return json.dumps(
            {
                "task_id": task.task_id,
                "prompt": list(task.prompt),
                "grader": task.grader,
                "reference": dict(task.reference),
                "attributes": dict(task.attributes),
            },
            sort_keys=True,
            allow_nan=False,
        )
    except (TypeError, ValueError) as error:
        raise BadInput(
            f"task {task.task_id}", str(error), "plain JSON values", "Store text or lists instead."
        ) from error
