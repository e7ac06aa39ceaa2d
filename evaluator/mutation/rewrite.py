"""Behaviour-preserving rewriting, so that tests cannot tell a reference from its mutants.

A test that hashes the source, reads bytecode or counts the operators of a function would accept the
reference and reject every mutant without testing anything. So reference and mutants alike are shown
rewritten: locals renamed, comments and layout gone, `if`s turned around, and among the statements
decoys that never run but hold operators and constants like those that mutants change. Several
rewritings of the reference are among the runs, and the tests must accept them all.
"""

import ast
import random
from collections.abc import Iterator

from evaluator.mutation.mutants import Mutant, Place, Program, places_in

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_SCOPES = (
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.Lambda,
    ast.ListComp,
    ast.SetComp,
    ast.DictComp,
    ast.GeneratorExp,
)
_LOOKS_AT_LOCALS = frozenset(("locals", "vars", "eval", "exec", "dir", "globals", "_getframe"))
_WORDS = (
    "value result total item count index left right part entry width limit state offset".split()
)
_NEVER = 10**9
_TURN, _DECOY = 0.5, 0.6


class Presentation:
    """One rewriting of a program, into which each of its mutants can be written.

    Args:
        program: what to rewrite.
        seed: of the choices; None changes nothing but the layout.
    """

    def __init__(self, program: Program, seed: int | None) -> None:
        self._tree = ast.parse(program.code)
        self._nodes = list(ast.walk(self._tree))  # numbered as the program's, before any rewriting
        if seed is not None:
            _rewrite(self._tree, random.Random(seed))
        self._places: dict[int, Place] = {}
        self._top: dict[int, int] = {}
        for number, statement in enumerate(self._tree.body):
            self._places |= (found := places_in(statement))
            self._top |= dict.fromkeys((*found, id(statement)), number)
        self._texts = [ast.unparse(statement) for statement in self._tree.body]

    def text(self, mutant: Mutant | None = None) -> str:
        """The module's text; with the change of that mutant where one is given."""
        if mutant is None:
            return "\n".join(self._texts) + "\n"
        node = self._nodes[mutant.node]
        top, place = self._top[id(node)], self._places[id(node)]
        place.put(mutant.replacement(node))
        changed = ast.unparse(self._tree.body[top])
        place.put(node)
        return "\n".join((*self._texts[:top], changed, *self._texts[top + 1 :])) + "\n"


def rewritten(code: str, seed: int) -> str:
    """A module's text in a rewriting of its own."""
    return Presentation(Program(code, ast.parse(code), [], [], [], {}), seed).text()


def stub(program: Program) -> str:
    """The module with every function and method doing nothing: what no test may accept."""
    tree = ast.parse(program.code)
    for node in ast.walk(tree):
        if isinstance(node, _Function):
            node.body = [ast.Pass()]
    return ast.unparse(ast.fix_missing_locations(tree)) + "\n"


def _rewrite(tree: ast.Module, dice: random.Random) -> None:
    taken = _names_in(tree)
    for node in list(ast.walk(tree)):
        if isinstance(node, _Function) and not _names_in(node) & _LOOKS_AT_LOCALS:
            _rename_locals(node, taken, dice)
            _turn_ifs(node, dice)
            _add_decoys(node, _fresh(taken, dice), dice)
    ast.fix_missing_locations(tree)


def _names_in(root: ast.AST) -> set[str]:
    """Every name that occurs, as a variable, attribute, argument or definition."""
    names: set[str] = set()
    for node in ast.walk(root):
        for name in ("id", "attr", "arg", "name", "asname", "rest"):
            value = getattr(node, name, None)
            if isinstance(value, str):
                names.add(value)
    return names


def _fresh(taken: set[str], dice: random.Random) -> str:
    """A name that nothing in the module uses."""
    while (name := f"{dice.choice(_WORDS)}_{dice.randrange(100)}") in taken:
        continue
    taken.add(name)
    return name


def _own_nodes(function: _Function) -> Iterator[ast.AST]:
    """The nodes of the function's own scope; of inner scopes only their root."""
    todo: list[ast.AST] = list(function.body)
    while todo:
        node = todo.pop()
        yield node
        if not isinstance(node, _SCOPES):
            todo += ast.iter_child_nodes(node)


def _rename_locals(function: _Function, taken: set[str], dice: random.Random) -> None:
    """Renames the variables that no inner scope, import, handler or declaration names too."""
    own = list(_own_nodes(function))
    variables = [node for node in own if isinstance(node, ast.Name)]
    others = [node for node in own if not isinstance(node, ast.Name)]
    fixed = {one.arg for one in ast.walk(function.args) if isinstance(one, ast.arg)}
    for node in others:
        if isinstance(node, _SCOPES):
            fixed |= _names_in(node)
        elif isinstance(node, ast.Global | ast.Nonlocal):
            fixed |= set(node.names)
        elif isinstance(node, ast.alias):
            fixed.add((node.asname or node.name).split(".")[0])
        else:
            fixed |= {str(getattr(node, name, "")) for name in ("name", "rest")}
    bound = {node.id for node in variables if not isinstance(node.ctx, ast.Load)}
    renamed = {name: _fresh(taken, dice) for name in sorted(bound - fixed)}
    for node in variables:
        node.id = renamed.get(node.id, node.id)


def _turn_ifs(function: _Function, dice: random.Random) -> None:
    """`if a: b else: c` to `if not a: c else: b`, here and there."""
    for node in list(_own_nodes(function)):
        if isinstance(node, ast.If) and dice.random() < _TURN:
            node.test = ast.UnaryOp(ast.Not(), node.test)
            node.body, node.orelse = node.orelse or [ast.Pass()], node.body


def _add_decoys(function: _Function, name: str, dice: random.Random) -> None:
    """Puts a variable at the start, and branches on it that are never taken."""
    blocks = [function.body]
    for node in _own_nodes(function):
        for branch in ("body", "orelse", "finalbody"):
            block = getattr(node, branch, None)
            if isinstance(block, list) and block and not isinstance(node, _SCOPES):
                blocks.append(block)
    documented = int(ast.get_docstring(function, clean=False) is not None)
    for block in blocks:
        if dice.random() < _DECOY:
            first = documented if block is function.body else 0
            block.insert(dice.randint(first, len(block)), _decoy(name, dice))
    start = ast.parse(f"{name} = {dice.randrange(1, 50)}").body
    function.body[documented:documented] = start


def _decoy(name: str, dice: random.Random) -> ast.stmt:
    step = dice.randrange(20)
    inside = dice.choice(
        (
            f"{name} = {name} {dice.choice('+ - * / // % **'.split())} {step}",
            f"{name} {dice.choice('+ - *'.split())}= {step}",
            f"{name} = {name} {dice.choice('< <= > >= == !='.split())} {step}",
            f"{name} = not {name} {dice.choice(('and', 'or'))} {dice.choice(('True', 'False'))}",
            f"{name} = {name} {dice.choice(('in', 'not in'))} (None, {step})",
            f"{name} = {name} {dice.choice(('is', 'is not'))} None",
            f"{name} = {dice.choice(_WORDS)!r}.{dice.choice(('lower', 'upper', 'strip'))}()",
            f"{name} = [{name}, {step}][{dice.choice(('1:', ':1', '::2', '-1'))}]",
            f"{name} = {dice.choice(('max', 'min', 'pow', 'divmod'))}({name}, {step})",
            f"raise ValueError({dice.choice(_WORDS)!r})",
        )
    )
    return ast.parse(f"if {name} > {_NEVER + dice.randrange(_NEVER)}:\n    {inside}").body[0]
