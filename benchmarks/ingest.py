"""What ingest takes: records per second through HTTP, beside a raw COPY of the same rows.

    python -m benchmarks.ingest [--quick]

The real service (`flywheel serve --workers 2`) runs on an embedded PostgreSQL of its own. A process
beside it posts NDJSON batches that were built before, over a few connections; everything shares the
cores of this machine. After each round the rows that it stored are read back in COPY's own binary
form and copied, in the same batches, into the same tables of a second database of that server: by
one connection, for nothing is checked or scrubbed there.
"""

import argparse
import http.client
import inspect
import os
import pickle
import random
import statistics
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import orjson
import psutil
import psycopg

from benchmarks.bars import Figure, report
from collector.record import interaction_record
from flywheel.processes import Processes, free_port
from foundation.embedded import start_embedded
from foundation.ids import new_id

BATCH = 500
MESSAGE_CHARS = 1_190
"""Code in the messages of a record of 2 KB: the rest are its columns."""
CONNECTIONS = 4
WORKERS = 2
SECOND_DATABASE = "raw_copy"

Batch = list[dict[str, Any]]


@dataclass
class Rounds:
    """What the rounds measured, each list in their order."""

    http_per_s: list[float] = field(default_factory=list)
    copy_per_s: list[float] = field(default_factory=list)
    service_cpu_ms: list[float] = field(default_factory=list)
    postgres_cpu_ms: list[float] = field(default_factory=list)
    wal_bytes: list[float] = field(default_factory=list)
    line_bytes: float = 0.0

    def spread(self, values: Sequence[float]) -> dict[str, float]:
        """Return the median and the range of rounds."""
        return {
            "median": statistics.median(values),
            "least": min(values),
            "most": max(values),
            "rounds": len(values),
        }


def measure(quick: bool = False) -> list[Figure]:
    """Measure in interleaved rounds; the figures, with their spread."""
    with tempfile.TemporaryDirectory(prefix="bench-ingest-") as folder:
        rounds = _measure(Path(folder), rounds=3 if quick else 9, batches=10 if quick else 20)
    ratios = [a / b for a, b in zip(rounds.http_per_s, rounds.copy_per_s, strict=True)]
    conditions = (
        f"{BATCH} records a batch, {rounds.line_bytes:.0f} bytes a record, "
        f"{os.cpu_count()} cores, {WORKERS} workers"
    )
    cpu = [a + b for a, b in zip(rounds.service_cpu_ms, rounds.postgres_cpu_ms, strict=True)]
    return [
        Figure(
            "ingest through HTTP",
            statistics.median(rounds.http_per_s),
            "records/s",
            at_least=5_000,
            detail=rounds.spread(rounds.http_per_s) | {"conditions": conditions},
        ),
        Figure(
            "ingest, share of a raw COPY of the same rows",
            statistics.median(ratios),
            "",
            at_least=0.5,
            detail=rounds.spread(ratios) | {"copy_per_s": rounds.spread(rounds.copy_per_s)},
        ),
        Figure(
            "ingest, CPU per record",
            statistics.median(cpu),
            "ms",
            detail={
                "service": rounds.spread(rounds.service_cpu_ms),
                "postgres": rounds.spread(rounds.postgres_cpu_ms),
            },
        ),
        Figure(
            "ingest, write-ahead log per record",
            statistics.median(rounds.wal_bytes),
            "bytes",
            detail=rounds.spread(rounds.wal_bytes),
        ),
    ]


def _measure(folder: Path, rounds: int, batches: int) -> Rounds:
    home = folder / "home"
    url = start_embedded(home)
    with psycopg.connect(url, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {SECOND_DATABASE}")
    second = urlsplit(url)._replace(path=f"/{SECOND_DATABASE}").geturl()
    for address in (url, second):
        _flywheel("db", "upgrade", FLYWHEEL_HOME=str(home), FLYWHEEL_DATABASE_URL=address)
    draw = random.Random(0)
    found = Rounds()
    with _service(home, url) as (service, process), psycopg.connect(url) as log:
        postmaster = psutil.Process(int((home / "postgres/postmaster.pid").read_text().split()[0]))
        for number in range(rounds + 1):  # the first one warms up
            made = [[_record(draw) for _ in range(BATCH)] for _ in range(batches)]
            taken = _one_round(service, folder, made, log, process, postmaster)
            with psycopg.connect(second) as raw:
                taken["copy_per_s"] = _copy_again(log, raw, made)
            if number:
                for name, value in taken.items():
                    getattr(found, name).append(value)
            found.line_bytes = len(_line(made[0][0]))
    return found


def _one_round(
    service: str,
    folder: Path,
    made: Sequence[Batch],
    log: psycopg.Connection[Any],
    process: psutil.Process,
    postmaster: psutil.Process,
) -> dict[str, float]:
    """Post the batches; return the rate and the costs per record."""
    path = folder / "bodies"
    path.write_bytes(pickle.dumps([_body(batch) for batch in made]))
    records = sum(map(len, made))
    stored = _count(log)
    service_s, postgres_s = _cpu_s(process), _cpu_s(postmaster)
    written = _wal(log)
    seconds = float(
        subprocess.run(
            [sys.executable, "-m", "benchmarks.ingest", "--load", service, str(path)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )
    wal_bytes = (_wal(log) - written) / records
    costs = (
        1000 * (_cpu_s(process) - service_s) / records,
        1000 * (_cpu_s(postmaster) - postgres_s) / records,
    )
    assert _count(log) == stored + records, "records are missing"
    return {
        "http_per_s": records / seconds,
        "service_cpu_ms": costs[0],
        "postgres_cpu_ms": costs[1],
        "wal_bytes": wal_bytes,
    }


def _copy_again(
    log: psycopg.Connection[Any], raw: psycopg.Connection[Any], made: Sequence[Batch]
) -> float:
    """Copy the stored rows of the batches into the second database; return records per second."""
    dumps = [
        {
            table: _dumped(log, table, [UUID(record["id"]) for record in batch])
            for table in ("interaction", "interaction_payload")
        }
        for batch in made
    ]
    log.commit()
    started = time.perf_counter()
    for tables in dumps:
        for table, rows in tables.items():
            with raw.cursor().copy(f"COPY {table} FROM STDIN (FORMAT binary)") as copy:
                copy.write(rows)
        raw.commit()
    return sum(map(len, made)) / (time.perf_counter() - started)


def _dumped(log: psycopg.Connection[Any], table: str, ids: Sequence[UUID]) -> bytes:
    query = f"COPY (SELECT * FROM {table} WHERE id = ANY(%s)) TO STDOUT (FORMAT binary)"
    with log.cursor().copy(query, (list(ids),)) as copy:
        return b"".join(bytes(piece) for piece in copy)


def _count(log: psycopg.Connection[Any]) -> int:
    row = log.execute("SELECT count(*) FROM interaction JOIN interaction_payload USING (id)")
    (n,) = row.fetchone() or (0,)
    log.commit()
    return int(n)


def _wal(log: psycopg.Connection[Any]) -> int:
    row = log.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchone()
    log.commit()
    return int(row[0]) if row else 0


def _cpu_s(process: psutil.Process) -> float:
    """Return the CPU seconds of a process, its children and those that have ended."""
    total = 0.0
    for one in [process, *process.children(recursive=True)]:
        times = one.cpu_times()
        total += times.user + times.system
        if one == process:
            total += times.children_user + times.children_system
    return total


@contextmanager
def _service(home: Path, url: str) -> Iterator[tuple[str, psutil.Process]]:
    """Run the service; yield its address and its process."""
    port = free_port()
    environment = {
        "FLYWHEEL_HOME": str(home),
        "FLYWHEEL_DATABASE_URL": url,
        "FLYWHEEL_LOG_LEVEL": "WARNING",
    }
    with Processes(home, environment) as processes:
        child = processes.start("serve", "serve", "--port", str(port), "--workers", str(WORKERS))
        processes.wait_for_http(f"http://127.0.0.1:{port}/readyz")
        yield f"http://127.0.0.1:{port}", psutil.Process(child.pid)


def _flywheel(*arguments: str, **environment: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "flywheel", *arguments, "--json"],
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
    )


_TEXT = "".join(inspect.getsource(module) for module in (argparse, textwrap, random, subprocess))
"""Code, as agents write it."""


def _record(draw: random.Random) -> dict[str, Any]:
    """Return one call of an episode: a question and an answer of code."""
    half = MESSAGE_CHARS // 2
    start = draw.randrange(len(_TEXT) - 2 * half)
    request = {
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": _TEXT[start : start + half]}],
        "temperature": 0.2,
    }
    answer = {"role": "assistant", "content": _TEXT[start + half : start + 2 * half]}
    response = {
        "id": f"chatcmpl-{new_id().hex}",
        "model": "gpt-4o-mini",
        "choices": [{"index": 0, "message": answer, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 310, "completion_tokens": 290},
    }
    return interaction_record(
        new_id(), "coder", request, response, episode_id=str(new_id()), latency_ms=812.0
    )


def _line(record: dict[str, Any]) -> bytes:
    return orjson.dumps({"kind": "interaction", "record": record})


def _body(batch: Batch) -> bytes:
    return b"\n".join([orjson.dumps({"source": "bench"}), *map(_line, batch)])


def load(service: str, path: Path) -> float:
    """Post every body of a file over a few connections; return the seconds from first to last."""
    bodies: SimpleQueue[bytes] = SimpleQueue()
    for body in pickle.loads(path.read_bytes()):
        bodies.put(body)
    threads = [
        threading.Thread(target=_post_all, args=(service, bodies)) for _ in range(CONNECTIONS)
    ]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - started


def _post_all(service: str, bodies: "SimpleQueue[bytes]") -> None:
    connection = http.client.HTTPConnection(service.removeprefix("http://"))
    while True:
        try:
            body = bodies.get_nowait()
        except Empty:
            return connection.close()
        connection.request("POST", "/v1/ingest", body, {"Content-Type": "application/x-ndjson"})
        answer = connection.getresponse()
        said = answer.read()
        if answer.status != 200 or said.count(b'"stored"') != BATCH:
            sys.stderr.write(f"{answer.status}: {said[:500]!r}\n")
            os._exit(1)


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Measure what ingest takes.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, for a look")
    parser.add_argument("--load", nargs=2, metavar=("URL", "FILE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.load:
        sys.stdout.write(f"{load(given.load[0], Path(given.load[1]))}\n")
        return 0
    return report("ingest", measure(given.quick))


if __name__ == "__main__":
    sys.exit(main())
