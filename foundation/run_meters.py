"""What is counted of runs, and what their log lines and spans carry."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from foundation import log_ids, tracing
from foundation.meters import JOB_SECONDS, SCHEDULER, SERVICE, WORKER, Counter, Histogram
from foundation.tables import DONE, FAILED, Run

GIVEN_UP = "given_up"
"""How a run ended here that was cancelled, taken over by another worker, or put back."""

ended = Counter(
    "flywheel_runs",
    "runs",
    "Runs that ended in a worker: done, failed, or given_up (cancelled, taken over, put back).",
    ("kind", "status"),
    (WORKER,),
)
seconds = Histogram(
    "flywheel_run_seconds",
    "runs",
    "From a run's start in a worker to its end there.",
    ("kind",),
    (WORKER,),
    bounds=JOB_SECONDS,
)
cpu_seconds = Counter(
    "flywheel_run_cpu_seconds",
    "runs",
    "CPU time of runs in their worker's process, without that of processes they start.",
    ("kind",),
    (WORKER,),
)
swept = Counter(
    "flywheel_runs_swept",
    "runs",
    "Runs that the scheduler found lost or unsent: queued again, or failed after too many starts.",
    ("outcome",),
    (SCHEDULER,),
)
lost = Counter(
    "flywheel_runs_lost",
    "runs",
    "Runs whose worker fell silent, as the scheduler found.",
    ("kind",),
    (SCHEDULER,),
)
retried = Counter(
    "flywheel_runs_retried", "runs", "Runs that people queued again.", ("kind",), (SERVICE,)
)


@contextmanager
def watching(run: Run) -> Iterator[Callable[[Run | None], None]]:
    """Count and trace a run, and put its ids on the log lines of the block.

    The block says how it ended; one that raises has failed.
    """
    started, cpu_started = time.perf_counter(), time.process_time()
    status = FAILED

    def end(finished: Run | None) -> None:
        nonlocal status
        status = GIVEN_UP if finished is None else finished.status

    ids = {"run_id": run.id, "role": run.role}
    about = {"flywheel__run_id": run.id, "flywheel__role": run.role, "flywheel__kind": run.kind}
    with (
        tracing.span(f"run {run.kind}", "consumer", run.traceparent, **about) as span,
        log_ids.binding(**ids),
    ):
        try:
            yield end
        finally:
            if status != DONE:
                span.fail(status)
            ended.inc(run.kind, status)
            seconds.observe(time.perf_counter() - started, run.kind)
            cpu_seconds.inc(run.kind, by=time.process_time() - cpu_started)
