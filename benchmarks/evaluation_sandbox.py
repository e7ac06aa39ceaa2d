"""Executions of untrusted code per second; beside evalplus' `untrusted_check` and a subprocess.

Every tool runs the same task: a small function under three asserts. Ours checks it in both ways
that it has: `calls` compares the values outside, as evalplus does with its expected values inside;
`asserts` runs the text of the asserts in a second confined process. Rounds of the tools alternate;
each is run by as many at once as there are cores (two at most), and one after another for the time
of a single run. Only our tiers isolate: evalplus' guard and a plain subprocess say what it costs.

The peer (`benchmarks/peers-evaluation.txt`) runs in a venv of its own, see `make bench-venv`;
without it our figures stand alone.
"""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from benchmarks.bars import Figure
from evaluator.sandbox import Call, Project, Sandbox, SandboxUnavailable, Script, Status

PROJECT = Path(__file__).resolve().parent.parent
PEER_PYTHON = Path(
    os.environ.get(
        "FLYWHEEL_BENCH_EVALUATION_PYTHON", PROJECT / ".venv-bench-evaluation/bin/python"
    )
)
AT_ONCE = min(2, os.cpu_count() or 1)
RUNS, SINGLE_RUNS, ROUNDS = 400, 100, 5
RUNS_PER_S, P50_MS = 250.0, 5.0
CODE = "def add(a, b):\n    return a + b\n"
OURS = "tier A, calls"
ASSERTS = "assert add(1, 2) == 3\nassert add(0, 0) == 0\nassert add(-5, 3) == -2\n"
CALLS = Call(CODE, "add", [[1, 2], [0, 0], [-5, 3]])
SCRIPT = Script(CODE, ASSERTS, "add")


@dataclass(frozen=True)
class Timed:
    """One round of one tool: runs per second with several at once, and times of single runs."""

    per_s: float
    single_ms: tuple[float, ...]


def measure(quick: bool = False) -> list[Figure]:
    """Return the figures; quick takes two rounds of a quarter of the runs."""
    rounds, share = (2, 4) if quick else (ROUNDS, 1)
    with ExitStack() as stack:
        tools: dict[str, Callable[[int, int], Timed]] = {"plain subprocess": _plain}
        tiers: dict[str, dict[str, Any]] = {}
        for tier in ("A", "C", "D"):
            try:
                sandbox = stack.enter_context(Sandbox(workers=AT_ONCE, tiers=[tier]))
            except SandboxUnavailable:
                continue
            for way, work in (("calls", CALLS), ("asserts", SCRIPT)):
                tiers[f"tier {tier}, {way}"] = sandbox.describe()
                tools[f"tier {tier}, {way}"] = _in_sandbox(sandbox, work)
        if PEER_PYTHON.exists():
            tools["evalplus untrusted_check"] = stack.enter_context(_Peer()).round
        done: dict[str, list[Timed]] = {name: [] for name in tools}
        for _ in range(rounds):
            for name, tool in tools.items():
                slow = 4 if name.startswith(("plain", "tier C")) else 1
                done[name].append(tool(RUNS // share // slow, SINGLE_RUNS // share // slow))
    return [
        *(figure for name in tools for figure in _figures(name, done[name], tiers.get(name))),
        *(_ratio(name, done) for name in tools if name not in tiers),
        *([] if OURS in tools else _missed()),
        _project(quick),
    ]


def _figures(name: str, rounds: list[Timed], tier: dict[str, Any] | None) -> list[Figure]:
    barred = name == OURS
    rates = [each.per_s for each in rounds]
    times = [time_ms for each in rounds for time_ms in each.single_ms]
    detail = {"kernel": platform.release(), "cores": AT_ONCE, **({"sandbox": tier} if tier else {})}
    note = (
        f"kernel {platform.release()}, {tier['features'].get('namespaces', 'none')}" if tier else ""
    )
    return [
        Figure(
            f"sandbox, 3 asserts, {AT_ONCE} at once: {name}",
            median(rates),
            "runs/s",
            at_least=RUNS_PER_S if barred else None,
            detail={"least": min(rates), "greatest": max(rates), **detail},
            note=note,
        ),
        Figure(
            f"sandbox, 3 asserts, one by one, p50: {name}",
            median(times),
            "ms",
            at_most=P50_MS if barred else None,
            detail={"p95": quantiles(times, n=20)[-1], **detail},
        ),
    ]


def _ratio(peer: str, done: dict[str, list[Timed]]) -> Figure:
    ratios = [
        ours.per_s / theirs.per_s
        for ours, theirs in zip(done.get(OURS, []), done[peer], strict=False)
    ]
    name = f"sandbox, {OURS} to {peer}, median of rounds"
    return Figure(name, median(ratios) if ratios else None, "x", detail={"rounds": ratios})


def _missed() -> list[Figure]:
    note = "tier A does not work on this machine"
    return [Figure("sandbox, tier A", None, "runs/s", at_least=RUNS_PER_S, note=note)]


def _project(quick: bool) -> Figure:
    """One honest project of twelve tests, all its rounds, in tier B."""
    tests = "from solution import add\n"
    tests += "".join(f"def test_{n}():\n    assert add({n}, 1) == {n + 1}\n" for n in range(12))
    expected = [f"test_add.py::test_{n}" for n in range(12)]
    project = Project({"solution.py": CODE}, {"test_add.py": tests}, expected)
    times = []
    with Sandbox(workers=AT_ONCE) as sandbox:
        for _ in range(3 if quick else 9):
            start = time.perf_counter()
            outcome = sandbox.run_project(project)
            times.append((time.perf_counter() - start) * 1000)
            if outcome.status is not Status.PASS:
                raise RuntimeError(f"an honest project ended in {outcome.status}: {outcome.detail}")
    detail = {"rounds_each": outcome.rounds, "times": times}
    return Figure("sandbox, tier B: a project of 12 tests, p50", median(times), "ms", detail=detail)


def _in_sandbox(sandbox: Sandbox, work: Call | Script) -> Callable[[int, int], Timed]:
    def one() -> None:
        outcome = sandbox.run(work)
        right = outcome.values == (3, 0, -2) or isinstance(work, Script)
        if outcome.status is not Status.PASS or not right:
            raise RuntimeError(f"an honest answer ended in {outcome.status}: {outcome.detail}")

    def round_of(runs: int, single: int) -> Timed:
        start = time.perf_counter()
        sandbox.run_many([work] * runs)
        return Timed(runs / (time.perf_counter() - start), _single(one, single))

    return round_of


def _plain(runs: int, single: int) -> Timed:
    command = [sys.executable, "-I", "-S", "-c", CODE + ASSERTS]

    def one() -> None:
        subprocess.run(command, check=True)

    start = time.perf_counter()
    with ThreadPoolExecutor(AT_ONCE) as threads:
        list(threads.map(lambda _: one(), range(runs)))
    return Timed(runs / (time.perf_counter() - start), _single(one, single))


def _single(one: Callable[[], None], count: int) -> tuple[float, ...]:
    times = []
    for _ in range(count):
        start = time.perf_counter()
        one()
        times.append((time.perf_counter() - start) * 1000)
    return tuple(times)


class _Peer:
    """A process that checks with evalplus, and does a round when it is asked."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [str(PEER_PYTHON), "-P", str(PROJECT / "benchmarks/evaluation_sandbox_host.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "_Peer":
        return self

    def round(self, runs: int, single: int) -> Timed:
        """Have a round done and return its times."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([runs, single, AT_ONCE]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the process of evalplus has ended")
        told = json.loads(line)
        return Timed(told["per_s"], tuple(told["single_ms"]))

    def __exit__(self, *exc: object) -> None:
        self._process.communicate()
