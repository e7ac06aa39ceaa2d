import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select
from sqlmodel import Session, col

from admin import charts, formats, wheel
from admin.paging import bounded_count
from collector.tables import Interaction


@given(st.floats(-1e6, 1e6), st.floats(0, 1e6), st.integers(2, 8))
def test_ticks_are_round_and_cover_their_range(low: float, span: float, about: int) -> None:
    ticks = charts.nice_ticks(low, low + span, about)
    assert ticks == sorted(set(ticks))
    assert 2 <= len(ticks) <= about + 3


def test_a_curve_stays_inside_its_box_and_skips_what_is_not_finite() -> None:
    chart = charts.line_chart({"training": [(0, 2.0), (1, math.nan), (2, 1.0)], "none": []})
    assert chart is not None
    (line,) = chart.lines
    points = [tuple(map(float, pair.split(","))) for pair in line.points.split()]
    assert len(points) == 2
    assert all(0 <= x <= chart.width and 0 <= y <= chart.height for x, y in points)
    assert points[0][1] < points[1][1], "a falling loss falls on the screen"
    assert charts.line_chart({"training": [(0, math.inf)]}) is None
    assert charts.line_chart({"training": [(3, 1.0)]}) is not None


def test_intervals_share_one_axis_with_its_zero() -> None:
    chart = charts.interval_chart(
        [("a", "x", 5.0, 1.0, 9.0), ("b", "x", None, None, None), ("c", "x", -2.0, None, None)],
        scale=1.0,
        include_zero=True,
    )
    assert chart is not None
    a, c = chart.rows
    assert a.start < a.at < a.end
    assert c.start == c.at == c.end < a.start
    assert chart.zero is not None
    assert c.at < chart.zero < a.start
    assert charts.interval_chart([("b", "x", None, None, None)]) is None


def test_a_gauge_says_whether_the_threshold_is_reached() -> None:
    below, above = charts.evidence_gauge(19.9, 20.0), charts.evidence_gauge(20.0, 20.0)
    assert below is not None
    assert above is not None
    assert not below.reached
    assert above.reached
    assert 0 < below.one_at < below.at < 1
    none = charts.evidence_gauge(0.0, 20.0)
    assert none is not None
    assert none.at == 0.0
    assert charts.evidence_gauge(None, 20.0) is None


def test_wilson_agrees_with_the_published_example() -> None:
    # 15 of 50: R's prop.test(15, 50, correct = FALSE) gives 0.1910 to 0.4375.
    low, high = charts.wilson(15, 50) or (0, 0)
    assert (round(low, 4), round(high, 4)) == (0.1910, 0.4375)
    assert charts.wilson(0, 0) is None


def test_the_wheel_goes_clockwise_from_the_top() -> None:
    stages = [wheel.Stage(str(n), "1", ("x",), "overview", True) for n in range(6)]
    drawn = wheel.draw(stages, turning=False)
    top, right = drawn.spokes[0], drawn.spokes[1]
    assert top.x == drawn.centre
    assert top.y < right.y < drawn.centre < right.x


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (0, "0"), (12345, "12,345"), (0.25, "0.25"), (3.0, "3")],
)
def test_numbers(value: float | None, shown: str) -> None:
    assert formats.number(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(9431, "9,431"), (48_210, "48.2k"), (999_900, "1M"), (1_340_000, "1.34M"), (2e9, "2G")],
)
def test_large_counts_stay_short(value: float, shown: str) -> None:
    assert formats.compact(value) == shown


def test_ages_and_lengths_of_time() -> None:
    present = datetime(2026, 1, 2, tzinfo=UTC)
    ages = [formats.age(present - timedelta(seconds=s), present) for s in (2, 59, 61, 7300, 2e5)]
    assert ages == ["just now", "59 s ago", "1 min ago", "2 h ago", "2 d ago"]
    assert formats.age(None) == "never"
    assert formats.age(present + timedelta(hours=1), present) == "just now"
    lengths = [formats.duration(s) for s in (0.84, 2.44, 312, 11_100)]
    assert lengths == ["840 ms", "2.4 s", "5 min 12 s", "3 h 05 min"]


def test_control_characters_are_shown_and_lines_kept() -> None:
    assert formats.reveal("a\n\tb\u202ec\x00") == "a\n\tb⟨U+202E⟩c⟨U+0000⟩"
    assert formats.reveal(3) == 3


def test_nested_values_are_flattened() -> None:
    tree = {"a": {"b": 1, "c": {}}, "d": None}
    assert formats.leaves(tree) == [("a.b", 1), ("a.c", {}), ("d", None)]
    assert formats.leaves({"b": [{"x": 1}, {"x": 2}], "a": [1]}) == [
        ("a", [1]),
        ("b.1.x", 1),
        ("b.2.x", 2),
    ]


def test_a_model_in_a_folder_is_called_by_its_last_part() -> None:
    assert formats.model_name("/srv/bases/demo-1f/") == "demo-1f"
    assert formats.model_name("Qwen/Qwen2.5-7B") == "Qwen/Qwen2.5-7B"


def test_points_carry_their_sign() -> None:
    assert [formats.points(v) for v in (18.24, -3, 0, None)] == ["+18.2", "−3.0", "±0.0", "–"]


def test_counting_stops_at_its_limit(session: Session) -> None:
    session.add_all(Interaction(role="coder") for _ in range(5))
    session.flush()
    query = select(col(Interaction.id))
    assert (bounded_count(session, query, 5).n, bounded_count(session, query, 5).mark) == (5, "")
    assert (bounded_count(session, query, 4).n, bounded_count(session, query, 4).mark) == (4, "+")
