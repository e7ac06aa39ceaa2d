"""What waits in a spool's folder, whoever wrote it, read without taking anything over."""

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from collector.spool import writer_folders
from collector.spool.books import (
    Account,
    Shipped,
    Written,
    account,
    difference,
    is_locked,
    read_book,
)
from collector.spool.reader import READER_BOOK, waiting_bytes
from collector.spool.segments import last_number, lines_from, unframe
from collector.spool.writer import RAW, WRITER_BOOK, ready_path

ATTEMPTS = 5
"""Readings of a living writer's files, until one falls between two of its commits."""


@dataclass(frozen=True)
class WriterStatus:
    """One writer: its books, and what lies on the disk.

    Attributes:
        folder: of the spool.
        name: of the writer.
        alive: a process writes it.
        shipping: a process reads it.
        books: cumulative, in records.
        rejected: of the delivered ones, those that the collector answered with a refusal.
        on_disk: records found waiting in the files.
        waiting_bytes: in the files, raw and scrubbed.
        oldest: Unix time of the last write to the oldest file with waiting records; None if none.
    """

    folder: Path
    name: str
    alive: bool
    shipping: bool
    books: Account
    rejected: int
    on_disk: int
    waiting_bytes: int
    oldest: float | None

    @property
    def difference(self) -> int:
        """Records that the books do not account for: 0."""
        return difference(self.books)


@dataclass(frozen=True)
class Totals:
    """The books of several writers added up, in records."""

    writers: int = 0
    seen: int = 0
    delivered: int = 0
    waiting: int = 0
    held: int = 0
    damaged: int = 0
    rejected: int = 0
    waiting_bytes: int = 0
    oldest: float | None = None
    dropped: dict[str, int] = field(default_factory=dict)

    @property
    def difference(self) -> int:
        """Records that the books do not account for: 0."""
        return difference(asdict(self))


def inspect(folder: str | os.PathLike[str]) -> list[WriterStatus]:
    """Return the writers of a spool's folder, by name; empty if there is no such folder."""
    found = (_inspect_writer(path) for path in writer_folders(Path(folder)))
    return [status for status in found if status is not None]


def total(writers: Iterable[WriterStatus]) -> Totals:
    """Add up."""
    each = list(writers)
    dropped: Counter[str] = Counter()
    for one in each:
        dropped.update(one.books["dropped"])

    def added(name: str) -> int:
        return sum(one.books[name] for one in each)

    return Totals(
        writers=len(each),
        seen=added("seen"),
        delivered=added("delivered"),
        waiting=added("waiting"),
        held=added("held"),
        damaged=added("damaged"),
        rejected=sum(one.rejected for one in each),
        waiting_bytes=sum(one.waiting_bytes for one in each),
        oldest=min((one.oldest for one in each if one.oldest is not None), default=None),
        dropped=dict(dropped),
    )


def _inspect_writer(folder: Path) -> WriterStatus | None:
    """Return a writer's status, or None if it has been deleted meanwhile."""
    for attempt in range(ATTEMPTS):
        before = _books(folder)
        try:
            status = _read_writer(folder, *before)
        except FileNotFoundError:  # a file that its process has just finished with
            if attempt == ATTEMPTS - 1:
                return None
            continue
        if _books(folder) == before:
            break
    return status if (folder / WRITER_BOOK).exists() else None


def _books(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    return read_book(folder / WRITER_BOOK), read_book(folder / READER_BOOK)


def _read_writer(
    folder: Path, written_book: dict[str, Any], shipped_book: dict[str, Any]
) -> WriterStatus:
    written, shipped = Written(**written_book), Shipped(**shipped_book)
    raw = [_raw_file(path, written.taken) for path in sorted(folder.glob(f"{RAW}-*"))]
    sequence = max([written.taken, *(last for last, _, _ in raw)])
    ready, ready_files = _ready_lines(folder, written, shipped)
    waiting_files = [path for _, count, path in raw if count] + ready_files
    raw_bytes = sum(path.stat().st_size for _, count, path in raw if count)
    return WriterStatus(
        folder=folder.parent,
        name=folder.name,
        alive=is_locked(folder / WRITER_BOOK),
        shipping=is_locked(folder / READER_BOOK),
        books=account(folder.name, sequence, written, shipped),
        rejected=shipped.rejected,
        on_disk=sum(count for _, count, _ in raw) + ready,
        waiting_bytes=raw_bytes + waiting_bytes(folder, written, shipped),
        oldest=min((path.stat().st_mtime for path in waiting_files), default=None),
    )


def _raw_file(path: Path, taken: int) -> tuple[int, int, Path]:
    """Return the number of a raw file's last line, and how many whole lines wait in it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        numbered = [unframe(line) for line in lines_from(descriptor, 0, size)]
        waiting = sum(entry is not None and entry[0] > taken for entry in numbered)
        return last_number(descriptor, size, taken) if waiting else taken, waiting, path
    finally:
        os.close(descriptor)


def _ready_lines(folder: Path, written: Written, shipped: Shipped) -> tuple[int, list[Path]]:
    """Return how many scrubbed lines wait, and the files in which they do."""
    count, files = 0, list[Path]()
    for segment in range(shipped.segment, written.segment + 1):
        path = ready_path(folder, segment)
        start = shipped.offset if segment == shipped.segment else 0
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            size = os.fstat(descriptor).st_size
            end = written.size if segment == written.segment else size
            found = sum(unframe(line) is not None for line in lines_from(descriptor, start, end))
        finally:
            os.close(descriptor)
        if found:
            count += found
            files.append(path)
    return count, files
