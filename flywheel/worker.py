"""The Celery worker: imports every room's jobs by name and takes up runs from the queues."""

import logging
import os
import threading
from importlib import import_module

from celery.signals import worker_process_init

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
from flywheel.schema import require_current
from foundation.database import forget_connections
from foundation.errors import BadInput
from foundation.queue import QUEUES, get_queue
from foundation.runs import register_tasks
from foundation.settings import get_settings

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


@worker_process_init.connect  # type: ignore[untyped-decorator]  # celery has no types
def _own_connections(**_: object) -> None:
    """Give a forked worker process database connections of its own."""
    forget_connections()


def _load_ahead(**_: object) -> None:
    """Load what trains before a job waits for it: that takes longer than a training's start."""
    threading.Thread(target=import_module, args=("trainer.methods.sft",), daemon=True).start()


def run_worker(queues: list[str] | None = None, concurrency: int = 2) -> None:
    """Work until told to stop; a warm stop (SIGTERM) finishes the jobs in hand.

    Raises:
        SchemaMismatch: the database is not at this code's revision.
        BadInput: an unknown queue, which would never bring a job.
    """
    queues = queues or list(QUEUES)
    for name in queues:
        if name not in QUEUES:
            raise BadInput("queue", name, f"one of {', '.join(QUEUES)}", "Correct --queues.")
    require_current()
    register_tasks()
    if queues == ["gpu"]:  # elsewhere most processes never train, and would hold it for nothing
        worker_process_init.connect(_load_ahead, weak=False)
    level = get_settings().log_level
    logging.basicConfig(level=level)
    get_queue().worker_main(
        [
            "worker",
            "--pool=prefork",
            f"--concurrency={concurrency}",
            f"--loglevel={level}",
            f"--queues={','.join(queues)}",
            f"--hostname=flywheel-{os.getpid()}@%h",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
        ]
    )
