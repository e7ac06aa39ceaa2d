"""What crosses the border of a process: hostile bytes cost little, and comparing never throws."""

import json
import math
from collections import Counter
from decimal import Decimal
from fractions import Fraction

import pytest

from evaluator.sandbox import wire

MODULUS = 2**61 - 1
"""All its multiples have the hash 0."""


def crossed(value):
    return wire.decode(json.loads(json.dumps(wire.encode(value))))


@pytest.mark.parametrize(
    "data",
    [
        {"n": ["Fraction", "1e999999999"]},
        {"n": ["Fraction", "0.5"]},
        {"n": ["Fraction", "1/0"]},
        {"n": ["Fraction", "9" * 5000]},
        {"n": ["Decimal", "x"]},
        {"s": [number * MODULUS for number in range(30_000)]},
        {"z": [{"t": [number * MODULUS]} for number in range(10_000)]},
        {"d": [[number * MODULUS, 0] for number in range(20_000)]},
        {"o": ["Counter", [[number * MODULUS, 0] for number in range(20_000)]]},
        {"k": [number * MODULUS for number in range(20_000)]},
        {"m": [{"t": [number * MODULUS, 0]} for number in range(20_000)]},
        {"m": [1]},
        {"u": []},
        {"n": []},
        {"s": [[1]]},
        {"s": [{"n": ["Decimal", "sNaN"]}]},
    ],
    ids=lambda data: json.dumps(data)[:40],
)
def test_hostile_bytes_are_refused_at_once(data):
    with pytest.raises(wire.WireError):
        wire.decode(data)


@pytest.mark.parametrize(
    "value",
    [
        {2**power for power in range(2000)},
        set(range(-3, 3)),
        {(-1, -2): 1, (-2, -1): 2},
        {True: 1, "1": 2},
        Fraction(-3, 7),
        Fraction(5),
        Decimal("1e999999999"),
        Decimal("-0.10"),
        10**5000,
    ],
    ids=wire.show,
)
def test_honest_values_cross(value):
    assert wire.same(value, crossed(value))


def test_views_cross_where_they_are_rich():
    for view in ({1: 2}.items(), {1: 2}.keys()):
        assert wire.decode(wire.encode(view, rich=True)) == view


@pytest.mark.parametrize("other", ["sNaN", "NaN", "1", "Infinity"])
def test_decimals_are_compared_without_a_signal(other):
    assert not wire.same(Decimal("2"), Decimal(other))
    assert not wire.same(Decimal(other), Decimal("2"))
    assert wire.same(Decimal("sNaN"), Decimal("NaN"))
    assert wire.same(Decimal("1.0"), Decimal("1"))


@pytest.mark.parametrize(
    "value",
    [10**5000, [10**5000], Counter({1: object(), 2: object()}), 1],
    ids=["long", "longs", "objects", "one"],  # the same in every process that collects
)
def test_every_value_can_be_shown(value):
    assert wire.show(crossed(value))


def test_not_a_number_is_itself_only():
    assert wire.same(math.nan, crossed(math.nan))
    assert not wire.same(0.0, math.nan)
