"""The cache of answers: who gets an old one, who waits, and what has to go."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from foundation.errors import BadInput
from router.cache import ENTRY_BYTES, LARGEST_SHARE, ResponseCache, Wish, key_of, wish_of
from router.upstreams.config import CallRules, Defaults

JSON = "application/json"
SCOPE = ("coder", "shop", "chat", "engine", "coder-v1")
ASKED = {"model": "role:coder", "messages": [{"role": "user", "content": "ü"}], "top_p": 1}


@pytest.mark.parametrize(
    ("said", "ttl_s", "expected"),
    [
        (None, None, None),
        (None, 60.0, Wish(60.0)),
        ("use", None, Wish(99.0)),
        ("use", 60.0, Wish(60.0)),
        ("refresh", 60.0, Wish(60.0, reads=False)),
        ("off", 60.0, None),
    ],
    ids=["nothing", "file", "header", "both", "refresh", "off"],
)
def test_who_wants_the_cache(said, ttl_s, expected) -> None:
    rules, defaults = CallRules(cache_ttl_s=ttl_s), Defaults(cache_ttl_s=99)
    assert wish_of(said, rules, defaults) == expected


def test_a_wish_that_nobody_understands_is_refused() -> None:
    with pytest.raises(BadInput, match="use, refresh or off"):
        wish_of("yes", CallRules(), Defaults())


def test_the_same_request_has_the_same_key() -> None:
    shuffled = dict(reversed({**ASKED, "model": "coder-v1"}.items()))
    assert key_of(SCOPE, shuffled) == key_of(SCOPE, ASKED)


@pytest.mark.parametrize("place", range(len(SCOPE)))
def test_what_differs_in_scope_is_another(place: int) -> None:
    other = [*SCOPE[:place], None, *SCOPE[place + 1 :]]
    assert key_of(other, ASKED) != key_of(SCOPE, ASKED)


@pytest.mark.parametrize(
    "change",
    [{"stream": True}, {"top_p": 0.9}, {"top_p": True}, {"seed": None}, {"messages": []}],
    ids=repr,
)
def test_what_differs_in_meaning_is_another(change: dict[str, object]) -> None:
    assert key_of(SCOPE, {**ASKED, **change}) != key_of(SCOPE, ASKED)


def test_half_a_character_breaks_no_key() -> None:
    assert key_of(SCOPE, {"prompt": "\ud800"}) != key_of(SCOPE, {"prompt": "?"})


def test_an_answer_lives_its_time() -> None:
    now = [0.0]
    cache = ResponseCache(100_000, lambda: now[0])
    cache.put(b"k", JSON, [b"an", b"swer"], 10)
    now[0] = 9.9
    assert cache.get(b"k").body == b"answer"
    now[0] = 10
    assert cache.get(b"k") is None
    assert cache.bytes_kept == 0


def test_what_was_used_longest_ago_goes_first() -> None:
    room = 10 * (ENTRY_BYTES + 100)
    cache = ResponseCache(room)
    for number in range(10):
        cache.put(bytes([number]), JSON, [b"x" * 100], 60)
    assert cache.get(bytes([0])) is not None
    cache.put(b"new", JSON, [b"x" * 100], 60)
    assert cache.get(bytes([1])) is None
    assert cache.get(bytes([0])) is not None
    assert cache.bytes_kept == room


def test_one_huge_answer_pushes_nothing_out() -> None:
    cache = ResponseCache(100_000)
    cache.put(b"k", JSON, [b"small"], 60)
    cache.put(b"huge", JSON, [b"x" * (100_000 // LARGEST_SHARE)], 60)
    assert cache.get(b"huge") is None
    assert cache.get(b"k") is not None


def test_a_replaced_answer_is_counted_once() -> None:
    cache = ResponseCache(100_000)
    for body in (b"first", b"second"):
        cache.put(b"k", JSON, [body], 60)
    assert cache.get(b"k").body == b"second"
    assert cache.counts()["bytes"] == ENTRY_BYTES + len(b"second")


class Asker:
    """Asks through the cache as the gateway does; `answer` is what its upstream says, and when."""

    def __init__(self) -> None:
        self.cache, self.asked = ResponseCache(100_000), 0
        self.may_answer = asyncio.Event()
        self.fails = False

    async def ask(self, wish: Wish | None = None) -> tuple[bytes, bool]:
        async with self.cache.flight(b"k", wish or Wish(60)) as flight:
            if flight.kept is not None:
                return await flight.kept.opened().read(), True
            self.asked += 1
            number = self.asked
            await self.may_answer.wait()
            if self.fails:
                raise ConnectionError
            flight.keep(JSON, [b"answer ", str(number).encode()])
            return b"answer", False


def played(scene: Callable[[Asker], Awaitable[None]]) -> None:
    async def within_a_minute() -> None:
        async with asyncio.timeout(60):
            await scene(Asker())

    asyncio.run(within_a_minute())


def test_those_who_ask_the_same_at_once_ask_once() -> None:
    async def scene(asker: Asker) -> None:
        asking = [asyncio.create_task(asker.ask()) for _ in range(5)]
        await asyncio.sleep(0)
        asker.may_answer.set()
        answers = await asyncio.gather(*asking)
        assert asker.asked == 1
        assert answers.count((b"answer 1", True)) == 4
        assert asker.cache.counts()["hits"] == 4

    played(scene)


def test_when_the_first_fails_the_others_ask_themselves_at_once() -> None:
    async def scene(asker: Asker) -> None:
        asker.fails = True
        asking = [asyncio.create_task(asker.ask()) for _ in range(4)]
        await asyncio.sleep(0)
        assert asker.asked == 1
        asker.may_answer.set()
        results = await asyncio.gather(*asking, return_exceptions=True)
        assert [type(one) for one in results] == [ConnectionError] * 4
        assert asker.asked == 4
        asker.fails = False
        assert (await asker.ask(), await asker.ask())[1] == (b"answer 5", True)

    played(scene)


@pytest.mark.parametrize("leaver", [0, 1], ids=["who-asks", "who-waits"])
def test_one_who_leaves_harms_no_other(leaver: int) -> None:
    async def scene(asker: Asker) -> None:
        asking = [asyncio.create_task(asker.ask()) for _ in range(3)]
        await asyncio.sleep(0)
        asking[leaver].cancel()
        await asyncio.sleep(0)
        asker.may_answer.set()
        results = await asyncio.gather(*asking, return_exceptions=True)
        assert [isinstance(one, asyncio.CancelledError) for one in results].count(True) == 1
        assert not asker.cache._flying

    played(scene)


def test_a_refresh_asks_anew_and_is_kept() -> None:
    async def scene(asker: Asker) -> None:
        asker.may_answer.set()
        await asker.ask()
        assert await asker.ask() == (b"answer 1", True)
        assert (await asker.ask(Wish(60, reads=False)))[1] is False
        assert await asker.ask() == (b"answer 2", True)

    played(scene)


def test_a_stream_is_given_again_whole() -> None:
    async def scene(asker: Asker) -> None:
        events = [b"data: {}\n\n", b"data: [DONE]\n\n"]
        asker.cache.put(b"s", "text/event-stream", events, 60)
        opened = asker.cache.get(b"s").opened()
        assert opened.is_stream
        assert await opened.read() == b"".join(events)

    played(scene)
