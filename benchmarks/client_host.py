"""An agent's process that logs calls with one client and times it; see `benchmarks.client_cost`.

    python benchmarks/client_host.py SUBJECT SINK_URL FOLDER

SUBJECT is `flywheel`, `langfuse` or `mlflow`; the last two run in a venv of their own, so this file
needs the standard library and the subject only. Each line of stdin asks for a round, a JSON object
of `bursts`, `size` and `gap_s`; each is answered by a line of JSON: wall and thread-CPU times of
every call in microseconds, and the CPU time of the whole process, exporting included.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

SENTENCE = "The parser must keep the order of the keys and refuse what it cannot read. "
MODEL = "gpt-4o-mini"
ANSWER = "def parse(text: str) -> dict[str, str]:\n    return dict(x.split('=') for x in text)\n"

Log = Callable[[dict[str, Any], dict[str, Any]], None]


def request_of(number: int) -> dict[str, Any]:
    """Return a chat request whose messages hold 2 KB of text, no two alike."""
    system = "You are a careful programmer who writes small functions with tests. " * 6
    question = f"Task {number}. " + SENTENCE * 22
    return {
        "model": MODEL,
        "temperature": 0.2,
        "messages": [
            {"role": "system", "content": system},
            {"role": "user", "content": question[: 2048 - len(system)]},
        ],
    }


def response_of(number: int) -> dict[str, Any]:
    """Return a chat completion."""
    return {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion",
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": ANSWER},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 512, "completion_tokens": 40, "total_tokens": 552},
    }


def flywheel(sink: str, folder: str) -> tuple[Log, Callable[[], Any]]:
    """Log with ours: spool, scrub, ship."""
    from collector.client import Flywheel

    client = Flywheel(sink, spool=folder, role="coder")

    def log(request: dict[str, Any], response: dict[str, Any]) -> None:
        client.record(request=request, response=response, latency_ms=812.5)

    return log, client.close


def langfuse(sink: str, folder: str) -> tuple[Log, Callable[[], Any]]:
    """Log with Langfuse's SDK, a generation per call, exported to the sink."""
    from langfuse import Langfuse

    client = Langfuse(public_key="pk-none", secret_key="sk-none", host=sink)

    def log(request: dict[str, Any], response: dict[str, Any]) -> None:
        client.start_observation(
            as_type="generation",
            name="llm",
            model=request["model"],
            input=request["messages"],
            output=response["choices"][0]["message"],
            model_parameters={"temperature": request["temperature"]},
            usage_details={"input": 512, "output": 40},
        ).end()

    return log, client.shutdown


def mlflow(sink: str, folder: str) -> tuple[Log, Callable[[], Any]]:
    """Log with MLflow's SDK, a span per call, exported to the sink by OTLP."""
    os.environ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = f"{sink}/v1/traces"
    os.environ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] = "http/protobuf"
    import mlflow as library
    from opentelemetry import trace

    library.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")

    def log(request: dict[str, Any], response: dict[str, Any]) -> None:
        span = library.start_span_no_context("llm", span_type="CHAT_MODEL", inputs=request)
        span.set_outputs(response)
        span.end()

    def close() -> None:
        stop = getattr(trace.get_tracer_provider(), "shutdown", None)
        if stop is not None:
            stop()

    return log, close


def timed_round(
    log: Log, numbers: "Callable[[], int]", bursts: int, size: int, gap_s: float
) -> dict[str, Any]:
    """Log `bursts` bursts of `size` calls, `gap_s` seconds apart, and time each call."""
    wall_us, cpu_us = list[float](), list[float]()
    process_before = time.process_time()
    for _ in range(bursts):
        calls = [(request_of(n), response_of(n)) for n in (numbers() for _ in range(size))]
        for request, response in calls:
            cpu, wall = time.thread_time_ns(), time.perf_counter_ns()
            log(request, response)
            wall_us.append((time.perf_counter_ns() - wall) / 1000)
            cpu_us.append((time.thread_time_ns() - cpu) / 1000)
        time.sleep(gap_s)
    return {
        "wall_us": wall_us,
        "cpu_us": cpu_us,
        "process_ms": (time.process_time() - process_before) * 1000,
    }


def main() -> None:
    """Answer rounds until stdin ends."""
    subject, sink, folder = sys.argv[1:4]
    log, close = {"flywheel": flywheel, "langfuse": langfuse, "mlflow": mlflow}[subject](
        sink, folder
    )
    made = 0

    def numbers() -> int:
        nonlocal made
        made += 1
        return made

    timed_round(log, numbers, 5, 20, 0.02)  # imports, connections, files
    time.sleep(1.5)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        measured = timed_round(log, numbers, **json.loads(line))
        sys.stdout.write(json.dumps(measured) + "\n")
        sys.stdout.flush()
    close()


if __name__ == "__main__":
    main()
