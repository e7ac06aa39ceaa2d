"""PPO's arithmetic against numbers worked out by hand, and its head through checkpoints."""

from dataclasses import replace

import fitting
import pytest
import torch
from own_answers import TASKS, early_letters, recipe, vivid
from safetensors.torch import load_file

from foundation.errors import BadInput
from trainer.advantages import (
    explained,
    gae,
    policy_loss,
    token_rewards,
    value_loss,
    whitened,
)
from trainer.lesson import Earlier
from trainer.methods import method_module
from trainer.methods.ppo import VALUE_HEAD, ValueHead

MASK = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])


@pytest.fixture(scope="module")
def vivid_base(tiny_base, tmp_path_factory):
    return vivid(tiny_base, tmp_path_factory.mktemp("vivid") / "base")


def built(base, folder, recipe, **fields):
    lesson = fitting.lesson(base, folder, recipe, TASKS, reward=early_letters, **fields)
    module = method_module("ppo")
    return module.build(lesson, module.prepare(lesson))


def test_an_answer_is_rewarded_at_its_last_token_and_each_token_for_its_distance():
    distance = torch.tensor([[0.5, -1.0, 2.0], [1.0, 0.0, 9.0]])
    found = token_rewards(torch.tensor([1.0, 2.0]), distance, MASK, kl=0.1)
    assert found.flatten().tolist() == pytest.approx([-0.05, 0.1, 0.8, -0.1, 2.0, 0.0])


def test_gae_by_hand():
    rewards = torch.tensor([[0.0, 0.0, 1.0], [0.5, 1.0, 0.0]])
    values = torch.tensor([[0.2, 0.4, 0.6], [0.1, 0.3, 7.0]])
    found = gae(rewards, values, MASK, discount=0.9, gae_lambda=0.5)
    # Surprises of the first: 0 + 0.9·0.4 - 0.2, 0 + 0.9·0.6 - 0.4, 1 - 0.6; the second ends sooner.
    assert found[0].tolist() == pytest.approx([0.16 + 0.45 * 0.32, 0.14 + 0.45 * 0.4, 0.4])
    assert found[1].tolist() == pytest.approx([0.67 + 0.45 * 0.7, 0.7, 0.0])


def test_gae_of_whole_answers_is_what_is_still_to_come_less_the_value():
    rewards = torch.tensor([[0.1, 0.2, 1.0]])
    values = torch.tensor([[0.5, 0.5, 0.5]])
    found = gae(rewards, values, torch.ones(1, 3), discount=1.0, gae_lambda=1.0)
    assert found[0].tolist() == pytest.approx([0.8, 0.7, 0.5])


def test_the_clipped_losses_by_hand():
    ratio = torch.tensor([[0.5, 1.1, 1.5, 0.5]])
    advantages = torch.tensor([[1.0, 1.0, 1.0, -1.0]])
    found = policy_loss(ratio.log(), torch.zeros(1, 4), advantages, clip=0.2)
    assert found[0].tolist() == pytest.approx([-0.5, -1.1, -1.2, 0.8])
    values, old = torch.tensor([[1.0, 0.3]]), torch.tensor([[0.0, 0.2]])
    returns = torch.tensor([[1.0, 0.0]])
    assert value_loss(values, old, returns, clip=0.2)[0].tolist() == pytest.approx([0.32, 0.045])


def test_beyond_the_clip_there_is_no_gradient():
    log_probs = torch.tensor([[0.5, 0.0, -0.5]], requires_grad=True)
    advantages = torch.tensor([[1.0, 1.0, -1.0]])
    policy_loss(log_probs, torch.zeros(1, 3), advantages, clip=0.2).sum().backward()
    assert log_probs.grad[0].tolist() == pytest.approx([0.0, -1.0, 0.0])


def test_whitening_counts_tokens_only():
    found = whitened(torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 99.0]]), MASK)
    own = found[MASK.bool()]
    assert float(own.mean()) == pytest.approx(0, abs=1e-6)
    assert float(own.var(correction=0)) == pytest.approx(1)
    assert found[1, 2] == 0
    assert whitened(torch.full((2, 3), 0.5), MASK).abs().max() == 0


def test_what_values_explain():
    returns = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 99.0]])
    assert explained(returns, returns, MASK) == 1
    assert explained(torch.zeros(2, 3), returns, MASK) == 0
    assert explained(returns, torch.ones(2, 3), MASK) == 0


def test_the_gradient_is_that_of_the_loss(vivid_base, tmp_path):
    """By finite differences through the model: a weight of the adapter, and one of the head."""
    trainer = built(vivid_base, tmp_path, recipe("ppo", max_steps=1, kl=0.1, entropy=0.01))
    trainer.current_gradient_accumulation_steps = 2
    torch.manual_seed(0)
    trainer.model.train()
    with torch.no_grad():  # away from where the loss has its kink: ratio 1, values as they were
        for name, weight in trainer.model.named_parameters():
            if "lora_B" in name and ".default." in name:
                weight.normal_(0, 0.02)
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    for name in ("old_log_probs", "old_values"):
        batch[name] = batch[name] + 0.05 * torch.randn(batch[name].shape)
    own = dict(trainer.model.named_parameters())
    knobs = trainer.knobs
    adapter = next(name for name in own if "lora_B" in name)
    # The head's error teaches the adapter nothing, though it depends on it: apart, it is left out.
    for name, weight_of_value in ((adapter, 0.0), ("value_head.layers.2.bias", 0.1)):
        trainer.knobs = replace(knobs, value_weight=weight_of_value)
        trainer.model.zero_grad()
        trainer._compute_loss(trainer.model, batch).backward()
        weight = own[name]
        place = weight.grad.abs().flatten().argmax()
        before, step = weight.data.flatten()[place].item(), 1e-2
        found = []
        for moved in (before + step, before - step):
            weight.data.view(-1)[place] = moved
            with torch.no_grad():
                found.append(trainer._compute_loss(trainer.model, batch).item())
        weight.data.view(-1)[place] = before
        slope = (found[0] - found[1]) / (2 * step)
        assert weight.grad.flatten()[place].item() == pytest.approx(slope, rel=0.05)


def test_it_begins_at_no_distance_and_foretells_nothing(vivid_base, tmp_path):
    trained = fitting.train(
        vivid_base, tmp_path, recipe("ppo", max_steps=1, kl=0.5), TASKS, reward=early_letters
    )
    assert trained.history[0]["kl"] == pytest.approx(0, abs=1e-6)
    assert trained.history[0]["clipped"] == 0
    assert ValueHead(4)(torch.randn(2, 3, 4)).abs().max() == 0


def test_the_head_teaches_the_adapter_nothing(vivid_base, tmp_path):
    head = ValueHead(4)
    hidden = torch.randn(2, 3, 4, requires_grad=True)
    with torch.no_grad():
        head.layers[-1].weight.fill_(1)
    head(hidden).sum().backward()
    assert hidden.grad is None


def test_the_head_learns_at_its_own_rate_and_is_kept_for_going_on(vivid_base, tmp_path):
    plan = recipe("ppo", max_steps=2, value_lr=7e-3, lr=1e-3, scheduler="constant")
    trainer = built(vivid_base, tmp_path / "a", plan)
    trainer.create_optimizer()
    rates = [group["lr"] for group in trainer.optimizer.param_groups]
    assert rates[-1] == 7e-3
    assert set(rates[:-1]) == {1e-3}
    head = {id(weight) for weight in trainer.model.value_head.parameters()}
    groups = [[id(w) for w in group["params"]] for group in trainer.optimizer.param_groups]
    assert set(groups[-1]) == head
    assert not head & {one for group in groups[:-1] for one in group}

    trained = fitting.train(vivid_base, tmp_path / "b", plan, TASKS, reward=early_letters)
    assert sorted(path.name for path in trained.folder.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        VALUE_HEAD,
    ]
    kept = load_file(trained.folder / VALUE_HEAD)
    assert kept["layers.2.weight"].abs().max() > 0
    goes_on = built(vivid_base, tmp_path / "c", plan, earlier=Earlier("coder-v1", trained.folder))
    assert torch.equal(goes_on.model.value_head.layers[-1].weight, kept["layers.2.weight"])


def test_answers_without_a_reward_teach_nothing(vivid_base, tmp_path):
    def silent_on_most(rows, answers):
        return [1.0 if number == 0 else None for number, _ in enumerate(answers)]

    trainer = built(vivid_base, tmp_path, recipe("ppo", gradient_accumulation=1, batch_size=16))
    trainer._worth["train"]._reward = silent_on_most
    trainer.model.train()
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    rows = batch["learned_mask"].sum(1) > 0
    assert rows.sum() == 1
    assert batch["advantages"][~rows].abs().max() == 0
    assert batch["num_items_in_batch"] == batch["learned_mask"].sum()


def test_several_processes_are_refused(vivid_base, tmp_path, monkeypatch):
    lesson = fitting.lesson(vivid_base, tmp_path, recipe("ppo"), TASKS, reward=early_letters)
    module = method_module("ppo")
    prepared = module.prepare(lesson)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(BadInput, match="grpo or rloo"):
        module.build(lesson, prepared)
