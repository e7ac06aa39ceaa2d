"""Judges tests of `cleaning_pipeline`."""

from evaluator.suites.built_in.modules.cleaning_pipeline import (
    CLIP,
    KEEP_FIRST,
    Ranges,
    Store,
    load,
)
from evaluator.suites.built_in.modules.family import Checks, Fault

CHECKS = Checks(
    rules={
        "KEEP_FIRST": {
            True: "Of one sensor and minute the first value stays; later ones are duplicates.",
            False: "Of one sensor and minute the last value stays; none is a duplicate.",
        },
        "CLIP": {
            True: "A value out of range is moved to the nearest end of the range.",
            False: "A value out of range is rejected.",
        },
    },
    faults=[
        Fault(
            "the range is not checked",
            "store.write(ranges.check(parse(line)))",
            "store.write(parse(line))",
        ),
        Fault(
            "what was checked is not what is stored",
            "store.write(ranges.check(parse(line)))",
            "store.write([parse(line), ranges.check(parse(line))][0])",
            only={"CLIP": True},
        ),
        Fault(
            "the first bad line ends the load",
            "rejected.append((number, str(error)))",
            "return [(number, str(error))]",
        ),
        Fault(
            "values are stored before they are checked",
            "store.write(ranges.check(parse(line)))",
            "store.write(parse(line)), ranges.check(parse(line))",
        ),
        Fault(
            "reasons are lost",
            "rejected.append((number, str(error)))",
            "rejected.append((number, 'format'))",
        ),
        Fault(
            "the store forgets earlier loads",
            "    rejected = []\n",
            "    rejected = []\n    store.values.clear()\n",
        ),
    ],
)


def ranges() -> Ranges:
    """Of two sensors."""
    return Ranges({"in": (150, 300), "out": (-300, 450)})


def test_lines_reach_the_store_in_the_range_of_their_sensor() -> None:
    """Both ends are inside."""
    store = Store()
    lines = ["in 1 150", "in 2 300", "in 3 301", "out 3 301", "out 4 -300", "in 5 149"]
    rejected = load(lines, ranges(), store)
    inside = {("in", 1): 150, ("in", 2): 300, ("out", 3): 301, ("out", 4): -300}
    clipped = {("in", 3): 300, ("in", 5): 150} if CLIP else {}
    assert store.values == inside | clipped
    assert rejected == ([] if CLIP else [(3, "range"), (6, "range")])


def test_bad_lines_do_not_stop_the_good_ones() -> None:
    """They are numbered as they stand."""
    store = Store()
    rejected = load(["in 1", "cellar 1 20", "", "in one 200", "in 1 200", "x"], ranges(), store)
    assert rejected == [(1, "format"), (2, "sensor"), (3, "format"), (4, "format"), (6, "format")]
    assert store.values == {("in", 1): 200}


def test_one_value_for_each_minute() -> None:
    """Also from one load to the next."""
    store = Store()
    first = load(["in 1 200", "in 1 210", "out 1 220"], ranges(), store)
    second = load(["out 1 230", "in 2 240"], ranges(), store)
    assert first == ([(2, "duplicate")] if KEEP_FIRST else [])
    assert second == ([(1, "duplicate")] if KEEP_FIRST else [])
    assert store.values == {
        ("in", 1): 200 if KEEP_FIRST else 210,
        ("out", 1): 220 if KEEP_FIRST else 230,
        ("in", 2): 240,
    }


def test_a_bad_value_and_then_a_good_one() -> None:
    """What was rejected takes no place."""
    store = Store()
    rejected = load(["in 7 900", "in 7 250"], ranges(), store)
    expected = (300 if KEEP_FIRST else 250) if CLIP else 250
    assert store.values == {("in", 7): expected}
    assert [number for number, _ in rejected] == ([2] if KEEP_FIRST else []) if CLIP else [1]
