"""When a training is due: a pure rule over times and counts, and what a schedule may say."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from foundation.decisions import as_json, decide, replay
from foundation.errors import BadInput, NotFound
from foundation.settings import get_settings
from trainer.recipe import PRESETS
from trainer.schedule import (
    EVERY,
    MICRO_ROWS,
    Orders,
    ScheduleInputs,
    Triggers,
    get_schedule,
    list_schedules,
    next_time,
    orders_of,
    schedule_rule,
    set_schedule,
    triggers_of,
    turn_off,
    turn_on,
    with_recipe_of,
)

MOMENT = datetime(2026, 3, 4, 10, 30, tzinfo=UTC)
CALM = ScheduleInputs(moment=MOMENT.isoformat())


def outcome(limits: Triggers, **seen) -> str:
    return schedule_rule(as_json(replace(CALM, **seen)), as_json(limits)).outcome


@pytest.mark.parametrize(
    ("every", "moment", "expected"),
    [
        ("hourly", "2026-03-04T10:30", "2026-03-04T11:00"),
        ("hourly", "2026-03-04T11:00", "2026-03-04T12:00"),
        ("hourly", "2026-12-31T23:59", "2027-01-01T00:00"),
        ("daily", "2026-03-04T10:30", "2026-03-05T00:00"),
        ("daily", "2026-03-05T00:00", "2026-03-06T00:00"),
        ("weekly", "2026-03-04T10:30", "2026-03-09T00:00"),
        ("weekly", "2026-03-09T00:00", "2026-03-16T00:00"),
        ("monthly", "2026-01-31T10:30", "2026-02-01T00:00"),
        ("monthly", "2026-12-01T00:00", "2027-01-01T00:00"),
        ("monthly", "2028-02-29T12:00", "2028-03-01T00:00"),
    ],
)
def test_the_calendar_is_utc_and_always_later(every, moment, expected):
    told = datetime.fromisoformat(f"{moment}+00:00")
    assert next_time(every, told) == datetime.fromisoformat(f"{expected}+00:00")
    elsewhere = told.astimezone(tz=datetime.fromisoformat("2026-01-01T00:00+05:30").tzinfo)
    assert next_time(every, elsewhere) == next_time(every, told)


def test_no_cadence_has_no_next_time():
    assert next_time(None, MOMENT) is None
    assert all(next_time(every, MOMENT) > MOMENT for every in EVERY)


@pytest.mark.parametrize(
    ("minutes", "expected"), [(-60 * 24 * 40, "time"), (0, "time"), (1, "wait")]
)
def test_a_time_that_has_come_fires_once_however_long_ago(minutes, expected):
    due = (MOMENT + timedelta(minutes=minutes)).isoformat()
    assert outcome(Triggers(every="daily"), due_at=due) == expected
    assert outcome(Triggers(corrections=1), due_at=due) == "wait"


@pytest.mark.parametrize(
    ("limits", "seen", "expected"),
    [
        (Triggers(new_examples=5), {"n_new_examples": 4}, "wait"),
        (Triggers(new_examples=5), {"n_new_examples": 5}, "new_examples"),
        (Triggers(corrections=1), {"n_corrections": 0, "n_new_examples": 99}, "wait"),
        (Triggers(corrections=1), {"n_corrections": 1}, "corrections"),
        (Triggers(drift=True), {"drift_alarm": "a"}, "drift"),
        (Triggers(drift=True), {}, "wait"),
        (Triggers(corrections=1), {"drift_alarm": "a"}, "wait"),
        (Triggers(new_examples=1, corrections=1), {"n_new_examples": 1, "n_corrections": 1},
         "new_examples"),
        (Triggers(corrections=1), {"asked_by": "ada"}, "asked"),
    ],
)  # fmt: skip
def test_each_trigger_fires_at_its_threshold(limits, seen, expected):
    assert outcome(limits, **seen) == expected


def test_nothing_fires_while_one_is_under_way():
    assert outcome(Triggers(corrections=1), n_corrections=9, under_way="r", asked_by="me") == "wait"


@pytest.mark.parametrize(
    ("failures", "minutes_ago", "expected"),
    [
        (1, 4.9, "wait"),
        (1, 5, "corrections"),
        (2, 9.9, "wait"),
        (2, 10, "corrections"),
        (99, 23 * 60, "wait"),
        (99, 24 * 60, "corrections"),
    ],
)
def test_a_failed_one_waits_twice_as_long_each_time_up_to_a_day(failures, minutes_ago, expected):
    failed = (MOMENT - timedelta(minutes=minutes_ago)).isoformat()
    seen = {"n_corrections": 1, "failures": failures, "failed_at": failed}
    assert outcome(Triggers(corrections=1), **seen) == expected
    assert outcome(Triggers(corrections=1), **seen, asked_by="ada") == "asked"


def test_it_can_be_replayed(session):
    decision = decide(
        session, "trainer.schedule", replace(CALM, n_corrections=1), Triggers(corrections=1)
    )
    session.commit()
    assert decision.outcome == "corrections"
    assert replay(session, decision.id).agrees


def test_a_micro_run_is_short_and_mostly_replay_and_a_whole_one_is_not():
    orders = Orders({"preset": "demo"}, {"max_steps": 12})
    micro = orders.recipe_for("corrections", goes_on=True, n_rows=MICRO_ROWS)
    assert (micro.max_steps, micro.continual.method) == (12, "replay")
    assert (micro.lr, micro.continual.replay_share) == (1.5e-3, 0.875)
    for trigger, goes_on, n_rows in (
        ("corrections", False, 1),
        ("corrections", True, MICRO_ROWS + 1),
        ("time", True, 1),
    ):
        whole = orders.recipe_for(trigger, goes_on=goes_on, n_rows=n_rows)
        assert whole.max_steps == 0
        assert whole.continual.method == ("replay" if goes_on else "none")


def test_what_a_schedule_says_of_forgetting_is_heard():
    orders = Orders({"preset": "demo", "continual": {"method": "ewc", "replay_share": 0.3}})
    assert orders.recipe_for("time", goes_on=True).continual.method == "ewc"
    assert orders.recipe_for("time", goes_on=True).continual.replay_share == 0.3


def test_a_recipe_that_names_every_default_still_replays():
    """A file's recipe is whole: that it says `none` of forgetting is no wish to forget."""
    for trigger, share in (("time", 0.5), ("corrections", 0.875)):
        made = Orders(PRESETS["demo"].to_dict()).recipe_for(trigger, goes_on=True)
        assert (made.continual.method, made.continual.replay_share) == ("replay", share)


def test_orders_without_a_recipe_mean_the_role_s_own(settings, monkeypatch, tmp_path):
    (tmp_path / "coder.yaml").write_text("preset: demo\nr: 32\n")
    monkeypatch.setenv("FLYWHEEL_RECIPES", str(tmp_path))
    get_settings.cache_clear()
    assert with_recipe_of("coder", Orders()).recipe_for("time", goes_on=True).r == 32
    assert with_recipe_of("tester", Orders()).recipe_for("time", goes_on=True).r == 16
    told = Orders({"preset": "demo"})
    assert with_recipe_of("coder", told) == told
    (tmp_path / "coder.yaml").write_text("method: grpo\n")
    with pytest.raises(BadInput, match="method of a schedule"):
        with_recipe_of("coder", Orders())


def test_a_time_is_one_in_whatever_zone_it_is_told():
    assert outcome(Triggers(every="daily"), due_at="2026-03-04T11:30:00+01:00") == "time"
    assert outcome(Triggers(every="daily"), due_at="2026-03-04T09:31:00-01:00") == "wait"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda: Triggers(every="yearly"), "cadence"),
        (lambda: Triggers(corrections=0), "corrections"),
        (lambda: Triggers(new_examples="3"), "new_examples"),
        (lambda: Triggers(drift=True, backoff_s=0), "backoff_s"),
        (lambda: Orders(promote="always"), "promote"),
        (lambda: Orders(margin_points=0), "margin_points"),
        (lambda: Orders(promote="guarded"), "suite"),
        (lambda: Orders(promote="experiment", without_suite=True), "suite"),
        (lambda: Orders({"preset": "huge"}), "preset"),
        (lambda: Orders({"lr": 2}), "lr"),
        (lambda: Orders(micro={"steps": 2}), "steps"),
        (lambda: Orders({"method": "grpo"}), "method"),
        (lambda: Orders({"method": "sft-full"}), "method"),
    ],
)
def test_what_cannot_be_ordered_is_refused_at_once(wrong, told):
    with pytest.raises(BadInput, match=told):
        wrong()


def test_a_schedule_is_stored_changed_and_turned_off(session):
    triggers, orders = (
        Triggers("daily", corrections=2),
        Orders({"preset": "demo"}, suite="s", promote="guarded"),
    )
    row = set_schedule(session, "coder", triggers, orders, actor="ada", moment=MOMENT)
    assert (triggers_of(row), orders_of(row)) == (triggers, orders)
    assert row.due_at == datetime(2026, 3, 5, tzinfo=UTC)
    set_schedule(session, "coder", Triggers(drift=True), Orders(), actor="bob")
    (row,) = list_schedules(session)
    assert (row.every, row.due_at, row.changed_by) == (None, None, "bob")
    assert not turn_off(session, "coder").is_on
    assert turn_on(session, "coder").is_on
    with pytest.raises(NotFound, match="schedule set"):
        get_schedule(session, "tester")
    with pytest.raises(BadInput, match="triggers"):
        set_schedule(session, "coder", Triggers(), Orders())
    with pytest.raises(BadInput, match="role"):
        set_schedule(session, "plumber", triggers, Orders())
    assert "plumber" not in get_settings().roles
