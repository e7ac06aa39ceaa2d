"""One thread owns the engine; requests that wait meanwhile are answered together.

A batch opens with the first waiting request and closes when it is full or a few milliseconds have
passed, so a lone request loses little and a crowd shares each forward pass. Rows of different
adapters may share a batch: the engine decodes them adapter by adapter.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from foundation.chat import Message
from foundation.errors import NotFound

if TYPE_CHECKING:
    from serving.engine import Engine, Generation

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """One answer wanted; fields as `Engine.generate` takes them."""

    messages: list[Message]
    adapter: str | None
    max_new_tokens: int
    temperature: float
    top_p: float
    seed: int
    stop: tuple[str, ...]


@dataclass
class _Request:
    """The rows of one caller and where their answers go."""

    rows: list[Row]
    future: "Future[list[Generation]]" = field(default_factory=Future)


@dataclass
class _Command:
    """Something else that the owner thread does between two batches."""

    function: Callable[[], Any]
    future: "Future[Any]" = field(default_factory=Future)


@dataclass
class _Close:
    """The end of the thread."""


@dataclass
class Counters:
    """What the batcher did since it started."""

    batches: int = 0
    rows: int = 0
    largest_batch: int = 0
    dropped: int = 0


class Batcher:
    """Answers requests in batches on a thread of its own."""

    def __init__(self, engine: "Engine", max_rows: int = 64, wait_s: float = 0.004) -> None:
        """Start the thread.

        Args:
            engine: used by this thread, and by streams, which take turns with it.
            max_rows: rows after which a batch is closed; one request's rows stay together.
            wait_s: seconds a batch waits for company.
        """
        self.engine, self.max_rows, self.wait_s = engine, max_rows, wait_s
        self._counters = Counters()
        self._queue: queue.SimpleQueue[_Request | _Command | _Close] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="batcher", daemon=True)
        self._thread.start()

    def submit(self, rows: list[Row]) -> "Future[list[Generation]]":
        """Ask for answers, one per row; cancelling the future before its batch drops the rows."""
        request = _Request(rows)
        self._queue.put(request)
        return request.future

    def call(self, function: Callable[[], T]) -> "Future[T]":
        """Run `function` on the owner thread, between two batches."""
        command = _Command(function)
        self._queue.put(command)
        return command.future

    def counters(self) -> dict[str, int]:
        """Return what was done so far, for `/healthz`."""
        return asdict(self._counters)

    def close(self) -> None:
        """Finish what waits, then stop the thread."""
        self._queue.put(_Close())
        self._thread.join()

    def _work(self) -> None:
        while True:
            batch, other = self._gather()
            if batch:
                self._answer(batch)
            if isinstance(other, _Close):
                return
            if other is not None:
                _settle(other.future, other.function)

    def _gather(self) -> "tuple[list[_Request], _Command | _Close | None]":
        """Wait for a request, then a little longer for others; a command ends the batch."""
        batch: list[_Request] = []
        n_rows, deadline = 0, None
        while n_rows < self.max_rows:
            timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                item = self._queue.get(timeout=timeout)
            except queue.Empty:
                break
            if not isinstance(item, _Request):
                return batch, item
            batch.append(item)
            n_rows += len(item.rows)
            deadline = deadline or time.monotonic() + self.wait_s
        return batch, None

    def _answer(self, batch: list[_Request]) -> None:
        wanted = [r for r in batch if r.future.set_running_or_notify_cancel()]
        self._counters.dropped += len(batch) - len(wanted)
        groups: dict[tuple[float, tuple[str, ...]], list[_Request]] = {}
        for request in wanted:
            missing = {row.adapter for row in request.rows} - {None, *self.engine.adapters}
            if missing:  # unloaded since it was asked for; the others need not suffer
                request.future.set_exception(_not_loaded(str(missing.pop())))
                continue
            first = request.rows[0]
            groups.setdefault((first.top_p, first.stop), []).append(request)
        for requests in groups.values():
            self._answer_together(requests)

    def _answer_together(self, requests: list[_Request]) -> None:
        rows = [row for request in requests for row in request.rows]
        self._counters.batches += 1
        self._counters.rows += len(rows)
        self._counters.largest_batch = max(self._counters.largest_batch, len(rows))
        try:
            answers = self.engine.generate(
                [row.messages for row in rows],
                adapter=[row.adapter for row in rows],
                max_new_tokens=[row.max_new_tokens for row in rows],
                temperature=[row.temperature for row in rows],
                seed=[row.seed for row in rows],
                top_p=rows[0].top_p,
                stop=rows[0].stop,
            )
        except Exception as error:  # handed to every caller; the thread must outlive it
            log.exception("a batch of %d rows failed", len(rows))
            for request in requests:
                request.future.set_exception(error)
            return
        start = 0
        for request in requests:
            request.future.set_result(answers[start : start + len(request.rows)])
            start += len(request.rows)


def _settle(future: "Future[Any]", function: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(function())
    except Exception as error:  # handed to the caller; the thread must outlive it
        future.set_exception(error)


def _not_loaded(name: str) -> NotFound:
    return NotFound("model", name, "a loaded adapter", "Load it with POST /v1/adapters.")
