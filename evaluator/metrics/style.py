"""How code is written: function length, names, type hints, docstrings, complexity; parts in 0-1.

Names (PEP 8) and complexity (McCabe) are ruff's word, the shares are over what the syntax tree
holds. Limits are those of common linters, softened: beyond a limit a part falls, it does not
vanish. A part is None where it does not apply: a script has no function to document. Nothing here
says whether the code is right.
"""

import ast
import re
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Final

from evaluator.metrics.lint import Finding

MAX_FUNCTION_LINES: Final = 30
"""Lines of a function's body without its docstring."""

MAX_COMPLEXITY: Final = 10
"""McCabe's number of independent paths, the limit that McCabe named."""

Function = ast.FunctionDef | ast.AsyncFunctionDef
Parts = dict[str, float | None]

_COMPLEXITY = re.compile(r"is too complex \((\d+) > \d+\)")


def style_parts(tree: ast.Module, findings: Sequence[Finding]) -> Parts:
    """Return the parts of one code's style.

    `function_length`, `names`, `type_hints`, `docstrings` and `simplicity` are shares (0-1) or
    None; `longest_function` counts lines and `complexity` is the greatest of a function.
    """
    nodes = list(ast.walk(tree))
    functions = [node for node in nodes if isinstance(node, Function)]
    lengths = [_body_lines(function) for function in functions]
    complexities = _complexities(findings)
    return {
        "function_length": _mean(min(1.0, MAX_FUNCTION_LINES / max(n, 1)) for n in lengths),
        "names": _share_without(_given_names(nodes), findings, "N"),
        "type_hints": _share_without(_hint_places(functions), findings, "ANN"),
        "docstrings": _share_without(_doc_places(tree), findings, "D"),
        "simplicity": _mean(min(1.0, MAX_COMPLEXITY / max(n, 1)) for n in complexities),
        "longest_function": float(max(lengths)) if lengths else None,
        "complexity": float(max(complexities)) if complexities else None,
    }


def style_score(parts: Parts) -> float | None:
    """Return the mean of the shares that apply, 0-1; None without any."""
    names = ("function_length", "names", "type_hints", "docstrings", "simplicity")
    return _mean(value for name in names if (value := parts.get(name)) is not None)


def _body_lines(function: Function) -> int:
    body = function.body[1:] if ast.get_docstring(function, clean=False) else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def _complexities(findings: Iterable[Finding]) -> list[int]:
    """McCabe's number of every function; ruff is told to report all above 0."""
    found = (_COMPLEXITY.search(one.message) for one in findings if one.rule == "C901")
    return [int(match[1]) for match in found if match]


def _given_names(nodes: Iterable[ast.AST]) -> int:
    """How many different names are given to functions, classes, parameters and variables."""
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, Function | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return len(names)


def _hint_places(functions: Iterable[Function]) -> int:
    """How many parameters and results could be annotated; `self` and `cls` need not be."""
    places = 0
    for function in functions:
        given = function.args
        named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
        named += [one for one in (given.vararg, given.kwarg) if one]
        places += sum(one.arg not in ("self", "cls") for one in named) + 1
    return places


def _doc_places(tree: ast.Module) -> int:
    """How many public functions, classes and methods ruff would ask a docstring of."""
    places = 0
    waiting: list[ast.Module | ast.ClassDef] = [tree]
    for around in waiting:
        for node in _statements(around.body):
            if not isinstance(node, Function | ast.ClassDef) or node.name.startswith("_"):
                continue
            places += 1
            if isinstance(node, ast.ClassDef):
                waiting.append(node)
    return places


def _statements(body: Iterable[ast.stmt]) -> Iterable[ast.stmt]:
    """The statements of a body, and those of the blocks in it, but not of functions or classes."""
    waiting = list(body)
    for node in waiting:
        yield node
        if not isinstance(node, Function | ast.ClassDef):
            waiting += [one for one in ast.iter_child_nodes(node) if isinstance(one, ast.stmt)]


def _share_without(places: int, findings: Sequence[Finding], prefix: str) -> float | None:
    """The share of places that ruff says nothing of; None without a place."""
    said = len({(one.line, one.message) for one in findings if one.rule.startswith(prefix)})
    return max(0.0, 1 - said / places) if places else None


def _mean(values: Iterable[float]) -> float | None:
    known = list(values)
    return fmean(known) if known else None
