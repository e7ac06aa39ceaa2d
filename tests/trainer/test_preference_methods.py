"""DPO, KTO, ORPO and the reward model on a tiny base: what each would get wrong in silence."""

import math
from dataclasses import replace

import pytest
import torch
from fitting import lesson, train
from tiny_base import QUICK

from foundation.errors import BadInput
from trainer.lesson import Earlier
from trainer.methods import method_module
from trainer.recipe.preference import Preference

METHODS = ("dpo", "kto", "orpo", "reward")


def make_pairs(n: int) -> list[dict]:
    """Sums: the right one is preferred to one that is too great."""
    return [
        {
            "pair_id": str(i),
            "prompt": [{"role": "user", "content": f"add {i % 8} and {i // 8}"}],
            "chosen": [{"role": "assistant", "content": f"the sum is {i % 8 + i // 8}"}],
            "rejected": [{"role": "assistant", "content": f"it is {i % 8 + i // 8 + 3}, I guess"}],
        }
        for i in range(n)
    ]


PAIRS, HELD_OUT = make_pairs(30)[:20], make_pairs(30)[20:]
TWO_STEPS = replace(QUICK, lr=1e-2, max_steps=2, eval_steps=2, dropout=0.0)


def recipe(method, **more):
    return replace(TWO_STEPS, method=method, **more)


def losses(trained) -> list[float]:
    return [line["loss"] for line in trained.history if "loss" in line]


@pytest.mark.parametrize("method", METHODS)
def test_two_steps_leave_an_adapter_and_an_accuracy(method, tiny_base, tmp_path):
    trained = train(tiny_base, tmp_path, recipe(method), PAIRS, HELD_OUT)
    assert trained.metrics["steps"] == 2
    assert trained.metrics["rows"] == (40 if method == "kto" else 20)
    assert 0 <= trained.metrics["validation_accuracy"] <= 1
    assert {p.name for p in trained.folder.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }


def begun(method, base, folder, rows=PAIRS, earlier=None, **more):
    """A trainer that has not begun, as `fit` builds it."""
    from transformers import set_seed

    given = lesson(base, folder, recipe(method, **more), rows, HELD_OUT, earlier=earlier)
    module = method_module(method)
    prepared = module.prepare(given)
    set_seed(0)
    return module.build(given, prepared)


@pytest.mark.parametrize("precomputed", [True, False])
def test_dpo_begins_at_the_logarithm_of_two(precomputed, tiny_base, tmp_path):
    knobs = Preference(precompute_reference=precomputed)
    trained = train(tiny_base, tmp_path, recipe("dpo", preference=knobs), PAIRS, [])
    first = losses(trained)[0]
    assert first == pytest.approx(math.log(2), abs=1e-6 if precomputed else 1e-7)


@pytest.mark.parametrize("precomputed", [True, False])
@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_rewards_are_0_before_anything_is_learned(method, precomputed, tiny_base, tmp_path):
    knobs = Preference(precompute_reference=precomputed)
    trainer = begun(method, tiny_base, tmp_path, preference=knobs)
    measured = trainer.evaluate()
    for name in ("eval_rewards/chosen", "eval_rewards/rejected"):
        assert measured[name] == pytest.approx(0, abs=1e-5)


def test_the_reference_is_the_base_log_probability_by_hand(tiny_base, tmp_path):
    from transformers import AutoModelForCausalLM

    trainer = begun("dpo", tiny_base, tmp_path)
    base = AutoModelForCausalLM.from_pretrained(tiny_base)
    for row in list(trainer.train_dataset)[:3]:
        for side in ("chosen", "rejected"):
            answer = row[f"{side}_ids"]
            ids = torch.tensor([row["prompt_ids"] + answer])
            with torch.no_grad():
                said = base(ids).logits.log_softmax(-1)[0, -len(answer) - 1 : -1]
            expected = said.gather(1, torch.tensor(answer)[:, None]).sum().item()
            assert row[f"ref_{side}_logps"] == pytest.approx(expected, abs=1e-4)


@pytest.fixture(scope="module")
def earlier(tiny_base, tmp_path_factory):
    """A version that says things the base does not."""
    from tiny_base import make_rows

    folder = tmp_path_factory.mktemp("earlier")
    rows = make_rows(16, "zebra quux 77")
    trained = train(tiny_base, folder, replace(QUICK, lr=5e-2, max_steps=6), rows, [])
    return Earlier("coder-v1", trained.folder)


@pytest.mark.parametrize("precomputed", [True, False])
@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_the_reference_is_the_version_it_goes_on_from(
    method, precomputed, earlier, tiny_base, tmp_path
):
    knobs = Preference(precompute_reference=precomputed)
    trainer = begun(method, tiny_base, tmp_path, earlier=earlier, preference=knobs)
    assert trainer.evaluate()["eval_rewards/chosen"] == pytest.approx(0, abs=1e-5)
    alone = begun(method, tiny_base, tmp_path / "base", preference=knobs)
    mine, bases = ([m.evaluate()["eval_logps/chosen"]] for m in (trainer, alone))
    assert mine != pytest.approx(bases, abs=0.1), "the version and the base say different things"


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_the_reference_stays_where_it_was(method, earlier, tiny_base, tmp_path):
    trainer = begun(method, tiny_base, tmp_path, earlier=earlier)
    before = {n: p.clone() for n, p in trainer.model.named_parameters() if ".ref." in n}
    learned = {n: p.clone() for n, p in trainer.model.named_parameters() if ".default." in n}
    trainer.train()
    after = dict(trainer.model.named_parameters())
    assert before
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
    assert not all(torch.equal(after[name], weight) for name, weight in learned.items())


LOSSES = {
    "dpo": Preference(losses=("sigmoid", "sft"), loss_weights=(1.0, 0.7)),
    "kto": Preference(desirable_weight=1.3),
    "orpo": Preference(beta=0.5),
    "reward": Preference(),
}


@pytest.mark.parametrize("precomputed", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_the_loss_does_not_depend_on_how_a_batch_is_cut(method, precomputed, tiny_base, tmp_path):
    # Of 20 pairs the last batch of an epoch is short, and cut into unequal passes.
    knobs = replace(LOSSES[method], precompute_reference=precomputed)
    whole = recipe(method, preference=knobs, batch_size=8, max_steps=0, epochs=1)
    cuts = [(8, 1), (2, 4), (1, 8)]
    found = []
    for size, passes in cuts:
        trained = train(
            tiny_base,
            tmp_path / str(size),
            replace(whole, batch_size=size, gradient_accumulation=passes),
            PAIRS,
            [],
        )
        found.append((losses(trained), [x["grad_norm"] for x in trained.history if "loss" in x]))
    for cut in found[1:]:
        assert cut[0] == pytest.approx(found[0][0], rel=1e-4)
        assert cut[1] == pytest.approx(found[0][1], rel=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_preferences_are_learned(method, tiny_base, tmp_path):
    trained = train(
        tiny_base, tmp_path, recipe(method, max_steps=0, epochs=4, eval_steps=100), PAIRS, HELD_OUT
    )
    assert trained.metrics["validation_accuracy"] >= 0.9
    assert losses(trained)[-1] < losses(trained)[0]


def test_a_reward_model_says_the_same_when_it_is_loaded_again(tiny_base, tmp_path):
    from trainer.reward_model import RewardModel

    trained = train(tiny_base, tmp_path, recipe("reward", max_steps=0, epochs=4), PAIRS, HELD_OUT)
    pairs = [
        (row["prompt"], row[side][0]["content"])
        for row in HELD_OUT
        for side in ("chosen", "rejected")
    ]
    found = RewardModel(str(tiny_base), trained.folder).scores(pairs)
    again = RewardModel(str(tiny_base), trained.folder).scores(pairs)
    assert found == again
    right = sum(a > b for a, b in zip(found[0::2], found[1::2], strict=True)) / len(HELD_OUT)
    assert right == pytest.approx(trained.metrics["validation_accuracy"])
    alone = RewardModel(str(tiny_base), trained.folder).scores(pairs[:1])
    assert alone == pytest.approx(found[:1], abs=1e-5), "what stands beside it does not count"


def test_a_reward_model_does_not_go_on_from_a_policy(earlier, tiny_base, tmp_path):
    with pytest.raises(BadInput, match="begins from its base"):
        begun("reward", tiny_base, tmp_path, earlier=earlier)


def test_odds_ratio_by_hand():
    from trainer.methods.orpo import odds_ratio_loss

    chosen, rejected = torch.tensor([math.log(0.5)]), torch.tensor([math.log(0.2)])
    loss, ratio = odds_ratio_loss(chosen, rejected, 0.1)
    odds = (0.5 / 0.5) / (0.2 / 0.8)
    assert ratio.item() == pytest.approx(math.log(odds))
    expected = -math.log(0.5) - 0.1 * math.log(odds / (1 + odds))
    assert loss.item() == pytest.approx(expected)


def test_odds_of_a_certain_answer_stay_finite():
    from trainer.methods.orpo import odds_ratio_loss

    certain = torch.zeros(1, requires_grad=True)
    loss, _ = odds_ratio_loss(certain, torch.tensor([-1.0]), 0.1)
    loss.sum().backward()
    assert math.isfinite(loss.item())
    assert math.isfinite(certain.grad.item())


@pytest.mark.parametrize("method", METHODS)
def test_rows_of_which_none_is_left_are_refused(method, tiny_base, tmp_path):
    same = [{**PAIRS[0], "rejected": PAIRS[0]["chosen"]}]
    with pytest.raises(BadInput, match="are the same"):
        train(tiny_base, tmp_path, recipe(method), same, [])


def test_the_rate_of_imitation_is_called_unusual(tiny_base, tmp_path):
    said = []
    given = lesson(
        tiny_base, tmp_path, recipe("dpo", lr=2e-4), PAIRS, say=lambda *line: said.append(line)
    )
    method_module("dpo").prepare(given)
    assert [level for level, _ in said] == ["WARNING"]
    assert "5e-06" in said[0][1]
