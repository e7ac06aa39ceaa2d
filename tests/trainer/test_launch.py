"""Several processes on gloo learn what one process learns; they end with the one that watches."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from fitting import lesson, train
from sqlmodel import select
from stored_datasets import add_dataset, order
from tiny_base import QUICK, make_rows

from foundation import runs
from foundation.errors import BadInput
from foundation.tables import DONE, Run
from trainer.fit import fit
from trainer.launch import Launch, shared_out
from trainer.launcher import LaunchFailed, command, join, launched
from trainer.tables import TrainingRun

CALM = replace(QUICK, dropout=0.0, lr=3e-3, epochs=1, eval_steps=3)
WHOLE = replace(CALM, method="sft-full", epochs=4)
ROWS, VALIDATION = make_rows(64)[:48], make_rows(64)[48:]


def losses(history, name="loss"):
    return [line[name] for line in history if name in line]


def require_same(history, alone):
    assert losses(history) == pytest.approx(losses(alone.history), rel=1e-5)
    assert losses(history, "lr") == losses(alone.history, "lr")
    looks = losses(alone.history, "validation_loss")
    assert losses(history, "validation_loss") == pytest.approx(looks, rel=1e-5)


@pytest.fixture(scope="module")
def alone(tiny_base, tmp_path_factory):
    return train(tiny_base, tmp_path_factory.mktemp("alone"), CALM, ROWS, VALIDATION)


@pytest.fixture(scope="module")
def whole_alone(tiny_base, tmp_path_factory):
    return train(tiny_base, tmp_path_factory.mktemp("whole"), WHOLE, ROWS, VALIDATION)


@pytest.mark.parametrize(
    ("batch", "passes", "world", "then"),
    [(8, 1, 2, (4, 1)), (4, 4, 2, (4, 2)), (4, 3, 2, (3, 2)), (2, 8, 8, (2, 1)), (8, 1, 8, (1, 1))],
)
def test_the_rows_of_a_step_stay_the_same(batch, passes, world, then):
    recipe = shared_out(replace(QUICK, batch_size=batch, gradient_accumulation=passes), world)
    assert (recipe.batch_size, recipe.gradient_accumulation) == then
    assert recipe.effective_batch_size * world == batch * passes


def test_what_cannot_be_shared_out_is_refused_before_there_is_a_row(session, tmp_path):
    dataset = add_dataset(session, tmp_path / "dataset", ROWS)
    for recipe, processes, reason in (
        (QUICK, 3, "divisor of the 8 rows"),
        (replace(QUICK, method="distill"), 2, "in several processes"),
        (replace(QUICK, continual=replace(QUICK.continual, method="ewc")), 2, "ewc"),
    ):
        with pytest.raises(BadInput, match=reason):
            shared_out(recipe, processes)
    with pytest.raises(BadInput, match="divisor of the 8 rows"):
        order(session, dataset, "/base", launch=Launch(processes=3))
    assert session.exec(select(Run)).all() == session.exec(select(TrainingRun)).all() == []


def test_a_launch_that_cannot_be(tmp_path, monkeypatch):
    with pytest.raises(BadInput, match="torchrun, accelerate"):
        Launch("mpirun", 2)
    with pytest.raises(BadInput, match="fsdp2, zero3"):
        Launch(sharding="fsdp1")
    with pytest.raises(BadInput, match="at least one"):
        Launch(processes=0)
    with pytest.raises(BadInput, match="accelerate for zero3"):
        Launch(sharding="zero3")
    with pytest.raises(BadInput, match="DeepSpeed"):
        launched(lesson("/base", tmp_path, CALM, ROWS), Launch("accelerate", 2, sharding="zero3"))
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(BadInput, match="MASTER_ADDR"):
        launched(lesson("/base", tmp_path, CALM, ROWS), Launch(nodes=2))


@pytest.mark.parametrize("launcher", ["torchrun", "accelerate"])
def test_another_machine_is_told_which_one_it_is(launcher, tmp_path, monkeypatch):
    monkeypatch.setenv("MASTER_ADDR", "first")
    monkeypatch.setenv("MASTER_PORT", "29400")
    asked = " ".join(command(Launch(launcher, 4, nodes=2), tmp_path / "lesson.json"))
    assert "rank=0" in asked
    assert "first" in asked
    monkeypatch.setenv("NODE_RANK", "1")
    asked = " ".join(command(Launch(launcher, 4, nodes=2), tmp_path / "lesson.json"))
    assert "rank=1" in asked


@pytest.mark.slow
def test_two_processes_learn_what_one_does(session, alone, tiny_base, tmp_path):
    dataset = add_dataset(session, tmp_path / "dataset", ROWS, VALIDATION)
    training = order(session, dataset, tiny_base, CALM, launch=Launch(processes=2))
    done = runs.execute(training.run_id)
    assert done.status == DONE, done.error
    assert done.progress["done"] == done.progress["total"] == 6
    assert done.progress["loss"] > 0
    session.expire_all()
    training = session.get(TrainingRun, training.id)
    require_same(training.history, alone)
    assert training.metrics["micro_batch"] == 4
    manifest = training.manifest
    assert (manifest["launcher"], manifest["processes"], manifest["threads"]) == ("torchrun", 2, 1)


@pytest.mark.slow
def test_accelerate_launches_them_too(whole_alone, tiny_base, tmp_path):
    one = lesson(tiny_base, tmp_path, WHOLE, ROWS, VALIDATION)
    trained = launched(one, Launch("accelerate", 2))
    require_same(trained.history, whole_alone)
    assert fit(one).weights_sha256 == trained.weights_sha256, "a folder like any other"


@pytest.mark.slow
def test_a_process_that_fails_tells_why(tiny_base, tmp_path):
    recipe = replace(CALM, target_modules=("warp_proj",))
    with pytest.raises(LaunchFailed, match="warp_proj"):
        launched(lesson(tiny_base, tmp_path, recipe, ROWS), Launch(processes=2))
    assert processes_of(tmp_path) == set()


def processes_of(folder):
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if str(folder) in " ".join(process.info["cmdline"] or ()):
            found.append(process.pid)
    return set(found) - {os.getpid()}


def wait_until(condition, what):
    ends = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < ends, f"waited for {what}"
        time.sleep(0.1)


@pytest.mark.slow
def test_a_sharded_base_gives_the_same_loss_and_a_cancelled_launch_leaves_no_process(
    alone, tiny_base, tmp_path
):
    class Cancelled(Exception):
        pass

    found = []

    def report(done, total, unit, **measures):
        if done > len(found):
            found.append(measures["loss"])
        if done == 5:
            assert len(processes_of(tmp_path)) >= 3
            raise Cancelled

    one = lesson(tiny_base, tmp_path, CALM, ROWS, VALIDATION, report)
    with pytest.raises(Cancelled):
        launched(one, Launch(processes=2, sharding="fsdp2"))
    assert processes_of(tmp_path) == set()
    assert found == pytest.approx(losses(alone.history)[:5], rel=1e-5)


WATCHED = """
import os, signal, sys
from pathlib import Path
from fitting import lesson
from test_launch import ROWS, VALIDATION, WHOLE
from trainer.launch import Launch
from trainer.launcher import launched

def report(done, total, unit, **measures):
    if done >= 4:
        os.kill(os.getpid(), signal.SIGKILL)

one = lesson(sys.argv[1], Path(sys.argv[2]), WHOLE, ROWS, VALIDATION, report)
launched(one, Launch(processes=2, sharding="fsdp2"))
"""


@pytest.mark.slow
def test_processes_die_with_the_one_that_watches_and_others_go_on(whole_alone, tiny_base, tmp_path):
    places = [str(Path(__file__).parent), *sys.path]
    folder = tmp_path / "shared"
    killed = subprocess.run(
        [sys.executable, "-c", WATCHED, str(tiny_base), str(folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(places)},
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    wait_until(lambda: processes_of(folder) == set(), "the processes to end")
    told = []
    one = lesson(
        tiny_base, folder, WHOLE, ROWS, VALIDATION, lambda done, *_, **__: told.append(done)
    )
    again = launched(one, Launch(processes=2, sharding="fsdp2"))
    assert 3 < min(told) <= max(told) == 24, "it went on from a checkpoint"
    require_same(again.history, whole_alone)


def test_who_joins_says_which_machine_it_is(tmp_path, monkeypatch):
    monkeypatch.delenv("NODE_RANK", raising=False)
    file = tmp_path / "lesson.json"
    file.write_text('{"launch": {"nodes": 2}, "recipe": {}}')
    with pytest.raises(BadInput, match="NODE_RANK"):
        join(file)
