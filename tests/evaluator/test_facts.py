"""Comparisons graded fact by fact."""

import json

import pytest

from evaluator.graders import GradedTask
from evaluator.graders.facts import grade_many, judge_cells, says_the_same
from evaluator.graders.json_text import last_object
from evaluator.sandbox import Status
from foundation.errors import BadInput

ITEMS = {
    "Corvo": {"price_eur": 1200, "colour": "olive", "weight_kg": "unknown"},
    "Tarn": {"price_eur": 900, "colour": "unknown", "weight_kg": 20.5},
}
REFERENCE = {
    "items": ITEMS,
    "winners": {"price_eur": "Tarn", "weight_kg": "unknown"},
    "units": {"price_eur": ["EUR"]},
}


def grade(answer, **changed):
    text = answer if isinstance(answer, str) else json.dumps(answer)
    task = GradedTask("t", [], "facts", {**REFERENCE, **changed})
    return grade_many([task], [text], None)[0]


def changed(item, field, value):
    items = {name: dict(row) for name, row in ITEMS.items()}
    items.setdefault(item, {})[field] = value
    return {"items": items, "winners": REFERENCE["winners"]}


def test_a_right_comparison_passes_with_full_marks():
    made = grade({"items": ITEMS, "winners": REFERENCE["winners"]})
    assert (made.passed, made.score) == (True, 1.0)
    assert made.metrics == {"precision": 1, "recall": 1, "invented_rate": 0, "unknown_kept": 1}


@pytest.mark.parametrize(
    "answer",
    [
        changed("corvo", "PRICE EUR", "1,200 EUR") | {"winners": REFERENCE["winners"]},
        changed("Corvo", "price_eur", 1205),
        changed("Corvo", "weight_kg", None),
        changed("Corvo", "licence", "unknown"),
        changed("Corvo", "colour", " Olive. "),
    ],
)
def test_what_says_the_same_passes(answer):
    answer["items"] = {
        name: row for name, row in answer["items"].items() if name != "corvo" or len(row) > 1
    }
    assert grade(answer).passed


def test_a_value_where_the_sources_have_none_is_invented_and_never_passes():
    made = grade(changed("Tarn", "colour", "red"), min_share=0.1)
    assert not made.passed
    assert made.metrics["invented_rate"] == pytest.approx(1 / 6)
    assert "1 invented: tarn/colour" in made.detail


@pytest.mark.parametrize(("item", "field"), [("Quist", "price_eur"), ("Corvo", "range_km")])
def test_items_and_fields_nobody_asked_about_are_invented(item, field):
    assert "invented" in grade(changed(item, field, 5)).detail


def test_right_wrong_missing_and_invented_are_told_apart():
    expected = {("a", "x"): 1, ("a", "y"): 2, ("a", "z"): 3, ("b", "x"): "unknown"}
    said = {("a", "x"): 1, ("a", "y"): 9, ("a", "z"): "unknown", ("b", "x"): 4, ("c", "x"): 5}
    assert list(judge_cells(expected, said).values()) == [
        "right", "wrong", "missing", "invented", "invented",
    ]  # fmt: skip


def test_an_unknown_cell_must_be_called_so():
    assert judge_cells({("a", "x"): "unknown"}, {}) == {("a", "x"): "missing"}


def test_a_wrong_winner_fails_alone():
    made = grade({"items": ITEMS, "winners": {"price_eur": "Corvo", "weight_kg": "unknown"}},
                 min_share=0.5)  # fmt: skip
    assert not made.passed
    assert made.detail == "winner not right: price eur"


def test_one_slip_in_ten_is_forgiven_two_are_not():
    items = {f"i{n}": {"x": n + 1} for n in range(10)}
    reference = {"items": items, "winners": {}}
    said = {"items": {**items, "i0": {"x": 50}}}
    assert grade(said, **reference).passed
    said["items"]["i1"] = {"x": 50}
    assert not grade(said, **reference).passed


def test_calling_everything_unknown_fails():
    items = {name: dict.fromkeys(row, "unknown") for name, row in ITEMS.items()}
    made = grade({"items": items, "winners": dict.fromkeys(REFERENCE["winners"], "unknown")})
    assert not made.passed
    assert made.metrics["recall"] == 0
    assert "precision" not in made.metrics


@pytest.mark.parametrize(
    "answer",
    [
        "I do not know.", "[]", '{"items": []}', '{"items": {"Corvo": 3}}', "{" * 5000,
        '{"items": {"Corvo": {"price_eur": NaN}}}', '{"a": ' * 3000, '"\\ud800"',
    ],
)  # fmt: skip
def test_odd_answers_are_graded_not_raised(answer):
    assert grade(answer).status is Status.WRONG


def test_an_empty_answer_is_lost():
    assert grade("  \n").status is Status.LOST


@pytest.mark.parametrize(
    ("expected", "said"),
    [(1, True), (True, 1), (5, "5 stone"), (5, [5]), ("red", 3), (5, "5 or 6"), (5, float("inf"))],
)
def test_other_kinds_are_not_the_same(expected, said):
    assert not says_the_same(expected, said)


def test_the_last_object_counts_and_doubles_do_not():
    assert last_object('shape: {"a": …}, draft {"a": 1}\n```json\n{"a": {"b": 2}}\n```') == {
        "a": {"b": 2}
    }
    assert last_object('{"a": 1, "a": 2}') is None
    assert last_object("none") is None


@pytest.mark.parametrize("reference", [{}, {"items": {}}, {"items": {"a": 1}, "winners": {}}])
def test_a_task_without_items_is_refused(reference):
    with pytest.raises(BadInput, match="items"):
        grade_many([GradedTask("t", [], "facts", reference)], ["{}"], None)


def test_a_number_too_long_to_read_is_no_object_and_throws_nothing():
    assert last_object('{"a": ' + "9" * 5_000 + '} then {"a": 1}') == {"a": 1}
    assert last_object('{"a": 1e999}') is None
