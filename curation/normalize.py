r"""Text for comparison only: what two examples must share to be called the same.

The training text is never touched. What is compared is the task (user and tool messages; system
prompts and tool schemas are the same in thousands of unrelated calls) and the answer, lower-cased,
with everything masked that differs between two runs of the same thing (`curation.masks`) and
without the texts that many share (`curation.boilerplate`). The indentation of an answer stays:
moving a `return` out of a loop is another program.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from curation.boilerplate import ANSWER, NO_TEMPLATES, PROMPT, Templates
from curation.masks import decoded, masked, masked_bytes
from foundation.chat import Message, joined

COMPARED_ROLES: Final = ("user", "tool")


@dataclass(frozen=True, slots=True)
class Normalized:
    """The compared texts of an example, and the hash that its exact repeats share."""

    prompt: str
    answer: str

    @property
    def norm_hash(self) -> str:
        """SHA-256 (hex) of prompt and answer."""
        return hashlib.sha256(f"{self.prompt}\0{self.answer}".encode()).hexdigest()

    @property
    def prompt_hash(self) -> str:
        """SHA-256 (hex) of the prompt alone."""
        return hashlib.sha256(self.prompt.encode()).hexdigest()


def normalize(
    prompt: list[Message], answer: str, templates: Templates = NO_TEMPLATES
) -> Normalized:
    """Return the compared texts of a prompt (its messages) and its answer; empty stays empty."""
    return normalize_all([(prompt, answer)], templates)[0]


def normalize_all(
    calls: Sequence[tuple[list[Message], str]], templates: Templates = NO_TEMPLATES
) -> list[Normalized]:
    """Return the compared texts of many prompts and answers; half the time of one by one."""
    asked = [joined(prompt, COMPARED_ROLES) for prompt, _ in calls]
    masked_parts = masked_bytes([*asked, *(answer for _, answer in calls)])
    prompts, answers = masked_parts[: len(calls)], masked_parts[len(calls) :]
    return [
        Normalized(
            templates.strip(PROMPT, one_line(decoded(prompt))),
            templates.strip(ANSWER, with_depth(decoded(answer))),
        )
        for prompt, answer in zip(prompts, answers, strict=True)
    ]


def comparable(text: str) -> str:
    """Return `text` lower-cased and masked, each run of white space one space."""
    return one_line(masked(text))


def comparable_lines(text: str) -> str:
    """Return `text` as `comparable` does, but line by line and with its depth, see `with_depth`."""
    return with_depth(masked(text))


def one_line(text: str) -> str:
    """Return `text` with each run of white space as one space."""
    return " ".join(text.split())


def with_depth(text: str) -> str:
    r"""Return `text` with indentation as depth in tabs, other white space as single spaces.

    Depth counts the enclosing smaller indentations, so two and four spaces are the same; blank
    lines vanish.
    """
    if "\t" in text:
        text = text.expandtabs(8)
    open_blocks: list[int] = []
    lines = []
    last_width, tabs = -1, ""
    for line in text.splitlines():
        body = line.lstrip()
        if not body:
            continue
        width = len(line) - len(body)
        if width != last_width:
            while open_blocks and open_blocks[-1] >= width:
                open_blocks.pop()
            last_width, tabs = width, "\t" * len(open_blocks)
            open_blocks.append(width)
        lines.append(tabs + body)
    return _one_space("\n".join(lines))


def _one_space(text: str) -> str:
    while "  " in text:
        text = text.replace("  ", " ")
    return text.replace(" \n", "\n").rstrip(" ")
