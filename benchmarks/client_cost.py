"""What logging a call costs the thread that made it; beside Langfuse's and MLflow's SDKs.

Each client logs the same calls (2 KB of messages each) from a process of its own and exports to a
loopback server in another. The rounds of the clients alternate. *Paced* is 200 calls a second in
bursts of 20, as an agent host with some agents has; *burst* is 2,000 calls back to back.

The peers run in a venv of their own, see `make bench-venv`; without it our figures stand alone and
the ratio counts as missed.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.bars import Figure
from collector.spool import FSYNC_POLICIES, Spool

PROJECT = Path(__file__).resolve().parent.parent
PEER_PYTHON = Path(os.environ.get("FLYWHEEL_BENCH_PYTHON", PROJECT / ".venv-bench/bin/python"))
PEERS = ("langfuse", "mlflow")

BURST, GAP_S = 20, 0.1
ROUNDS, BURSTS = 6, 50
"""Rounds of the paced series, and bursts in each: 6,000 calls in all."""

BACK_TO_BACK = 2_000
SETTLE_S = 1.5

P50_US, P99_US = 50.0, 200.0
RATIO_TO_BEST_PEER = 0.5


@dataclass(frozen=True)
class Series:
    """The rounds of one client: times of the calls in microseconds, CPU of its process in ms."""

    rounds: Sequence[dict[str, Any]]

    def percentile(self, name: str, share: float) -> float:
        """Return the percentile of every call of all rounds."""
        return percentile([value for each in self.rounds for value in each[name]], share)

    def spread(self, name: str, share: float) -> tuple[float, float]:
        """Return the least and greatest of the rounds' own percentiles."""
        each = [percentile(one[name], share) for one in self.rounds]
        return min(each), max(each)

    def first_calls(self) -> list[float]:
        """Return the times of each burst's first call, which finds the processor's caches cold."""
        return [value for each in self.rounds for value in each["wall_us"][:: each["size"]]]

    @property
    def calls(self) -> int:
        """All calls."""
        return sum(len(each["wall_us"]) for each in self.rounds)

    @property
    def process_us(self) -> float:
        """Median over the rounds of the process's CPU time per call, in microseconds."""
        each = [float(one["process_ms"]) * 1000 / len(one["wall_us"]) for one in self.rounds]
        return median(each)

    def detail(self) -> dict[str, Any]:
        """Return what explains the figures."""
        return {
            "calls": self.calls,
            "wall_p50_us": self.percentile("wall_us", 0.5),
            "wall_p99_us": self.percentile("wall_us", 0.99),
            "wall_p50_us_of_rounds": self.spread("wall_us", 0.5),
            "wall_p99_us_of_rounds": self.spread("wall_us", 0.99),
            "wall_p50_us_of_first_calls": median(self.first_calls()),
            "thread_cpu_p50_us": self.percentile("cpu_us", 0.5),
            "thread_cpu_p99_us": self.percentile("cpu_us", 0.99),
            "process_cpu_us_per_call": self.process_us,
        }


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value at `share` (0-1) of the sorted values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def measure(quick: bool = False) -> list[Figure]:
    """Return the figures; quick takes a sixth of the rounds."""
    peers = PEERS if PEER_PYTHON.exists() else ()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        sink = stack.enter_context(_sink())
        hosts = {
            name: stack.enter_context(_Host(name, sink, Path(folder) / name))
            for name in ("flywheel", *peers)
        }
        paced = _series(hosts, 1 if quick else ROUNDS, bursts=BURSTS, size=BURST, gap_s=GAP_S)
        burst = _series(hosts, 1 if quick else 3, bursts=1, size=BACK_TO_BACK, gap_s=0.0)
    figures = [*_our_figures(paced["flywheel"], burst["flywheel"]), *_beside(paced, burst)]
    return figures + fsync_prices(calls=100 if quick else 400)


def _our_figures(paced: Series, burst: Series) -> list[Figure]:
    figures = []
    for name, series in (("paced 200/s", paced), ("2,000 back to back", burst)):
        for share, bar in ((0.5, P50_US), (0.99, P99_US)):
            figures.append(
                Figure(
                    f"caller's thread per record, {name}, p{share * 100:.0f}",
                    series.percentile("wall_us", share),
                    "µs",
                    at_most=bar,
                    detail=series.detail(),
                )
            )
    figures.append(
        Figure(
            "process CPU per record, paced, with scrubbing and shipping",
            paced.process_us,
            "µs",
        )
    )
    return figures


def fsync_prices(calls: int) -> list[Figure]:
    """Return what an append costs by each fsync policy, in turns, on the disk of this folder."""
    times: dict[str, list[float]] = {policy: [] for policy in FSYNC_POLICIES}
    line = b'{"kind":"feedback","record":{"text":"%b"}}' % (b"x" * 2_000)
    with tempfile.TemporaryDirectory(dir=PROJECT) as folder:
        spools = {policy: Spool(Path(folder) / policy, fsync=policy) for policy in FSYNC_POLICIES}
        for _ in range(calls):
            for policy, spool in spools.items():
                started = time.perf_counter()
                kept = spool.append_line(line)
                times[policy].append((time.perf_counter() - started) * 1e6)
                if not kept:
                    raise RuntimeError(f"the spool with fsync={policy} kept nothing")
        for spool in spools.values():
            spool.close()
    return [
        Figure(f"append of 2 KB, fsync={policy}, p50", median(found), "µs")
        for policy, found in times.items()
    ]


def _beside(paced: dict[str, Series], burst: dict[str, Series]) -> list[Figure]:
    """Return the peers' figures, and ours relative to the better of them."""
    figures = []
    for name in PEERS:
        if name in paced:
            for kind, series in (("paced 200/s", paced[name]), ("2,000 back to back", burst[name])):
                for share in (0.5, 0.99):
                    figures.append(
                        Figure(
                            f"{name}'s SDK, {kind}, p{share * 100:.0f}",
                            series.percentile("wall_us", share),
                            "µs",
                            detail=series.detail(),
                        )
                    )
    return [*figures, _ratio(paced)]


def _ratio(paced: dict[str, Series]) -> Figure:
    name = "caller's thread p50, ours to the better of Langfuse's and MLflow's SDKs"
    peers = {peer: paced[peer].percentile("wall_us", 0.5) for peer in PEERS if peer in paced}
    if len(peers) < len(PEERS):
        return Figure(
            name, None, "", at_most=RATIO_TO_BEST_PEER, note=f"no {PEER_PYTHON}: make bench-venv"
        )
    ours = paced["flywheel"].percentile("wall_us", 0.5)
    return Figure(
        name,
        ours / min(peers.values()),
        "",
        at_most=RATIO_TO_BEST_PEER,
        detail={"ours_us": ours, **peers},
    )


class _Host:
    """A process that logs with one client, and does a round when it is asked."""

    def __init__(self, subject: str, sink: str, folder: Path) -> None:
        folder.mkdir(parents=True)
        python = sys.executable if subject == "flywheel" else str(PEER_PYTHON)
        environment = {**os.environ, "PYTHONPATH": str(PROJECT), "FLYWHEEL_HOME": str(folder)}
        self._log = open(folder / "stderr", "wb")
        self._process = subprocess.Popen(
            [python, str(PROJECT / "benchmarks/client_host.py"), subject, sink, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            cwd=folder,
            env=environment,
            text=True,
        )
        self._stderr = folder / "stderr"

    def __enter__(self) -> "_Host":
        self._answer()
        return self

    def round(self, **asked: float) -> dict[str, Any]:
        """Have a round done and return its times."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        measured: dict[str, Any] = json.loads(self._answer())
        return measured

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a client's process has ended: {self._stderr.read_text()[-2000:]}")
        return line

    def __exit__(self, *exc: object) -> None:
        self._process.communicate()
        self._log.close()


def _series(hosts: dict[str, _Host], rounds: int, **asked: float) -> dict[str, Series]:
    """Return each client's rounds, done in turns."""
    done: dict[str, list[dict[str, Any]]] = {name: [] for name in hosts}
    for _ in range(rounds):
        for name, host in hosts.items():
            done[name].append({**host.round(**asked), "size": int(asked["size"])})
            time.sleep(SETTLE_S)  # what it exports later is not in the next one's round
    return {name: Series(each) for name, each in done.items()}


@contextmanager
def _sink() -> Iterator[str]:
    command = [sys.executable, "-m", "benchmarks.client_sink"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=PROJECT, text=True)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.terminate()
        process.communicate()
