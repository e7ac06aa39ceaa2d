import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select
from sqlmodel import Session, col

from admin import formats, gateways, traffic
from admin.access.sessions import COOKIE
from admin.listing import Asked
from admin.pages import create_admin_app
from admin.tables import AuditEntry
from foundation.tables import now
from router import keys, usage, windows
from router.tables import BudgetWindow, GatewayProcess, UsageDay


def circuit(state: str = "up", **told: Any) -> dict[str, Any]:
    row: dict[str, Any] = {"upstream": "north", "address": "http://n/v1", "model": "big"}
    return {**row, "state": state, "calls": 10, "failures": 0, "failures_in_a_row": 0, **told}


@pytest.mark.parametrize(
    ("states", "expected"),
    [(["up", "up"], "up"), (["up", "down"], "degraded"), (["trying"], "down"), (["down"], "down")],
)
def test_an_upstream_is_as_its_processes_find_it(states: list[str], expected: str) -> None:
    found = gateways.circuits([{"upstreams": [circuit(state)]} for state in states])
    assert [one.state for one in found] == [expected]


def test_what_processes_count_is_put_together() -> None:
    found = gateways.circuits(
        [
            {"upstreams": [circuit(calls=30, first_byte_ms=100.0), circuit(model=None)]},
            {"upstreams": [circuit("down", calls=10, first_byte_ms=200.0, last_failure="connect",
                                   failures=4, failures_in_a_row=3, down_for_s=9.0)]},
        ]
    )  # fmt: skip
    server, big = found
    assert server.model is None
    assert (big.up, big.known, big.calls, big.failures, big.in_a_row) == (1, 2, 40, 4, 3)
    assert big.first_byte_ms == pytest.approx(125.0)
    assert (big.last_failure, big.down_for_s) == ("connect", 9.0)


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"upstreams": None, "counts": 3, "file": "x", "cache": []},
        {"upstreams": [None, {"state": 3, "calls": "many", "model": 7}], "counts": {"calls": "x"}},
    ],
    ids=["empty", "other kinds", "other kinds inside"],
)
def test_what_a_process_of_another_version_says_is_read_as_far_as_it_goes(state: Any) -> None:
    row = GatewayProcess(host="h", pid=1, state=state, started_at=now(), seen_at=now())
    process = gateways.read_process(row, now(), timedelta(seconds=15))
    assert (process.status, process.file, process.counts) == ("up", None, {})
    assert sum(one.calls for one in gateways.circuits([state])) == 0


def test_traffic_shows_health_budgets_and_usage_without_what_opens(
    session: Session, get, hostile: str
) -> None:
    row, secret = keys.create_key(
        session, "ci", roles=["coder"], projects=[hostile.replace("\u202e", "")]
    )
    gone = keys.create_key(session, "gone")[0]
    keys.revoke_key(session, "gone")
    windows.set_limit(session, "key:ci", windows.TOKENS_PER_DAY, 1000)
    start = windows.window_start(windows.TOKENS_PER_DAY, now())
    session.add(
        BudgetWindow(scope=f"key:{row.id}", measure=windows.TOKENS_PER_DAY, starts_at=start,
                     used=900.0, leased=50.0)
    )  # fmt: skip
    day = {"day": now().date(), "role": "coder", "project": "p", "n_calls": 4, "input_tokens": 70}
    session.add(UsageDay(**day, model=hostile, key_name="ci", cost_usd=1.25, n_estimated=2))
    session.add(UsageDay(**day, model="m", key_name="", n_unpriced=4))
    broken = {"name": "gateway.yaml", "digest": "ab" * 32, "problem": hostile}
    alive = {"upstreams": [circuit("down", model=hostile)], "counts": {"calls": 8}, "file": broken}
    silent = {"upstreams": [circuit("up", upstream="forgotten")]}
    session.add(GatewayProcess(host="here", pid=41, state=alive))
    long_ago = now() - timedelta(minutes=5)
    session.add(GatewayProcess(host="here", pid=42, state=silent, seen_at=long_ago))
    session.commit()

    page = traffic.traffic_page(session, traffic.Filters(by="model", days="1"))
    assert [(one.status, one.pid) for one in page.processes] == [("degraded", 41), ("gone", 42)]
    assert (page.alive, page.down) == (1, 1), "what is gone says nothing of the upstreams"
    assert {one.usage.group: one.share for one in page.table.rows} == {hostile: 1.0, "m": 1.0}
    assert (page.total.n_calls, page.total.tokens) == (8, 140)
    near = next(one for one in page.budgets if one.standing.scope == "key:ci")
    assert (near.used, near.promised, near.tone) == (0.9, pytest.approx(0.05), "warn")
    shown = get("/admin/traffic?by=model&days=1")
    assert shown.status_code == 200
    assert "<script>alert" not in shown.text
    for hidden in (secret, secret[keys._SHOWN :], row.key_hash, gone.key_hash):
        assert hidden not in shown.text
    assert "2 calls are estimated" in shown.text
    assert "4 calls are of models without a price" in shown.text


@pytest.mark.parametrize("query", ["by=password", "days=0", "days=-3", "days=x", "days=1e9"])
def test_usage_is_asked_for_by_what_there_is(session: Session, get, query: str) -> None:
    answer = get(f"/admin/traffic?{query}")
    assert answer.status_code == 400
    assert "That did not work" in answer.text


@pytest.mark.parametrize(
    ("used", "promised", "amount", "shares", "tone"),
    [
        (0.0, 0.0, 100.0, (0.0, 0.0), "good"),
        (90.0, 40.0, 100.0, (0.9, pytest.approx(0.1)), "bad"),
        (130.0, 0.0, 100.0, (1.0, 0.0), "bad"),
        (0.0, 0.0, 0.0, (1.0, 0.0), "bad"),
        (None, None, 5.0, (None, None), "good"),
    ],
    ids=["unused", "promised beyond", "passed", "closed", "each of a kind"],
)
def test_a_budget_is_drawn_within_its_limit(
    used: float | None, promised: float | None, amount: float, shares: Any, tone: str
) -> None:
    standing = windows.Standing("all", "tokens_per_day", amount, True, used, promised, now())
    budget = traffic._budget(standing)
    assert ((budget.used, budget.promised), budget.tone) == (shares, tone)


def test_nothing_used_sums_to_nothing() -> None:
    assert traffic.total_of([]) == usage.Usage("", 0, 0, 0, 0, 0, 0, 0, 0)


def test_times_to_come_money_and_evidence_are_short() -> None:
    present = datetime(2026, 1, 2, tzinfo=UTC)
    ahead = [formats.ahead(present + timedelta(seconds=s), present) for s in (7300, 61, 0, -5)]
    assert ahead == ["in 2 h", "in 1 min", "now", "now"]
    money = [formats.dollars(v) for v in (None, 0.0, 0.0042, 1e-6, 12.5, 1240.4)]
    assert money == ["–", "$0.00", "$0.0042", "< $0.0001", "$12.50", "$1,240"]
    evidence = [formats.evidence(e) for e in (None, 0.00412, 19.84, 1239.7, 6.1e12, 1e304)]
    assert evidence == ["–", "0.00412", "19.8", "1,240", "6.1e+12", "1.0e+304"]


def budgets(session: Session) -> dict[tuple[str, str], float]:
    session.expire_all()
    return windows.read_limits(session)


def send(session: Session, signed_in: Any, path: str, role: str, **fields: str) -> Any:
    service = FastAPI()
    service.mount("/admin", create_admin_app())
    token = signed_in(session, role, f"a-{role}")

    async def go() -> httpx.Response:
        transport = httpx.ASGITransport(service, raise_app_exceptions=False)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://wheel", cookies={COOKIE: token}
        ) as client:
            ours = {"origin": "http://wheel", "sec-fetch-site": "same-origin"}
            return await client.post(f"/admin/traffic/{path}", data=fields, headers=ours)

    return asyncio.run(go())


def test_a_budget_is_set_and_taken_away_by_admins(session: Session, get, signed_in) -> None:
    keys.create_key(session, "ci")
    session.commit()
    asked = {"scope": "key:ci", "measure": windows.TOKENS_PER_DAY, "reason": "it runs wild"}
    assert send(session, signed_in, "budgets", "operator", **asked, amount="5").status_code == 403
    assert budgets(session) == {}
    assert send(session, signed_in, "budgets", "admin", **asked, amount="5").status_code == 303
    assert list(budgets(session).values()) == [5.0]
    assert send(session, signed_in, "budgets", "admin", **asked, amount="7").status_code == 303
    entry = session.scalars(select(AuditEntry).order_by(col(AuditEntry.id).desc()).limit(1)).one()
    assert (entry.action, entry.reason) == ("budget.set", "it runs wild")
    assert (entry.before, entry.after) == ({"limit": 5.0}, {"limit": 7.0})
    page = get("/admin/traffic?scope=key:ci&measure=tokens_per_day").text
    assert 'name="amount" type="number" min="0" step="any" required value="7"' in page
    assert "Let the default hold" in page
    assert send(session, signed_in, "budgets/unset", "admin", **asked).status_code == 303
    assert budgets(session) == {}
    assert send(session, signed_in, "budgets/unset", "admin", **asked).status_code == 404


@pytest.mark.parametrize(
    "wrong",
    [
        {"scope": "everybody"},
        {"scope": "key:nobody"},
        {"measure": "calls"},
        {"amount": "-1"},
        {"amount": "nan"},
        {"amount": "much"},
        {"reason": " "},
    ],
    ids=["scope", "key", "measure", "below nothing", "no number", "a word", "no reason"],
)
def test_a_budget_that_makes_no_sense_is_refused(
    session: Session, signed_in, wrong: dict[str, str]
) -> None:
    asked = {"scope": "all", "measure": "tokens_per_day", "amount": "9", "reason": "r"}
    answer = send(session, signed_in, "budgets", "admin", **{**asked, **wrong})
    assert answer.status_code in (400, 404, 422)
    assert budgets(session) == {}


def test_budgets_that_are_nearly_used_are_told_the_fullest_first(session: Session) -> None:
    row, _ = keys.create_key(session, "ci")
    windows.set_limit(session, "role:*", windows.TOKENS_PER_DAY, 1000)
    windows.set_limit(session, "role:coder", windows.TOKENS_PER_DAY, 100)
    used = [("role:coder", 90.0), ("role:tester", 799.0), ("role:reviewer", 800.0),
            (f"key:{row.id}", 100e6), ("all", 100e6 - 1)]  # fmt: skip
    today = windows.window_start(windows.TOKENS_PER_DAY, now())
    session.add_all(
        BudgetWindow(scope=scope, measure=windows.TOKENS_PER_DAY, starts_at=start, used=amount)
        for scope, amount in used
        for start in (today, today - timedelta(days=1))
    )
    session.commit()
    alarms = traffic.budget_alarms(session)
    assert [(one.standing.scope, one.is_over) for one in alarms] == [
        ("key:ci", True),
        ("all", False),
        ("role:coder", False),
        ("role:reviewer", False),
    ]
    assert alarms[2].words.startswith("role:coder: 90 tokens of 100 tokens used, new in ")
    standings = {one.scope: one for one in windows.standings(session)}
    for alarm in alarms:
        standing = standings[alarm.standing.scope]
        assert (alarm.standing.amount, alarm.standing.used) == (standing.amount, standing.used)
        assert alarm.standing.resets_at == standing.resets_at


def test_nothing_used_is_no_alarm_even_where_nothing_is_allowed(session: Session) -> None:
    windows.set_limit(session, "project:closed", windows.COST_USD_PER_MONTH, 0)
    session.commit()
    assert traffic.budget_alarms(session) == []


def test_usage_sorts_is_exported_and_drawn_by_day(session: Session, get) -> None:
    for ago, tokens in ((0, 10), (1, 30), (40, 1000)):
        for role, times in (("coder", 1), ("tester", 2)):
            day = now().date() - timedelta(days=ago)
            session.add(
                UsageDay(day=day, role=role, project="p", model="m", n_calls=1,
                         input_tokens=times * tokens, cost_usd=1.0 / times)
            )  # fmt: skip
    session.commit()

    def order(sort: str) -> list[str]:
        page = traffic.traffic_page(session, traffic.Filters(), Asked(sort, "", ""))
        return [row.usage.group for row in page.table.rows]

    assert order("") == ["coder", "tester"], "the costliest first"
    assert order("-tokens") == ["tester", "coder"]
    assert order("group") == ["coder", "tester"]
    found = usage.by_day(session, "role", ["coder", "tester"], 30)
    assert (found["coder"][-2:], sum(found["coder"])) == ([30, 10], 40)
    page = traffic.traffic_page(session, traffic.Filters())
    assert all(row.trend is not None for row in page.table.rows)
    by_day = traffic.traffic_page(session, traffic.Filters(by="day"))
    assert all(row.trend is None for row in by_day.table.rows)
    lines = get("/admin/traffic?by=role&sort=-tokens&format=csv").text.splitlines()
    assert [line.split(",")[0] for line in lines] == ["group", "tester", "coder"]
    assert get("/admin/traffic?sort=-trend").status_code == 400
    assert 'aria-sort="descending"' in get("/admin/traffic?sort=-tokens").text
