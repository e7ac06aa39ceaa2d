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
from tiny_base import QUICK, make_rows

from foundation.errors import BadInput
from trainer.fit import fit
from trainer.launch import Launch, LaunchFailed, launched, shared_out

CALM = replace(QUICK, dropout=0.0, lr=3e-3, epochs=1, eval_steps=3)
ROWS, VALIDATION = make_rows(64)[:48], make_rows(64)[48:]


def losses(trained, name="loss"):
    return [line[name] for line in trained.history if name in line]


@pytest.mark.parametrize(
    ("batch", "passes", "world", "then"),
    [(8, 1, 2, (4, 1)), (4, 4, 2, (4, 2)), (4, 3, 2, (3, 2)), (2, 8, 8, (2, 1)), (8, 1, 8, (1, 1))],
)
def test_the_rows_of_a_step_stay_the_same(batch, passes, world, then):
    recipe = shared_out(replace(QUICK, batch_size=batch, gradient_accumulation=passes), world)
    assert (recipe.batch_size, recipe.gradient_accumulation) == then
    assert recipe.effective_batch_size * world == batch * passes


def test_what_cannot_be_shared_out_is_refused():
    with pytest.raises(BadInput, match="divisor of the 8 rows"):
        shared_out(QUICK, 3)
    with pytest.raises(BadInput, match="in several processes"):
        shared_out(replace(QUICK, method="dpo"), 2)
    with pytest.raises(BadInput, match="torchrun, accelerate"):
        Launch("mpirun", 2)
    with pytest.raises(BadInput, match="without a GPU"):
        Launch("accelerate", 2, sharding="fsdp2")
    with pytest.raises(BadInput, match="at least one"):
        Launch(processes=0)


def share(base, folder, launcher="torchrun"):
    reports = []
    one = lesson(
        base, folder, CALM, ROWS, VALIDATION, lambda done, *_, **m: reports.append((done, m))
    )
    return one, launched(one, Launch(launcher, 2)), reports


@pytest.fixture(scope="module")
def alone(tiny_base, tmp_path_factory):
    return train(tiny_base, tmp_path_factory.mktemp("alone"), CALM, ROWS, VALIDATION)


@pytest.fixture(scope="module")
def shared(tiny_base, tmp_path_factory):
    """A training in two processes: the lesson, what it came to, and what was reported."""
    return share(tiny_base, tmp_path_factory.mktemp("shared"))


def require_same(shared, alone):
    assert losses(shared) == pytest.approx(losses(alone), rel=1e-5)
    assert losses(shared, "lr") == losses(alone, "lr")
    # A mean over batches, which are cut otherwise: not the same to the last digit.
    looks = losses(shared, "validation_loss"), losses(alone, "validation_loss")
    assert looks[0] == pytest.approx(looks[1], rel=1e-3)
    assert shared.environment["processes"] == 2


@pytest.mark.slow
def test_two_processes_learn_what_one_does(shared, alone):
    one, trained, reports = shared
    require_same(trained, alone)
    assert trained.metrics["steps"] == 6
    assert trained.metrics["micro_batch"] == 4
    assert {done for done, _ in reports} == set(range(1, 7))
    assert reports[-1][1]["loss"] > 0
    assert fit(one).weights_sha256 == trained.weights_sha256, "a folder like any other"


@pytest.mark.slow
def test_accelerate_launches_the_same(shared, alone, tiny_base, tmp_path):
    _, trained, _ = share(tiny_base, tmp_path, "accelerate")
    require_same(trained, alone)
    assert trained.weights_sha256 == shared[1].weights_sha256


@pytest.mark.slow
def test_a_process_that_fails_tells_why(tiny_base, tmp_path):
    recipe = replace(CALM, target_modules=("warp_proj",))
    with pytest.raises(LaunchFailed, match="warp_proj"):
        launched(lesson(tiny_base, tmp_path, recipe, ROWS, []), Launch(processes=2))


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
def test_a_cancelled_launch_leaves_no_process(tiny_base, tmp_path):
    class Cancelled(Exception):
        pass

    def report(done, *_, **__):
        if done >= 2:
            assert len(processes_of(tmp_path)) >= 3
            raise Cancelled

    with pytest.raises(Cancelled):
        launched(
            lesson(tiny_base, tmp_path, replace(CALM, epochs=50), ROWS, [], report),
            Launch(processes=2),
        )
    assert processes_of(tmp_path) == set()


WATCHED = """
import json, os, signal, sys
from pathlib import Path
from fitting import lesson
from test_launch import CALM, ROWS, VALIDATION
from trainer.launch import Launch, launched

def report(done, total, unit, **measures):
    if done == 4:
        os.kill(os.getpid(), signal.SIGKILL)

one = lesson(sys.argv[1], Path(sys.argv[2]), CALM, ROWS, VALIDATION, report)
launched(one, Launch(processes=2))
"""


@pytest.mark.slow
def test_processes_die_with_the_one_that_watches_and_others_go_on(shared, tiny_base, tmp_path):
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
    again = launched(lesson(tiny_base, folder, CALM, ROWS, VALIDATION), Launch(processes=2))
    assert again.weights_sha256 == shared[1].weights_sha256
    assert again.history == shared[1].history


SHARDED = """
import sys, torch
from dataclasses import replace
from torch.distributed import init_process_group, destroy_process_group
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from tiny_base import QUICK
from trainer.adapters import lora_config
from trainer.base import load_model
from peft import get_peft_model

def losses(shard):
    torch.manual_seed(0)
    model = load_model(sys.argv[1])
    model = get_peft_model(model, lora_config(replace(QUICK, dropout=0.0), model))
    if shard:
        mesh = init_device_mesh("cpu", (2,))
        for layer in model.get_base_model().model.layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
        rank = torch.distributed.get_rank()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    found = []
    chance = torch.Generator().manual_seed(1)
    for _ in range(4):
        ids = torch.randint(5, 250, (4, 16), generator=chance)
        mine = ids[2 * rank : 2 * rank + 2] if shard else ids
        loss = model(input_ids=mine, labels=mine).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        whole = loss.detach().clone()
        if shard:
            torch.distributed.all_reduce(whole)
            whole /= 2
        found.append(whole.item())
    return found

init_process_group("gloo")
sharded = losses(True)
alone = losses(False)
torch.testing.assert_close(torch.tensor(sharded), torch.tensor(alone), rtol=1e-5, atol=1e-5)
assert alone[-1] < alone[0]
destroy_process_group()
"""


@pytest.mark.slow
def test_a_sharded_base_gives_the_loss_of_a_whole_one(tiny_base, tmp_path):
    script = tmp_path / "sharded.py"
    script.write_text(SHARDED)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node=2", str(script), str(tiny_base)),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
