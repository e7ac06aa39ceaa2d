"""The exchange format of suites: one JSON object per line, plain or gzipped.

`{"task_id": "add-1", "prompt": "text" or [messages], "grader": "...", "reference": {...},
"attributes": {...}}`; attributes may be left out.
"""

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from evaluator.suites.task import Task, TaskLike, canonical_line
from foundation.chat import message
from foundation.errors import BadInput, NotFound


def read_tasks(path: Path) -> list[Task]:
    """Read the tasks of a suite file.

    Raises:
        NotFound: no such file.
        BadInput: a line is not JSON, or not a task; the line number is named.
    """
    return [_task(path, number, row) for number, row in read_rows(path)]


def write_tasks(path: Path, tasks: Iterable[TaskLike]) -> int:
    """Write tasks in the format that `read_tasks` reads; return their number."""
    lines = [canonical_line(task) for task in tasks]
    path.write_text("".join(f"{line}\n" for line in lines))
    return len(lines)


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, object) of a JSONL file, gzipped if its name ends in .gz.

    Blank lines are skipped. Raises as `read_tasks`.
    """
    if not path.is_file():
        raise NotFound("file", str(path), "a JSONL file (.jsonl or .jsonl.gz)", "Check the path.")
    number = 0
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield number, _row(path, number, line)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise BadInput(
            f"{path.name} after line {number}", str(error), "a complete gzip file", "Copy it again."
        ) from error


def field_of(path: Path, number: int, row: dict[str, Any], name: str, kind: type) -> Any:
    """Return `row[name]`, which must be a `kind`; raises BadInput with the line number."""
    value = row.get(name)
    if not isinstance(value, kind):
        raise bad_field(path, number, name, value, f"a value of type {kind.__name__}")
    return value


def bad_field(path: Path, number: int, name: str, value: Any, expected: str) -> BadInput:
    """Return the error for a line's field that holds something else than it should."""
    return BadInput(
        f"{path.name} line {number}, field {name!r}",
        value,
        expected,
        "Correct the line; nothing of the file was used.",
    )


def _row(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:  # also too long a number, too deep a list
        raise _bad_line(path, number, line) from error
    if not isinstance(row, dict):
        raise _bad_line(path, number, line)
    return row


def _bad_line(path: Path, number: int, line: bytes) -> BadInput:
    return BadInput(
        f"{path.name} line {number}",
        line.decode(errors="replace").rstrip(),
        "one JSON object in UTF-8",
        "Correct the line; nothing of the file was used.",
    )


def _task(path: Path, number: int, row: dict[str, Any]) -> Task:
    prompt = row.get("prompt")
    if isinstance(prompt, str):
        row = {**row, "prompt": [message("user", prompt)]}
    return Task(
        task_id=field_of(path, number, row, "task_id", str),
        prompt=field_of(path, number, row, "prompt", list),
        grader=field_of(path, number, row, "grader", str),
        reference=field_of(path, number, row, "reference", dict),
        attributes=field_of(path, number, {"attributes": {}, **row}, "attributes", dict),
    )
