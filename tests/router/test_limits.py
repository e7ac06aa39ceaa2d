"""Requests and tokens in any minute, and calls at the same time, over all processes."""

import random
from uuid import UUID

import pytest

from router.keys import AGENT, LOCAL, Caller, KeyLimits
from router.limits import Limiter, RateLimited, TooLargeForLimit


def caller(**limits: int) -> Caller:
    return Caller(UUID(int=1), "ci", AGENT, limits=KeyLimits(**limits))


def test_no_minute_has_more_requests_than_the_limit() -> None:
    limiter, key = Limiter(), caller(requests_per_minute=30)
    draw, clock, passed = random.Random(4), 1000.0, []
    for _ in range(3000):
        clock += draw.expovariate(2)
        try:
            limiter.enter(key, 1, clock)
        except RateLimited:
            continue
        limiter.leave(key, 1, 1, clock)
        passed.append(clock)
    busiest = max(sum(1 for t in passed if start <= t < start + 60) for start in passed)
    assert busiest == 30
    assert len(passed) > 0.9 * 30 * (clock - 1000) / 61, "and the limit can be used"


def test_who_waits_as_long_as_told_gets_in() -> None:
    limiter, key = Limiter(), caller(requests_per_minute=2, tokens_per_minute=100)
    limiter.enter(key, 60, 5.9)
    with pytest.raises(RateLimited, match="tokens_per_minute: 60 in the last minute and 60") as tok:
        limiter.enter(key, 60, 20)
    limiter.enter(key, 40, 20)
    with pytest.raises(RateLimited, match="requests_per_minute") as req:
        limiter.enter(key, 0, 30)
    for error, asked_at in ((tok.value, 20), (req.value, 30)):
        assert asked_at + error.retry_after_s == 5 + 61
        assert error.headers() == {"retry-after": f"{5 + 61 - asked_at}"}
        assert (error.http_status, error.code) == (429, "rate_limit_exceeded")
    limiter.enter(key, 60, 20 + tok.value.retry_after_s)


def test_tokens_that_were_not_taken_are_given_back() -> None:
    limiter, key = Limiter(), caller(tokens_per_minute=100)
    limiter.enter(key, 90, 0)
    limiter.leave(key, 90, 10, entered_s=0)
    limiter.enter(key, 90, 1)
    with pytest.raises(RateLimited):
        limiter.enter(key, 1, 2)
    limiter.leave(key, 90, 95, entered_s=1)
    limiter.enter(key, 5, 61)
    with pytest.raises(RateLimited):
        limiter.enter(key, 90, 61)
    limiter.enter(key, 90, 62)


def test_a_call_longer_than_a_minute_gives_nothing_to_the_next_one() -> None:
    limiter, key = Limiter(), caller(tokens_per_minute=100)
    limiter.enter(key, 100, 0)
    limiter.enter(key, 10, 70)
    limiter.leave(key, 100, 0, entered_s=0)
    with pytest.raises(RateLimited):
        limiter.enter(key, 91, 71)


def test_one_call_of_more_than_the_limit_is_told_that_waiting_does_not_help() -> None:
    with pytest.raises(TooLargeForLimit, match=r"one call of 101, expected at most 100") as caught:
        Limiter().enter(caller(tokens_per_minute=100), 101, 0)
    assert caught.value.headers()["x-should-retry"] == "false"


def test_calls_at_the_same_time() -> None:
    limiter, key = Limiter(), caller(concurrent=2)
    for _ in range(2):
        limiter.enter(key, 1, 0)
    with pytest.raises(RateLimited, match="concurrent: 2 run now, expected at most 2"):
        limiter.enter(key, 1, 500)
    limiter.leave(key, 1, 1, 0)
    limiter.enter(key, 1, 500)


def test_each_process_has_its_share_but_a_call_always_fits_an_idle_one() -> None:
    limiter, key = Limiter(), caller(tokens_per_minute=100, concurrent=2)
    limiter.n_processes = 4
    limiter.enter(key, 80, 0)
    with pytest.raises(RateLimited, match=r"expected at most 2 \(1 in this one of several"):
        limiter.enter(key, 1, 0)
    limiter.leave(key, 80, 80, 0)
    with pytest.raises(RateLimited, match=r"expected at most 100 \(25 in this one"):
        limiter.enter(key, 1, 0)


def test_who_has_no_limit_is_not_counted() -> None:
    limiter = Limiter()
    for who in (LOCAL, caller()):
        limiter.enter(who, 10**12, 0)
        limiter.leave(who, 10**12, 1, 0)
    assert limiter._paces == {}
