"""The books of one spool writer: counts and positions that survive a kill of any process.

A writer has two: what became of its records up to the scrubbed stage (`Written`, kept by whoever
appends) and after it (`Shipped`, kept by whoever ships). Each is a small file of two slots; a
commit rewrites the older slot by one write, checksummed, so that a reader finds the last whole
state whatever happened in between. The slots are filled when the file is made: rewriting them
needs no room on a full disk.
"""

import fcntl
import json
import os
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SLOT_BYTES = 4096
_HEADER_BYTES = 26
"""8 hexadecimal digits of length, 8 of CRC-32, 8 of generation, each ended by a space, less one."""

MOST_REASONS = 16
OTHER_REASON = "other"
REASONS = (
    *("not_json", "spool_full", "disk_full", "disk_error", "client_error"),
    *("no_role", "callback_error", "wrapper_error", OTHER_REASON),
)
"""Why records are dropped."""

Account = dict[str, Any]
"""`{"writer", "seen", "delivered", "waiting", "held", "damaged", "dropped": {reason: n}}`."""


@dataclass
class Written:
    """What became of a writer's records up to the scrubbed stage.

    Attributes:
        taken: number of the last raw line that is dealt with; they are numbered from 1.
        refused: records offered and never numbered, each `dropped` for a reason.
        made: number of the last scrubbed line.
        held: kept aside because they could not be scrubbed.
        damaged: raw lines that were lost on the disk.
        dropped: by reason.
        segment, size: the end of the scrubbed stage, bytes of its last segment.
        held_file, held_size: the file of held records and its bytes.
        source: the name that the collector counts the records under.
    """

    taken: int = 0
    refused: int = 0
    made: int = 0
    held: int = 0
    damaged: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    segment: int = 1
    size: int = 0
    held_file: int = 1
    held_size: int = 0
    source: str = ""


@dataclass
class Shipped:
    """What became of a writer's scrubbed records.

    Attributes:
        handled: number of the last scrubbed line that is dealt with.
        delivered: the collector answered for them; `rejected` of these with a refusal.
        held: kept aside because the collector takes them in no batch.
        damaged: scrubbed lines that were lost on the disk.
        dropped: by reason.
        segment, offset: where the next line begins.
        held_file, held_size: the file of held records and its bytes.
        reported: the account that the collector was last told.
    """

    handled: int = 0
    delivered: int = 0
    rejected: int = 0
    held: int = 0
    damaged: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    segment: int = 1
    offset: int = 0
    held_file: int = 1
    held_size: int = 0
    reported: Account | None = None


def account(writer: str, sequence: int, written: Written, shipped: Shipped) -> Account:
    """Return the cumulative books of a writer whose last raw line is number `sequence`.

    seen = delivered + waiting + held + damaged + dropped.
    """
    dropped = dict(written.dropped)
    for reason, n in shipped.dropped.items():
        dropped[reason] = dropped.get(reason, 0) + n
    return {
        "writer": writer,
        "seen": sequence + written.refused,
        "delivered": shipped.delivered,
        "waiting": sequence - written.taken + written.made - shipped.handled,
        "held": written.held + shipped.held,
        "damaged": written.damaged + shipped.damaged,
        "dropped": dropped,
    }


def difference(books: Account) -> int:
    """Return the records that the books do not account for; 0 when they close."""
    kept = sum(books[name] for name in ("delivered", "waiting", "held", "damaged"))
    return int(books["seen"] - kept - sum(books["dropped"].values()))


def add_drop(dropped: dict[str, int], reason: str, n: int = 1) -> None:
    """Count a drop; beyond 16 reasons as `other`, so that the books keep their size."""
    name = reason[:60]
    if name not in dropped and len(dropped) >= MOST_REASONS:
        name = OTHER_REASON
    dropped[name] = dropped.get(name, 0) + n


class Book:
    """A locked file that holds the last committed state of one side.

    Args:
        path: of the file.
        descriptor: open for reading and writing, with the lock held.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path, self.descriptor = path, descriptor
        self._generation, self.state = _newest(os.pread(descriptor, 2 * SLOT_BYTES, 0))

    @classmethod
    def make(cls, path: Path) -> "Book":
        """Make and lock a new book; raises OSError."""
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.pwrite(descriptor, bytes(2 * SLOT_BYTES), 0)
        except OSError:
            os.close(descriptor)
            raise
        return cls(path, descriptor)

    @classmethod
    def take_over(cls, path: Path) -> "Book | None":
        """Lock an existing book; None if somebody holds it, or it is gone or not ours to read."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.stat(path).st_ino != os.fstat(descriptor).st_ino:
                raise FileNotFoundError(path)
        except OSError:
            os.close(descriptor)
            return None
        return cls(path, descriptor)

    def commit(self, state: Mapping[str, Any]) -> None:
        """Replace the state by one write; raises OSError."""
        payload = json.dumps(state, separators=(",", ":")).encode()
        generation = self._generation + 1
        header = b"%08x %08x %08x" % (len(payload), zlib.crc32(payload, generation), generation)
        if _HEADER_BYTES + len(payload) > SLOT_BYTES:
            raise OSError(f"{self.path}: {len(payload)} bytes of books, at most {SLOT_BYTES} fit")
        os.pwrite(self.descriptor, header + payload, generation % 2 * SLOT_BYTES)
        self._generation = generation

    def sync(self) -> None:
        """Force the books to the disk; raises OSError."""
        os.fsync(self.descriptor)

    def release(self) -> None:
        """Let go of the lock."""
        with suppress(OSError):
            os.close(self.descriptor)


def read_book(path: Path) -> dict[str, Any]:
    """Return the last committed state without locking; empty if there is none."""
    try:
        return _newest(path.read_bytes())[1]
    except OSError:
        return {}


def is_locked(path: Path) -> bool:
    """Say whether a living process holds the book."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _newest(data: bytes) -> tuple[int, dict[str, Any]]:
    """Return generation and state of the newest whole slot; (0, {}) if neither is whole."""
    newest: tuple[int, dict[str, Any]] = (0, {})
    for start in (0, SLOT_BYTES):
        slot = data[start : start + SLOT_BYTES]
        try:
            length, checksum, generation = (int(word, 16) for word in slot[:26].split(b" "))
        except ValueError:
            continue
        payload = slot[_HEADER_BYTES : _HEADER_BYTES + length]
        whole = len(payload) == length and zlib.crc32(payload, generation) == checksum
        if whole and generation > newest[0]:
            newest = generation, json.loads(payload)
    return newest
