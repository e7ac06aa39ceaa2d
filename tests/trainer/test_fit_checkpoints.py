"""Checkpoints: which are trusted, what is in them, and what they cost."""

import json
import shutil
from dataclasses import replace

import pytest
from fitting import train
from tiny_base import QUICK, make_rows

from trainer.checkpoints import COMPLETE, damage, latest, mark_complete, measured_at, size_of

ROWS, VALIDATION = make_rows(64)[:48], make_rows(64)[48:]
NOTES = {"clock": {"wall_s": 2.0, "cpu_s": 1.0}, "micro_batch": 8}


def write_checkpoint(folder, step, best=None):
    path = folder / f"checkpoint-{step}"
    path.mkdir()
    state = {
        "global_step": step,
        "best_model_checkpoint": f"/elsewhere/checkpoint-{best}" if best else None,
        "log_history": [{"step": step, "eval_loss": 0.5}, {"step": step - 1, "eval_loss": 0.7}],
        "stateful_callbacks": {"TrainerControl": {"args": {"should_training_stop": True}}},
    }
    (path / "trainer_state.json").write_text(json.dumps(state))
    (path / "optimizer.pt").write_bytes(bytes(1000))
    (path / "continual").mkdir()
    (path / "continual" / "path.safetensors").write_bytes(bytes(1000))
    mark_complete(path, lambda: NOTES)
    return path


def test_the_folder_may_move(tmp_path):
    best = write_checkpoint(tmp_path, 3)
    write_checkpoint(tmp_path, 5, best=3)
    end = latest(tmp_path)
    assert end.best == best
    assert end.is_last
    assert (end.clock, end.micro_batch) == (NOTES["clock"], 8)
    assert measured_at(best, "eval_loss") == 0.5
    assert measured_at(best, "eval_accuracy") is None


def flip_a_bit(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda path: (path / "optimizer.pt").write_bytes(bytes(10)), "has 10 bytes, exp"),
        (lambda path: flip_a_bit(path / "optimizer.pt"), "not what was written"),
        (
            lambda path: flip_a_bit(path / "continual" / "path.safetensors"),
            "continual/path.safetensors is not what was written",
        ),
        (lambda path: (path / "trainer_state.json").unlink(), "trainer_state.json is missing"),
        (lambda path: (path / COMPLETE).write_text("{"), "complete.json is missing or damaged"),
    ],
    ids=["truncated", "damaged", "damaged within", "missing", "unmarked"],
)
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, break_it, said):
    write_checkpoint(tmp_path, 3)
    break_it(write_checkpoint(tmp_path, 5))
    lines = []
    assert latest(tmp_path, lambda level, text: lines.append(text)).path.name == "checkpoint-3"
    (line,) = lines
    assert line.startswith("checkpoint-5 is not used")
    assert said in line
    assert not (tmp_path / "checkpoint-5").exists()


def test_a_checkpoint_whose_best_is_damaged_is_not_used(tmp_path):
    for step, best in ((2, None), (3, None), (5, 3)):
        write_checkpoint(tmp_path, step, best)
    flip_a_bit(tmp_path / "checkpoint-3" / "optimizer.pt")
    lines = []
    assert latest(tmp_path, lambda level, text: lines.append(text)).path.name == "checkpoint-2"
    assert "its best one, checkpoint-3, is not whole" in lines[0]
    assert latest(tmp_path / "nothing") is None


def test_the_ends_of_a_large_file_are_watched(tmp_path, monkeypatch):
    monkeypatch.setattr("trainer.checkpoints.HASHED_WHOLE", 100)
    monkeypatch.setattr("trainer.checkpoints.BLOCK", 10)
    path = write_checkpoint(tmp_path, 5)
    assert damage(path) is None
    with (path / "optimizer.pt").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"x")
    assert "not what was written" in damage(path)


@pytest.fixture(scope="module")
def stopped(tiny_base, tmp_path_factory):
    """A training that ended in the middle of its 24 steps, and what it would have come to."""

    class Stop(Exception):
        pass

    def stop(done, *_, **__):
        if done == 14:
            raise Stop

    folders = tmp_path_factory.mktemp("stopped")
    with pytest.raises(Stop):
        train(tiny_base, folders / "stopped", QUICK, ROWS, VALIDATION, stop)
    return folders / "stopped", train(tiny_base, folders / "whole", QUICK, ROWS, VALIDATION)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["adapter_model.safetensors", "optimizer.pt", "trainer_state.json", "rng_state.pth"]
)
def test_a_training_goes_on_from_before_the_damage(stopped, tiny_base, tmp_path, name):
    folder, whole = stopped
    folder = shutil.copytree(folder, tmp_path / "copy")
    file = folder / "checkpoint-12" / name
    file.write_bytes(file.read_bytes()[:-100])
    said, steps = [], []
    trained = train(
        tiny_base,
        folder,
        QUICK,
        ROWS,
        VALIDATION,
        lambda done, *_, **__: steps.append(done),
        say=lambda level, text: said.append((level, text)),
    )
    assert min(steps) == 9
    (text,) = [text for level, text in said if level == "WARNING"]
    assert f"checkpoint-12 is not used: {name}" in text
    assert trained.weights_sha256 == whole.weights_sha256
    assert trained.history == whole.history


@pytest.mark.slow
def test_where_none_is_whole_the_training_starts_anew(stopped, tiny_base, tmp_path):
    folder, whole = stopped
    folder = shutil.copytree(folder, tmp_path / "copy")
    for optimizer in folder.glob("checkpoint-*/optimizer.pt"):
        optimizer.write_bytes(b"")
    steps = []
    trained = train(
        tiny_base, folder, QUICK, ROWS, VALIDATION, lambda done, *_, **__: steps.append(done)
    )
    assert min(steps) == 1
    assert trained.weights_sha256 == whole.weights_sha256


@pytest.mark.slow
def test_a_checkpoint_of_an_adapter_holds_no_more_than_it_takes(stopped, tiny_base):
    folder, whole = stopped
    kept = sorted(folder.glob("checkpoint-*"))
    assert len(kept) <= 3
    assert {file.name for file in kept[0].iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "optimizer.pt",
        "scheduler.pt",
        "rng_state.pth",
        "trainer_state.json",
        "training_args.bin",
        COMPLETE,
    }
    adapter = (kept[0] / "adapter_model.safetensors").stat().st_size
    assert size_of(kept[0]) < 3 * adapter + (1 << 17), "weights and AdamW's two moments"
    times = whole.environment
    assert 0 < times["startup_s"] < times["wall_s"]
    assert 0 < times["checkpoint_s"] < times["wall_s"]


@pytest.mark.slow
def test_without_limit_on_looks_the_best_and_the_last_two_stay(tiny_base, tmp_path):
    # Validation on other answers than those learned: the first checkpoint stays the best.
    other = make_rows(16, "zebra quux 77")
    recipe = replace(QUICK, lr=3e-2, epochs=5, eval_steps=5, early_stopping_patience=0)
    trained = train(tiny_base, tmp_path, recipe, ROWS, other)
    best = trained.metrics["best_step"]
    assert best < 20
    kept = {int(path.name.split("-")[1]) for path in tmp_path.glob("checkpoint-*")}
    assert kept == {best, 25, 30}
