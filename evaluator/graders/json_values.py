"""JSON in what a model answered: alone or in one fence, strictly read, compared by value."""

import json
import math
import re
from collections.abc import Sequence
from typing import Any, Final, NoReturn

_FENCE = re.compile(r"^[ \t]*```[ \t]*+([\w+-]*+)[^\n]*+\n(.*?)(?:^[ \t]*```|\Z)", re.M | re.S)


class NotJson(ValueError):
    """Why a text is not one JSON value."""


def json_of(answer: str) -> Any:
    """Return the JSON value that an answer is, or that its one fenced block holds.

    Raises:
        NotJson: it holds none or several, a key twice, or a number that JSON does not have.
    """
    blocks = [code for name, code in _FENCE.findall(answer) if name.lower() in ("", "json")]
    if len(blocks) > 1:
        raise NotJson(f"{len(blocks)} fenced blocks, where one value was asked for")
    return parse(blocks[0] if blocks else answer)


def parse(text: str) -> Any:
    """Return the JSON value that a text is; raises as `json_of`."""
    try:
        return STRICT.decode(text)
    except RecursionError:
        raise NotJson("nested too deeply") from None
    except ValueError as error:
        raise NotJson(str(error)) from None


def same_json(one: Any, other: Any) -> bool:
    """Return whether two JSON values are equal: 1 and 1.0 are, true and 1 are not."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_json(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_json, one, other))
    return bool(one == other)


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise NotJson("a key stands twice in one object")
    return found


def _finite(number: str) -> float:
    value = float(number)
    return value if math.isfinite(value) else _refuse(number[:40])


def _refuse(constant: str) -> NoReturn:
    raise NotJson(f"{constant} is no JSON")


STRICT: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_refuse, parse_float=_finite
)
"""Refuses with `NotJson` what says a thing twice or is no plain value."""
