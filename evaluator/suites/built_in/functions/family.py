"""A family of tasks: one function, its rules, and the inputs on which it is judged."""

import copy
import inspect
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from evaluator.suites.built_in.functions.dice import Dice
from evaluator.suites.built_in.functions.source import signature_of, specialise

N_INPUTS = 25
N_DECOYS = 4

Rules = Mapping[str, Mapping[Any, str]]
Draw = Callable[[Dice], Sequence[Any]]


@dataclass(frozen=True)
class Result:
    """What a call gave: a value, or the name of the exception that it raised."""

    value: Any = None
    error: str | None = None


@dataclass(frozen=True)
class Family:
    """Tasks that rise and fall together: variants of one function.

    Attributes:
        function: the reference; its keyword-only parameters are the rules that vary.
        rules: parameter -> value -> the sentence that states the rule; a variant is one choice of
            values, all combinations together are the family.
        edges: argument lists chosen by hand; the first ones are the examples of the prompt.
        draw: draws a further argument list inside the domain of the function.
        tolerance: of floats, relative and absolute; None compares them exactly.
        n_examples: how many of `edges` the prompt shows.
    """

    function: Callable[..., Any]
    rules: Rules
    edges: Sequence[Sequence[Any]]
    draw: Draw
    tolerance: float | None
    n_examples: int

    @property
    def name(self) -> str:
        """The name of the function."""
        return self.function.__name__

    @property
    def domain(self) -> str:
        """The domain that the function's file is named after."""
        return self._file.rpartition("_")[0].replace("_", "-")

    @property
    def tier(self) -> str:
        """The tier that the function's file is named after."""
        return self._file.rpartition("_")[2]

    @property
    def _file(self) -> str:
        return self.function.__module__.rpartition(".")[2]

    def variants(self) -> list["Variant"]:
        """One variant per combination of rules, in the order in which they are written."""
        choices = itertools.product(*self.rules.values())
        return [
            Variant(self, number, dict(zip(self.rules, values, strict=True)))
            for number, values in enumerate(choices, start=1)
        ]

    @cached_property
    def all_inputs(self) -> list[list[Any]]:
        """Distinct argument lists, `edges` first; the last `N_DECOYS` are decoys."""
        dice = Dice(self.name)
        drawn = (list(self.draw(dice)) for _ in range(50 * N_INPUTS))
        distinct: dict[str, list[Any]] = {}
        for arguments in itertools.chain(map(list, self.edges), drawn):
            distinct.setdefault(json.dumps(arguments, sort_keys=True, allow_nan=False), arguments)
            if len(distinct) == N_INPUTS + N_DECOYS:
                break
        return list(distinct.values())


@dataclass(frozen=True)
class Variant:
    """One task of a family: its function under one choice of rules.

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

    @property
    def inputs(self) -> list[list[Any]]:
        """The argument lists on which an answer is judged."""
        return self.family.all_inputs[:-N_DECOYS]

    @property
    def decoys(self) -> list[list[Any]]:
        """Further argument lists, run and judged likewise."""
        return self.family.all_inputs[-N_DECOYS:]

    @property
    def signature(self) -> str:
        """The line `def ...:` that an answer must begin with."""
        return signature_of(self.family.function)

    @cached_property
    def code(self) -> str:
        """A module with this variant alone: no parameter for a rule, no branch never taken."""
        return specialise(self.family.function, self.choice)

    @cached_property
    def specification(self) -> str:
        """The docstring followed by the rules of this variant."""
        text = inspect.cleandoc(self.family.function.__doc__ or "")
        stated = [self.family.rules[name][value] for name, value in self.choice.items()]
        return "\n".join([text, "", "Rules:", *(f"- {rule}" for rule in stated)])

    def result(self, arguments: Sequence[Any]) -> Result:
        """Executes the reference on a copy of the arguments."""
        given = copy.deepcopy(list(arguments))
        try:
            return Result(self.family.function(*given, **self.choice))
        except (ValueError, KeyError, TypeError, ZeroDivisionError, IndexError) as error:
            return Result(error=type(error).__name__)

    def examples(self) -> list[str]:
        """The first edges with their true results, as lines of Python."""
        lines = []
        for arguments in self.family.edges[: self.family.n_examples]:
            call = f"{self.family.name}({', '.join(map(repr, arguments))})"
            found = self.result(arguments)
            lines.append(
                f"{call} == {found.value!r}" if found.error is None else f"{call}  # {found.error}"
            )
        return lines


def family(
    *,
    rules: Rules,
    edges: Sequence[Sequence[Any]],
    draw: Draw,
    tolerance: float | None = None,
    n_examples: int = 2,
) -> Callable[[Callable[..., Any]], Family]:
    """Makes a family of the function below; the arguments are those of `Family`."""

    def of(function: Callable[..., Any]) -> Family:
        return Family(function, rules, edges, draw, tolerance, n_examples)

    return of
