import json
import math
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import fitting
import pytest
from fitting import quiet
from safetensors.torch import load_file, save_file
from tiny_base import QUICK, make_rows

from foundation.errors import BadInput
from trainer.checkpoints import COMPLETE, latest
from trainer.fit import weights_sha256
from trainer.guards import Diverged

ROWS, VALIDATION = make_rows(64)[:48], make_rows(64)[48:]

KILLED = """
import json, os, signal, sys
from pathlib import Path
from fitting import train
from tiny_base import make_rows
from trainer.recipe import Recipe

base, folder, recipe, last_step = sys.argv[1:]

def report(done, total, unit, **measures):
    if done == int(last_step):
        os.kill(os.getpid(), signal.SIGKILL)

rows = make_rows(64)
train(base, Path(folder), Recipe.from_dict(json.loads(recipe)), rows[:48], rows[48:], report)
"""


def train(base, folder, recipe=QUICK, rows=ROWS, validation=VALIDATION, report=quiet):
    return fitting.train(base, folder, recipe, rows, validation, report)


def train_and_kill(base, folder, step, recipe=QUICK):
    killed = subprocess.run(
        [
            sys.executable,
            "-c",
            KILLED,
            str(base),
            str(folder),
            json.dumps(recipe.to_dict()),
            str(step),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr


@pytest.fixture(scope="module")
def whole(tiny_base, tmp_path_factory):
    """One training that nothing interrupts, with what it reported."""
    reports = []
    folder = tmp_path_factory.mktemp("whole")
    trained = train(
        tiny_base, folder, report=lambda done, total, unit, **m: reports.append((done, total, m))
    )
    return trained, reports


@pytest.mark.slow
def test_a_training_learns_reports_and_keeps_only_the_adapter(whole):
    trained, reports = whole
    assert [done for done, _, _ in reports][-1] == 24
    assert {total for _, total, _ in reports} == {24}
    assert trained.metrics["last_loss"] < trained.metrics["first_loss"]
    assert trained.metrics["rows"] == 48
    assert trained.metrics["validation_rows"] == 16
    assert trained.environment["threads"] == 1
    assert trained.environment["cpu_s"] > 0
    lines = trained.history
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 25))
    assert [line["step"] for line in lines if "validation_loss" in line] == [4, 8, 12, 16, 20, 24]
    assert sorted(p.name for p in trained.folder.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    config = json.loads((trained.folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "tiny"
    assert config["target_modules"] == sorted(config["target_modules"])
    assert "lm_head" not in config["target_modules"]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_adapter_and_another_seed_another(whole, tiny_base, tmp_path):
    assert train(tiny_base, tmp_path / "a").weights_sha256 == whole[0].weights_sha256
    other = train(tiny_base, tmp_path / "b", replace(QUICK, seed=1))
    assert other.weights_sha256 != whole[0].weights_sha256


@pytest.fixture(scope="module")
def killed(tiny_base, tmp_path_factory):
    """What SIGKILL leaves of the same training after step 14 of 24."""
    folder = tmp_path_factory.mktemp("killed")
    train_and_kill(tiny_base, folder, 14)
    return folder


@pytest.mark.slow
def test_a_killed_training_goes_on_and_ends_with_the_same_adapter(
    whole, killed, tiny_base, tmp_path
):
    folder = Path(shutil.copytree(killed, tmp_path / "copy"))
    steps = []
    resumed = train(tiny_base, folder, report=lambda done, total, unit, **m: steps.append(done))
    assert steps[0] == 13, "it begins after the last whole checkpoint"
    assert resumed.weights_sha256 == whole[0].weights_sha256
    losses = [line["loss"] for line in resumed.history if "loss" in line]
    assert losses == [line["loss"] for line in whole[0].history if "loss" in line]


@pytest.mark.slow
def test_a_half_written_checkpoint_is_not_trusted(whole, killed, tiny_base, tmp_path):
    folder = Path(shutil.copytree(killed, tmp_path / "copy"))
    (folder / "checkpoint-12" / COMPLETE).unlink()
    assert latest(folder).path.name == "checkpoint-8"
    assert not (folder / "checkpoint-12").exists()
    assert train(tiny_base, folder).weights_sha256 == whole[0].weights_sha256


@pytest.mark.slow
def test_a_finished_training_is_not_done_again(tiny_base, tmp_path):
    first = train(tiny_base, tmp_path, replace(QUICK, epochs=1))
    reports = []
    again = train(
        tiny_base, tmp_path, replace(QUICK, epochs=1), report=lambda *a, **k: reports.append(a)
    )
    assert again == first
    assert reports == []


@pytest.mark.slow
def test_early_stopping_keeps_the_best_checkpoint(tiny_base, tmp_path):
    # Validation on other answers than those learned: its loss soon rises.
    recipe = replace(QUICK, lr=3e-2, epochs=40, eval_steps=5, early_stopping_patience=2)
    trained = train(tiny_base, tmp_path, recipe, ROWS, make_rows(16, "zebra quux 77"))
    metrics = trained.metrics
    assert metrics["stopped_early"]
    assert metrics["steps"] == metrics["best_step"] + 2 * 5
    looks = [line["validation_loss"] for line in trained.history if "validation_loss" in line]
    assert metrics["best_validation_loss"] == min(looks)
    best = tmp_path / f"checkpoint-{metrics['best_step']}"
    assert weights_sha256(best) == trained.weights_sha256
    reports = []
    train(tiny_base, tmp_path, recipe, ROWS, [], report=lambda *a, **k: reports.append(a))
    assert reports == [], "a training that stopped early does not go on when it is started again"


@pytest.mark.slow
def test_patience_is_remembered_over_an_interruption(tiny_base, tmp_path):
    recipe = replace(QUICK, lr=3e-2, epochs=40, eval_steps=5, early_stopping_patience=2)
    other = make_rows(16, "zebra quux 77")
    whole = train(tiny_base, tmp_path / "a", recipe, ROWS, other)

    def interrupt(done, total, unit, **measures):
        if done == whole.metrics["steps"] - 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tiny_base, tmp_path / "b", recipe, ROWS, other, interrupt)
    resumed = train(tiny_base, tmp_path / "b", recipe, ROWS, other)
    assert resumed.metrics == whole.metrics
    assert resumed.weights_sha256 == whole.weights_sha256


@pytest.mark.slow
def test_the_loss_does_not_depend_on_how_a_batch_is_cut(tiny_base, tmp_path):
    recipe = replace(QUICK, dropout=0.0, epochs=1)
    whole = train(tiny_base, tmp_path / "a", recipe)
    cut = train(tiny_base, tmp_path / "b", replace(recipe, batch_size=2, gradient_accumulation=4))
    for name in ("loss", "grad_norm"):
        first = [line[name] for line in whole.history if name in line]
        second = [line[name] for line in cut.history if name in line]
        assert first == pytest.approx(second, rel=1e-4)


def test_a_validation_loss_does_not_depend_on_how_its_rows_are_cut(tiny_base, tmp_path):
    held_out = [*make_rows(6), *make_rows(1, "well, " * 20)]

    def first_look(name, **cut):
        recipe = replace(QUICK, dropout=0.0, max_steps=1, eval_steps=1, **cut)
        history = train(tiny_base, tmp_path / name, recipe, ROWS, held_out).history
        return next(line["validation_loss"] for line in history if "validation_loss" in line)

    whole = first_look("whole")
    assert first_look("rows", batch_size=1, gradient_accumulation=8) == pytest.approx(whole)
    padded = first_look("padded", batch_size=4, gradient_accumulation=2, packing="none")
    assert padded == pytest.approx(whole)


@pytest.mark.slow
def test_without_validation_the_last_checkpoint_is_kept(tiny_base, tmp_path):
    trained = train(tiny_base, tmp_path, replace(QUICK, epochs=1, eval_steps=50), validation=[])
    assert trained.metrics["steps"] == 6
    assert trained.metrics["best_validation_loss"] is None
    assert weights_sha256(tmp_path / "checkpoint-6") == trained.weights_sha256


@pytest.mark.slow
def test_full_fine_tuning_leaves_a_whole_model(tiny_base, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    trained = train(tiny_base, tmp_path, replace(QUICK, method="sft-full", epochs=1, lr=1e-3))
    names = {p.name for p in trained.folder.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    assert not names & {
        "optimizer.pt",
        "scheduler.pt",
        "rng_state.pth",
        "training_args.bin",
        COMPLETE,
    }
    AutoModelForCausalLM.from_pretrained(trained.folder)
    assert AutoTokenizer.from_pretrained(trained.folder).chat_template


@pytest.mark.slow
def test_a_diverging_training_says_so(tiny_base, tmp_path):
    broken = Path(shutil.copytree(tiny_base, tmp_path / "broken"))
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    with pytest.raises(Diverged, match=r"recipe\.lr"):
        train(broken, tmp_path / "run")


@pytest.mark.slow
def test_what_a_report_raises_ends_the_training(tiny_base, tmp_path):
    class Stop(Exception):
        pass

    def stop(done, total, unit, **measures):
        assert math.isfinite(measures["loss"])
        raise Stop

    with pytest.raises(Stop):
        train(tiny_base, tmp_path, report=stop)


def test_rows_that_are_all_too_long_are_refused(tiny_base, tmp_path):
    with pytest.raises(BadInput, match="training rows"):
        train(tiny_base, tmp_path, replace(QUICK, max_length=8))


def test_a_target_module_that_does_not_exist_is_refused(tiny_base, tmp_path):
    with pytest.raises(BadInput, match="warp_proj"):
        train(tiny_base, tmp_path, replace(QUICK, target_modules=("q_proj", "warp_proj")))


def test_four_bits_need_bitsandbytes(tiny_base, tmp_path):
    pytest.importorskip("transformers")
    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        with pytest.raises(BadInput, match="bitsandbytes"):
            train(tiny_base, tmp_path, replace(QUICK, method="sft-qlora"))
