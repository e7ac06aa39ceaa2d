"""Branch coverage from the steps that the sandbox saw, and which statements were never reached."""

import ast
from collections.abc import Collection, Iterator, Sequence

Step = Sequence[int]


def branch_coverage(
    tree: ast.Module, steps: Collection[Step], within: str | None = None
) -> float | None:
    """The share of branches taken.

    Every `if`, `while`, `for` and `case` has two: into its body, and past it. As with the coverage
    package, what branches inside one line (`a if b else c`, comprehensions) is not counted.

    Args:
        tree: of text in which every statement has a line of its own (as `ast.unparse` writes).
        steps: `[line, next line]` as `evaluator.sandbox.cases` reports them.
        within: count a function or class at the top of the module only.

    Returns:
        0 to 1; where nothing branches, 1 if any line was reached inside a function, else 0. None
        where there is nothing to reach.
    """
    tops = [top for top in tree.body if within is None or getattr(top, "name", None) == within]
    branches = [branch for top in tops for branch in _branches(top)]
    taken = {(step[0], step[1]) for step in steps}
    if branches:
        found = 0
        for line, inside in branches:
            found += (line, inside) in taken
            found += any(start == line and end != inside for start, end in taken)
        return found / (2 * len(branches))
    lines = {
        _start(node)
        for top in tops
        for node in ast.walk(top)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    return float(any(end in lines for _, end in taken)) if lines else None


def reached_lines(steps: Collection[Step]) -> set[int]:
    """The lines that were executed."""
    return {step[1] for step in steps if step[1] > 0}


def header_lines(statement: ast.AST) -> range:
    """The lines of a statement without those of the statements inside it."""
    first = getattr(statement, "lineno", 0)
    inner = getattr(statement, "body", None) or getattr(statement, "cases", None)
    if isinstance(inner, list):
        starts = [getattr(one, "lineno", None) or one.pattern.lineno for one in inner]
        return range(first, max(first + 1, min(starts)))
    return range(first, (getattr(statement, "end_lineno", first) or first) + 1)


def _branches(top: ast.AST) -> Iterator[tuple[int, int]]:
    """Of every branch the line that decides, and the first line inside."""
    for node in ast.walk(top):
        if isinstance(node, ast.If | ast.While | ast.For | ast.AsyncFor):
            yield node.lineno, _first_line(node.body[0])
        elif isinstance(node, ast.match_case) and not _matches_all(node):
            yield node.pattern.lineno, _first_line(node.body[0])


def _matches_all(case: ast.match_case) -> bool:
    return case.guard is None and isinstance(case.pattern, ast.MatchAs) and not case.pattern.pattern


def _start(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The first line that runs: a docstring is none."""
    documented = len(function.body) > 1 and ast.get_docstring(function, clean=False) is not None
    return function.body[documented].lineno


def _first_line(statement: ast.stmt) -> int:
    decorators = getattr(statement, "decorator_list", None)
    return decorators[0].lineno if decorators else statement.lineno
