"""The four places in which a supervised training meets what keeps earlier skills."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from trainer.continual import drift, ewc, lwf, orthogonal, packnet, progressive, replay, synaptic
from trainer.continual.checks import require_sense
from trainer.continual.ranks import Ranks, TrainOnly
from trainer.continual.state import adapter_weights
from trainer.data import Encoded
from trainer.lesson import Lesson, Prepared
from trainer.recipe.continual import (
    EWC,
    LWF,
    ORTHOGONAL,
    PACKNET,
    PROGRESSIVE,
    REPLAY,
    SYNAPTIC,
)


def mixed(lesson: Lesson, learned: Encoded, held_out: Encoded) -> tuple[Encoded, Encoded]:
    """Return training and validation rows, with old ones among them if the recipe replays.

    Raises:
        BadInput: a continual method that makes no sense here, before any long work.
    """
    require_sense(lesson)
    continual = lesson.recipe.continual
    if continual.method == REPLAY and continual.replay_share > 0:
        return replay.with_old_rows(lesson, learned, held_out)
    return learned, held_out


def starting_point(lesson: Lesson) -> Lesson:
    """Return the lesson as its adapter begins: with room beside what is frozen."""
    if lesson.earlier is None:
        return lesson
    method = lesson.recipe.continual.method
    if method in (PROGRESSIVE, ORTHOGONAL):
        return _beginning_at(lesson, progressive.grow(lesson))
    if method == PACKNET:
        return _beginning_at(lesson, packnet.grow(lesson))
    return lesson


def protected(trainer: Any, lesson: Lesson) -> Any:
    """Return the trainer with the recipe's protection of the old hung in; as it is without one."""
    continual = lesson.recipe.continual
    if continual.method == LWF and continual.lwf_alpha > 0:
        assert lesson.earlier is not None
        lwf.hang_in(trainer, adapter_weights(lesson.earlier.folder), continual)
    for callback in _callbacks(lesson, trainer.model):
        trainer.add_callback(callback)
    return trainer


def _callbacks(lesson: Lesson, model: Any) -> Iterator[TrainerCallback]:
    """Yield what acts at each step, in the order in which it must act."""
    continual, earlier = lesson.recipe.continual, lesson.earlier
    if continual.method == SYNAPTIC:
        yield synaptic.PathIntegral(lesson.folder)  # before the penalty adds to the gradient
        if earlier is not None and continual.si_c > 0:
            yield synaptic.pull(lesson)
    elif continual.method == EWC and earlier is not None:
        yield ewc.pull(lesson, model)
    elif continual.method == PACKNET:
        yield packnet.Thin(packnet.free_ranks(lesson), packnet.ranks_to_keep(lesson))
    elif continual.method in (PROGRESSIVE, ORTHOGONAL):
        new = progressive.new_ranks(lesson)
        yield TrainOnly(new)
        if continual.method == ORTHOGONAL and continual.orthogonal_lambda > 0:
            yield orthogonal.Overlap(continual.orthogonal_lambda, Ranks(0, new.first), new)
    if continual.adapt_lr:
        begun = starting_point(lesson).earlier
        assert begun is not None
        yield drift.AdaptRate(lesson, adapter_weights(begun.folder))


def keep_state(lesson: Lesson, prepared: Prepared, checkpoint: Path, target: Path) -> None:
    """Store beside the kept adapter what the next training of the line needs.

    Raises:
        FrozenChanged: a weight that was to stay has changed.
    """
    method = lesson.recipe.continual.method
    if method == EWC:
        prepared.metrics.update(ewc.keep(lesson, target))
    elif method == SYNAPTIC:
        synaptic.keep(lesson, checkpoint, target)
    elif method == PACKNET:
        packnet.keep(lesson, target)
    elif method in (PROGRESSIVE, ORTHOGONAL):
        progressive.keep(lesson, target)


def _beginning_at(lesson: Lesson, folder: Path) -> Lesson:
    assert lesson.earlier is not None
    return replace(lesson, earlier=replace(lesson.earlier, folder=folder))
