"""What copies are asked: real prompts of the version's own data, shown by its chat template."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

Messages = Sequence[Mapping[str, Any]]

MOST: Final = 40
"""Prompts of one comparison."""

LONGEST: Final = 1024
"""Tokens of a prompt; longer ones are left out, since each is read several times."""

PLAIN: Final[tuple[Messages, ...]] = tuple(
    [{"role": "user", "content": text}]
    for text in (
        "Hello!",
        "What is 17 + 25?",
        "Write a Python function that returns the largest of a list of numbers.",
        "Review this code:\ndef add(a, b):\n    return a - b",
        "Write a test for `def is_even(n): return n % 2 == 0`.",
        "Summarise in one sentence: the build failed because a file was missing.",
        "Name three causes of a slow query.",
        "What does HTTP status 409 mean?",
    )
)
"""Asked where there is no data: of a base that nobody trained yet."""


@dataclass(frozen=True)
class Asked:
    """One prompt as a model gets it: its place among those given, its text, its ids."""

    place: int
    text: str
    ids: list[int]


def asked(
    tokenizer: Any, prompts: Sequence[Messages], longest: int = LONGEST, most: int = MOST
) -> list[Asked]:
    """Return the first `most` prompts that are not too long, up to where the answer begins."""
    found: list[Asked] = []
    for place, prompt in enumerate(prompts):
        text = tokenizer.apply_chat_template(
            list(prompt), tokenize=False, add_generation_prompt=True
        )
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        if 0 < len(ids) <= longest:
            found.append(Asked(place, text, ids))
        if len(found) == most:
            break
    return found
