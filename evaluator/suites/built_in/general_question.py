"""One question of the general suite, and the ways in which an answer is asked for."""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

EASY, MEDIUM, HARD = "easy", "medium", "hard"


@dataclass(frozen=True)
class Question:
    """A prompt with its grader and reference.

    Attributes:
        text: what is asked.
        grader: name of the grader.
        reference: of that grader.
        difficulty: easy, medium or hard.
    """

    text: str
    grader: str
    reference: dict[str, Any]
    difficulty: str


Family = Callable[[random.Random, int], Question]
"""Makes one question from dice and a variant number from 0; each variant has words of its own."""

_NUMBER_LAST: Final = (
    "Put the number alone on the last line.",
    "Work it out in as many steps as you like; the last line holds only the number.",
    "Your last line must be the bare number and nothing else.",
    "Finish with a line that contains just the number.",
)
_WORD_LAST: Final = (
    "Put the answer alone on the last line.",
    "You may reason first; the last line holds only the answer.",
    "Write nothing but the answer on your last line.",
    "Close with a line that consists of the answer only.",
)


def number(
    dice: random.Random, text: str, value: float, difficulty: str, units: Iterable[str] = ()
) -> Question:
    """Ask for one number; the unit may stand behind it."""
    plain = f"{value:.4f}".rstrip("0").rstrip(".")
    accepted = [plain, f"{value:.2f}"]
    if float(value).is_integer():
        accepted.append(f"{int(value):,}")
    accepted += [f"{plain} {unit}" for unit in units]
    return _exact(f"{text} {dice.choice(_NUMBER_LAST)}", accepted, difficulty)


def word(dice: random.Random, text: str, answers: str | Sequence[str], difficulty: str) -> Question:
    """Ask for one word or phrase, on the last line."""
    accepted = [answers] if isinstance(answers, str) else list(answers)
    return _exact(f"{text} {dice.choice(_WORD_LAST)}", accepted, difficulty)


def rules(text: str, kept: list[dict[str, Any]], example: str, difficulty: str) -> Question:
    """Ask for a text that keeps rules; `example` keeps them."""
    return Question(text, "constraints", {"rules": kept, "example": example}, difficulty)


def json_value(text: str, schema: dict[str, Any], expected: Any, difficulty: str) -> Question:
    """Ask for one JSON value that is known beforehand."""
    reference = {"schema": schema, "expected": expected}
    return Question(text, "json_schema", reference, difficulty)


def _exact(text: str, accepted: Sequence[str], difficulty: str) -> Question:
    plain = list(dict.fromkeys(accepted))
    plain += [frame.format(one) for one in plain for frame in ("**{}**", "answer: {}")]
    reference = {"answer": plain, "last_line": True}
    return Question(text, "exact", reference, difficulty)
