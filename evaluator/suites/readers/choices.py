"""Questions with a known short answer, with or without choices, as tasks of the grader `exact`.

What formats of other harnesses share: they compare what a model's log-likelihood prefers, or what a
filter finds in its text; here the model is asked to end with its answer on a line of its own.
"""

from collections.abc import Sequence
from string import ascii_uppercase
from typing import Any

from evaluator.suites.task import Task
from foundation.chat import Message, message

_LETTER = "Answer with the letter of the right choice, alone on the last line."
_LETTERS = "Answer with the letters of all right choices, such as A, C, alone on the last line."
_SHORT = "End with the answer alone on the last line."


def question(
    task_id: str,
    prompt: Sequence[Message],
    answers: Sequence[str],
    attributes: dict[str, Any],
) -> Task:
    """Return a task whose answer is right if its last line is one of `answers`."""
    return Task(
        task_id,
        with_request(prompt, _SHORT),
        "exact",
        {"answer": list(answers), "last_line": True},
        {"task_type": "question", **attributes},
    )


def choice(
    task_id: str,
    prompt: Sequence[Message],
    choices: Sequence[str],
    right: Sequence[int],
    attributes: dict[str, Any],
) -> Task:
    """Return a task with lettered choices; one right one may also be written out.

    Args:
        task_id: unique within the suite.
        prompt: the messages before the choices.
        choices: their texts.
        right: indexes of the right ones, at least one.
        attributes: of the task.
    """
    listed = "\n".join(f"{ascii_uppercase[i]}. {text}" for i, text in enumerate(choices))
    letters = [ascii_uppercase[i] for i in sorted(right)]
    if len(letters) == 1:
        [letter], [text] = letters, [choices[right[0]]]
        accepted = [letter, f"({letter})", f"{letter})", f"{letter}. {text}", text]
    else:
        accepted = [", ".join(letters), ",".join(letters), "".join(letters), " ".join(letters)]
    request = _LETTER if len(letters) == 1 else _LETTERS
    return Task(
        task_id,
        with_request(prompt, f"{listed}\n\n{request}"),
        "exact",
        {"answer": accepted, "last_line": True},
        {"task_type": "multiple_choice", **attributes},
    )


def with_request(prompt: Sequence[Message], request: str) -> list[Message]:
    """Return a prompt with a request at the end of its last message, which a user says."""
    *before, last = prompt
    if last.get("role") != "user" or not isinstance(last.get("content"), str):
        return [*prompt, message("user", request)]
    return [*before, {**last, "content": f"{last['content'].rstrip()}\n\n{request}"}]


def index_of(answer: Any, choices: Sequence[str]) -> int | None:
    """Return which choice an answer names, by index, letter or text; None if it names none."""
    if isinstance(answer, int) and not isinstance(answer, bool):
        return answer if 0 <= answer < len(choices) else None
    if not isinstance(answer, str):
        return None
    text = answer.strip()
    if text in choices:
        return list(choices).index(text)
    letter = text.strip("().").upper()
    if len(letter) == 1 and letter in ascii_uppercase[: len(choices)]:
        return ascii_uppercase.index(letter)
    if text.isdecimal() and int(text) < len(choices):
        return int(text)
    return None
