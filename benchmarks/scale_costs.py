"""What one record costs each part of the wheel: CPU, bytes on disk, write-ahead log.

Each part is the real one, in processes of its own, beside an embedded PostgreSQL of its own. The
name of each figure without bar is a field of `benchmarks.sizing.Costs`, which the sizing page is
computed from. CPU is compared over a whole round, so other work on the machine disturbs it little;
rates (`…_per_s`) want a quiet machine.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import psycopg

from benchmarks import client_cost, ingest
from benchmarks.bars import Figure
from benchmarks.curation_whole import _MAPPING as MAPPING
from benchmarks.curation_whole import made_up_calls
from benchmarks.evaluation_sandbox import SCRIPT
from benchmarks.gateway_load import Round
from benchmarks.router_hosts import PROMPT, Load, gateway, mock_upstream
from evaluator.sandbox import Sandbox
from foundation.embedded import start_embedded
from foundation.ids import new_id

Home = dict[str, str]
"""Environment of a process of ours: its home and database."""


def measure(quick: bool = False) -> list[Figure]:
    """Measure every part, one after the other."""
    return [
        *_client(quick),
        *_gateway(quick),
        *_ingest(quick),
        *_curation(2_000 if quick else 20_000),
        *_grading(100 if quick else 1_000),
    ]


def _client(quick: bool) -> list[Figure]:
    found = {figure.name: figure for figure in client_cost.measure(quick)}
    cpu = found["process CPU per record, paced, with scrubbing and shipping"]
    assert cpu.measured is not None
    return [Figure("client_cpu_ms", cpu.measured / 1000, "ms/record")]


def _gateway(quick: bool) -> list[Figure]:
    """Ask through the gateway, several at a time; its CPU until every call is in the database."""
    n, rounds, taken, postgres, rates = 500 if quick else 3_000, 2 if quick else 5, [], [], []
    with mock_upstream() as upstream, Load() as load:
        known = {"mock": {"base_url": f"{upstream}/v1", "models": ["mock-a", "mock-b"]}}
        with gateway(known, workers=1) as ours:
            for number in range(rounds + 1):  # the first one warms up
                stored, before = ours.count(), cpu_s(ours.process)
                by_postgres = cpu_s(ours.postmaster)
                asked = Round(
                    ours.url,
                    "/r/coder/e/{episode}/v1/chat/completions",
                    "role:coder",
                    n=n,
                    prompt=PROMPT,
                    concurrency=8,
                    episodes=f"round-{number}",
                )
                answered = load.play(asked)
                if answered.failed:
                    raise RuntimeError(f"answers failed: {answered.failed}")
                ours.wait_stored(stored + n)
                if number:
                    taken.append(1000 * (cpu_s(ours.process) - before) / n)
                    postgres.append(1000 * (cpu_s(ours.postmaster) - by_postgres) / n)
                    rates.append(n / answered.seconds)
    return [
        _figure("gateway_cpu_ms", taken, "ms/call"),
        _figure("gateway_postgres_cpu_ms", postgres, "ms/call"),
        _figure("gateway_calls_per_s", rates, "calls/s"),
    ]


def _ingest(quick: bool) -> list[Figure]:
    found = {figure.name: figure for figure in ingest.measure(quick)}
    rate = found["ingest through HTTP"]
    cpu = found["ingest, CPU per record"].detail
    wal = found["ingest, write-ahead log per record"]
    return [
        Figure("ingest_per_s", rate.measured, "records/s", detail=rate.detail),
        Figure("ingest_cpu_ms", cpu["service"]["median"], "ms/record", detail=cpu["service"]),
        Figure(
            "ingest_postgres_cpu_ms", cpu["postgres"]["median"], "ms/record", detail=cpu["postgres"]
        ),
        Figure("wal_bytes", wal.measured, "bytes/record", detail=wal.detail),
    ]


def _curation(n: int) -> list[Figure]:
    """Import and curate a fifth, then all; what the two differ by is of the records alone."""
    with _home() as (environment, url, postmaster), psycopg.connect(url, autocommit=True) as log:
        folder, calls = Path(environment["FLYWHEEL_HOME"]), made_up_calls(1)
        (folder / "mapping.yaml").write_text(MAPPING)
        few, many = (
            _imported_and_curated(environment, log, postmaster, islice(calls, count))
            for count in (n // 5, n)
        )
        metadata, payload = (_size(log, name) for name in ("interaction", "interaction_payload"))
        text = log.execute(
            "SELECT avg(length(request::text) + length(response::text)) FROM interaction_payload"
        ).fetchone()
    assert text is not None
    stored, more = n + n // 5, n - n // 5
    return [
        Figure("text_bytes", float(text[0]), "bytes/record", note="request and answer, as JSON"),
        Figure("metadata_bytes", metadata / stored, "bytes/record", note="heap and indexes"),
        Figure("payload_bytes", payload / stored, "bytes/record", note="heap, TOAST and index"),
        Figure("curation_cpu_ms", 1000 * (many.cpu_s - few.cpu_s) / more, "ms/record"),
        Figure(
            "curation_postgres_cpu_ms",
            1000 * (many.postgres_cpu_s - few.postgres_cpu_s) / more,
            "ms/record",
        ),
        Figure("curation_bytes", many.grown_bytes / n, "bytes/record", note="and the index"),
        Figure("dataset_bytes", many.dataset_bytes / many.kept, "bytes/example"),
    ]


@dataclass(frozen=True)
class _Curated:
    """What one build took and left."""

    cpu_s: float
    postgres_cpu_s: float
    grown_bytes: int
    dataset_bytes: int
    kept: int


def _imported_and_curated(
    environment: Home,
    log: psycopg.Connection[Any],
    postmaster: psutil.Process,
    calls: Iterable[dict[str, Any]],
) -> _Curated:
    folder = Path(environment["FLYWHEEL_HOME"])
    path = folder / f"calls-{new_id().hex}.jsonl"
    path.write_text("".join(f"{json.dumps(call)}\n" for call in calls))
    _flywheel(environment, "import", "mapped", str(path), "--map", str(folder / "mapping.yaml"))
    stored, before = _database_size(log), (_children_s(), cpu_s(postmaster))
    _flywheel(environment, "curate", "--role", "coder")
    own, postgres = _children_s() - before[0], cpu_s(postmaster) - before[1]
    row = log.execute("SELECT count(*) FROM example WHERE status = 'kept'").fetchone()
    kept = int(row[0]) if row else 0
    artifacts = sum(f.stat().st_size for f in (folder / "artifacts").rglob("*") if f.is_file())
    return _Curated(own, postgres, _database_size(log) - stored, artifacts, max(kept, 1))


def _grading(n: int) -> list[Figure]:
    """Grade answers of code under three asserts, each in a confined process of its own."""
    me = psutil.Process()
    with Sandbox(workers=2) as sandbox:
        sandbox.run_many([SCRIPT] * 10)
        before = cpu_s(me)
        sandbox.run_many([SCRIPT] * n)
        taken = cpu_s(me) - before
    return [Figure("grading_cpu_ms", 1000 * taken / n, "ms/sample")]


def _figure(name: str, rounds: list[float], unit: str) -> Figure:
    spread = {"least": min(rounds), "most": max(rounds), "rounds": len(rounds)}
    return Figure(name, median(rounds), unit, detail=spread)


def cpu_s(process: psutil.Process) -> float:
    """Return the CPU seconds of a process and its children, those that have ended included."""
    total = 0.0
    for one in [process, *process.children(recursive=True)]:
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def _children_s() -> float:
    times = os.times()
    return times.children_user + times.children_system


@contextmanager
def _home() -> Iterator[tuple[Home, str, psutil.Process]]:
    """Make a migrated database; yield its environment, its URL and its server's process."""
    with tempfile.TemporaryDirectory(prefix="bench-scale-") as folder:
        url = start_embedded(Path(folder))
        pid = int((Path(folder) / "postgres/postmaster.pid").read_text().split()[0])
        environment = {"FLYWHEEL_HOME": folder, "FLYWHEEL_DATABASE_URL": url}
        _flywheel(environment, "db", "upgrade")
        yield environment, url, psutil.Process(pid)


def _flywheel(environment: Home, *arguments: str) -> str:
    """Run a command; return what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "flywheel", *arguments],
        env={**os.environ, "FLYWHEEL_ROLES": '["coder"]', **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"flywheel {arguments[0]} failed: {done.stderr[-2000:]}")
    return done.stdout


def _size(log: psycopg.Connection[Any], table: str) -> int:
    """Return the bytes of a partitioned table with its indexes and TOAST."""
    row = log.execute(
        "SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree(%s)", (table,)
    ).fetchone()
    return int(row[0]) if row else 0


def _database_size(log: psycopg.Connection[Any]) -> int:
    row = log.execute("SELECT pg_database_size(current_database())").fetchone()
    return int(row[0]) if row else 0
