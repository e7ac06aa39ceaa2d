"""What a mutant changes: one small function per operator, from a node to its replacements.

The set covers mutmut 3's (arithmetic, comparison, boolean, constants, strings, arguments, keywords,
assignment, break and continue, unary, lambda, match, conditional expressions, string methods) and
adds return values, slices, exceptions and negated `if`s; docs/mutation.md has the table. A
replacement shares the children of the node that it replaces, and keeps its position.
"""

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

_Node = TypeVar("_Node", bound=ast.AST)
Change = Callable[[Any], Iterator[ast.AST]]
"""From a node to its replacements, always as many for nodes that differ in names only."""


@dataclass(frozen=True)
class Operator:
    """A kind of change.

    Attributes:
        name: as reports count it.
        kinds: the nodes that it looks at.
        change: makes the replacements.
    """

    name: str
    kinds: tuple[type[ast.AST], ...]
    change: Change


_SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.Div,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.UAdd: ast.USub,
    ast.USub: ast.UAdd,
}
_METHODS = {
    one: other
    for pair in (
        "lower upper",
        "lstrip rstrip",
        "find rfind",
        "ljust rjust",
        "index rindex",
        "removeprefix removesuffix",
        "partition rpartition",
        "split rsplit",
    )
    for one, other in (pair.split(), pair.split()[::-1])
}
_FUNCTIONS = {"deepcopy": "copy"}
UNTOUCHED_CALLS = frozenset(("len", "isinstance"))


def changed(node: ast.AST, **fields: Any) -> ast.AST:
    """A copy of the node with other fields; the children are shared."""
    made = copy.copy(node)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def _at(node: ast.AST, made: _Node) -> _Node:
    """The new node at the place of the old one, its new children too."""
    return ast.fix_missing_locations(ast.copy_location(made, node))


def _none(node: ast.AST) -> ast.expr:
    return ast.copy_location(ast.Constant(None), node)


def _is_none(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def arithmetic(node: ast.BinOp | ast.AugAssign) -> Iterator[ast.AST]:
    """`a + b` to `a - b`, `a *= b` to `a /= b`."""
    swapped = _SWAPS.get(type(node.op))
    if swapped is not None:
        yield changed(node, op=swapped())


def comparison(node: ast.Compare) -> Iterator[ast.AST]:
    """`a < b` to `a <= b`, `a in b` to `a not in b`; one link of a chain at a time."""
    for index, op in enumerate(node.ops):
        yield changed(node, ops=[*node.ops[:index], _SWAPS[type(op)](), *node.ops[index + 1 :]])


def boolean_operation(node: ast.BoolOp) -> Iterator[ast.AST]:
    """`a and b` to `a or b`; of a longer chain one link at a time, grouped from the left."""
    swapped: ast.boolop = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    for cut in range(1, len(node.values)):
        before, after = node.values[:cut], node.values[cut:]
        left = before[0] if cut == 1 else ast.BoolOp(node.op, before)
        joined = ast.BoolOp(swapped, [left, after[0]])
        if after[1:]:
            joined = ast.BoolOp(node.op, [joined, *after[1:]])
        yield _at(node, joined)


def boolean_constant(node: ast.Constant) -> Iterator[ast.AST]:
    """`True` to `False` and back."""
    if isinstance(node.value, bool):
        yield changed(node, value=not node.value)


def number(node: ast.Constant) -> Iterator[ast.AST]:
    """`1` to `2`."""
    value = node.value
    if isinstance(value, int | float | complex) and not isinstance(value, bool):
        more = value + (1j if isinstance(value, complex) else 1)
        if more != value:  # infinity stays what it is
            yield changed(node, value=more)


def string(node: ast.Constant) -> Iterator[ast.AST]:
    """`"aB"` to `"XXaBXX"`, `"ab"` and `"AB"`; text over several lines is left alone."""
    value = node.value
    others: tuple[str | bytes, ...] = ()
    if node.end_lineno == node.lineno:
        if isinstance(value, str):
            others = (f"XX{value}XX", value.lower(), value.upper())
        elif isinstance(value, bytes):
            others = (b"XX" + value + b"XX", value.lower(), value.upper())
    for other in others:
        if other != value:
            yield changed(node, value=other)


def unary(node: ast.UnaryOp) -> Iterator[ast.AST]:
    """`not a` and `~a` to `a`, `-a` to `+a`."""
    swapped = _SWAPS.get(type(node.op))
    yield node.operand if swapped is None else changed(node, op=swapped())


def arguments(node: ast.Call) -> Iterator[ast.AST]:
    """`f(a, b)` to `f(None, b)`, `f(a, None)`, `f(b)` and `f(a)`; keyword arguments likewise."""
    given: list[ast.expr | ast.keyword] = [*node.args, *node.keywords]
    for index, argument in enumerate(given):
        if isinstance(argument, ast.keyword):
            if argument.arg is not None and not _is_none(argument.value):
                yield _call(node, given, index, changed(argument, value=_none(argument.value)))
        elif not isinstance(argument, ast.Starred) and not _is_none(argument):
            yield _call(node, given, index, _none(argument))
    if len(given) > 1:
        for index in range(len(given)):
            yield _call(node, given, index, None)


def keywords(node: ast.Call) -> Iterator[ast.AST]:
    """`dict(a=b)` to `dict(aXX=b)`."""
    if isinstance(node.func, ast.Name) and node.func.id == "dict":
        given: list[ast.expr | ast.keyword] = [*node.args, *node.keywords]
        for index, argument in enumerate(given):
            if isinstance(argument, ast.keyword) and argument.arg is not None:
                yield _call(node, given, index, changed(argument, arg=argument.arg + "XX"))


def _call(node: ast.Call, given: list[Any], index: int, replacement: ast.AST | None) -> ast.AST:
    """The call with one argument replaced or, for None, left out."""
    kept = [*given[:index], *([] if replacement is None else [replacement]), *given[index + 1 :]]
    named = [argument for argument in kept if isinstance(argument, ast.keyword)]
    return changed(node, args=[one for one in kept if one not in named], keywords=named)


def method(node: ast.Call) -> Iterator[ast.AST]:
    """`a.lower()` to `a.upper()`, `a.find(b)` to `a.rfind(b)`; `deepcopy` to `copy`.

    `split` and `rsplit` differ only where the number of parts is limited.
    """
    if isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS:
        yield changed(node, func=changed(node.func, id=_FUNCTIONS[node.func.id]))
    if not isinstance(node.func, ast.Attribute):
        return
    name = node.func.attr
    if name in _FUNCTIONS:
        yield changed(node, func=changed(node.func, attr=_FUNCTIONS[name]))
    limited = len(node.args) == 2 or any(one.arg == "maxsplit" for one in node.keywords)
    if name in _METHODS and (limited or name not in ("split", "rsplit")):
        yield changed(node, func=changed(node.func, attr=_METHODS[name]))


def returned(node: ast.Return | ast.Yield) -> Iterator[ast.AST]:
    """`return a` to `return None`."""
    if node.value is not None and not _is_none(node.value):
        yield changed(node, value=_none(node.value))


def assigned(node: ast.Assign | ast.AnnAssign) -> Iterator[ast.AST]:
    """`a = b` to `a = None`, `a = None` to `a = ""`."""
    if node.value is not None:
        other = ast.copy_location(ast.Constant(""), node.value)
        yield changed(node, value=other if _is_none(node.value) else _none(node.value))


def augmented(node: ast.AugAssign) -> Iterator[ast.AST]:
    """`a += b` to `a = b`."""
    yield _at(node, ast.Assign([node.target], node.value))


def loop(node: ast.Break | ast.Continue) -> Iterator[ast.AST]:
    """`break` to `return`, `continue` to `break`."""
    yield _at(node, ast.Return(None) if isinstance(node, ast.Break) else ast.Break())


def negated(node: ast.If) -> Iterator[ast.AST]:
    """`if a:` to `if not a:`."""
    yield changed(node, test=_at(node.test, ast.UnaryOp(ast.Not(), node.test)))


def forced(node: ast.IfExp) -> Iterator[ast.AST]:
    """`a if b else c` to either arm, with the condition still evaluated."""
    for op, value in ((ast.And(), False), (ast.Or(), True)):
        test = _at(node.test, ast.BoolOp(op, [node.test, ast.Constant(value)]))
        yield changed(node, test=test)


def sliced(node: ast.Slice) -> Iterator[ast.AST]:
    """`a[1:n]` to `a[:n]` and `a[1:]`."""
    for name in ("lower", "upper", "step"):
        if getattr(node, name) is not None:
            yield changed(node, **{name: None})


def raised(node: ast.Raise) -> Iterator[ast.AST]:
    """`raise a` to `pass`."""
    yield _at(node, ast.Pass())


def handled(node: ast.ExceptHandler) -> Iterator[ast.AST]:
    """The body of an `except` to `raise`."""
    if not (len(node.body) == 1 and isinstance(node.body[0], ast.Raise)):
        yield changed(node, body=[_at(node.body[0], ast.Raise(None, None))])


def function_value(node: ast.Lambda) -> Iterator[ast.AST]:
    """`lambda: a` to `lambda: None`, `lambda: None` to `lambda: 0`."""
    zero = ast.copy_location(ast.Constant(0), node.body)
    yield changed(node, body=zero if _is_none(node.body) else _none(node.body))


def case_dropped(node: ast.Match) -> Iterator[ast.AST]:
    """A `match` without one of its cases."""
    if len(node.cases) > 1:
        for index in range(len(node.cases)):
            yield changed(node, cases=[*node.cases[:index], *node.cases[index + 1 :]])


OPERATORS: tuple[Operator, ...] = (
    Operator("arithmetic", (ast.BinOp, ast.AugAssign), arithmetic),
    Operator("comparison", (ast.Compare,), comparison),
    Operator("boolean", (ast.BoolOp,), boolean_operation),
    Operator("boolean", (ast.Constant,), boolean_constant),
    Operator("constant", (ast.Constant,), number),
    Operator("string", (ast.Constant,), string),
    Operator("unary", (ast.UnaryOp,), unary),
    Operator("argument", (ast.Call,), arguments),
    Operator("keyword", (ast.Call,), keywords),
    Operator("method", (ast.Call,), method),
    Operator("return", (ast.Return, ast.Yield), returned),
    Operator("assignment", (ast.Assign, ast.AnnAssign), assigned),
    Operator("assignment", (ast.AugAssign,), augmented),
    Operator("loop", (ast.Break, ast.Continue), loop),
    Operator("conditional", (ast.If,), negated),
    Operator("conditional", (ast.IfExp,), forced),
    Operator("slice", (ast.Slice,), sliced),
    Operator("exception", (ast.Raise,), raised),
    Operator("exception", (ast.ExceptHandler,), handled),
    Operator("lambda", (ast.Lambda,), function_value),
    Operator("match", (ast.Match,), case_dropped),
)
