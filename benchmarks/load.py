"""Everything at once for ten minutes, at 70 % of its ceiling: gateway, ingest, worker, admin view.

    python -m benchmarks.load [--quick] [--minutes 10] [--share 0.7] [--ceiling UNITS_A_SECOND]

One unit of load is a call through the gateway, a record by ingest and half a statement on one;
beside them an admin's page each second and a build of the dataset each minute. All of it is sent
when it is due, whether or not answers are there. A ladder of short rungs finds the highest rate of
calls and records that is answered; the ceiling of everything together is the highest of its rates
at which the builds keep up too: the dataset that was ordered when a minute began is there when the
next is over. Then windows follow each other; errors are counted, everything that was answered is
looked for in the log, and the last third of the windows is set beside the first: what grows in
between would grow in production. The processes are those of a user, on an embedded PostgreSQL; they
share the cores with the driver, which is printed.
"""

import argparse
import os
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any, Final

import httpx
import orjson
import psutil
import psycopg
from rich.console import Console

from benchmarks.bars import Figure, report
from benchmarks.gateway_load import Round
from benchmarks.ingest import _body, _record
from benchmarks.router_gateway import OURS, quantile
from benchmarks.router_hosts import PROMPT, Load, cpu_s, database, mock_upstream, rss_mib
from flywheel.processes import Processes, free_port
from foundation.ids import new_id
from foundation.settings import Settings

FIRST_RATE: Final = 40.0
STEP: Final = 1.25
KEPT_UP: Final = 0.97
"""Share of a rung's requests that must have been answered in its time."""
PATIENCE_MS: Final = 1_000.0
"""Longest p99 at which a rate counts as kept up."""
PAGES: Final = ("", "interactions", "runs", "experiments", "datasets", "capture", "traffic")
BUILD_EACH_S: Final = 60.0
GROWTH: Final = 1.1
"""Most that the last third of the windows may be of the first."""
SLACK_MIB: Final = 16.0
"""Memory that a process may take more, whatever its size: allocators keep what they got once."""


@dataclass
class Window:
    """What one stretch of load gave; times in ms, memory in MiB."""

    asked: int
    answered: int
    seconds: float
    p50_ms: float
    p99_ms: float
    failed: dict[str, int]
    page_p95_ms: float = 0.0
    memory: dict[str, float] = field(default_factory=dict)
    waiting: dict[str, float] = field(default_factory=dict)


class Beside:
    """What is sent beside the gateway's calls, by a thread: records, statements, pages, builds."""

    def __init__(self, service: str, cookies: Mapping[str, str], build_each_s: float) -> None:
        self._client = httpx.Client(base_url=service, cookies=dict(cookies), timeout=30)
        self._draw = Random(0)
        self._made = [_record(self._draw) for _ in range(500)]
        self.build_due, self.build_each_s = float("inf"), build_each_s
        self.failed: Counter[str] = Counter()
        self.ids: list[str] = []
        self.page_ms: list[float] = []

    def play(self, rate: float, seconds: float) -> None:
        """Send for `seconds`; each second `rate` records in one batch, and a page."""
        started = time.monotonic()
        for second in range(round(seconds)):
            time.sleep(max(0.0, started + second - time.monotonic()))
            self._ingest(round(rate))
            self._page(PAGES[second % len(PAGES)])
            if time.monotonic() >= self.build_due:
                self.build_due += self.build_each_s
                self.build()

    def build(self) -> None:
        """Order a version of the dataset of all that was logged."""
        self._send("POST", "/v1/datasets", json={"role": "coder"})

    def _ingest(self, n: int) -> None:
        batch = [dict(self._draw.choice(self._made), id=str(new_id())) for _ in range(n)]
        for record in batch:
            record["episode_id"] = str(new_id())
        said = [_outcome(record, self._draw.random() < 0.6) for record in batch[::2]]
        answer = self._send(
            "POST",
            "/v1/ingest",
            content=b"\n".join([_body(batch), *said]),
            headers={"content-type": "application/x-ndjson"},
        )
        if answer is not None:
            stored = sum(row["status"] == "stored" for row in answer.json()["results"])
            self.ids += [record["id"] for record in batch]
            if stored != len(batch) + len(said):
                self.failed["record not stored"] += len(batch) + len(said) - stored

    def _page(self, name: str) -> None:
        started = time.perf_counter()
        self._send("GET", f"/admin/{name}")
        self.page_ms.append(1000 * (time.perf_counter() - started))

    def _send(self, method: str, path: str, **parts: Any) -> httpx.Response | None:
        try:
            answer = self._client.request(method, path, **parts)
        except httpx.TransportError as error:
            self.failed[f"{path}: {type(error).__name__}"] += 1
            return None
        if answer.status_code >= 300:
            self.failed[f"{path}: {answer.status_code}"] += 1
            return None
        return answer


def _outcome(record: Mapping[str, Any], success: bool) -> bytes:
    said = {
        "id": str(new_id()),
        "kind": "success",
        "value": float(success),
        "source": "test",
        "interaction_id": record["id"],
    }
    return orjson.dumps({"kind": "feedback", "record": said})


class Stack:
    """The running product and what is sent to it."""

    def __init__(
        self,
        variables: Mapping[str, str],
        processes: Processes,
        load: Load,
        build_each_s: float,
    ) -> None:
        self._ports = {"serve": free_port(), "gateway": free_port()}
        self._load, self._url = load, variables["FLYWHEEL_DATABASE_URL"]
        self.pids = {
            name: processes.start(name, name, "--port", str(port)).pid
            for name, port in self._ports.items()
        }
        nice = Settings().worker_nice  # as flywheel up does
        self.pids["worker"] = processes.start("worker", "worker", nice=nice).pid
        self.pids["scheduler"] = processes.start("scheduler", "scheduler").pid
        for port in self._ports.values():
            processes.wait_for_http(f"http://127.0.0.1:{port}/healthz")
        self._processes = processes
        service = f"http://127.0.0.1:{self._ports['serve']}"
        self.beside = Beside(service, _signed_in(variables), build_each_s)
        self.ids: list[str] = []
        self._n_windows = 0

    def window(self, rate: float, seconds: float) -> Window:
        """Send `rate` units a second for `seconds`."""
        self._processes.check()
        self._n_windows += 1
        before, pages = Counter(self.beside.failed), len(self.beside.page_ms)
        n = round(rate * seconds)
        thread = threading.Thread(target=self.beside.play, args=(rate, seconds))
        thread.start()
        found = self._load.play(self._round(n, rate))
        thread.join()
        self.ids += found.ids
        failed = {str(status): n for status, n in found.failed.items()}
        failed |= {what: n for what, n in (self.beside.failed - before).items()}
        times = self.beside.page_ms[pages:]
        return Window(
            asked=n,
            answered=len(found.ids),
            seconds=found.seconds,
            p50_ms=quantile(found.latency_ms, 0.5),
            p99_ms=quantile(found.latency_ms, 0.99),
            failed=failed,
            page_p95_ms=quantile(times, 0.95),
            memory={name: rss_mib(psutil.Process(pid)) for name, pid in self.pids.items()},
            waiting=self.waiting(),
        )

    def _round(self, n: int, rate: float) -> Round:
        url = f"http://127.0.0.1:{self._ports['gateway']}"
        episodes = f"load-{self._n_windows}"
        return Round(
            url, OURS, "role:coder", n=n, rate=rate, concurrency=64, prompt=PROMPT,
            stream=self._n_windows % 4 == 0, episodes=episodes,
        )  # fmt: skip

    def waiting(self) -> dict[str, float]:
        """Return what waits somewhere: records, jobs, messages."""
        gateway = httpx.get(f"http://127.0.0.1:{self._ports['gateway']}/healthz", timeout=10).json()
        with psycopg.connect(self._url) as log:
            counted = log.execute(
                "SELECT (SELECT count(*) FROM run WHERE status = 'queued'), "
                "(SELECT count(*) FROM kombu_message WHERE visible)"
            )
            runs, messages = counted.fetchone() or (0, 0)
        spooled = gateway["records"]["waiting"]
        return {"records in the gateway's spool": spooled, "runs": runs, "messages": messages}

    def missing(self) -> int:
        """Return how many answered calls and taken records the log lacks, after it settled."""
        deadline = time.monotonic() + 60
        with psycopg.connect(self._url, autocommit=True) as log:
            log.execute("CREATE TEMPORARY TABLE sent (id uuid PRIMARY KEY)")
            with log.cursor().copy("COPY sent FROM STDIN") as lines:
                for identifier in (*self.ids, *self.beside.ids):
                    lines.write_row((identifier,))
            log.execute("ANALYZE sent")
            while True:
                found = log.execute(
                    "SELECT count(*) FROM sent LEFT JOIN interaction_payload USING (id) "
                    "WHERE interaction_payload.id IS NULL"
                ).fetchone()
                if found == (0,) or time.monotonic() > deadline:
                    return int(found[0]) if found else -1
                time.sleep(0.5)

    def settle(self) -> None:
        """Have a dataset built of all that was logged so far, and wait for it."""
        self.beside.build_due = float("inf")
        self.beside.build()
        while self.unfinished():
            self._processes.check()
            time.sleep(0.5)

    def unfinished(self) -> int:
        """Return how many builds were ordered and have not ended."""
        return sum(n for status, n in self.runs().items() if status in ("queued", "running"))

    def runs(self) -> dict[str, int]:
        """Return the builds by status."""
        with psycopg.connect(self._url) as log:
            rows = log.execute("SELECT status, count(*) FROM run GROUP BY 1").fetchall()
        return {str(status): int(n) for status, n in rows}


def _signed_in(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the cookies of a signed-in admin."""
    os.environ |= variables
    from admin.access import sessions, users
    from foundation.database import session_scope

    with session_scope() as session:
        user = users.create(session, "ada", "admin", actor="benchmark")
        return {sessions.COOKIE: sessions.open_session(session, user, "code")}


@contextmanager
def running(build_each_s: float = BUILD_EACH_S) -> Iterator[Stack]:
    """Run the product on a database of its own, with an experiment under way."""
    with mock_upstream() as upstream, Load() as load, database(("mock-a", "mock-b"), True) as ours:
        home = Path(ours["FLYWHEEL_HOME"])
        listed = f'{{"mock": {{"base_url": "{upstream}/v1", "models": ["mock-a", "mock-b"]}}}}'
        variables = {**ours, "FLYWHEEL_UPSTREAMS": listed}
        with Processes(home, variables) as processes:
            yield Stack(variables, processes, load, build_each_s)


def ladder(stack: Stack, rung_s: float, console: Console) -> list[float]:
    """Return the rates of the ladder, units per second, at which calls and records are answered."""
    rate, kept_up = FIRST_RATE, list[float]()
    while True:
        window = stack.window(rate, rung_s)
        console.print(f"rung {rate:.0f}/s: {_line_of(window)}")
        if not _is_kept_up(window, rate):
            return kept_up
        kept_up.append(rate)
        rate *= STEP


def ceiling(stack: Stack, rates: Sequence[float], window_s: float, console: Console) -> float:
    """Return the highest of some rising rates at which the builds keep up too; 0 if none."""
    kept, over = 0, len(rates)  # those before the one are known to be kept up, from the other not
    while kept < over:
        middle = (kept + over) // 2
        stack.settle()
        if _builds_keep_up(stack, rates[middle], window_s, console):
            kept = middle + 1
        else:
            over = middle
    return rates[kept - 1] if kept else 0.0


def _builds_keep_up(stack: Stack, rate: float, window_s: float, console: Console) -> bool:
    """Send a rate for two builds' time; say whether all is answered, and the first build there.

    A third build may be due by then, since a window takes a little longer than it sends.
    """
    stack.beside.build_due = started = time.monotonic()
    while time.monotonic() < started + 2 * stack.beside.build_each_s - window_s / 2:
        window = stack.window(rate, window_s)
        unfinished = stack.unfinished()
        console.print(f"with builds, {rate:.0f}/s: {_line_of(window)}, builds {unfinished}")
        if not _is_kept_up(window, rate):
            return False
    is_third_due = stack.beside.build_due > started + 2.5 * stack.beside.build_each_s
    return unfinished <= 1 + is_third_due


def _is_kept_up(window: Window, rate: float) -> bool:
    seconds = max(window.seconds, window.asked / rate)
    is_in_time = window.answered / seconds >= KEPT_UP * rate
    return is_in_time and window.p99_ms <= PATIENCE_MS and not window.failed


def measure(
    minutes: float,
    window_s: float,
    share: float,
    build_each_s: float = BUILD_EACH_S,
    known: float | None = None,
) -> list[Figure]:
    """Find the ceiling, send `share` of it for `minutes`, and compare its end with its begin.

    One that is `known` is not sought.
    """
    console = Console(stderr=True)
    with running(build_each_s) as stack:
        stack.window(FIRST_RATE / 2, window_s)  # warms up
        rates = [known] if known else ladder(stack, window_s, console)
        most = known or ceiling(stack, rates, window_s, console)
        if not most:
            return [Figure("ceiling", None, "units/s", at_least=1, note="no rung was kept up")]
        stack.settle()
        before = {name: cpu_s(psutil.Process(pid)) for name, pid in stack.pids.items()}
        stack.beside.build_due = started = time.monotonic()
        windows = list[Window]()
        while time.monotonic() < started + 60 * minutes:
            windows.append(stack.window(share * most, window_s))
            console.print(f"{time.monotonic() - started:.0f} s: {_line_of(windows[-1])}")
        seconds = time.monotonic() - started
        cpu = {
            name: (cpu_s(psutil.Process(pid)) - before[name]) / seconds
            for name, pid in stack.pids.items()
        }
        missing, runs = stack.missing(), stack.runs()
    alone = Figure("calls and records answered, no builds beside", max(rates), "units/s")
    found = figures(windows, most, share, cpu, missing, runs)
    if known:
        return [replace(found[0], note="as it was given, not sought"), *found[1:]]
    return [alone, *found]


def _line_of(window: Window) -> str:
    memory, waiting = sum(window.memory.values()), sum(window.waiting.values())
    return (
        f"{window.answered} of {window.asked}, p50 {window.p50_ms:.1f}, p99 {window.p99_ms:.0f}, "
        f"{memory:.0f} MiB, waiting {waiting:.0f}, failed {window.failed}"
    )


def figures(
    windows: Sequence[Window],
    most: float,
    share: float,
    cpu: Mapping[str, float],
    missing: int,
    runs: Mapping[str, int],
) -> list[Figure]:
    """Return what the windows say; pure."""
    third = max(1, len(windows) // 3)
    first, last = windows[:third], windows[-third:]
    seconds = sum(window.seconds for window in windows)
    conditions = {"windows": len(windows), "cores": os.cpu_count(), "cpu, cores": dict(cpu)}
    found = [
        Figure("ceiling: all of it kept up, builds too", most, "units/s", detail=conditions),
        Figure(
            f"at {share:.0%} for {seconds / 60:.1f} minutes: failures",
            float(sum(sum(window.failed.values()) for window in windows)),
            "",
            at_most=0,
            detail={"failed": [window.failed for window in windows if window.failed]},
        ),
        Figure("answered or taken, and not in the log once", float(missing), "", at_most=0),
        Figure("jobs that failed", float(runs.get("failed", 0)), "", at_most=0, detail=dict(runs)),
        Figure(
            "answered of asked",
            sum(w.answered for w in windows) / sum(w.asked for w in windows),
            "",
            at_least=KEPT_UP,
        ),
    ]
    for name in windows[0].memory:
        before, after = (_middle([w.memory[name] for w in side]) for side in (first, last))
        allowed = max(GROWTH, (before + SLACK_MIB) / before)
        found.append(
            _grown(f"memory of {name}", before, after, "MiB", allowed, [w.memory for w in windows])
        )
    for name in ("p50_ms", "p99_ms", "page_p95_ms"):
        before, after = (_middle([getattr(w, name) for w in side]) for side in (first, last))
        every = [round(getattr(w, name), 1) for w in windows]
        allowed = GROWTH if name == "p50_ms" else 1.5  # tails of one window are a few calls
        found.append(_grown(f"latency, {name}", before, after, "ms", allowed, every))
    ends = [_middle([sum(w.waiting.values()) for w in side]) for side in (first, last)]
    found.append(
        Figure(
            "waiting in spool and queues, last third",
            ends[1],
            "",
            at_most=max(most, 2 * ends[0]),
            detail={"first third": ends[0], "windows": [w.waiting for w in windows]},
        )
    )
    return found


def _grown(
    name: str, before: float, after: float, unit: str, allowed: float, every: Sequence[Any]
) -> Figure:
    detail = {"first third": before, "last third": after, "unit": unit, "windows": list(every)}
    note, ratio = f"{before:.3g} to {after:.3g} {unit}", after / before
    name = f"{name}, last third to first"
    return Figure(name, ratio, "x", at_most=allowed, detail=detail, note=note)


def _middle(values: Sequence[float]) -> float:
    return statistics.median(values)


def main() -> int:
    """Measure and report; the exit status says whether a bar was missed."""
    parser = argparse.ArgumentParser(description="Gateway, ingest, worker and admin view at once.")
    parser.add_argument("--quick", action="store_true", help="one minute, more builds, for a look")
    parser.add_argument("--minutes", type=float, default=10.0, help="of the load itself")
    parser.add_argument("--share", type=float, default=0.7, help="of the ceiling")
    parser.add_argument("--ceiling", type=float, help="as an earlier run found it: not sought")
    asked = parser.parse_args()
    if asked.quick:
        return report("load", measure(1.0, 5.0, asked.share, 15.0, asked.ceiling))
    return report("load", measure(asked.minutes, 15.0, asked.share, known=asked.ceiling))


if __name__ == "__main__":
    sys.exit(main())
