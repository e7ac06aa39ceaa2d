"""Whether a version's answers agree in style: one habit per question, not several.

What is asked is a matter of taste (fences, quotes, hints, indentation), so no choice is wrong; but
a model that learns from two tastes has neither. Agreement is the share of answers that do as most
answers of the same task type do.
"""

import ast
import io
import re
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from curation.score.blocks import PYTHON, Block, read_blocks
from curation.score.tree import Function

FEW: Final = 5
"""Answers of a task type below which it is counted among the others."""

_SNAKE = re.compile(r"_*[a-z0-9]+(?:_[a-z0-9]+)*_*\Z")
_CAMEL = re.compile(r"_*[a-z]+(?:[A-Z][a-z0-9]*)+\Z")
_INDENT = re.compile(r"^([ \t]+)\S", re.MULTILINE)


def habits(answer: str) -> dict[str, str]:
    """Return the choices that an answer shows, by what is chosen; pure."""
    blocks = read_blocks(answer)
    found = {"form": _form(answer, blocks)}
    functions = [f for block in blocks for f in block.functions if f.name != "_"]
    if functions:
        found |= {
            "type hints": _mostly(_is_hinted(function) for function in functions),
            "docstrings": _mostly(ast.get_docstring(f) is not None for f in functions),
        }
        names = Counter(_case(function.name) for function in functions)
        found["function names"] = names.most_common(1)[0][0]
    for name, choice in (("quotes", _quotes(blocks)), ("indentation", _indentation(blocks))):
        if choice is not None:
            found[name] = choice
    return found


def agreement(answers: Iterable[tuple[str, Mapping[str, str]]]) -> dict[str, tuple[float, int]]:
    """Return for each choice the share (0-1) that goes with the majority, and of how many answers.

    Args:
        answers: task type and habits of each; small task types are taken together.
    """
    by_choice: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for task_type, chosen in answers:
        for name, choice in chosen.items():
            by_choice[name][task_type][choice] += 1
    return {name: _agreement(list(types.values())) for name, types in sorted(by_choice.items())}


def _agreement(groups: Sequence[Counter[str]]) -> tuple[float, int]:
    large = [group for group in groups if group.total() >= FEW]
    rest = sum((group for group in groups if group.total() < FEW), Counter[str]())
    counted = large + ([rest] if rest else [])
    n = sum(group.total() for group in counted)
    return sum(max(group.values()) for group in counted) / n, n


def _form(answer: str, blocks: Sequence[Block]) -> str:
    if not answer.strip():
        return "no text"
    if not blocks:
        return "prose"
    if not all(block.is_fenced for block in blocks):
        return "bare code"
    inside = sum(len(block.text) for block in blocks)
    return "fenced code" if inside > len(answer) / 2 else "prose with code"


def _is_hinted(function: Function) -> bool:
    named = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    asked = [a for a in named if a.arg not in ("self", "cls")]
    hints = [a.annotation is not None for a in asked] + [function.returns is not None]
    return 2 * sum(hints) >= len(hints)


def _mostly(claims: Iterable[bool]) -> str:
    known = list(claims)
    return "yes" if 2 * sum(known) >= len(known) else "no"


def _case(name: str) -> str:
    if _SNAKE.match(name):
        return "snake_case"
    return "camelCase" if _CAMEL.match(name) else "other"


def _quotes(blocks: Sequence[Block]) -> str | None:
    """Return which quotes most plain strings of Python stand in; None without any."""
    marks = Counter[str]()
    for block in blocks:
        if block.language == PYTHON:
            marks.update(_string_marks(block.text))
    return marks.most_common(1)[0][0] if marks else None


def _string_marks(code: str) -> Iterable[str]:
    try:
        for token in tokenize.generate_tokens(io.StringIO(code).readline):
            text = token.string.lstrip("rbufRBUF")
            if token.type == tokenize.STRING and not text.startswith(('"""', "'''")):
                yield "double" if text.startswith('"') else "single"
    except (tokenize.TokenError, SyntaxError):
        return  # what could be read until there counts


def _indentation(blocks: Sequence[Block]) -> str | None:
    """Return the least indentation of the code; None where nothing is indented."""
    widths = [indent for block in blocks for indent in _INDENT.findall(block.text)]
    if not widths:
        return None
    least = min(widths, key=len)
    return "tabs" if "\t" in least else f"{len(least)} spaces"
