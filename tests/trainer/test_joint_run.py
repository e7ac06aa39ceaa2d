"""A joint training from its order to a version of each role, on a real database."""

import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
from sqlmodel import select
from stored_datasets import add_dataset
from tiny_base import QUICK, make_rows

from foundation import runs
from foundation.errors import BadInput
from foundation.settings import get_settings
from foundation.tables import CANCELLED, DONE
from trainer.fit import weights_sha256
from trainer.joint.tasks import JointOrder, start_joint
from trainer.registry import get_version, list_versions, version_folder
from trainer.tables import TrainingRun

RECIPE = replace(QUICK, epochs=2)


@pytest.fixture
def orders(session, tmp_path):
    rows, other = make_rows(64), make_rows(64, "the answer is not known to me")
    return [
        JointOrder(
            role,
            add_dataset(session, tmp_path / role, mine[:48], mine[48:], role=role).id,
            replace(RECIPE, r=r),
        )
        for role, mine, r in (("coder", rows, 16), ("tester", other, 8))
    ]


def ordered(session, orders, base):
    run_id = start_joint(session, orders, str(base)).id
    session.commit()
    return run_id


def trainings_of(session, run_id):
    session.expire_all()
    found = session.exec(select(TrainingRun).where(TrainingRun.run_id == run_id)).all()
    return sorted(found, key=lambda training: training.role)


@pytest.mark.slow
def test_one_run_makes_a_version_of_each_role(session, orders, tiny_base):
    run_id = ordered(session, orders, tiny_base)
    done = runs.execute(run_id)
    assert done.status == DONE, done.error
    assert done.result["names"] == ["coder-v1", "tester-v1"]
    assert done.progress["coder_loss"] > 0
    for training in trainings_of(session, run_id):
        version = get_version(session, f"{training.role}-v1")
        assert version.training_run_id == training.id
        assert version.dataset_id == training.dataset_id
        assert training.metrics["steps"] == 12
        assert training.history[0]["step"] == 1
        sha256 = weights_sha256(version_folder(version))
        assert training.manifest["adapter_sha256"] == sha256
    assert list((get_settings().home / "work" / "training").iterdir()) == []


KILLED_WORKER = """
import os, signal, sys
from uuid import UUID
import trainer.joint.tasks
from foundation import runs

honest = runs.RunHandle.progress

def progress(self, done, total, unit, **measures):
    honest(self, done, total, unit, **measures)
    if done == 7:
        os.kill(os.getpid(), signal.SIGKILL)

runs.RunHandle.progress = progress
runs.execute(UUID(sys.argv[1]))
"""


@pytest.mark.slow
def test_a_killed_worker_costs_nothing_but_time(session, orders, tiny_base, monkeypatch):
    whole, cut = (ordered(session, orders, tiny_base) for _ in range(2))
    runs.execute(whole)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_WORKER, str(cut)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    monkeypatch.setenv("FLYWHEEL_LOST_AFTER_S", "0.000001")
    get_settings.cache_clear()
    assert runs.sweep().requeued == (cut,)
    done = runs.execute(cut)
    assert done.status == DONE, done.error
    for one, other in zip(trainings_of(session, whole), trainings_of(session, cut), strict=True):
        assert one.manifest["adapter_sha256"] == other.manifest["adapter_sha256"]
        assert one.history == other.history


@pytest.mark.slow
def test_a_cancelled_one_registers_nothing(session, orders, tiny_base, monkeypatch):
    run_id = ordered(session, orders, tiny_base)
    honest = runs.RunHandle.progress

    def cancel_then_report(self, done, total, unit, **measures):
        runs.cancel(session, run_id)
        session.commit()
        honest(self, done, total, unit, **measures)

    monkeypatch.setattr(runs.RunHandle, "progress", cancel_then_report)
    assert runs.execute(run_id) is None
    session.expire_all()
    assert runs.get_run(session, run_id).status == CANCELLED
    assert list_versions(session) == []


def test_roles_of_a_joint_training_are_several_and_differ(session, orders):
    with pytest.raises(BadInput, match="two or more"):
        start_joint(session, orders[:1], "/base")
    with pytest.raises(BadInput, match="each once"):
        start_joint(session, [orders[0], orders[0]], "/base")
    assert session.exec(select(TrainingRun)).all() == []
