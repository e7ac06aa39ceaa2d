"""What a schedule counts, when it orders, and that it orders nothing twice, on a real database."""

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from by_hand import Said
from sqlmodel import Session, select

import flywheel.worker  # noqa: F401  registers every room's jobs and rules
from collector.tables import Feedback, Interaction, SourceTrust
from curation.tables import ReviewItem, ReviewLabel
from evaluator.tables import DriftWatch
from flywheel import scheduling, scheduling_tasks
from flywheel.app import create_app
from flywheel.scheduling import run_now, set_schedule, tick
from flywheel.scheduling_tasks import SCHEDULED_TURN
from flywheel.swap import SwapInputs, SwapThresholds, swap_rule
from foundation.database import get_engine
from foundation.decisions import as_json, record, replay
from foundation.errors import Conflict, NotFound
from foundation.ids import new_id
from foundation.queue import declare_queues
from foundation.runs import RunHandle, cancel, get_run
from foundation.tables import CANCELLED, DONE, FAILED, Decision, Run, now
from router import promote
from trainer.registry import ensure_base_version
from trainer.schedule import Orders, Triggers, get_schedule
from trainer.tables import PRODUCTION, TrainingSchedule

DEMO = Orders({"preset": "demo"})


@pytest.fixture(autouse=True)
def _queues(database: str) -> None:
    declare_queues()


def scheduled(session: Session, **triggers: Any) -> None:
    session.commit()
    set_schedule(session, "coder", Triggers(**triggers), DEMO, actor="test")
    session.commit()


def call(session: Session, role: str = "coder", **columns: Any) -> UUID:
    one = Interaction(role=role, **columns)
    session.add(one)
    session.flush()
    return one.id


def say(session: Session, about: UUID | None, kind: str = "correction", **columns: Any) -> None:
    columns = {"text": "right", "source": "human", **columns}
    session.add(Feedback(interaction_id=about, kind=kind, **columns))
    session.flush()


def counts(session: Session) -> tuple[int, int]:
    """New examples and corrections as the schedule has counted them, after a look."""
    session.commit()
    tick()
    session.expire_all()
    seen = session.get_one(TrainingSchedule, "coder").seen
    return seen["n_new_examples"], seen["n_corrections"]


def ordered(session: Session) -> list[Run]:
    session.expire_all()
    return list(session.exec(select(Run).where(Run.kind == SCHEDULED_TURN).order_by(Run.id)).all())


def run_of(session: Session) -> RunHandle:
    """A handle of a run that a schedule could have ordered."""
    run = Run(kind=SCHEDULED_TURN, role="coder")
    session.add(run)
    session.commit()
    return RunHandle(run, "test")


def ended(session: Session, run: Run, status: str, **columns: Any) -> None:
    run.status, run.finished_at = status, now()
    for name, value in columns.items():
        setattr(run, name, value)
    session.add(run)
    session.commit()


def test_only_what_came_since_counts_and_each_once(session):
    say(session, call(session))
    scheduled(session, new_examples=99, corrections=99)
    assert counts(session) == (0, 0)
    say(session, call(session))
    assert counts(session) == (1, 1)
    assert counts(session) == (1, 1)
    call(session)
    assert counts(session) == (2, 1)


@pytest.mark.parametrize(
    ("columns", "n"),
    [
        ({"kind": "correction"}, 1),
        ({"kind": "correction", "source": "user"}, 1),
        ({"kind": "correction", "source": "role"}, 0),
        ({"kind": "preference"}, 1),
        ({"kind": "rating", "value": 2.0}, 1),
        ({"kind": "rating", "value": 3.0}, 0),
        ({"kind": "comment"}, 0),
        ({"kind": "success", "value": 0.0}, 0),
        ({"kind": "correction", "derived_from": new_id()}, 0),
        ({"kind": "correction", "source": "user", "actor": "mallory"}, 0),
    ],
)
def test_what_a_person_says_against_an_answer_is_a_correction(session, columns, n):
    session.add(SourceTrust(source="user:mallory", trust="distrusted", reason="r", actor="ada"))
    scheduled(session, corrections=99)
    say(session, call(session), **columns)
    assert counts(session) == (1, n)


def test_only_answered_calls_of_the_role_are_new_examples(session):
    scheduled(session, new_examples=99)
    call(session)
    call(session, "tester")
    call(session, status="error")
    call(session, completed=False)
    call(session, arm="shadow")
    say(session, call(session, "tester"))
    assert counts(session) == (1, 0)


def test_a_word_on_an_episode_and_one_before_its_call_count_once(session):
    scheduled(session, corrections=99)
    episode = new_id()
    say(session, None, episode_id=episode)
    assert counts(session) == (0, 0)
    call(session, episode_id=episode)
    assert counts(session) == (1, 1)
    assert counts(session) == (1, 1)


def test_what_commits_late_is_counted_then(session):
    scheduled(session, corrections=99)
    with Session(get_engine()) as late:
        say(late, call(late))
        assert counts(session) == (0, 0)
        late.commit()
    assert counts(session) == (1, 1)
    assert counts(session) == (1, 1)


def test_edits_of_reviewers_count_once_and_undone_ones_do_not(session):
    scheduled(session, corrections=99)
    item = ReviewItem(role="coder", subject_id=new_id(), reason="random")
    session.add(item)
    session.flush()

    def label(action: str, **columns: Any) -> None:
        made = {"item_id": item.id, "interaction_id": new_id(), "reviewer": "ada", **columns}
        session.add(ReviewLabel(action=action, **made))

    label("edit")
    label("accept")
    label("edit", undone_at=now())
    assert counts(session)[1] == 1
    label("edit")
    assert counts(session)[1] == 2
    assert counts(session)[1] == 2


def test_a_trigger_fires_once_and_only_one_runs_at_a_time(session):
    scheduled(session, corrections=1)
    say(session, call(session))
    session.commit()
    assert tick() == ["coder"]
    say(session, call(session))
    session.commit()
    assert tick() == []
    (run,) = ordered(session)
    assert run.params == {"role": "coder", "trigger": "corrections"}
    decision = session.exec(select(Decision).where(Decision.kind == "trainer.schedule")).one()
    assert (decision.outcome, decision.subject_id) == ("corrections", run.id)
    assert replay(session, decision.id).agrees


def test_two_schedulers_order_one(session):
    scheduled(session, corrections=1)
    say(session, call(session))
    session.commit()
    threads = [threading.Thread(target=tick) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ordered(session)) == 1
    assert counts(session)[1] == 1


def test_what_is_done_has_answered_its_trigger_and_no_later_one(session):
    scheduled(session, corrections=1)
    say(session, call(session))
    session.commit()
    tick()
    say(session, call(session))
    assert counts(session)[1] == 2
    (run,) = ordered(session)
    ended(session, run, DONE, result={"outcome": "swapped", "reasons": ["fine"], "parts_s": {}})
    assert tick() == ["coder"]
    first, second = ordered(session)
    last = scheduling.explain(session, get_schedule(session, "coder"))["last"]
    assert (last["outcome"], last["reasons"], last["run_id"]) == (
        "swapped",
        ["fine"],
        str(first.id),
    )
    assert last["iteration_s"] >= 0
    assert last["since_correction_s"] >= last["iteration_s"]
    session.commit()
    ended(session, second, DONE)
    assert tick() == []
    assert counts(session)[1] == 0


@pytest.mark.parametrize("status", [FAILED, CANCELLED])
def test_what_failed_is_due_again_after_a_wait_and_says_why(session, status):
    scheduled(session, corrections=1)
    say(session, call(session))
    session.commit()
    tick()
    ended(session, ordered(session)[0], status, error="boom\nno room on the disk")
    assert tick() == []
    shown = scheduling.explain(session, get_schedule(session, "coder"))
    assert (shown["failures"], shown["n_corrections"]) == (1, 1)
    assert shown["last"]["reasons"] == ["no room on the disk"]
    assert shown["retry_at"] is not None
    row = get_schedule(session, "coder")
    row.seen = {**row.seen, "failed_at": (now() - timedelta(minutes=6)).isoformat()}
    session.commit()
    assert tick() == ["coder"]
    ended(session, ordered(session)[1], DONE)
    tick()
    session.expire_all()
    assert scheduling.explain(session, get_schedule(session, "coder"))["failures"] == 0


def test_one_that_failed_is_due_at_once_when_it_is_set_anew(session):
    scheduled(session, corrections=1)
    say(session, call(session))
    session.commit()
    tick()
    ended(session, ordered(session)[0], FAILED, error="the preset was wrong")
    assert tick() == []
    scheduled(session, corrections=1)
    assert tick() == ["coder"]


def test_one_taken_up_again_goes_on_with_who_served_when_it_began(session):
    """Killed after the swap: its own candidate serves by now, and is not what it goes on from."""
    before, after = (ensure_base_version(session, "coder", base) for base in ("/a", "/b"))
    promote.initial(session, "coder", before, reason="first", actor="test")
    scheduled(session, every="daily")
    turn = scheduling_tasks._begin(run_of(session), "coder", "time")
    assert scheduling_tasks._goes_on_with(turn).name == before.name
    promote.promote(session, "coder", after, reason="swapped", actor="test")
    session.commit()
    again = scheduling_tasks._begin(turn.run, "coder", "time")
    assert scheduling_tasks._goes_on_with(again).name == before.name
    other = scheduling_tasks._begin(run_of(session), "coder", "time")
    assert scheduling_tasks._goes_on_with(other).name == after.name


def test_a_time_that_was_missed_fires_once(session):
    scheduled(session, every="daily")
    assert tick() == []
    row = get_schedule(session, "coder")
    row.due_at = now() - timedelta(days=5)
    session.commit()
    assert tick() == ["coder"]
    ended(session, ordered(session)[0], FAILED, error="x")
    tick()
    session.expire_all()
    assert get_schedule(session, "coder").due_at < now()  # due again, after the wait
    session.commit()
    row = get_schedule(session, "coder")
    row.seen = {**row.seen, "failed_at": (now() - timedelta(minutes=6)).isoformat()}
    session.commit()
    assert tick() == ["coder"]
    ended(session, ordered(session)[1], DONE)
    assert tick() == []
    session.expire_all()
    assert now() < get_schedule(session, "coder").due_at <= now() + timedelta(days=1)


def test_an_alarm_is_answered_once(session):
    version = ensure_base_version(session, "coder", "/base")
    version.stage = PRODUCTION
    alarm = record(session, "evaluator.drift", "alarm", [])
    session.add(
        DriftWatch(
            role="coder",
            model_version_id=version.id,
            reference_rate=0.9,
            n_reference=0,
            alarm_decision_id=alarm.id,
        )
    )
    scheduled(session, drift=True)
    assert tick() == ["coder"]
    ended(session, ordered(session)[0], DONE)
    assert tick() == []


def test_off_is_off_and_its_run_is_settled(session):
    scheduled(session, corrections=1)
    say(session, call(session))
    session.commit()
    tick()
    scheduling.schedule.turn_off(session, "coder")
    session.commit()
    cancel(session, ordered(session)[0].id)
    session.commit()
    assert tick() == []
    shown = scheduling.explain(session, get_schedule(session, "coder"))
    assert (shown["is_on"], shown["under_way"], shown["last"]["status"]) == (False, None, CANCELLED)


def test_a_person_may_order_it_and_not_twice(session):
    scheduled(session, every="monthly")
    run = run_now(session, "coder", "ada")
    session.commit()
    assert get_run(session, run.run_id).params["trigger"] == "asked"
    with pytest.raises(Conflict, match="under way"):
        run_now(session, "coder", "bob")
    with pytest.raises(NotFound, match="schedule"):
        run_now(session, "tester")


def test_the_command_line_and_the_service_say_the_same(
    command: Callable[..., Said], session: Session
) -> None:
    said = command(
        "schedule", "set", "coder", "--every", "weekly", "--on-corrections", "2", "--on-drift",
        "--promote", "guarded", "--without-suite", "--preset", "demo", "--json",
    )  # fmt: skip
    assert said.code == 0, said
    assert said.json["triggers"]["corrections"] == 2
    assert command("schedule", "list").out.count("coder") == 1
    assert command("schedule", "show", "coder", "--json").json["every"] == "weekly"
    refused = command("schedule", "set", "coder")
    assert (refused.code, "--every" in refused.err) == (2, True)
    lost = command("schedule", "set", "coder", "--every", "daily", "--suite", "sums")
    assert (lost.code, "'sums'" in lost.err) == (2, True)

    async def talk() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=create_app())
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            body = {"triggers": {"corrections": 1}, "training": {"recipe": {"preset": "demo"}}}
            return [
                await client.get("/v1/schedules/coder"),
                await client.put("/v1/schedules/tester", json=body),
                await client.put("/v1/schedules/tester", json={"triggers": {"sometimes": 1}}),
                await client.get("/v1/schedules"),
                await client.post("/v1/schedules/tester/run"),
                await client.delete("/v1/schedules/tester"),
                await client.post("/v1/schedules/tester/on"),
                await client.get("/v1/schedules/reviewer"),
            ]

    one, made, refused, all_, order, off, on, absent = asyncio.run(talk())
    assert one.json()["every"] == "weekly"
    assert (made.json()["is_on"], refused.status_code) == (True, 400)
    assert [row["role"] for row in all_.json()] == ["coder", "tester"]
    assert (order.status_code, order.json()["under_way"] is not None) == (202, True)
    assert (off.json()["is_on"], on.json()["is_on"], absent.status_code) == (False, True, 404)
    assert command("schedule", "off", "coder", "--json").json["is_on"] is False
    assert command("schedule", "on", "coder", "--json").json["is_on"] is True
    assert command("schedule", "off", "coder").code == 0
    assert command("schedule", "run-now", "coder", "--json").json["under_way"] is not None


SEEN = SwapInputs("v2", "v1", "s@1", 0.0, -5.0, 40, None)


@pytest.mark.parametrize(
    ("seen", "limits", "expected"),
    [
        ({}, {}, "swap"),
        ({"bound_low": -10.0}, {}, "swap"),
        ({"bound_low": -10.1}, {}, "hold"),
        ({"bound_low": -10.1}, {"margin_points": 11.0}, "swap"),
        ({"improvement_points": 30.0, "bound_low": None}, {}, "hold"),
        ({"forgetting": "quarantine", "bound_low": 5.0}, {}, "hold"),
        ({"forgetting": "undecided"}, {}, "swap"),
        ({"suite": None}, {}, "hold"),
        ({"suite": None}, {"without_suite": True}, "swap"),
    ],
)
def test_a_swap_needs_proof_that_nothing_was_lost(seen, limits, expected):
    inputs = {**as_json(SEEN), **seen}
    assert swap_rule(inputs, as_json(SwapThresholds(**limits))).outcome == expected
