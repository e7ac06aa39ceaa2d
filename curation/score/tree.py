"""The syntax tree of a piece of Python, walked once: its nodes by kind, and what stands in what."""

import ast
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Final, TypeVar

Function = ast.FunctionDef | ast.AsyncFunctionDef
Node = TypeVar("Node", bound=ast.AST)

_LEAVES: Final = frozenset(
    ("arg", "asname", "attr", "ctx", "id", "kind", "kwd_attrs", "level", "module", "op", "ops")
) | {"rest", "type_comment", "type_ignores"}
"""Fields without nodes, and those that say no more than how a name is used or what is computed."""


def _kinds(base: type[ast.AST]) -> set[type[ast.AST]]:
    return {base}.union(*(_kinds(kind) for kind in base.__subclasses__()))


_FIELDS: Final = {
    kind: tuple(name for name in kind._fields if name not in _LEAVES)
    for kind in _kinds(ast.AST)
    if kind is not ast.Constant
}


@dataclass(frozen=True, slots=True)
class Tree:
    """All nodes of a tree but operators and contexts, breadth first."""

    by_kind: dict[type[ast.AST], list[ast.AST]]
    functions: list[Function]
    """Outer ones first."""
    function_around: dict[ast.AST, Function]
    """The innermost function that a node is part of, be it its body or its head."""

    def all_of(self, *kinds: type[Node]) -> list[Node]:
        """Return the nodes of some kinds, kind by kind."""
        found = (self.by_kind.get(kind, ()) for kind in kinds)
        return [node for nodes in found for node in nodes]  # type: ignore[misc]

    def count_inside(self, *kinds: type[ast.AST]) -> Counter[Function]:
        """Return how many nodes of some kinds each function holds, those of inner ones included."""
        counts: Counter[Function] = Counter()
        for node in self.all_of(*kinds):
            function = self.function_around.get(node)
            while function is not None:
                counts[function] += 1
                function = self.function_around.get(function)
        return counts


def walked(module: ast.Module) -> Tree:
    """Return the nodes of a parsed module."""
    tree = Tree(defaultdict(list), [], {})
    waiting: list[tuple[ast.AST, Function | None]] = [(module, None)]
    for node, function in waiting:
        tree.by_kind[type(node)].append(node)
        if function is not None:
            tree.function_around[node] = function
        if isinstance(node, Function):
            tree.functions.append(node)
            function = node
        for name in _FIELDS.get(type(node), ()):
            value = getattr(node, name)
            if isinstance(value, ast.AST):
                waiting.append((value, function))
            elif isinstance(value, list):
                waiting += [(each, function) for each in value if isinstance(each, ast.AST)]
    return tree
