r"""Text for comparison only: what two examples must share to be called the same.

The training text is never touched. What is compared is the task (user and tool messages; system
prompts and tool schemas are the same in thousands of unrelated calls) and the answer, lower-cased,
with everything masked that differs between two runs of the same thing: times, UUIDs, addresses,
folders, ports, hashes. Small numbers stay: two functions that differ by one constant are two
functions. So does the indentation of an answer: moving a `return` out of a loop is another program.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from foundation.chat import Message, joined

COMPARED_ROLES: Final = ("user", "tool")

_MASKS: Final = (
    # (needed literal, pattern, mask); the literal is a cheap test that spares most texts the regex
    (
        "-",
        re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"),
        "<uuid>",
    ),
    (
        "-",
        re.compile(
            r"\b\d{4}-\d\d-\d\d(?:[t ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?)?(?:z|[+-]\d\d:?\d\d)?\b"
        ),
        "<time>",
    ),
    (":", re.compile(r"\b\d\d:\d\d:\d\d(?:[.,]\d+)?\b"), "<time>"),
    (".", re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}(?::\d{2,5})?\b"), "<address>"),
    (":", re.compile(r"\b(localhost|[\w-]+\.[\w.-]*\w):\d{2,5}\b"), r"\1:<port>"),
    ("0x", re.compile(r"\b0x[0-9a-f]{8,16}\b"), "<pointer>"),
    # The last part of a path names what the task is about; the folders are the machine's.
    ("/", re.compile(r"(?<![\w/.<])(?:~|[a-z]:)?/(?:[\w.\-]+/)+(?=[\w.\-])"), "<folder>/"),
    ("\\", re.compile(r"(?<!\w)[a-z]:\\(?:[\w.\- ]+\\)+"), "<folder>/"),
)
_HEX = re.compile(r"\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{12,64}\b")
_LONG_NUMBER = re.compile(r"\b\d{12,}\b")
"""Epoch milliseconds and ids; shorter numbers may be constants (1000000007)."""
_SPACES = re.compile(r"\s+")


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


def normalize(prompt: list[Message], answer: str) -> Normalized:
    """Return the compared texts of a prompt (its messages) and its answer; empty stays empty."""
    return Normalized(comparable(joined(prompt, COMPARED_ROLES)), comparable_lines(answer))


def comparable(text: str) -> str:
    """Return `text` lower-cased and masked, each run of white space one space."""
    return _SPACES.sub(" ", masked(text.lower())).strip()


def comparable_lines(text: str) -> str:
    r"""Return `text` as `comparable` does, but line by line, indentation kept as depth in tabs.

    Depth counts the enclosing smaller indentations, so two and four spaces are the same; blank
    lines vanish.
    """
    open_blocks: list[int] = []
    lines = []
    for line in masked(text.lower().expandtabs(8)).splitlines():
        words = line.split()
        if not words:
            continue
        width = len(line) - len(line.lstrip())
        while open_blocks and open_blocks[-1] >= width:
            open_blocks.pop()
        lines.append("\t" * len(open_blocks) + " ".join(words))
        open_blocks.append(width)
    return "\n".join(lines)


def masked(text: str) -> str:
    """Return lower-case `text` with what changes from run to run replaced by its kind."""
    for literal, pattern, mask in _MASKS:
        if literal in text:
            text = pattern.sub(mask, text)
    return _LONG_NUMBER.sub("<number>", _HEX.sub("<hash>", text))
