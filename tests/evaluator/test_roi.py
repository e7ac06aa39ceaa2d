from dataclasses import asdict, replace

import pytest

from evaluator.roi import (
    DOES_NOT_PAY,
    PAYS,
    UNDECIDED,
    UNKNOWN,
    RoiInputs,
    RoiThresholds,
    decide_roi,
    read_inputs,
    roi_rule,
    worth_of,
)
from foundation.decisions import replay
from foundation.errors import BadInput, NotFound
from foundation.ids import new_id

KNOWN = RoiInputs(
    training_usd=500,
    data_usd=300,
    review_usd=200,
    serving_usd_per_month=50,
    tasks_per_month=10_000,
    improvement_points=8,
    rework_usd_per_failure=2,
    seconds_saved_per_task=3.6,
    usd_per_hour=10,
    tokens_saved_per_task=100,
    usd_per_mtok=3,
)


def ruling(known=KNOWN, months=12.0, **changes):
    return roi_rule(asdict(replace(known, **changes)), asdict(RoiThresholds(months)))


def test_the_sums_are_right():
    worth = worth_of(KNOWN)
    assert {name: value.low for name, value in worth.by_source.items()} == pytest.approx(
        {"rework": 1600, "time": 100, "tokens": 3, "serving": -50}
    )
    assert worth.per_month.low == worth.per_month.high == pytest.approx(1653)
    assert worth.payback_months().low == pytest.approx(1000 / 1653)
    assert worth.net(12).low == pytest.approx(12 * 1653 - 1000)


def test_break_even_pays_and_a_cent_less_does_not():
    even = replace(KNOWN, seconds_saved_per_task=0, tokens_saved_per_task=0, tasks_per_month=0)
    even = replace(even, serving_usd_per_month=-1000 / 12)
    assert ruling(even).outcome == PAYS
    assert ruling(even, training_usd=500.01).outcome == DOES_NOT_PAY


@pytest.mark.parametrize("name", ["training_usd", "data_usd", "review_usd"])
def test_an_unknown_cost_could_always_be_too_much_but_never_saves_a_loss(name):
    found = ruling(**{name: None})
    assert found.outcome == UNKNOWN
    assert f"Unknown: {name}." in found.reasons
    assert ruling(improvement_points=-5, **{name: None}).outcome == DOES_NOT_PAY


def test_an_unknown_saving_cannot_turn_what_pays_without_it():
    assert ruling(usd_per_hour=None).outcome == PAYS  # time is saved, at whatever price
    assert ruling(usd_per_hour=None, improvement_points=0).outcome == UNKNOWN
    assert ruling(seconds_saved_per_task=None).outcome == UNKNOWN  # may be lost, too
    assert ruling(seconds_saved_per_task=None, usd_per_hour=0).outcome == PAYS


def test_how_many_tasks_there_are_is_one_unknown_not_three():
    assert ruling(tasks_per_month=None).outcome == UNKNOWN
    dear = {"tokens_saved_per_task": -1_000_000, "tasks_per_month": None}
    assert ruling(improvement_points=0, **dear).outcome == DOES_NOT_PAY


def test_nothing_known_is_unknown_and_all_of_it_named():
    found = ruling(RoiInputs())
    assert found.outcome == UNKNOWN
    assert all(name in found.reasons[-2] for name in RoiInputs().unknown())
    assert len(RoiInputs().unknown()) == 11


def test_an_uncertain_gain_is_undecided_not_unknown():
    assert ruling(improvement_low=-2, improvement_high=18).outcome == UNDECIDED
    assert ruling(improvement_low=4, improvement_high=12).outcome == PAYS
    assert ruling(improvement_points=-8, improvement_low=-9, improvement_high=-7).outcome == (
        DOES_NOT_PAY
    )


def test_what_never_comes_back_says_never():
    assert "paid back: never" in " ".join(ruling(improvement_points=-5).reasons)
    assert "after 0.6 months" in " ".join(ruling().reasons)


@pytest.mark.parametrize(
    "wrong",
    [
        {"training_usd": -1},
        {"improvement_points": 101},
        {"improvement_points": 5, "improvement_low": 6},
        {"usd_per_hour": float("nan")},
    ],
)
def test_impossible_values_are_refused(wrong):
    with pytest.raises(BadInput):
        replace(KNOWN, **wrong)
    with pytest.raises(BadInput, match="horizon"):
        RoiThresholds(0)


@pytest.mark.parametrize(
    "text", ["- 1", "trainign_usd: 5", "training_usd: much", "training_usd: .nan", "a: [", ""]
)
def test_a_bad_file_is_one_clear_error(tmp_path, text):
    path = tmp_path / "costs.yaml"
    path.write_text(text)
    with pytest.raises(BadInput):
        read_inputs(path)
    with pytest.raises(BadInput, match="No such file"):
        read_inputs(tmp_path / "none.yaml")


def test_the_decision_is_recorded_and_replays(session, tmp_path):
    path = tmp_path / "costs.yaml"
    path.write_text("\n".join(f"{name}: {value}" for name, value in asdict(KNOWN).items() if value))
    decision = decide_roi(session, read_inputs(path), 12)
    assert decision.outcome == PAYS
    assert replay(session, decision.id).agrees
    with pytest.raises(NotFound, match="verdict"):
        decide_roi(session, KNOWN, 12, new_id())
