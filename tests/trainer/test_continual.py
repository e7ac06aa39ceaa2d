"""What all continual methods share: they resume, do nothing at strength 0, and refuse nonsense."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
from continual_line import OLD, TWO_STEPS, learn, version

from foundation.errors import BadInput
from serving.fit import require_fit, shapes_of
from trainer.fit import weights_sha256
from trainer.lesson import Earlier
from trainer.recipe.continual import CONTINUAL, Continual

METHODS = {
    **{method: Continual(method) for method in CONTINUAL},
    "adapt_lr": Continual(adapt_lr=True),
}
SIX_STEPS = replace(TWO_STEPS, epochs=3.0, eval_steps=2, early_stopping_patience=0)


@pytest.fixture(scope="module")
def first(tiny_base, tmp_path_factory):
    """A version trained plainly on the old rows."""
    return version(learn(tiny_base, tmp_path_factory.mktemp("first"), None, rows=OLD))


@pytest.fixture(scope="module")
def begun(first, tiny_base, tmp_path_factory):
    """What each method may go on from: si needs a version that was trained with it."""
    folder = tmp_path_factory.mktemp("begun")
    synaptic = version(learn(tiny_base, folder, None, Continual("si"), rows=OLD))
    return {name: synaptic if name == "si" else first for name in METHODS}


@pytest.fixture(scope="module")
def plain(first, tiny_base, tmp_path_factory):
    return learn(tiny_base, tmp_path_factory.mktemp("plain"), first)


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_every_method_leaves_one_plain_adapter_that_serves(name, begun, plain, tiny_base, tmp_path):
    trained = learn(tiny_base, tmp_path, begun[name], METHODS[name])
    assert trained.weights_sha256 != plain.weights_sha256, "it does something"
    files = {path.name for path in trained.folder.glob("*") if path.is_file()}
    assert files == {"adapter_config.json", "adapter_model.safetensors"}
    require_fit(name, trained.folder, shapes_of(tiny_base))
    assert all(".lora_" in tensor for tensor in shapes_of(trained.folder))
    config = json.loads((trained.folder / "adapter_config.json").read_text())
    assert config["r"] == (32 if name in ("progressive", "orthogonal") else 16)
    assert config["lora_alpha"] / config["r"] == 2
    first_step = next(line for line in trained.history if "loss" in line)
    assert first_step["loss"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_an_interrupted_training_ends_with_the_same_weights(name, begun, tiny_base, tmp_path):
    whole = learn(tiny_base, tmp_path / "a", begun[name], METHODS[name], SIX_STEPS)

    def interrupt(done, total, unit, **measures):
        if done == whole.metrics["steps"] - 1:
            raise KeyboardInterrupt

    arguments = (tiny_base, tmp_path / "b", begun[name], METHODS[name], SIX_STEPS)
    with pytest.raises(KeyboardInterrupt):
        learn(*arguments, report=interrupt)
    resumed = learn(*arguments)
    assert resumed.weights_sha256 == whole.weights_sha256
    assert resumed.metrics == whole.metrics
    kept = whole.folder / "continual"
    for file in kept.glob("*"):
        assert (resumed.folder / "continual" / file.name).read_bytes() == file.read_bytes()
    reports = []
    again = learn(*arguments, report=lambda *a, **k: reports.append(a))
    assert (again, reports) == (resumed, []), "after the end nothing is trained"


KILLED = """
import json, os, signal, sys
from pathlib import Path
from continual_line import OLD, learn
from trainer.lesson import Earlier
from trainer.recipe import Recipe

base, folder, earlier, recipe = sys.argv[1:]
recipe = Recipe.from_dict(json.loads(recipe))

def report(done, total, unit, **measures):
    if done == 5:
        os.kill(os.getpid(), signal.SIGKILL)

earlier = Earlier("v1", Path(earlier), OLD)
learn(base, Path(folder), earlier, recipe.continual, recipe, report=report)
"""


@pytest.mark.slow
def test_a_killed_training_goes_on_with_its_path_integral(begun, tiny_base, tmp_path):
    recipe = replace(SIX_STEPS, continual=METHODS["si"])
    whole = learn(tiny_base, tmp_path / "a", begun["si"], METHODS["si"], recipe)
    given = (tiny_base, tmp_path / "b", begun["si"].folder, json.dumps(recipe.to_dict()))
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *map(str, given)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = learn(tiny_base, tmp_path / "b", begun["si"], METHODS["si"], recipe)
    assert resumed.weights_sha256 == whole.weights_sha256
    importance = "continual/importance.safetensors"
    assert (resumed.folder / importance).read_bytes() == (whole.folder / importance).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    "continual",
    [
        Continual("replay", replay_share=0.0),
        Continual("si", si_c=0.0),
        Continual("lwf", lwf_alpha=0.0),
    ],
    ids=lambda continual: continual.method,
)
def test_a_method_of_no_strength_is_plain_training(continual, begun, plain, tiny_base, tmp_path):
    trained = learn(tiny_base, tmp_path, begun[continual.method], continual)
    assert trained.weights_sha256 == plain.weights_sha256


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ewc", "si"])
def test_a_line_may_begin_with_what_only_stores(method, first, tiny_base, tmp_path):
    begun = learn(tiny_base, tmp_path, None, Continual(method), rows=OLD)
    assert begun.weights_sha256 == weights_sha256(first.folder)
    assert len(list((begun.folder / "continual").iterdir())) == 1


@pytest.mark.parametrize("method", ["replay", "lwf", "progressive", "orthogonal"])
def test_nothing_to_keep_is_refused(method, tiny_base, tmp_path):
    with pytest.raises(BadInput, match=f"earlier version: got None.*{method} keeps"):
        learn(tiny_base, tmp_path, None, Continual(method))


def test_a_rate_cannot_adapt_to_nothing(tiny_base, tmp_path):
    with pytest.raises(BadInput, match="adapt_lr keeps"):
        learn(tiny_base, tmp_path, None, Continual(adapt_lr=True))


@pytest.mark.slow
def test_another_rank_is_refused_where_matrices_go_on(first, tiny_base, tmp_path):
    recipe = replace(TWO_STEPS, r=8)
    for method in ("replay", "ewc", "lwf", "packnet"):
        with pytest.raises(BadInput, match=r"recipe\.r: got 8, expected 16, the rank of v1"):
            learn(tiny_base, tmp_path / method, first, Continual(method), recipe)
    grown = learn(tiny_base, tmp_path / "p", first, Continual("progressive"), recipe)
    assert json.loads((grown.folder / "adapter_config.json").read_text())["r"] == 32


LACKING = {
    "no rows to replay": (Continual("replay"), {}, [], "rows that v1 learned from: got 0"),
    "no rows to measure on": (Continual("ewc"), {}, [], "rows that v1 learned from: got 0"),
    "no path integral": (Continual("si"), {}, OLD, "v1, trained without si"),
    "no adapter": (Continual("ewc"), {"method": "sft-full"}, OLD, "replay, where all weights"),
    "no servable rank": (Continual("progressive"), {"r": 512}, OLD, "at most 496 beside the 16"),
    "no plain LoRA": (Continual("packnet"), {"dora": True}, OLD, "DoRA"),
    "no free rank": (Continual("packnet", packnet_share=1.0), {}, OLD, "free ranks of the adapter"),
}


@pytest.mark.slow
@pytest.mark.parametrize("lacks", LACKING)
def test_what_a_method_lacks_is_named(lacks, first, tiny_base, tmp_path):
    continual, knobs, rows, said = LACKING[lacks]
    earlier = replace(first, rows=rows)
    with pytest.raises(BadInput, match=said):
        learn(tiny_base, tmp_path, earlier, continual, replace(TWO_STEPS, **knobs))


def test_a_whole_model_is_no_adapter_to_go_on_from(tiny_base, tmp_path):
    with pytest.raises(BadInput, match="earlier version: got 'whole', expected an adapter"):
        learn(tiny_base, tmp_path, Earlier("whole", tiny_base, OLD), Continual("lwf"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "continual", [Continual("ewc", ewc_lambda=1e3), Continual("lwf")], ids=["ewc", "lwf"]
)
def test_a_protection_does_not_depend_on_how_a_batch_is_cut(continual, tiny_base, tmp_path):
    recipe = replace(TWO_STEPS, dropout=0.0)
    begun = learn(tiny_base, tmp_path / "begun", None, recipe=recipe, rows=OLD)  # keeps its dropout
    first = version(begun)
    whole = learn(tiny_base, tmp_path / "a", first, continual, recipe)
    cut = replace(recipe, batch_size=2, gradient_accumulation=4)
    cut_up = learn(tiny_base, tmp_path / "b", first, continual, cut)
    for name in ("loss", "grad_norm", "validation_loss"):
        first_way = [line[name] for line in whole.history if name in line]
        second_way = [line[name] for line in cut_up.history if name in line]
        assert first_way
        assert first_way == pytest.approx(second_way, rel=1e-3)
