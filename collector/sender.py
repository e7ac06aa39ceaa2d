"""The thread that ships a spool: batches, retries with backoff, an answer for each record.

It never holds up the agent: `append` is all that the agent's thread does. A server that is away
costs a growing pause (up to 30 s, jittered), never a record.
"""

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from collector.spool import Spool
from collector.transport import Batch, Refused, Result, Transport, Unreachable

log = logging.getLogger(__name__)

INTERACTION, FEEDBACK = "interaction", "feedback"
"""Kinds of spooled lines: `{"kind": …, "record": …}`."""

LONGEST_PAUSE_S = 30.0
ADOPT_EVERY_S = 10.0


class Sender:
    """Ships what is in a spool from a daemon thread, started by the first `wake`.

    Args:
        spool: shared with the appending threads.
        transport: None only syncs the spool to disk, each `interval_s`.
        source: name of this writer in the server's counts.
        interval_s: longest time a record waits for company.
        batch_size: records of one batch.
    """

    def __init__(
        self,
        spool: Spool,
        transport: Transport | None,
        source: str,
        interval_s: float = 1.0,
        batch_size: int = 500,
    ) -> None:
        self.spool, self.transport, self.source = spool, transport, source
        self.interval_s, self.batch_size = interval_s, batch_size
        self._reset()

    def _reset(self) -> None:
        self._thread: threading.Thread | None = None
        self._start_lock = threading.Lock()
        self._sending = threading.Lock()
        self._wake, self._stop = threading.Event(), threading.Event()
        self._pause_s = 0.0
        self._reported: Counter[str] = Counter()
        self._next_adoption = 0.0

    def ensure_running(self) -> None:
        """Start the thread if it does not run (first record, after a fork, or after its death)."""
        if self._thread is None or not self._thread.is_alive():
            with self._start_lock:
                if self._thread is None or not self._thread.is_alive():
                    self._stop.clear()
                    thread = threading.Thread(target=self._run, name="flywheel-sender", daemon=True)
                    thread.start()
                    self._thread = thread

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.wait(self._pause_s or self.interval_s)
            self._wake.clear()
            self.spool.sync()
            if self.transport is not None:
                self._ship_all()

    def _ship_all(self) -> None:
        while not self._stop.is_set() and self.ship_once():
            continue

    def ship_once(self) -> bool:
        """Send one batch, adopting first what dead processes left; False if nothing was shipped."""
        if self.transport is None:
            return False
        with self._sending:
            if time.monotonic() >= self._next_adoption:
                self.spool.adopt()
                self._next_adoption = time.monotonic() + ADOPT_EVERY_S
            taken = self.spool.take(self.batch_size)
            if taken is None and not self._unreported():
                return False
            try:
                sent = self._deliver(list(taken.records) if taken else [])
            except Unreachable as error:
                self._back_off(error)
                return False
            self._pause_s = 0.0
            if taken is not None:
                self.spool.acknowledge(taken, sent)
            return taken is not None

    def _deliver(self, lines: Sequence[Mapping[str, Any]]) -> int:
        """Send lines, in halves if the server refuses them together; return how many it kept."""
        assert self.transport is not None
        batch = self._batch(lines)
        dropped = batch["dropped"]
        try:
            results = self.transport.send(batch)
        except Refused as error:
            if not lines:
                log.warning("collector refuses the counts of dropped records: %s", error)
                return 0
            if len(lines) == 1:
                self.spool.reject(lines[0], f"refused: {error}")
                return 0
            middle = len(lines) // 2
            return self._deliver(lines[:middle]) + self._deliver(lines[middle:])
        self._reported.update(dropped)
        return self._settle(lines, results)

    def _batch(self, lines: Sequence[Mapping[str, Any]]) -> Batch:
        return {
            "source": self.source,
            "interactions": [x["record"] for x in lines if x.get("kind") == INTERACTION],
            "feedback": [x["record"] for x in lines if x.get("kind") == FEEDBACK],
            "dropped": self._unreported(),
        }

    def _unreported(self) -> dict[str, int]:
        return dict(Counter(self.spool.counts.dropped) - self._reported)

    def _settle(self, lines: Sequence[Mapping[str, Any]], results: Sequence[Result]) -> int:
        """Put refused records aside; return how many were kept."""
        reasons = {
            str(result.get("id")): str(result.get("reason"))
            for result in results
            if result.get("status") == "rejected"
        }
        kept = 0
        for line in lines:
            reason = reasons.get(str(line["record"].get("id")))
            if reason is None:
                kept += 1
            else:
                self.spool.reject(line, reason)
        return kept

    def _back_off(self, error: Unreachable) -> None:
        if not self._pause_s:
            log.warning("collector not reachable, records wait in the spool: %s", error)
        longest = min(max(self._pause_s * 2, self.interval_s), LONGEST_PAUSE_S)
        self._pause_s = longest * random.uniform(0.7, 1.0)

    def flush(self, timeout_s: float) -> bool:
        """Ship everything now; return whether nothing waits any more.

        Returns early when there is no transport, and keeps trying an absent server until the time
        is over.
        """
        if self.transport is None:
            self.spool.sync()
            return False
        deadline = time.monotonic() + timeout_s
        self.ensure_running()
        while self.spool.waiting_bytes() and time.monotonic() < deadline:
            self._wake.set()
            time.sleep(0.01 if not self._pause_s else 0.1)
        return not self.spool.waiting_bytes()

    def stop(self) -> None:
        """Stop the thread after the batch it is sending, waiting at most 2 s for it."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=2.0)
        self._thread = None
        if self.transport is not None:
            self.transport.close()

    def after_fork(self) -> None:
        """Forget the parent's thread and locks in a forked child."""
        self._reset()
