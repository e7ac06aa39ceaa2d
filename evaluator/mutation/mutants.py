"""The mutants of a module: where an operator applies, and which changes change nothing."""

import ast
import types
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from evaluator.mutation.operators import OPERATORS, UNTOUCHED_CALLS, Operator, changed
from foundation.errors import BadInput

NO_MUTATION = "# pragma: no mutate"
_BRANCHES = ("body", "orelse", "finalbody", "handlers", "cases")
_PLAIN = (ast.Constant, ast.UnaryOp)
_COMPLEX_TESTS = (ast.Compare, ast.BoolOp, ast.UnaryOp, ast.Constant)


@dataclass(frozen=True)
class Place:
    """Where a node hangs: a field of its parent, with an index where that is a list."""

    parent: ast.AST
    field: str
    index: int | None

    def put(self, node: ast.AST) -> None:
        """Hangs another node there."""
        if self.index is None:
            setattr(self.parent, self.field, node)
        else:
            getattr(self.parent, self.field)[self.index] = node


@dataclass(frozen=True)
class Mutant:
    """One small change of a module.

    Attributes:
        operator: the kind of change.
        line: of the changed statement, in the text that was given.
        before: its first line, as Python writes it.
        after: the same line, changed.
        node: number of the changed node in the module's tree.
        choice: which of `OPERATORS` makes it, and which of its replacements it is.
    """

    operator: str
    line: int
    before: str
    after: str
    node: int
    choice: tuple[int, int]

    @property
    def diff(self) -> str:
        """The change in one line."""
        return f"line {self.line}, {self.operator}: {self.before} -> {self.after}"

    def replacement(self, node: ast.AST) -> ast.AST:
        """What takes the place of that node, in this tree or one that differs in names only."""
        operator, which = self.choice
        return list(OPERATORS[operator].change(node))[which]


@dataclass(frozen=True)
class Program:
    """A module with its mutants.

    Attributes:
        code: the module's text.
        tree: of the module; do not change it.
        nodes: the nodes of the tree by number.
        mutants: those whose bytecode differs from the module's and from each other's.
        equivalents: those with the same bytecode as the module or as an earlier mutant.
        statements: for each mutant, the statement that it changes.
    """

    code: str
    tree: ast.Module
    nodes: list[ast.AST]
    mutants: list[Mutant]
    equivalents: list[Mutant]
    statements: dict[Mutant, ast.AST]


@lru_cache(maxsize=64)
def read_program(code: str, within: str | None = None) -> Program:
    """Makes all mutants of a module.

    What runs when the module loads is left alone but for plain constants and default values, and so
    are annotations, decorators, docstrings and lines that say `# pragma: no mutate`.

    Args:
        code: the module's text.
        within: a function or class at the top of the module, to mutate only that.

    Raises:
        BadInput: the code is not valid Python, or has nothing to mutate there.
    """
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError) as error:
        raise BadInput("code to mutate", str(error), "valid Python", "Correct it.") from None
    numbers = {id(node): number for number, node in enumerate(ast.walk(tree))}
    left_alone = {number for number, text in enumerate(code.splitlines(), 1) if NO_MUTATION in text}
    program = Program(code, tree, list(ast.walk(tree)), [], [], {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # `x is 1`, of the code's own author
        for top in tree.body:
            if within is None or getattr(top, "name", None) == within:
                _mutate(program, top, numbers, left_alone)
    if not program.mutants:
        where = f"a function or class {within!r}" if within else "functions"
        raise BadInput(
            "code to mutate", code[:80], f"{where} with something to change", "Check it."
        )
    return program


@dataclass(frozen=True)
class _Spot:
    """A node that operators look at."""

    node: ast.AST
    statement: ast.AST
    is_default: bool
    only_constants: bool


def _mutate(program: Program, top: ast.stmt, numbers: dict[int, int], left_alone: set[int]) -> None:
    places = places_in(top)
    seen = {_bytecode(top)}
    for spot in _spots(top):
        if getattr(spot.node, "lineno", 0) in left_alone:
            continue
        for mutant, node in _changes(spot, numbers):
            place = places[id(spot.node)]
            place.put(node)
            made = _bytecode(top)
            place.put(spot.node)
            if made is None:
                continue
            (program.equivalents if made in seen else program.mutants).append(mutant)
            program.statements[mutant] = spot.statement
            seen.add(made)


def places_in(root: ast.AST) -> dict[int, Place]:
    """Where each node below the root hangs, by its id."""
    places = {}
    for parent in ast.walk(root):
        for name, value in ast.iter_fields(parent):
            if isinstance(value, ast.AST):
                places[id(value)] = Place(parent, name, None)
            elif isinstance(value, list):
                places |= {id(item): Place(parent, name, at) for at, item in enumerate(value)}
    return places


def _spots(top: ast.stmt) -> Iterator[_Spot]:
    if isinstance(top, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield from _in_definition(top)
    elif isinstance(top, ast.Assign | ast.AnnAssign):
        yield from _in_constant(top)


def _in_definition(
    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef,
) -> Iterator[_Spot]:
    body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
    if isinstance(node, ast.ClassDef):
        for statement in body:
            yield from _spots(statement)
        return
    for default in (*node.args.defaults, *filter(None, node.args.kw_defaults)):
        if isinstance(default, _PLAIN):
            for inner in ast.walk(default):
                yield _Spot(inner, node, True, False)
    for statement in body:
        yield from _below(statement, statement)


def _in_constant(node: ast.Assign | ast.AnnAssign) -> Iterator[_Spot]:
    """A value set when module or class loads; dunder names mean something to Python."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    if node.value is None or any(getattr(one, "id", "").startswith("__") for one in targets):
        return
    for inner in ast.walk(node.value):
        yield _Spot(inner, node, False, True)


def _below(node: ast.AST, statement: ast.AST) -> Iterator[_Spot]:
    """The nodes from here down that may be mutated."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield from _in_definition(node)
        return
    yield _Spot(node, statement, False, False)
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "format_spec", "ctx"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.stmt | ast.ExceptHandler):
                yield from _below(child, child)
            elif isinstance(child, ast.AST):
                yield from _below(child, statement)


def _changes(spot: _Spot, numbers: dict[int, int]) -> Iterator[tuple[Mutant, ast.AST]]:
    before = headline(spot.statement)
    for index, operator in enumerate(OPERATORS):
        if not isinstance(spot.node, operator.kinds) or _left_out(operator, spot):
            continue
        name = "default" if spot.is_default else operator.name
        for which, node in enumerate(operator.change(spot.node)):
            after = _headline_with(spot, node)
            number, line = numbers[id(spot.node)], getattr(spot.statement, "lineno", 0)
            yield Mutant(name, line, before, after, number, (index, which)), node


def _left_out(operator: Operator, spot: _Spot) -> bool:
    """Changes that say nothing: of `len(x)`, or of a test that another operator changes."""
    node = spot.node
    if spot.only_constants:
        return not isinstance(node, ast.Constant)
    if isinstance(node, ast.If):
        return isinstance(node.test, _COMPLEX_TESTS)
    return isinstance(node, ast.Call) and getattr(node.func, "id", "") in UNTOUCHED_CALLS


def headline(statement: ast.AST, most: int = 100) -> str:
    """The first line of a statement, without what it contains."""
    if isinstance(statement, ast.Match):
        text = f"match {ast.unparse(statement.subject)}: ({len(statement.cases)} cases)"
    elif isinstance(statement, ast.ExceptHandler):
        text = " ".join(ast.unparse(statement).split())
    else:
        empty: dict[str, Any] = {name: [] for name in _BRANCHES if hasattr(statement, name)}
        text = ast.unparse(changed(statement, **empty)).split("\n")[0]
    return text if len(text) <= most else text[: most - 1] + "…"


def _headline_with(spot: _Spot, node: ast.AST) -> str:
    if spot.node is spot.statement:
        return headline(node)
    place = places_in(spot.statement)[id(spot.node)]
    place.put(node)
    text = headline(spot.statement)
    place.put(spot.node)
    return text


def _bytecode(top: ast.stmt) -> Any:
    """What the statement compiles to, without lines; None where it does not compile."""
    try:
        code = compile(ast.Module([top], []), "", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, OverflowError):
        return None
    return _essence(code)


def _essence(code: types.CodeType) -> tuple[Any, ...]:
    constants = tuple(
        _essence(one) if isinstance(one, types.CodeType) else (type(one), repr(one))
        for one in code.co_consts
    )
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    return (code.co_code, constants, names, code.co_flags, code.co_exceptiontable)
