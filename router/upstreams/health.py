"""Who is asked at present: what came of the last calls to each server, and to each model there.

Each server has a circuit of its own, and each model on it: a server that cannot be reached takes
all its models with it, a model that fails leaves the others alone. After too many failures in a
row the circuit opens, at once when nobody can connect or nothing came back in time, and calls go
elsewhere or fail fast. It closes again when one trial gets an answer: exactly one at a time, by a
probe of ours where there is one, else by the next call once the cooldown is over. Time comes in by
the clock; nothing here waits or sends.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from router.upstreams.config import Defaults
from router.upstreams.server import LITELLM, Upstream

UP, DOWN, TRYING = "up", "down", "trying"

FIRST_LOOK_S = 0.25
"""Seconds until the first look at a server that went down; each further one waits twice as long,
up to the cooldown: a server that only restarts is back in no time, one that is gone is left be."""

MAX_CIRCUITS = 2000
"""Circuits kept; models may be anything that a caller names."""

Key = tuple[str, str, str | None]
"""Of a circuit: the server's name and address, and the model; None for the server itself."""


def server_key(upstream: Upstream | None) -> Key | None:
    """Return the key of a server's circuit; None for providers, each of which is its own server."""
    return None if upstream is None else (upstream.name, upstream.base_url, None)


def model_key(upstream: Upstream | None, model: str) -> Key:
    """Return the key of a model's circuit."""
    return (LITELLM, "", model) if upstream is None else (upstream.name, upstream.base_url, model)


@dataclass(eq=False)
class Circuit:
    """The last calls to one server or model, and whether it is asked at present."""

    key: Key
    state: str = UP
    failures: int = 0
    """In a row; 0 after each answer that was whole."""
    n_calls: int = 0
    n_failures: int = 0
    last_failure: str | None = None
    heard_at: float = float("-inf")
    """When the last answer began, by the clock."""
    down_since: float | None = None
    look_at: float = 0.0
    """When the next trial may be, by the clock."""
    look_after_s: float = FIRST_LOOK_S
    wanted_at: float = 0.0
    """When it was last looked for, by the clock."""
    limited_until: float = float("-inf")
    """Until when it has asked to be left alone (429), by the clock."""
    first_byte_ms: float | None = None
    """Moving average of the time to the first byte, milliseconds."""

    def begun(self, now: float, started: float) -> None:
        """Note that an answer has begun."""
        self.heard(now)
        took = (now - started) * 1000
        seen = self.first_byte_ms
        self.first_byte_ms = took if seen is None else seen + 0.1 * (took - seen)

    def heard(self, now: float) -> None:
        """Note a word of any kind; whatever was thought of the server, it lives."""
        self.heard_at = now
        self.back()

    def back(self) -> None:
        """Close the circuit: what was down has answered."""
        self.state, self.down_since = UP, None

    def ended(self) -> None:
        """Note that an answer was whole."""
        self.failures, self.look_after_s = 0, FIRST_LOOK_S

    def failed(self, kind: str, now: float, *, opens_at: int, longest_s: float) -> None:
        """Note a failure; it opens the circuit, or ends a trial, where it is one too many."""
        self.failures += 1
        self.n_failures += 1
        self.last_failure = kind
        if self.state == TRYING:
            self.looked_in_vain(now, longest_s)
        elif self.state == UP and self.failures >= opens_at:
            self.state, self.down_since = DOWN, now
            self.look_at = now + min(self.look_after_s, longest_s)

    def looked_in_vain(self, started: float, longest_s: float) -> None:
        """Note a trial begun at `started` without an answer: the next one waits twice as long."""
        self.state = DOWN
        self.look_after_s = min(longest_s, self.look_after_s * 2)
        self.look_at = started + self.look_after_s

    def is_due(self, now: float) -> bool:
        """Return whether there may be a trial now: it is down, and nobody is at it."""
        return self.state == DOWN and now >= self.look_at

    def try_now(self, now: float) -> bool:
        """Take the one trial that is due; False if none is."""
        if not self.is_due(now):
            return False
        self.state = TRYING
        return True

    def give_back(self) -> None:
        """Give a trial back that came to no end, as when its caller left."""
        if self.state == TRYING:
            self.state = DOWN


@dataclass
class Health:
    """The circuits of one gateway process."""

    defaults: Defaults
    clock: Callable[[], float]
    circuits: OrderedDict[Key, Circuit] = field(default_factory=OrderedDict)

    def circuit(self, key: Key) -> Circuit:
        """Return the circuit of that key, new or known."""
        found = self.circuits.get(key)
        if found is None:
            found = self.circuits[key] = Circuit(key)
            if len(self.circuits) > MAX_CIRCUITS:
                self._forget_one()
        return found

    def _forget_one(self) -> None:
        idle = (key for key, one in self.circuits.items() if one.state == UP)
        del self.circuits[next(idle, next(iter(self.circuits)))]

    def of(self, upstream: Upstream | None, model: str) -> tuple[Circuit, ...]:
        """Return the circuits that a call goes through: the server's, if it has one, the model's.

        The model's comes last.
        """
        server = server_key(upstream)
        own = self.circuit(model_key(upstream, model))
        return (own,) if server is None else (self.circuit(server), own)

    def note_failure(
        self, circuit: Circuit, kind: str, started: float, *, is_silence: bool = False
    ) -> bool:
        """Note a failure of a call that began at `started`; return whether the circuit is down now.

        Args:
            circuit: of the server or of the model.
            kind: what went wrong, for the health page.
            started: when the call began, by the clock.
            is_silence: nobody could connect, or nothing came in time. This opens the circuit at
                once, unless others have been answered since the call began.
        """
        is_proof = is_silence and circuit.heard_at < started
        opens_at = 1 if is_proof else self.defaults.failures_to_open
        longest_s = self.defaults.cooldown_s
        circuit.failed(kind, self.clock(), opens_at=opens_at, longest_s=longest_s)
        return circuit.state == DOWN

    def wait_s(self, circuit: Circuit) -> float:
        """Return the seconds until a trial of the circuit may have ended, at most the cooldown."""
        left = circuit.look_at - self.clock()
        return min(max(left, FIRST_LOOK_S), self.defaults.cooldown_s)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield a row for each circuit: plain values, in words, for the page and the database."""
        now = self.clock()
        for name, address, model in sorted(self.circuits, key=lambda key: (key[0], key[2] or "")):
            one = self.circuits[name, address, model]
            yield {
                "upstream": name,
                "address": address,
                "model": model,
                "state": one.state,
                "down_for_s": None if one.down_since is None else round(now - one.down_since, 1),
                "next_look_s": None if one.state == UP else round(max(0.0, one.look_at - now), 1),
                "limited_for_s": round(max(0.0, one.limited_until - now), 1) or None,
                "failures_in_a_row": one.failures,
                "calls": one.n_calls,
                "failures": one.n_failures,
                "last_failure": one.last_failure,
                "first_byte_ms": one.first_byte_ms and round(one.first_byte_ms, 1),
            }
