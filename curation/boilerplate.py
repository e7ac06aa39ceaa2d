"""Text that many prompts or answers share: how it is found in a sample, and taken off a text.

A shared instruction makes unlike texts look alike: 180 shared and 20 own words have a Jaccard of
0.8. It is taken off for comparison only, and only from `MIN_WORDS` words on: what is shorter can
carry no pair of texts over the threshold by itself. Pure: no database.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Final

PROMPT, ANSWER = "prompt", "answer"


@dataclass(frozen=True)
class Templates:
    """The template texts of one role, as normalised text (see `curation.normalize`)."""

    prompt: tuple[str, ...] = ()
    answer: tuple[str, ...] = ()
    digest: str = field(init=False)
    """SHA-256 (hex) of all of them; changes when what is compared changes."""

    def __post_init__(self) -> None:
        for part in (PROMPT, ANSWER):
            longest_first = tuple(sorted(getattr(self, part), key=lambda t: (-len(t), t)))
            object.__setattr__(self, part, longest_first)
        told_apart = "\0\0".join(("\0".join(self.prompt), "\0".join(self.answer)))
        object.__setattr__(self, "digest", hashlib.sha256(told_apart.encode()).hexdigest())

    def strip(self, part: str, text: str) -> str:
        """Return normalised `text` without the templates of `part` (`prompt` or `answer`).

        A text that is nothing but templates is returned whole: it would equal every other one.
        """
        between = " " if part == PROMPT else "\n"
        left = text
        for template in self.prompt if part == PROMPT else self.answer:
            if template in left:
                pieces = (piece.strip(" \n") for piece in left.split(template))
                left = between.join(piece for piece in pieces if piece)
        return left or text


NO_TEMPLATES: Final = Templates()
