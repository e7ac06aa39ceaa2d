"""Calls that a framework's callback records, so that a wrapped client below does not, too.

A framework says that it starts a call, and in the same context its client begins one. Each
announcement speaks for one call, and only until the framework hears of its first token or its end:
what the agent's own code calls meanwhile, between two pieces of a stream, is recorded as ever.
"""

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass
class Announced:
    """One call that is recorded above; `open` until a client has begun it."""

    open: bool = True


_announced: ContextVar[tuple[Announced, ...]] = ContextVar("flywheel_announced", default=())


def announce() -> Announced:
    """Say that the next call begun in this context is recorded above its client."""
    call = Announced()
    _announced.set((*(other for other in _announced.get() if other.open), call))
    return call


def taken_above() -> bool:
    """Whether the call that begins now is recorded above; each announcement says so once."""
    for call in _announced.get():
        if call.open:
            call.open = False
            return True
    return False
