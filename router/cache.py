"""The cache of answers: opt-in, exact, in memory and bounded.

An answer is given again only to the same request, byte for byte the same in meaning, of the same
role and project, to the same target in the same dialect. It is used where the gateway's file sets
`cache_ttl_s`, or where a call asks for it by `x-flywheel-cache`. While one call is on its way, the
others with the same request wait for its answer; if it gets none they go on by themselves. Each
gateway process has a cache of its own.
"""

import asyncio
import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from foundation.errors import BadInput
from router.lanes import Opened
from router.upstreams.config import CallRules, Defaults

HEADER = "x-flywheel-cache"
USE, REFRESH, OFF = "use", "refresh", "off"
"""What a call may say by the header: use the cache, ask anew and keep the answer, neither."""
HIT, MISS = "hit", "miss"
"""What a caller is told by the header where the cache was looked into."""

LARGEST_SHARE = 8
"""An answer of more than this part (1/8) of the cache is not kept: it would push out all others."""
ENTRY_BYTES = 500
"""What an entry takes beside the bytes of its answer, about."""


@dataclass(frozen=True)
class Wish:
    """What a call wants of the cache: how long an answer is kept, and whether it may be an old one.

    `ttl_s` is in seconds.
    """

    ttl_s: float
    reads: bool = True


def wish_of(said: str | None, rules: CallRules, defaults: Defaults) -> Wish | None:
    """Return what a call wants of the cache, by its header and the file; None: nothing. Pure.

    Raises:
        BadInput: the header says something else.
    """
    if said not in (None, USE, REFRESH, OFF):
        raise BadInput(HEADER, said, f"{USE}, {REFRESH} or {OFF}", "Correct the header.")
    if said is None:
        return None if rules.cache_ttl_s is None else Wish(rules.cache_ttl_s)
    if said == OFF:
        return None
    ttl_s = defaults.cache_ttl_s if rules.cache_ttl_s is None else rules.cache_ttl_s
    return Wish(ttl_s, reads=said == USE)


def key_of(scope: Sequence[str | None], values: Mapping[str, Any]) -> bytes:
    """Return what an answer is kept under. Pure.

    Args:
        scope: what else must be the same: role, project, dialect, server and model, …; its order
            and length count.
        values: the request as it is sent. Its `model` does not count, the scope has it; neither
            does the order of keys, while that of lists does.
    """
    asked = {name: value for name, value in values.items() if name != "model"}
    text = json.dumps([list(scope), asked], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


@dataclass(frozen=True)
class Kept:
    """An answer in the cache: its type and its bytes, of a stream all of them."""

    content_type: str
    body: bytes
    until: float
    is_native: bool = True

    def opened(self) -> Opened:
        """Return it as an answer that begins anew."""
        head = {"content-type": self.content_type}
        return Opened(200, head, _once(self.body), _nothing, self.is_native)


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def _nothing() -> None:
    return None


class Flight:
    """One call that looked into the cache: what it found, and where it leaves what it gets."""

    def __init__(self, cache: "ResponseCache", key: bytes, ttl_s: float, kept: Kept | None) -> None:
        self.kept, self.landed = kept, False
        self._cache, self._key, self._ttl_s = cache, key, ttl_s

    def keep(self, content_type: str, pieces: Sequence[bytes], is_native: bool = True) -> None:
        """Keep an answer that was a success and is whole; nothing else may be kept."""
        self._cache.put(self._key, content_type, pieces, self._ttl_s, is_native)
        self.landed = True


class ResponseCache:
    """The answers of one gateway process; those used longest ago go first."""

    def __init__(self, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.max_bytes, self._clock = max_bytes, clock
        self._kept: OrderedDict[bytes, Kept] = OrderedDict()
        self._flying: dict[bytes, asyncio.Future[bool]] = {}
        self.bytes_kept, self.hits, self.misses = 0, 0, 0

    @asynccontextmanager
    async def flight(self, key: bytes, wish: Wish) -> AsyncIterator[Flight]:
        """Look into the cache, and wait for another call that asks the same at this moment.

        Whoever finds nothing asks itself, and calls `keep` with what it got before it leaves.
        """
        kept = await self._look(key) if wish.reads else None
        if kept is not None:
            self.hits += 1
            yield Flight(self, key, wish.ttl_s, kept)
            return
        self.misses += 1
        flight = Flight(self, key, wish.ttl_s, None)
        if key in self._flying:  # the other one failed, or an old answer is not wanted
            yield flight
            return
        flying = self._flying[key] = asyncio.get_running_loop().create_future()
        try:
            yield flight
        finally:
            del self._flying[key]
            flying.set_result(flight.landed)

    async def _look(self, key: bytes) -> Kept | None:
        kept = self.get(key)
        flying = self._flying.get(key)
        if kept is None and flying is not None:
            await asyncio.shield(flying)
            kept = self.get(key)
        return kept

    def get(self, key: bytes) -> Kept | None:
        """Return what is kept under `key`, unless its time is over."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        if kept.until <= self._clock():
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        return kept

    def put(
        self,
        key: bytes,
        content_type: str,
        pieces: Sequence[bytes],
        ttl_s: float,
        is_native: bool = True,
    ) -> None:
        """Keep an answer for `ttl_s` seconds, at the cost of those used longest ago."""
        body = b"".join(pieces)
        if len(body) + ENTRY_BYTES > self.max_bytes / LARGEST_SHARE:
            return
        self._drop(key)
        self._kept[key] = Kept(content_type, body, self._clock() + ttl_s, is_native)
        self.bytes_kept += len(body) + ENTRY_BYTES
        while self.bytes_kept > self.max_bytes:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: bytes) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self.bytes_kept -= len(kept.body) + ENTRY_BYTES

    def counts(self) -> dict[str, int]:
        """Return how much is kept and how often it helped."""
        return {
            "answers": len(self._kept),
            "bytes": self.bytes_kept,
            "hits": self.hits,
            "misses": self.misses,
        }
