"""A durable local spool: records survive a kill of any process, and wait out a server's absence.

A folder of append-only segment files, one line per record: length and CRC-32 in hexadecimal, then
compact JSON. Each writer process has segments of its own and holds a lock (`flock`) on them; when
it dies, the lock falls and another process adopts what it left. A torn last line, or a damaged one
in the middle, is skipped and counted. The reader's acknowledged offset lies beside each segment and
is replaced atomically; a segment is deleted once it is closed and wholly acknowledged.

One `write` per record means that nothing returned from `append` is lost when the process is killed.
Against the loss of power, `durable=True` costs one `fsync` per record; otherwise call `sync()` now
and then (the client's sender does, every second).

Delivery is at least once: after a crash between sending and acknowledging, records are sent again,
and the ids made by their writers keep them single.
"""

import errno
import fcntl
import json
import logging
import os
import threading
import zlib
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from collector.record import to_json

log = logging.getLogger(__name__)

_HEADER_BYTES = 18
"""8 hexadecimal digits of length, a space, 8 of CRC-32, a space."""

_FULL = frozenset({errno.EFBIG, errno.ENOSPC, errno.EDQUOT})

SEGMENT_BYTES = 16 << 20
MAX_BYTES = 1 << 30


def frame(payload: bytes) -> bytes:
    """Return one line of a segment: length, checksum, JSON, newline."""
    return b"%08x %08x %b\n" % (len(payload), zlib.crc32(payload), payload)


def unframe(line: bytes) -> bytes | None:
    """Return the JSON of a line, or None if the line is torn or damaged."""
    payload = line[_HEADER_BYTES:-1]
    try:
        length, checksum = int(line[:8], 16), int(line[9:17], 16)
    except ValueError:
        return None
    whole = line.endswith(b"\n") and len(payload) == length and zlib.crc32(payload) == checksum
    return payload if whole else None


@dataclass
class Counts:
    """What one spool did since it was opened, in records.

    `seen` were offered; each was `spooled` or `dropped` for a reason. Of the spooled (and of those
    adopted from dead processes) some are `sent`, `rejected` by the server, or `damaged` on disk;
    the rest wait.
    """

    seen: int = 0
    spooled: int = 0
    sent: int = 0
    rejected: int = 0
    damaged: int = 0
    adopted_segments: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    def as_dict(self) -> dict[str, Any]:
        """Return the counts as JSON values."""
        return {**self.__dict__, "dropped": dict(self.dropped)}


@dataclass
class _Segment:
    """A segment whose lock this process holds; `size` and `acknowledged` in bytes."""

    path: Path
    descriptor: int
    size: int = 0
    acknowledged: int = 0
    closed: bool = False

    @property
    def offset_path(self) -> Path:
        return self.path.with_suffix(".ack")


@dataclass(frozen=True)
class Batch:
    """Records read from one segment, to be acknowledged together."""

    records: Sequence[dict[str, Any]]
    segment: _Segment
    end: int
    damaged: int


class Spool:
    """Appends records of this process and hands them, with those of dead processes, to a reader.

    Safe for many threads, and for many processes on the same folder. After a fork the child starts
    segments of its own.

    Args:
        folder: made if it is absent.
        durable: `fsync` each record before `append` returns.
        segment_bytes: size at which a new segment is begun.
        max_bytes: bound of what this process has waiting; beyond it new records are dropped and
            counted.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        durable: bool = False,
        segment_bytes: int = SEGMENT_BYTES,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.folder = Path(folder)
        self.durable, self.segment_bytes, self.max_bytes = durable, segment_bytes, max_bytes
        self._start()

    def _start(self) -> None:
        self.counts = Counts()
        self._pid = os.getpid()
        self._writer = f"{self._pid}-{uuid4().hex[:12]}"
        self._made = 0
        self._append_lock, self._read_lock = threading.Lock(), threading.Lock()
        self._current: _Segment | None = None
        self._unread: deque[_Segment] = deque()
        self._unsynced = False
        self._warned: set[str] = set()

    def append(self, record: Mapping[str, Any]) -> bool:
        """Keep a JSON record; return False, and count and log why, if that is not possible.

        Never raises for a full disk or a record that JSON cannot hold: the caller's own work goes
        on.
        """
        if os.getpid() != self._pid:
            self.after_fork()
        try:
            line = frame(to_json(record))
        except (ValueError, TypeError, RecursionError) as error:
            self.drop("not_json", error)
            return False
        with self._append_lock:
            self.counts.seen += 1
            return self._write(line)

    def drop(self, reason: str, detail: object) -> None:
        """Count a record that was seen and is not kept; the first of each reason is logged."""
        with self._append_lock:
            self.counts.seen += 1
            self._drop(reason, detail)

    def _drop(self, reason: str, detail: object) -> None:
        self.counts.dropped[reason] += 1
        if reason not in self._warned:
            self._warned.add(reason)
            log.warning(
                "spool %s: a record is dropped (%s: %s); further ones are counted, not logged",
                self.folder,
                reason,
                detail,
            )

    def _write(self, line: bytes) -> bool:
        if self._waiting_bytes() + len(line) > self.max_bytes:
            self._drop("spool_full", f"{self.max_bytes} bytes wait already")
            return False
        try:
            segment = self._writable_segment()
            written = os.write(segment.descriptor, line)
            if written != len(line):
                raise OSError(errno.ENOSPC, f"{written} of {len(line)} bytes written")
            if self.durable:
                os.fsync(segment.descriptor)
        except OSError as error:
            self._drop("disk_full" if error.errno in _FULL else "disk_error", error)
            self._abandon_current()
            return False
        segment.size += written
        self._unsynced = True
        self.counts.spooled += 1
        return True

    def _abandon_current(self) -> None:
        """Begin a new segment next time: this one may end in half a record."""
        if self._current is not None:
            self._current.closed = True
            self._current = None

    def _writable_segment(self) -> _Segment:
        current = self._current
        if current is not None and current.size < self.segment_bytes:
            return current
        if current is not None:
            current.closed = True
        self._current = self._new_segment()
        self._unread.append(self._current)
        return self._current

    def _new_segment(self) -> _Segment:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._made += 1
        path = self.folder / f"{self._writer}-{self._made:06d}.seg"
        making = path.with_suffix(".new")  # nobody adopts it before the lock is held
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(making, flags, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        making.rename(path)
        return _Segment(path, descriptor)

    def _waiting_bytes(self) -> int:
        return sum(segment.size - segment.acknowledged for segment in tuple(self._unread))

    def waiting_bytes(self) -> int:
        """Return how many bytes this process still has to hand over."""
        with self._append_lock:
            return self._waiting_bytes()

    def sync(self) -> None:
        """Force what was appended to the disk, against a loss of power."""
        with self._append_lock:
            segment, unsynced = self._current, self._unsynced
            self._unsynced = False
        if segment is not None and unsynced:
            try:
                os.fsync(segment.descriptor)
            except OSError as error:
                log.warning("spool %s: fsync failed: %s", self.folder, error)

    def adopt(self) -> int:
        """Take over the segments of dead processes; return how many."""
        adopted = 0
        own = {segment.path for segment in tuple(self._unread)}
        for path in sorted(self.folder.glob("*.seg")):
            if path in own:
                continue
            segment = _take_over(path)
            if segment is not None:
                with self._append_lock:
                    self._unread.appendleft(segment)
                    self.counts.adopted_segments += 1
                adopted += 1
        return adopted

    def take(self, limit: int = 500, max_bytes: int = 4 << 20) -> Batch | None:
        """Return the oldest unacknowledged records, or None if there are none.

        Without `acknowledge` the next call returns the same records. One reader at a time.
        """
        with self._read_lock:
            for segment in tuple(self._unread):
                batch = _read(segment, limit, max_bytes)
                if batch.records or batch.damaged:
                    return batch
                self._retire(segment)
        return None

    def acknowledge(self, batch: Batch, sent: int | None = None) -> None:
        """Note that a batch need not be read again; `sent` of its records (default all) count."""
        with self._read_lock:
            segment = batch.segment
            _store_offset(segment, batch.end)
            segment.acknowledged = batch.end
            self.counts.sent += len(batch.records) if sent is None else sent
            self.counts.damaged += batch.damaged
            self._retire(segment)

    def _retire(self, segment: _Segment) -> None:
        """Delete a closed segment that is wholly acknowledged."""
        with self._append_lock:
            done = segment.closed and segment.acknowledged >= segment.size
            if done and segment in self._unread:
                self._unread.remove(segment)
        if done:
            segment.path.unlink(missing_ok=True)
            segment.offset_path.unlink(missing_ok=True)
            os.close(segment.descriptor)

    def reject(self, record: Mapping[str, Any], reason: str) -> None:
        """Keep a record that the server refused aside, with the reason, for a person to look at."""
        line = to_json({"reason": reason, "record": record}) + b"\n"
        aside = self.folder / "rejected"
        with self._append_lock:
            self.counts.rejected += 1
            try:
                aside.mkdir(parents=True, exist_ok=True)
                with open(aside / f"{self._writer}.jsonl", "ab") as file:
                    file.write(line)
            except OSError as error:
                log.warning("spool %s: a refused record is not kept: %s", self.folder, error)

    def close(self) -> None:
        """Release the segments; what is not acknowledged waits for the next process to adopt it."""
        self.sync()
        with self._read_lock:
            for segment in tuple(self._unread):
                segment.closed = True
                self._retire(segment)
            with self._append_lock:
                for segment in self._unread:
                    os.close(segment.descriptor)
                self._unread.clear()
                self._current = None

    def after_fork(self) -> None:
        """Start afresh in a forked child; the parent keeps its segments, locks and counts."""
        for segment in self._unread:
            os.close(segment.descriptor)  # the parent's descriptor still holds the lock
        self._start()


def _take_over(path: Path) -> _Segment | None:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None  # its owner has just deleted it, or it is not ours to read
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        here = os.fstat(descriptor)
        if os.stat(path).st_ino != here.st_ino:
            raise FileNotFoundError(path)
    except OSError:
        os.close(descriptor)  # its owner lives, or it was deleted in between
        return None
    segment = _Segment(path, descriptor, size=here.st_size, closed=True)
    segment.acknowledged = min(_stored_offset(segment.offset_path), segment.size)
    return segment


def _read(segment: _Segment, limit: int, max_bytes: int) -> Batch:
    """Read whole records from the acknowledged offset on; a live segment's torn tail waits."""
    records: list[dict[str, Any]] = []
    damaged, end = 0, segment.acknowledged
    # Closed and size are read first: bytes appended while we read are left to the next call.
    closed, size = segment.closed, segment.size
    with open(segment.path, "rb") as file:
        file.seek(end)
        while end < size and len(records) < limit and end - segment.acknowledged < max_bytes:
            line = file.readline()
            payload = unframe(line)
            if payload is not None:
                records.append(json.loads(payload))
            elif line.endswith(b"\n") or closed:
                damaged += 1
                log.warning("spool %s: damaged record at byte %d skipped", segment.path, end)
            else:
                break
            end += len(line)
            if not line:
                break
    return Batch(records, segment, end, damaged)


def _store_offset(segment: _Segment, offset: int) -> None:
    temporary = segment.path.with_suffix(".ack.new")
    try:
        temporary.write_text(str(offset))
        temporary.replace(segment.offset_path)
    except OSError as error:
        # The records may be sent twice after a crash; their ids keep them single.
        log.warning("spool %s: offset not stored: %s", segment.path, error)


def _stored_offset(path: Path) -> int:
    try:
        return int(path.read_text())
    except (FileNotFoundError, ValueError):
        return 0


@dataclass(frozen=True)
class Status:
    """What waits in a spool folder, whoever wrote it."""

    segments: int
    records: int
    bytes: int
    damaged: int
    rejected: int


def inspect(folder: str | os.PathLike[str]) -> Status:
    """Count what waits in a spool folder, without taking anything over."""
    segments = records = waiting = damaged = 0
    for path in Path(folder).glob("*.seg"):
        offset = _stored_offset(path.with_suffix(".ack"))
        segments += 1
        for line in _lines_from(path, offset):
            intact = unframe(line) is not None
            records, damaged = records + intact, damaged + (not intact)
            waiting += len(line)
    rejected = sum(
        sum(1 for _ in _lines_from(path, 0)) for path in Path(folder, "rejected").glob("*.jsonl")
    )
    return Status(segments, records, waiting, damaged, rejected)


def _lines_from(path: Path, offset: int) -> Iterator[bytes]:
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            yield from file
    except FileNotFoundError:
        return
