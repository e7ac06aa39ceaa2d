"""Calls of units: counted all at once as one by one, by several transactions without deadlock."""

import threading

from sqlmodel import Session, col, select

from foundation.database import session_scope
from foundation.ids import new_id
from router import experiment as ab
from router.experiment import PLANS, UnitCall
from router.tables import Assignment, Experiment

COUNTED = (
    *("n_calls", "n_errors", "n_slow", "n_refusals", "n_tool_calls", "n_bad_tool_calls"),
    *("n_fallbacks", "cost_usd", "tokens"),
)


def counted(session: Session, unit: str) -> tuple[float, ...]:
    columns = [getattr(Assignment, name) for name in COUNTED]
    return tuple(session.execute(select(*columns).where(col(Assignment.unit) == unit)).one())


def calls_of(running: Experiment, unit: str) -> list[UnitCall]:
    return [
        UnitCall(running.id, unit, error=False, latency_ms=10.0, cost_usd=0.5, tokens=7),
        UnitCall(running.id, unit, error=True, latency_ms=3001.0, refused=True, fallback=True),
        UnitCall(running.id, unit, False, None, tokens=2**40, tool_calls=3, bad_tool_calls=1),
    ]


def test_calls_counted_together_count_as_one_by_one(session, versions) -> None:
    running = ab.start(session, "coder", versions[1], PLANS["demo"], "ada")
    for unit in ("together", "apart", 'quoted " \\ \u2028 ünit'):
        ab.assign(session, running, unit, "")
    ab.record_calls(session, calls_of(running, "together"))
    for call in calls_of(running, "apart"):
        ab.record_calls(session, [call])
    ab.record_calls(session, calls_of(running, 'quoted " \\ \u2028 ünit'))
    expected = (3, 1, 1, 1, 3, 1, 1, 0.5, 2**40 + 7)
    for unit in ("together", "apart", 'quoted " \\ \u2028 ünit'):
        assert counted(session, unit) == expected


def test_calls_of_nobody_change_nothing(session, versions) -> None:
    running = ab.start(session, "coder", versions[1], PLANS["demo"], "ada")
    ab.assign(session, running, "known", "")
    strangers = [*calls_of(running, "unknown"), UnitCall(new_id(), "known", False, 1.0)]
    ab.record_calls(session, [*strangers, UnitCall(running.id, "known", False, 1.0)])
    ab.record_calls(session, [])
    assert counted(session, "known") == (1, 0, 0, 0, 0, 0, 0, 0.0, 0)
    assert len(session.exec(select(Assignment)).all()) == 1


def test_processes_that_count_the_same_units_do_not_deadlock(session, versions) -> None:
    running = ab.start(session, "coder", versions[1], PLANS["demo"], "ada")
    units = [f"task-{n}" for n in range(40)]
    for unit in units:
        ab.assign(session, running, unit, "")
    session.commit()
    start, rounds = threading.Barrier(2), 10

    def count(order: list[str]) -> None:
        calls = [UnitCall(running.id, unit, error=False, latency_ms=1.0) for unit in order]
        for _ in range(rounds):
            start.wait(30)
            with session_scope() as own:
                ab.record_calls(own, calls)

    threads = [threading.Thread(target=count, args=(order,)) for order in (units, units[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert {counted(session, unit)[0] for unit in units} == {2 * rounds}
