"""How a campaign's answer is proven right without running it; what must be run is given from above.

A checker is given the task and the answer and returns whether it is right, and why not.
"""

import json
from collections.abc import Callable

from collector.campaign.plan import Task
from collector.campaign.spec import Check
from foundation.errors import BadInput

Checker = Callable[[Task, str], tuple[bool, str]]

NEEDS = {"python_asserts": ("entry_point", "test"), "exact": ("expected",), "json": ()}
"""What a task must bring for each kind of check."""


def checker_of(check: Check | None) -> Checker | None:
    """Return the checker of a specification; None if it asks for none.

    Raises:
        BadInput: it asks for one that runs code, which only the sandbox may do.
    """
    if check is None:
        return None
    if check.kind == "exact":
        return _is_expected
    if check.kind == "json":
        return _is_json
    raise BadInput(
        "check.kind", check.kind, "a checker with a sandbox", "Use: flywheel campaign run FILE"
    )


def lack_of(check: Check | None, task: Task) -> str | None:
    """Return what a task lacks for its check, or None."""
    needed = NEEDS[check.kind] if check else ()
    missing = [name for name in needed if not isinstance(task.needs.get(name), str)]
    return f"the task has no {' and no '.join(missing)}" if missing else None


def _is_expected(task: Task, answer: str) -> tuple[bool, str]:
    right = answer.strip() == str(task.needs["expected"]).strip()
    return right, "" if right else "the answer is not the expected text"


def _is_json(task: Task, answer: str) -> tuple[bool, str]:
    try:
        json.loads(answer)
    except (ValueError, RecursionError) as error:
        return False, f"the answer is no JSON: {error}"
    return True, ""
