"""The code of one variant, cut out of the text of its family's function.

Rule parameters are replaced by their values, branches that a rule decides are folded away, and the
imports, constants and other functions that remain in use are added. The text itself is edited,
never unparsed, so that the code is the same under every version of Python.
"""

import ast
import inspect
import operator
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from types import FunctionType, ModuleType
from typing import Any, Final

_UNKNOWN: Final = object()
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.Gt: operator.gt,
    ast.In: lambda left, right: left in right,
    ast.NotIn: lambda left, right: left not in right,
}
_ATOM = re.compile(r"[\w.]+|'[^']*'")
_LOOSE = (ast.BoolOp, ast.IfExp, ast.Lambda, ast.NamedExpr)


def signature_of(function: Callable[..., Any]) -> str:
    """The `def` line without the keyword-only parameters."""
    text, node = _parsed(function)
    arguments = ", ".join(_segment(text, argument) for argument in node.args.args)
    assert node.returns is not None
    return f"def {node.name}({arguments}) -> {_segment(text, node.returns)}:"


def specialise(function: Callable[..., Any], choice: Mapping[str, Any]) -> str:
    """The function under one choice of rules, as a module of its own.

    Args:
        function: a module-level function.
        choice: value of each keyword-only parameter, a str, int or bool.
    """
    return _with_what_it_uses(_cut(function, choice), function)


def fold(text: str, statement: ast.stmt, choice: Mapping[str, Any]) -> str:
    """One statement at the top of a module, with everything that the choice decides folded.

    Args:
        text: of the module, in ASCII.
        statement: of the module's tree.
        choice: value of each constant of the module that is a rule.
    """
    lines = _Folding(text, choice).block([statement]).splitlines()
    return "\n".join(line for line in lines if line.strip() or not line) + "\n"


def _cut(function: Callable[..., Any], choice: Mapping[str, Any]) -> str:
    """The function alone, under one choice of rules."""
    text, node = _parsed(function)
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    block = _Folding(text, choice).block(body)
    lines = [line for line in f"    {block}".splitlines() if line.strip()]
    return "\n".join([signature_of(function), *lines]) + "\n"


@cache
def _parsed(function: Callable[..., Any]) -> tuple[str, ast.FunctionDef]:
    text = textwrap.dedent(inspect.getsource(function))
    (node,) = ast.parse(text).body
    assert isinstance(node, ast.FunctionDef)
    return text, node


def _segment(text: str, node: ast.AST) -> str:
    found = ast.get_source_segment(text, node)
    assert found is not None
    return found


class _Folding:
    """Renders nodes of one function, with everything that the choice decides folded."""

    def __init__(self, text: str, choice: Mapping[str, Any]) -> None:
        self.text, self.choice = text, choice
        self.line_starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def block(self, statements: Sequence[ast.stmt]) -> str:
        """Statements at their own indentation, but for the first line, which has none."""
        start, end = self.span(statements[0])[0], self.span(statements[-1])[1]
        return self.spliced(start, end, statements)

    def span(self, node: Any) -> tuple[int, int]:
        """Offsets in the text; ASCII only, so that bytes are characters."""
        first = min([node.lineno, *(item.lineno for item in getattr(node, "decorator_list", []))])
        start = self.line_starts[first - 1] + node.col_offset
        return start, self.line_starts[node.end_lineno - 1] + node.end_col_offset

    def spliced(self, start: int, end: int, nodes: Sequence[ast.AST]) -> str:
        """The text from start to end with the nodes in it rendered."""
        parts, position = [], start
        for node in sorted(nodes, key=self.span):
            left, right = self.span(node)
            rendered = self.node(node)
            original = self.text[left:right]
            if rendered != original and _in_needless_parentheses(self.text, left, right, rendered):
                left, right = left - 1, right + 1
            parts += [self.text[position:left], rendered]
            position = right
        return "".join([*parts, self.text[position:end]])

    def node(self, node: ast.AST) -> str:
        """One node, rendered."""
        if not _names_below(node) & self.choice.keys():
            left, right = self.span(node)
            return self.text[left:right]
        if isinstance(node, ast.If):
            return self.conditional(node)
        if isinstance(node, ast.expr):
            value = self.value(node)
            if value is not _UNKNOWN:
                return repr(value)
            if isinstance(node, ast.IfExp) and self.value(node.test) is not _UNKNOWN:
                return self.node(node.body if self.value(node.test) else node.orelse)
            if isinstance(node, ast.BoolOp):
                return self.partial(node)
        return self.spliced(*self.span(node), list(_placed_children(node)))

    def value(self, node: ast.AST) -> Any:
        """What an expression of rules and constants is, else `_UNKNOWN`."""
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            return self.choice.get(node.id, _UNKNOWN)
        if isinstance(node, ast.Tuple):
            items = tuple(map(self.value, node.elts))
            return _UNKNOWN if _UNKNOWN in items else items
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            value = self.value(node.operand)
            return _UNKNOWN if value is _UNKNOWN else not value
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            left, right = self.value(node.left), self.value(node.comparators[0])
            if _UNKNOWN not in (left, right):
                return _COMPARISONS[type(node.ops[0])](left, right)
        if isinstance(node, ast.BoolOp):
            return self.decided(node)
        return _UNKNOWN

    def decided(self, node: ast.BoolOp) -> Any:
        """The value of an `and` or `or`, where one operand or all of them decide it."""
        ends = isinstance(node.op, ast.Or)
        values = [self.value(item) for item in node.values]
        known = [value for value in values if value is not _UNKNOWN]
        if any(bool(value) is ends for value in known):
            return ends
        return (not ends) if len(known) == len(values) else _UNKNOWN

    def partial(self, node: ast.BoolOp) -> str:
        """An `and` or `or` without the operands that do not matter."""
        left = [item for item in node.values if self.value(item) is _UNKNOWN]
        if len(left) == 1:
            return self.node(left[0])
        word = " and " if isinstance(node.op, ast.And) else " or "
        return word.join(
            f"({self.node(item)})" if isinstance(item, _LOOSE) else self.node(item) for item in left
        )

    def conditional(self, node: ast.If) -> str:
        """An if-chain without its branches that are never taken; empty if none is left."""
        arms, last = self.arms(node)
        if not arms:
            return textwrap.dedent(" " * 4 + self.block(last)).strip() if last else ""
        indent = " " * node.col_offset
        parts = []
        for number, (test, body) in enumerate(arms):
            said = self.node(test)
            said = f"({said})" if "\n" in said else said
            word = "elif" if number else "if"
            parts.append(f"{word} {said}:\n{indent}    {self.block(body)}")
        if last:
            parts.append(f"else:\n{indent}    {self.block(last)}")
        return f"\n{indent}".join(parts)

    def arms(self, node: ast.If) -> tuple[list[tuple[ast.expr, list[ast.stmt]]], list[ast.stmt]]:
        """The branches that stay conditional, and what happens where none of them is taken."""
        value = self.value(node.test)
        if value is not _UNKNOWN and value:
            return [], node.body
        mine = [(node.test, node.body)] if value is _UNKNOWN else []
        chained = len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If)
        inner = node.orelse[0] if node.orelse else None
        if chained and isinstance(inner, ast.If) and inner.col_offset == node.col_offset:
            arms, last = self.arms(inner)
            return [*mine, *arms], last
        return mine, node.orelse


@cache
def _names_below(node: ast.AST) -> frozenset[str]:
    """All names that are read or written in a node; trees are parsed once and never changed."""
    own = {node.id} if isinstance(node, ast.Name) else set()
    return frozenset(own.union(*map(_names_below, ast.iter_child_nodes(node))))


def _placed_children(node: ast.AST) -> Iterator[ast.AST]:
    """The nearest nodes below that have a place in the text; f-strings are taken as they are."""
    if isinstance(node, ast.JoinedStr):
        return
    for child in ast.iter_child_nodes(node):
        if hasattr(child, "lineno"):
            yield child
        else:
            yield from _placed_children(child)


def _in_needless_parentheses(text: str, left: int, right: int, rendered: str) -> bool:
    enclosed = text[left - 1] == "(" and text[right : right + 1] == ")"
    called = text[left - 2].isalnum() or text[left - 2] in "_)]"
    return enclosed and not called and _ATOM.fullmatch(rendered) is not None


def _with_what_it_uses(code: str, function: Callable[..., Any]) -> str:
    """Puts the imports, constants and functions that a code reads from its module before it."""
    names = function.__globals__
    imports, given, seen = set[str](), list[str](), {function.__name__}

    def visit(text: str) -> None:
        read = [node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)]
        for name in dict.fromkeys(read):
            if name not in names or name in seen:
                continue
            seen.add(name)
            value = names[name]
            if isinstance(value, ModuleType):
                imports.add(f"import {value.__name__}")
            elif isinstance(value, FunctionType) and value.__module__ == function.__module__:
                own = _cut(value, {})
                visit(own)
                given.append(own)
            elif hasattr(value, "__module__"):
                imports.add(f"from {value.__module__} import {name}")
            else:
                given.append(f"{name} = {value!r}\n")

    visit(code)
    parts = ["".join(f"{line}\n" for line in sorted(imports)), *given, code]
    return "\n\n".join(part for part in parts if part)
