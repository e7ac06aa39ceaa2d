"""Is the answer whole and in form, whatever it says: parts in 0-1, 1 is without fault.

Nothing here knows the outcome, so the control variant may look at it too. A part is None where it
does not apply. The lengths and shares are rules of thumb; calibration says what they are worth.
"""

import ast
import builtins
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from curation.score.blocks import Block, is_json
from curation.score.outcome import Attempt
from curation.score.tree import Function, Tree

Parts = dict[str, float | None]

WEIGHTS: Final = {
    "finished": 2.0,
    "not_refused": 2.0,
    "syntax": 2.0,
    "sound": 2.0,
    "tool_calls": 2.0,
    "complete": 1.5,
    "format": 1.5,
    "length": 1.0,
    "not_repeated": 1.0,
}
"""How much a fault in a part counts. Parts are multiplied, each to the power of half its weight:
an answer in form in all but one respect is still at fault."""

_REFUSAL = re.compile(
    r"\s*(?:i['’]?m sorry|i am sorry|sorry, (?:but )?i"
    r"|i can(?:not|['’]t) (?:help|assist|comply|do that)"
    r"|i['’]m (?:not able|unable) to|i am (?:not able|unable) to|as an ai\b)",
    re.IGNORECASE,
)
_LATER_REFUSAL = re.compile(
    r"\b(?:as an ai (?:language )?model|i (?:cannot|can['’]t|am unable to) (?:help|assist|comply))",
    re.IGNORECASE,
)
_PLACEHOLDER = re.compile(
    r"\b(?:your code (?:goes )?here|(?:rest|remainder) of (?:the|your) (?:code|function|file)"
    r"|implement(?:ation)? (?:this|here|goes here)|to be implemented)\b|\bTODO\b|\bFIXME\b"
    r"|(?:#|//) *\.\.\. *$",
    re.IGNORECASE | re.MULTILINE,
)
_CUT = re.compile(r"(?:[,({\[=+*/\\-]|\b(?:and|or|the|a|of|to|with|if|def|return|import|in))\Z")
_LONGEST_CUT: Final = 8
"""Characters of an answer's end that show whether it is cut."""
_LATER_REFUSAL_STEMS: Final = ("as an a", "cannot", "can't", "can’t", "unable to")
_PLACEHOLDER_STEMS: Final = ("your code", "est of", "mainder of", "mplement", "todo", "xme", "...")
"""Without one of which the pattern cannot be there: a cheap look."""
_WORD = re.compile(r"\w+")
_WANTS_JSON = re.compile(
    r"\b(?:(?:respond|reply|answer|return|output)\w*(?: \w+){0,3} (?:in|as|with|only)?(?: \w+){0,2}"
    r" ?json|json (?:object|array|only|format))\b",
    re.IGNORECASE,
)
_WANTED_FUNCTION = re.compile(r"^[ \t]*(?:async )?def (\w+)\(", re.MULTILINE)
_MAGIC_NAMES: Final = frozenset(("__file__", "__name__", "__doc__", "__path__", "__spec__"))
_KNOWN_NAMES: Final = frozenset(dir(builtins)) | _MAGIC_NAMES
_LEAST_WORDS, _MOST_WORDS = 3, 4000
_LEAST_LINES_TO_REPEAT = 8


def form_parts(attempt: Attempt, blocks: Sequence[Block]) -> Parts:
    """Return the parts of an answer's form; `blocks` is its code."""
    answer = attempt.answer
    return {
        "finished": _finished(attempt, blocks),
        "not_refused": _not_refused(answer),
        "syntax": _syntax(blocks),
        "sound": _sound(blocks),
        "tool_calls": _tool_calls(attempt),
        "complete": _complete(answer, blocks),
        "format": _format(attempt.prompt_text, answer, blocks),
        "length": None if attempt.is_tool_calls_alone else _length(answer),
        "not_repeated": _not_repeated(answer),
    }


def form_score(parts: Parts) -> float:
    """Return the parts as one number in 0-1."""
    score = 1.0
    for name, value in parts.items():
        if value is not None:
            score *= value ** (WEIGHTS[name] / 2)
    return score


def is_refusal(answer: str) -> bool:
    """Whether an answer begins by declining."""
    return bool(_REFUSAL.match(answer))


def has_broken_tool_call(attempt: Attempt) -> bool:
    """Whether a tool call has no name, or arguments that are not JSON."""
    share = _tool_calls(attempt)
    return share is not None and share < 1


def _tool_calls(attempt: Attempt) -> float | None:
    """Share of the answer's tool calls that can be carried out."""
    calls = (attempt.message or {}).get("tool_calls")
    if not isinstance(calls, list) or not calls:
        return None
    return sum(_is_call(call) for call in calls) / len(calls)


def _is_call(call: Any) -> bool:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        return isinstance(call, dict) and call.get("type", "function") != "function"
    arguments = function.get("arguments")
    readable = not isinstance(arguments, str) or not arguments.strip() or is_json(arguments)
    return bool(function.get("name")) and readable


def _finished(attempt: Attempt, blocks: Sequence[Block]) -> float:
    """0 where the provider cut it, half where it looks cut: an open fence, a dangling end."""
    if attempt.finish_reason == "length" or not attempt.completed:
        return 0.0
    if attempt.answer.count("```") % 2:
        return 0.5
    ends_in_parsed_code = bool(blocks) and not blocks[-1].is_fenced and blocks[-1].well_formed
    end = attempt.answer.rstrip()[-_LONGEST_CUT:]
    return 0.5 if not ends_in_parsed_code and _CUT.search(end) else 1.0


def _not_refused(answer: str) -> float:
    if is_refusal(answer):
        return 0.0
    declines = _holds(answer, _LATER_REFUSAL_STEMS) and _LATER_REFUSAL.search(answer)
    return 0.5 if declines else 1.0


def _holds(text: str, stems: Iterable[str]) -> bool:
    folded = text.casefold()
    return any(stem in folded for stem in stems)


def _syntax(blocks: Sequence[Block]) -> float | None:
    """Share of the blocks that can be checked and are well formed."""
    checked = [block.well_formed for block in blocks if block.well_formed is not None]
    return sum(checked) / len(checked) if checked else None


def _sound(blocks: Sequence[Block]) -> float | None:
    """1, halved by each thing in Python that cannot be meant: see `_faults`."""
    parsed = [block for block in blocks if block.tree is not None]
    if not parsed:
        return None
    # The body of a function may use names of a head that is not here, so only whole code counts.
    n_faults = sum(_faults(one.tree) for one in parsed if one.tree and not one.is_body)
    return 0.5 ** min(n_faults, 4)


def _faults(tree: Tree) -> int:
    """Count undefined names, functions inside functions nobody calls, and results never given."""
    read = {name.id for name in tree.all_of(ast.Name) if isinstance(name.ctx, ast.Load)}
    star = any(one.names[0].name == "*" for one in tree.all_of(ast.ImportFrom))
    undefined = 0 if star else len(read - _bound_names(tree) - _KNOWN_NAMES)
    functions = tree.functions
    unused = sum(
        isinstance(inner, ast.FunctionDef) and not inner.decorator_list and inner.name not in read
        for outer in functions
        for inner in outer.body
    )
    gives = tree.count_inside(ast.Return, ast.Yield, ast.YieldFrom, ast.Raise)
    lacking = sum(not gives[one] and _announces_result(one) for one in functions)
    return undefined + unused + lacking


def _bound_names(tree: Tree) -> set[str]:
    """Return every name that is given a value anywhere, in whatever scope."""
    return {
        *(name.id for name in tree.all_of(ast.Name) if not isinstance(name.ctx, ast.Load)),
        *(one.name for one in tree.functions),
        *(one.name for one in tree.all_of(ast.ClassDef)),
        *(one.arg for one in tree.all_of(ast.arg)),
        *((one.asname or one.name).split(".")[0] for one in tree.all_of(ast.alias)),
        *(one.name for one in tree.all_of(ast.ExceptHandler) if one.name),
        *(one.name for one in tree.all_of(ast.MatchAs) if one.name),
        *(one.name for one in tree.all_of(ast.MatchStar) if one.name),
        *(one.rest for one in tree.all_of(ast.MatchMapping) if one.rest),
        *(name for one in tree.all_of(ast.Global) for name in one.names),
        *(name for one in tree.all_of(ast.Nonlocal) for name in one.names),
    }


def _announces_result(function: Function) -> bool:
    """Whether the annotation of a function says that it gives a result, and it has a body."""
    announced = function.returns
    if announced is None or (isinstance(announced, ast.Constant) and announced.value is None):
        return False
    never_returns = isinstance(announced, ast.Name) and "Return" in announced.id
    return not never_returns and not _is_stub(function)


def _complete(answer: str, blocks: Sequence[Block]) -> float:
    """0 if a function is only a head, half if a comment stands where code should."""
    functions = [function for block in blocks for function in block.functions]
    written = {function.name for function in functions if not _is_stub(function)}
    if any(f.name not in written and not _is_abstract(f) for f in functions):
        return 0.0
    left_out = _holds(answer, _PLACEHOLDER_STEMS) and _PLACEHOLDER.search(answer)
    return 0.5 if left_out else 1.0


def _is_abstract(function: Function) -> bool:
    marks = ("abstractmethod", "overload")
    return any(mark in ast.dump(d) for d in function.decorator_list for mark in marks)


def _is_stub(function: Function) -> bool:
    """Whether a function does nothing: a docstring, `pass`, `...` or NotImplementedError."""
    return all(
        isinstance(statement, ast.Pass)
        or (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
        or (isinstance(statement, ast.Raise) and "NotImplemented" in ast.dump(statement))
        for statement in function.body
    )


def _format(prompt: str, answer: str, blocks: Sequence[Block]) -> float | None:
    """Whether the answer has the form that was asked for: JSON, or a function by its name."""
    if _holds(prompt, ("json",)) and _WANTS_JSON.search(prompt):
        return float(_holds_json(answer, blocks))
    wanted = _WANTED_FUNCTION.findall(prompt)
    functions = [function for block in blocks for function in block.functions]
    if not wanted or not functions or any(block.is_body for block in blocks):
        return None
    return float(any(function.name == wanted[-1] for function in functions))


def _holds_json(answer: str, blocks: Sequence[Block]) -> bool:
    texts = [block.text for block in blocks if block.language in ("json", None)] or [answer]
    return all(is_json(text) for text in texts)


def _length(answer: str) -> float:
    """1 between a few and a few thousand words, falling by the logarithm outside."""
    words = len(_WORD.findall(answer))
    if words < _LEAST_WORDS:
        return (words + 1) / (_LEAST_WORDS + 1)
    return 1.0 / (1.0 + max(0.0, math.log2(words / _MOST_WORDS)))


def _not_repeated(answer: str) -> float:
    """1, falling from where a third of the lines (of some length) say what others have said."""
    lines = [line.strip() for line in answer.splitlines()]
    lines = [line for line in lines if len(line) > 3]
    if len(lines) < _LEAST_LINES_TO_REPEAT:
        return 1.0
    return min(1.0, 1.5 * len(set(lines)) / len(lines))
