"""The forwarder among real servers on loopback that hang, refuse, fail and break."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from odd_server import ANSWER, OddServer

from router.dialects import Asked, read
from router.faults import UNREACHABLE
from router.lanes import Client, Opened, UpstreamFailed, open_answer
from router.roster import Target
from router.upstreams.config import CallRules, Defaults, GatewayConfig, TargetEntry
from router.upstreams.forward import TIMEOUT, UNWANTED_S, Forwarder, NobodyAnswers, Send
from router.upstreams.health import DOWN, UP
from router.upstreams.server import Upstream

ASKED = read(b'{"model": "m", "messages": [{"role": "user", "content": "hi"}]}')


@dataclass
class Call:
    attempts: list[dict[str, Any]] = field(default_factory=list)
    fallback_of: str | None = None
    answered_by: Target | None = None


@dataclass
class Stage:
    """A forwarder before servers named a, b, c; each call goes to `a`, else by its rules."""

    forwarder: Forwarder[Asked]
    servers: tuple[OddServer, ...]
    calls: list[Call] = field(default_factory=list)

    async def ask(self, **rules: Any) -> bytes:
        """One call, read to its end; its status where it is none of success."""
        call = Call()
        self.calls.append(call)
        a = self.forwarder.config.upstream("a")
        asked = CallRules(**{"retries": 0, **rules})
        opened = await self.forwarder.open(call, Target("m", a, version_name="v2"), asked, ASKED)
        body = await opened.read()
        return body if opened.status < 400 else str(opened.status).encode()

    @property
    def seen(self) -> list[int]:
        """How many chats each server was asked."""
        return [len(server.chats) for server in self.servers]

    @property
    def states(self) -> dict[tuple[str, str | None], str]:
        return {(key[0], key[2]): one.state for key, one in self.forwarder.health.circuits.items()}


OK = json.dumps(ANSWER).encode()
FALLBACK = {"fallbacks": (TargetEntry("b", "other"),)}


@asynccontextmanager
async def stage(
    *moods: str, defaults: Defaults | None = None, send: Send[Asked] | None = None, **fields: Any
) -> AsyncIterator[Stage]:
    servers = tuple(OddServer(mood) for mood in moods)
    for server in servers:
        await server.start()
    fields = {"answer_timeout_s": 1.0, "idle_timeout_s": 1.0, **fields}
    upstreams = tuple(
        Upstream(name, server.url, **fields) for name, server in zip("abc", servers, strict=False)
    )
    config = GatewayConfig(upstreams, defaults=defaults or Defaults(cooldown_s=0.4))
    client = Client()

    async def straight(target: Target, asked: Asked) -> Opened:
        assert target.upstream is not None
        return await open_answer(client, target, asked)

    forwarder = Forwarder(send or straight, config, rng=random.Random(1))
    try:
        yield Stage(forwarder, servers)
    finally:
        await forwarder.aclose()
        await client.close()
        for server in servers:
            await server.stop()


def played(scene: Callable[[], Awaitable[None]]) -> None:
    async def within_a_minute() -> None:
        async with asyncio.timeout(60):
            await scene()

    asyncio.run(within_a_minute())


async def until(true: Callable[[], bool]) -> None:
    """Wait for something; the minute of `played` ends what never comes."""
    while not true():
        await asyncio.sleep(0.01)


def test_an_answer_passes_and_is_noted() -> None:
    async def scene() -> None:
        async with stage("answer") as on:
            assert await on.ask() == OK
            (call,) = on.calls
            (attempt,) = call.attempts
            assert (attempt["upstream"], attempt["model"], attempt["status"]) == ("a", "m", 200)
            assert attempt["ms"] > 0
            assert (call.fallback_of, call.answered_by.upstream.name) == (None, "a")
            assert on.states == {("a", None): UP, ("a", "m"): UP}

    played(scene)


def test_weights_and_orders() -> None:
    async def scene() -> None:
        async with stage("answer", "answer", "answer") as on:
            places = (
                TargetEntry("a", weight=1), TargetEntry("b", weight=3), TargetEntry("c", order=1),
            )  # fmt: skip
            for _ in range(200):
                await on.ask(targets=places)
            by = Counter(call.answered_by.upstream.name for call in on.calls)
            assert by.keys() == {"a", "b"}
            assert 0.65 < by["b"] / 200 < 0.85
            assert {call.fallback_of for call in on.calls} == {None}

    played(scene)


def test_a_place_of_the_same_version_is_no_fallback() -> None:
    async def scene() -> None:
        async with stage("answer", "answer") as on:
            await on.servers[0].stop()
            places = (TargetEntry("a", weight=1e9), TargetEntry("b"))
            assert await on.ask(targets=places) == OK
            (call,) = on.calls
            assert [attempt["upstream"] for attempt in call.attempts] == ["a", "b"]
            assert (call.fallback_of, call.answered_by.version_name) == (None, "v2")

    played(scene)


def test_who_refuses_is_left_alone_and_the_fallback_is_noted() -> None:
    async def scene() -> None:
        async with stage("answer", "answer") as on:
            await on.servers[0].stop()
            for _ in range(3):
                assert await on.ask(**FALLBACK) == OK
            first, *later = on.calls
            assert [one.get("error") for one in first.attempts] == [UNREACHABLE, None]
            assert [len(call.attempts) for call in later] == [1, 1], "it is known to be down"
            assert {call.fallback_of for call in on.calls} == {"v2"}
            assert {call.answered_by.model for call in on.calls} == {"other"}
            assert on.states["a", None] == DOWN

    played(scene)


def test_a_hang_costs_one_caller_one_timeout_and_nobody_the_return() -> None:
    async def scene() -> None:
        async with stage("hang", "answer") as on:
            for _ in range(5):
                assert await on.ask(**FALLBACK) == OK
            assert on.calls[0].attempts[0]["error"] == TIMEOUT
            assert on.seen == [1, 5], "one caller found out"
            assert on.states["a", "m"] == DOWN
            assert on.states["a", None] == UP, "its other models may be well"
            on.servers[0].mood = "answer"
            await until(lambda: on.states["a", "m"] == UP)
            assert await on.ask(**FALLBACK) == OK
            assert on.seen == [2, 5]
            assert on.calls[-1].fallback_of is None

    played(scene)


def test_one_probe_at_a_time_whoever_calls() -> None:
    async def scene() -> None:
        async with stage("hang", "answer") as on:
            on.servers[0].looks_hang = True
            await on.ask(**FALLBACK)
            while on.servers[0].looks < 3:
                await asyncio.gather(*(on.ask(**FALLBACK) for _ in range(5)))
            assert on.servers[0].looked_at_most == 1
            assert on.seen[0] == 1

    played(scene)


def test_a_sole_server_that_is_away_fails_fast_and_comes_back() -> None:
    async def scene() -> None:
        async with stage("answer") as on:
            await on.servers[0].stop()
            with pytest.raises(UpstreamFailed) as first:
                await on.ask(retries=3)
            assert (first.value.kind, first.value.status) == (UNREACHABLE, 502)
            for _ in range(3):
                with pytest.raises(NobodyAnswers) as later:
                    await on.ask(retries=3)
            assert (later.value.kind, later.value.status) == (UNREACHABLE, 503)
            assert later.value.headers == {"retry-after": "1"}
            assert [len(call.attempts) for call in on.calls] == [1, 0, 0, 0]
            assert on.forwarder.counts.refused == 3
            await on.servers[0].start()
            await until(lambda: on.states["a", None] == UP)
            assert await on.ask() == OK

    played(scene)


def test_a_model_that_fails_opens_its_circuit_after_some_in_a_row() -> None:
    async def scene() -> None:
        async with stage("500", defaults=Defaults(failures_to_open=3, cooldown_s=30)) as on:
            for _ in range(2):
                assert await on.ask() == b"500"
            on.servers[0].mood = "answer"
            assert await on.ask() == OK
            on.servers[0].mood = "500"
            for _ in range(3):
                assert await on.ask() == b"500"
            with pytest.raises(NobodyAnswers) as caught:
                await on.ask()
            assert caught.value.kind == "http_500", "an outage is not what the guard may see here"
            assert on.states == {("a", None): UP, ("a", "m"): DOWN}

    played(scene)


def test_after_a_probe_one_more_failure_opens_again() -> None:
    async def scene() -> None:
        async with stage("500", defaults=Defaults(failures_to_open=3, cooldown_s=0.5)) as on:
            for _ in range(3):
                await on.ask()
            on.servers[0].mood = "answer"
            await until(lambda: on.states["a", "m"] == UP)
            on.servers[0].mood = "500"
            assert await on.ask() == b"500"
            assert on.states["a", "m"] == DOWN

    played(scene)


@pytest.mark.parametrize("mood", ["503", "408", "429", "drop"])
def test_what_may_pass_is_asked_again(mood: str) -> None:
    async def scene() -> None:
        async with stage(mood) as on:
            asking = asyncio.create_task(on.ask(retries=5))
            await until(lambda: len(on.servers[0].chats) >= 2)
            on.servers[0].mood = "answer"
            assert await asking == OK
            assert on.forwarder.counts.retries >= 1

    played(scene)


@pytest.mark.parametrize("mood", ["400", "401", "404", "422", "501"])
def test_what_will_not_pass_is_passed_on(mood: str) -> None:
    async def scene() -> None:
        async with stage(mood, "answer") as on:
            assert await on.ask(retries=3, **FALLBACK) == mood.encode()
            assert on.seen == [1, 0]

    played(scene)


def test_retries_end_and_the_last_answer_is_passed_on() -> None:
    async def scene() -> None:
        async with stage("503") as on:
            assert await on.ask(retries=2) == b"503"
            assert [one["status"] for one in on.calls[0].attempts] == [503] * 3

    played(scene)


def test_retries_of_the_whole_process_are_bounded() -> None:
    async def scene() -> None:
        limits = Defaults(retry_share=0.1, retries_per_s=0.0, failures_to_open=1000, cooldown_s=0.4)
        async with stage("503", defaults=limits) as on:
            for _ in range(50):
                assert await on.ask(retries=3) == b"503"
            assert on.seen[0] <= 50 * 1.1 + 1
            assert on.forwarder.counts.over_budget > 40

    played(scene)


def test_a_server_that_asks_for_more_time_than_we_have_is_not_asked_again() -> None:
    async def scene() -> None:
        async with stage("429", "answer") as on:
            on.servers[0].retry_after = "30"
            assert await on.ask(retries=3) == b"429"
            assert on.seen == [1, 0]
            places = {"targets": (TargetEntry("a", weight=1e9), TargetEntry("b"))}
            for _ in range(3):
                assert await on.ask(**places) == OK
            assert on.seen == [1, 3], "who has too many calls is asked last"
            assert on.states["a", "m"] == UP, "to have too many calls is no failure"

    played(scene)


def test_a_break_after_the_first_byte_is_the_callers_to_see() -> None:
    async def scene() -> None:
        async with stage("cut", "answer", defaults=Defaults(failures_to_open=2)) as on:
            for _ in range(2):
                with pytest.raises(UpstreamFailed) as caught:
                    await on.ask(retries=3, **FALLBACK)
                assert caught.value.kind == "upstream_cut"
            assert on.seen == [2, 0]
            assert await on.ask(**FALLBACK) == OK, "its answers never end: it counts as down"
            assert on.seen == [2, 1]

    played(scene)


def test_an_answer_that_stalls_is_ended() -> None:
    async def scene() -> None:
        async with stage("stall") as on:
            with pytest.raises(UpstreamFailed) as caught:
                await on.ask()
            assert (caught.value.kind, caught.value.status) == (TIMEOUT, 504)

    played(scene)


def test_a_slow_answer_while_others_come_is_no_outage() -> None:
    async def scene() -> None:
        async with stage("hang") as on:
            hanging = asyncio.create_task(on.ask())
            await until(lambda: on.seen == [1])
            on.servers[0].mood = "answer"
            assert await on.ask() == OK
            with pytest.raises(UpstreamFailed):
                await hanging
            assert on.states["a", "m"] == UP

    played(scene)


def test_a_hedge_wins_and_the_other_is_cancelled() -> None:
    async def scene() -> None:
        async with stage("hang", "answer", answer_timeout_s=30) as on:
            assert await on.ask(hedge_after_s=0.05, **FALLBACK) == OK
            await on.servers[0].left.wait()
            (call,) = on.calls
            assert [one.get("hedge") for one in call.attempts] == [None, True]
            assert call.attempts[0]["error"] == "cancelled"
            assert call.fallback_of == "v2"
            counts = on.forwarder.counts
            assert (counts.hedges, counts.hedges_won) == (1, 1)
            assert on.states["a", "m"] == UP

    played(scene)


def test_a_hedge_asks_a_sole_server_twice_and_the_first_may_win() -> None:
    async def scene() -> None:
        async with stage("held", answer_timeout_s=30) as on:
            asking = asyncio.create_task(on.ask(hedge_after_s=0.01))
            await until(lambda: on.seen == [1])
            on.servers[0].mood = "hang"
            await until(lambda: on.seen == [2])
            on.servers[0].go.set()
            assert await asking == OK
            assert on.forwarder.counts.hedges_won == 0

    played(scene)


def test_of_two_answers_at_once_one_is_taken_and_the_other_closed() -> None:
    go, closed, asked = asyncio.Event(), [], []

    async def provider(target: Target, request: Asked) -> Opened:
        number = len(asked)
        asked.append(target.model)

        async def body() -> AsyncIterator[bytes]:
            await go.wait()
            yield b"%d" % number

        async def aclose() -> None:
            closed.append(number)

        return Opened(200, {}, body(), aclose)

    async def scene() -> None:
        async with stage("answer", send=provider, answer_timeout_s=30) as on:
            asking = asyncio.create_task(on.ask(hedge_after_s=0.01))
            await until(lambda: len(asked) == 2)
            go.set()
            assert await asking == b"0"
            assert sorted(closed) == [0, 1], "the reader closes its own"

    played(scene)


def test_a_failure_at_the_same_moment_does_not_hide_an_answer() -> None:
    go, asked = asyncio.Event(), []

    async def provider(target: Target, request: Asked) -> Opened:
        asked.append(target.model)
        is_first = len(asked) == 1
        await go.wait()
        if is_first:
            raise UpstreamFailed(target.model, "http_503", "", 503)
        return Opened(200, {}, _one(b"the second"), _nothing)

    async def scene() -> None:
        async with stage("answer", send=provider, answer_timeout_s=30) as on:
            asking = asyncio.create_task(on.ask(hedge_after_s=0.01))
            await until(lambda: len(asked) == 2)
            go.set()
            assert await asking == b"the second"
            assert on.forwarder.counts.hedges_won == 1

    played(scene)


def test_both_of_a_hedge_may_fail() -> None:
    async def scene() -> None:
        async with stage("hang", "503") as on:
            with pytest.raises(UpstreamFailed) as caught:
                await on.ask(hedge_after_s=0.05, **FALLBACK)
            assert caught.value.kind == TIMEOUT
            assert on.seen == [1, 1]

    played(scene)


def test_without_a_budget_there_is_no_hedge() -> None:
    async def scene() -> None:
        limits = Defaults(retry_share=0.0, retries_per_s=0.0)
        async with stage("held", defaults=limits, answer_timeout_s=30) as on:
            asking = [asyncio.create_task(on.ask(hedge_after_s=0.01)) for _ in range(2)]
            counts = on.forwarder.counts
            await until(lambda: counts.hedges + counts.over_budget == 2)
            assert counts.hedges == 1, "the one that a process starts with"
            on.servers[0].go.set()
            assert await asyncio.gather(*asking) == [OK, OK]

    played(scene)


@pytest.mark.parametrize("hedge", [None, 0.01], ids=["alone", "hedged"])
def test_a_caller_who_leaves_takes_the_call_along(hedge: float | None) -> None:
    async def scene() -> None:
        async with stage("hang", answer_timeout_s=30) as on:
            asking = asyncio.create_task(on.ask(hedge_after_s=hedge))
            await until(lambda: len(on.servers[0].chats) == (2 if hedge else 1))
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            await on.servers[0].left.wait()
            assert {one["error"] for one in on.calls[0].attempts} == {"cancelled"}
            assert on.states["a", "m"] == UP

    played(scene)


def test_providers_are_tried_by_one_call_after_the_cooldown() -> None:
    now, asked, mood = [0.0], [], ["away"]

    async def provider(target: Target, request: Asked) -> Opened:
        asked.append(target.model)
        if mood[0] == "hang":
            await asyncio.sleep(3600)
        if mood[0] == "away":
            raise UpstreamFailed(target.model, "APIConnectionError", "", 503)
        return Opened(200, {}, _one(b"ok"), _nothing)

    async def scene() -> None:
        config = GatewayConfig(defaults=Defaults(failures_to_open=1))
        forwarder = Forwarder(provider, config, clock=lambda: now[0])

        async def ask() -> bytes:
            target = Target("x/y", None)
            return await (await forwarder.open(Call(), target, CallRules(), ASKED)).read()

        with pytest.raises(UpstreamFailed):
            await ask()
        with pytest.raises(NobodyAnswers):
            await ask()
        assert len(asked) == 1
        now[0], mood[0] = 10.0, "hang"
        trial = asyncio.create_task(ask())
        await until(lambda: len(asked) == 2)
        for _ in range(3):
            with pytest.raises(NobodyAnswers):
                await ask()
        trial.cancel()
        with pytest.raises(asyncio.CancelledError):
            await trial
        mood[0] = "answer"
        assert await ask() == b"ok", "a trial whose caller left is the next one's"
        assert await ask() == b"ok"
        await forwarder.aclose()

    played(scene)


async def _one(piece: bytes) -> AsyncIterator[bytes]:
    yield piece


async def _nothing() -> None:
    return None


def test_what_a_provider_will_not_take_is_passed_on() -> None:
    asked = []

    async def provider(target: Target, request: Asked) -> Opened:
        asked.append(target.model)
        raise UpstreamFailed(target.model, "BadRequestError", "", 400)

    async def scene() -> None:
        async with stage("answer", "answer", send=provider) as on:
            for _ in range(10):
                with pytest.raises(UpstreamFailed) as caught:
                    await on.ask(retries=3, **FALLBACK)
                assert caught.value.status == 400
            assert asked == ["m"] * 10, "neither again nor somebody else"
            assert on.states["a", "m"] == UP

    played(scene)


def test_nobody_looks_after_what_nobody_wants() -> None:
    async def scene() -> None:
        async with stage("answer") as on:
            await on.servers[0].stop()
            with pytest.raises(UpstreamFailed):
                await on.ask()
            late = on.forwarder.clock() + 2 * UNWANTED_S
            on.forwarder.clock = on.forwarder.health.clock = lambda: late
            await until(lambda: not on.forwarder._looking)
            assert on.states["a", None] == DOWN
            await on.servers[0].start()
            assert await on.ask() == OK, "the next call is the trial"

    played(scene)


def test_another_configuration_is_used_for_the_next_call() -> None:
    async def scene() -> None:
        async with stage("answer", "answer") as on:
            config = on.forwarder.config
            a, b = config.upstreams
            moved = replace(config, upstreams=(replace(a, base_url=b.base_url), b))
            assert await on.ask() == OK
            on.forwarder.use(replace(moved, defaults=Defaults(retries=0)))
            assert await on.ask() == OK
            assert on.seen == [1, 1]

    played(scene)


def test_health_in_rows_of_plain_values() -> None:
    async def scene() -> None:
        async with stage("500", defaults=Defaults(failures_to_open=1, cooldown_s=30)) as on:
            await on.ask()
            state = json.loads(json.dumps(on.forwarder.state()))
            rows = {row["model"]: row for row in state["upstreams"]}
            assert (rows[None]["state"], rows["m"]["state"]) == (UP, DOWN)
            assert rows["m"]["last_failure"] == "http_500"
            assert rows["m"]["failures"] == rows["m"]["calls"] == 1
            assert state["counts"]["calls"] == 1

    played(scene)


def test_names_that_callers_make_up_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.upstreams.health.MAX_CIRCUITS", 10)

    async def scene() -> None:
        async with stage("answer") as on:
            a = on.forwarder.config.upstream("a")
            for number in range(50):
                target = Target(f"m{number}", a)
                await (await on.forwarder.open(Call(), target, CallRules(), ASKED)).read()
            assert len(on.forwarder.health.circuits) == 10

    played(scene)
