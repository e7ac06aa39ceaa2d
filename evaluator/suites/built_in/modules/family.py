"""A family of modules: one real module, its rules, faults planted in its wiring, and its tests."""

import ast
import inspect
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import import_module
from types import ModuleType
from typing import Any

from evaluator.suites.built_in.functions.source import fold

NAME_IN_TESTS = "solution"
_HERE = __name__.rpartition(".")[0]
Rules = Mapping[str, Mapping[Any, str]]


@dataclass(frozen=True)
class Fault:
    """A slip in how the parts are wired, as an edit of the module's text.

    Attributes:
        says: what goes wrong.
        old: text that stands in the module once; variants without it do not have this fault.
        new: what stands there instead.
        only: rules under which it changes what happens; empty for all.
    """

    says: str
    old: str
    new: str
    only: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Checks:
    """How a family is judged; a file of `checks` holds one and the tests.

    Attributes:
        rules: constant of the module -> value -> the sentence that states the rule; a variant is
            one choice of values, all combinations together are the family.
        faults: planted in the wiring.
    """

    rules: Rules
    faults: Sequence[Fault]


@dataclass(frozen=True)
class Family:
    """Tasks that rise and fall together: variants of one module.

    Attributes:
        name: of the module.
        domain: that it belongs to.
        module: the parts.
        tests: the file of `checks`.
        checks: what that file says.
    """

    name: str
    domain: str
    module: ModuleType
    tests: ModuleType
    checks: Checks

    def variants(self) -> list["Variant"]:
        """One variant per combination of rules, in the order in which they are written."""
        rules = self.checks.rules
        return [
            Variant(self, number, dict(zip(rules, values, strict=True)))
            for number, values in enumerate(itertools.product(*rules.values()), start=1)
        ]


@dataclass(frozen=True)
class Variant:
    """One task of a family: its module under one choice of rules.

    Attributes:
        family: where it belongs.
        number: from 1, within the family.
        choice: value of each rule.
    """

    family: Family
    number: int
    choice: Mapping[str, Any]

    @property
    def task_id(self) -> str:
        """`<family>-<number>`."""
        return f"{self.family.name}-{self.number}"

    @cached_property
    def code(self) -> str:
        """The module without docstring, constants of rules and branches never taken."""
        return _folded(self.family.module, self.choice)

    @cached_property
    def tests(self) -> str:
        """Good pytest tests of this variant, which import it as `solution`."""
        return _folded(self.family.tests, self.choice)

    @cached_property
    def wrong(self) -> dict[str, str]:
        """The code with each of the faults that it can have, by what goes wrong."""
        return {
            fault.says: self.code.replace(fault.old, fault.new)
            for fault in self.family.checks.faults
            if self.code.count(fault.old) == 1 and fault.only.items() <= self.choice.items()
        }

    @cached_property
    def specification(self) -> str:
        """The docstring followed by the rules of this variant."""
        text = inspect.cleandoc(self.family.module.__doc__ or "")
        stated = [self.family.checks.rules[name][value] for name, value in self.choice.items()]
        return "\n".join([text, "", "Rules:", *(f"- {rule}" for rule in stated)])


@cache
def read_family(name: str, domain: str) -> Family:
    """Loads a module and its checks."""
    tests = import_module(f"{_HERE}.checks.{name}")
    return Family(name, domain, import_module(f"{_HERE}.{name}"), tests, tests.CHECKS)


@cache
def _parsed(module: ModuleType) -> tuple[str, ast.Module]:
    text = inspect.getsource(module)
    return text, ast.parse(text)


def _folded(module: ModuleType, choice: Mapping[str, Any]) -> str:
    """A file under one choice of rules; imports, then what they are for."""
    text, tree = _parsed(module)
    imports, parts = [], []
    for statement in tree.body[1:]:  # without its docstring
        if isinstance(statement, ast.Import | ast.ImportFrom):
            imports.append(_import(statement, choice))
        elif not _is_declaration(statement, choice):
            parts.append(fold(text, statement, choice))
    return "\n\n".join(["".join(imports), *parts]).lstrip()


def _import(statement: ast.Import | ast.ImportFrom, choice: Mapping[str, Any]) -> str:
    """The import as a test needs it: of the parts from `solution`, of declarations not at all."""
    if not isinstance(statement, ast.ImportFrom) or not (statement.module or "").startswith(_HERE):
        return f"{ast.unparse(statement)}\n"
    if statement.module == __name__:
        return ""
    names = ", ".join(item.name for item in statement.names if item.name not in choice)
    return f"from {NAME_IN_TESTS} import {names}\n"


def _is_declaration(statement: ast.stmt, choice: Mapping[str, Any]) -> bool:
    """Whether it states the value of a rule, or the checks."""
    if not isinstance(statement, ast.Assign):
        return False
    names = {getattr(target, "id", "") for target in statement.targets}
    return bool(names & {*choice, "CHECKS"})
