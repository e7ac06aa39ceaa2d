"""What continual methods compute, each against a second way of computing it."""

import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from continual_line import NEW, OLD, TWO_STEPS, VALIDATION, learn, version
from fitting import lesson
from peft import PeftModel
from tiny_base import make_rows

from trainer.base import load_model
from trainer.continual import ewc, mixed, synaptic
from trainer.continual.drift import AdaptRate
from trainer.continual.old_model import OldModel, answers, divergence
from trainer.continual.orthogonal import Overlap
from trainer.continual.pull import Pull, penalty
from trainer.continual.ranks import Ranks, rank_axis
from trainer.continual.replay import reservoir, rows_beside
from trainer.continual.state import adapter_parameters, adapter_weights, load_tensors
from trainer.data import IGNORED, encode
from trainer.lesson import Earlier
from trainer.recipe.continual import Continual

CALM = replace(TWO_STEPS, dropout=0.0)


@pytest.fixture(scope="module")
def first(tiny_base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("first")
    return version(learn(tiny_base, folder, None, recipe=CALM, rows=OLD))


def adapted(base, folder):
    model = load_model(str(base))
    return PeftModel.from_pretrained(model, str(folder), is_trainable=True)


def given(base, folder, continual, earlier, **knobs):
    recipe = replace(CALM, continual=continual, **knobs)
    return lesson(base, folder, recipe, NEW, VALIDATION, earlier=earlier)


# Replay


def test_every_row_is_as_likely_to_be_held():
    held = Counter(row for seed in range(3000) for row in reservoir(range(10), 3, seed))
    expected, spread = 900, math.sqrt(3000 * 0.3 * 0.7)
    assert all(abs(n - expected) < 4.5 * spread for n in held.values()), held
    assert reservoir(range(100), 5, 1) == reservoir(iter(range(100)), 5, 1)
    assert reservoir(range(100), 5, 1) != reservoir(range(100), 5, 2)
    assert reservoir([], 5, 0) == []
    assert reservoir(range(4), 5, 0) == [0, 1, 2, 3]


@pytest.mark.parametrize(("share", "n"), [(0.5, 400), (0.2, 100), (0.25, 133), (0.0, 0)])
def test_the_share_is_exact_to_the_row(share, n):
    assert rows_beside(400, share) == n


def test_replay_counts_rows_that_are_learned(tiny_base, tmp_path):
    fits = make_rows(64)
    long = [{**row, "prompt": [{"role": "user", "content": "add " * 400}]} for row in fits[:40]]
    silent = [{**row, "completion": [{"role": "assistant", "content": ""}]} for row in fits[:9]]
    earlier = Earlier("v1", tmp_path, [*long, *silent, *fits[32:48]])
    order = given(
        tiny_base, tmp_path / "run", Continual("replay"), earlier, method="sft-full"
    )  # data alone: no adapter is read
    new = encode(NEW, order.tokenizer, 512)
    held_out = encode(VALIDATION[:3], order.tokenizer, 512)
    learned, looked_at = mixed(order, new, held_out)
    assert (len(new), len(learned), len(looked_at)) == (16, 32, 3)
    assert learned.input_ids[:16] == new.input_ids
    known = {tuple(ids) for ids in encode(fits[32:48], order.tokenizer, 512).input_ids}
    assert {tuple(ids) for ids in learned.input_ids[16:]} == known
    few = replace(order, earlier=replace(earlier, rows=fits[32:37]))
    learned, looked_at = mixed(few, new, held_out)
    again = Counter(tuple(ids) for ids in learned.input_ids[16:])
    assert sorted(again.values()) == [3, 3, 3, 3, 4], "they come again where there are too few"
    assert len(looked_at) == 3, "none is left to look at"
    many = replace(order, earlier=replace(earlier, rows=fits[32:64]))
    learned, looked_at = mixed(many, new, held_out)
    replayed = {tuple(ids) for ids in learned.input_ids[16:]}
    assert len(looked_at) == 6
    assert not replayed & {tuple(ids) for ids in looked_at.input_ids[3:]}


# Elastic weight consolidation


def test_the_fisher_is_the_mean_squared_gradient_of_whole_answers(first, tiny_base, tmp_path):
    order = given(tiny_base, tmp_path, Continual("ewc"), first)
    encoded = encode(OLD[:3], order.tokenizer, 512)
    rows = list(zip(encoded.input_ids, encoded.labels, strict=True))
    model = adapted(tiny_base, first.folder)
    found = ewc.fisher_diagonal(model, rows)
    model.eval()
    parameters = adapter_parameters(model)
    sums = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for ids, labels in rows:
        chances = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        said = [chances[i - 1, label] for i, label in enumerate(labels) if label != IGNORED]
        gradients = torch.autograd.grad(sum(said), list(parameters.values()))
        for name, gradient in zip(parameters, gradients, strict=True):
            sums[name] += gradient**2 / 3
    assert found.keys() == adapter_weights(first.folder).keys()
    for name, value in sums.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-9)
    assert max(float(value.max()) for value in found.values()) > 0


@pytest.mark.slow
def test_lambda_is_calibrated_and_fishers_of_a_line_add_up(first, tiny_base, tmp_path):
    second = learn(tiny_base, tmp_path / "b", first, Continual("ewc"), CALM)
    noted = second.metrics
    fisher = load_tensors(tmp_path / "b" / "continual" / "fisher.safetensors")
    moved = {name: torch.full_like(value, noted["ewc_drift"]) for name, value in fisher.items()}
    nothing = {name: torch.zeros_like(value) for name, value in fisher.items()}
    assert noted["ewc_drift"] == pytest.approx(CALM.lr * math.sqrt(2))
    price = penalty(moved, nothing, fisher, noted["ewc_lambda"] / 2)
    assert price == pytest.approx(noted["ewc_first_loss"], rel=1e-4)
    first_look = next(line["loss"] for line in second.history if "loss" in line)
    assert noted["ewc_first_loss"] == pytest.approx(first_look, rel=0.05)
    kept = load_tensors(second.folder / "continual" / "fisher.safetensors")
    order = given(tiny_base, tmp_path / "c", Continual("ewc"), first)
    encoded = encode(NEW, order.tokenizer, 512)
    own = ewc.fisher_diagonal(
        adapted(tiny_base, second.folder),
        list(zip(encoded.input_ids, encoded.labels, strict=True)),
    )
    for name, value in kept.items():
        torch.testing.assert_close(value, fisher[name] + own[name], rtol=1e-2, atol=1e-8)


@pytest.mark.slow
def test_a_strong_pull_holds_what_matters(first, tiny_base, tmp_path):
    fisher = ewc.fisher_diagonal(
        adapted(tiny_base, first.folder), encoded_pairs(tiny_base, first, tmp_path)
    )
    costs = []
    for strength in (1e-9, 1e6):
        continual = Continual("ewc", ewc_lambda=strength)
        recipe = replace(CALM, epochs=10.0)
        trained = learn(tiny_base, tmp_path / str(strength), first, continual, recipe)
        anchors = adapter_weights(first.folder)
        costs.append(penalty(adapter_weights(trained.folder), anchors, fisher, 1.0))
    assert costs[1] < 0.2 * costs[0], costs


def encoded_pairs(base, earlier, folder):
    order = given(base, folder / "encoded", Continual("ewc"), earlier)
    encoded = encode(OLD, order.tokenizer, 512)
    return list(zip(encoded.input_ids, encoded.labels, strict=True))


def test_the_pull_is_the_gradient_of_the_penalty(first, tiny_base):
    torch.manual_seed(0)
    model = adapted(tiny_base, first.folder)
    parameters = adapter_parameters(model)
    anchors = {name: torch.randn_like(p) for name, p in parameters.items()}
    weights = {name: torch.rand_like(p) for name, p in parameters.items()}
    pull = Pull(anchors, weights, 0.7)
    pull.on_train_begin(None, None, None, model=model)
    for parameter in parameters.values():
        parameter.grad = torch.zeros_like(parameter)
    pull.on_pre_optimizer_step()
    price = 0.7 * sum(
        (weights[name] * (p - anchors[name]) ** 2).sum() for name, p in parameters.items()
    )
    gradients = torch.autograd.grad(price, list(parameters.values()))
    for parameter, gradient in zip(parameters.values(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


# Synaptic Intelligence


@pytest.mark.slow
def test_the_path_integral_is_the_loss_that_was_gained(tiny_base, tmp_path):
    # Small steps on one batch, unclipped: the first-order sum is nearly the whole of it.
    recipe = replace(
        CALM, lr=1e-3, batch_size=16, epochs=6.0, max_grad_norm=1e9, scheduler="constant"
    )
    trained = learn(tiny_base, tmp_path, None, Continual("si"), recipe, rows=OLD, validation=OLD)
    checkpoint = max(tmp_path.glob("checkpoint-*"), key=lambda p: int(p.name[11:]))
    integral = load_tensors(checkpoint / "continual" / synaptic.PATH)
    gained = trained.metrics["first_loss"] - trained.metrics["best_validation_loss"]
    assert gained > 0.01
    assert sum(float(value.sum()) for value in integral.values()) == pytest.approx(gained, rel=0.1)
    importance = load_tensors(trained.folder / "continual" / synaptic.IMPORTANCE)
    assert all(bool((value >= 0).all()) for value in importance.values())
    assert any(bool(value.any()) for value in importance.values())


def test_importance_is_the_integral_over_the_squared_way():
    integral, way = torch.tensor([0.2, -0.1, 0.0]), torch.tensor([0.1, 0.1, 0.0])
    found = synaptic.importance(integral, way)
    torch.testing.assert_close(found, torch.tensor([0.2 / (0.01 + 1e-3), 0.0, 0.0]))


# The old model: Learning without Forgetting, drift


@pytest.mark.slow
def test_the_old_model_answers_inside_the_new_one(first, tiny_base, tmp_path):
    second = learn(tiny_base, tmp_path, first, recipe=replace(CALM, lr=5e-2))
    model = adapted(tiny_base, second.folder).train()
    ids = torch.arange(3, 40)[None]
    state = torch.random.get_rng_state()
    found = OldModel(model, adapter_weights(first.folder)).logits({"input_ids": ids})
    assert torch.equal(torch.random.get_rng_state(), state)
    assert model.training
    with torch.no_grad():
        expected = adapted(tiny_base, first.folder).eval()(input_ids=ids).logits
        other = adapted(tiny_base, second.folder).eval()(input_ids=ids).logits
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, other, atol=1e-3)


def test_divergence_is_summed_over_the_learned_tokens():
    torch.manual_seed(0)
    old, new = torch.randn(2, 5, 7), torch.randn(2, 5, 7)
    labels = torch.tensor([[IGNORED, IGNORED, 3, 4, IGNORED], [IGNORED, 1, 2, 3, 4]])
    (old_told, told), (new_told, _) = answers(old, labels), answers(new, labels)
    assert told.tolist() == [3, 4, 1, 2, 3, 4]
    p, q = (old_told / 2).softmax(-1), (new_told / 2).softmax(-1)
    expected = (p * (p / q).log()).sum()
    torch.testing.assert_close(divergence(old_told, new_told, 2.0), expected)
    assert float(divergence(old_told, old_told)) == pytest.approx(0, abs=1e-6)


@pytest.mark.slow
def test_the_old_answers_begin_at_no_cost_and_hold_the_new_model(first, tiny_base, tmp_path):
    recipe = replace(CALM, epochs=6.0)
    plain = learn(tiny_base, tmp_path / "a", first, recipe=recipe)
    held = learn(tiny_base, tmp_path / "b", first, Continual("lwf", lwf_alpha=0.9), recipe)
    begun = [
        next(line["loss"] for line in trained.history if "loss" in line)
        for trained in (plain, held)
    ]
    assert begun[1] == pytest.approx(0.1 * begun[0], rel=1e-4)
    order = given(tiny_base, tmp_path / "c", Continual("lwf"), first)
    encoded = encode(NEW, order.tokenizer, 512)
    drifts = []
    for trained in (plain, held):
        model = adapted(tiny_base, trained.folder).eval()
        old = OldModel(model, adapter_weights(first.folder))
        total = 0.0
        for ids, labels in zip(encoded.input_ids, encoded.labels, strict=True):
            inputs, told = {"input_ids": torch.tensor([ids])}, torch.tensor([labels])
            with torch.no_grad():
                new = answers(model(**inputs).logits, told)[0]
            total += float(divergence(answers(old.logits(inputs), told)[0], new))
        drifts.append(total)
    assert drifts[1] < 0.8 * drifts[0]
    looks = [
        next(line["validation_loss"] for line in trained.history if "validation_loss" in line)
        for trained in (plain, held)
    ]
    assert looks[1] >= looks[0], "validation is the task's loss alone"


@pytest.mark.slow
def test_the_rate_falls_with_the_drift_and_the_schedule_does_not(first, tiny_base, tmp_path):
    recipe = replace(CALM, epochs=4.0)
    said = []
    continual = Continual(adapt_lr=True, drift_nats=1e-4)
    slowed = learn(
        tiny_base, tmp_path / "a", first, continual, recipe, say=lambda _, line: said.append(line)
    )
    plain = learn(tiny_base, tmp_path / "b", first, recipe=recipe)
    assert sum("drift" in line for line in said) == 8
    rates = [
        [line["lr"] for line in trained.history if "lr" in line] for trained in (slowed, plain)
    ]
    assert rates[0] == rates[1]
    begun = adapter_weights(first.folder)
    ways = [
        sum(float((w - begun[n]).abs().sum()) for n, w in adapter_weights(t.folder).items())
        for t in (slowed, plain)
    ]
    assert ways[0] < 0.5 * ways[1]


def test_a_drift_of_the_given_size_halves_the_rate(first, tiny_base, tmp_path):
    order = given(tiny_base, tmp_path, Continual(adapt_lr=True, drift_nats=0.2), first)
    adapt = AdaptRate(order, adapter_weights(first.folder))
    model = adapted(tiny_base, first.folder)
    optimizer = torch.optim.SGD([{"params": [p], "lr": 0.4} for p in [torch.zeros(1)]])
    adapt.drift = 0.2
    adapt.on_pre_optimizer_step(optimizer=optimizer)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.2)
    adapt.on_optimizer_step(optimizer=optimizer)
    assert optimizer.param_groups[0]["lr"] == 0.4
    adapt._old = OldModel(model, adapter_weights(first.folder))
    assert adapt.measure() == pytest.approx(0, abs=1e-6)
    assert len(adapt.rows) == 16


# Orthogonal LoRA


def test_the_overlap_has_its_gradient(first, tiny_base):
    model = adapted(tiny_base, first.folder)
    old, new = Ranks(0, 10), Ranks(10, 16)
    watched = Overlap(0.5, old, new)
    watched.on_train_begin(None, None, None, model=model)
    parameters = {n: p for n, p in adapter_parameters(model).items() if rank_axis(n) == 0}
    for parameter in adapter_parameters(model).values():
        parameter.grad = torch.zeros_like(parameter)
    watched.on_pre_optimizer_step()
    price = 0.5 * sum(
        (torch.nn.functional.normalize(p[:10].detach(), dim=1) @ p[10:].T).square().sum()
        for p in parameters.values()
    )
    gradients = torch.autograd.grad(price, list(parameters.values()))
    for parameter, gradient in zip(parameters.values(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
        assert not parameter.grad[:10].any()
