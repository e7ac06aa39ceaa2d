"""The shipping side of a spool writer: scrubbed lines out in batches, each dealt with once.

Where reading goes on and what became of the records is committed together, so that each record is
counted once, whenever the process is killed; a batch that was on its way is sent again, and the
ids made by the writers keep its records single.
"""

import json
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from collector.spool.books import Account, Book, Shipped, Written, add_drop
from collector.spool.segments import frame, lines_from, read_lines, unframe
from collector.spool.writer import READY, cut_uncommitted, held_line, held_lines, ready_path

READER_BOOK = "reader.book"
REFUSED = "held-ready"


@dataclass(frozen=True)
class Batch:
    """Scrubbed records of one writer, to be settled together.

    Attributes:
        payloads: JSON lines `{"kind": …, "record": …}`.
        reader: whose they are.
        segment, start, end: where they lie, in bytes.
        last: number of the last line.
        damaged: lines that are missing among them.
    """

    payloads: Sequence[bytes]
    reader: "Reader"
    segment: int
    start: int
    end: int
    last: int
    damaged: int

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        """The lines as JSON values."""
        return [json.loads(payload) for payload in self.payloads]


@dataclass(frozen=True)
class Settlement:
    """What became of a batch: `refused` are (reason, line) of records that no batch gets through.

    Attributes:
        delivered: records that the collector answered for.
        rejected: of these, those that it refused.
        refused: records to keep aside, with the reason.
    """

    delivered: int
    rejected: int = 0
    refused: Sequence[tuple[str, bytes]] = ()


class Reader:
    """Hands out what a writer has scrubbed, in order; its book's lock is held.

    Args:
        folder: of the writer.
        book: locked.
        horizon: returns the writer's books, which say how far the scrubbed stage goes.
    """

    def __init__(self, folder: Path, book: Book, horizon: Callable[[], Written]) -> None:
        self.folder, self.name, self.horizon = folder, folder.name, horizon
        self.state = Shipped(**book.state)
        self._book = book
        self._lock = threading.Lock()
        self._in_flight: Batch | None = None
        cut_uncommitted(folder, REFUSED, self.state.held_file, self.state.held_size)
        self._delete_before(self.state.segment)

    @property
    def source(self) -> str:
        """The name that the collector counts these records under."""
        return self.horizon().source

    def take(self, limit: int, max_bytes: int) -> Batch | None:
        """Return the oldest records that are not settled, or None; again until they are."""
        with self._lock:
            end = self.horizon()
            while True:
                batch = self._read(end, limit, max_bytes)
                if batch is not None or self.state.segment >= end.segment:
                    break
                self.state.segment, self.state.offset = self.state.segment + 1, 0
            if batch is None and end.made > self.state.handled:
                batch = self._batch([], self.state.offset, end.made)  # the disk has lost the rest
            self._in_flight = batch
            return batch

    def _read(self, end: Written, limit: int, max_bytes: int) -> Batch | None:
        """Read from the present segment; None if it has nothing more."""
        path = ready_path(self.folder, self.state.segment)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            last = self.state.segment == end.segment
            size = end.size if last else os.fstat(descriptor).st_size
            if self.state.offset >= size:
                return None
            lines, offset = read_lines(descriptor, self.state.offset, size, max_bytes)
        finally:
            os.close(descriptor)
        if len(lines) > limit:
            lines = lines[:limit]
            offset = self.state.offset + sum(len(line) + 1 for line in lines)
        numbered = [entry for line in lines if (entry := unframe(line)) is not None]
        found = [entry for entry in numbered if self.state.handled < entry[0] <= end.made]
        last_number = found[-1][0] if found else self.state.handled
        return self._batch([payload for _, payload in found], offset, last_number)

    def _batch(self, payloads: Sequence[bytes], end: int, last: int) -> Batch:
        state = self.state
        damaged = last - state.handled - len(payloads)
        return Batch(payloads, self, state.segment, state.offset, end, last, damaged)

    def settle(self, batch: Batch, done: Settlement, told: Account | None = None) -> None:
        """Commit what became of a batch; `told` is the account that went with it.

        Raises:
            OSError: the disk refuses; the batch is still to be settled.
        """
        with self._lock:
            state = self.state
            if (state.segment, state.offset) != (batch.segment, batch.start):
                return  # settled before
            held_size = self._keep_aside(done.refused)
            state.handled, state.offset = batch.last, batch.end
            state.delivered += done.delivered
            state.rejected += done.rejected
            state.damaged += batch.damaged
            state.held += len(done.refused)
            state.held_size = held_size
            state.reported = told or state.reported
            self._in_flight = None
            self._book.commit(vars(state))
        self._delete_before(batch.segment)

    def _keep_aside(self, refused: Sequence[tuple[str, bytes]]) -> int:
        """Append refused records to the held file; return its bytes."""
        state = self.state
        if not refused:
            return state.held_size
        data = b"".join(
            frame(held_line(reason, payload), state.held + n)
            for n, (reason, payload) in enumerate(refused, start=1)
        )
        cut_uncommitted(self.folder, REFUSED, state.held_file, state.held_size)
        with open(self._held_path(), "ab", opener=_private) as file:
            file.write(data)
        return state.held_size + len(data)

    def _held_path(self) -> Path:
        return self.folder / f"{REFUSED}-{self.state.held_file:06d}"

    def report(self, told: Account) -> None:
        """Note that the collector knows this account; raises OSError."""
        with self._lock:
            self.state.reported = told
            self._book.commit(vars(self.state))

    def put_back(self, batch: Batch) -> None:
        """Say that a batch is not on its way any more."""
        with self._lock:
            if self._in_flight is batch:
                self._in_flight = None

    def drop_oldest(self, reason: str) -> int:
        """Give up the oldest closed segment to make room; return its bytes, 0 if none can go.

        Its records are counted as dropped. A segment of which records are on their way stays.
        """
        with self._lock:
            state, end = self.state, self.horizon()
            path = ready_path(self.folder, state.segment)
            if self._in_flight is not None or state.segment >= end.segment:
                return 0
            numbers, size = _numbers(path, state.offset)
            last = max([state.handled, *numbers])
            add_drop(state.dropped, reason, last - state.handled)
            freed = size - state.offset
            state.handled, state.segment, state.offset = last, state.segment + 1, 0
            self._book.commit(vars(state))
        self._delete_before(state.segment)
        return freed

    def _delete_before(self, segment: int) -> None:
        """Delete the segments that are done with."""
        for path in self.folder.glob(f"{READY}-*"):
            if int(path.name.rpartition("-")[2]) < segment:
                path.unlink(missing_ok=True)

    # Held records

    def held(self) -> list[dict[str, str]]:
        """Return the records that were kept aside, each with `reason` and `line`."""
        with self._lock:
            return held_lines(self._held_path(), self.state.held_size)

    def settle_held(self, done: Settlement) -> None:
        """Commit what became of the held records when they were tried again; raises OSError."""
        with self._lock:
            state, old = self.state, self._held_path()
            state.held_file, state.held_size, state.held = state.held_file + 1, 0, 0
            state.held_size = self._keep_aside(done.refused)
            state.held = len(done.refused)
            state.delivered += done.delivered
            state.rejected += done.rejected
            self._book.commit(vars(state))
        old.unlink(missing_ok=True)

    # Ends

    def shipped(self) -> Shipped:
        """Return a copy of the books."""
        with self._lock:
            return replace(self.state, dropped=dict(self.state.dropped))

    def waiting_bytes(self) -> int:
        """Return the bytes of the scrubbed stage that are not settled."""
        with self._lock:
            return waiting_bytes(self.folder, self.horizon(), self.state)

    def sync(self) -> None:
        """Force the books to the disk; raises OSError."""
        self._book.sync()

    def release(self) -> None:
        """Let go of the lock; the records stay."""
        self._book.release()


def waiting_bytes(folder: Path, written: Written, shipped: Shipped) -> int:
    """Return the bytes of a writer's scrubbed stage that are not settled."""
    sizes = {written.segment: written.size}
    for segment in range(shipped.segment, written.segment):
        with suppress(FileNotFoundError):
            sizes[segment] = ready_path(folder, segment).stat().st_size
    return max(0, sum(sizes.values()) - shipped.offset)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _numbers(path: Path, start: int) -> tuple[list[int], int]:
    """Return the numbers of the lines after an offset, and the file's size."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return [], start
    try:
        size = os.fstat(descriptor).st_size
        numbered = (unframe(line) for line in lines_from(descriptor, start, size))
        return [entry[0] for entry in numbered if entry is not None], size
    finally:
        os.close(descriptor)
