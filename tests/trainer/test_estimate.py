"""What a training will take: foretold, refused where it cannot fit, and compared afterwards."""

from dataclasses import replace

import pytest
from sqlmodel import select
from stored_datasets import add_dataset, order
from tiny_base import QUICK, make_rows

from foundation import runs
from foundation.decisions import replay
from foundation.tables import DONE, FAILED, Decision
from trainer import estimate as est
from trainer.estimate import FITS, REFUSED, UNKNOWN, Past, estimate, fits, fits_inputs, shape_of
from trainer.foretell import compared, foretell, past_from
from trainer.hardware import Hardware, read_gpu
from trainer.recipe import PRESETS, SFT_FULL, Recipe
from trainer.registry import list_versions
from trainer.tables import TrainingRun

H200 = Hardware(True, 256.0, 16, "NVIDIA H200", 1, 141.0, has_bf16=True)
LAPTOP = Hardware(False, 16.0, 8)
ROWS = make_rows(64)


def test_a_folder_tells_its_shape_and_counts_its_weights(tiny_base):
    import torch
    from transformers import AutoModelForCausalLM

    shape = shape_of(str(tiny_base))
    assert (shape.hidden, shape.layers, shape.heads, shape.kv_heads) == (32, 2, 2, 1)
    model = AutoModelForCausalLM.from_pretrained(tiny_base)
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    assert not shape.is_guessed
    assert isinstance(model, torch.nn.Module)


@pytest.mark.parametrize(
    ("preset", "targets"), [("default", "all-linear"), ("plan", ["q_proj", "v_proj"])]
)
def test_the_weights_that_learn_are_those_that_peft_counts(tiny_base, preset, targets):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    recipe = PRESETS[preset]
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(tiny_base),
        LoraConfig(r=recipe.r, target_modules=targets, task_type="CAUSAL_LM"),
    )
    learned, _ = model.get_nb_trainable_parameters()
    assert est.trained_parameters(recipe, shape_of(str(tiny_base))) == learned


def test_a_name_tells_a_size_and_says_that_it_guessed():
    shape = shape_of("Qwen/Qwen2.5-Coder-7B")
    assert shape.parameters == 7_000_000_000
    assert shape.is_guessed
    assert (shape.layers, shape.hidden) == (28, 3584)
    assert shape_of("someone/a-model") is None
    found = estimate(Recipe(), shape, ROWS, H200)
    assert "guessed" in found.basis


def test_a_7b_lora_fits_an_h200_and_a_full_one_is_told_what_would():
    shape = shape_of("Qwen/Qwen2.5-7B")
    lora = estimate(Recipe(), shape, ROWS, H200)
    assert 14e9 < lora.memory_bytes < 60e9
    full = Recipe(method=SFT_FULL)
    whole = estimate(full, shape, ROWS, H200)
    assert whole.memory_bytes > 7e9 * 16
    inputs = fits_inputs(full, shape, ROWS, replace(H200, gpu_memory_gb=80.0), whole)
    ruling = fits(vars(inputs), {})
    assert ruling.outcome == REFUSED
    assert "sft-lora" in ruling.reasons[1]
    small = fits_inputs(full, shape, ROWS, LAPTOP, estimate(full, shape, ROWS, LAPTOP))
    assert "4 bits" in fits(vars(small), {}).reasons[1]


@pytest.mark.parametrize(
    ("needed", "outcome"), [(None, UNKNOWN), (90, FITS), (91, REFUSED)], ids=["none", "at", "over"]
)
def test_the_limit_is_nine_tenths_of_the_memory(needed, outcome):
    assert fits(vars(est.FitsInputs(needed, 100, "cpu", {})), {}).outcome == outcome


def test_smaller_recipes_keep_the_effective_batch():
    recipe = replace(PRESETS["default"], batch_size=8, gradient_accumulation=4)
    ways = est.smaller(recipe)
    assert [other.effective_batch_size for _, other in ways] == [32] * len(ways)
    assert len({other.content_hash for _, other in ways} | {recipe.content_hash}) == len(ways) + 1


def test_what_cannot_be_known_is_none():
    found = estimate(Recipe(), None, ROWS, LAPTOP)
    assert found.memory_bytes is None
    assert found.seconds is None
    assert found.tokens > 0
    assert estimate(Recipe(), None, [], LAPTOP).tokens is None
    assert estimate(Recipe(), None, ROWS, LAPTOP, usd_per_hour=4.0).usd is None
    known = estimate(Recipe(), None, ROWS, LAPTOP, Past(tokens_per_s=100.0), usd_per_hour=3600.0)
    assert known.usd == pytest.approx(known.seconds, rel=0.01)


def test_a_line_of_nvidia_smi():
    assert read_gpu("NVIDIA H100 80GB HBM3, 81559, 9.0") == ("NVIDIA H100 80GB HBM3", 85.5, 9.0)
    assert read_gpu("No devices were found") is None


def test_a_training_that_cannot_fit_fails_with_what_would(
    session, tmp_path, tiny_base, monkeypatch
):
    dataset = add_dataset(session, tmp_path / "dataset", ROWS)
    monkeypatch.setattr("trainer.foretell.probe", lambda: Hardware(False, 0.5, 2))
    training = order(session, dataset, tiny_base)
    done = runs.execute(training.run_id)
    assert done.status == FAILED
    assert "needs about 0." in done.error
    assert "Traceback" not in done.error
    assert list_versions(session) == []
    session.expire_all()
    decision = session.exec(select(Decision).where(Decision.kind == "trainer.fits")).one()
    assert decision.subject_id == training.id
    assert replay(session, decision.id).agrees
    assert session.get(TrainingRun, training.id).estimate["memory_bytes"] > 0


@pytest.mark.slow
def test_a_done_training_says_how_wrong_its_estimate_was(session, tmp_path, tiny_base):
    dataset = add_dataset(session, tmp_path / "dataset", ROWS[:48], ROWS[48:])
    training = order(session, dataset, tiny_base)
    assert runs.execute(training.run_id).status == DONE
    session.expire_all()
    training = session.get(TrainingRun, training.id)
    said = training.estimate
    assert said["hardware"]["cpu_cores"] >= 1
    for name in ("seconds", "memory", "tokens"):
        assert said["error"][name] > 0, name
    assert said["taken"]["tokens"] > 0
    again = foretell(session, QUICK, str(tiny_base), ROWS[:48])
    assert again.basis == "the pace of the last training like it"
    assert again.tokens == pytest.approx(said["taken"]["tokens"], rel=0.05)
    assert again.memory_bytes == pytest.approx(said["taken"]["memory_bytes"], rel=0.1)


def test_a_training_that_stopped_early_does_not_make_the_next_ones_rows_shorter():
    said = {"tokens": 1000, "characters": 4000, "tokens_per_character": 0.25}
    whole = {"tokens": 1200, "steps": 40, "planned_steps": 40, "stopped_early": False}
    early = {"tokens": 300, "steps": 10, "planned_steps": 40, "stopped_early": True}
    for metrics in (whole, early):
        past = past_from(compared(said, metrics, 10.0, None))
        assert past.tokens_per_character == pytest.approx(0.3)
    assert compared(said, early, 10.0, None)["error"]["tokens"] == 0.3


def test_corrections_do_not_pile_up():
    said = {"memory_ratio": 0.5, "error": {"memory": 1.0}}
    assert past_from(said).memory_ratio == 0.5
    assert past_from({}) == Past()
