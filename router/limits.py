"""How fast a key may be used: requests and tokens in any minute, and calls at the same time.

Each gateway process counts what passes through it, against its share of the limit: the limit
divided by the processes that serve now. So a limit needs no query and holds over all processes
together; where the kernel hands one process more than its share of a key's calls, some are refused
that the key as a whole still had.
"""

from collections import deque
from dataclasses import dataclass, field
from math import ceil
from typing import ClassVar, Final
from uuid import UUID

from foundation.errors import FlywheelError
from router.keys import Caller

SPAN_S: Final = 60
MAX_KEYS: Final = 10_000
"""Keys whose pace is remembered before those without a call in the last minute are forgotten."""


class LimitReached(FlywheelError):
    """A call is more than its caller may ask for now; says when to ask again."""

    http_status = 429
    code: ClassVar[str] = "rate_limit_exceeded"
    kind: ClassVar[str] = "rate_limit_error"
    """`type` of the error in OpenAI's shape; `code` is its code."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)

    def headers(self) -> dict[str, str]:
        """Return what the answer says in its headers: whole seconds until it is worth asking."""
        return {"retry-after": str(max(1, ceil(self.retry_after_s)))}


class RateLimited(LimitReached):
    """A key asks faster than it may."""

    def __init__(
        self, caller: Caller, measure: str, limit: int, share: int, said: str, retry_after_s: float
    ) -> None:
        self.measure, self.limit = measure, limit
        here = f" ({share:,} in this one of several processes)" if share != limit else ""
        super().__init__(
            f"key {caller.name!r}, {measure}: {said}, expected at most {limit:,}{here}. "
            f"Ask again in {max(1, ceil(retry_after_s))} s.",
            retry_after_s,
        )


class TooLargeForLimit(LimitReached):
    """One call alone is more than a minute's tokens: waiting would not help."""

    def __init__(self, caller: Caller, limit: int, tokens: int) -> None:
        super().__init__(
            f"key {caller.name!r}, tokens_per_minute: one call of {tokens:,}, expected at most "
            f"{limit:,}. Shorten the prompt or lower max_tokens.",
            SPAN_S,
        )

    def headers(self) -> dict[str, str]:
        """Tell clients that try again by themselves not to."""
        return {**super().headers(), "x-should-retry": "false"}


@dataclass(slots=True)
class Minute:
    """What passed in the last 60 seconds, in slots of a second, so that no minute has more.

    A slot leaves 61 seconds after it began: what it holds may have come at its end.
    """

    slots: deque[list[float]] = field(default_factory=deque)
    """`[second, amount]`, oldest first."""
    total: float = 0.0

    def add(self, amount: float, second: int) -> None:
        """Count an amount that comes now, at `second`."""
        if not self.slots or self.slots[-1][0] != second:
            self.slots.append([second, 0.0])
        self.slots[-1][1] += amount
        self.total += amount

    def correct(self, amount: float, second: int) -> None:
        """Change what was counted at `second`; nothing if that has left already."""
        for slot in self.slots:
            if slot[0] == second:
                slot[1] += amount
                self.total += amount
                return

    def forget(self, second: int) -> None:
        """Let go of what is older than a minute."""
        while self.slots and self.slots[0][0] < second - SPAN_S:
            self.total -= self.slots.popleft()[1]

    def wait_s(self, amount: float, limit: float, second: int) -> float:
        """Return the seconds until `amount` fits below `limit`; 0 if it does now."""
        self.forget(second)
        surplus = self.total + amount - limit
        if surplus <= 0:
            return 0.0
        for began, held in self.slots:
            surplus -= held
            if surplus <= 0:
                return began + SPAN_S + 1 - second
        return SPAN_S + 1.0


@dataclass(slots=True)
class _Pace:
    """What one key does in this process."""

    requests: Minute = field(default_factory=Minute)
    tokens: Minute = field(default_factory=Minute)
    running: int = 0

    def is_used(self, second: int) -> bool:
        """Whether a call runs, or came in within the last minute."""
        self.requests.forget(second)
        return self.running > 0 or bool(self.requests.slots)


class Limiter:
    """The pace of every key in this process."""

    def __init__(self) -> None:
        self.n_processes = 1
        """Gateway processes that serve now, this one too."""
        self._paces: dict[UUID, _Pace] = {}

    def enter(self, caller: Caller, tokens: int, now_s: float) -> None:
        """Let a call in that may take `tokens`, and count it; `leave` must follow.

        Raises:
            RateLimited: it has to wait.
            TooLargeForLimit: it would have to wait for ever.
        """
        limits = caller.limits
        if caller.key_id is None or not (
            limits.requests_per_minute or limits.tokens_per_minute or limits.concurrent
        ):
            return
        second = int(now_s)
        pace = self._pace(caller.key_id, second)
        if limits.concurrent:
            share = self._share(limits.concurrent)
            if pace.running >= share:
                said = f"{pace.running:,} run now"
                raise RateLimited(caller, "concurrent", limits.concurrent, share, said, 1)
        if limits.requests_per_minute:
            self._require(caller, "requests_per_minute", limits.requests_per_minute,
                          pace.requests, 1, second)  # fmt: skip
        if limits.tokens_per_minute:
            self._require(caller, "tokens_per_minute", limits.tokens_per_minute,
                          pace.tokens, tokens, second)  # fmt: skip
        pace.running += 1
        pace.requests.add(1, second)
        pace.tokens.add(tokens, second)

    def leave(self, caller: Caller, reserved: int, tokens: int, entered_s: float) -> None:
        """Note that a call which entered with `reserved` tokens ended and took `tokens`."""
        pace = self._paces.get(caller.key_id) if caller.key_id else None
        if pace is None or pace.running == 0:
            return
        pace.running -= 1
        pace.tokens.correct(tokens - reserved, int(entered_s))

    def _require(
        self, caller: Caller, measure: str, limit: int, minute: Minute, amount: int, second: int
    ) -> None:
        share = self._share(limit)
        if amount > limit:
            raise TooLargeForLimit(caller, limit, amount)
        wait_s = minute.wait_s(min(amount, share), share, second)
        if wait_s:
            said = f"{minute.total:,.0f} in the last minute and {amount:,} asked for"
            raise RateLimited(caller, measure, limit, share, said, wait_s)

    def _share(self, limit: int) -> int:
        return max(1, limit // self.n_processes)

    def _pace(self, key_id: UUID, second: int) -> _Pace:
        pace = self._paces.get(key_id)
        if pace is None:
            if len(self._paces) >= MAX_KEYS:
                self._paces = {k: pace for k, pace in self._paces.items() if pace.is_used(second)}
            pace = self._paces[key_id] = _Pace()
        return pace
