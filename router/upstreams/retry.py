"""How often, and how soon, a failed call is asked again. Pure, but for the books of the budget.

Retries are bounded twice: per call, and for the whole process by a budget that grows with the
calls. So when everything fails, the load on what fails grows by a fifth, not by a factor
(Finagle's retry budgets; the Google SRE book, "Handling overload").
"""

import math
import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

BASE_S, LONGEST_S = 0.1, 2.0
"""The first backoff is up to the base, each further one up to twice as long, in seconds."""
LONGEST_BURST_S = 10.0
"""Seconds of the budget's fixed rate that may be saved up."""

TIMED_OUT, TOO_MANY = 408, 429
_FINAL = frozenset({501, 505})
"""Server errors that will not be others the next time."""


def is_retryable(status: int) -> bool:
    """Return whether an answer of that status says "ask again, or somebody else"."""
    return status in (TIMED_OUT, TOO_MANY) or (status >= 500 and status not in _FINAL)


def is_failure(status: int) -> bool:
    """Return whether it says that the server is in trouble; to have too many calls is none."""
    return is_retryable(status) and status != TOO_MANY


def backoff_s(retry: int, rng: random.Random) -> float:
    """Return how long to wait before a retry, the first being 0: full jitter, in seconds."""
    return rng.uniform(0, min(LONGEST_S, BASE_S * 2 ** min(retry, 10)))


def retry_after_s(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Return the seconds that `retry-after` asks for, 0 or more; None if it says nothing readable.

    Seconds or a date (RFC 9110, 10.2.3).
    """
    said = headers.get("retry-after")
    if said is None:
        return None
    try:
        seconds = float(said)
    except ValueError:
        try:
            at = parsedate_to_datetime(said)
        except (ValueError, OverflowError):
            return None
        at = at.replace(tzinfo=at.tzinfo or UTC)
        seconds = (at - (now or datetime.now(UTC))).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None


class RetryBudget:
    """What retries may cost: a share of the calls, and a few each second in any case."""

    def __init__(self, share: float, per_s: float, clock: Callable[[], float]) -> None:
        self.share, self.per_s, self._clock = share, per_s, clock
        self._saved = self._most
        self._counted_at = clock()

    @property
    def _most(self) -> float:
        return max(1.0, self.per_s * LONGEST_BURST_S)

    def count_call(self) -> None:
        """Count a call; it earns its share of a retry."""
        self._saved = min(self._most, self._saved + self.share)

    def take(self) -> bool:
        """Take one retry out of the budget; False if there is none left."""
        now = self._clock()
        earned = (now - self._counted_at) * self.per_s
        self._saved, self._counted_at = min(self._most, self._saved + earned), now
        if self._saved < 1:
            return False
        self._saved -= 1
        return True
