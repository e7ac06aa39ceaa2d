"""Ratings (0-1) of the five SOLID principles, by stated heuristics on the syntax tree.

They are what a reader could point at, no proof of good design: each is the share of places that
keep the principle. A rating is None where the code has nothing to rate, which for a lone function
is most of them.

- single responsibility, over classes with two methods or more and functions that print or read
  input: a class keeps it when its methods hang together (one connected part by the attributes and
  methods they share, the LCOM4 of Hitz and Montazeri 1995), else it counts 1 / parts; a function
  keeps it unless it both talks to the user and computes a result.
- open-closed, over functions that choose by type: kept unless a chain of two or more `isinstance`
  or `type(x) ==` tests of one value would have to grow with every new type.
- Liskov substitution, over methods that override one of a base class in the same code: kept when
  the method can be called in all ways that the base's can, and does not refuse by
  NotImplementedError what the base does.
- interface segregation, over abstract classes and protocols: kept up to 5 abstract methods, then
  falling; over their subclasses in the same code: the share of abstract methods really written.
- dependency inversion, over what constructors keep: the share of collaborators that come in by
  parameter, not made inside by naming a class. Values of the standard library are no collaborators.
"""

import ast
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import fmean
from typing import Final

MOST_ABSTRACT_METHODS: Final = 5
PRINCIPLES: Final = (
    "single_responsibility",
    "open_closed",
    "liskov_substitution",
    "interface_segregation",
    "dependency_inversion",
)

Function = ast.FunctionDef | ast.AsyncFunctionDef
_ABSTRACT_BASES: Final = ("ABC", "Protocol")
_DIALOGUE: Final = ("print", "input")


@dataclass(frozen=True)
class _Class:
    """A class with its methods by name and the names of its bases."""

    node: ast.ClassDef
    methods: dict[str, Function]
    bases: tuple[str, ...]

    @property
    def abstract(self) -> list[str]:
        """Names of its abstract methods; those of a Protocol are, as long as they do nothing."""
        is_protocol = "Protocol" in self.bases
        return [
            name
            for name, method in self.methods.items()
            if _has_decorator(method, "abstractmethod") or (is_protocol and _is_stub(method))
        ]


def solid_ratings(tree: ast.Module) -> dict[str, float | None]:
    """Return each principle's rating, 0-1 or None, and `solid`, the mean of those there are."""
    nodes = list(ast.walk(tree))
    classes = {one.name: _read_class(one) for one in nodes if isinstance(one, ast.ClassDef)}
    functions = [one for one in nodes if isinstance(one, Function)]
    ratings = {
        "single_responsibility": _mean([*_cohesion(classes), *_one_job(functions)]),
        "open_closed": _mean(_choices_by_type(functions)),
        "liskov_substitution": _mean(_overrides(classes)),
        "interface_segregation": _mean([*_interfaces(classes), *_implementations(classes)]),
        "dependency_inversion": _mean(_collaborators(tree, classes)),
    }
    return {**ratings, "solid": _mean(value for value in ratings.values() if value is not None)}


def _read_class(node: ast.ClassDef) -> _Class:
    methods = {one.name: one for one in node.body if isinstance(one, Function)}
    return _Class(node, methods, tuple(filter(None, map(_last_name, node.bases))))


# --- single responsibility


def _cohesion(classes: dict[str, _Class]) -> Iterator[float]:
    """1 / connected parts of each class whose methods share or could share state."""
    for one in classes.values():
        methods = {
            name: set(_own_attributes(method))
            for name, method in one.methods.items()
            if not (name.startswith("__") and name.endswith("__")) and not _is_stub(method)
        }
        if len(methods) >= 2 and any(methods.values()):
            yield 1 / _connected_parts(methods)


def _own_attributes(method: Function) -> Iterator[str]:
    first = method.args.args[0].arg if method.args.args else "self"
    for node in ast.walk(method):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id == first:
                yield node.attr


def _connected_parts(methods: dict[str, set[str]]) -> int:
    """Number of groups of methods that neither share an attribute nor call each other."""
    groups: list[set[str]] = []
    for name, attributes in methods.items():
        joined = {name} | attributes
        apart = []
        for group in groups:
            if group & joined:
                joined |= group
            else:
                apart.append(group)
        groups = [*apart, joined]
    return len(groups)


def _one_job(functions: Iterable[Function]) -> Iterator[float]:
    for function in functions:
        inside = list(_inside(function))
        if any(_called_name(node) in _DIALOGUE for node in inside):
            gives = any(isinstance(node, ast.Return) and node.value for node in inside)
            yield float(not gives)


# --- open-closed


def _choices_by_type(functions: Iterable[Function]) -> Iterator[float]:
    """For each function that tests types: 1 unless it tests one value twice or more."""
    for function in functions:
        tested = Counter(filter(None, map(_type_tested, _inside(function))))
        if tested:
            yield float(max(tested.values()) < 2)


def _type_tested(node: ast.AST) -> str | None:
    """The name (`x`, `a.b`) whose type an `isinstance` or `type(x) ==` test asks for."""
    call = node.left if isinstance(node, ast.Compare) else node
    asked = "type" if isinstance(node, ast.Compare) else "isinstance"
    if _called_name(call) == asked and isinstance(call, ast.Call) and call.args:
        return _dotted(call.args[0])
    return None


# --- Liskov substitution


def _overrides(classes: dict[str, _Class]) -> Iterator[float]:
    for one in classes.values():
        for base in (classes[name] for name in one.bases if name in classes):
            for name, method in one.methods.items():
                if name in base.methods and name != "__init__":
                    yield float(_can_stand_for(method, base.methods[name]))


def _can_stand_for(method: Function, of: Function) -> bool:
    """Whether every call that suits `of` suits `method`, and it does not refuse what `of` does."""
    if _refuses(method) and not _is_stub(of):
        return False
    mine, theirs = method.args, of.args
    given, wanted = [*mine.posonlyargs, *mine.args], [*theirs.posonlyargs, *theirs.args]
    required = len(given) - len(mine.defaults)
    if required > len(wanted) - len(theirs.defaults):
        return False
    if len(given) < len(wanted) and mine.vararg is None:
        return False
    names = {one.arg for one in theirs.kwonlyargs}
    own = {one.arg for one in (*mine.kwonlyargs, *mine.args)}
    demanded = {
        one.arg
        for one, default in zip(mine.kwonlyargs, mine.kw_defaults, strict=True)
        if default is None
    }
    return demanded <= names and (names <= own or mine.kwarg is not None)


def _refuses(method: Function) -> bool:
    return any(isinstance(one, ast.Raise) and _is_not_implemented(one) for one in method.body)


# --- interface segregation


def _interfaces(classes: dict[str, _Class]) -> Iterator[float]:
    for one in classes.values():
        if one.abstract and any(base in _ABSTRACT_BASES for base in one.bases):
            yield min(1.0, MOST_ABSTRACT_METHODS / len(one.abstract))


def _implementations(classes: dict[str, _Class]) -> Iterator[float]:
    """For each subclass of an abstract class, the share of the methods that it really writes."""
    for one in classes.values():
        for base in (classes[name] for name in one.bases if name in classes):
            asked = [name for name in base.abstract if name in one.methods]
            if asked:
                yield fmean(float(not _is_stub(one.methods[name])) for name in asked)


# --- dependency inversion


def _collaborators(tree: ast.Module, classes: dict[str, _Class]) -> Iterator[float]:
    """For each thing that a constructor keeps: 1 if it was handed in, 0 if made of a named class.

    A class without anything made inside is only rated where a parameter's annotation names a
    class: plain values handed in are no collaborators.
    """
    library = _library_names(tree)
    for one in classes.values():
        constructor = one.methods.get("__init__")
        if constructor is None:
            continue
        handed_in = _class_parameters(constructor)
        for node in _inside(constructor):
            if isinstance(node, ast.Assign | ast.AnnAssign) and _is_kept(node):
                if isinstance(node.value, ast.Name) and node.value.id in handed_in:
                    yield 1.0
                elif _makes_collaborator(node.value, classes, library):
                    yield 0.0


def _class_parameters(constructor: Function) -> set[str]:
    named = [*constructor.args.posonlyargs, *constructor.args.args, *constructor.args.kwonlyargs]
    return {
        one.arg for one in named if one.annotation and _looks_like_class(_last_name(one.annotation))
    }


def _is_kept(node: ast.Assign | ast.AnnAssign) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return any(
        isinstance(one, ast.Attribute)
        and isinstance(one.value, ast.Name)
        and one.value.id == "self"
        for one in targets
    )


def _makes_collaborator(
    value: ast.expr | None, classes: dict[str, _Class], library: set[str]
) -> bool:
    if not isinstance(value, ast.Call):
        return False
    name = _last_name(value.func)
    return _looks_like_class(name) and _first_name(value.func) not in library


def _library_names(tree: ast.Module) -> set[str]:
    """Names that imports of the standard library bind."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] in sys.stdlib_module_names:
                    names.add((alias.asname or alias.name).split(".")[0])
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module.split(".")[0] in sys.stdlib_module_names:
                names |= {alias.asname or alias.name for alias in node.names}
    return names


# --- reading the tree


def _inside(function: Function) -> Iterator[ast.AST]:
    """The nodes of a function's body without those of functions and classes in it."""
    waiting: list[ast.AST] = list(function.body)
    for node in waiting:
        yield node
        if not isinstance(node, Function | ast.ClassDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)


def _called_name(node: ast.AST) -> str | None:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return node.func.id
    return None


def _last_name(node: ast.expr) -> str:
    """`c` of `a.b.c`, `c` of `c[...]`, empty for anything else."""
    if isinstance(node, ast.Subscript):
        node = node.value
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _dotted(node: ast.expr) -> str:
    """`a.b.c` as text, empty for anything but names and dots."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def _first_name(node: ast.expr) -> str:
    return _dotted(node).partition(".")[0]


def _looks_like_class(name: str) -> bool:
    bare = name.lstrip("_")
    return bare[:1].isupper() and not bare.isupper() and bare not in _VALUE_TYPES


_VALUE_TYPES: Final = frozenset(
    ("Any", "Dict", "FrozenSet", "List", "Literal", "None", "Optional", "Set", "Tuple", "Union")
)


def _has_decorator(function: Function, name: str) -> bool:
    return any(_last_name(one) == name for one in function.decorator_list)


def _is_stub(function: Function) -> bool:
    """Whether it does nothing: a docstring, `pass`, `...` or NotImplementedError."""
    return all(
        isinstance(one, ast.Pass)
        or (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))
        or (isinstance(one, ast.Raise) and _is_not_implemented(one))
        for one in function.body
    )


def _is_not_implemented(node: ast.Raise) -> bool:
    error = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
    return isinstance(error, ast.Name) and error.id == "NotImplementedError"


def _mean(values: Iterable[float]) -> float | None:
    known = list(values)
    return fmean(known) if known else None
