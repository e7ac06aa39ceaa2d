r"""How a task is read for comparison: its statement, its names, its worked examples.

A benchmark's task is mostly prose wrapped in code: docstrings, comment marks, signatures, doctests,
asserts. A rewrite for another language changes the wrapping and a few words ("list" to "vector")
and leaves the statement. So a text is read line by line: comment marks and quotes come off, lines
of code give names and examples, the other lines give the statement. Every pattern is anchored or
bounded: no input makes it backtrack.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

WORD: Final = re.compile(r"[0-9A-Za-z_\x80-\U0010ffff]+")
"""A word, as `curation.dedupe.minhash.word_hashes` cuts it."""

_UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]")
_QUOTES = re.compile(r'"{3}|\'{3}|`{3}[\w+#-]*')
_COMMENT = re.compile(r"[ \t]*(?://[/!]?|#+!?|/\*+|\*+/?|--|;+|%+)[ \t]?")
_CODE = re.compile(
    r">>>|\.\.\.|@\w|assert\b|(?:async )?def \w|(?:pub )?fn \w|func \w|function \w+ ?\("
    r"|class \w+ ?[({:]|import \w|from \S+ import\b|use \w+::|#include|package \w+;"
    r"|(?:let|const|var) \w+ ?[=:]|(?:if|for|while|elif|else|try|with)\b[^.]{0,200}:$"
    r"|return (?:\w+[(\[.]|[\[({'\"\-\d]|[^.]{0,200}(?:;$|==| [%*/+-] ))"
    r"|[A-Za-z_][\w.]{0,80}(?:\(| [+*/-]?= ?)|[\[\](){};,]+$"
)
_HEADING = re.compile(
    r"(?:for )?(?:examples?|inputs?|outputs?|constraints?|explanation|note|returns?|args)"
    r"[ \d]{0,4}:",
    re.IGNORECASE,
)
_NAMED = re.compile(r"\b(?:def|fn|func|function|assert|class) +(?:not +)?([A-Za-z_]\w{0,80})")
_HUMP = re.compile("([a-z0-9])([A-Z])")
_CALLED = re.compile(r"\b([A-Za-z_]\w{0,80}) ?\(")
_LEAST_LETTERS: Final = 0.6
"""Share of letters among a line's visible marks, from which it is prose."""

_SAME: Final = {
    "list": "lists array arrays vector vectors vec tuple tuples slice slices sublist sublists "
    "subarray subarrays subvector subvectors nested_list ndarray",
    "dict": "dictionary dictionaries dicts map maps hashmap hashmaps hash hashtable",
    "text": "string strings str substring substrings chars char character characters",
    "none": "null nil undefined nullptr",
    "number": "numbers integer integers int ints isize float floats double",
    "true": "truthy",
    "language": "python rust java javascript typescript golang c cpp ruby php lua perl "
    "scala swift kotlin haskell julia",
    "function": "functions method methods procedure program fn func def",
}
CANONICAL: Final = {word: one for one, words in _SAME.items() for word in words.split()}
"""Word -> the word that stands for its kind, so that a task survives its move to a language."""

NEUTRAL: Final = frozenset(
    "a an the of in to on for and or is are be by with that this it its as from into you your we "
    "i will which whose where so do does given following function language write implement define "
    "create please return returns returned returning find calculate compute determine get check "
    "whether if using use such should must can would have has same code s".split()
)
"""Canonical words whose change, loss or addition leaves a task the same."""

GENERIC: Final = frozenset(
    "list dict text none number true false otherwise else element value item input output index "
    "data object argument parameter result n x y i j k a b l s".split()
)
"""Canonical words that any task may hold: they count for order, but are no evidence."""

DECISIVE: Final = frozenset(
    "odd even first last second third nth minimum min smallest least lowest maximum max largest "
    "greatest highest biggest longest shortest ascending descending increasing decreasing positive "
    "negative prime left right top bottom upper lower upright uppercase lowercase row column union "
    "intersection difference sum product quotient remainder average mean median mode square cube "
    "before after above below greater less more fewer not no without except all any none each "
    "consecutive distinct unique duplicate common uncommon prefix suffix add subtract multiply "
    "zero one two three four five six seven eight nine ten eleven twelve "
    "divide remove insert encode decode encrypt decrypt".split()
)
"""Words that tell a task from its sibling; a reworded statement keeps each of them."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a text says, apart from how it is wrapped."""

    lines: tuple[tuple[str, ...], ...]
    """Canonical words of its prose, line by line."""
    names: frozenset[str]
    """Names of what it defines or calls, as written."""
    examples: frozenset[str]
    """Its calls with literal arguments, and what they give, without the name of what is called."""

    @property
    def statement(self) -> tuple[str, ...]:
        """Canonical words of its prose, in order."""
        return tuple(word for line in self.lines for word in line)


def read(text: str) -> Reading:
    """Return the reading of a task, an answer or a part of one; empty for an empty text."""
    lines: list[tuple[str, ...]] = []
    names: set[str] = set()
    examples: set[str] = set()
    is_result = False
    for line in _lines(text):
        names.update(_CALLED.findall(line))
        if _is_prose(line) and not is_result:
            lines.append(tuple(words_of(line)))
            names.update(word for word in WORD.findall(line) if is_specific(word))
            continue
        names.update(_NAMED.findall(line))
        examples.update(_examples_of(line))
        is_result = line.startswith(">>>")
    return Reading(tuple(lines), frozenset(names), frozenset(examples))


def words_of(text: str) -> list[str]:
    """Return the canonical words of a text, in order."""
    return [CANONICAL.get(word, word) for word in WORD.findall(text.lower())]


def content_of(words: Iterable[str]) -> list[str]:
    """Return the words that carry meaning, in order, each in the singular."""
    return [_singular(word) for word in words if word not in NEUTRAL]


def name_parts(name: str) -> set[str]:
    """Return the words that a name is made of, as `content_of` gives them."""
    return set(content_of(words_of(_HUMP.sub(r"\1 \2", name).replace("_", " "))))


def is_decisive(word: str) -> bool:
    """Whether a task with another word in its place is another task: numbers, and `DECISIVE`."""
    return word in DECISIVE or word.isdigit()


def is_telling(word: str) -> bool:
    """Whether a content word is rare enough to be evidence."""
    return word not in GENERIC


def _singular(word: str) -> str:
    is_plural = len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is"))
    return word[:-1] if is_plural else word


def spaced(text: str) -> str:
    """Return `text` with blanks around each sign of a script that writes none between words."""
    return text if text.isascii() else _UNSPACED.sub(r" \g<0> ", text)


def spellings(name: str) -> set[str]:
    """Return how a name reads in lower case with its parts joined by underscores, or by nothing."""
    return {_HUMP.sub(r"\1_\2", name).lower(), name_key(name)}


def name_key(name: str) -> str:
    """Return what `parse_list` and `parseList` share."""
    return name.replace("_", "").lower()


def is_specific(name: str) -> bool:
    """Whether a name is made of several words, so that it is hardly chosen twice by chance."""
    own = name.removeprefix("test_").strip("_")
    return len(own) >= 8 and ("_" in own or _HUMP.search(own) is not None)


def _lines(text: str) -> Iterator[str]:
    for line in _QUOTES.sub("\n", spaced(text)).splitlines():
        mark = _COMMENT.match(line)
        stripped = line[mark.end() :].strip() if mark else line.strip()
        if stripped:
            yield stripped


def _is_prose(line: str) -> bool:
    if _CODE.match(line) or _HEADING.match(line):
        return False
    visible = len(line) - line.count(" ")
    letters = sum(map(str.isalpha, line))
    return letters >= _LEAST_LETTERS * visible


def _examples_of(line: str) -> Iterator[str]:
    """Yield `(arguments)==result` of an assert or a doctest, blanks and quoting left out."""
    if len(line) > 2000 or not line.startswith((">>>", "assert")):
        return
    opened = line.find("(")
    if opened >= 0:
        kept = line[opened:].replace("String::from", "").replace("vec!", "").replace("'", '"')
        yield "".join(kept.split())
