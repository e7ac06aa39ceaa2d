"""Passwords: Argon2id by the library's defaults, at most two at a time, never an early answer.

One hashing takes 64 MiB and tens of milliseconds on purpose. So only two run at once in a process,
a few more may wait, and who comes then is asked to come again: guesses of others must not take the
memory, nor the threads that answer pages.
"""

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from foundation.errors import BadInput, FlywheelError

MIN_CHARACTERS: Final = 12
MAX_BYTES: Final = 1_000
_MIN_DIFFERENT: Final = 5
AT_ONCE: Final = 2
WAITING: Final = 6
"""Threads that may wait for a hashing; the server has 40 for everything."""

_HASHER: Final = PasswordHasher()
_SLOTS: Final = threading.BoundedSemaphore(AT_ONCE)
_QUEUE: Final = threading.BoundedSemaphore(AT_ONCE + WAITING)


class TooBusy(FlywheelError):
    """More passwords are being checked than this process has memory for."""

    http_status = 503

    def __init__(self) -> None:
        super().__init__(
            "passwords: too many are being checked at this moment, expected fewer at once. "
            "Try again in a few seconds."
        )


def require_good(password: str, name: str) -> str:
    """Return a password that may be set.

    Raises:
        BadInput: it is too short or too long, hardly varies, or is the name; it is not repeated.
    """
    if len(password) < MIN_CHARACTERS:
        raise _unfit(f"at least {MIN_CHARACTERS} characters")
    if len(password.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise _unfit(f"at most {MAX_BYTES:,} bytes")
    if len(set(password)) < _MIN_DIFFERENT:
        raise _unfit(f"at least {_MIN_DIFFERENT} different characters")
    if password.casefold() == name.casefold():
        raise _unfit("another text than the name")
    return password


def hash_of(password: str) -> str:
    """Return what is kept of a password."""
    with _one_of_few():
        return _HASHER.hash(password.encode("utf-8", "surrogatepass"))


def is_right(kept: str | None, given: str) -> bool:
    """Return whether a password is the one that `kept` was made of.

    It takes as long where nothing is kept: the time says nothing about who there is.

    Raises:
        TooBusy: others are being checked.
    """
    told = given.encode("utf-8", "surrogatepass")
    if len(told) > MAX_BYTES:  # nobody has such a one, whoever they say they are
        told, kept = b"", None
    with _one_of_few():
        try:
            matches = _HASHER.verify(kept or _nobodys(), told)
        except (VerificationError, InvalidHashError):
            return False
    return matches and kept is not None


def is_dated(kept: str) -> bool:
    """Return whether a hash was made by other parameters than today's."""
    return _HASHER.check_needs_rehash(kept)


def require_room() -> None:
    """Turn away who would not be checked anyway, before anything is asked of the database.

    Raises:
        TooBusy: others are being checked.
    """
    if not _QUEUE.acquire(blocking=False):
        raise TooBusy
    _QUEUE.release()


@contextmanager
def _one_of_few() -> Iterator[None]:
    if not _QUEUE.acquire(blocking=False):
        raise TooBusy
    try:
        with _SLOTS:
            yield
    finally:
        _QUEUE.release()


@lru_cache(maxsize=1)
def _nobodys() -> str:
    """Return the hash that is checked for who is not there."""
    return _HASHER.hash(secrets.token_bytes(32))


def prepare() -> None:
    """Make what the first check of an unknown name would have to make, and be slower for."""
    _nobodys()


def _unfit(expected: str) -> BadInput:
    return BadInput("password", "one that is not shown", expected, "Choose another.")
