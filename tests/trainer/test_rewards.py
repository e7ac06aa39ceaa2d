"""A reward model as the reward, and where rewards come from in a process."""

import math

import fitting
import pytest
import torch
from tiny_base import QUICK, make_rows

from foundation.errors import NotFound
from trainer import rewards
from trainer.reward_model import RewardModel
from trainer.rewards import graded_tasks, model_reward


def pair(row, better, worse):
    said = {"chosen": better, "rejected": worse}
    return {
        **{name: [{"role": "assistant", "content": text}] for name, text in said.items()},
        "prompt": row["prompt"],
        "example_id": row["example_id"],
    }


@pytest.fixture(scope="module")
def folder(tiny_base, tmp_path_factory):
    from dataclasses import replace

    rows = make_rows(16)
    pairs = [pair(row, "the sum is 3", "zebra quux 77") for row in rows]
    plan = replace(QUICK, method="reward", epochs=6, early_stopping_patience=0)
    return fitting.train(tiny_base, tmp_path_factory.mktemp("reward"), plan, pairs).folder


def test_a_reward_model_rewards_what_was_preferred(folder, tiny_base):
    reward = model_reward(str(tiny_base), folder)
    row = make_rows(1)[0]
    answers = ["the sum is 3", "zebra quux 77"]
    better, worse = reward([row, row], answers)
    assert 0 < worse < 0.5 < better < 1
    scores = RewardModel(str(tiny_base), folder).scores([(row["prompt"], one) for one in answers])
    assert [better, worse] == pytest.approx([1 / (1 + math.exp(-score)) for score in scores])
    assert reward([], []) == []


def test_loading_it_takes_no_dice_from_the_training_that_asks(folder, tiny_base):
    dice = torch.get_rng_state()
    model_reward(str(tiny_base), folder)(make_rows(1), ["the sum is 3"])
    assert torch.equal(torch.get_rng_state(), dice), "a resumed training loads it again, elsewhere"


def test_it_is_loaded_when_first_asked(tmp_path):
    reward = model_reward("/nowhere", tmp_path)
    with pytest.raises(NotFound, match="nowhere"):
        reward(make_rows(1), ["a"])


def test_where_nobody_grades_it_is_said(monkeypatch):
    monkeypatch.setattr(rewards, "_signed_up", [])
    with pytest.raises(NotFound, match="Train in a worker"):
        graded_tasks("doubles")
