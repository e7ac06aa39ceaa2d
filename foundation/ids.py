"""UUIDv7 identifiers: made by the writer, so every write is idempotent and ordered by time.

RFC 9562, section 5.7: 48 bits of Unix milliseconds, 12 bits of sub-millisecond fraction (its
method 3, which keeps ids of one process monotone at 245 ns steps), 62 random bits.
"""

import os
import struct
import threading
import time
from datetime import UTC, datetime
from uuid import UUID, SafeUUID, uuid5

_VERSION_7 = 0x7 << 76
_VARIANT = 0b10 << 62
_lock = threading.Lock()
_last_tick = 0
_random_words: list[int] = []
"""Random bits drawn ahead: asking the system for each costs more than all else in an id."""


def new_id() -> UUID:
    """Return a fresh UUIDv7; later calls in this process compare greater."""
    global _last_tick
    ns = time.time_ns()
    tick = (ns // 1_000_000) << 12 | ((ns % 1_000_000) << 12) // 1_000_000
    with _lock:
        tick = max(tick, _last_tick + 1)
        _last_tick = tick
        if not _random_words:
            _random_words.extend(struct.unpack("64Q", os.urandom(512)))
        random_62 = _random_words.pop() >> 2
    return _uuid((tick >> 12) << 80 | _VERSION_7 | (tick & 0xFFF) << 64 | _VARIANT | random_62)


def _uuid(value: int) -> UUID:
    """Return `UUID(int=value)` without its checks, which take most of the time of an id."""
    made = object.__new__(UUID)
    object.__setattr__(made, "int", value)
    object.__setattr__(made, "is_safe", SafeUUID.unknown)
    return made


def _after_fork() -> None:
    """Let a forked child draw its own random bits, and not wait for a lock that nobody holds."""
    global _lock
    _lock = threading.Lock()
    _random_words.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def first_id_at(moment: datetime) -> UUID:
    """Return the smallest UUIDv7 of `moment`'s millisecond: a bound for ranges by time."""
    milliseconds = int(moment.timestamp() * 1000)
    return UUID(int=milliseconds << 80 | _VERSION_7 | _VARIANT)


def time_of(identifier: UUID) -> datetime:
    """Return the UTC time inside a UUIDv7, to the millisecond."""
    return datetime.fromtimestamp((identifier.int >> 80) / 1000, tz=UTC)


_EPISODES = UUID("6d0c6a52-3f1e-5d7b-9c55-0c1a7e5f2b10")
"""Namespace of episode ids that are made of a caller's own key."""


def keyed_episode_id(project: str, key: str) -> UUID:
    """Return the episode id of a caller's own key, such as a pull request, within a project.

    The same on every machine, so that feedback by key needs no look-up (UUIDv5, RFC 9562).
    """
    return uuid5(_EPISODES, f"{project}\x1f{key}")
