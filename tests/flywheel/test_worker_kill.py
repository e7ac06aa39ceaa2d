"""A real worker, killed in the middle of a training."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from by_hand import environment_with, wait_until, write_log
from sqlmodel import Session
from tiny_base import QUICK

import flywheel.worker  # noqa: F401  registers every room's jobs
from collector.direct import DirectTransport
from collector.importers.run import run_import
from flywheel.processes import Processes
from foundation import runs
from foundation.database import session_scope
from foundation.queue import declare_queues
from foundation.settings import get_settings
from foundation.tables import DONE, RUNNING, Run
from trainer.checkpoints import COMPLETE
from trainer.registry import list_versions
from trainer.tables import TrainingRun
from trainer.tasks import start_training

pytestmark = pytest.mark.slow

LONG = replace(QUICK, epochs=25, eval_steps=10, early_stopping_patience=0)
"""150 steps, some seconds: a kill after the first checkpoint comes long before the last."""


@pytest.fixture
def quickly_lost(database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A worker that is silent for three seconds is lost."""
    monkeypatch.setenv("FLYWHEEL_HEARTBEAT_S", "0.3")
    monkeypatch.setenv("FLYWHEEL_LOST_AFTER_S", "3")
    get_settings.cache_clear()
    declare_queues()
    yield
    get_settings.cache_clear()


@contextmanager
def a_worker(name: str) -> Iterator[int]:
    """Run `flywheel worker` in a session of its own; its process id."""
    with Processes(get_settings().home, environment_with()) as processes:
        yield processes.start(name, "worker", "--concurrency", "1").pid


def state(run_id: UUID) -> Run:
    with session_scope() as session:
        return runs.get_run(session, run_id)


def done(run_id: UUID) -> Callable[[], bool]:
    def ask() -> bool:
        run = state(run_id)
        assert run.status not in ("failed", "cancelled"), run.error
        return run.status == DONE

    return ask


def curated(folder: Path) -> UUID:
    run_import("coder_outputs", [write_log(folder / "log.jsonl")], DirectTransport())
    run = runs.run_here("curation.build", {"role": "coder"}, role="coder")
    return UUID(run.result["dataset_id"])


def order(dataset_id: UUID, base: Path) -> TrainingRun:
    with session_scope() as session:
        return start_training(session, "coder", dataset_id, str(base), LONG)


def test_a_training_survives_its_worker(
    quickly_lost: None, session: Session, tmp_path: Path, tiny_base: Path
) -> None:
    dataset_id = curated(tmp_path)
    whole = order(dataset_id, tiny_base)
    with a_worker("first") as worker:
        wait_until(done(whole.run_id), "the undisturbed training")
        training = order(dataset_id, tiny_base)
        checkpoints = get_settings().home / "work" / "training" / str(training.id)
        wait_until(lambda: any(checkpoints.rglob(COMPLETE)), "the first checkpoint")
        os.killpg(worker, signal.SIGKILL)
    silent = state(training.run_id)
    assert silent.status == RUNNING, "killed in the middle"
    assert silent.progress["done"] < silent.progress["total"]
    kept = {path.parent.name for path in checkpoints.rglob(COMPLETE)}
    assert kept

    wait_until(lambda: runs.sweep().requeued == (training.run_id,), "the sweep")
    with a_worker("second"):
        wait_until(done(training.run_id), "the resumed training")

    assert state(training.run_id).attempts == 2
    first, second = (session.get(TrainingRun, t.id) for t in (whole, training))
    assert second.manifest["attempts"] == 2
    assert second.manifest["adapter_sha256"] == first.manifest["adapter_sha256"]
    assert second.history == first.history
    assert {v.training_run_id for v in list_versions(session)} == {whole.id, training.id}
    assert len(list_versions(session)) == 2
    assert not checkpoints.exists()
