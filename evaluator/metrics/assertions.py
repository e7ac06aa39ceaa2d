"""How well tests assert, and which kinds of edge case they try; read from their text alone."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_EXPECTS_ERROR = frozenset(("raises", "assertRaises", "assertRaisesRegex"))
_CHECKS = _EXPECTS_ERROR | {"warns", "deprecated_call", "fail"}
_TYPE_CALLS = frozenset(("isinstance", "issubclass", "callable", "hasattr"))
_TYPE_METHODS = frozenset(
    ("assertIsInstance", "assertNotIsInstance", "assertIsNotNone", "assertIsNone")
)
_MOCK_CHECKS = frozenset(("assert_called", "assert_not_called", "assert_has_calls"))
_EQUALITIES = frozenset(("assertEqual", "assertEquals", "assertIs", "assertAlmostEqual"))
LARGE_NUMBER, LARGE_SIZE = 10**6, 50
EDGE_CASES = (
    "boundary",
    "empty",
    "large",
    "negative",
    "none_or_invalid_type",
    "raises",
    "unicode",
    "zero",
)


@dataclass(frozen=True)
class AssertionQuality:
    """What stands in a file of tests.

    Attributes:
        n_tests: test functions and methods; bare asserts at the top count as one each.
        n_assertions: asserts, `self.assert...` calls, `pytest.raises` blocks and the like.
        without_assertion: tests that assert nothing, neither directly nor through a function of the
            same file.
        tautologies: lines of assertions that hold whatever the code does.
        bare_excepts: lines of handlers that swallow every exception.
        types_only: tests whose assertions only look at types, or at None.
    """

    n_tests: int
    n_assertions: int
    without_assertion: tuple[str, ...] = ()
    tautologies: tuple[int, ...] = ()
    bare_excepts: tuple[int, ...] = ()
    types_only: tuple[str, ...] = ()

    @property
    def per_test(self) -> float | None:
        """Assertions per test; None without tests."""
        return self.n_assertions / self.n_tests if self.n_tests else None

    def as_metrics(self) -> dict[str, Any]:
        """Plain JSON: the counts."""
        return {
            "n_assertions": self.n_assertions,
            "assertions_per_test": self.per_test,
            "tests_without_assertion": len(self.without_assertion),
            "tautologies": len(self.tautologies),
            "bare_excepts": len(self.bare_excepts),
            "tests_of_types_only": len(self.types_only),
        }


def assertion_quality(tests: str) -> AssertionQuality | None:
    """Reads a file of tests; None where it is not valid Python (doctest examples, for one)."""
    tree = _parsed(tests)
    if tree is None:
        return None
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, _Function)}
    units: dict[str, list[ast.AST]] = {
        name: _assertions(node, functions)
        for name, node in functions.items()
        if name.startswith("test")
    }
    bare = [node for node in tree.body if isinstance(node, ast.Assert)]
    units |= {f"assert {number}": [node] for number, node in enumerate(bare, 1)}
    every = [one for node in ast.walk(tree) if (one := _assertion(node)) is not None]
    return AssertionQuality(
        n_tests=len(units),
        n_assertions=len(every),
        without_assertion=tuple(name for name, found in units.items() if not found),
        tautologies=tuple(sorted(_line(one) for one in every if _is_tautology(one))),
        bare_excepts=tuple(sorted(_bare_excepts(tree))),
        types_only=tuple(
            name for name, found in units.items() if found and all(map(_is_of_types, found))
        ),
    )


def edge_cases(tests: str, entry_point: str | None = None, code: str | None = None) -> list[str]:
    """The kinds of edge case that the tests hand to the code, of `EDGE_CASES`, sorted.

    Only what is passed counts: literals among the arguments, literals given to a variable or by
    `parametrize` to a name among them; not what is expected back.

    Args:
        tests: text of the file; text that is not valid Python has none.
        entry_point: the function or class under test; None to look at every call.
        code: the code under test: a boundary is then a number that stands in it, tried together
            with a neighbour; without code, any two neighbours.
    """
    tree = _parsed(tests)
    if tree is None:
        return []
    limits = None if code is None else _numbers_in(code)
    found: set[str] = set()
    numbers: set[int] = set()
    for scope in _scopes(tree):
        passed = _passed(scope, entry_point)
        passed += list(_bound(scope, passed, _constants(tree)))
        for node in passed:
            found |= _kinds(node)
        numbers |= _whole_numbers(passed)
    at_limit = numbers if limits is None else numbers & limits
    if any({number - 1, number + 1} & numbers for number in at_limit):
        found.add("boundary")
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and _called(call) in _EXPECTS_ERROR:
            expected = {getattr(one, "id", "") for arg in call.args[:1] for one in ast.walk(arg)}
            found |= {"raises"} | ({"none_or_invalid_type"} if "TypeError" in expected else set())
    return sorted(found)


def _parsed(text: str) -> ast.Module | None:
    """The tree; None for what is not Python, or nested deeper than can be looked through."""
    try:
        tree = ast.parse(text)
        ast.dump(tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return tree


def _line(node: ast.AST) -> int:
    return int(getattr(node, "lineno", 0))


def _called(node: ast.Call) -> str:
    """The last part of the name that is called."""
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else ""


# --- assertions -----------------------------------------------------------------------------


def _assertion(node: ast.AST) -> ast.AST | None:
    """The node where it is an assertion."""
    if isinstance(node, ast.Assert):
        return node
    if isinstance(node, ast.Call):
        name = _called(node)
        is_method = isinstance(node.func, ast.Attribute) and name.startswith(("assert", "_assert"))
        return node if is_method or name in _CHECKS else None
    return None


def _assertions(
    function: ast.AST, functions: dict[str, Any], seen: frozenset[str] = frozenset()
) -> list[ast.AST]:
    """The assertions of a function and of the file's own functions that it calls."""
    found: list[ast.AST] = []
    for node in ast.walk(function):
        if _assertion(node) is not None:
            found.append(node)
        elif isinstance(node, ast.Call):
            name = _called(node)
            if name in functions and name not in seen:
                found += _assertions(functions[name], functions, seen | {name})
    return found


def _is_tautology(node: ast.AST) -> bool:
    if isinstance(node, ast.Assert):
        return _always_true(node.test)
    if not isinstance(node, ast.Call):
        return False
    name, given = _called(node), node.args
    if name == "assertTrue" and given:
        return _always_true(given[0])
    return name in _EQUALITIES and len(given) >= 2 and _alike(given[0], given[1])


def _always_true(test: ast.expr) -> bool:
    if isinstance(test, ast.Constant):
        return bool(test.value)
    if isinstance(test, ast.Tuple | ast.List):
        return bool(test.elts)  # assert (f(x) == 1, "message")
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.Or):
        return any(map(_always_true, test.values))
    if isinstance(test, ast.Compare) and len(test.ops) == 1:
        same = isinstance(test.ops[0], ast.Eq | ast.Is | ast.LtE | ast.GtE)
        return same and _alike(test.left, test.comparators[0])
    return False


def _alike(one: ast.expr, other: ast.expr) -> bool:
    """The same text, with no call in it: `f(x) == f(x)` does say something."""
    has_call = any(isinstance(node, ast.Call) for node in ast.walk(one))
    return not has_call and ast.dump(one) == ast.dump(other)


def _is_of_types(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return _called(node) in _TYPE_METHODS
    return isinstance(node, ast.Assert) and _looks_at_type(node.test)


def _looks_at_type(test: ast.expr) -> bool:
    if isinstance(test, ast.BoolOp):
        return all(map(_looks_at_type, test.values))
    if isinstance(test, ast.UnaryOp):
        return _looks_at_type(test.operand)
    if isinstance(test, ast.Call):
        return _called(test) in _TYPE_CALLS
    if isinstance(test, ast.Compare) and len(test.ops) == 1:
        left = test.left
        of_type = isinstance(left, ast.Call) and _called(left) == "type"
        other = test.comparators[0]
        is_none = isinstance(other, ast.Constant) and other.value is None
        return of_type or (is_none and isinstance(test.ops[0], ast.IsNot | ast.NotEq))
    return False


def _bare_excepts(tree: ast.AST) -> Iterator[int]:
    """Handlers of everything whose body neither raises, asserts nor fails the test."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        kind = node.type
        name = getattr(kind, "id", "")
        inner = [one for statement in node.body for one in ast.walk(statement)]
        speaks = any(isinstance(one, ast.Raise) or _assertion(one) is not None for one in inner)
        if (kind is None or name in ("Exception", "BaseException")) and not speaks:
            yield node.lineno


# --- edge cases -----------------------------------------------------------------------------


def _scopes(tree: ast.Module) -> list[list[ast.AST]]:
    """The nodes of every function, and those outside of functions, each as a scope."""
    functions = [node for node in ast.walk(tree) if isinstance(node, _Function)]
    inside = {id(inner) for node in functions for inner in ast.walk(node)}
    rest: list[ast.AST] = [node for node in ast.walk(tree) if id(node) not in inside]
    return [rest, *(list(ast.walk(node)) for node in functions)]


def _constants(tree: ast.Module) -> dict[str, ast.expr]:
    """What the file sets at its top, by name."""
    return {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _passed(scope: list[ast.AST], entry_point: str | None) -> list[ast.expr]:
    """The arguments of the calls under test."""
    arguments: list[ast.expr] = []
    for node in scope:
        if isinstance(node, ast.Call) and entry_point in (None, _called(node)):
            arguments += [*node.args, *(one.value for one in node.keywords)]
        elif isinstance(node, ast.Call) and _called(node) in _EXPECTS_ERROR:
            if any(getattr(one, "id", "") == entry_point for one in node.args):
                arguments += node.args[2:]  # assertRaises(Error, function, arguments...)
    return arguments


def _bound(
    scope: list[ast.AST], passed: list[ast.expr], constants: dict[str, ast.expr]
) -> Iterator[ast.expr]:
    """What the names among the arguments stand for: assigned, looped over or parametrized."""
    inner = [one for node in passed for one in ast.walk(node)]
    names = {one.id for one in inner if isinstance(one, ast.Name)}
    spread = {getattr(one.value, "id", "") for one in inner if isinstance(one, ast.Starred)}
    for name, value in _bindings(scope, constants):
        if name in spread and isinstance(value, ast.List | ast.Tuple):
            yield from value.elts
        elif name in names:
            yield value


def _bindings(
    scope: list[ast.AST], constants: dict[str, ast.expr]
) -> Iterator[tuple[str, ast.expr]]:
    for node in scope:
        if isinstance(node, ast.Assign):
            yield from ((getattr(target, "id", ""), node.value) for target in node.targets)
        elif isinstance(node, ast.For):
            targets = getattr(node.target, "elts", [node.target])
            yield from _cells([getattr(one, "id", "") for one in targets], node.iter, constants)
        elif isinstance(node, ast.Call) and _called(node) == "parametrize" and len(node.args) > 1:
            yield from _cells(_argnames(node.args[0]), node.args[1], constants)


def _cells(
    names: list[str], rows: ast.expr, constants: dict[str, ast.expr]
) -> Iterator[tuple[str, ast.expr]]:
    """Each name with its value in each row of a literal table, or of one set at the top."""
    table = constants.get(rows.id, rows) if isinstance(rows, ast.Name) else rows
    for row in getattr(table, "elts", []):
        if isinstance(row, ast.Call) and _called(row) == "param":
            values: list[ast.expr] = row.args
        else:
            values = [row] if len(names) == 1 else getattr(row, "elts", [])
        yield from zip(names, values, strict=False)


def _argnames(node: ast.expr) -> list[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [name.strip() for name in node.value.split(",")]
    return [str(getattr(one, "value", "")) for one in getattr(node, "elts", [])]


def _kinds(root: ast.expr) -> set[str]:
    found = set()
    for node in ast.walk(root):
        if isinstance(node, ast.Constant):
            found |= _kinds_of_value(node.value)
        elif isinstance(node, ast.List | ast.Tuple | ast.Set | ast.Dict):
            size = len(node.keys) if isinstance(node, ast.Dict) else len(node.elts)
            found |= {"empty"} if size == 0 else {"large"} if size >= LARGE_SIZE else set()
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            inner = getattr(node.operand, "value", None)
            found |= {"negative"} if isinstance(inner, int | float) and inner else set()
        elif isinstance(node, ast.BinOp) and _is_large_product(node):
            found.add("large")
        elif isinstance(node, ast.Attribute) and node.attr in ("maxsize", "inf", "nan"):
            found.add("boundary")
        elif isinstance(node, ast.Call):
            found |= _kinds_of_call(node)
    return found


def _kinds_of_value(value: Any) -> set[str]:
    if value is None:
        return {"none_or_invalid_type"}
    if isinstance(value, str | bytes):
        kinds = {"empty"} if not value else {"large"} if len(value) >= LARGE_SIZE else set()
        return kinds | ({"unicode"} if isinstance(value, str) and not value.isascii() else set())
    if isinstance(value, bool) or not isinstance(value, int | float):
        return set()
    return {"zero"} if value == 0 else {"large"} if abs(value) >= LARGE_NUMBER else set()


def _kinds_of_call(node: ast.Call) -> set[str]:
    name, given = _called(node), node.args
    if name in ("list", "dict", "set", "tuple", "str", "frozenset") and not given:
        return {"empty"} if not node.keywords else set()
    if name == "float" and given and getattr(given[0], "value", "") in ("inf", "-inf", "nan"):
        return {"boundary"}
    if name == "range" and given:
        size = getattr(given[-1], "value", 0)
        return {"large"} if isinstance(size, int) and size >= LARGE_SIZE else set()
    return set()


def _is_large_product(node: ast.BinOp) -> bool:
    """`"a" * 1000`, `10 ** 9`."""
    sides = [getattr(side, "value", None) for side in (node.left, node.right)]
    numbers = [side for side in sides if isinstance(side, int)]
    if isinstance(node.op, ast.Mult):
        return any(number >= LARGE_SIZE for number in numbers) and len(numbers) < 2
    return isinstance(node.op, ast.Pow) and len(numbers) == 2 and numbers[1] >= 6


def _whole_numbers(passed: list[ast.expr]) -> set[int]:
    """The whole numbers that are themselves an argument."""
    numbers: set[int] = set()
    for root in passed:
        sign = -1 if isinstance(root, ast.UnaryOp) and isinstance(root.op, ast.USub) else 1
        value = getattr(root.operand if isinstance(root, ast.UnaryOp) else root, "value", None)
        if isinstance(value, int) and not isinstance(value, bool):
            numbers.add(sign * value)
    return numbers


def _numbers_in(code: str) -> set[int]:
    """The whole numbers that stand in the code, with either sign."""
    tree = _parsed(code)
    values = (
        [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)] if tree else []
    )
    found = {value for value in values if isinstance(value, int) and not isinstance(value, bool)}
    return found | {-value for value in found}
