"""What a run's worker says while it does it: log lines and warnings, kept with the run.

One handler listens while any run of this process is under way. A line is of the run whose thread
wrote it; one of a thread that a job started itself is of the run, if this process does only one.
Lines wait in memory and are written with the heartbeat, so that a job never waits for its log, and
a database that is away costs the oldest lines at most.
"""

import contextlib
import logging
import threading
import warnings
from collections import deque
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final, TextIO
from uuid import UUID

from sqlalchemy import delete, func, insert, select
from sqlmodel import Session, col

from foundation.ids import new_id
from foundation.redaction import redact
from foundation.tables import RunLog, now

MOST_LINES: Final = 2_000
"""Kept of one run: the newest."""
MOST_CHARACTERS: Final = 8_000
"""Of one line; a longer one keeps its start."""
_LONGEST_SECRET: Final = 2_000
"""Characters that are looked at beyond the cut."""


class RunLines:
    """The lines of one start of a run that are not written yet."""

    def __init__(self, run_id: UUID) -> None:
        self.run_id = run_id
        self._waiting: deque[dict[str, Any]] = deque(maxlen=MOST_LINES)
        self._lock = threading.Lock()
        self._n_rows: int | None = None

    def say(self, level: str, message: str, at: float | None = None) -> None:
        """Note a line, without its secrets; `at` is its time in seconds since 1970."""
        line: dict[str, Any] = {
            "run_id": self.run_id,
            "id": new_id(),
            "level": level,
            "message": _cut(message),
            "logged_at": now() if at is None else datetime.fromtimestamp(at, tz=UTC),
        }
        with self._lock:
            self._waiting.append(line)

    def write(self, session: Session) -> None:
        """Write what waits, and let the oldest go where they are too many."""
        with self._lock:
            lines = list(self._waiting)
            self._waiting.clear()
        if not lines:
            return
        try:
            session.execute(insert(RunLog), lines)
            session.flush()
            self._trim(session, len(lines))
        except Exception:
            self._put_back(lines)
            raise

    def _put_back(self, lines: list[dict[str, Any]]) -> None:
        with self._lock:
            newer = list(self._waiting)
            self._waiting.clear()
            self._waiting.extend([*lines, *newer])

    def _trim(self, session: Session, n_new: int) -> None:
        mine = col(RunLog.run_id) == self.run_id
        if self._n_rows is None:
            self._n_rows = session.execute(select(func.count()).where(mine)).scalar_one()
        else:
            self._n_rows += n_new
        if self._n_rows > MOST_LINES:
            oldest_kept = (
                select(col(RunLog.id))
                .where(mine)
                .order_by(col(RunLog.id).desc())
                .offset(MOST_LINES - 1)
                .limit(1)
                .scalar_subquery()
            )
            session.execute(delete(RunLog).where(mine, col(RunLog.id) < oldest_kept))
            self._n_rows = MOST_LINES


_of_thread: ContextVar[RunLines | None] = ContextVar("run_lines", default=None)


class _Listener(logging.Handler):
    """Gives each line of this process to the run that it is of."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(message)s"))
        self._runs: list[RunLines] = []
        self._threads_before: set[int] = set()
        self._loggers: list[logging.Logger] = []
        self._show_warning: Any = warnings.showwarning
        self._count = threading.Lock()
        self._latest: logging.LogRecord | None = None

    def begin(self, lines: RunLines) -> None:
        with self._count:
            if not self._runs:
                self._threads_before = {thread.ident or 0 for thread in threading.enumerate()}
                self._show_warning = warnings.showwarning
                warnings.showwarning = self._warned
                self._listen_to(logging.getLogger())
            self._runs.append(lines)

    def end(self, lines: RunLines) -> None:
        with self._count:
            self._runs.remove(lines)
            if not self._runs:
                for logger in self._loggers:
                    logger.removeHandler(self)
                self._loggers.clear()
                self._latest = None
                if warnings.showwarning == self._warned:
                    warnings.showwarning = self._show_warning

    def listen_to(self, name: str) -> None:
        with self._count:
            if self._runs:
                self._listen_to(logging.getLogger(name))

    def _listen_to(self, logger: logging.Logger) -> None:
        if logger not in self._loggers:
            logger.addHandler(self)
            self._loggers.append(logger)

    def emit(self, record: logging.LogRecord) -> None:
        """Note a record once, however many of its loggers we listen to."""
        if record is self._latest:
            return
        self._latest = record
        lines = self._whose()
        if lines is None:
            return
        try:
            lines.say(record.levelname, f"{record.name}: {self.format(record)}", record.created)
        except Exception:  # whatever a library puts into a record, its job goes on
            self.handleError(record)

    def _warned(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        lines = self._whose()
        if lines is not None:
            lines.say("WARNING", f"{category.__name__}: {message} ({filename}:{lineno})")
        self._show_warning(message, category, filename, lineno, file, line)

    def _whose(self) -> RunLines | None:
        own = _of_thread.get()
        if own is not None:
            return own
        runs = self._runs
        started_since = threading.get_ident() not in self._threads_before
        return runs[0] if len(runs) == 1 and started_since else None


_listener = _Listener()


@contextlib.contextmanager
def collecting(lines: RunLines) -> Iterator[None]:
    """Collect what this thread, and threads that it starts, log in the block."""
    token = _of_thread.set(lines)
    _listener.begin(lines)
    try:
        yield
    finally:
        _listener.end(lines)
        _of_thread.reset(token)


def listen_to(*names: str) -> None:
    """Collect from loggers that keep their lines from the root, as transformers' does."""
    for name in names:
        _listener.listen_to(name)


def _cut(message: str) -> str:
    """Return the start of a message without its secrets, one across the cut included."""
    shown = redact(message[: MOST_CHARACTERS + _LONGEST_SECRET])[:MOST_CHARACTERS]
    if len(message) <= MOST_CHARACTERS:
        return shown
    return f"{shown}… ({len(message):,} characters)"
