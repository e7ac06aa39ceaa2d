"""Plain values as tagged JSON, so that type differences survive the crossing of a process border.

`(1,)`, `[1]`, `{1}`, `1`, `True` and `1.0` all stay what they are. Anything that is not exactly a
known plain type (a subclass, a lambda, an object with its own `__eq__`) becomes `Opaque`, which is
equal to nothing. Standard library only: this module is also loaded inside the sandbox.
"""

import json
import math
import re
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from decimal import Decimal
from fractions import Fraction
from itertools import groupby
from typing import Any, NoReturn

MAX_DEPTH = 100
MAX_ITERATED = 100_000
MAX_ALIKE = 256
"""Members of one set or mapping with the same hash; each is compared with all others."""
_SAFE_INT = 2**53


class WireError(ValueError):
    """The bytes are not a value of this format."""


class Opaque:
    """A value that could not cross: equal to nothing, and using it in a test fails the test.

    Attributes:
        type_name: what it was.
        truth: whether it was true, where that was asked; fixed when it crossed, so it says no more
            than a plain bool would have.
    """

    def __init__(self, type_name: str, truth: bool | None = None) -> None:
        self.type_name, self.truth = type_name, truth

    def _refuse(self, *_: Any) -> NoReturn:
        raise AssertionError(f"a value of type {self.type_name} is not a plain value")

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse
    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        return self._refuse() if self.truth is None else self.truth

    def __repr__(self) -> str:
        return f"<opaque {self.type_name}>"


_ITERATORS: tuple[type, ...] = (
    type(_ for _ in [0]),
    map,
    filter,
    zip,
    reversed,
    enumerate,
    type(iter([])),
    type(iter(())),
    type(iter({})),
    type(iter(set())),
)
_DICT_VIEWS: dict[type, str] = {type({}.keys()): "k", type({}.values()): "w", type({}.items()): "m"}


def encode(value: Any, *, rich: bool = False, depth: int = 0) -> Any:
    """Turns a value into JSON-able data.

    Args:
        value: anything; only exact plain types keep their content.
        rich: also drain iterators and dict views, and tell the truth of other objects (for tests
            that say `list(f(x))` or `assert f(x)`).
        depth: nesting so far; deeper than `MAX_DEPTH` the value is opaque.

    Returns:
        Data for `json.dumps`.
    """
    kind = type(value)
    if value is None or kind is bool or kind is str or kind is float:
        return value
    if kind is int:
        return value if -_SAFE_INT <= value <= _SAFE_INT else {"i": hex(value)}
    if depth >= MAX_DEPTH:
        return {"u": [f"nested deeper than {MAX_DEPTH}", None]}

    def inner(items: Any) -> list[Any]:
        return [encode(item, rich=rich, depth=depth + 1) for item in items]

    def pairs(mapping: Any) -> list[Any]:
        return [inner(pair) for pair in mapping.items()]

    if kind is list:
        return inner(value)
    if kind is tuple:
        return {"t": inner(value)}
    if kind is set or kind is frozenset:
        return {"s" if kind is set else "z": sorted(inner(value), key=json.dumps)}
    if kind is dict:
        return {"d": pairs(value)}
    if kind is OrderedDict or kind is Counter or kind is defaultdict:
        return {"o": [kind.__name__, pairs(value)]}
    if kind is bytes or kind is bytearray:
        return {"b" if kind is bytes else "y": value.hex()}
    if kind is complex:
        return {"c": [value.real, value.imag]}
    if kind is deque:
        return {"q": inner(value)}
    if kind is range:
        return {"r": inner((value.start, value.stop, value.step))}
    if kind is Decimal or kind is Fraction:
        return {"n": [kind.__name__, str(value)]}
    if rich and kind in _DICT_VIEWS:
        return {_DICT_VIEWS[kind]: inner(value)}
    if rich and kind in _ITERATORS:
        return {"it": inner(item for item, _ in zip(value, range(MAX_ITERATED), strict=False))}
    return {"u": [kind.__name__, bool(value) if rich else None]}


def _fraction(text: str) -> Fraction:
    """A fraction of whole numbers: Python would also raise ten to any written exponent."""
    if not re.fullmatch(r"-?\d+(/\d+)?", text):
        raise WireError("not a fraction of whole numbers")
    return Fraction(text)


def _members(data: Iterable[Any]) -> list[Any]:
    """What is to be hashed; hostile code can choose values that all have the same hash."""
    found = [decode(item) for item in data]
    alike = (sum(1 for _ in group) for _, group in groupby(sorted(map(hash, found))))
    if max(alike, default=0) > MAX_ALIKE:
        raise WireError(f"more than {MAX_ALIKE} members with the same hash")
    return found


def _pairs(data: Iterable[Any]) -> list[tuple[Any, Any]]:
    keys, values = [], []
    for key, value in data:
        keys.append(key)
        values.append(decode(value))
    return list(zip(_members(keys), values, strict=True))


_MAPPINGS: dict[str, Callable[[Any], Any]] = {
    "OrderedDict": lambda data: OrderedDict(_pairs(data)),
    "Counter": lambda data: Counter(dict(_pairs(data))),
    "defaultdict": lambda data: defaultdict(None, _pairs(data)),
}
_NUMBERS: dict[str, Callable[[Any], Any]] = {"Decimal": Decimal, "Fraction": _fraction}
_DECODERS: dict[str, Callable[[Any], Any]] = {
    "i": lambda data: int(data, 16),
    "t": lambda data: tuple(map(decode, data)),
    "s": lambda data: set(_members(data)),
    "z": lambda data: frozenset(_members(data)),
    "d": lambda data: dict(_pairs(data)),
    "o": lambda data: _MAPPINGS[data[0]](data[1]),
    "b": bytes.fromhex,
    "y": bytearray.fromhex,
    "c": lambda data: complex(data[0], data[1]),
    "q": lambda data: deque(map(decode, data)),
    "r": lambda data: range(*map(decode, data)),
    "n": lambda data: _NUMBERS[data[0]](data[1]),
    "k": lambda data: dict.fromkeys(_members(data)).keys(),
    "w": lambda data: dict(enumerate(map(decode, data))).values(),
    "m": lambda data: dict(_pairs(item["t"] for item in data)).items(),
    "it": lambda data: iter(list(map(decode, data))),
    "u": lambda data: Opaque(str(data[0])[:200], None if data[1] is None else data[1] is True),
}


def decode(data: Any) -> Any:
    """Turns JSON data made by `encode` back into a value.

    Raises:
        WireError: the data is not of this format (it may come from hostile code).
    """
    if isinstance(data, list):
        return [decode(item) for item in data]
    if not isinstance(data, dict):
        return data
    try:
        ((tag, content),) = data.items()
        return _DECODERS[tag](content)
    except (LookupError, ValueError, TypeError, ArithmeticError, AttributeError) as error:
        raise WireError(f"not a tagged value: {type(error).__name__}") from None


def same(expected: Any, got: Any, tolerance: float | None = None) -> bool:
    """Tells whether two decoded values are equal with exactly equal types, at every depth.

    NaN equals NaN, of floats and of decimals. `Opaque` equals nothing.

    Args:
        expected: the trusted value.
        got: the value under judgement, made of plain types.
        tolerance: relative and absolute tolerance of floats; None compares them exactly.
    """
    kind = type(expected)
    if type(got) is not kind or kind is Opaque:
        return False
    if kind is float:
        if math.isnan(expected) or math.isnan(got):
            return math.isnan(expected) and math.isnan(got)
        if tolerance is None:
            return bool(expected == got)
        return math.isclose(expected, got, rel_tol=tolerance, abs_tol=tolerance)
    if kind is Decimal and (expected.is_nan() or got.is_nan()):
        return bool(expected.is_nan() and got.is_nan())
    if kind in (list, tuple, deque):
        return len(expected) == len(got) and all(
            same(one, other, tolerance) for one, other in zip(expected, got, strict=True)
        )
    if kind in (set, frozenset):
        return {_key(item) for item in expected} == {_key(item) for item in got}
    if kind in (dict, OrderedDict, Counter, defaultdict):
        left = {_key(key): value for key, value in expected.items()}
        right = {_key(key): value for key, value in got.items()}
        if kind is OrderedDict and list(left) != list(right):
            return False
        return left.keys() == right.keys() and all(
            same(value, right[key], tolerance) for key, value in left.items()
        )
    return bool(expected == got)


def show(value: Any) -> str:
    """The `repr` of a decoded value, or words where it has none.

    A whole number of very many digits has none, nor has a Counter of what cannot be ordered.
    """
    try:
        return repr(value)
    except (ValueError, TypeError, ArithmeticError, AssertionError, RecursionError):
        return f"<{type(value).__name__} that cannot be shown>"


def _key(value: Any) -> str:
    """A text that is equal exactly for values of equal type and content."""
    return json.dumps(encode(value))
