"""Reader of lm-evaluation-harness: its logged samples, and plain documents of its tasks.

A logged sample (`--log_samples`) holds the rendered prompt, so the few-shot examples and the
template come along. A plain document needs `question`, and `choices` with `answer`, or `answer`
alone.
"""

from pathlib import Path
from typing import Any

from evaluator.suites.jsonl import bad_field, field_of, read_rows
from evaluator.suites.readers.choices import choice, index_of, question
from evaluator.suites.task import Task
from foundation.chat import message

ORIGIN = "lm-evaluation-harness"
_FINAL = "####"
"""GSM8K's mark of the final answer, after the working."""


def read_lm_eval(path: Path) -> list[Task]:
    """Read samples or documents, a line each; raises as `read_tasks`.

    Several logged lines of one document (one for each filter) are one task.
    """
    tasks: dict[str, Task] = {}
    for number, row in read_rows(path):
        task = _logged(path, number, row) if "doc" in row else _document(path, number, row)
        tasks.setdefault(task.task_id, task)
    return list(tasks.values())


def _logged(path: Path, number: int, row: dict[str, Any]) -> Task:
    document = field_of(path, number, row, "doc", dict)
    doc_id = row.get("doc_id", number)
    task_id, requests = f"{path.stem}/{doc_id}", _requests(path, number, row)
    context, target = requests[0][0], row.get("target", document.get("answer"))
    attributes = {"origin": ORIGIN, "family": str(doc_id)}
    prompt = [message("user", context)]
    endings = [ending.strip() for _, ending in requests if ending is not None]
    if len(endings) > 1:
        right = index_of(target, endings)
        if right is None:
            raise bad_field(path, number, "target", target, f"one of the {len(endings)} choices")
        return choice(task_id, prompt, endings, [right], attributes)
    return question(task_id, prompt, [_short(path, number, "target", target)], attributes)


def _requests(path: Path, number: int, row: dict[str, Any]) -> list[tuple[str, str | None]]:
    """Return (context, continuation) of each request; a generated one has no continuation."""
    logged = row.get("arguments")
    if isinstance(logged, dict):
        each = [[one[key] for key in sorted(one)] for one in logged.values()]
    elif isinstance(logged, list):
        each = logged
    else:
        raise bad_field(path, number, "arguments", logged, "the rendered requests (--log_samples)")
    found: list[tuple[str, str | None]] = []
    for one in each:
        if not isinstance(one, list) or not one or not isinstance(one[0], str):
            raise bad_field(
                path, number, "arguments", one, "a prompt, and a continuation or options"
            )
        ending = one[1] if len(one) > 1 and isinstance(one[1], str) else None
        found.append((one[0], ending))
    if not found:
        raise bad_field(path, number, "arguments", logged, "at least one request")
    return found


def _document(path: Path, number: int, row: dict[str, Any]) -> Task:
    asked = field_of(path, number, row, "question", str)
    task_id = str(row.get("id", row.get("doc_id", f"{path.stem}/{number}")))
    prompt, attributes = [message("user", asked)], {"origin": ORIGIN}
    choices = row.get("choices")
    if isinstance(choices, dict):  # ARC: {"text": [...], "label": [...]}
        labels, choices = choices.get("label"), choices.get("text")
        if isinstance(labels, list) and row.get("answerKey", row.get("answer")) in labels:
            row = {**row, "answer": labels.index(row.get("answerKey", row.get("answer")))}
    if choices is None:
        return question(
            task_id, prompt, [_short(path, number, "answer", row.get("answer"))], attributes
        )
    field_of(path, number, {"choices": choices}, "choices", list)
    right = index_of(row.get("answer"), [str(one) for one in choices])
    if right is None:
        raise bad_field(
            path, number, "answer", row.get("answer"), f"one of the {len(choices)} choices"
        )
    return choice(task_id, prompt, [str(one) for one in choices], [right], attributes)


def _short(path: Path, number: int, name: str, target: Any) -> str:
    """Return a reference answer, without the working before it."""
    if isinstance(target, int | float) and not isinstance(target, bool):
        return str(target)
    if not isinstance(target, str) or not target.strip():
        raise bad_field(path, number, name, target, "the right answer as text")
    return target.rpartition(_FINAL)[2].strip()
