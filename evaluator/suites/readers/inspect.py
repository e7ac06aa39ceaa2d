"""Reader of Inspect's datasets: samples of input, target, choices, id and metadata, a line each."""

from pathlib import Path
from typing import Any

from evaluator.suites.jsonl import bad_field, field_of, read_rows
from evaluator.suites.readers.choices import choice, index_of, question
from evaluator.suites.task import Task
from foundation.chat import Message, message, text_of

ORIGIN = "inspect"
_KNOWN = ("task_type", "difficulty", "domain", "family", "licence", "origin")


def read_inspect(path: Path) -> list[Task]:
    """Read samples; raises as `read_tasks`.

    A sample without an id is called by its line. Of several targets each is right; with choices all
    of them together are.
    """
    return [_task(path, number, row) for number, row in read_rows(path)]


def _task(path: Path, number: int, row: dict[str, Any]) -> Task:
    task_id = str(row.get("id", f"{path.stem}/{number}"))
    prompt = _messages(path, number, row.get("input"))
    targets = row.get("target")
    targets = targets if isinstance(targets, list) else [targets]
    if not targets or not all(isinstance(one, str) and one.strip() for one in targets):
        raise bad_field(path, number, "target", row.get("target"), "a text, or a list of texts")
    metadata = row.get("metadata") or {}
    field_of(path, number, {"metadata": metadata}, "metadata", dict)
    attributes = {
        "origin": ORIGIN,
        **{name: metadata[name] for name in _KNOWN if isinstance(metadata.get(name), str)},
    }
    choices = row.get("choices")
    if not choices:
        return question(task_id, prompt, [one.strip() for one in targets], attributes)
    field_of(path, number, row, "choices", list)
    right = [index_of(one, choices) for one in targets]
    if None in right:
        raise bad_field(path, number, "target", targets, f"letters of the {len(choices)} choices")
    return choice(task_id, prompt, choices, [i for i in right if i is not None], attributes)


def _messages(path: Path, number: int, given: Any) -> list[Message]:
    """Return the input as messages; of messages only role and text are kept."""
    if isinstance(given, str) and given.strip():
        return [message("user", given)]
    if isinstance(given, list) and given and all(isinstance(one, dict) for one in given):
        return [message(str(one.get("role", "user")), text_of(one.get("content"))) for one in given]
    raise bad_field(path, number, "input", given, "a text, or a list of messages")
