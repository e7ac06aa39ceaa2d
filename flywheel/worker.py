"""The Celery worker: imports every room's jobs by name and takes up runs from the queues."""

import logging
import os
import threading
from dataclasses import dataclass
from functools import partial
from importlib import import_module

from celery.signals import (
    setup_logging,
    worker_process_init,
    worker_process_shutdown,
    worker_ready,
)

import collector.tasks
import curation.tasks
import evaluator.decide
import evaluator.drift
import evaluator.forgetting
import evaluator.rewards
import evaluator.roi
import evaluator.tasks
import flywheel.campaigns
import flywheel.pairs_by_execution
import flywheel.pairs_by_reward
import flywheel.preference_round
import flywheel.retention_tasks
import flywheel.scheduling_tasks
import flywheel.searching
import flywheel.swap
import flywheel.teaching
import router.specialist.rule
import router.tasks
import trainer.compress.tasks
import trainer.estimate
import trainer.export.tasks
import trainer.joint.tasks
import trainer.plan
import trainer.schedule
import trainer.tasks
from flywheel.ops_server import close_inherited, serve_ops, worker_ready_state
from flywheel.schema import require_current
from foundation import error_reports, logs, meters, run_meters, tracing
from foundation.artifacts import forget_copies, require_store
from foundation.database import forget_connections
from foundation.errors import BadInput, BadSetting
from foundation.queue import QUEUES, forget_broker_connections, get_queue, queue_name
from foundation.runs import kinds, register_tasks
from foundation.settings import get_settings
from foundation.tables import FAILED

log = logging.getLogger(__name__)

ROOMS = (
    collector.tasks,
    curation.tasks,
    evaluator.decide,
    evaluator.drift,
    evaluator.forgetting,
    evaluator.rewards,
    evaluator.roi,
    evaluator.tasks,
    flywheel.campaigns,
    flywheel.pairs_by_execution,
    flywheel.pairs_by_reward,
    flywheel.preference_round,
    flywheel.retention_tasks,
    flywheel.scheduling_tasks,
    flywheel.swap,
    flywheel.searching,
    flywheel.teaching,
    router.specialist.rule,
    router.tasks,
    trainer.compress.tasks,
    trainer.estimate,
    trainer.export.tasks,
    trainer.joint.tasks,
    trainer.plan,
    trainer.schedule,
    trainer.tasks,
)
"""Modules that register jobs and rules by being imported."""


@setup_logging.connect  # type: ignore[untyped-decorator]  # celery has no types
def _log_as_configured(**_: object) -> None:
    """Keep Celery from setting up logs of its own: `run_worker` has."""


@worker_process_init.connect  # type: ignore[untyped-decorator]
def _own_connections(**_: object) -> None:
    """Give a forked worker process database connections, counts and traces of its own."""
    forget_connections()
    forget_broker_connections()
    close_inherited()
    meters.share()
    tracing.configure(meters.WORKER)
    error_reports.configure(meters.WORKER)


@worker_process_shutdown.connect  # type: ignore[untyped-decorator]
def _send_what_waits(**_: object) -> None:
    """Send the last spans and reports of a worker process that ends."""
    tracing.stop()
    error_reports.flush()


def _load_ahead(**_: object) -> None:
    """Load what trains before a job waits for it: that takes longer than a training's start."""
    threading.Thread(target=import_module, args=("trainer.methods.sft",), daemon=True).start()


@dataclass(frozen=True)
class Pool:
    """How many processes a worker has, and when it replaces one; None: as many as that, never.

    Attributes:
        concurrency: that there always are.
        at_most: that there may be while jobs wait.
        max_jobs: after which a process is replaced.
        max_memory_mb: beyond which it is, when its job has ended.
    """

    concurrency: int = 2
    at_most: int | None = None
    max_jobs: int | None = None
    max_memory_mb: int | None = None

    def __post_init__(self) -> None:
        if self.at_most is not None and self.at_most < self.concurrency:
            raise BadInput(
                "at most",
                self.at_most,
                f"{self.concurrency} processes or more",
                "Correct --at-most or --concurrency.",
            )

    def options(self) -> list[str]:
        """Return them as Celery's worker takes them."""
        options = [f"--concurrency={self.concurrency}"]
        if self.at_most is not None:
            options.append(f"--autoscale={self.at_most},{self.concurrency}")
        if self.max_jobs is not None:
            options.append(f"--max-tasks-per-child={self.max_jobs}")
        if self.max_memory_mb is not None:
            options.append(f"--max-memory-per-child={1024 * self.max_memory_mb}")
        return options


def run_worker(
    queues: list[str] | None = None,
    pool: Pool | None = None,
    metrics_port: int | None = None,
) -> None:
    """Work until told to stop; a warm stop (SIGTERM) finishes the jobs in hand.

    Args:
        queues: to take jobs from; None: all.
        pool: its processes; None: two.
        metrics_port: where it tells how it stands; None: `FLYWHEEL_METRICS_PORT`, if that is set.

    Raises:
        SchemaMismatch: the database is not at this code's revision.
        BadInput: an unknown queue, which would never bring a job.
        ArtifactStoreUnavailable: the object store of the artifacts may not be written.
    """
    queues = queues or list(QUEUES)
    for name in queues:
        if name not in QUEUES:
            raise BadInput("queue", name, f"one of {', '.join(QUEUES)}", "Correct --queues.")
    require_current()
    require_store()
    forget_copies()
    register_tasks()
    if queues == ["gpu"]:  # elsewhere most processes never train, and would hold it for nothing
        worker_process_init.connect(_load_ahead, weak=False)
    level = get_settings().log_level
    logs.configure(meters.WORKER)
    port = get_settings().metrics_port if metrics_port is None else metrics_port
    shared = meters.make_folder(get_settings().home, meters.WORKER) if port is not None else None
    if port is not None:
        open_port = partial(_serve_or_end, port)
        worker_ready.connect(open_port, weak=False)  # when the children are forked
        meters.share()
        for kind in kinds(queues):  # an alert would miss a first one that begins at 1
            run_meters.ended.inc(kind, FAILED, by=0)
    try:
        _work(queues, pool or Pool(), level)
    finally:
        if shared is not None:
            meters.remove_folder(shared)


def _serve_or_end(port: int, **_: object) -> None:
    """Answer health and metrics, or end the worker: Celery would log the error and go on."""
    try:
        serve_ops(port, worker_ready_state)
    except BadSetting as error:
        log.error("%s", error)
        raise SystemExit(error.exit_code) from error


def _work(queues: list[str], pool: Pool, level: str) -> None:
    get_queue().worker_main(
        [
            "--quiet",  # no banner among the lines of the log
            "worker",
            "--pool=prefork",
            *pool.options(),
            f"--loglevel={level}",
            f"--queues={','.join(map(queue_name, queues))}",
            f"--hostname=flywheel-{os.getpid()}@%h",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
        ]
    )
