"""The router's benchmarks in short: what they conclude from replies, and the load they send."""

from importlib import import_module

import httpx
import pytest

from benchmarks.gateway_load import Answered, Round
from benchmarks.router import PARTS
from benchmarks.router_budgets import Spending
from benchmarks.router_budgets import figures_of as budget_figures
from benchmarks.router_failover import (
    COOLDOWN_S,
    MODELS,
    NOTICED_S,
    SECOND,
    SINGLE,
    Outage,
    Reply,
    course_of,
    one_upstream,
    two_upstreams,
)
from benchmarks.router_hosts import Load, Mock
from benchmarks.router_switch import Switch
from foundation.tables import now

OUTAGE = Outage(100.0, 160.0, 161.0)
FIRST = MODELS[0]


def passed(figures):
    return [figure.passed for figure in figures]


@pytest.mark.parametrize("part", PARTS)
def test_each_part_can_be_measured(part):
    assert callable(import_module(PARTS[part]).measure)


# Outages


def replies(*, waited=2_000.0, later=3.0, after=SECOND, status=200):
    """A request every quarter of a second; the first upstream is away for a minute."""
    found = []
    for quarter in range(360, 700):
        due_s = quarter / 4
        if due_s < OUTAGE.began_s:
            found.append(Reply(due_s, 2.0, 200, FIRST))
        elif due_s < OUTAGE.began_s + 2:
            found.append(Reply(due_s, waited, 200, SECOND))
        elif due_s < OUTAGE.back_s:
            found.append(Reply(due_s, later, status, SECOND, says_when=status != 200))
        elif due_s < OUTAGE.back_s + COOLDOWN_S - 1:
            found.append(Reply(due_s, later, status, after))
        else:
            found.append(Reply(due_s, 2.0, 200, FIRST))
    return found


def test_a_course_is_divided_by_when_requests_were_due():
    course = course_of(replies(), OUTAGE)
    assert [len(part) for part in (course.before, course.unaware, course.aware)] == [39, 11, 230]
    assert course.aware[0].due_s == OUTAGE.began_s + NOTICED_S
    assert course.extra_ms(0.5) == 1.0
    with pytest.raises(RuntimeError, match="none in a part"):
        course_of(replies()[:50], OUTAGE)


STAYS = [Reply(120.0, 2.0, 200, SECOND)]


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ({}, []),
        ({"waited": 4_000.0}, [0]),
        ({"later": 60.0}, [1, 2]),
        ({"status": 502}, [4]),
    ],
    ids=["good", "first wait too long", "later ones slow", "failed"],
)
def test_an_outage_with_another_upstream_is_judged_by_its_waits_and_failures(change, missed):
    verdicts = passed(two_upstreams("dies", course_of(replies(**change), OUTAGE), STAYS))
    assert [place for place, met in enumerate(verdicts) if not met] == missed


def test_an_upstream_that_is_never_used_again_is_seen():
    still = [Reply(r.due_s, r.latency_ms, r.status, SECOND) for r in replies()]
    [_, _, _, back, _] = two_upstreams("dies", course_of(still, OUTAGE), STAYS)
    assert back.measured == 174.75 - OUTAGE.back_s
    assert not back.passed


def test_an_outage_of_the_only_upstream_must_be_told_at_once():
    course = course_of(replies(status=503, after=SINGLE), OUTAGE)
    assert passed(one_upstream("dies", course)) == [True] * 3
    assert passed(one_upstream("dies", course_of(replies(status=502), OUTAGE)))[0] is False


# Budgets


@pytest.mark.parametrize(
    ("recorded", "counted", "failed", "verdicts"),
    [
        (9_900, 9_900, 0, [True, True, True, True]),
        (10_001, 10_001, 0, [False, True, True, True]),
        (5_000, 5_000, 0, [True, False, True, True]),
        (9_900, 9_900, 1, [True, True, False, True]),
        (9_900, 9_800, 0, [True, True, True, False]),
    ],
    ids=["spent", "passed", "refused too early", "failed otherwise", "counted otherwise"],
)
def test_a_budget_is_judged_by_what_was_recorded(recorded, counted, failed, verdicts):
    spent = Spending(10_000, 30, recorded, 300, counted, refused=70, failed=failed)
    assert passed(budget_figures([spent])) == verdicts


# Switches


def test_a_switch_that_no_load_went_over_says_nothing():
    moment = now()
    assert Switch(moment, None, 100, 100).took_s == 0.0
    with pytest.raises(RuntimeError, match="not under load"):
        _ = Switch(moment, None, 100, 0).took_s


# The load and the mock, for real


@pytest.fixture(scope="module")
def load():
    with Load() as load:
        yield load


@pytest.fixture(scope="module")
def mock():
    with Mock() as mock:
        yield mock


def asked(load: Load, mock: Mock, model: str = "mock", **fields: object) -> Answered:
    return load.play(Round(mock.url, "/v1/chat/completions", model, **fields))  # type: ignore[arg-type]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_round_has_one_reply_for_each_request(load, mock, stream):
    found = asked(load, mock, n=20, concurrency=4, stream=stream)
    assert found.status == [200] * 20
    assert set(found.models) == {"mock"}
    assert len(found.latency_ms) == len(found.ttft_ms) == len(found.due_s) == 20
    assert not found.failed


def test_a_round_without_an_end_goes_on_until_it_is_told(load, mock):
    load.begin(Round(mock.url, "/v1/chat/completions", "mock", n=0, concurrency=2))
    assert len(load.end(now=True).status) >= 2
    assert asked(load, mock, n=3).status == [200] * 3
    load.begin(Round(mock.url, "/v1/chat/completions", "mock", n=1))
    assert load.end(now=True).status == [200]
    assert asked(load, mock, n=3).status == [200] * 3


def test_failures_keep_their_status(load, mock):
    assert asked(load, mock, "mock-fail", n=3).failed == {500: 3}


def test_a_killed_upstream_breaks_connections_and_one_that_is_back_answers(load):
    with Mock() as mock:
        mock.kill()
        assert asked(load, mock, n=2).failed == {0: 2}
        mock.start()
        assert asked(load, mock, n=2).status == [200, 200]


def test_an_upstream_that_spends_says_it_took_all_it_might(mock):
    body = {"model": "mock-spends", "messages": [], "max_tokens": 77}
    usage = httpx.post(f"{mock.url}/v1/chat/completions", json=body).json()["usage"]
    assert usage["completion_tokens"] == 77
    assert 0 < usage["prompt_tokens"] < 30
