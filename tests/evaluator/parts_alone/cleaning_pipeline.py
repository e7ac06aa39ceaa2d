"""Each part of `cleaning_pipeline` alone, with stand-ins for the others."""

import pytest
from solution import Ranges, Reading, Rejected, Store, load, parse


class Anything:
    def check(self, reading):
        return reading


class Nothing:
    def check(self, reading):
        raise Rejected("range")


class Sink:
    def write(self, reading):
        pass


def test_parse():
    assert parse("in 3 -200") == Reading("in", 3, -200)
    for line in ("", "in", "in 3", "in x 3", "in 3 x"):
        with pytest.raises(Rejected, match="format"):
            parse(line)


def test_ranges():
    ranges = Ranges({"in": (150, 300)})
    for value, kept in ((149, 150), (150, 150), (200, 200), (300, 300), (301, 300)):
        assert ranges.check(Reading("in", 1, value)) == Reading("in", 1, kept)
    with pytest.raises(Rejected, match="sensor"):
        ranges.check(Reading("out", 1, 200))


def test_store():
    store = Store()
    store.write(Reading("in", 1, 200))
    store.write(Reading("in", 2, 210))
    with pytest.raises(Rejected, match="duplicate"):
        store.write(Reading("in", 1, 220))
    assert store.values == {("in", 1): 200, ("in", 2): 210}


def test_load():
    assert load(["in 1 2", "in 1 3"], Anything(), Sink()) == []
    assert load(["in 1 2"], Nothing(), Sink()) == [(1, "range")]
    assert load(["bad", "in 1 2"], Anything(), Sink()) == [(1, "format")]
