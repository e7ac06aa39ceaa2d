"""What the methods of own answers share: who answers, what it is rewarded for, and going on."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import fitting
import pytest
import torch
from own_answers import KNOBS, TASKS, early_letters, recipe, vivid

from foundation.errors import BadInput
from trainer.base import load_model
from trainer.fit import torch_threads
from trainer.methods import method_module
from trainer.own_answers import WAITING, ByEpoch
from trainer.recipe.reinforcement import LEFT_OUT, NOTHING
from trainer.rewarding import NothingGraded, Rewarder
from trainer.sampling import SampledAnother, Sampling, right_padded, sample

KILLED = """
import json, os, signal, sys
from pathlib import Path
from fitting import train
from own_answers import TASKS, early_letters
from trainer.recipe import Recipe

base, folder, recipe, last_step = sys.argv[1:]

def report(done, total, unit, **measures):
    if done == int(last_step):
        os.kill(os.getpid(), signal.SIGKILL)

recipe = Recipe.from_dict(json.loads(recipe))
train(base, Path(folder), recipe, TASKS, report=report, reward=early_letters)
"""


@pytest.fixture(scope="session")
def vivid_base(tiny_base, tmp_path_factory):
    return vivid(tiny_base, tmp_path_factory.mktemp("vivid") / "base")


def train(base, folder, recipe, **fields):
    fields = {"reward": early_letters, **fields}
    return fitting.train(base, folder, recipe, TASKS, **fields)


def built(base, folder, recipe, steps=0, **fields):
    """A trainer that has made some steps."""
    from transformers import set_seed

    lesson = fitting.lesson(base, folder, recipe, TASKS, reward=early_letters, **fields)
    module = method_module(recipe.method)
    set_seed(0)
    trainer = module.build(lesson, module.prepare(lesson))
    if steps:
        trainer.train()
    return trainer


def test_who_answers_is_who_learns_and_is_kept(vivid_base, tmp_path):
    """After some steps, fresh answers are as likely under the stored adapter, and not the base."""
    from peft import PeftModel

    with torch_threads(1):
        trainer = built(vivid_base, tmp_path, recipe("grpo", max_steps=2, eval_steps=2), steps=2)
        ids, _, _ = trainer._tokenize_prompts(trainer.train_dataset["prompt"][:4])
        sampled = trainer._answer(ids)
        stored = PeftModel.from_pretrained(load_model(str(vivid_base)), tmp_path / "checkpoint-2")
        found = _log_probs(stored, sampled)
        with stored.disable_adapter():
            base = _log_probs(stored, sampled)
    seen = [value for row in sampled.log_probs for value in row]
    assert found == pytest.approx(seen, abs=1e-4)
    assert max(abs(a - b) for a, b in zip(base, seen, strict=True)) > 0.05


def _log_probs(model, sampled):
    """One row at a time, without padding or a cache: as plainly as can be."""
    found = []
    for prompt, answer in zip(sampled.prompts, sampled.answers, strict=True):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
        found += [float(logits[len(prompt) + i - 1, token]) for i, token in enumerate(answer)]
    return found


@pytest.mark.parametrize("broken", ["off", "merged", "stale", "another"])
def test_answers_of_another_model_are_refused(broken, vivid_base, tmp_path):
    trainer = built(vivid_base, tmp_path, recipe("grpo", max_steps=1), steps=1)
    ids, _, _ = trainer._tokenize_prompts(trainer.train_dataset["prompt"][:4])
    if broken == "off":
        trainer.model.base_model.disable_adapter_layers()
    elif broken == "merged":
        trainer.model.merge_adapter()
    elif broken == "another":
        trainer.model.add_adapter("other", trainer.model.peft_config["default"])
        trainer.model.set_adapter("other")
    else:
        stale = load_model(str(vivid_base)).eval()
        trainer.answering_model = lambda: stale
    with pytest.raises(SampledAnother, match="sampling: got"):
        trainer._answer(ids)


def test_the_plain_distribution_is_sampled_whatever_the_base_prefers(vivid_base):
    """A base's generation_config may ask for top_k and penalties; its probabilities are its own."""
    model = load_model(str(vivid_base))
    model.generation_config.top_k = 1
    torch.manual_seed(0)
    how = Sampling(temperature=2.0, max_new_tokens=1, ends=(2,), pad=0)
    n = 4000
    sampled = sample(model, [[5, 6, 7]] * n, how)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[5, 6, 7]])).logits[0, -1]
    expected = (logits / 2.0).softmax(-1)
    counted = torch.bincount(
        torch.tensor([answer[0] for answer in sampled.answers]), minlength=len(expected)
    )
    deviation = (counted / n - expected) / (expected * (1 - expected) / n).sqrt()
    assert deviation.abs().max() < 5
    assert sampled.log_probs[0][0] == pytest.approx(float(expected[sampled.answers[0][0]].log()))


def test_rows_of_different_lengths_and_ends_do_not_disturb_each_other(vivid_base):
    model = load_model(str(vivid_base))
    torch.manual_seed(0)
    how = Sampling(1.0, 12, ends=tuple(range(0, 60)), pad=0)
    prompts = [[5, 6, 7], [8], [5, 6, 7], [9, 10, 11, 12, 13, 14]] * 4
    sampled = sample(model, prompts, how)
    assert sampled.prompts == prompts
    assert len({len(answer) for answer in sampled.answers}) > 3
    assert all(token >= 60 for answer in sampled.answers for token in answer[:-1])
    seen = [value for row in sampled.log_probs for value in row]
    assert _log_probs(model, sampled) == pytest.approx(seen, abs=1e-4)


def test_each_answer_is_rewarded_as_an_answer_to_its_own_task(vivid_base, tmp_path):
    asked = []

    def reward(rows, answers):
        asked.append([row["task_id"] for row in rows])
        assert all("<|im_end|>" not in answer for answer in answers)
        return early_letters(rows, answers)

    fitting.train(vivid_base, tmp_path, recipe("grpo"), TASKS, reward=reward)
    assert len(asked) == 2, "once for each batch of answers"
    for batch in asked:
        assert [batch.count(task) for task in dict.fromkeys(batch)] == [4] * 4
    assert {task for batch in asked for task in batch} == {task["task_id"] for task in TASKS}


def test_what_a_cut_answer_is_worth():
    def said(rows, answers):
        return [1.0] * len(answers)

    def worth(policy):
        return Rewarder(said, TASKS, policy)([0, 0], ["a", "b"], [False, True])

    assert worth(NOTHING) == [1.0, 0.0]
    assert worth(LEFT_OUT) == [1.0, None]
    assert worth("as-graded") == [1.0, 1.0]


def test_a_reward_that_says_nothing_ends_the_training(vivid_base, tmp_path):
    with pytest.raises(NothingGraded, match="16 answers"):
        train(vivid_base, tmp_path, recipe("rloo"), reward=lambda rows, said: [None] * len(said))
    with pytest.raises(NothingGraded):
        Rewarder(lambda rows, said: [1.0], TASKS, NOTHING)([0, 1], ["a", "b"], [False, False])


def test_it_is_said_when_all_answers_are_worth_the_same():
    lines = []
    rewarder = Rewarder(
        lambda rows, said: [0.0] * len(said), TASKS, NOTHING, lambda *line: lines.append(line)
    )
    for _ in range(8):
        rewarder([0, 0], ["a", "b"], [False, False])
    assert [level for level, _ in lines] == ["WARNING"]


def test_batches_that_hold_no_whole_groups_are_refused(vivid_base, tmp_path):
    with pytest.raises(BadInput, match=r"a multiple of recipe\.reinforcement\.n_answers"):
        train(vivid_base, tmp_path, recipe("grpo", n_answers=5))
    with pytest.raises(BadInput, match="at least 32"):
        train(vivid_base, tmp_path, recipe("grpo", batch_size=64))
    with pytest.raises(BadInput, match="a suite's graders"):
        train(vivid_base, tmp_path, recipe("grpo"), reward=None)
    with pytest.raises(BadInput, match="at least 4"):
        train(vivid_base, tmp_path, recipe("grpo", max_length=20))


def test_the_order_is_another_in_each_epoch_and_the_same_in_each_start():
    def epoch(number):
        order = ByEpoch(10, 0, per_batch=4, answers=2, uses=3)
        order.set_epoch(number)
        return list(order)

    assert epoch(1) == epoch(1) != epoch(0)
    assert len(epoch(0)) == len(ByEpoch(10, 0, per_batch=4, answers=2, uses=3)) == 8 * 2 * 3
    first = epoch(0)[:24]
    assert first[:8] == first[8:16] == first[16:24]
    assert first[0:8:2] == first[1:8:2]


def test_with_kl_it_stays_near_where_it_began(vivid_base, tmp_path):
    free = train(vivid_base, tmp_path / "a", recipe("grpo", max_steps=4, lr=5e-2, kl=1e-6))
    held = train(vivid_base, tmp_path / "b", recipe("grpo", max_steps=4, lr=5e-2, kl=3.0))
    distance = [[line["kl"] for line in one.history if "kl" in line] for one in (free, held)]
    assert distance[0][0] == distance[1][0] == pytest.approx(0, abs=1e-6)
    assert distance[1][-1] < distance[0][-1]


def test_the_reference_is_the_version_it_goes_on_from(vivid_base, tmp_path):
    from trainer.lesson import Earlier

    first = train(vivid_base, tmp_path / "a", recipe("grpo", max_steps=2, lr=5e-2))
    earlier = Earlier("coder-v1", first.folder)
    trainer = built(
        vivid_base, tmp_path / "b", recipe("grpo", max_steps=1, kl=0.1), earlier=earlier
    )
    weights = dict(trainer.model.named_parameters())
    pairs = [(name, name.replace(".default.", ".ref.")) for name in weights if ".default." in name]
    assert pairs
    assert all(torch.equal(weights[own], weights[ref]) for own, ref in pairs)
    assert any(weights[own].abs().sum() > 0 for own, _ in pairs if "lora_B" in own)
    assert not any(weights[ref].requires_grad for _, ref in pairs)


def test_the_best_checkpoint_is_that_of_the_best_reward(vivid_base, tmp_path):
    trained = fitting.train(
        vivid_base,
        tmp_path,
        recipe("grpo", eval_steps=1, epochs=2),
        TASKS[:4],
        TASKS[4:],
        reward=early_letters,
    )
    looks = {
        line["step"]: line["validation_reward"]
        for line in trained.history
        if "validation_reward" in line
    }
    assert list(looks) == [1, 2]
    assert looks[trained.metrics["best_step"]] == max(looks.values())
    assert trained.metrics["best_validation_reward"] == max(looks.values())
    assert trained.metrics["best_validation_loss"] is None


def test_looking_at_the_validation_tasks_changes_no_training(vivid_base, tmp_path):
    plain = recipe("grpo", epochs=2, eval_steps=1)
    seen = fitting.train(
        vivid_base, tmp_path / "a", plain, TASKS[:4], TASKS[4:], reward=early_letters
    )
    unseen = fitting.train(vivid_base, tmp_path / "b", plain, TASKS[:4], reward=early_letters)
    rewards = [
        [line["reward"] for line in one.history if "reward" in line] for one in (seen, unseen)
    ]
    assert rewards[0] == rewards[1]


# Two epochs, two updates on the same answers, a reference: all that a resumed start could lose.
LONG = {"epochs": 2, "updates_per_batch": 2, "kl": 0.01, "eval_steps": 5}


def rewards_of(trained):
    return [line["reward"] for line in trained.history if "reward" in line]


def test_an_interrupted_training_keeps_the_answers_it_still_learns_from(vivid_base, tmp_path):
    def interrupt(done, total, unit, **measures):
        if done == 7:
            raise KeyboardInterrupt

    whole = train(vivid_base, tmp_path / "whole", recipe("grpo", **LONG))
    assert whole.metrics["steps"] == 8
    with pytest.raises(KeyboardInterrupt):
        train(vivid_base, tmp_path / "cut", recipe("grpo", **LONG), report=interrupt)
    assert (tmp_path / "cut" / "checkpoint-5" / WAITING).is_file()
    assert not (tmp_path / "whole" / "checkpoint-8" / WAITING).is_file(), "nothing waits there"
    resumed = train(vivid_base, tmp_path / "cut", recipe("grpo", **LONG))
    assert resumed.weights_sha256 == whole.weights_sha256
    assert rewards_of(resumed) == rewards_of(whole)


@pytest.mark.slow
def test_a_killed_training_ends_with_the_same_adapter(vivid_base, tmp_path):
    plan, folder = recipe("grpo", **LONG), tmp_path / "killed"
    order = [str(vivid_base), str(folder), json.dumps(plan.to_dict()), "7"]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *order],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    whole = train(vivid_base, tmp_path / "whole", plan)
    assert train(vivid_base, folder, plan).weights_sha256 == whole.weights_sha256


@pytest.mark.parametrize("method", ["grpo", "rloo", "ppo"])
def test_the_loss_does_not_depend_on_how_a_batch_is_cut(method, vivid_base, tmp_path):
    plan = recipe(method, max_steps=2, batch_size=16, gradient_accumulation=1, kl=0.01)
    whole = train(vivid_base, tmp_path / "a", plan)
    cut = train(vivid_base, tmp_path / "b", replace(plan, batch_size=4, gradient_accumulation=4))
    first, second = ([line["grad_norm"] for line in one.history] for one in (whole, cut))
    assert first[0] == pytest.approx(second[0], rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["grpo", "rloo", "ppo"])
def test_what_is_rewarded_is_done_more_often(method, vivid_base, tmp_path):
    plan = recipe(
        method,
        epochs=10,
        lr=5e-2,
        batch_size=32,
        gradient_accumulation=1,
        n_answers=8,
    )
    rewards = rewards_of(train(vivid_base, tmp_path, plan))
    assert sum(rewards[-4:]) / 4 > sum(rewards[:4]) / 4 + 0.05


def test_right_padding():
    assert right_padded([[1, 2], [3]], 0, "cpu").tolist() == [[1, 2], [3, 0]]


def test_the_knobs_of_the_tests_are_those_of_the_group():
    assert KNOBS.n_answers == 4
