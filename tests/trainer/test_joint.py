"""Several adapters over one base: each exactly as alone, in gradients, losses, stops, weights."""

import json
import os
import shutil
import signal
import subprocess
import sys
import weakref
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fitting import lesson, quiet, train
from peft import get_peft_model
from safetensors.torch import load_file
from tiny_base import QUICK, make_rows

import trainer.joint.training as training
from foundation.errors import BadInput
from trainer.adapters import lora_config
from trainer.base import load_model
from trainer.joint.fit import fit_joint
from trainer.joint.mixed import Part, mixing, weights_of
from trainer.methods import sft

NAMES = ["coder", "tester", "reviewer"]
CALM = replace(QUICK, dropout=0.0, epochs=2, lr=3e-3)


def lessons_of(base, folder, dropout=0.0):
    """Three roles with recipes of their own: rank, layers, rate, batch, length, seed."""
    sums, other = make_rows(64), make_rows(64, "the answer is not known to me")
    recipes = [
        replace(CALM, dropout=dropout, epochs=3),
        replace(CALM, dropout=dropout, r=8, seed=3, batch_size=4, gradient_accumulation=2),
        replace(CALM, dropout=dropout, lr=1e-2, target_modules=("q_proj", "v_proj")),
    ]
    data = [(sums[:48], sums[48:]), (other[:40], other[48:]), (sums[8:40], [])]
    return [
        lesson(base, folder / name, recipe, *rows)
        for name, recipe, rows in zip(NAMES, recipes, data, strict=True)
    ]


def weights(trained):
    return load_file(trained.folder / "adapter_model.safetensors")


def losses(trained):
    return [line["loss"] for line in trained.history if "loss" in line]


# Gradients: what peft gives each adapter alone, to the last bit.


def adapted(base, names, seeds):
    model = load_model(str(base))
    config = lora_config(CALM, model)
    config.init_lora_weights = False  # else B is zero, and so is the gradient of A
    for name, seed in zip(names, seeds, strict=True):
        torch.manual_seed(seed)
        model = (
            get_peft_model(model, copy(config), adapter_name=name)
            if not hasattr(model, "peft_config")
            else (model.add_adapter(name, copy(config)), model)[1]
        )
    for name, weight in model.named_parameters():
        weight.requires_grad = "lora_" in name
    return model.train()


def gradients_alone(base, name, seed, ids):
    model = adapted(base, [name], [seed])
    model(input_ids=ids, labels=ids).loss.backward()
    return [weight.grad for weight in weights_of(model, name)]


@pytest.mark.parametrize("again", [None, False, True], ids=["held", "plain", "reentrant"])
def test_gradients_are_those_of_separate_runs(tiny_base, again):
    chance = torch.Generator().manual_seed(5)
    ids = [torch.randint(5, 250, (rows, 24), generator=chance) for rows in (4, 3, 5)]
    model = adapted(tiny_base, NAMES, (1, 2, 3))
    if again is not None:
        model.enable_input_require_grads()
        model.get_base_model().activation_checkpointing_enable(
            activation_checkpointing_kwargs={"use_reentrant": again}
        )
    with mixing(model) as mix:
        mix.parts = [Part(name, len(mine), 24, 0) for name, mine in zip(NAMES, ids, strict=True)]
        logits = model(input_ids=torch.cat(ids)).logits
        means = [
            torch.nn.functional.cross_entropy(rows[:, :-1].flatten(0, 1), mine[:, 1:].flatten())
            for rows, mine in zip(logits.split([4, 3, 5]), ids, strict=True)
        ]
        sum(means).backward()
    for name, seed, mine in zip(NAMES, (1, 2, 3), ids, strict=True):
        alone = gradients_alone(tiny_base, name, seed, mine)
        joint = [weight.grad for weight in weights_of(model, name)]
        assert len(alone) == len(joint) == 28
        for one, other in zip(alone, joint, strict=True):
            assert one.abs().max() > 0
            assert (one - other).abs().max() == 0.0


def test_dropout_of_an_adapter_does_not_depend_on_its_company(tiny_base):
    model = adapted(tiny_base, NAMES[:2], (1, 2))
    for layer in model.modules():
        if hasattr(layer, "lora_dropout"):
            for name in NAMES[:2]:
                layer.lora_dropout[name] = torch.nn.Dropout(0.5)
    ids = torch.randint(5, 250, (4, 24), generator=torch.Generator().manual_seed(5))
    mine = Part("coder", 2, 24, 77)
    with mixing(model) as mix:
        mix.parts = [mine]
        alone = model(input_ids=ids[:2]).logits
        mix.parts = [mine, Part("tester", 2, 24, 88)]
        together = model(input_ids=ids).logits[:2]
        mix.parts = [Part("coder", 2, 24, 78)]
        another = model(input_ids=ids[:2]).logits
    assert torch.equal(alone, together)
    assert not torch.equal(alone, another)


# Whole trainings.


@pytest.fixture(scope="module")
def joint(tiny_base, tmp_path_factory):
    """Three roles together, with what was reported; dropout, to see that it is reproducible."""
    folder = tmp_path_factory.mktemp("joint")
    reports = []
    trained = fit_joint(
        lessons_of(tiny_base, folder, dropout=0.05),
        folder / "together",
        lambda done, total, unit, **m: reports.append((done, total, m)),
        names=NAMES,
    )
    return folder / "together", trained, reports


@pytest.mark.slow
def test_each_learns_as_in_a_training_of_its_own(tiny_base, tmp_path):
    lessons = lessons_of(tiny_base, tmp_path)
    together = fit_joint(lessons, tmp_path / "together", quiet, names=NAMES)
    for one, joint in zip(lessons, together, strict=True):
        alone = train(tiny_base, one.folder, one.recipe, list(one.rows), list(one.validation))
        assert losses(joint) == pytest.approx(losses(alone), rel=1e-4)
        assert losses(joint)[:3] == pytest.approx(losses(alone)[:3], rel=1e-6)
        for name in ("steps", "planned_steps", "best_step", "rows", "stopped_early"):
            assert joint.metrics[name] == alone.metrics[name]
        assert [sorted(line) for line in joint.history] == [
            sorted(set(line) - {"validation_entropy", "validation_token_accuracy"})
            for line in alone.history
        ]
        assert weights(joint).keys() == weights(alone).keys()
        config = [(t.folder / "adapter_config.json").read_text() for t in (joint, alone)]
        assert config[0] == config[1]


@pytest.mark.slow
def test_company_changes_no_bit_where_rows_are_of_one_length(tiny_base, tmp_path):
    rows = [row for row in make_rows(64) if len(row["prompt"][1]["content"]) == 11]
    rows = [{**row, "completion": [{"role": "assistant", "content": "done"}]} for row in rows]
    recipes = [replace(CALM, dropout=0.1, seed=seed, lr=lr) for seed, lr in ((0, 2e-2), (1, 5e-3))]
    lessons = [
        lesson(tiny_base, tmp_path / str(i), recipe, rows[:32], rows[32:40])
        for i, recipe in enumerate(recipes)
    ]
    together = fit_joint(lessons, tmp_path / "together", quiet)
    for i, one in enumerate(lessons):
        (alone,) = fit_joint([one], tmp_path / f"alone{i}", quiet)
        assert together[i].weights_sha256 == alone.weights_sha256
        assert together[i].history == alone.history


@pytest.mark.slow
@pytest.mark.parametrize("change", ["padded", "tiles", "padded tiles"])
def test_a_layout_changes_no_loss(change, tiny_base, tmp_path, monkeypatch):
    lessons = [
        replace(one, recipe=replace(one.recipe, max_steps=3))
        for one in lessons_of(tiny_base, tmp_path)
    ]
    whole = fit_joint(lessons, tmp_path / "a", quiet, names=NAMES)
    if "padded" in change:
        lessons = [replace(one, recipe=replace(one.recipe, packing="none")) for one in lessons]
    if "tiles" in change:
        monkeypatch.setattr(training, "MOST_LOGITS", 0)
    again = fit_joint(lessons, tmp_path / "b", quiet, names=NAMES)
    for one, other in zip(whole, again, strict=True):
        assert losses(one) == pytest.approx(losses(other), rel=1e-5)


@pytest.mark.slow
def test_rows_lie_end_to_end_where_the_base_keeps_them_apart(tiny_base, tmp_path):
    lessons = lessons_of(tiny_base, tmp_path)
    data = [sft.prepare(one) for one in lessons]
    one = training.Training(lessons, NAMES, data, None)
    assert one.end_to_end
    rows = [row for learner in one.learners for row in learner.rows[:2]]
    batch = one._batch(rows)
    assert batch["input_ids"].shape == (1, sum(len(row["input_ids"]) for row in rows))
    assert one.n_tokens == batch["input_ids"].numel()


@pytest.mark.slow
def test_progress_is_told_by_name(joint):
    folder, trained, reports = joint
    assert [done for done, _, _ in reports] == list(range(1, 19))
    assert {total for _, total, _ in reports} == {18}
    last = reports[-1][2]
    for name in NAMES:
        assert last[f"{name}_loss"] > 0
        assert last[f"{name}_lr"] >= 0
    assert last["coder_validation_loss"] > 0
    assert "reviewer_validation_loss" not in last, "it has no rows held out"
    assert last["tokens_per_s"] > 0
    assert [one.metrics["steps"] for one in trained] == [18, 10, 8]
    assert trained[0].metrics["trained_with"] == NAMES[1:]
    assert [one.folder.name for one in trained] == NAMES
    assert len(list(folder.glob("checkpoint-*"))) == 2


KILLED = """
import os, signal, sys
from pathlib import Path
from test_joint import NAMES, lessons_of
from trainer.joint.fit import fit_joint

def report(done, total, unit, **measures):
    if done == 7:
        os.kill(os.getpid(), signal.SIGKILL)

folder = Path(sys.argv[2])
fit_joint(lessons_of(sys.argv[1], folder, dropout=0.05), folder / "together", report, names=NAMES)
"""


@pytest.mark.slow
def test_a_killed_joint_training_ends_with_the_same_bits(joint, tiny_base, tmp_path):
    places = [str(Path(__file__).parent), *sys.path]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tiny_base), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(places)},
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    steps = []
    again = fit_joint(
        lessons_of(tiny_base, tmp_path, dropout=0.05),
        tmp_path / "together",
        lambda done, *_, **__: steps.append(done),
        names=NAMES,
    )
    assert min(steps) == 5
    for one, other in zip(again, joint[1], strict=True):
        assert one.weights_sha256 == other.weights_sha256
        assert one.history == other.history
        assert one.metrics == other.metrics


@pytest.mark.slow
def test_after_the_end_nothing_is_trained(joint, tiny_base, tmp_path):
    folder = shutil.copytree(joint[0], tmp_path / "copy")
    steps = []
    again = fit_joint(
        lessons_of(tiny_base, tmp_path, dropout=0.05),
        folder,
        lambda done, *_, **__: steps.append(done),
        names=NAMES,
    )
    assert steps == []
    assert [a.weights_sha256 for a in again] == [t.weights_sha256 for t in joint[1]]
    assert [a.environment for a in again] == [t.environment for t in joint[1]]


@pytest.mark.slow
def test_each_stops_for_itself_and_keeps_its_best(tiny_base, tmp_path):
    rows, other = make_rows(64), make_rows(16, "zebra quux 77")
    patient = replace(CALM, epochs=6, early_stopping_patience=2, eval_steps=3, lr=3e-2)
    lessons = [
        lesson(tiny_base, tmp_path / "a", patient, rows[:48], other),
        lesson(tiny_base, tmp_path / "b", patient, rows[:48], rows[48:]),
    ]
    stopped, finished = fit_joint(lessons, tmp_path / "together", quiet)
    assert stopped.metrics["stopped_early"]
    assert stopped.metrics["steps"] == stopped.metrics["best_step"] + 2 * 3
    assert finished.metrics["steps"] > stopped.metrics["steps"]
    alone = train(tiny_base, tmp_path / "c", patient, rows[:48], other)
    assert stopped.metrics["best_step"] == alone.metrics["best_step"]
    for name, weight in weights(stopped).items():
        assert torch.allclose(weight, weights(alone)[name], atol=1e-3)


@contextmanager
def little_memory(monkeypatch):
    """Refuse passes of more than four rows; before that, see that the former model is gone."""
    honest, built = training.Training.losses, training.Training.__init__
    alive = []

    def greedy(self, mix, parts, number):
        if max(len(rows) for _, rows in parts) > 4:
            torch.empty(1 << 50)
        return honest(self, mix, parts, number)

    def counted(self, *given):
        assert not [one for one in alive if one() is not None], "two models at once"
        built(self, *given)
        alive.append(weakref.ref(self.model))

    with monkeypatch.context() as tight:
        tight.setattr(training.Training, "losses", greedy)
        tight.setattr(training.Training, "__init__", counted)
        yield alive


@pytest.mark.slow
def test_out_of_memory_makes_the_passes_of_all_smaller(tiny_base, tmp_path, monkeypatch):
    whole = fit_joint(lessons_of(tiny_base, tmp_path), tmp_path / "a", quiet, names=NAMES)
    with little_memory(monkeypatch) as built:
        cut = fit_joint(lessons_of(tiny_base, tmp_path), tmp_path / "b", quiet, names=NAMES)
    assert len(built) == 2
    assert [one.metrics["micro_batch"] for one in cut] == [4, 4, 4]
    for one, other in zip(whole, cut, strict=True):
        assert losses(one) == pytest.approx(losses(other), rel=1e-4)


@pytest.mark.slow
def test_a_start_after_a_kill_remembers_how_much_fits(tiny_base, tmp_path, monkeypatch):
    class Stop(Exception):
        pass

    def stop(done, *_, **__):
        if done == 5:
            raise Stop

    with little_memory(monkeypatch), pytest.raises(Stop):
        fit_joint(lessons_of(tiny_base, tmp_path), tmp_path / "cut", stop, names=NAMES)
    again = fit_joint(lessons_of(tiny_base, tmp_path), tmp_path / "cut", quiet, names=NAMES)
    assert [one.metrics["micro_batch"] for one in again] == [4, 4, 4]


@pytest.mark.parametrize(
    "change",
    [
        {"method": "sft-full"},
        {"quantization": "int8"},
        {"dora": True},
        {"packing": "bfd"},
        {"target_modules": ("q_proj", "lm_head")},
        {"report_to": ("tensorboard",)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_cannot_be_joint_is_refused(tiny_base, tmp_path, change):
    lessons = lessons_of(tiny_base, tmp_path)
    lessons[1] = replace(lessons[1], recipe=replace(lessons[1].recipe, **change))
    with pytest.raises(BadInput, match=next(iter(change))):
        fit_joint(lessons, tmp_path / "together", quiet)


def test_lessons_share_one_base(tiny_base, tmp_path):
    lessons = lessons_of(tiny_base, tmp_path)
    lessons[2] = replace(lessons[2], base_model="/another")
    with pytest.raises(BadInput, match="base model"):
        fit_joint(lessons, tmp_path / "together", quiet)
    with pytest.raises(BadInput, match="at least one lesson"):
        fit_joint([], tmp_path / "together", quiet)


def test_the_state_of_a_checkpoint_is_json(joint):
    (last,) = [p for p in joint[0].glob("checkpoint-18")]
    state = json.loads((last / "trainer_state.json").read_text())
    assert [one["step"] for one in state["learners"]] == [18, 10, 8]
