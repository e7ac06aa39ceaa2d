"""A durable local spool: records survive a kill of any process, and wait out a server's absence.

A folder with a folder per writer (a process that logs), in which lie

- `raw-*`: records as they were handed over, until a background thread has scrubbed them, which
  takes less than about a second;
- `ready-*`: scrubbed records on their way to the collector, deleted when it has answered for them;
- `held-raw-*`, `held-ready-*`: records that cannot be scrubbed, and those that the collector takes
  in no batch;
- `writer.book`, `reader.book`: the books of both sides, each locked (`flock`) by the process that
  keeps it. When it dies the lock falls, and another process adopts the writer and its books.

Beside them `rejected/` keeps what the collector answered with a refusal, for a person to look at.
Files are readable by their owner only.

One `write` per record means that nothing returned from `append` is lost when the process is killed.
Against the loss of power there is `fsync`: `always` waits for the disk at each record, `interval`
(default) forces the disk about once a second, `never` leaves it to the system.

Delivery is at least once: after a crash between sending and settling, records are sent again, and
the ids made by their writers keep them single. The books count each record once all the same:
seen = delivered + waiting + held + damaged + dropped, for every writer at any time.
"""

import errno
import logging
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from collector.record import to_json
from collector.spool.books import (
    MOST_REASONS,
    Account,
    Book,
    Shipped,
    Written,
    account,
    add_drop,
    read_book,
)
from collector.spool.prepare import Preparer
from collector.spool.reader import READER_BOOK, Batch, Reader, Settlement, waiting_bytes
from collector.spool.writer import WRITER_BOOK, Prepare, Writer
from foundation.errors import BadInput

log = logging.getLogger(__name__)

_FULL = frozenset({errno.EFBIG, errno.ENOSPC, errno.EDQUOT})

SEGMENT_BYTES = 16 << 20
MAX_BYTES = 1 << 30
FSYNC_POLICIES = ("always", "interval", "never")
DROP_POLICIES = ("new", "oldest")
MAKING_S = 60.0
"""Age at which a writer's folder that was never finished is rubbish."""


class Spool:
    """Appends records of this process and hands them, with those of dead processes, to a reader.

    Safe for many threads, and for many processes on the same folder. After a fork the child starts
    a writer of its own.

    Args:
        folder: made if it is absent.
        fsync: `always`, `interval` or `never`; see the module.
        segment_bytes: size at which a new segment is begun.
        max_bytes: bound of what this process has waiting.
        drop: what goes beyond the bound: `new` records, or the `oldest` whole segments. Counted.
        prepare: builds and scrubs a raw line.
        reads: whether this process ships; if not, another may read while this one writes.
        source: the name that the collector counts this process's records under.

    Raises:
        BadInput: an unknown policy, or a bound that is not positive.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        fsync: str = "interval",
        segment_bytes: int = SEGMENT_BYTES,
        max_bytes: int = MAX_BYTES,
        drop: str = "new",
        prepare: Prepare | None = None,
        reads: bool = True,
        source: str = "spool",
    ) -> None:
        _require_one_of("fsync policy of the spool", fsync, FSYNC_POLICIES)
        _require_one_of("drop policy of the spool", drop, DROP_POLICIES)
        if max_bytes <= 0:
            raise BadInput("bound of the spool", max_bytes, "bytes above 0", "Leave it out: 1 GiB.")
        self.folder = Path(folder)
        self.fsync, self.max_bytes, self.drop_policy, self.reads = fsync, max_bytes, drop, reads
        self.segment_bytes = min(segment_bytes, max(max_bytes // 8, 1))
        self.tells = False
        self.source = source
        self._prepare = prepare or Preparer()
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self.name = self._new_name()
        self.last_append = 0.0
        self._lock = threading.Lock()
        self._own: Writer | None = None
        self._writers: dict[str, Writer] = {}
        self._readers: dict[str, Reader] = {}
        self._ready_bytes = 0
        self._unwritten: dict[str, int] = {}
        self._adopted = 0
        self._warned: set[str] = set()

    def _new_name(self) -> str:
        return f"{_host()}-{self._pid}-{uuid4().hex[:12]}"

    # Appending

    def append(self, record: Mapping[str, Any]) -> bool:
        """Keep a JSON record `{"kind", "record"}` or a call; see `append_line`."""
        try:
            payload = to_json(record)
        except (ValueError, TypeError, RecursionError) as error:
            self.drop("not_json", error)
            return False
        return self.append_line(payload)

    def append_line(self, payload: bytes) -> bool:
        """Keep a raw line; return False, and count and log why, if that is not possible.

        Never raises for a full disk: the caller's own work goes on.
        """
        if os.getpid() != self._pid:
            self.after_fork()
        writer = self._own
        try:
            if writer is None:
                writer = self._own_writer()
            if writer.raw_bytes + self._ready_bytes + len(payload) > self.max_bytes:
                if not self._make_room(len(payload)):
                    self.drop("spool_full", f"{self.max_bytes} bytes wait already")
                    return False
            writer.append(payload)
        except OSError as error:
            self.drop("disk_full" if error.errno in _FULL else "disk_error", error)
            return False
        self.last_append = time.monotonic()
        return True

    def drop(self, reason: str, detail: object) -> None:
        """Count a record that was seen and is not kept; the first of each reason is logged."""
        try:
            self._own_writer().refuse(reason)
        except OSError:  # not even an empty book can be made: remembered until it can
            with self._lock:
                add_drop(self._unwritten, reason)
        if reason not in self._warned and len(self._warned) < MOST_REASONS:
            self._warned.add(reason)
            log.warning(
                "spool %s: a record is dropped (%s: %s); further ones are counted, not logged",
                self.folder, reason, detail,
            )  # fmt: skip

    def _own_writer(self) -> Writer:
        """Return this process's writer, made by its first record; raises OSError."""
        with self._lock:
            if self._own is None:
                self._own = self._new_writer()
                for reason, n in self._unwritten.items():
                    self._own.refuse(reason, n)
                self._unwritten = {}
            return self._own

    def _new_writer(self) -> Writer:
        """Make a writer's folder under another name: nobody adopts it before it is locked."""
        making, folder = self.folder / f"{self.name}.new", self.folder / self.name
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(parents=True, mode=0o700)
        book = Book.make(making / WRITER_BOOK)
        reading = Book.make(making / READER_BOOK)
        making.rename(folder)
        book.path, reading.path = folder / WRITER_BOOK, folder / READER_BOOK
        writer = Writer.make(folder, book, self.fsync, self.segment_bytes, self.source)
        self._writers[self.name] = writer
        if self.reads:
            self._readers[self.name] = Reader(folder, reading, writer.written)
        else:
            reading.release()
        return writer

    def _make_room(self, wanted: int) -> bool:
        """Drop the oldest segments if that is the policy; return whether there is room now."""
        if self.drop_policy != "oldest":
            return False
        for reader in tuple(self._readers.values()):
            while self.waiting_bytes() + wanted > self.max_bytes and reader.drop_oldest(
                "spool_full"
            ):
                self._measure()
        return self.waiting_bytes() + wanted <= self.max_bytes

    # Preparing

    def prepare(self, limit: int = 64, pause: Callable[[], None] | None = None) -> int:
        """Scrub up to `limit` raw records of each writer; return how many lines were read.

        Raises:
            OSError: the disk refuses; they stay raw.
        """
        done = 0
        for writer in tuple(self._writers.values()):
            done += writer.prepare(self._prepare, limit, pause)
        if done:
            self._measure()
        return done

    def prepare_all(self, timeout_s: float | None = None) -> bool:
        """Scrub everything raw and delete the raw files; return whether nothing raw is left."""
        until = time.monotonic() + timeout_s if timeout_s is not None else None
        try:
            while self.prepare() and (until is None or time.monotonic() < until):
                continue
            for writer in tuple(self._writers.values()):
                writer.free_all_raw()
        except OSError as error:
            log.warning("spool %s: records stay raw: %s", self.folder, error)
        return self.raw_records() == 0

    def raw_records(self) -> int:
        """Return how many records are not scrubbed yet."""
        writers = tuple(self._writers.values())
        return sum(writer.sequence - writer.state.taken for writer in writers)

    def _measure(self) -> None:
        self._ready_bytes = sum(reader.waiting_bytes() for reader in tuple(self._readers.values()))
        own = self._own
        if own is not None and own.name not in self._readers:  # another process reads it
            self._ready_bytes += _ready_bytes(own.folder)

    def waiting_bytes(self) -> int:
        """Return how many bytes this process still has to hand over."""
        return self._ready_bytes + sum(writer.raw_bytes for writer in tuple(self._writers.values()))

    # Reading

    def adopt(self, live: bool = False) -> int:
        """Take over what dead processes left; return how many writers.

        With `live`, read also for living writers that nobody reads for.
        """
        before = len(self._readers)
        for folder in writer_folders(self.folder):
            if folder.name == self.name and self._own is not None and not live:
                continue
            writer = self._adopt_writer(folder)
            if (writer is not None or live) and folder.name not in self._readers:
                self._adopt_reader(folder)
            if writer is not None and folder.name not in self._readers:
                self._let_go(folder.name)  # prepared; whoever reads it ships it
        adopted = len(self._readers) - before
        self._adopted += adopted
        self._measure()
        return adopted

    def _adopt_writer(self, folder: Path) -> Writer | None:
        """Return the writer if this process has it, or nobody: then it is recovered."""
        if folder.name in self._writers:
            return self._writers[folder.name]
        book = Book.take_over(folder / WRITER_BOOK)
        if book is None:
            return None
        try:
            writer = Writer.recover(folder, book, self.fsync, self.segment_bytes)
        except OSError as error:
            log.warning("spool %s: not adopted: %s", folder, error)
            book.release()
            return None
        self._writers[folder.name] = writer
        return writer

    def _adopt_reader(self, folder: Path) -> None:
        book = Book.take_over(folder / READER_BOOK)
        if book is None:
            return
        path = folder / WRITER_BOOK

        def horizon() -> Written:
            writer = self._writers.get(folder.name)
            return writer.written() if writer is not None else Written(**read_book(path))

        self._readers[folder.name] = Reader(folder, book, horizon)

    def take(
        self, limit: int = 500, max_bytes: int = 4 << 20, prepare: bool = True
    ) -> Batch | None:
        """Return the oldest records of a writer, or None if nothing waits.

        Without `settle` the next call returns the same records. One reader at a time.

        Args:
            limit: records at most.
            max_bytes: about so many bytes at most, one record at least.
            prepare: scrub first what is still raw.
        """
        if prepare:
            self.prepare_all()
        if self._own is not None and self.name not in self._readers:
            self._adopt_reader(self._own.folder)
        for reader in tuple(self._readers.values()):
            batch = reader.take(limit, max_bytes)
            if batch is not None:
                return batch
        return None

    def settle(
        self, batch: Batch, done: Settlement | None = None, told: Account | None = None
    ) -> None:
        """Note what became of a batch, by default that all of it was delivered.

        Raises:
            OSError: the disk refuses; the batch will be taken again.
        """
        batch.reader.settle(batch, done or Settlement(len(batch.payloads)), told)
        self._measure()
        self._let_go_if_done(batch.reader.name)

    def told(self, reader: Reader, books: Account) -> None:
        """Note that the collector knows these books; raises OSError."""
        reader.report(books)
        self._let_go_if_done(reader.name)

    def untold(self) -> list[tuple[Reader, Account]]:
        """Return the writers read here whose books the collector does not know, and the books."""
        books = [(reader, self.account(reader.name)) for reader in tuple(self._readers.values())]
        return [(reader, each) for reader, each in books if reader.state.reported != each]

    def set_aside(self, name: str, payload: bytes, reason: str) -> None:
        """Keep a record that the collector answered with a refusal, for a person to look at."""
        aside = self.folder / "rejected"
        line = to_json({"reason": reason, "record": payload.decode("utf-8", "replace")}) + b"\n"
        try:
            aside.mkdir(parents=True, exist_ok=True, mode=0o700)
            with open(aside / f"{name}.jsonl", "ab", opener=_private) as file:
                file.write(line)
        except OSError as error:
            log.warning("spool %s: a refused record is not kept: %s", self.folder, error)

    # Books

    def account(self, name: str) -> Account:
        """Return the books of a writer that is written or read here."""
        writer, reader = self._writers.get(name), self._readers.get(name)
        folder = self.folder / name
        shipped = reader.shipped() if reader else Shipped(**read_book(folder / READER_BOOK))
        if writer is not None:
            return account(name, *writer.counted(), shipped)
        written = Written(**read_book(folder / WRITER_BOOK))
        return account(name, written.taken, written, shipped)

    def names(self) -> list[str]:
        """Return the writers that are written or read here."""
        return sorted({*self._writers, *self._readers})

    def counts(self) -> dict[str, Any]:
        """Return the books of this process, with `spooled`, `rejected` and `waiting_bytes`."""
        own = self._own
        books = self.account(self.name) if own else account(self.name, 0, Written(), Shipped())
        reader = self._readers.get(self.name)
        for reason, n in self._unwritten.items():
            books["dropped"][reason] = books["dropped"].get(reason, 0) + n
            books["seen"] += n
        return books | {
            "spooled": own.sequence if own else 0,
            "rejected": reader.state.rejected if reader else 0,
            "adopted": self._adopted,
            "waiting_bytes": self.waiting_bytes(),
        }

    # Held records

    def retry_held(self) -> list[Reader]:
        """Scrub again what was held raw; return the readers of records that were refused.

        Raises:
            OSError: the disk refuses.
        """
        for writer in tuple(self._writers.values()):
            writer.retry_held(self._prepare)
        self._measure()
        return [reader for reader in tuple(self._readers.values()) if reader.state.held]

    # Ends

    def sync(self) -> None:
        """Force what was appended to the disk, against a loss of power, unless `fsync` is never."""
        if self.fsync == "never":
            return
        try:
            for writer in tuple(self._writers.values()):
                writer.sync()
            for reader in tuple(self._readers.values()):
                reader.sync()
        except OSError as error:
            log.warning("spool %s: fsync failed: %s", self.folder, error)

    def close(self, timeout_s: float | None = None) -> None:
        """Scrub what is raw and let go of the writers; what is left waits for another process.

        A record that comes later begins a new writer. What is not scrubbed after `timeout_s` stays
        raw.
        """
        self.prepare_all(timeout_s)
        self.sync()
        with self._lock:
            own, self._own = self._own, None
            for name in {*self._writers, *self._readers}:
                self._let_go(name)
            if own is not None:
                self.name = self._new_name()
            self._ready_bytes = 0

    def _let_go(self, name: str) -> None:
        """Release a writer, or delete it if nothing is left of it and both locks are ours."""
        writer, reader = self._writers.pop(name, None), self._readers.pop(name, None)
        if writer is not None and reader is not None:
            if self._is_done(account(name, *writer.counted(), reader.shipped()), reader):
                with suppress(OSError):
                    delete_writer(self.folder / name)
        if reader is not None:
            reader.release()
        if writer is not None:
            writer.release()

    def _is_done(self, books: Account, reader: Reader) -> bool:
        """Say whether a writer leaves nothing to ship, to look at or to tell."""
        if books["waiting"] or books["held"]:
            return False
        uneventful = books["seen"] == books["delivered"] and not self.tells
        return uneventful or not books["seen"] or reader.state.reported == books

    def _let_go_if_done(self, name: str) -> None:
        """Delete an adopted writer that is done."""
        if name != self.name and name in self._writers:
            if self._is_done(self.account(name), self._readers[name]):
                self._let_go(name)

    def after_fork(self) -> None:
        """Start afresh in a forked child; the parent keeps its writers, locks and counts."""
        for writer in self._writers.values():
            writer.release()  # the parent's descriptors still hold the locks
        for reader in self._readers.values():
            reader.release()
        self._start()


def writer_folders(folder: Path) -> list[Path]:
    """Return the folders of the writers in a spool's folder, and clear away unfinished ones."""
    try:
        entries = sorted(path for path in folder.iterdir() if path.is_dir())
    except FileNotFoundError:
        return []
    for path in entries:
        if path.suffix in (".new", ".gone") and time.time() - path.stat().st_mtime > MAKING_S:
            shutil.rmtree(path, ignore_errors=True)
    return [path for path in entries if not path.suffix and (path / WRITER_BOOK).exists()]


def delete_writer(folder: Path) -> None:
    """Delete a writer's folder; a kill in between leaves one that nobody adopts."""
    gone = folder.with_suffix(".gone")
    folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def _ready_bytes(folder: Path) -> int:
    """Return the bytes of the scrubbed stage that another process has still to read."""
    written = Written(**read_book(folder / WRITER_BOOK))
    return waiting_bytes(folder, written, Shipped(**read_book(folder / READER_BOOK)))


def _host() -> str:
    return "".join(c if c.isalnum() or c == "-" else "-" for c in socket.gethostname())[:60]


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _require_one_of(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise BadInput(what, value, f"one of {', '.join(known)}", "Correct it.")
