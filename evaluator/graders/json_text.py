"""Finding the JSON object in what a model answered."""

from typing import Any, Final

from evaluator.graders.json_values import STRICT, NotJson

LONGEST: Final = 200_000
"""Characters of an answer's end that are searched; no honest answer of ours is longer."""
_MAX_ATTEMPTS: Final = 1_000


def last_object(answer: str) -> dict[str, Any] | None:
    """Return the last JSON object of an answer that stands in no other, fenced or bare.

    Models reason first and may repeat the shape that was asked for, so the last one counts.

    Returns:
        None where there is none, and where an object repeats a key or holds NaN or Infinity.
    """
    text = answer[-LONGEST:]
    found: dict[str, Any] | None = None
    place = text.find("{")
    for _ in range(_MAX_ATTEMPTS):
        if place < 0:
            break
        try:
            value, end = STRICT.raw_decode(text, place)
        except NotJson:
            return None
        except (ValueError, RecursionError):  # ValueError also for a number of 5,000 digits
            end = place + 1
        else:
            found = value
        place = text.find("{", end)
    return found
