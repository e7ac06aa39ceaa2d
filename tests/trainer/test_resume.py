"""Every method, interrupted after a checkpoint, ends with the weights of an uninterrupted one.

What a start could lose: random state, place in the data, optimizer, schedule, a reference model, a
value head, answers that wait for their next update, a patience that has run for a while.
"""

from dataclasses import replace

import pytest
from each_method import lesson_of, recipe_of, rows_for
from fitting import train
from tiny_base import make_rows

from trainer.lesson import Earlier
from trainer.methods import METHODS, TASKS
from trainer.recipe import Recipe

STOPPED_AT = 3
"""The step after the checkpoint; three steps are an epoch, so the rest is in the next one."""


class Stopped(Exception):
    pass


def stop(done, total, unit, **measures):
    if done == STOPPED_AT:
        raise Stopped


@pytest.fixture(scope="module")
def teacher(tiny_base, tmp_path_factory):
    return train(tiny_base, tmp_path_factory.mktemp("t"), recipe_of("sft-lora"), make_rows(16))


def four_steps(method: str) -> Recipe:
    """A step of two passes, dropout where the method has it, and two updates on own answers."""
    recipe = replace(recipe_of(method), max_steps=4, lr=2e-2, dropout=0.1)
    if METHODS[method].reads == TASKS:
        answers = replace(recipe.reinforcement, n_answers=4, updates_per_batch=2, kl=0.05)
        return replace(recipe, batch_size=2, gradient_accumulation=2, reinforcement=answers)
    return replace(recipe, batch_size=2, gradient_accumulation=2)


def resumed(tiny_base, folder, recipe, *rows, **more):
    """Train, stopped after the checkpoint and gone on; return what came of it."""
    with pytest.raises(Stopped):
        train(tiny_base, folder, recipe, *rows, stop, **more)
    steps = []
    trained = train(
        tiny_base, folder, recipe, *rows, lambda done, *_, **__: steps.append(done), **more
    )
    assert min(steps) == STOPPED_AT, "what the checkpoint holds is not done again"
    return trained


def files_of(trained):
    """Return the weights that are kept, and those of the last step, which need not be the best."""
    work = trained.folder.parent
    files = [*trained.folder.rglob("*.safetensors"), *work.glob("checkpoint-4/*.safetensors")]
    assert len(files) >= 2
    return {file.relative_to(work): file.read_bytes() for file in files}


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_method_goes_on_to_the_same_bits(method, tiny_base, teacher, tmp_path):
    rows = rows_for(method)
    n = 6 if method == "kto" else 12  # both answers of a pair are a row of kto
    given = (four_steps(method), rows[:n], rows[16:20])
    more = lesson_of(method, tiny_base, teacher.folder)
    whole = train(tiny_base, tmp_path / "whole", *given, **more)
    again = resumed(tiny_base, tmp_path / "cut", *given, **more)
    assert again.history == whole.history
    assert again.metrics == whole.metrics
    assert files_of(again) == files_of(whole)


ASKED_EACH_STEP = replace(Recipe().preference, precompute_reference=False)
VARIANTS = {
    "bfd": ("sft-lora", {"packing": "bfd"}),
    "padded": ("sft-lora", {"packing": "none"}),
    "neftune": ("sft-lora", {"neftune": 5.0}),
    "dora": ("sft-lora", {"dora": True}),
    "reference": ("dpo", {"preference": ASKED_EACH_STEP}),
}


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_way_of_it_goes_on_to_the_same_bits(variant, tiny_base, tmp_path):
    method, change = VARIANTS[variant]
    rows = rows_for(method)
    given = (replace(four_steps(method), **change), rows[:12], rows[16:20])
    whole = train(tiny_base, tmp_path / "whole", *given)
    again = resumed(tiny_base, tmp_path / "cut", *given)
    assert again.history == whole.history
    assert files_of(again) == files_of(whole)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dpo", "grpo"])
def test_a_reference_that_is_a_version_is_still_that_one_after_a_stop(
    method, tiny_base, teacher, tmp_path
):
    """The checkpoint holds two adapters: the one that learns, and where it began."""
    rows = rows_for(method)
    recipe = replace(four_steps(method), preference=ASKED_EACH_STEP)
    given = (recipe, rows[:12], rows[16:20])
    more = lesson_of(method, tiny_base, teacher.folder)
    more["earlier"] = Earlier("coder-v1", teacher.folder)
    whole = train(tiny_base, tmp_path / "whole", *given, **more)
    again = resumed(tiny_base, tmp_path / "cut", *given, **more)
    assert again.history == whole.history
    assert files_of(again) == files_of(whole)
