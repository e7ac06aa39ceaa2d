"""What a knob may be: a check, and the range in words for who gave another value."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Final, Protocol

from foundation.errors import BadInput

Range = tuple[Callable[[Any], bool], str]

REMEDY: Final = "Correct the recipe, or start from a preset: default, plan, hafs or demo."


class Knobs(Protocol):
    """A dataclass of knobs that names the range of each."""

    RANGES: Mapping[str, Range]


def check(knobs: Any, where: str) -> None:
    """Check every field of a dataclass that has `RANGES`.

    Raises:
        BadInput: naming the field as `where.field`, its value and its range.
    """
    for field in fields(knobs):
        accepts, expected = knobs.RANGES[field.name]
        value = getattr(knobs, field.name)
        if not accepts(value):
            raise BadInput(f"{where}.{field.name}", value, expected, REMEDY)


def whole(at_least: int) -> Range:
    """A whole number."""

    def accepts(value: Any) -> bool:
        return type(value) is int and value >= at_least

    return accepts, f"a whole number of at least {at_least}"


def number(accepts: Callable[[float], bool], expected: str) -> Range:
    """A number that is neither infinite nor a boolean."""

    def fits(value: Any) -> bool:
        return type(value) in (int, float) and abs(value) != float("inf") and accepts(value)

    return fits, expected


def share(below_one: bool = False) -> Range:
    """A share of 0 to 1."""
    if below_one:
        return number(lambda x: 0 <= x < 1, "a share of 0 to below 1")
    return number(lambda x: 0 <= x <= 1, "a share of 0 to 1")


def positive() -> Range:
    """A number above 0."""
    return number(lambda x: x > 0, "a number above 0")


def not_negative() -> Range:
    """A number of at least 0."""
    return number(lambda x: x >= 0, "a number of at least 0")


def one_of(*choices: Any) -> Range:
    """One of a few values."""
    return (
        lambda value: any(value == one and type(value) is type(one) for one in choices),
        f"one of {', '.join(map(str, choices))}",
    )


def names(expected: str, *, may_be_empty: bool = False) -> Range:
    """A list of names."""

    def accepts(value: Any) -> bool:
        if not isinstance(value, tuple) or not (value or may_be_empty):
            return False
        return all(isinstance(name, str) and name for name in value)

    return accepts, expected


def name_or_none(expected: str) -> Range:
    """A name, or nothing."""
    return lambda value: value is None or (isinstance(value, str) and bool(value)), expected


def given(kind: type) -> Range:
    """A group of knobs, which checks itself."""
    return lambda value: isinstance(value, kind), f"a mapping of the knobs of {kind.__name__}"
