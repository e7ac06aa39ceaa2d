"""What 1, 2 and 4 worker processes do with the same jobs: one kind that computes, one that waits.

    python -m benchmarks.scale --only workers [--quick]

*computes*: imports of recorded calls, whose lines are read, scrubbed and checked in the worker and
stored by PostgreSQL. *waits*: evaluations of a model behind a slow server, whose answers are graded
in the sandbox. Each round starts a worker for each number of processes, in turn, on one database,
which is the broker too; the clock is the rows': from the first job's order to the last one's end.
PostgreSQL shares the cores of this machine with the workers, and no number of processes computes
more than the cores there are.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import psycopg
import uvicorn

from benchmarks.bars import Figure
from benchmarks.scale_costs import cpu_s
from flywheel.processes import Processes, free_port
from foundation.embedded import start_embedded

PROCESSES = (1, 2, 4)
COMPUTES, WAITS = "computes", "waits"
JOBS = 8
ANSWER_S = 0.5
"""Seconds that the slow server takes for an answer."""

TASKS = 4
"""Of an evaluation; they are asked one after the other."""


def measure(quick: bool = False) -> list[Figure]:
    """Measure in rounds, the numbers of processes taking turns."""
    rounds, lines = (1, 600) if quick else (5, 2_000)
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-workers-") as folder, _slow_server() as slow:
        environment = {
            "FLYWHEEL_HOME": folder,
            "FLYWHEEL_DATABASE_URL": start_embedded(Path(folder)),
            "FLYWHEEL_ENGINE_URL": f"{slow}/v1",
            "FLYWHEEL_ENGINE_KIND": "plain",
            "FLYWHEEL_LOG_LEVEL": "WARNING",
        }
        _python(environment, "-m", "flywheel", "db", "upgrade")
        with psycopg.connect(environment["FLYWHEEL_DATABASE_URL"], autocommit=True) as log:
            for number in range(rounds):
                for n in PROCESSES if number % 2 == 0 else reversed(PROCESSES):
                    with _worker(environment, n, log) as worker:
                        for kind in (COMPUTES, WAITS):
                            taken = _round(environment, log, worker, kind, lines)
                            found.setdefault((kind, n), []).append(taken)
    return [_figure(kind, n, found) for kind in (COMPUTES, WAITS) for n in PROCESSES]


def _figure(kind: str, n: int, found: dict[tuple[str, int], list[dict[str, float]]]) -> Figure:
    rates = [taken["jobs_per_s"] for taken in found[kind, n]]
    times = [
        taken["jobs_per_s"] / one["jobs_per_s"]
        for taken, one in zip(found[kind, n], found[kind, 1], strict=True)
    ]
    return Figure(
        f"{kind}, {n} worker process{'es' if n > 1 else ''}",
        median(rates),
        "jobs/s",
        detail={
            "least": min(rates),
            "most": max(rates),
            "times one process": median(times),
            "worker's cores in use": median(taken["cores"] for taken in found[kind, n]),
            "rounds": len(rates),
        },
        note=f"{median(times):.2f} x one process",
    )


def _round(
    environment: dict[str, str],
    log: psycopg.Connection[Any],
    worker: psutil.Process,
    kind: str,
    lines: int,
) -> dict[str, float]:
    """Order the jobs, wait for them; return jobs per second and the cores that the worker used."""
    before = cpu_s(worker)
    _python(environment, "-m", "benchmarks.scale_workers", "--order", kind, str(lines))
    ids = _wait(log)
    row = log.execute(
        "SELECT extract(epoch FROM max(finished_at) - min(created_at)), count(*), "
        "string_agg(error, '; ') FROM run WHERE id = ANY(%s)",
        (ids,),
    ).fetchone()
    assert row is not None
    seconds, n, error = float(row[0]), int(row[1]), row[2]
    if error:
        raise RuntimeError(f"jobs failed: {error[:1000]}")
    return {"jobs_per_s": n / seconds, "cores": (cpu_s(worker) - before) / seconds}


def _wait(log: psycopg.Connection[Any], timeout_s: float = 500.0) -> list[Any]:
    """Return the ids of the newest jobs once all have ended."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        rows = log.execute(
            "SELECT id, status FROM run ORDER BY id DESC LIMIT %s", (JOBS,)
        ).fetchall()
        if all(status in ("done", "failed") for _, status in rows):
            return [identifier for identifier, _ in rows]
        time.sleep(0.05)
    raise RuntimeError(f"jobs did not end within {timeout_s:.0f} s")


def order(kind: str, lines: int) -> None:
    """Order the jobs of a round, all in one transaction."""
    import flywheel.worker  # noqa: F401  registers every room's jobs
    from evaluator.suites import Task, add_suite
    from evaluator.tasks import EvaluationPlan, evaluation_params
    from foundation.database import session_scope
    from foundation.ids import new_id
    from foundation.runs import enqueue
    from foundation.settings import get_settings

    mark = new_id().hex
    with session_scope() as session:
        if kind == COMPUTES:
            for number in range(JOBS):
                path = get_settings().home / f"{mark}-{number}.jsonl"
                path.write_text("".join(f"{_line(mark, number, i)}\n" for i in range(lines)))
                params: dict[str, Any] = {"format": "coder_outputs", "paths": [str(path)]}
                enqueue(session, "collector.import", params)
            return
        prompt = [{"role": "user", "content": "What is one and one?"}]
        tasks = [Task(f"{mark}-{i}", prompt, "exact", {"answer": "2"}) for i in range(TASKS)]
        suite = add_suite(session, f"slow-{mark}", "coder", tasks)
        plan = EvaluationPlan(samples_per_task=1, batch_size=1, use_cache=False)
        for _ in range(JOBS):
            params = evaluation_params(f"{suite.name}@{suite.version}", ["slow"], plan)
            enqueue(session, "evaluator.evaluate", params, role="coder")


def _line(mark: str, number: int, i: int) -> str:
    solution = "\n".join(f"value_{k} = {k} * {i} + {number}" for k in range(20))
    return json.dumps(
        {
            "run": f"{mark}-{number}",
            "task_id": f"task {i}",
            "model": "somebody",
            "dataset": "mbpp",
            "solution": solution,
            "exec_pass": True,
        }
    )


@contextmanager
def _worker(
    environment: dict[str, str], n: int, log: psycopg.Connection[Any]
) -> Iterator[psutil.Process]:
    """Run a worker of `n` processes that has done a job already."""
    with Processes(Path(environment["FLYWHEEL_HOME"]), environment) as processes:
        child = processes.start(f"worker-{n}", "worker", "--concurrency", str(n))
        _python(environment, "-m", "benchmarks.scale_workers", "--order", COMPUTES, "1")
        _wait(log)
        yield psutil.Process(child.pid)


def _python(environment: dict[str, str], *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: {done.stderr[-2000:]}")


@contextmanager
def _slow_server() -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.scale_workers", "--slow", str(port)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


async def slow_app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer every chat after a while; part of ASGI."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    if scope["method"] == "GET":
        said: dict[str, Any] = {"object": "list", "data": [{"id": "slow", "object": "model"}]}
    else:
        await asyncio.sleep(ANSWER_S)
        message = {"role": "assistant", "content": "2"}
        said = {
            "id": "slow",
            "object": "chat.completion",
            "created": 1,
            "model": "slow",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10},
        }
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(said).encode()})


if __name__ == "__main__":
    if sys.argv[1] == "--slow":
        uvicorn.run(slow_app, port=int(sys.argv[2]), log_level="error")
    else:
        order(sys.argv[2], int(sys.argv[3]))
