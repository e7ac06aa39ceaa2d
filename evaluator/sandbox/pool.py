"""The sandbox as others use it: a few warm workers behind walls that a self-test has proven."""

import contextlib
import functools
import json
import os
import queue
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from types import TracebackType
from typing import Any, Self

from evaluator.sandbox import probes, wire
from evaluator.sandbox import project as projects
from evaluator.sandbox.calls import (
    Call,
    Cases,
    Limits,
    Outcome,
    Project,
    ProjectOutcome,
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
        self._refused: dict[str, str] = {}
        first = self._choose([tier for tier in tiers if tier != "weak" or allow_weak])
        self.tier, self._hello = first.tier, first.hello
        self._idle: dict[tuple[bool, bool], queue.LifoQueue[Worker | None]] = {}
        for kind in ((False, False), (True, False), (False, True), (True, True)):
            self._idle[kind] = queue.LifoQueue()
            for number in range(self.size):  # all but the first are started when first needed
                self._idle[kind].put(first if number == 0 and kind == (False, False) else None)

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

    def run(self, call: Call | Script | Cases, *, trusted: bool = False) -> Outcome:
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
        self._check_usable()
        if not call.code.strip():
            return Outcome(Status.LOST, detail="the answer is empty")
        request = _Request(call, call.limits or self.limits)
        reason = ""
        for _ in range(_TRIES):
            try:
                with self._worker(trusted, isinstance(call, Cases)) as worker:
                    return request.ask(worker)
            except WorkerFailed as error:
                reason = str(error)
        return Outcome(Status.CRASH, detail=f"sandbox: {reason}, {_TRIES} times")

    @contextlib.contextmanager
    def _worker(self, trusted: bool, testing: bool) -> Iterator[Worker]:
        """Lends a worker; one that failed, or was left in the middle, is ended, not given back."""
        idle = self._idle[trusted, testing]
        worker = idle.get()
        try:
            worker = worker or self._start(testing)
            yield worker
        except BaseException:
            if worker is not None:
                worker.kill()
            worker = None
            raise
        finally:
            idle.put(worker)

    def _start(self, testing: bool) -> Worker:
        try:
            return Worker.start(self.tier, self.limits.scratch_mb, testing)
        except WorkerFailed as error:
            raise SandboxUnavailable(
                f"a worker of tier {self.tier} no longer starts ({error})"
            ) from None

    def run_many(
        self, calls: Iterable[Call | Script | Cases], *, trusted: bool = False
    ) -> list[Outcome]:
        """Executes many, as many at once as there are workers; the order is kept."""
        work = list(calls)
        if len(work) <= 1 or self.size == 1:
            return [self.run(call, trusted=trusted) for call in work]
        with ThreadPoolExecutor(self.size, thread_name_prefix="sandbox") as threads:
            return list(threads.map(functools.partial(self.run, trusted=trusted), work))

    def run_project(self, project: Project) -> ProjectOutcome:
        """Runs a project of files under pytest, in tier B: fresh sandboxes with processes.

        Raises:
            SandboxUnavailable: there are no namespaces here to hold processes.
        """
        self._prove_processes()
        return projects.run(project, self._run_rounds, self.size)

    def prove_project(self, project: Project) -> Project:
        """Learns from a reference solution which tests to expect and which may be changed.

        Args:
            project: its files hold the reference solution.

        Raises:
            SandboxUnavailable: there are no namespaces here to hold processes.
            ValueError: the reference does not pass its tests.
        """
        self._prove_processes()
        return projects.prove(project, self._run_rounds)

    def _run_rounds(self, rounds: Sequence[Callable[[], projects.Round]]) -> list[projects.Round]:
        with ThreadPoolExecutor(self.size, thread_name_prefix="sandbox") as threads:
            return list(threads.map(lambda job: job(), rounds))

    def _prove_processes(self) -> None:
        """Tests tier B once in the life of the process.

        Raises:
            SandboxUnavailable: it lets something through, or does not start.
        """
        self._check_usable()
        with _proving:
            if "B" not in _proven:
                try:
                    _proven["B"] = probes.project_self_test()
                except WorkerFailed as error:
                    _proven["B"] = {"the sandbox": str(error)}
        failed = probes.shortcomings(_proven["B"])
        if failed:
            reasons = ", ".join(f"{name}: {_proven['B'][name]}" for name in failed)
            raise SandboxUnavailable(f"tier B, for tests with processes, does not work ({reasons})")

    def _check_usable(self) -> None:
        if os.getpid() != self._owner:
            raise RuntimeError("this Sandbox belongs to another process; make one after the fork")
        if self._closed:
            raise RuntimeError("this Sandbox is closed")

    def close(self) -> None:
        """Ends all workers; waits for those that are busy."""
        if self._closed or os.getpid() != self._owner:
            return
        self._closed = True
        for idle in self._idle.values():
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

    def __init__(self, call: Call | Script | Cases, limits: Limits) -> None:
        self.call, self.limits = call, limits
        self.nonce = ""
        self.test: dict[str, Any] | None = None
        self.body: dict[str, Any] = {"limits": asdict(limits), "code": call.code}
        if isinstance(call, Call):
            inputs = [wire.encode(list(arguments)) for arguments in call.inputs]
            if '{"u": ' in json.dumps(inputs):
                raise TypeError("Call.inputs: got a value that is not plain, expected plain values")
            self.body |= {"kind": "call", "entry_point": call.entry_point, "inputs": inputs}
        elif isinstance(call, Cases):
            self.nonce = secrets.token_hex(16)
            self.body |= {"kind": "cases", "nonce": self.nonce, "tests": call.tests}
            self.body |= {"module": call.module, "order_seed": call.order_seed}
            self.body |= {"coverage": call.coverage, "first_failure": call.first_failure}
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


def _judge(raw: dict[str, Any], call: Call | Script | Cases, nonce: str) -> Outcome:
    """Reads what the worker measured and what the child said; the latter is only data."""
    if "status" in raw:
        return Outcome(Status(raw["status"]), detail=str(raw["detail"]))
    try:
        body = json.loads(raw["body"])
        status, detail = Status(body["status"]), _text(body["detail"], 500)
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
    if isinstance(call, Cases):
        return _read_tests(body, status, detail)
    return Outcome(status, detail=detail)


def _read_tests(body: dict[str, Any], status: Status, detail: str) -> Outcome:
    """The outcome of every test; text, whatever the process said."""
    tests, covered = body.get("tests"), body.get("covered")
    if not isinstance(tests, dict) or not isinstance(covered, list | None):
        return Outcome(Status.CRASH, detail="not one outcome per test")
    if not all(map(_is_step, covered or ())):
        return Outcome(Status.CRASH, detail="not one pair of lines per step")
    named = {_text(name, 500): _text(result, 200) for name, result in tests.items()}
    found = tuple(covered) if covered is not None else None
    return Outcome(status, detail=detail, tests=named, covered=found)


def _is_step(step: Any) -> bool:
    return isinstance(step, list) and len(step) == 2 and all(type(line) is int for line in step)


def _text(said: Any, most: int) -> str:
    """What a process said, as text that can be stored: without NUL and lone surrogates."""
    return str(said)[:most].replace("\0", "\ufffd").encode(errors="replace").decode()


def _confessed(status: Status) -> Status:
    """The status that code may give itself: only bad ones that say nothing about the answer."""
    return status if status in (Status.MEMORY, Status.FORBIDDEN) else Status.CRASH


def _read_values(body: Any, status: Status, detail: str, count: int) -> Outcome:
    if "values" not in body:
        return Outcome(_confessed(status), detail=detail)
    errors = tuple(None if name is None else _text(name, 200) for name in body["errors"])
    values = tuple(wire.decode(value) for value in body["values"])
    if len(errors) != count or len(values) != count:
        return Outcome(Status.CRASH, detail="not one value per input")
    if status is not Status.PASS:
        status = _confessed(status)
    return Outcome(status, values, errors, detail=detail)
