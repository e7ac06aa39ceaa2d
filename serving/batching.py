"""One thread owns the engines; requests join the batch under way, and leave it, between two tokens.

While nothing is under way, the first request waits a few milliseconds for company, so that a crowd
shares the reading of its prompts. More than can be answered waits in a queue of bounded length;
who comes then is sent away at once.
"""

import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from foundation.errors import FlywheelError
from serving.metrics import Timings
from serving.rows import Generation, Row

if TYPE_CHECKING:
    from serving.engine import Engine
    from serving.engine.answer import Answer

log = logging.getLogger(__name__)

T = TypeVar("T")

Listen = Callable[[int, str, Generation | None], None]
"""Told a choice's number, the next piece of its text, and at its end the whole answer."""


class Overloaded(FlywheelError):
    """More answers are wanted than may wait."""

    http_status = 503

    def __init__(self, n_waiting: int, most: int, retry_after_s: int) -> None:
        self.n_waiting, self.most, self.retry_after_s = n_waiting, most, retry_after_s
        super().__init__(
            f"engine: {n_waiting} answers are under way or wait, expected at most {most}. "
            f"Ask again in {retry_after_s} s, or raise FLYWHEEL_ENGINE_QUEUE."
        )


@dataclass(eq=False)
class _Request:
    """The rows of one caller and where their answers go; cancelling the future gives them up."""

    engine: "Engine"
    rows: Sequence[Row]
    listen: Listen | None
    future: "Future[list[Generation]]" = field(default_factory=Future)
    answers: "list[Answer]" = field(default_factory=list)
    sent: list[int] = field(default_factory=list)  # characters told so far; -1: to the end
    asked_at: float = field(default_factory=time.monotonic)
    has_begun: bool = False


@dataclass
class _Command:
    """Something else that the owner thread does between two steps."""

    function: Callable[[], Any]
    future: "Future[Any]" = field(default_factory=Future)


@dataclass
class _Close:
    """The end of the thread, once everybody is answered."""


@dataclass
class Counters:
    """What the batcher did since it started.

    Attributes:
        rows: answers begun.
        dropped: requests given up by their callers.
        failed: requests that ended in an error.
        refused: requests sent away, since too many waited.
    """

    rows: int = 0
    dropped: int = 0
    failed: int = 0
    refused: int = 0


class Batcher:
    """Answers requests together, on a thread of its own."""

    def __init__(self, max_rows: int = 256, max_waiting: int = 1024, wait_s: float = 0.004) -> None:
        """Start the thread.

        Args:
            max_rows: answers under way together, as the engines' limits have it.
            max_waiting: answers that may wait beside those.
            wait_s: seconds that the first request waits for company.
        """
        self.max_rows, self.max_waiting, self.wait_s = max_rows, max_waiting, wait_s
        self.timings = Timings()
        self._counters = Counters()
        self._n_rows, self._count = 0, threading.Lock()
        self._live: list[_Request] = []
        self._queue: queue.SimpleQueue[_Request | _Command | _Close] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="batcher", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether the thread works."""
        return self._thread.is_alive()

    @property
    def n_rows(self) -> int:
        """Answers under way or waiting."""
        return self._n_rows

    def submit(
        self, engine: "Engine", rows: Sequence[Row], listen: Listen | None = None
    ) -> "Future[list[Generation]]":
        """Ask for answers, one per row; cancelling the future gives them up, also half-made.

        Args:
            engine: who answers.
            rows: what is wanted.
            listen: called on the owner thread for each piece of text; must return at once.

        Raises:
            Overloaded: too many wait.
        """
        most = self.max_rows + self.max_waiting
        with self._count:
            if self._n_rows and self._n_rows + len(rows) > most:
                self._counters.refused += 1
                raise Overloaded(self._n_rows, most, self._retry_after_s())
            self._n_rows += len(rows)
        request = _Request(engine, rows, listen, sent=[0] * len(rows))
        self._queue.put(request)
        return request.future

    def call(self, function: Callable[[], T]) -> "Future[T]":
        """Run `function` on the owner thread, between two steps."""
        command = _Command(function)
        self._queue.put(command)
        return command.future

    def counters(self) -> dict[str, int]:
        """Return what was done so far."""
        return asdict(self._counters)

    def close(self) -> None:
        """Finish what waits, then stop the thread."""
        self._queue.put(_Close())
        self._thread.join()

    def _retry_after_s(self) -> int:
        """Return the seconds in which half of those who wait will have been answered."""
        return min(60, max(1, math.ceil(self._n_rows / 2 * self.timings.seconds_per_answer)))

    def _work(self) -> None:
        is_closing = False
        while self._live or not is_closing:
            for item in self._arrived(is_closing):
                if isinstance(item, _Close):
                    is_closing = True
                elif isinstance(item, _Command):
                    _settle(item.future, item.function)
                else:
                    self._begin(item)
            for engine in {request.engine for request in self._live}:
                self._step(engine)
            for request in self._live:
                self._tell(request)
            self._live = [request for request in self._live if not self._is_over(request)]

    def _arrived(self, is_closing: bool) -> "list[_Request | _Command | _Close]":
        """Return what came; while nothing is under way, wait for it, and for company."""
        items: list[_Request | _Command | _Close] = []
        deadline = None if not (self._live or is_closing) else 0.0
        while True:
            left = None if deadline is None else deadline - time.monotonic()
            try:
                item = (
                    self._queue.get_nowait()
                    if left is not None and left <= 0
                    else self._queue.get(timeout=left)
                )
            except queue.Empty:
                return items
            items.append(item)
            if not isinstance(item, _Request):
                return items
            if deadline is None:
                deadline = time.monotonic() + self.wait_s

    def _begin(self, request: _Request) -> None:
        self._live.append(request)
        if request.future.cancelled():
            return
        try:
            for row in request.rows:
                is_watched = request.listen is not None
                request.answers.append(request.engine.start(row, watched=is_watched))
        except Exception as error:  # handed to the caller; the others need not suffer
            self._fail(request, error)
        self._counters.rows += len(request.answers)

    def _step(self, engine: "Engine") -> None:
        try:
            engine.step()
        except Exception as error:  # handed to every caller; the thread must outlive it
            log.exception("a step failed")
            for request in self._live:
                if request.engine is engine:
                    self._fail(request, error)

    def _tell(self, request: _Request) -> None:
        """Note the first token, and pass on what a listener has not heard."""
        answers = request.answers
        if not request.has_begun and any(answer.made for answer in answers):
            request.has_begun = True
            self.timings.first_token(time.monotonic() - request.asked_at)
        if request.listen is None or request.future.done():
            return
        for index, answer in enumerate(answers):
            sent, text = request.sent[index], answer.certain_text
            if sent < 0 or (len(text) == sent and not answer.finish_reason):
                continue
            whole = answer.generation if answer.finish_reason else None
            try:
                request.listen(index, text[sent:], whole)
            except RuntimeError:  # the event loop that it speaks to has ended
                request.future.cancel()
                return
            request.sent[index] = len(text) if whole is None else -1

    def _is_over(self, request: _Request) -> bool:
        """Settle a request whose answers are whole, or that nobody waits for."""
        if request.future.cancelled():
            self._counters.dropped += 1
        elif not request.future.done():
            if not all(answer.finish_reason for answer in request.answers):
                return False
            if request.future.set_running_or_notify_cancel():
                request.future.set_result([answer.generation for answer in request.answers])
                seconds = time.monotonic() - request.asked_at
                self.timings.answered(seconds, len(request.answers))
        for answer in request.answers:
            if not answer.finish_reason:
                request.engine.leave(answer)
        with self._count:
            self._n_rows -= len(request.rows)
        return True

    def _fail(self, request: _Request, error: Exception) -> None:
        if request.future.set_running_or_notify_cancel():
            request.future.set_exception(error)
            self._counters.failed += 1


def _settle(future: "Future[Any]", function: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(function())
    except Exception as error:  # handed to the caller; the thread must outlive it
        future.set_exception(error)
