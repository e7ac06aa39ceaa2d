"""The appending side of a spool writer: raw lines in, scrubbed lines out, nothing in between lost.

A record rests in two stages. `append` adds a raw line by one `write`, which is all that the agent's
thread waits for. `prepare` reads raw lines, hands each to a function that scrubs it, adds the
results to the scrubbed stage, commits the books, and then frees the raw file. A kill at any point
leaves what the last commit says: what was written after it is cut off and made again from the raw
lines, whose numbers tell which are dealt with already.
"""

import errno
import json
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from collector.record import to_json
from collector.spool.books import Book, Written, add_drop
from collector.spool.segments import frame, last_number, lines_from, read_lines, unframe

log = logging.getLogger(__name__)

Prepare = Callable[[bytes], bytes]
"""Turns a raw line's JSON into a scrubbed one's; whatever it raises holds the record back."""

WRITER_BOOK = "writer.book"
RAW, READY, HELD = "raw", "ready", "held-raw"

RAW_AGE_S = 0.25
"""Age at which a raw file is closed, so that it can be deleted when its lines are prepared."""

RAW_BYTES = 4 << 20
READ_BYTES = 256 << 10

_APPENDING = os.O_CREAT | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC


@dataclass
class _Raw:
    """A raw file: `size` bytes of whole lines, of which `offset` have been read."""

    path: Path
    descriptor: int
    size: int = 0
    offset: int = 0
    since: float = 0.0
    apart: bytes = b""

    def cut(self) -> None:
        """Undo half a write; where even that fails, keep the next line apart from the rubbish."""
        try:
            os.ftruncate(self.descriptor, self.size)
        except OSError:
            self.apart = b"\n"
            self.size = os.fstat(self.descriptor).st_size


class Writer:
    """Numbers, keeps and prepares the records of one writer; its book's lock is held.

    Safe for many appending threads; one thread prepares at a time.

    Args:
        folder: of the writer; its name is the writer's.
        book: locked.
        fsync: `always`, `interval` or `never`.
        segment_bytes: size at which a new segment of the scrubbed stage is begun.
    """

    def __init__(self, folder: Path, book: Book, fsync: str, segment_bytes: int) -> None:
        self.folder, self.name = folder, folder.name
        self.fsync, self.segment_bytes = fsync, segment_bytes
        self.lock, self.preparing = threading.Lock(), threading.Lock()
        self.state = Written(**book.state)
        self.sequence = self.state.taken
        self.raw_bytes = 0
        self._book = book
        self._raws: deque[_Raw] = deque()
        self._made_files = 0
        self._descriptors: dict[Path, int] = {}

    @classmethod
    def make(
        cls, folder: Path, book: Book, fsync: str, segment_bytes: int, source: str
    ) -> "Writer":
        """Begin a new writer in its folder; raises OSError."""
        writer = cls(folder, book, fsync, segment_bytes)
        writer.state.source = source
        book.commit(vars(writer.state))
        writer._raws.append(writer._new_raw())
        return writer

    @classmethod
    def recover(cls, folder: Path, book: Book, fsync: str, segment_bytes: int) -> "Writer":
        """Go on where a dead writer's books end; raises OSError."""
        writer = cls(folder, book, fsync, segment_bytes)
        cut_uncommitted(folder, READY, writer.state.segment, writer.state.size)
        cut_uncommitted(folder, HELD, writer.state.held_file, writer.state.held_size)
        for path in sorted(folder.glob(f"{RAW}-*")):
            raw = _Raw(path, os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC))
            raw.size = os.fstat(raw.descriptor).st_size
            writer._raws.append(raw)
            writer._made_files = int(path.name.rpartition("-")[2])
            writer.raw_bytes += raw.size
            writer.sequence = last_number(raw.descriptor, raw.size, writer.sequence)
        if not writer._raws:  # it died before its first record
            writer._raws.append(writer._new_raw())
        return writer

    # Appending

    def append(self, payload: bytes) -> None:
        """Add a raw line; on return no kill of the process can lose it.

        Raises:
            OSError: it is not kept, and nothing of it is left behind.
        """
        with self.lock:
            raw, number = self._raws[-1], self.sequence + 1
            line = raw.apart + frame(payload, number)
            try:
                written = os.write(raw.descriptor, line)
                if written != len(line):
                    raise OSError(errno.ENOSPC, f"{written} of {len(line)} bytes written")
                if self.fsync == "always":
                    os.fsync(raw.descriptor)
            except OSError:
                raw.cut()
                raise
            if not raw.size:
                raw.since = time.monotonic()
            raw.size += written
            raw.apart = b""
            self.raw_bytes += written
            self.sequence = number

    def refuse(self, reason: str, n: int = 1) -> None:
        """Count records that were offered and are not kept; raises OSError."""
        with self.lock:
            self.state.refused += n
            add_drop(self.state.dropped, reason, n)
            self._book.commit(vars(self.state))

    # Preparing

    def prepare(
        self, scrub: Prepare, limit: int = 64, pause: Callable[[], None] | None = None
    ) -> int:
        """Move up to `limit` raw lines to the scrubbed stage; return how many lines were read.

        `pause` is called after each. A line that `scrub` fails on is held back, never passed on.

        Raises:
            OSError: the disk refuses; what is not prepared stays raw.
        """
        with self.preparing:
            done = 0
            for raw in tuple(self._raws):
                if done < limit:
                    done += self._prepare_from(raw, scrub, limit - done, pause)
                if raw.offset < raw.size:
                    break  # in order: a later number would make these look lost
            self._count_missing()
            self._free_raw()
            return done

    def _prepare_from(
        self, raw: _Raw, scrub: Prepare, limit: int, pause: Callable[[], None] | None
    ) -> int:
        with self.lock:
            end = raw.size
        if raw.offset >= end:
            return 0
        lines, offset = read_lines(raw.descriptor, raw.offset, end, READ_BYTES)
        if len(lines) > limit:
            lines = lines[:limit]
            offset = raw.offset + sum(len(line) + 1 for line in lines)
        outcome = _Outcome(self.state.taken)
        for line in lines:
            self._prepare_line(line, scrub, outcome)
            if pause is not None:
                pause()
        self._commit(outcome)
        with self.lock:
            self.raw_bytes -= offset - raw.offset
            raw.offset = offset
        return len(lines)

    def _prepare_line(self, line: bytes, scrub: Prepare, outcome: "_Outcome") -> None:
        numbered = unframe(line)
        if numbered is None or numbered[0] <= outcome.taken:
            return  # damaged, which its missing number tells; or dealt with before a kill
        number, payload = numbered
        outcome.missing += number - outcome.taken - 1
        outcome.taken = number
        try:
            outcome.ready.append(scrub(payload))
        except Exception as error:  # fail closed: what is not surely clean goes nowhere
            outcome.fault = type(error).__name__  # its text may hold some of the record's
            outcome.held.append(held_line(f"{type(error).__name__}: {error}", payload))

    def _count_missing(self) -> None:
        """Count what the books await and no raw file has any more."""
        with self.lock:
            missing = self.sequence - self.state.taken
            all_read = all(raw.offset >= raw.size for raw in self._raws)
        if missing and all_read:
            log.warning("spool %s: %d damaged records skipped", self.folder, missing)
            self._commit(_Outcome(self.state.taken + missing, missing))

    def _commit(self, outcome: "_Outcome") -> None:
        """Write lines to their next stage and commit the books; raises OSError."""
        state = self.state
        segment, size = state.segment, state.size
        if size >= self.segment_bytes:
            segment, size = segment + 1, 0
        ready = _framed(outcome.ready, state.made)
        held = _framed(outcome.held, state.held)
        self._put(ready_path(self.folder, segment), size, ready)
        self._put(held_path(self.folder, state.held_file), state.held_size, held)
        with self.lock:
            state.taken = outcome.taken
            state.made += len(outcome.ready)
            state.held += len(outcome.held)
            state.damaged += outcome.missing
            state.segment, state.size = segment, size + len(ready)
            state.held_size += len(held)
            self._book.commit(vars(state))
        if outcome.held:
            log.error(
                "spool %s: %d records cannot be scrubbed and are held back in %s, as one raised %s",
                self.folder, len(outcome.held), held_path(self.folder, state.held_file).name,
                outcome.fault,
            )  # fmt: skip

    def _put(self, path: Path, size: int, data: bytes) -> None:
        """Append to a file that has `size` committed bytes; on OSError it has them still."""
        if not data:
            return
        descriptor = self._opened(path)
        try:
            written = os.write(descriptor, data)
            if written != len(data):
                raise OSError(errno.ENOSPC, f"{written} of {len(data)} bytes written")
            if self.fsync == "always":
                os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, size)
            raise

    def _opened(self, path: Path) -> int:
        """Return the open file, letting go of its predecessor."""
        if path not in self._descriptors:
            stage = path.name.rpartition("-")[0]
            for old in [old for old in self._descriptors if old.name.startswith(f"{stage}-")]:
                os.close(self._descriptors.pop(old))
            self._descriptors[path] = os.open(path, _APPENDING, 0o600)
        return self._descriptors[path]

    # Raw files

    def _new_raw(self) -> _Raw:
        self._made_files += 1
        path = self.folder / f"{RAW}-{self._made_files:06d}"
        return _Raw(path, os.open(path, _APPENDING | os.O_EXCL, 0o600))

    def _free_raw(self) -> None:
        """Begin a new raw file if this one is old or large, and delete those that are prepared."""
        current = self._raws[-1]
        old = current.size and time.monotonic() - current.since >= RAW_AGE_S
        if old or current.size >= RAW_BYTES:
            fresh = self._new_raw()  # made ahead: appending threads wait for the swap only
            with self.lock:
                self._raws.append(fresh)
        done = [raw for raw in tuple(self._raws)[:-1] if raw.offset >= raw.size]
        if done and self.fsync != "never":
            self.sync()  # what they became must be safe before they go
        for raw in done:
            with self.lock:
                self._raws.remove(raw)
            raw.path.unlink(missing_ok=True)
            os.close(raw.descriptor)

    def free_all_raw(self) -> None:
        """Delete every raw file that is prepared, the current one too; raises OSError."""
        with self.preparing:
            self._raws[-1].since = -RAW_AGE_S  # old enough
            self._free_raw()

    def sync(self) -> None:
        """Force everything to the disk, against a loss of power; raises OSError."""
        with self.lock:
            raws = [raw.descriptor for raw in self._raws if raw.offset < raw.size]
        for descriptor in (*raws, *self._descriptors.values(), self._book.descriptor):
            os.fsync(descriptor)

    # Held records

    def retry_held(self, scrub: Prepare) -> int:
        """Try the held records again; return how many are scrubbed now. Raises OSError."""
        with self.preparing:
            path = held_path(self.folder, self.state.held_file)
            ready, held = list[bytes](), list[bytes]()
            for line in held_lines(path, self.state.held_size):
                payload = line["line"].encode()
                try:
                    ready.append(scrub(payload))
                except Exception as error:  # as in prepare
                    held.append(held_line(f"{type(error).__name__}: {error}", payload))
            if ready:
                self._replace_held(ready, held)
                path.unlink(missing_ok=True)
            return len(ready)

    def _replace_held(self, ready: list[bytes], held: list[bytes]) -> None:
        state = self.state
        lines, aside = _framed(ready, state.made), _framed(held, 0)
        self._put(ready_path(self.folder, state.segment), state.size, lines)
        self._put(held_path(self.folder, state.held_file + 1), 0, aside)
        with self.lock:
            state.made += len(ready)
            state.held = len(held)
            state.size += len(lines)
            state.held_file, state.held_size = state.held_file + 1, len(aside)
            self._book.commit(vars(state))

    # Ends

    def written(self) -> Written:
        """Return a copy of the books."""
        with self.lock:
            return replace(self.state, dropped=dict(self.state.dropped))

    def counted(self) -> tuple[int, Written]:
        """Return the number of the last raw line and a copy of the books, of one moment."""
        with self.lock:
            return self.sequence, replace(self.state, dropped=dict(self.state.dropped))

    def release(self) -> None:
        """Close the files and let go of the lock; the records stay."""
        for raw in self._raws:
            os.close(raw.descriptor)
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._raws.clear()
        self._descriptors.clear()
        self._book.release()


@dataclass
class _Outcome:
    """What became of some raw lines; `taken` is the number of the last one."""

    taken: int
    missing: int = 0
    ready: list[bytes] = field(default_factory=list)
    held: list[bytes] = field(default_factory=list)
    fault: str = ""
    """Class of the error that held the last one back."""


def ready_path(folder: Path, segment: int) -> Path:
    """Return the file of one segment of the scrubbed stage."""
    return folder / f"{READY}-{segment:06d}"


def held_path(folder: Path, number: int) -> Path:
    """Return the file of the records that could not be scrubbed."""
    return folder / f"{HELD}-{number:06d}"


def held_line(reason: str, payload: bytes) -> bytes:
    """Return the JSON of a held record: why, and its line as text."""
    return to_json({"reason": reason[:500], "line": payload.decode("utf-8", "replace")})


def held_lines(path: Path, size: int) -> list[dict[str, str]]:
    """Return the held records of a file's first `size` bytes; none if there is no file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return []
    try:
        numbered = [unframe(line) for line in lines_from(descriptor, 0, size)]
    finally:
        os.close(descriptor)
    return [json.loads(entry[1]) for entry in numbered if entry is not None]


def cut_uncommitted(folder: Path, stage: str, number: int, size: int) -> None:
    """Undo what was written to a stage after the books' last commit; raises OSError."""
    for path in folder.glob(f"{stage}-*"):
        found = int(path.name.rpartition("-")[2])
        if found > number:
            path.unlink()
        elif found == number and path.stat().st_size > size:
            os.truncate(path, size)


def _framed(payloads: list[bytes], before: int) -> bytes:
    return b"".join(frame(payload, before + n) for n, payload in enumerate(payloads, start=1))
