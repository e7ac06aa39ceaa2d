import json
from dataclasses import replace

import pytest
import torch
from fitting import lesson, train
from tiny_base import QUICK, make_rows

from foundation.errors import BadInput
from trainer.methods import distill, gkd
from trainer.recipe.distillation import Distillation

ROWS = make_rows(16, answer="the sum is nine")
STEPS = replace(QUICK, method="distill", max_steps=2, eval_steps=2, dropout=0.0)


def knobs(**values):
    return replace(STEPS, distillation=Distillation(**values))


@pytest.fixture(scope="module")
def teacher(tiny_base, tmp_path_factory):
    """An adapter that answers otherwise than its base."""
    recipe = replace(STEPS, method="sft-lora", max_steps=12, eval_steps=12)
    trained = train(tiny_base, tmp_path_factory.mktemp("teacher"), recipe, ROWS)
    return str(tiny_base), trained.folder


def losses(trained):
    return [line["loss"] for line in trained.history if "loss" in line]


def test_without_a_share_of_the_teacher_it_is_plain_sft(tiny_base, teacher, tmp_path):
    plain = train(tiny_base, tmp_path / "sft", replace(STEPS, method="sft-lora"), ROWS)
    same = train(tiny_base, tmp_path / "distill", knobs(alpha=0.0), ROWS, teacher=teacher)
    assert same.weights_sha256 == plain.weights_sha256
    assert losses(same) == losses(plain)


def test_a_model_is_not_moved_towards_itself(tiny_base, tmp_path):
    itself = (str(tiny_base), None)
    trained = train(tiny_base, tmp_path, knobs(alpha=1.0), ROWS, teacher=itself)
    assert losses(trained)[0] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("method", ["distill", "gkd"])
def test_the_loss_does_not_depend_on_how_a_step_is_cut(method, tiny_base, teacher, tmp_path):
    recipe = replace(knobs(alpha=0.7, on_policy=0.0), method=method)
    rows = [*make_rows(8), *ROWS[:8]]  # answers of several lengths
    whole = train(tiny_base, tmp_path / "whole", recipe, rows, teacher=teacher)
    cut = replace(recipe, batch_size=2, gradient_accumulation=4)
    apart = train(tiny_base, tmp_path / "cut", cut, rows, teacher=teacher)
    assert losses(apart) == pytest.approx(losses(whole), rel=1e-5)


@pytest.mark.parametrize("packing", ["bfd", "padding-free"])
def test_packed_rows_have_the_loss_of_padded_ones(packing, tiny_base, teacher, tmp_path):
    recipe = replace(knobs(alpha=0.7), batch_size=16, max_steps=1, eval_steps=1, max_length=512)
    padded = train(tiny_base, tmp_path / "padded", recipe, ROWS, teacher=teacher)
    recipe = replace(recipe, packing=packing)
    packed = train(tiny_base, tmp_path / "packed", recipe, ROWS, teacher=teacher)
    assert losses(packed) == pytest.approx(losses(padded), rel=1e-4)


def test_the_student_comes_nearer_to_its_teacher(tiny_base, teacher, tmp_path):
    recipe = replace(knobs(alpha=1.0, temperature=1.0), max_steps=8, eval_steps=4)
    rows = make_rows(24)  # answers that the teacher would not give: only its distributions teach
    trained = train(tiny_base, tmp_path, recipe, rows[:16], rows[16:], teacher=teacher)
    before, after = (
        line["validation_loss"] for line in trained.history if "validation_loss" in line
    )
    assert after < before
    assert losses(trained)[-1] < losses(trained)[0]


def test_a_teacher_must_be_named_and_mean_the_same_by_each_word(tiny_base, tmp_path):
    from trainer.tokenizer import train_tokenizer

    with pytest.raises(BadInput, match=r"recipe\.distillation\.teacher"):
        distill.prepare(lesson(tiny_base, tmp_path / "none", STEPS, ROWS))
    other = tmp_path / "other"
    train_tokenizer(["quite other words", "and fewer"], 270).save_pretrained(other)
    config = json.loads((tiny_base / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadInput, match=r"other: \d+ words.*the vocabulary of tiny: \d+ words"):
        distill.prepare(
            lesson(tiny_base, tmp_path / "odd", STEPS, ROWS, teacher=(str(other), None))
        )


def test_heads_padded_to_different_widths_are_compared_over_the_words_of_both():
    wide, narrow = torch.randn(5, 12), torch.randn(5, 10)
    distance = distill.softened_kl(narrow, wide, 2.0)
    assert distance == pytest.approx(distill.softened_kl(narrow, wide[:, :10], 2.0).item())
    assert distill.softened_kl(narrow, narrow, 3.0) == 0


@pytest.mark.parametrize("beta", [0, 0.3, 0.5, 1])
def test_the_divergence_is_the_one_of_the_paper(beta, monkeypatch):
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    from trl.experimental.gkd import GKDTrainer

    student, teacher = torch.randn(2, 7, 11, generator=torch.Generator().manual_seed(0))
    own = gkd.jensen_shannon(student.log_softmax(-1), teacher.log_softmax(-1), beta)
    theirs = GKDTrainer.generalized_jsd_loss(student, teacher, beta=beta, reduction="sum")
    assert own.item() == pytest.approx(theirs.item(), rel=1e-5)
    itself = gkd.jensen_shannon(student.log_softmax(-1), student.log_softmax(-1), beta)
    assert itself.item() == pytest.approx(0, abs=1e-6)


def test_own_answers_take_the_place_of_the_datasets(tiny_base, teacher, tmp_path):
    from transformers import set_seed

    recipe = replace(knobs(on_policy=1.0, max_new_tokens=6), method="gkd")
    given = lesson(tiny_base, tmp_path, recipe, ROWS, teacher=teacher)
    set_seed(0)
    trainer = gkd.build(given, gkd.prepare(given))
    loader = trainer.get_train_dataloader()
    (batch,), n_tokens = trainer.get_batch_samples(iter(loader), 1, torch.device("cpu"))
    answers = batch["labels"] != -100
    assert 0 < answers.sum(dim=1).min()
    assert answers.sum(dim=1).max() <= 6
    assert n_tokens == answers.sum(), "a step is divided by the tokens that are in it"
    for ids, learned, mask in zip(
        batch["input_ids"], answers, batch["attention_mask"], strict=True
    ):
        start = int(learned.nonzero()[0])
        assert mask[: start + int(learned.sum())].all()
        assert not mask[start + int(learned.sum()) :].any()
        shown = ids[:start].tolist()
        assert any(row[:start] == shown for row in trainer.train_dataset["input_ids"])


def test_a_student_answers_as_it_is_whatever_its_base_prefers(tiny_base, teacher, tmp_path):
    recipe = replace(knobs(max_new_tokens=6), method="gkd")
    given = lesson(tiny_base, tmp_path, recipe, ROWS, teacher=teacher)
    trainer = gkd.build(given, gkd.prepare(given))
    prompts = [torch.tensor(row[:12]) for row in trainer.train_dataset["input_ids"]]

    def said():
        torch.manual_seed(0)
        return [answer.tolist() for answer in trainer._sample(prompts)]

    plain = said()
    trainer.model.generation_config.repetition_penalty = 50.0
    assert said() == plain


class Stopped(Exception):
    pass


@pytest.mark.slow
def test_an_interrupted_on_policy_training_ends_with_the_same_adapter(tiny_base, teacher, tmp_path):
    recipe = replace(knobs(on_policy=0.5, max_new_tokens=8), method="gkd", max_steps=4)
    whole = train(tiny_base, tmp_path / "whole", recipe, ROWS, teacher=teacher)

    def stop(done, total, unit, **measures):
        if done == 3:
            raise Stopped

    with pytest.raises(Stopped):
        train(tiny_base, tmp_path / "stopped", recipe, ROWS, report=stop, teacher=teacher)
    resumed = train(tiny_base, tmp_path / "stopped", recipe, ROWS, teacher=teacher)
    assert resumed.weights_sha256 == whole.weights_sha256
    assert losses(resumed) == losses(whole)


@pytest.mark.slow
def test_a_smaller_student_learns_from_a_larger_teacher(tiny_base, teacher, tmp_path):
    from trainer.base import load_tokenizer
    from trainer.pretrain import BaseShape, new_model

    words = load_tokenizer(str(tiny_base))
    torch.manual_seed(1)
    shape = BaseShape(16, 1, 2, 1, 32, len(words), 128)
    new_model(shape, words).save_pretrained(tmp_path / "small")
    words.save_pretrained(tmp_path / "small")
    recipe = replace(knobs(alpha=0.9), max_steps=12, eval_steps=12)
    trained = train(tmp_path / "small", tmp_path / "work", recipe, ROWS, teacher=teacher)
    assert losses(trained)[-1] < losses(trained)[0]
