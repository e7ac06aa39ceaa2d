"""How alike two answers are as code: comments, docstrings and layout aside, marks counted.

A revision that renames a variable in every second line is far below the likeness that a repeat
needs, and yet a revision. So this view proposes pairs for review; only `same_code`, which allows
nothing but other comments and other layout, is proof enough to drop one of two.
"""

import re
from collections.abc import Iterator
from typing import Final

from curation.normalize import with_depth

PROPOSED_FROM: Final = 0.5
"""Likeness from which one answer may be a revision of the other. Two short programs for one task
reach it by chance, so it never drops anything by itself."""

_SHINGLE: Final = 5
_SHARE_OF_BRACED_LINES: Final = 0.2
_STRING: Final = r'"(?:\\.|[^"\\\n])*"|' r"'(?:\\.|[^'\\\n])*'"
_DOCSTRING: Final = (
    r'(?m:^)[ \t]*[rRuUbB]?(?:"""[\s\S]*?"""|\'\'\'[\s\S]*?\'\'\')(?=[ \t]*(?:\n|\Z))'
)
_LONG_STRING: Final = r'"""[\s\S]*?"""|\'\'\'[\s\S]*?\'\'\''
_IN_BRACES: Final = re.compile(rf"(?P<comment>/\*[\s\S]*?\*/|//[^\n]*)|{_STRING}")
_BY_INDENTATION: Final = re.compile(
    rf"(?P<comment>{_DOCSTRING}|(?<!\S)#[^\n]*)|{_LONG_STRING}|{_STRING}"
)
_TOKEN: Final = re.compile(rf"{_LONG_STRING}|{_STRING}|\w+|[^\w\s]")


def code_likeness(one: str, other: str) -> float:
    """Return the Jaccard (0-1) of the runs of five tokens of two answers, comments aside.

    Words, strings and single marks are tokens. Texts of fewer than five have a likeness of 0.
    """
    sets = [set(_runs(code_tokens(text))) for text in (one, other)]
    together = len(sets[0] | sets[1])
    return len(sets[0] & sets[1]) / together if together else 0.0


def same_code(one: str, other: str) -> bool:
    """Return whether two answers are one code but for comments, docstrings and layout.

    Where no braces mark blocks, the depth of each line must agree. Two texts without any code, or
    of comments alone, are not the same.
    """
    shapes = [_shape(text) for text in (one, other)]
    return bool(shapes[0][0]) and shapes[0] == shapes[1]


def code_tokens(text: str) -> list[str]:
    """Return words, strings and single marks of an answer, without its comments."""
    return _TOKEN.findall(without_comments(text))


def without_comments(text: str) -> str:
    """Return a text without comments and docstrings, in the manner of its language.

    With braces or semicolons at the ends of its lines it has `//` and `/* */`, else `#` and
    docstrings: a Python `//` divides.
    """
    pattern = _IN_BRACES if _is_braced(text) else _BY_INDENTATION
    return pattern.sub(lambda found: "" if found["comment"] is not None else found[0], text)


def _shape(text: str) -> tuple[list[str], list[int]]:
    code = without_comments(text)
    if _is_braced(text):
        return _TOKEN.findall(code), []
    lines = with_depth(code).split("\n")
    return _TOKEN.findall(code), [len(line) - len(line.lstrip("\t")) for line in lines]


def _is_braced(text: str) -> bool:
    lines = [line for line in map(str.rstrip, text.split("\n")) if line]
    return sum(line[-1] in "{};" for line in lines) > _SHARE_OF_BRACED_LINES * len(lines)


def _runs(tokens: list[str]) -> Iterator[tuple[str, ...]]:
    return zip(*(tokens[step:] for step in range(_SHINGLE)), strict=False)
