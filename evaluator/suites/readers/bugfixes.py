"""Reader of real bug fixes in the shape of BugsInPy (soarsmu/BugsInPy): which line is wrong?

Of each fix that changes one place of one Python file, a task shows that place either as it was
before the fix, with the changed lines as the fault, or as it is after it, as clean code; which of
both is decided by the bug's id. The patches are text of their upstream projects, each under the
licence that its row names. Never train on these tasks.
"""

import hashlib
import random
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluator.suites.jsonl import field_of, read_rows
from evaluator.suites.task import Task
from foundation.chat import message

ORIGIN = "soarsmu/BugsInPy"
_MOST_LINES = 8
"""A fault on more lines than this is no place any more."""

_MOST_CUT = 2
"""Lines of context that may be cut off, so that the fault is not always behind the third line."""

_HUNK = re.compile(r"^@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@.*\n", re.M)


@dataclass(frozen=True)
class Place:
    """The code around a fix, before or after it; `faults` are the indexes of changed lines."""

    first_line: int
    lines: tuple[str, ...]
    faults: tuple[int, ...]


def read_bugfixes(path: Path) -> list[Task]:
    """Read rows of id, project, patch and upstream_licence; raises as `read_tasks`."""
    tasks = []
    for number, row in read_rows(path):
        identifier, patch, project, licence = (
            field_of(path, number, row, name, str)
            for name in ("id", "patch", "project", "upstream_licence")
        )
        is_clean = hashlib.sha256(identifier.encode()).digest()[0] % 2 == 1
        place = place_of(patch, after=is_clean)
        if place is not None:
            tasks.append(_task(identifier, project, licence, _cut(place, identifier)))
    return tasks


def place_of(patch: str, *, after: bool) -> Place | None:
    """Return the place that a patch changes, before or after; None where it is not one short one.

    Where lines were only added, the fault is where they are missing: the lines around.
    """
    heads = list(_HUNK.finditer(patch))
    if len(heads) != 1 or ".py\n" not in patch[: heads[0].start()]:
        return None
    body = [line for line in patch[heads[0].end() :].splitlines() if not line.startswith("\\")]
    while body and not body[-1]:
        body.pop()
    kept = [line for line in body if line[:1] != ("-" if after else "+")]
    lines = tuple(line[1:] for line in kept)
    if after:
        return Place(int(heads[0][2]), lines, ())
    faults = tuple(index for index, line in enumerate(kept) if line.startswith("-"))
    faults = faults or _gap(body)
    if not faults or faults[-1] - faults[0] >= _MOST_LINES:
        return None
    return Place(int(heads[0][1]), lines, faults)


def _gap(body: list[str]) -> tuple[int, ...]:
    """The indexes, among the old lines, of those before and after what was added."""
    added = [index for index, line in enumerate(body) if line.startswith("+")]
    if not added or added[-1] - added[0] + 1 != len(added):
        return ()
    return tuple(index for index in (added[0] - 1, added[0]) if 0 <= index < len(body) - len(added))


def _cut(place: Place, seed: str) -> Place:
    """The place with some context less at both ends, never a line at fault."""
    dice = random.Random(seed)
    inner = place.faults or (len(place.lines) // 2,)
    head = min(dice.randint(0, _MOST_CUT), inner[0])
    tail = min(dice.randint(0, _MOST_CUT), len(place.lines) - 1 - inner[-1])
    lines = place.lines[head : len(place.lines) - tail]
    return Place(place.first_line + head, lines, tuple(index - head for index in place.faults))


def _task(identifier: str, project: str, licence: str, place: Place) -> Task:
    planted: list[dict[str, Any]] = []
    if place.faults:
        first, last = (place.first_line + place.faults[end] for end in (0, -1))
        planted = [
            {
                "line": first,
                "last_line": last,
                "kind": "bug",
                "severity": "medium",
                "area": "correctness",
            }
        ]
    return Task(
        task_id=f"BugsInPy/{identifier}",
        prompt=[message("user", _prompt(project, place))],
        grader="review",
        reference={"planted": planted, "tolerance": 1, "min_precision": 1.0},
        attributes={
            "task_type": "review-real-bug",
            "family": project,
            "licence": licence,
            "origin": ORIGIN,
        },
    )


def _prompt(project: str, place: Place) -> str:
    width = len(str(place.first_line + len(place.lines)))
    numbered = "\n".join(
        f"{number:>{width}} | {line}".rstrip()
        for number, line in enumerate(place.lines, place.first_line)
    )
    return (
        f"This is an excerpt of the project {project}. Is there a bug in it? Half of such "
        f"excerpts have none.\n\n```\n{numbered}\n```\n\n"
        'Answer with a JSON list only: [{"line": its line number, "kind": "a few words", '
        '"severity": "low, medium, high or critical", "comment": "one sentence"}], '
        "or [] when there is no bug."
    )
