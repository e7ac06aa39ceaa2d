"""The sandbox as others use it: a few warm workers behind walls that a self-test has proven."""

import contextlib
import functools
import json
import os
import queue
import secrets
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from types import TracebackType
from typing import Any, Self

from evaluator.sandbox import probes, wire
from evaluator.sandbox.calls import (
    Call,
    Limits,
    Outcome,
    SandboxUnavailable,
    Script,
    Status,
)
from evaluator.sandbox.launch import TIERS, Worker, WorkerFailed

_GRACE_S = 10.0
_TRIES = 2
_proven: dict[str, dict[str, str]] = {}
_proving = threading.Lock()


class Sandbox:
    """Executes untrusted Python in fresh confined processes.

    The best tier that passes the self-test is used; nothing runs where none does. The object must
    be used in the process that made it (make it after a fork, not before).

    Args:
        workers: how many executions run at once; None for the number of cores.
        limits: limits of calls that bring none of their own.
        allow_weak: accept the `weak` tier where nothing better works.
        tiers: which tiers to try, best first.

    Raises:
        SandboxUnavailable: no acceptable tier works here.
    """

    def __init__(
        self,
        workers: int | None = None,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        allow_weak: bool = False,
        tiers: Iterable[str] = TIERS,
    ) -> None:
        self.limits = limits
        self.size = workers or os.cpu_count() or 1
        self._owner = os.getpid()
        self._closed = False
        self._idle: queue.LifoQueue[Worker | None] = queue.LifoQueue()
        self._refused: dict[str, str] = {}
        first = self._choose([tier for tier in tiers if tier != "weak" or allow_weak])
        self.tier, self._hello = first.tier, first.hello
        for _ in range(self.size - 1):
            self._idle.put(None)  # started when first needed
        self._idle.put(first)
        self._trusted: queue.LifoQueue[Worker | None] = queue.LifoQueue()
        for _ in range(self.size):
            self._trusted.put(None)

    def _choose(self, tiers: list[str]) -> Worker:
        """Starts a worker in the first tier that passes its self-test."""
        with _proving:
            for tier in tiers:
                try:
                    worker = Worker.start(tier, self.limits.scratch_mb)
                except WorkerFailed as error:
                    self._refused[tier] = str(error)
                    continue
                found = _proven.get(tier) or self._prove(worker)
                failed = probes.shortcomings(found)
                if not failed or (tier == "weak" and "ordinary programs" not in failed):
                    _proven[tier] = found
                    return worker
                worker.close()
                self._refused[tier] = ", ".join(f"{name}: {found[name]}" for name in failed)
        reasons = "; ".join(f"tier {tier}: {reason}" for tier, reason in self._refused.items())
        raise SandboxUnavailable(f"no isolation works here ({reasons or 'no tier to try'})")

    def _prove(self, worker: Worker) -> dict[str, str]:
        try:
            return probes.self_test(lambda call: _Request(call, Limits()).ask(worker))
        except WorkerFailed as error:
            return {"the worker": str(error)}

    def describe(self) -> dict[str, Any]:
        """The tier with its evidence, for reports.

        Returns:
            `tier`, `features` (of the kernel, as found), `probes` (result by probe), `refused`
            (better tiers and why they are not used), `workers` and `limits`.
        """
        return {
            "tier": self.tier,
            "features": dict(self._hello),
            "probes": dict(_proven[self.tier]),
            "refused": dict(self._refused),
            "workers": self.size,
            "limits": asdict(self.limits),
        }

    def run(self, call: Call | Script, *, trusted: bool = False) -> Outcome:
        """Executes one call or script and waits for its outcome; thread-safe.

        An answer without any text is LOST and is not run. What a dying worker was running is run
        again by a new one; if that dies too it is a CRASH.

        Args:
            call: what to execute.
            trusted: it is a reference, whose values later answers must not find in the memory of
                the worker that forks them; it gets a worker that serves references only.

        Raises:
            SandboxUnavailable: no worker can be started any more.
            TypeError: an input is not a plain value.
        """
        if os.getpid() != self._owner:
            raise RuntimeError("this Sandbox belongs to another process; make one after the fork")
        if self._closed:
            raise RuntimeError("this Sandbox is closed")
        if not call.code.strip():
            return Outcome(Status.LOST, detail="the answer is empty")
        request = _Request(call, call.limits or self.limits)
        reason = ""
        for _ in range(_TRIES):
            try:
                with self._worker(self._trusted if trusted else self._idle) as worker:
                    return request.ask(worker)
            except WorkerFailed as error:
                reason = str(error)
        return Outcome(Status.CRASH, detail=f"sandbox: {reason}, {_TRIES} times")

    @contextlib.contextmanager
    def _worker(self, idle: "queue.LifoQueue[Worker | None]") -> Iterator[Worker]:
        """Lends a worker; one that failed, or was left in the middle, is ended, not given back."""
        worker = idle.get()
        try:
            worker = worker or self._start()
            yield worker
        except BaseException:
            if worker is not None:
                worker.kill()
            worker = None
            raise
        finally:
            idle.put(worker)

    def _start(self) -> Worker:
        try:
            return Worker.start(self.tier, self.limits.scratch_mb)
        except WorkerFailed as error:
            raise SandboxUnavailable(
                f"a worker of tier {self.tier} no longer starts ({error})"
            ) from None

    def run_many(self, calls: Iterable[Call | Script], *, trusted: bool = False) -> list[Outcome]:
        """Executes many, as many at once as there are workers; the order is kept."""
        work = list(calls)
        if len(work) <= 1 or self.size == 1:
            return [self.run(call, trusted=trusted) for call in work]
        with ThreadPoolExecutor(self.size, thread_name_prefix="sandbox") as threads:
            return list(threads.map(functools.partial(self.run, trusted=trusted), work))

    def close(self) -> None:
        """Ends all workers; waits for those that are busy."""
        if self._closed or os.getpid() != self._owner:
            return
        self._closed = True
        for idle in (self._idle, self._trusted):
            for _ in range(self.size):
                worker = idle.get()
                if worker is not None:
                    worker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Request:
    """A call or script as it is sent.

    Raises:
        TypeError: an input is not a plain value.
    """

    def __init__(self, call: Call | Script, limits: Limits) -> None:
        self.call, self.limits = call, limits
        self.nonce = ""
        self.test: dict[str, Any] | None = None
        self.body: dict[str, Any] = {"limits": asdict(limits), "code": call.code}
        if isinstance(call, Call):
            inputs = [wire.encode(list(arguments)) for arguments in call.inputs]
            if '{"u": ' in json.dumps(inputs):
                raise TypeError("Call.inputs: got a value that is not plain, expected plain values")
            self.body |= {"kind": "call", "entry_point": call.entry_point, "inputs": inputs}
        elif call.test is None:
            self.nonce = secrets.token_hex(16)
            self.body |= {"kind": "script", "nonce": self.nonce}
        else:
            self.body |= {"kind": "split", "entry_point": call.entry_point}
            self.test = {"test": call.test, "setup": call.setup, "entry_point": call.entry_point}

    def ask(self, worker: Worker) -> Outcome:
        """Has it executed.

        Raises:
            WorkerFailed: the worker is gone or out of step.
        """
        raw = worker.ask(self.body, 2 * self.limits.wall_s + _GRACE_S, self.test)
        outcome = _judge(raw, self.call, self.nonce)
        return replace(outcome, cpu_s=raw["cpu_s"], output=raw["output"])


def _judge(raw: dict[str, Any], call: Call | Script, nonce: str) -> Outcome:
    """Reads what the worker measured and what the child said; the latter is only data."""
    if "status" in raw:
        return Outcome(Status(raw["status"]), detail=str(raw["detail"]))
    try:
        body = json.loads(raw["body"])
        status, detail = Status(body["status"]), str(body["detail"])[:500]
        if isinstance(call, Call):
            return _read_values(body, status, detail, len(call.inputs))
        if raw.get("side") == "code":
            return Outcome(_confessed(status), detail=detail or "ended before it answered")
        if body.get("not_plain") is True:
            return Outcome(_confessed(status), detail=detail, not_plain=True)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return Outcome(Status.CRASH, detail=f"not an answer ({type(error).__name__})")
    if status is Status.PASS and nonce and body.get("nonce") != nonce:
        return Outcome(Status.CRASH, detail="the last line was not reached")
    if status not in (Status.PASS, Status.WRONG):
        return Outcome(_confessed(status), detail=detail)
    return Outcome(status, detail=detail)


def _confessed(status: Status) -> Status:
    """The status that code may give itself: only bad ones that say nothing about the answer."""
    return status if status in (Status.MEMORY, Status.FORBIDDEN) else Status.CRASH


def _read_values(body: Any, status: Status, detail: str, count: int) -> Outcome:
    if "values" not in body:
        return Outcome(_confessed(status), detail=detail)
    errors = tuple(None if name is None else str(name)[:200] for name in body["errors"])
    values = tuple(wire.decode(value) for value in body["values"])
    if len(errors) != count or len(values) != count:
        return Outcome(Status.CRASH, detail="not one value per input")
    if status is not Status.PASS:
        status = _confessed(status)
    return Outcome(status, values, errors, detail=detail)
