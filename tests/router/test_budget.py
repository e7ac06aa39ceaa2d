"""Budgets are never passed: by many calls at once, by several processes, by one that is killed."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlmodel import Session, select

from collector.ingest import STORED, store_batch
from collector.record import interaction_record
from collector.schemas import IngestBatch
from foundation.database import forget_connections, get_engine, session_scope
from foundation.ids import first_id_at, new_id
from foundation.settings import get_settings
from foundation.tables import now
from router.budget import Budgets, BudgetUnknown, OverBudget
from router.keys import AGENT, LOCAL, Caller, create_key
from router.leases import GRACE_S, LEASE_S, SHARE, Report, grant, lapse, settled
from router.tables import BudgetLease, BudgetWindow
from router.windows import COST_USD_PER_MONTH, TOKENS_PER_DAY, set_limit

SPENDER = Path(__file__).with_name("spender.py")
DAY = datetime(2026, 3, 9, tzinfo=UTC)


def limit(scope: str, amount: float, measure: str = TOKENS_PER_DAY) -> None:
    with session_scope() as session:
        set_limit(session, scope, measure, amount)


def windows(measure: str = TOKENS_PER_DAY) -> dict[str, tuple[float, float]]:
    """What is used and leased of each scope."""
    with session_scope() as session:
        rows = session.exec(select(BudgetWindow).where(BudgetWindow.measure == measure)).all()
        return {row.scope.split(":")[0]: (row.used, row.leased) for row in rows}


def with_budgets(
    use: Callable[[Budgets], Coroutine[Any, Any, Any]], clock: Callable[[], float] | None = None
) -> Any:
    async def run() -> Any:
        budgets = Budgets(clock) if clock else Budgets()
        await budgets.start()
        try:
            return await use(budgets)
        finally:
            await budgets.close()

    return asyncio.run(run())


def spender(*arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, str(SPENDER), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


# Many calls, many processes


def test_four_processes_of_a_hundred_calls_each_spend_a_budget_and_never_pass_it(database) -> None:
    limit("role:coder", 300_000)
    processes = [spender(100, 500, seed) for seed in range(4)]
    told = [
        json.loads(process.communicate(timeout=60)[0].splitlines()[-1]) for process in processes
    ]
    assert [process.returncode for process in processes] == [0] * 4
    spent = sum(done["tokens"] for done in told)
    assert all(done["refused"] >= 100 for done in told), "each of them was stopped by the budget"
    assert 300_000 - 500 < spent <= 300_000, "all of it is used but what no call fits in"
    assert windows() == {name: (spent, 0) for name in ("all", "role", "key")}
    costs = windows(COST_USD_PER_MONTH)
    calls = sum(done["calls"] for done in told)
    assert {scope: round(used, 6) for scope, (used, _) in costs.items()} == {
        name: round(calls * 0.01, 6) for name in ("all", "role", "key")
    }


def test_a_killed_process_takes_no_more_than_its_lease_with_it(database) -> None:
    limit("key:*", 200_000)
    killed = spender(20, 500, 0, "for ever")
    assert killed.stdout is not None
    for _ in range(100):
        before = json.loads(killed.stdout.readline())
    killed.kill()
    lines = [line for line in killed.stdout.read().splitlines() if line.endswith("}")]
    killed.wait()
    killed.stdout.close()
    lost = json.loads(lines[-1])["tokens"] if lines else before["tokens"]
    with session_scope() as session:
        (held,) = session.exec(
            select(BudgetLease.amount).where(
                BudgetLease.scope.startswith("key:"),  # type: ignore[attr-defined]
                BudgetLease.measure == TOKENS_PER_DAY,
            )
        ).all()
    process = spender(20, 500, 1)
    done = json.loads(process.communicate(timeout=60)[0].splitlines()[-1])
    assert done["tokens"] + lost <= 200_000
    assert windows()["key"][1] == held, "what it held is still promised"
    assert done["tokens"] >= 200_000 - lost - held - 500


@pytest.mark.parametrize("amount", [0, 499])
def test_a_budget_that_holds_no_call_refuses_each_with_the_reset_in_words_and_header(
    database, amount: int
) -> None:
    limit("role:coder", amount)

    async def use(budgets: Budgets) -> None:
        for _ in range(2):
            with pytest.raises(OverBudget) as caught:
                await budgets.reserve(LOCAL, "coder", None, 500, 0)
        error = caught.value
        assert (error.http_status, error.code) == (429, "budget_exceeded")
        midnight = (now() + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        assert str(error) == (
            "budget role:coder, tokens_per_day: 0 tokens used and 0 tokens promised to running "
            f"calls of {amount} tokens; this call may take 500 tokens. "
            f"The budget is new at {midnight:%Y-%m-%d} 00:00 UTC."
        )
        told = error.headers()
        assert told["x-flywheel-budget-reset"] == f"{midnight:%Y-%m-%dT00:00:00Z}"
        assert 0 < int(told["retry-after"]) <= 86_400
        assert told["x-should-retry"] == "false"
        await budgets.reserve(LOCAL, "tester", None, 500, 0)

    with_budgets(use)


def test_what_running_calls_hold_is_worth_waiting_for(database) -> None:
    limit("all", 1000)

    async def use(budgets: Budgets) -> None:
        first = await budgets.reserve(LOCAL, "coder", None, 800, 0)
        with pytest.raises(OverBudget) as caught:
            await budgets.reserve(LOCAL, "tester", None, 800, 0)
        assert caught.value.headers()["retry-after"] == "1"
        assert "x-should-retry" not in caught.value.headers()
        assert "800 tokens promised" in str(caught.value)
        first.settle(60, 40, 0)
        first.settle(999, 999, 9)  # again: nothing
        second = await budgets.reserve(LOCAL, "tester", None, 800, 0)
        second.release()

    with_budgets(use)
    assert windows()["all"] == (100, 0)


def test_a_call_that_does_not_know_what_it_took_counts_as_reserved(database) -> None:
    async def use(budgets: Budgets) -> None:
        (await budgets.reserve(LOCAL, "coder", None, 800, 0.5)).settle(None, None, None)

    with_budgets(use)
    assert windows()["all"] == (800, 0)
    assert windows(COST_USD_PER_MONTH)["all"] == (0.5, 0)


def test_money_that_is_used_up_stops_no_model_that_costs_nothing(database) -> None:
    limit("all", 1, COST_USD_PER_MONTH)

    async def use(budgets: Budgets) -> None:
        (await budgets.reserve(LOCAL, "coder", None, 10, 1)).settle(5, 5, 1)
        with pytest.raises(OverBudget, match=r"\$1.00 used and \$0.00 promised"):
            await budgets.reserve(LOCAL, "coder", None, 10, 0.01)
        (await budgets.reserve(LOCAL, "coder", None, 10, 0)).settle(5, 5, 0)

    with_budgets(use)


def test_a_key_has_its_own_budget_and_a_project_once_it_is_set(database) -> None:
    with session_scope() as session:
        row, _ = create_key(session, "ci")
        set_limit(session, "key:ci", TOKENS_PER_DAY, 100)
        set_limit(session, "project:shop", TOKENS_PER_DAY, 50)
        set_limit(session, "project:default", TOKENS_PER_DAY, 70)
    caller = Caller(row.id, "ci", AGENT)

    async def use(budgets: Budgets) -> None:
        await budgets.reserve(caller, "coder", "other", 60, 0)
        with pytest.raises(OverBudget, match="budget key:ci, tokens_per_day"):
            await budgets.reserve(caller, "tester", "other", 60, 0)
        with pytest.raises(OverBudget, match="budget project:shop, tokens_per_day"):
            await budgets.reserve(LOCAL, "tester", "shop", 60, 0)
        await budgets.reserve(LOCAL, "tester", "other", 60, 0)
        with pytest.raises(OverBudget, match="budget project:default, tokens_per_day"):
            await budgets.reserve(LOCAL, "tester", None, 71, 0)

    with_budgets(use)
    assert set(windows()) == {"all", "role", "key", "project"}


def test_a_new_day_is_a_new_budget_and_a_late_call_counts_for_its_own(database) -> None:
    limit("all", 100)
    clock = [DAY.timestamp() - 10]

    async def use(budgets: Budgets) -> None:
        late = await budgets.reserve(LOCAL, "coder", None, 100, 0)
        with pytest.raises(OverBudget):
            await budgets.reserve(LOCAL, "coder", None, 100, 0)
        clock[0] += 20
        today = await budgets.reserve(LOCAL, "coder", None, 100, 0)
        late.settle(90, 9, 0)
        today.settle(1, 1, 0)

    with_budgets(use, lambda: clock[0])
    with session_scope() as session:
        rows = session.exec(select(BudgetWindow).where(BudgetWindow.scope == "all")).all()
    assert {row.starts_at.astimezone(UTC): (row.used, row.leased) for row in rows} == {
        DAY - timedelta(days=1): (99, 0),
        DAY: (2, 0),
    }


def test_estimates_that_were_too_low_raise_the_next_ones_of_the_role(database) -> None:
    async def use(budgets: Budgets) -> list[int]:
        (await budgets.reserve(LOCAL, "coder", None, 100, 0)).settle(150, 150, 0)
        raised = await budgets.reserve(LOCAL, "coder", None, 100, 0)
        raised.settle(100_000, 100_000, 0)
        most = await budgets.reserve(LOCAL, "coder", None, 100, 0)
        most.settle(10, 10, 0)
        falls = await budgets.reserve(LOCAL, "coder", None, 100, 0)
        other = await budgets.reserve(LOCAL, "tester", None, 100, 0)
        return [r.reserved_tokens for r in (raised, most, falls, other)]

    assert with_budgets(use) == [300, 400, 397, 100]


# The database goes away


def test_what_is_leased_may_be_spent_while_the_database_is_away(
    database, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit("role:coder", 100_000)

    def move_database(url: str) -> None:
        monkeypatch.setenv("FLYWHEEL_DATABASE_URL", url)
        get_settings.cache_clear()
        if get_engine.cache_info().currsize:
            get_engine().dispose()
        forget_connections()

    async def use(budgets: Budgets) -> None:
        for _ in range(3):
            (await budgets.reserve(LOCAL, "coder", None, 100, 0)).settle(50, 50, 0)
        (await budgets.reserve(LOCAL, "coder", None, 2_000, 0)).release()
        move_database("postgresql://postgres@127.0.0.1:9/nowhere")
        answered = 0

        async def until_refused() -> None:
            nonlocal answered
            while True:
                (await budgets.reserve(LOCAL, "coder", None, 100, 0)).settle(50, 50, 0)
                answered += 1

        with pytest.raises(BudgetUnknown, match="does not answer") as caught:
            await until_refused()
        assert caught.value.http_status == 503
        assert answered >= 20, "the lease of a call that took nothing was there"
        move_database(database)
        (await budgets.reserve(LOCAL, "coder", None, 100, 0)).settle(50, 50, 0)
        return answered

    try:
        answered = with_budgets(use)
    finally:
        move_database(database)
    assert windows()["role"] == ((answered + 4) * 100, 0)


@pytest.mark.parametrize("arrived", [True, False], ids=["it arrived", "it did not"])
def test_a_report_whose_commit_nobody_saw_counts_once(arrived: bool) -> None:
    report = Report("all", TOKENS_PER_DAY, DAY, new_id(), spent=70, back=10, reserved=20)
    report.unsure = {DAY: (30, 10)}
    lease = settled(report, (100, DAY if arrived else DAY - timedelta(1)), 1000, 0, 100)
    counted = 40 if arrived else 70
    assert (lease.used, lease.held) == (counted, 100 - counted - (0 if arrived else 10))
    assert lease.leased == lease.held


# What a lease may be


@pytest.mark.parametrize(
    ("room", "needed", "least", "ahead", "given"),
    [
        (1000, 100, 50, 10_000, 100 + 900 / SHARE),
        (1000, 100, 50, 10, 110),
        (80, 100, 50, 10, 80),
        (49, 100, 50, 10, 0),
        (0, 0, 0, 10, 0),
        (-5, 1, 1, 0, 0),
        (160, 0, 0, 1000, 10),
    ],
    ids=["ahead by share", "ahead as asked", "some wait", "too little", "none", "lowered", "idle"],
)
def test_grants(room: float, needed: float, least: float, ahead: float, given: float) -> None:
    assert grant(room, needed, least, ahead) == given


def test_a_lowered_limit_leaves_running_calls_their_promise_and_gives_nothing_more() -> None:
    report = Report("all", TOKENS_PER_DAY, DAY, new_id(), 10, 0, reserved=50, needed=5, least=5)
    lease = settled(report, (60, DAY), 30, 0, 60)
    assert (lease.used, lease.held, lease.leased) == (10, 50, 50)


def test_a_call_that_took_more_than_it_reserved_is_counted_whole() -> None:
    report = Report("all", TOKENS_PER_DAY, DAY, new_id(), spent=500, back=0, reserved=50)
    lease = settled(report, (100, DAY), 200, 0, 100)
    assert (lease.used, lease.held, lease.leased) == (500, 50, 50)


# A killed process's lease


@pytest.mark.parametrize(
    ("recorded", "used"), [([30, 40], 70), ([3000], 500), ([], 0)], ids=["calls", "more", "none"]
)
def test_a_lapsed_lease_counts_as_used_as_far_as_recorded_calls_say(
    session: Session, recorded: list[int], used: float
) -> None:
    row, _ = create_key(session, "ci")
    expired = now() - timedelta(seconds=GRACE_S + 5)
    died = expired - timedelta(seconds=LEASE_S)
    for n, tokens in enumerate(recorded):
        store(session, tokens, died + timedelta(seconds=n + 1), key="ci")
    store(session, 7, died - timedelta(seconds=20), key="ci")  # before its last report
    store(session, 7, died + timedelta(seconds=1), key="other")
    start = died.replace(hour=0, minute=0, second=0, microsecond=0)
    place = {"scope": f"key:{row.id}", "measure": TOKENS_PER_DAY, "starts_at": start}
    session.add(BudgetWindow(**place, used=1000, leased=800))
    session.add(BudgetLease(**place, amount=500, process_id=new_id(), expires_at=expired))
    living = BudgetLease(**place, amount=300, process_id=new_id(), expires_at=now())
    session.add(living)
    session.commit()
    assert lapse(session) == 1
    session.commit()
    assert windows()["key"] == (1000 + used, 300)
    assert session.exec(select(BudgetLease.id)).all() == [living.id]
    assert lapse(session) == 0


def store(session: Session, tokens: int, ended: datetime, key: str) -> None:
    usage = {"prompt_tokens": tokens - 1, "completion_tokens": 1, "total_tokens": tokens}
    record = interaction_record(
        UUID(int=first_id_at(ended - timedelta(seconds=2)).int + new_id().int % 2**62),
        "coder",
        {"model": "m", "messages": [{"role": "user", "content": "q"}]},
        {"model": "m", "choices": [], "usage": usage},
        started_at=ended - timedelta(seconds=2),
        latency_ms=2000.0,
        source="gateway",
        attributes={"key": key},
    )
    (result,) = store_batch(
        session, IngestBatch.model_validate({"source": "gateway", "interactions": [record]})
    )
    assert result.status == STORED, result


def test_every_process_that_holds_a_lease_is_counted(database) -> None:
    async def use(budgets: Budgets) -> int:
        mine = await budgets.reserve(LOCAL, "coder", None, 10, 0)
        other = Budgets()
        await other.start()
        (await other.reserve(LOCAL, "coder", None, 10, 0)).release()
        counted = other.limiter.n_processes
        await other.close()
        mine.release()
        return counted

    assert with_budgets(use) == 2
    with get_engine().connect() as connection:
        left = connection.execute(text("SELECT count(*) FROM budget_lease")).scalar_one()
    assert left == 0, "processes that were stopped leave nothing behind"
