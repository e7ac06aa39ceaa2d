from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlmodel import Session

from admin import formats, gateways, traffic
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
