"""What ends a training, or makes it smaller: divergence, memory, disk, trackers, a cancellation."""

import errno
import os
import shutil
import subprocess
from dataclasses import replace

import pytest
import torch
from fitting import train
from tiny_base import QUICK, make_rows
from transformers import TrainerCallback

import trainer.methods.sft as sft
from foundation.errors import BadInput
from trainer.checkpoints import latest
from trainer.guards import (
    WINDOW,
    DiskFull,
    Diverged,
    Divergence,
    OutOfMemory,
    is_disk_full,
    is_out_of_memory,
    require_room,
    smaller,
)

ROWS, VALIDATION = make_rows(64)[:48], make_rows(64)[48:]
SHORT = replace(QUICK, dropout=0.0, epochs=1, eval_steps=2)


def judged(losses, **knobs):
    """Return the number of the logged step that was found wrong, and why."""
    divergence = Divergence(1.0, **knobs)
    for step, loss in enumerate(losses, start=1):
        reason = divergence.judge(loss if isinstance(loss, dict) else {"loss": loss})
        if reason:
            return step, reason
    return None


@pytest.mark.parametrize(
    "losses",
    [
        [2.0, 1.5, 1.0, 0.5, 0.2] * 4,
        [0.02] * 10 + [0.9] * 10,  # a hard part of the data, not a divergence
        [3.0] * 5 + [0.1] * 10 + [9.0] * (WINDOW - 1) + [0.1] * 5,  # spikes that pass
        [8.0] * 20,  # learns nothing: for the gate to say
        [9.0, 7.0],
        [{"grad_norm": 0.001}] * 30 + [{"grad_norm": 9.0}] * 30,
        [{"grad_norm": float("inf"), "loss": 1.0}] * 30,
        [],
    ],
)
def test_what_is_no_divergence(losses):
    assert judged(losses) is None


def test_a_loss_that_runs_away_is_found_after_a_few_steps():
    step, reason = judged([3.0] * 5 + [1.0] * 10 + [6.0] * 20)
    assert step == 15 + WINDOW
    assert "come down to 1" in reason


def test_a_gradient_that_explodes_is_found():
    step, reason = judged([{"grad_norm": 2.0}] * 10 + [{"grad_norm": 5000.0}] * 10)
    assert step == 10 + WINDOW
    assert "gradient" in reason


def test_a_loss_that_is_not_to_fall_may_rise():
    assert judged([0.1] * 5 + [50.0] * 20, loss_tells=False) is None
    assert judged([0.1, float("nan")], loss_tells=False)[0] == 2


def watch(monkeypatch, callback):
    """Let the trainer that is built have one more callback."""
    honest = sft.build

    def build(lesson, prepared):
        trainer = honest(lesson, prepared)
        trainer.add_callback(callback)
        return trainer

    monkeypatch.setattr(sft, "build", build)


class Hasten(TrainerCallback):
    """Makes the steps after the tenth far too long."""

    def on_pre_optimizer_step(self, args, state, control, optimizer=None, **kwargs):
        if state.global_step >= 10:
            for group in optimizer.param_groups:
                group["lr"] = 30.0


@pytest.mark.slow
def test_a_training_that_runs_away_ends_and_keeps_nothing(tiny_base, tmp_path, monkeypatch):
    whole = replace(QUICK, method="sft-full", lr=1e-2, epochs=6)
    able = train(tiny_base, tmp_path / "able", whole, ROWS, []).folder
    watch(monkeypatch, Hasten())
    with pytest.raises(Diverged, match=r"the loss is .*recipe\.lr") as stopped:
        train(able, tmp_path / "run", replace(QUICK, lr=1e-3, epochs=10), ROWS, VALIDATION)
    assert 10 + WINDOW <= stopped.value.step <= 25
    assert stopped.value.loss > 3
    assert not (tmp_path / "run" / "trained").exists()


@pytest.mark.parametrize(
    ("batch", "passes", "then"),
    [(8, 2, (4, 4)), (1, 16, None), (6, 1, (3, 2)), (3, 1, (1, 3)), (5, 2, (2, 5))],
)
def test_a_smaller_pass_keeps_the_effective_batch(batch, passes, then):
    found = smaller(replace(QUICK, batch_size=batch, gradient_accumulation=passes))
    if then is None:
        assert found is None
    else:
        assert (found.batch_size, found.gradient_accumulation) == then
        assert found.effective_batch_size == batch * passes


class Greedy(TrainerCallback):
    """Asks the allocator for a petabyte, as soon as a step begins with too many rows a pass."""

    def __init__(self, most_rows, from_step=0):
        self.most_rows, self.from_step = most_rows, from_step

    def on_step_begin(self, args, state, control, **kwargs):
        if args.per_device_train_batch_size > self.most_rows and state.global_step >= (
            self.from_step
        ):
            torch.empty(1 << 50)


def losses(trained):
    return [line["loss"] for line in trained.history if "loss" in line]


@pytest.mark.slow
def test_out_of_memory_makes_passes_smaller_and_nothing_else(tiny_base, tmp_path, monkeypatch):
    undisturbed = train(tiny_base, tmp_path / "a", SHORT, ROWS, VALIDATION)
    watch(monkeypatch, Greedy(most_rows=2, from_step=3))
    said, steps = [], []
    trained = train(
        tiny_base,
        tmp_path / "b",
        SHORT,
        ROWS,
        VALIDATION,
        lambda done, *_, **__: steps.append(done),
        say=lambda level, text: said.append((level, text)),
    )
    assert losses(trained) == pytest.approx(losses(undisturbed), rel=1e-4)
    assert trained.metrics["micro_batch"] == 2
    assert undisturbed.metrics["micro_batch"] == 8
    texts = [text for level, text in said if level == "WARNING"]
    assert len(texts) == 2
    assert "4 rows a pass instead of 8, 2 passes a step, so still 8 rows" in texts[0]
    assert "2 rows a pass instead of 4" in texts[1]
    assert all("going on from checkpoint-2" in text for text in texts)
    assert steps.count(1) == 1, "what the last checkpoint holds is not done again"


@pytest.mark.slow
def test_a_start_after_a_kill_remembers_how_much_fits(tiny_base, tmp_path, monkeypatch):
    class Stop(Exception):
        pass

    def stop(done, *_, **__):
        if done == 5:
            raise Stop

    with monkeypatch.context() as tight:
        watch(tight, Greedy(most_rows=4))
        with pytest.raises(Stop):
            train(tiny_base, tmp_path, SHORT, ROWS, VALIDATION, stop)
    assert train(tiny_base, tmp_path, SHORT, ROWS, VALIDATION).metrics["micro_batch"] == 4


@pytest.mark.slow
def test_where_not_even_one_row_fits_the_training_fails(tiny_base, tmp_path, monkeypatch):
    watch(monkeypatch, Greedy(most_rows=0))
    with pytest.raises(OutOfMemory, match=r"1 row.*recipe\.max_length"):
        train(tiny_base, tmp_path, SHORT, ROWS, VALIDATION)


def test_which_errors_mean_memory_and_which_disk():
    with pytest.raises(RuntimeError) as refused:
        torch.empty(1 << 50)
    assert is_out_of_memory(refused.value)
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(RuntimeError("shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("not enough memory"))
    assert is_disk_full(OSError(errno.ENOSPC, "full"))
    assert not is_disk_full(OSError(errno.EACCES, "denied"))
    nested = ValueError("while saving")
    nested.__cause__ = OSError(errno.EDQUOT, "quota")
    assert is_disk_full(nested)


def test_room_is_asked_for_in_bytes(tmp_path):
    require_room(tmp_path, 1)
    with pytest.raises(DiskFull, match=r"MiB free, expected .* FLYWHEEL_HOME"):
        require_room(tmp_path, 1 << 60)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 16 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)], capture_output=True
    )
    if not mounted or mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk, leave):
    """Write until `leave` bytes are free."""
    free = shutil.disk_usage(disk).free
    (disk / "filling").write_bytes(bytes(free - leave))


@pytest.mark.slow
def test_a_full_disk_is_seen_before_the_first_step(small_disk, tiny_base):
    fill(small_disk, 1 << 20)
    steps = []
    with pytest.raises(DiskFull, match="retry"):
        train(tiny_base, small_disk / "t", SHORT, ROWS, [], lambda done, *_, **__: steps.append(1))
    assert steps == []


@pytest.mark.slow
@pytest.mark.parametrize("leave", [512 << 10, 40 << 10], ids=["foreseen", "in the middle"])
def test_a_disk_that_fills_up_leaves_the_checkpoint_before(
    small_disk, tiny_base, tmp_path, monkeypatch, leave
):
    whole = train(tiny_base, tmp_path / "whole", SHORT, ROWS, VALIDATION)
    if leave == 40 << 10:  # another process fills the disk between the look and the write
        monkeypatch.setattr("trainer.callbacks.require_room", lambda folder, needed: None)

    def report(done, *_, **__):
        if done == 3:
            fill(small_disk, leave)

    folder = small_disk / "t"
    with pytest.raises(DiskFull, match="retry"):
        train(tiny_base, folder, SHORT, ROWS, VALIDATION, report)
    assert latest(folder).path.name == "checkpoint-2"
    assert sorted(os.listdir(folder)) == ["checkpoint-2"], "no half of a checkpoint stays"
    (small_disk / "filling").unlink()
    steps = []
    again = train(
        tiny_base, folder, SHORT, ROWS, VALIDATION, lambda done, *_, **__: steps.append(done)
    )
    assert min(steps) == 3
    assert again.weights_sha256 == whole.weights_sha256


@pytest.mark.slow
def test_a_cancelled_training_stops_at_its_next_step(tiny_base, tmp_path):
    class Cancelled(Exception):
        pass

    asked = []

    def check():
        asked.append(1)
        if len(asked) == 3:
            raise Cancelled

    # Few steps are logged in a long training: here none before the third.
    with pytest.raises(Cancelled):
        train(tiny_base, tmp_path, replace(SHORT, epochs=400), ROWS, [], check=check)
    assert not (tmp_path / "trained").exists()


@pytest.mark.slow
def test_a_tracker_is_told_and_its_files_stay(tiny_base, tmp_path, settings):
    pytest.importorskip("tensorboardX")
    folder = tmp_path / "work" / "0193-a-training"
    recipe = replace(SHORT, report_to=("tensorboard",))
    train(tiny_base, folder, recipe, ROWS, VALIDATION)
    shutil.rmtree(folder)
    (events,) = (settings.home.absolute() / "tracking" / folder.name).iterdir()
    assert events.name.startswith("events.out.tfevents")
    assert b"train/loss" in events.read_bytes()
    assert b"eval/loss" in events.read_bytes()


def test_a_tracker_that_cannot_be_told_is_refused(tiny_base, tmp_path):
    with pytest.raises(BadInput, match="some of tensorboard"):
        train(tiny_base, tmp_path, replace(SHORT, report_to=("abacus",)), ROWS, [])
    with pytest.raises(BadInput, match="pip install trackio"):
        train(tiny_base, tmp_path, replace(SHORT, report_to=("trackio",)), ROWS, [])
