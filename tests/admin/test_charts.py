"""Pictures stay inside their box, keep extremes, and take what data there is, or none."""

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from admin import charts
from admin.rendering import _templates

BIG = st.floats(-1e300, 1e300)
ANY = BIG | st.sampled_from([math.nan, math.inf, -math.inf])
POINTS = st.lists(st.tuples(st.floats(-1e9, 1e9), ANY), max_size=60)


def placed(points: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in points.split())]


@given(POINTS, st.booleans())
def test_a_plot_stays_inside_its_box(points: list[tuple[float, float]], log: bool) -> None:
    chart = charts.plot({"a": points}, label="x", log=log)
    drawable = [y for _, y in points if math.isfinite(y) and (y > 0 or not log)]
    if not drawable:
        assert chart is None
        return
    assert chart is not None
    (curve,) = chart.curves
    for x, y in placed(curve.points):
        assert 0 <= x <= 1000
        assert chart.top - 0.1 <= y <= chart.bottom + 0.1
    assert all(0 <= tick.at <= 100 for tick in chart.x_ticks)
    assert all(chart.top - 0.1 <= tick.at <= chart.bottom + 0.1 for tick in chart.y_ticks)
    assert len(chart.data.rows) <= charts.TABLE_ROWS
    assert bool(chart.notes) == (len(drawable) < len(points))


@given(st.lists(st.floats(1e-12, 1e12), min_size=2, max_size=30, unique=True), st.booleans())
def test_higher_values_never_stand_lower(values: list[float], log: bool) -> None:
    chart = charts.plot({"a": list(enumerate(sorted(values)))}, label="x", log=log)
    assert chart is not None
    ys = [y for _, y in placed(chart.curves[0].points)]
    assert ys == sorted(ys, reverse=True)


@given(st.lists(BIG, min_size=1, max_size=3000), st.integers(10, 400))
def test_thinning_keeps_both_extremes_and_both_ends(values: list[float], most: int) -> None:
    points = list(enumerate(values))
    kept = charts.thinned([(float(x), y) for x, y in points], most)
    assert len(kept) <= most
    assert kept == sorted(kept)
    assert min(y for _, y in kept) == min(values)
    assert max(y for _, y in kept) == max(values)
    assert (kept[0][1], kept[-1][1]) == (values[0], values[-1])


def test_a_spike_among_a_hundred_thousand_points_is_drawn() -> None:
    points = [(float(x), 100.0 if x == 77_777 else 1.0) for x in range(100_000)]
    chart = charts.plot({"loss": points}, label="Loss")
    assert chart is not None
    drawn = placed(chart.curves[0].points)
    assert len(drawn) <= charts.POINTS_AT_MOST
    assert min(y for _, y in drawn) == pytest.approx(chart.top, abs=0.1)
    assert chart.data.note == "Every 1667th of 100,000 rows, back from the last."
    assert chart.data.rows[-1][0] == "100k"


def test_evidence_on_a_log_axis_with_its_threshold() -> None:
    start = datetime(2026, 3, 1, tzinfo=UTC)
    looks = [(start + timedelta(days=day), 10.0 ** (day / 10)) for day in range(30)]
    chart = charts.plot({"e-value": looks}, label="Evidence", levels={"threshold": 20}, log=True)
    assert chart is not None
    (level,) = chart.levels
    ys = [y for _, y in placed(chart.curves[0].points)]
    crossed = next(day for day, y in enumerate(ys) if y <= level.at)
    assert crossed == math.ceil(10 * math.log10(20))
    assert [tick.label for tick in chart.y_ticks] == ["1", "10", "100", "1,000"]
    assert chart.x_ticks[0].label.endswith(" Mar")
    assert chart.x_title == "UTC"
    assert chart.label == "Evidence. Last: e-value 794.3."


def test_ticks_of_hours_can_be_put_into_the_viewers_zone() -> None:
    start = datetime(2026, 3, 1, 9, 7, tzinfo=UTC)
    chart = charts.plot({"x": [(start, 1.0), (start + timedelta(hours=4), 2.0)]}, label="x")
    assert chart is not None
    assert [tick.label for tick in chart.x_ticks] == ["10:00", "11:00", "12:00", "13:00"]
    assert chart.x_ticks[0].time == "2026-03-01T10:00:00+00:00"


def test_a_band_without_end_reaches_the_edge_and_keeps_its_widest() -> None:
    rows = [(float(n), -math.inf if n < 5 else -1.0 / n, 1.0 / (n + 1)) for n in range(1000)]
    chart = charts.plot(
        {"estimate": [(float(n), 0.0) for n in range(1000)]},
        bands={"estimate": rows},
        label="x",
        within=(-0.5, 0.5),
    )
    assert chart is not None
    (band,) = chart.bands
    points = placed(band.points)
    assert band.tone == chart.curves[0].tone
    assert len(points) <= charts.POINTS_AT_MOST
    assert all(chart.top - 0.1 <= y <= chart.bottom + 0.1 for _, y in points)
    assert points[-1] == (0.0, chart.bottom), "without a lower bound it reaches the bottom"
    assert chart.data.rows[0][2] == "-0.001001 to 0.001" or "to" in chart.data.rows[0][2]


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("value", [0.0, 5.0, -5.0, 1e-300, 1e300])
def test_one_point_and_equal_values_have_an_axis(value: float, log: bool) -> None:
    for n in (1, 3):
        chart = charts.plot({"a": [(x, value) for x in range(n)]}, label="x", log=log)
        if log and value <= 0:
            assert chart is None
        else:
            assert chart is not None
            assert len(chart.y_ticks) >= 2


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=30), st.floats(-5, 40))
def test_columns_stand_on_the_axis_beside_each_other(counts: list[int], mark: float) -> None:
    bins = [(float(i), float(i + 1), n) for i, n in enumerate(counts)]
    chart = charts.histogram(bins, label="x", marks={"median": mark})
    if not any(counts):
        assert chart is None
        return
    assert chart is not None
    for column, beside in zip(chart.columns, chart.columns[1:], strict=False):
        assert column.x + column.width <= beside.x
    for column in chart.columns:
        assert column.y + column.height == pytest.approx(chart.bottom, abs=0.11)
        assert column.y >= 21.9
    heights = [c.height for c in chart.columns]
    assert heights.index(max(heights)) in [i for i, n in enumerate(counts) if n == max(counts)] or (
        max(counts) - counts[heights.index(max(heights))] < max(counts) / 500
    )
    if 0 <= mark <= len(counts):
        assert chart.marks[0].at == pytest.approx(100 * mark / len(counts), abs=0.01)
    else:
        assert chart.marks == ()


def test_marks_stand_by_their_value_in_bins_of_any_width() -> None:
    chart = charts.histogram([(0, 16, 1), (16, 32, 2), (32, None, 1)], label="x",
                             marks={"p95": 40, "median": 24})  # fmt: skip
    assert chart is not None
    assert [(m.name, m.at, m.level) for m in chart.marks] == [
        ("median", 50.0, 0),
        ("p95", 83.33, 1),
    ]
    assert chart.columns[-1].label == "32 and more"
    assert charts.histogram([], label="x") is None


ROWS = st.dictionaries(
    st.text(max_size=5), st.dictionaries(st.text(max_size=3), ANY, max_size=4), max_size=6
)


@given(ROWS, st.booleans(), st.booleans())
def test_parts_of_a_bar_fill_it_and_no_more(
    rows: dict[str, dict[str, float]], grouped: bool, shares: bool
) -> None:
    rows = {k: {n: min(v, 1e15) for n, v in parts.items()} for k, parts in rows.items()}
    chart = charts.parted_bars(rows, label="x", grouped=grouped, shares=shares)
    if chart is None:
        assert not any(v > 0 for parts in rows.values() for v in parts.values() if math.isfinite(v))
        return
    for row in chart.rows:
        ends = [part.x + part.width for part in row.parts]
        assert all(end <= 100.01 for end in ends)
        if shares and not grouped and row.total:
            assert ends[-1] == pytest.approx(100, abs=0.01)


@given(st.lists(st.one_of(st.none(), ANY), max_size=200))
def test_a_trend_stays_in_its_box(values: list[float | None]) -> None:
    chart = charts.trend(values, label="x")
    known = [v for v in values if v is not None and math.isfinite(v)]
    if len(known) < 2:
        assert chart is None
        return
    assert chart is not None
    assert all(0 <= x <= 100 and 0 <= y <= chart.height for x, y in placed(chart.points))


DOTS = st.tuples(st.sampled_from(["old", "new"]), *[st.one_of(st.none(), ANY)] * 3)


@given(
    st.lists(st.tuples(st.text(max_size=4), st.just(""), st.lists(DOTS, max_size=3)), max_size=5)
)
def test_dots_stay_on_their_axis(rows: list[tuple[str, str, list[charts.DotGiven]]]) -> None:
    chart = charts.dot_plot(rows, label="x", zero=0.0, within=(-1.0, 1.0))
    known = [d for *_, ds in rows for d in ds if d[1] is not None and math.isfinite(d[1])]
    if not known:
        assert chart is None
        return
    assert chart is not None
    for row in chart.rows:
        for dot in row.dots:
            assert all(3 <= at <= 97 for at in (dot.start, dot.at, dot.end))
    assert chart.zero is not None
    assert 3 <= chart.zero <= 97
    assert chart.legend[0][1] == "c0"


def test_what_is_hostile_is_text_in_every_picture() -> None:
    """Names come from the log: they stand as text, and no picture has a style of its own."""
    evil = '"><script>alert(1)</script>'
    made = [
        ("plot", charts.plot({evil: [(0, 1.0), (1, 2.0)]}, label=evil, levels={evil: 1.5})),
        ("histogram", charts.histogram([(0, 1, 3)], label=evil, marks={evil: 0.5}, x_title=evil)),
        ("parted_bars", charts.parted_bars({evil: {evil: 1, "b": 2}}, label=evil)),
        ("trend", charts.trend([1, 2], label=evil)),
        ("dot_plot", charts.dot_plot([(evil, evil, [(evil, 1, 0, 2)])], label=evil)),
    ]
    environment = _templates().env
    for macro, chart in made:
        assert chart is not None
        source = f'{{% from "_macros.html" import {macro} %}}{{{{ {macro}(chart) }}}}'
        html = environment.from_string(source).render(chart=chart)
        assert "<script" not in html
        assert "style=" not in html
        assert 'role="img"' in html or macro == "dot_plot"
        assert "&lt;script&gt;" in html
        nothing = environment.from_string(source).render(chart=None)
        assert nothing.strip() == ""
