"""How code is written: small functions, names, type hints, docstrings, tidiness; parts in 0-1.

Python is measured on its syntax tree, other languages on what their text shows. Nothing here knows
the outcome. A part is None where it does not apply (a body has no head to annotate); without code
there is no style. The limits are those of common linters (line length 100, nesting 4, complexity
10, functions of 30 lines), softened: beyond a limit a part falls, it does not vanish.
"""

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from curation.score.blocks import Block
from curation.score.tree import Function, Tree

Parts = dict[str, float | None]

WEIGHTS: Final = {
    "small_functions": 1.0,
    "names": 1.0,
    "type_hints": 1.0,
    "docstrings": 1.0,
    "simple": 1.0,
    "tidy": 1.0,
}

MAX_FUNCTION_LINES, MAX_LINE, MAX_DEPTH, MAX_BRANCHES = 30, 100, 4, 10

_COMMON_SHORT: Final = frozenset(
    ("i", "j", "k", "n", "m", "x", "y", "z", "a", "b", "c", "s", "t", "e", "f", "_", "id", "ok")
)
_SNAKE = re.compile(r"_{0,2}[a-z][a-z0-9_]*\Z|_+\Z")
_CAMEL = re.compile(r"_?[A-Z][A-Za-z0-9]*\Z")
_UPPER = re.compile(r"_?[A-Z][A-Z0-9_]*\Z")
_SAYS_NOTHING = re.compile(r"(?:[a-z]|[a-z]\d+|tmp\d*|temp\d*|foo|bar|baz|var\d+|data\d+|res\d*)\Z")
_IDENTIFIER = re.compile(r"\b[A-Za-z_]\w*\b")
_COMMENT = re.compile(r"^[ \t]*(?://|#|/\*|\*|--|;;)", re.MULTILINE)
_BRANCHES = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.IfExp, ast.BoolOp)
_BODIES = ("body", "orelse", "handlers", "finalbody")
_BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try)


def style_parts(blocks: Sequence[Block]) -> Parts:
    """Return the parts over all code of an answer; empty without code."""
    measured = [
        _python(block, block.tree) if block.tree else _other(block)
        for block in blocks
        if block.text.strip()
    ]
    if not measured:
        return {}
    return {name: _mean(parts.get(name) for parts in measured) for name in WEIGHTS}


def style_score(parts: Parts) -> float | None:
    """Return the weighted mean of the parts that apply; None without any."""
    known = [(WEIGHTS[name], value) for name, value in parts.items() if value is not None]
    total = sum(weight for weight, _ in known)
    return sum(weight * value for weight, value in known) / total if total else None


def _python(block: Block, tree: Tree) -> Parts:
    functions = tree.functions
    headed = functions[1:] if block.is_body else functions
    return {
        "small_functions": _mean(_small(function) for function in functions),
        "names": _names(tree, headed),
        "type_hints": _mean(share for function in headed for share in _hints(function)),
        "docstrings": _mean(_documented([*headed, *tree.all_of(ast.ClassDef)])),
        "simple": _mean(_simple(tree)),
        "tidy": _tidy(block.text, tree),
    }


def _small(function: Function) -> float:
    """1 up to `MAX_FUNCTION_LINES` statement lines without its docstring, then falling."""
    body = function.body[1:] if ast.get_docstring(function, clean=False) else function.body
    first, last = (body[0].lineno, body[-1].end_lineno) if body else (0, 0)
    n_lines = (last or first) - first + 1
    return min(1.0, MAX_FUNCTION_LINES / n_lines)


def _names(tree: Tree, functions: Sequence[Function]) -> float | None:
    """Share of the names given here that follow PEP 8 and say something."""
    return _mean(
        [
            *(float(_good_name(name)) for name in _given_names(tree)),
            *(float(bool(_SNAKE.match(f.name)) and len(f.name) > 2) for f in functions),
            *(float(bool(_CAMEL.match(one.name))) for one in tree.all_of(ast.ClassDef)),
        ]
    )


def _given_names(tree: Tree) -> set[str]:
    given = {name.id for name in tree.all_of(ast.Name) if isinstance(name.ctx, ast.Store)}
    return given | {one.arg for one in tree.all_of(ast.arg)}


def _good_name(name: str) -> bool:
    if name in _COMMON_SHORT:
        return True
    styled = _SNAKE.match(name) or _UPPER.match(name)
    return bool(styled) and not _SAYS_NOTHING.match(name)


def _hints(function: Function) -> Iterator[float]:
    """Yield for each parameter and the result whether it is annotated."""
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    for argument in named:
        if argument.arg not in ("self", "cls"):
            yield float(argument.annotation is not None)
    yield float(function.returns is not None)


def _documented(nodes: Iterable[Function | ast.ClassDef]) -> Iterator[float]:
    """Yield for each public function and class whether it has a docstring."""
    for node in nodes:
        if not node.name.startswith("_"):
            yield float(bool((ast.get_docstring(node, clean=False) or "").strip()))


def _simple(tree: Tree) -> Iterator[float]:
    """Yield per function 1 up to the limits of branches and of nesting, falling with the excess."""
    branches = tree.count_inside(*_BRANCHES)
    for function in tree.functions:
        depth = _depth(function)
        yield min(1.0, MAX_BRANCHES / max(branches[function], 1), MAX_DEPTH / max(depth, 1))


def _depth(function: Function) -> int:
    """Return how many blocks stand in each other at most; `elif` does not count as deeper."""
    deepest = 0
    waiting: list[tuple[ast.AST, int]] = [(child, 0) for child in function.body]
    while waiting:
        node, depth = waiting.pop()
        inner = depth + isinstance(node, _BLOCKS)
        deepest = max(deepest, inner)
        chained = node.orelse if isinstance(node, ast.If) and len(node.orelse) == 1 else []
        for name in _BODIES:
            for child in getattr(node, name, ()):
                is_elif = child in chained and isinstance(child, ast.If)
                waiting.append((child, depth if is_elif else inner))
    return deepest


def _tidy(text: str, tree: Tree) -> float:
    """1, less a fifth for each kind of untidiness: see `_untidy`."""
    return 1.0 - 0.2 * sum(_untidy(text, tree))


def _untidy(text: str, tree: Tree) -> Iterator[bool]:
    yield any(len(line) > MAX_LINE for line in text.splitlines())
    yield any(handler.type is None for handler in tree.all_of(ast.ExceptHandler))
    yield any(one.names[0].name == "*" for one in tree.all_of(ast.ImportFrom))
    yield any(
        isinstance(default, ast.List | ast.Dict | ast.Set)
        for one in tree.all_of(ast.arguments)
        for default in (*one.defaults, *one.kw_defaults)
    )
    yield ast.Global in tree.by_kind or any(
        isinstance(call.func, ast.Name) and call.func.id in ("eval", "exec")
        for call in tree.all_of(ast.Call)
    )


def _other(block: Block) -> Parts:
    """Return what the text of other languages shows: names, comments, nesting, line length."""
    lines = [line for line in block.text.expandtabs(4).splitlines() if line.strip()]
    if not lines or block.well_formed is False:
        return {}
    names = [n for n in set(_IDENTIFIER.findall(block.text)) if n not in _COMMON_SHORT]
    widths = [len(line) - len(line.lstrip()) for line in lines]
    step = min((w for w in widths if w), default=4)
    comments = len(_COMMENT.findall(block.text)) / len(lines)
    return {
        "names": _mean(float(not _SAYS_NOTHING.match(name)) for name in names),
        "docstrings": min(1.0, comments / 0.1),
        "simple": min(1.0, (MAX_DEPTH + 2) * step / max(*widths, 1)),
        "tidy": 1.0 - sum(len(line) > MAX_LINE for line in lines) / len(lines),
    }


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
