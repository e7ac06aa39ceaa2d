"""Tests that must fail: the given tests with their expectations changed, so that lies show.

Code that shares a process with its tests can make any test pass: by patching pytest, by returning
objects that equal everything, by reading the expected value from the caller's frame. But it cannot
know which expectations are true without solving the task. So a project is run in several rounds; in
each a random half of its tests has changed expectations that look as natural as the given ones
(`== 4` becomes `== 5`, `assert is_prime(7)` becomes `assert not is_prime(7)`), under the same
names. The given tests must pass and the changed ones must fail, in every round.

Pure: text in, text out. All rounds are written back by `ast.unparse`, so that a changed file is
told from a given one by its meaning alone.
"""

import ast
import math
import random
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

GUESSES = 2**10
"""A liar who guesses passes less than once in so many times."""

_WRAPPED = 0.75
_OPPOSITES: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Lt: ast.GtE,
    ast.GtE: ast.Lt,
    ast.Gt: ast.LtE,
    ast.LtE: ast.Gt,
}
_UNITTEST = {
    "assertTrue": "assertFalse",
    "assertIn": "assertNotIn",
    "assertIs": "assertIsNot",
    "assertIsNone": "assertIsNotNone",
    "assertIsInstance": "assertNotIsInstance",
    "assertLess": "assertGreaterEqual",
    "assertGreater": "assertLessEqual",
    "assertEqual": "assertNotEqual",
    "assertAlmostEqual": "assertNotAlmostEqual",
}
_UNITTEST |= {no: yes for yes, no in _UNITTEST.items()}
_EXCEPTIONS = (
    "ValueError TypeError KeyError IndexError AttributeError ZeroDivisionError RuntimeError"
).split()


def rounds_for(n_tests: int) -> int:
    """How many rounds leave a guesser less than one chance in `GUESSES`, for so many tests."""
    if n_tests == 0:
        return 1
    return 1 + max(1, math.ceil(math.log2(GUESSES) / n_tests))


def draw_rounds(ids: Collection[str], dice: random.Random) -> list[frozenset[str]]:
    """Chooses which tests are changed in which round; each is given once and changed once at least.

    Returns:
        For each round the ids of the changed tests; one empty round where there are no ids.
    """
    ordered = sorted(ids)
    if not ordered:
        return [frozenset()]
    drawn = [
        frozenset(test for test in ordered if dice.random() < 0.5)
        for _ in range(rounds_for(len(ordered)) - 1)
    ]
    drawn.append(frozenset(ordered) - drawn[0])
    dice.shuffle(drawn)
    return drawn


def base_id(test_id: str) -> str:
    """The id without the parameters in brackets."""
    return test_id.split("[", 1)[0]


def find(tests: Mapping[str, str]) -> frozenset[str]:
    """The ids (without parameters) of the tests that can be changed.

    Args:
        tests: text by path; a file that does not parse has none.
    """
    return frozenset(
        test_id
        for path, text in tests.items()
        for test_id, function in _functions(path, _parse(text))
        if _change(function, random.Random(0))
    )


def write(
    tests: Mapping[str, str], changed: Collection[str], dice: random.Random
) -> dict[str, str]:
    """Writes the files of one round.

    Args:
        tests: text by path; a file that does not parse is left as it is.
        changed: ids of the tests whose expectations are changed.
        dice: chooses the changes.
    """
    written = {}
    for path, text in tests.items():
        tree = _parse(text)
        for test_id, function in _functions(path, tree):
            if test_id in changed:
                _change(function, dice)
        written[path] = ast.unparse(ast.fix_missing_locations(tree)) if tree.body else text
    return written


def _parse(text: str) -> ast.Module:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return ast.Module([], [])


Function = ast.FunctionDef | ast.AsyncFunctionDef


def _functions(path: str, tree: ast.AST) -> Iterator[tuple[str, Function]]:
    for node in getattr(tree, "body", []):
        if isinstance(node, Function) and node.name.startswith("test"):
            yield f"{path}::{node.name}", node
        elif isinstance(node, ast.ClassDef):
            yield from _functions(f"{path}::{node.name}", node)


def _change(function: Function, dice: random.Random) -> bool:
    """Changes every expectation of a test; False where it has none that can be."""
    change = _Change(function, dice)
    function.body = [change.visit(line) for line in function.body]
    return change.done


@dataclass
class _Parameters:
    """A `parametrize` with literal values: their names, and the nodes that hold the values."""

    names: list[str]
    rows: list[ast.expr]

    def cells(self, name: str) -> Iterator[tuple[Any, int]]:
        """Where each value of a parameter stands: a list of nodes, and the place in it."""
        if self.names == [name]:
            yield from ((self.rows, place) for place in range(len(self.rows)))
            return
        for row in self.rows:
            if isinstance(row, ast.Tuple | ast.List) and len(row.elts) == len(self.names):
                yield row.elts, self.names.index(name)


def _parameters(function: Function) -> Iterator[_Parameters]:
    for node in function.decorator_list:
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if node.func.attr != "parametrize" or len(node.args) < 2:
            continue
        names, values = _literal(node.args[0]), node.args[1]
        if isinstance(names, str):
            names = [name.strip() for name in names.split(",")]
        if isinstance(values, ast.List | ast.Tuple) and isinstance(names, list | tuple):
            yield _Parameters(list(names), values.elts)


_NOT_LITERAL = object()


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return _NOT_LITERAL


class _Change(ast.NodeTransformer):
    """Changes the expectations of one test in place."""

    def __init__(self, function: Function, dice: random.Random) -> None:
        self.dice, self.done = dice, False
        self.parameters = list(_parameters(function))
        self.changed_parameters: set[str] = set()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return node

    visit_AsyncFunctionDef = visit_ClassDef = visit_Lambda = visit_FunctionDef  # type: ignore[assignment]

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        self.done = True
        node.test = self._opposite(node.test)
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        call = node.value
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
            name = call.func.attr
            if name in ("assertEqual", "assertAlmostEqual") and self._change_one(call.args, [1, 0]):
                self.done = True
            elif name in ("assertEqual", "assertAlmostEqual") and len(call.args) > 1:
                self.done = True
                call.args[:2] = self._made_unlike(call.args[:2])
            elif name in _UNITTEST:
                self.done = True
                call.func.attr = _UNITTEST[name]
        return node

    def visit_With(self, node: ast.With) -> ast.AST:
        raises = [item.context_expr for item in node.items if _is_raises(item.context_expr)]
        for call in raises:
            assert isinstance(call, ast.Call)
            given = call.args[0].id if call.args and isinstance(call.args[0], ast.Name) else ""
            others = [name for name in _EXCEPTIONS if name != given]
            call.args[:1] = [ast.Name(self.dice.choice(others), ast.Load())]
            self.done = True
        return node if raises else self.generic_visit(node)

    def _opposite(self, test: ast.expr) -> ast.expr:
        """An expectation that is false where this one is true."""
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            return test.operand
        if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
            test.values = [self._opposite(value) for value in test.values]
            return test
        if isinstance(test, ast.Compare) and len(test.ops) == 1:
            sides = [test.comparators[0], test.left]
            if isinstance(test.ops[0], ast.Eq | ast.Is) and self._change_one(sides, [0, 1]):
                test.comparators[0], test.left = sides
                return test
            if isinstance(test.ops[0], ast.Eq) and self.dice.random() < _WRAPPED:
                test.left, test.comparators[0] = self._made_unlike([test.left, test.comparators[0]])
                return test
            if type(test.ops[0]) in _OPPOSITES:
                test.ops = [_OPPOSITES[type(test.ops[0])]()]
                return test
        return ast.UnaryOp(ast.Not(), test)

    def _made_unlike(self, sides: list[ast.expr]) -> list[ast.expr]:
        """Two equal expressions with one of them inside something else, which it cannot equal.

        `!=` would not do alone: an object that agrees with everything says no to that.
        """
        place = self.dice.randrange(2)
        inside = ast.unparse(sides[place])
        around = self.dice.choice(("({0}, 0)", "(0, {0})", "[{0}]", "[{0}, 1]", "{{0: {0}}}"))
        sides[place] = ast.parse(around.format(f"({inside})"), mode="eval").body
        return sides

    def _change_one(self, nodes: list[ast.expr], places: list[int]) -> bool:
        """Changes the first of these nodes that is a literal, or a parameter of literals."""
        for place in places:
            node = nodes[place] if place < len(nodes) else None
            if isinstance(node, ast.Call) and node.args and _name(node.func) == "approx":
                nodes, place, node = node.args, 0, node.args[0]
            if node is None:
                continue
            value = _literal(node)
            if value is not _NOT_LITERAL:
                nodes[place] = _node(_other(value, self.dice))
                return True
            if isinstance(node, ast.Name) and self._change_parameter(node.id):
                return True
        return False

    def _change_parameter(self, name: str) -> bool:
        if name in self.changed_parameters:
            return True
        cells = [
            cell for given in self.parameters if name in given.names for cell in given.cells(name)
        ]
        values = [_literal(nodes[place]) for nodes, place in cells]
        if not values or any(value is _NOT_LITERAL for value in values):
            return False
        for (nodes, place), value in zip(cells, values, strict=True):
            nodes[place] = _node(_other(value, self.dice))
        self.changed_parameters.add(name)
        return True


def _name(node: ast.expr) -> str:
    return getattr(node, "attr", getattr(node, "id", ""))


def _is_raises(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and _name(node.func) in ("raises", "assertRaises")


def _node(value: Any) -> ast.expr:
    node = ast.parse(repr(value), mode="eval").body
    return node


def _other(value: Any, dice: random.Random) -> Any:
    """A value of the same type that is not equal and could as well be expected."""
    kind = type(value)
    if kind is bool:
        return not value
    if kind in (int, float):
        return value + kind(dice.choice((1, 2, -1, 3)) * max(1, round(abs(value) * 0.1)))
    if kind is complex:
        return value + 1
    if kind is str:
        return _other_text(value, dice)
    if kind is bytes:
        return value[:-1] if value else b"a"
    if kind in (list, tuple):
        if not value:
            return kind([dice.choice((0, 1))])
        place = dice.randrange(len(value))
        return kind([*value[:place], _other(value[place], dice), *value[place + 1 :]])
    if kind is dict and value:
        key = dice.choice(list(value))
        return {**value, key: _other(value[key], dice)}
    if kind is set and value:
        return value - {dice.choice(sorted(value, key=repr))} or {0, "a"}
    return {dict: {"a": 1}, set: {1}, type(None): 0}.get(kind, 0)


def _other_text(value: str, dice: random.Random) -> str:
    if not value:
        return "a"
    place = dice.randrange(len(value))
    letter = dice.choice([letter for letter in "aeinrst0123" if letter != value[place]])
    return value[:place] + letter + value[place + 1 :]
