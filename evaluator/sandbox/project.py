"""Tier B: a project of files under pytest, each round in a fresh sandbox that may have processes.

The namespaces hold nothing but this one round, and end with it. The code may start processes, make
folders and talk to itself over sockets; it may not reach anything else. What all its processes use
together is watched from outside, and each has limits of its own.
"""

import contextlib
import json
import os
import random
import secrets
import signal
import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from evaluator.sandbox import canaries, tree
from evaluator.sandbox.calls import PROJECT_LIMITS, Limits, Project, ProjectOutcome, Status
from evaluator.sandbox.launch import Worker, WorkerFailed

_TICK_S = 0.05
_GRACE_S = 10.0
RunAll = Callable[[Sequence[Callable[[], "Round"]]], list["Round"]]


@dataclass(frozen=True)
class Round:
    """One run of a test suite, as it was told and measured; `tests` is untrusted.

    Attributes:
        status: PASS where pytest came to its end, whatever the tests said.
        tests: outcome by test id.
        detail: why it did not come to its end.
        flag: MEMORY where a test is said to have failed at that limit.
        output: what was printed, capped.
        cpu_s: CPU seconds of all its processes.
        memory_mb: the most MiB that they were seen to hold together.
    """

    status: Status
    tests: Mapping[str, str]
    detail: str = ""
    flag: Status | None = None
    output: str = ""
    cpu_s: float = 0.0
    memory_mb: float = 0.0


def run(project: Project, run_all: RunAll, at_once: int) -> ProjectOutcome:
    """Runs the rounds of a project and judges them; a round that decides against it is the last.

    Args:
        project: what to run.
        run_all: carries out rounds, several at once, and keeps their order.
        at_once: how many it is given.
    """
    found = canaries.find(project.tests)
    allowed = found if project.canaries is None else found & frozenset(project.canaries)
    dice = random.Random(secrets.randbits(64))  # not to be foreseen by the code
    drawn = canaries.draw_rounds(allowed, dice)
    limits = project.limits or PROJECT_LIMITS
    written = [canaries.write(project.tests, changed, dice) for changed in drawn]
    jobs = [_job(project.files, tests, limits) for tests in written]
    done: list[Round] = []
    while True:
        done += run_all(jobs[len(done) : len(done) + at_once])
        outcome = judge(frozenset(project.expected), drawn[: len(done)], done)
        if outcome.status is not Status.PASS or len(done) == len(jobs):
            return outcome


def prove(project: Project, run_all: RunAll) -> Project:
    """Learns from a reference solution which tests there are, and which fail when changed.

    Args:
        project: its files hold the reference solution; its `expected` and `canaries` are not used.
        run_all: carries out rounds.

    Returns:
        The project with `expected`, `canaries` and limits calibrated to the reference.

    Raises:
        ValueError: the reference does not pass its tests; the message says why.
    """
    limits = project.limits or PROJECT_LIMITS
    found = canaries.find(project.tests)
    dice = random.Random(0)
    given, changed = run_all(
        [
            _job(project.files, canaries.write(project.tests, some, dice), limits)
            for some in ((), found)
        ]
    )
    if given.status is not Status.PASS:
        raise ValueError(f"{given.status} {given.detail}")
    wrong = [test for test, outcome in given.tests.items() if outcome != "passed"]
    if wrong or not given.tests:
        told = f"{wrong[0]}: {given.tests[wrong[0]]}" if wrong else "there is no test"
        raise ValueError(f"{told}; {given.output[-300:]}".strip("; \n"))
    fall: dict[str, set[str]] = {}
    for test, outcome in changed.tests.items():
        fall.setdefault(canaries.base_id(test), set()).add(outcome)
    proven = frozenset(test for test in found if fall.get(test) == {"failed"})
    return replace(
        project,
        expected=frozenset(given.tests),
        canaries=proven,
        limits=limits.calibrated(given.cpu_s),
    )


def judge(
    expected: frozenset[str], drawn: Sequence[frozenset[str]], rounds: Sequence[Round]
) -> ProjectOutcome:
    """Decides from what the rounds told.

    A round that did not come to its end decides alone. Then a given test that did not pass makes it
    WRONG. Only then a changed test that passed makes it a CRASH: the verdict was forged.

    Args:
        expected: the ids of the given tests.
        drawn: for each round the ids (without parameters) of the tests that were changed in it.
        rounds: what they told.
    """
    judged = ProjectOutcome(
        Status.PASS,
        {},
        output=rounds[0].output,
        cpu_s=max(each.cpu_s for each in rounds),
        rounds=len(rounds),
        canaries=len(frozenset().union(*drawn)),
    )
    for each in rounds:
        if each.status is not Status.PASS:
            return replace(judged, status=each.status, detail=each.detail, output=each.output)
    tests: dict[str, str] = {}
    for changed, each in zip(drawn, rounds, strict=True):
        for test, outcome in _given(expected, changed, each.tests).items():
            if outcome != "passed" or test not in tests:
                tests[test] = outcome
    wrong = [f"{test}: {outcome}" for test, outcome in tests.items() if outcome != "passed"]
    if wrong:
        status = next((each.flag for each in rounds if each.flag), Status.WRONG)
        return replace(judged, status=status, tests=tests, detail=wrong[0])
    forged = {
        test: "forged"
        for changed, each in zip(drawn, rounds, strict=True)
        for test in _alive(expected, changed, each.tests)
    }
    if forged:
        detail = f"{next(iter(forged))} passed although its expectation had been changed"
        return replace(judged, status=Status.CRASH, tests={**tests, **forged}, detail=detail)
    return replace(judged, tests=tests)


def _given(
    expected: Collection[str], changed: Collection[str], told: Mapping[str, str]
) -> dict[str, str]:
    """Outcomes of the tests that were not changed: each expected one, and what else was told."""
    here = {test for test in expected if canaries.base_id(test) not in changed}
    found = {test: told.get(test, "missing") for test in sorted(here)}
    for test in told.keys() - here:
        if canaries.base_id(test) not in changed:
            found[test] = "not expected"
    return found


def _alive(
    expected: Collection[str], changed: Collection[str], told: Mapping[str, str]
) -> list[str]:
    """Ids of the changed tests that did not fail, as many times as they should have."""
    wanted = Counter(map(canaries.base_id, expected))
    failed = Counter(
        canaries.base_id(test) for test, outcome in told.items() if outcome == "failed"
    )
    return [test for test in sorted(changed) if failed[test] != wanted[test]]


def _job(files: Mapping[str, str], tests: Mapping[str, str], limits: Limits) -> Callable[[], Round]:
    return lambda: run_round(files, tests, limits)


def run_round(files: Mapping[str, str], tests: Mapping[str, str], limits: Limits) -> Round:
    """Runs the tests once, in a sandbox of its own that ends with the run.

    Raises:
        WorkerFailed: the sandbox does not start.
    """
    nonce = secrets.token_hex(16)
    request = {
        "kind": "project",
        "limits": asdict(limits),
        "nonce": nonce,
        "files": {**files, **tests},
        "paths": sorted(tests),
    }
    worker = Worker.start("A", limits.scratch_mb, testing=True, processes=True)
    watch = _Watch(worker.inner_pid, limits)
    try:
        raw = worker.ask(request, limits.wall_s + _GRACE_S)
    except WorkerFailed as error:
        raw = {"status": "CRASH", "detail": f"the sandbox ended in the middle ({error})"}
    finally:
        worker.kill()
        watch.stop()
    told = _read(raw, nonce)
    if watch.verdict is not None:
        told = Round(watch.verdict[0], {}, watch.verdict[1])
    output = str(raw.get("output", ""))
    cpu_s = max(watch.cpu_s, float(raw.get("cpu_s", 0.0)))
    return replace(told, output=output, cpu_s=cpu_s, memory_mb=watch.memory_mb)


def _read(raw: Mapping[str, object], nonce: str) -> Round:
    """Reads what the worker measured and what the child said; the latter is only data."""
    if "status" in raw:
        return Round(Status(str(raw["status"])), {}, str(raw["detail"]))
    try:
        body = json.loads(str(raw["body"]))
        status, detail = Status(body["status"]), str(body["detail"])[:500]
        if status is not Status.PASS:
            bad = status if status in (Status.MEMORY, Status.FORBIDDEN) else Status.CRASH
            return Round(bad, {}, detail)
        if body["nonce"] != nonce:
            return Round(Status.CRASH, {}, "the last test was not reached")
        tests = {str(test)[:500]: str(outcome)[:50] for test, outcome in body["tests"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return Round(Status.CRASH, {}, f"not an answer ({type(error).__name__})")
    return Round(Status.PASS, tests, flag=Status.MEMORY if body.get("flag") == "MEMORY" else None)


class _Watch:
    """Watches all processes of a sandbox together, and ends it when they go over a limit."""

    def __init__(self, pid: int | None, limits: Limits) -> None:
        self.verdict: tuple[Status, str] | None = None
        self.cpu_s = self.memory_mb = 0.0
        self._pid, self._limits = pid, limits
        self._base = tree.usage(pid) if pid else tree.Usage(0.0, 0.0, 0)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sandbox-watch", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while self._pid and not self._stop.wait(_TICK_S):
            now = tree.usage(self._pid)
            self.cpu_s = max(self.cpu_s, now.cpu_s - self._base.cpu_s)
            self.memory_mb = max(self.memory_mb, now.memory_mb - self._base.memory_mb)
            if self.cpu_s > self._limits.cpu_s:
                self._end(Status.TIMEOUT, f"more than {self._limits.cpu_s:g} s of CPU time in all")
            elif self.memory_mb > self._limits.memory_mb:
                self._end(Status.MEMORY, f"more than {self._limits.memory_mb} MiB in all")

    def _end(self, status: Status, why: str) -> None:
        assert self._pid is not None
        self.verdict = self.verdict or (status, why)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        self._stop.set()

    def stop(self) -> None:
        """Ends the watch."""
        self._stop.set()
        self._thread.join()
