"""One adapter for the weighted sum of several: exact by `cat`, measured by the others."""

import json

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from foundation.errors import BadInput
from trainer.export.combine import (
    combine,
    errors,
    read_parts,
    relative_error,
    write_combination,
)
from trainer.export.ways import WAYS
from trainer.recipe import SERVABLE_RANKS

WEIGHTS = [0.7, 0.3]


def random_adapter(base, folder, seed, rank=4, targets="all-linear", **settings):
    """An adapter whose A and B are both drawn, in any of PEFT's ways to scale it."""
    torch.manual_seed(seed)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=rank,
        lora_alpha=2 * rank,
        target_modules=targets,
        init_lora_weights=False,
        **settings,
    )
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    get_peft_model(model, config).save_pretrained(folder)
    return folder


def peft_delta(base, folder):
    """By layer, the change of weights that PEFT itself makes of a folder."""
    model = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), str(folder)
    )
    return {
        name.partition("model.model.")[2]: module.get_delta_weight("default").double().numpy()
        for name, module in model.named_modules()
        if hasattr(module, "get_delta_weight") and "default" in getattr(module, "lora_A", {})
    }


@pytest.fixture(scope="module")
def folders(tiny_base, tmp_path_factory):
    """Two adapters of unequal ranks, layers and scales."""
    made = tmp_path_factory.mktemp("parts")
    return [
        random_adapter(tiny_base, made / "one", 1),
        random_adapter(
            tiny_base,
            made / "two",
            2,
            rank=8,
            targets=["q_proj", "down_proj"],
            use_rslora=True,
            alpha_pattern={"q_proj": 5},
        ),
    ]


def test_cat_is_exactly_the_weighted_sum_as_peft_reads_it(tiny_base, folders, tmp_path):
    parts = read_parts(folders)
    made = combine(parts, WEIGHTS)
    assert made.rank == 16, "4 + 8, and the next that servers take"
    assert made.error < 1e-7
    write_combination(made, folders[0], tmp_path / "made")
    got = peft_delta(tiny_base, tmp_path / "made")
    one, two = (peft_delta(tiny_base, folder) for folder in folders)
    assert got.keys() == one.keys()
    for name, change in got.items():
        wanted = WEIGHTS[0] * one[name] + WEIGHTS[1] * two.get(name, 0)
        np.testing.assert_allclose(change, wanted, atol=1e-5)
    config = json.loads((tmp_path / "made" / "adapter_config.json").read_text())
    assert config["r"] == config["lora_alpha"] == 16


def test_svd_is_the_nearest_of_its_rank(folders):
    parts = read_parts(folders)
    found = {r: combine(parts, WEIGHTS, "svd", r).error for r in (1, 8, 16)}
    assert found[1] > found[8] > found[16]
    assert found[16] < 1e-7
    made = combine(parts, WEIGHTS, "svd", 8)
    (a, b) = made.factors["layers.0.self_attn.q_proj"]
    exact = combine(parts, WEIGHTS).factors["layers.0.self_attn.q_proj"]
    singular = np.linalg.svd(exact[1] @ exact[0], compute_uv=False)
    off = np.linalg.norm(b @ a - exact[1] @ exact[0])
    assert off == pytest.approx(np.sqrt(np.square(singular[8:]).sum()), rel=1e-6)


def test_every_way_shows_its_error_beforehand(tiny_base, folders, tmp_path):
    alike = [random_adapter(tiny_base, tmp_path / str(seed), seed, rank=8) for seed in (3, 4)]
    parts = read_parts(alike)
    table = errors(parts, [0.5, 0.5])
    assert tuple(table) == tuple(WAYS)
    assert table["cat"]["error"] < 1e-7
    assert table["cat"]["error"] < table["svd"]["error"] < table["linear"]["error"]
    assert 0.3 < table["ties"]["error"] < 1.5
    assert 0.3 < table["dare"]["error"] < 1.5
    assert table["linear"]["error"] == pytest.approx(1, abs=0.5), "another matrix altogether"
    assert all(line["rank"] in SERVABLE_RANKS for line in table.values())
    unequal = errors(read_parts(folders), WEIGHTS)
    assert unequal["linear"]["error"] is None
    assert "unequal" in unequal["linear"]["why"]


def test_dare_is_the_same_for_a_seed_and_right_in_the_mean(folders):
    parts = read_parts(folders)
    one, same, other = (combine(parts, WEIGHTS, "dare", seed=s) for s in (0, 0, 1))
    assert relative_error(one.factors, same.factors) < 1e-9
    assert relative_error(one.factors, other.factors) > 0.1


def test_ties_takes_one_adapter_twice_for_that_adapter_trimmed(folders):
    parts = read_parts([folders[0], folders[0]])
    made = combine(parts, [0.5, 0.5], "ties", 32)
    name = "layers.0.mlp.up_proj"
    a, b = made.factors[name]
    change = parts[0][name][1] @ parts[0][name][0]
    kept = np.abs(change) >= np.quantile(np.abs(change), 0.5)
    np.testing.assert_allclose(b @ a, change * kept, atol=1e-9)


@pytest.mark.parametrize(
    ("weights", "more", "said"),
    [
        ([1.0], {}, "two or more"),
        ([0.0, 0.0], {}, "not all 0"),
        ([1.0, float("nan")], {}, "finite"),
        (WEIGHTS, {"how": "average"}, "one of cat"),
        (WEIGHTS, {"rank": 12}, "servers take"),
        (WEIGHTS, {"how": "linear"}, "unequal"),
    ],
    ids=["too-few", "zeros", "nan", "no-way", "no-rank", "unequal"],
)
def test_what_is_refused(folders, weights, more, said):
    with pytest.raises(BadInput, match=said):
        combine(read_parts(folders), weights, **more)


def test_parts_that_cancel_each_other_are_refused(folders):
    with pytest.raises(BadInput, match="cancel"):
        combine(read_parts([folders[0], folders[0]]), [1.0, -1.0])


def test_dora_is_refused(tiny_base, folders, tmp_path):
    dora = random_adapter(tiny_base, tmp_path / "dora", 4, use_dora=True)
    with pytest.raises(BadInput, match="use_dora"):
        read_parts([folders[0], dora])


def test_the_engine_runs_a_combination(tiny_base, folders, tmp_path):
    from serving.engine import Engine
    from serving.rows import Row

    write_combination(combine(read_parts(folders), WEIGHTS), folders[0], tmp_path / "made")
    engine = Engine.load(tiny_base, threads=1)
    engine.add_adapter("made", tmp_path / "made")
    ids = engine.encode([{"role": "user", "content": "add 1 and 2"}])
    answer = engine.start(Row(ids, "made", 8))
    while engine.step():
        pass
    assert answer.generation.output_tokens > 0
