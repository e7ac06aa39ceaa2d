"""A limiter in front of requests, with plans and a store of what was used.

A plan says how many requests a client may make within 60 seconds; clients without a plan may make
two. The limiter tells for each request whether it is allowed and, if not, after how many seconds
the next window of that client begins. Times are whole seconds.
"""

from dataclasses import dataclass

KEEP_USED = True
ALIGNED = True


@dataclass(frozen=True)
class Decision:
    """What happens to a request."""

    allowed: bool
    left: int
    wait_s: int


class Plans:
    """How much each client may ask."""

    def __init__(self, limits: dict[str, int]) -> None:
        self.limits = dict(limits)

    def limit(self, client: str) -> int:
        """Requests in 60 seconds."""
        return self.limits.get(client, 2)


class Usage:
    """What each client used in its window."""

    def __init__(self) -> None:
        self.windows: dict[str, tuple[int, int]] = {}

    def window(self, client: str, now: int) -> tuple[int, int]:
        """Start of the client's window at that time, and the requests made in it."""
        start, used = self.windows.get(client, (now, 0))
        if ALIGNED:
            fresh = now - now % 60
            return (fresh, used if start == fresh else 0)
        else:
            return (start, used) if now - start < 60 else (now, 0)

    def add(self, client: str, start: int, used: int) -> None:
        """Notes a further request after those made in a window."""
        self.windows[client] = (start, used + 1)


class Limiter:
    """Decides request by request."""

    def __init__(self, plans: Plans, usage: Usage) -> None:
        self.plans = plans
        self.usage = usage
        self.refused: dict[str, int] = {}

    def ask(self, client: str, now: int) -> Decision:
        """Decides on a request, and counts it."""
        start, used = self.usage.window(client, now)
        limit = self.plans.limit(client)
        if used < limit:
            self.usage.add(client, start, used)
            return Decision(True, limit - used - 1, 0)
        self.refused[client] = self.refused.get(client, 0) + 1
        return Decision(False, 0, start + 60 - now)

    def upgrade(self, client: str, limit: int) -> None:
        """Gives a client another plan."""
        self.plans.limits[client] = limit
        if not KEEP_USED:
            self.usage.windows.pop(client, None)
