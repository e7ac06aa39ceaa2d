"""The threads behind a spool: one prepares what agents' threads appended, one ships it.

They never hold up the agent: `append` is all that its threads do. The preparer waits for a gap
between their records and lets go of the interpreter after each. A server that is away costs a
growing pause (up to 30 s, jittered, or what it asks for), never a record.

A batch that the collector fails over again and again may hold a record that breaks it. It is then
split; a record that fails alone, while others pass, is held back and the rest goes on. Where
nothing passes the collector is broken, and everything waits.
"""

import json
import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from collector.spool import Spool
from collector.spool.prepare import FEEDBACK, INTERACTION
from collector.spool.reader import Batch, Reader, Settlement
from collector.transport import (
    Failing,
    LineTransport,
    Refused,
    Result,
    Transport,
    Unreachable,
    batch_of,
)

__all__ = ["FEEDBACK", "INTERACTION", "Sender"]

log = logging.getLogger(__name__)

Head = dict[str, Any]
"""`{"source", "account"}`: whose records a batch holds, and how the books stand."""

LONGEST_PAUSE_S = 30.0
LONGEST_ASKED_PAUSE_S = 300.0
ADOPT_EVERY_S = 10.0
FAILURES_BEFORE_SPLIT = 5
BREAKING_RECORDS = 8
"""Records that fail alone, with none that passes, after which the collector counts as broken."""

QUIET_S = 0.002
"""Time without a new record after which the agent counts as busy elsewhere."""

PATIENCE_S = 0.005
"""Longest time that the preparer waits for that before the next record."""

CROWD = 2_000
"""Raw records from which on it hurries."""

BREATH_S = 0.0001
"""Pause of the preparer in which the agent's threads may run."""

STRETCH_S = 0.00015
"""Time of work from which on it pauses after a record."""

IDLE_S, LONG_IDLE_S = 0.05, 0.25


class Sender:
    """Prepares and ships what is in a spool from daemon threads, started by `ensure_running`.

    Args:
        spool: shared with the appending threads.
        transport: None only prepares, and syncs the spool to disk each `interval_s`.
        interval_s: longest time a record waits for company.
        batch_size: records of one batch.
    """

    def __init__(
        self,
        spool: Spool,
        transport: Transport | None,
        interval_s: float = 1.0,
        batch_size: int = 500,
    ) -> None:
        self.spool, self.transport = spool, transport
        self.interval_s, self.batch_size = interval_s, batch_size
        self.settled = 0
        spool.tells = transport is not None
        self._reset()

    def _reset(self) -> None:
        self._threads: tuple[threading.Thread, ...] = ()
        self._start_lock = threading.Lock()
        self._sending = threading.Lock()
        self._wake, self._stop = threading.Event(), threading.Event()
        self._pause_s = 0.0
        self._not_before = self._breathed = 0.0
        self._failures = 0
        self._next_adoption = 0.0

    def ensure_running(self) -> None:
        """Start the threads if they do not run: at the first record, and after a fork."""
        if self._threads:
            return
        with self._start_lock:
            if not self._threads:
                self._stop.clear()
                self._threads = (
                    _started("flywheel-preparer", self._keep_preparing, self._stop),
                    _started("flywheel-sender", self._keep_shipping, self._stop),
                )

    # Preparing

    def _keep_preparing(self) -> None:
        """Prepare what is raw, if anything, and delete raw files whose time has come."""
        waiting = self.spool.raw_records()
        if waiting:
            self._let_pass()
        self.spool.prepare(pause=self._let_pass)
        if not waiting:
            active = time.monotonic() - self.spool.last_append < 1.0
            self._stop.wait(IDLE_S if active else LONG_IDLE_S)

    def _let_pass(self) -> None:
        """Let the agent's threads run, and wait a little for a gap between their records."""
        if time.monotonic() - self._breathed < STRETCH_S:
            return
        time.sleep(BREATH_S)
        patience_s = PATIENCE_S if self.spool.raw_records() < CROWD else BREATH_S
        until = time.monotonic() + patience_s
        while self.spool.last_append > (now := time.monotonic()) - QUIET_S and now < until:
            time.sleep(BREATH_S * 5)
        self._breathed = time.monotonic()

    # Shipping

    def _keep_shipping(self) -> None:
        self._wake.wait(self._pause_s or self.interval_s)
        self._wake.clear()
        self.spool.sync()
        if self.transport is not None and time.monotonic() >= self._not_before:
            self._ship_all()

    def _ship_all(self) -> None:
        while not self._stop.is_set() and self.ship_once(prepare=False):
            continue

    def ship_once(self, prepare: bool = True) -> bool:
        """Send one batch, adopting first what dead processes left; False if nothing was shipped.

        With `prepare`, scrub first what is raw, at once.
        """
        if self.transport is None:
            return False
        with self._sending:
            try:
                self._adopt()
                batch = self.spool.take(self.batch_size, prepare=prepare)
                if batch is None:
                    self._tell_books()
                    return False
                return self._ship(batch)
            except OSError as error:
                log.warning("spool %s: %s", self.spool.folder, error)
                self._pause_s = self.interval_s
                return False

    def _adopt(self) -> None:
        if time.monotonic() >= self._next_adoption:
            self.spool.adopt()
            self._next_adoption = time.monotonic() + ADOPT_EVERY_S

    def _ship(self, batch: Batch) -> bool:
        head = self._head(batch.reader)
        delivery = _Delivery(splitting=self._failures >= FAILURES_BEFORE_SPLIT)
        try:
            self._deliver(batch.payloads, head, delivery)
        except Unreachable as error:
            self._failures += isinstance(error, Failing)
            batch.reader.put_back(batch)
            self._back_off(error)
            return False
        self._pause_s, self._failures = 0.0, 0
        for payload, reason in delivery.rejected:
            self.spool.set_aside(batch.reader.name, payload, reason)
        self.spool.settle(batch, delivery.settlement(), head["account"])
        self.settled += len(batch.payloads)
        return True

    def _head(self, reader: Reader) -> Head:
        return {"source": reader.source, "account": self.spool.account(reader.name)}

    def _deliver(self, lines: Sequence[bytes], head: Head, delivery: "_Delivery") -> None:
        """Send lines, in halves if the collector refuses them together."""
        if not lines:
            return
        try:
            results = self._send(lines, head)
        except Refused as error:
            reason = str(error)
            if len(lines) == 1:
                delivery.refused.append((reason, lines[0]))
                return
        except Failing as error:
            if not delivery.splitting:
                raise
            if len(lines) == 1:
                self._suspect(lines[0], error, head, delivery)
                return
        else:
            delivery.note(lines, results)
            return
        middle = len(lines) // 2
        self._deliver(lines[:middle], head, delivery)
        self._deliver(lines[middle:], head, delivery)

    def _suspect(self, line: bytes, error: Failing, head: Head, delivery: "_Delivery") -> None:
        """Hold back a record that the collector fails over, if it does not fail over everything."""
        if not delivery.delivered:
            if len(delivery.refused) >= BREAKING_RECORDS:
                raise error
            self._send([], head)  # a collector that fails over nothing at all is broken
        delivery.refused.append((str(error), line))

    def _send(self, lines: Sequence[bytes], head: Head) -> list[Result]:
        assert self.transport is not None
        if isinstance(self.transport, LineTransport):
            return self.transport.send_lines(head, lines)
        return self.transport.send(batch_of(head, lines))

    def _tell_books(self) -> None:
        """Report the books that changed since the collector was told."""
        for reader, books in self.spool.untold():
            try:
                self._send([], {"source": reader.source, "account": books})
            except Refused as error:
                log.warning("collector refuses the books of %s: %s", books["writer"], error)
            except Unreachable as error:
                self._back_off(error)
                return
            self.spool.told(reader, books)

    @property
    def pause_s(self) -> float:
        """How long it leaves the collector alone, in seconds; 0 while that answers."""
        return self._pause_s

    def _back_off(self, error: Unreachable) -> None:
        if not self._pause_s:
            log.warning("collector not reachable, records wait in the spool: %s", error)
        longest = min(max(self._pause_s * 2, self.interval_s), LONGEST_PAUSE_S)
        self._pause_s = longest * random.uniform(0.7, 1.0)
        if error.retry_after_s is not None:
            self._pause_s = max(self._pause_s, min(error.retry_after_s, LONGEST_ASKED_PAUSE_S))
            self._not_before = time.monotonic() + self._pause_s

    # Held records

    def retry_held(self) -> int:
        """Scrub and send again what was held back; return how many records are held still.

        Raises:
            OSError: the disk refuses.
            Unreachable: the collector does not take them now; they stay held.
        """
        with self._sending:
            for reader in self.spool.retry_held():
                self._retry_refused(reader)
        return sum(self.spool.account(name)["held"] for name in self.spool.names())

    def _retry_refused(self, reader: Reader) -> None:
        held = reader.held()
        lines = [line["line"].encode() for line in held]
        delivery = _Delivery(splitting=True)
        self._deliver(lines, self._head(reader), delivery)
        for payload, reason in delivery.rejected:
            self.spool.set_aside(reader.name, payload, reason)
        reader.settle_held(delivery.settlement())

    # Ends

    def flush(self, timeout_s: float) -> bool:
        """Prepare and ship everything now; return whether nothing waits any more.

        Keeps trying an absent server until the time is over; without a transport it only prepares.
        Records that are held back do not wait: see `counts()`.
        """
        deadline = time.monotonic() + timeout_s
        self.spool.prepare_all(timeout_s)
        self.spool.sync()
        if self.transport is None:
            return not self.spool.waiting_bytes()
        self.ensure_running()
        while self._unfinished() and time.monotonic() < deadline:
            self._wake.set()
            time.sleep(0.01 if not self._pause_s else 0.1)
        return not self.spool.waiting_bytes()

    def _unfinished(self) -> bool:
        return bool(self.spool.waiting_bytes() or self.spool.untold())

    def stop(self) -> None:
        """Stop the threads after what they are doing, waiting at most 2 s for each."""
        self._stop.set()
        self._wake.set()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(timeout=2.0)
        self._threads = ()
        if self.transport is not None:
            self.transport.close()

    def after_fork(self) -> None:
        """Forget the parent's threads and locks in a forked child."""
        self._reset()


@dataclass
class _Delivery:
    """What became of the lines of a batch so far."""

    splitting: bool
    delivered: int = 0
    rejected: list[tuple[bytes, str]] = field(default_factory=list)
    refused: list[tuple[str, bytes]] = field(default_factory=list)

    def note(self, lines: Sequence[bytes], results: Sequence[Result]) -> None:
        """Take in the collector's answers."""
        self.delivered += len(lines)
        reasons = {
            str(result.get("id")): str(result.get("reason"))
            for result in results
            if result.get("status") == "rejected"
        }
        if reasons:
            self.rejected += [
                (line, reasons[found]) for line in lines if (found := _id_of(line)) in reasons
            ]

    def settlement(self) -> Settlement:
        return Settlement(self.delivered, len(self.rejected), self.refused)


def _id_of(line: bytes) -> str:
    record = json.loads(line)["record"]
    return str(record.get("id"))


def _started(name: str, work: Callable[[], None], stop: threading.Event) -> threading.Thread:
    """Start a daemon thread that does `work` again and again until `stop`."""

    def keep_on() -> None:
        told = ""
        while not stop.is_set():
            try:
                work()
            except Exception as error:  # whatever it is, the next records must not wait for ever
                if str(error) != told:
                    log.exception("%s fails; it tries again, and again", name)
                told = str(error)
                stop.wait(1.0)

    thread = threading.Thread(target=keep_on, name=name, daemon=True)
    thread.start()
    return thread
