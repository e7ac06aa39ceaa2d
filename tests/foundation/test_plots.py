"""The geometry of the report's plots: right at the boundaries, silent where nothing is known."""

import math

import pytest

from foundation.plots import (
    BOTTOM,
    LEFT,
    MARGIN,
    TOP,
    Estimate,
    Scale,
    columns,
    curves,
    forest,
    parts,
    ticks,
)

END = 100 - MARGIN
LINES = {"zero": 0.0, "deploy": 10.0}


def main(value, low, high):
    return Estimate(value, low, high, is_main=True)


def test_a_scale_meets_its_ends_and_goes_no_further():
    scale = Scale(-10, 30)
    assert (scale.at(-10), scale.at(30)) == (MARGIN, END)
    assert scale.at(10) == pytest.approx(50)
    assert (scale.at(-99), scale.at(99)) == (MARGIN, END)
    assert Scale(5, 5).at(5) == 50


def test_all_rows_of_a_forest_share_one_axis():
    found = forest([main(10, 0, 20), Estimate(10, 5, 15)], LINES)
    assert found.marks[0].at == found.marks[1].at == found.lines["deploy"]
    assert found.marks[0].start == found.lines["zero"]
    assert [tick.label for tick in found.ticks] == ["0", "+5", "+10", "+15", "+20"]
    middle = found.ticks[2]
    assert middle.at == found.lines["deploy"]


def test_an_interval_that_would_squeeze_the_others_is_cut_and_says_so():
    found = forest([main(10, 5, 15), Estimate(0, -100, 100)], LINES)
    whole, wide = found.marks
    assert (wide.is_cut_low, wide.is_cut_high) == (True, True)
    assert (wide.start, wide.end) == (MARGIN, END)
    assert (whole.is_cut_low, whole.is_cut_high) == (False, False)
    assert whole.end - whole.start > 15


def test_the_main_interval_is_never_cut():
    [mark] = forest([main(0, -100, 100)], LINES).marks
    assert (mark.start, mark.end) == (MARGIN, END)
    assert (mark.is_cut_low, mark.is_cut_high) == (False, False)


def test_a_band_lies_evenly_around_zero():
    found = forest([main(3, -2, 8)], LINES, band=4.0)
    low, high = found.band
    assert (low + high) / 2 == pytest.approx(found.lines["zero"])
    assert forest([main(3, -2, 8)], LINES, band=None).band is None
    assert forest([main(3, -2, 8)], LINES, band=math.nan).band is None


@pytest.mark.parametrize("unknown", [None, math.nan, math.inf])
def test_what_is_unknown_is_not_drawn(unknown):
    [mark] = forest([main(unknown, unknown, unknown)], {}).marks
    assert (mark.at, mark.start, mark.end) == (None, None, None)
    [mark] = forest([main(90.0, 80.0, unknown)], {"limit": 90.0}, bounds=(0, 1e6)).marks
    assert mark.end is None
    assert mark.start < mark.at


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 100, [0, 20, 40, 60, 80, 100]),
        (-4, 21, [0, 5, 10, 15, 20]),
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0, 0.3, [0, 0.1, 0.2, 0.3]),
        (7, 7, [7]),
    ],
)
def test_ticks_are_round_and_inside(low, high, expected):
    assert ticks(low, high, 5) == expected


def test_a_curve_runs_from_corner_to_corner_and_breaks_at_gaps():
    found = curves(
        {"a": [(0, 0.0), (50, None), (100, 100.0)], "b": [(0, 50.0), (100, math.nan)]},
        (0, 100),
        (0, 100),
    )
    whole, half = found.curves
    assert [(one.x, one.y) for one in whole.points] == [(LEFT, BOTTOM), (END, TOP)]
    assert whole.stretches == ()
    assert half.points[0].y == pytest.approx((TOP + BOTTOM) / 2)


def test_neighbouring_points_are_joined():
    [curve] = curves({"a": [(1, 1.0), (2, 4.0), (3, 2.0)]}, (1, 3)).curves
    assert len(curve.stretches) == 2
    assert curve.points[1].y == TOP  # the highest value is the end of the axis


def test_curves_of_nothing_are_none():
    assert curves({}, (0, 1)) is None
    assert curves({"a": [(0, None)], "b": []}, (0, 1)) is None
    assert curves({"a": [(0, 0.0)]}, (0, 1)).curves[0].points[0].y == BOTTOM


def test_columns_of_both_sides_stand_beside_each_other_on_one_scale():
    found = columns({"old": [0, 10], "new": [5, 10]}, ["0", "1"])
    old, new = found.by_side["old"], found.by_side["new"]
    assert old[1].height == new[1].height == 2 * new[0].height
    assert old[0].height == 0
    assert all(one.y + one.height == pytest.approx(BOTTOM) for one in (*old, *new))
    assert new[1].x == pytest.approx(old[1].x + old[1].width)
    assert new[1].x + new[1].width < END
    assert columns({"old": [0, 0]}, ["0", "1"]) is None


def test_parts_fill_the_whole_and_leave_out_what_is_empty():
    found = parts({"better": 1, "alike": 0, "worse": 3})
    assert [(one.label, one.x, one.width) for one in found] == [
        ("better", 0, 25),
        ("worse", 25, 75),
    ]
    assert parts({"better": 0}) == []
