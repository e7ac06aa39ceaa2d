"""What a continual method needs, asked before any long work."""

from foundation.errors import BadInput
from trainer.continual import packnet, synaptic
from trainer.continual.state import ADAPTER_CONFIG, adapter_config
from trainer.lesson import Lesson
from trainer.recipe import SERVABLE_RANKS, SFT_FULL
from trainer.recipe.continual import (
    EWC,
    LWF,
    ORTHOGONAL,
    PACKNET,
    PLAIN,
    PROGRESSIVE,
    REPLAY,
    SYNAPTIC,
)

IN_PLACE = (REPLAY, EWC, SYNAPTIC, LWF, PACKNET)
"""Methods that go on with the earlier adapter's own matrices, at its own rank."""
IN_COLUMNS = (PACKNET, PROGRESSIVE, ORTHOGONAL)
"""Methods that freeze some ranks of the adapter and learn in others."""
FIRST_OF_A_LINE = (EWC, SYNAPTIC, PACKNET)
"""Methods that may begin without an earlier version: they store what the next one will need."""


def require_sense(lesson: Lesson) -> None:
    """Check that there is something to keep, and that the method can keep it.

    Raises:
        BadInput: no earlier version or none of its rows, no adapter, another rank, DoRA.
    """
    continual = lesson.recipe.continual
    if continual.method == PLAIN and not continual.adapt_lr:
        return
    _require_adapter(lesson)
    if lesson.earlier is None:
        _require_none_needed(lesson)
        if continual.method == PACKNET:
            packnet.ranks_to_keep(lesson)
        return
    if (continual.method == REPLAY or continual.adapt_lr) and not lesson.earlier.rows:
        raise BadInput(
            f"rows that {lesson.earlier.name} learned from",
            0,
            "at least one",
            "Its datasets are gone or are no sft datasets: use lwf or progressive.",
        )
    _require_same_shape(lesson)
    if continual.method == PACKNET:
        packnet.ranks_to_keep(lesson)
    if continual.method == SYNAPTIC:
        synaptic.importance_of(lesson)


def _require_none_needed(lesson: Lesson) -> None:
    continual = lesson.recipe.continual
    if continual.adapt_lr or continual.method not in FIRST_OF_A_LINE:
        raise BadInput(
            "earlier version",
            None,
            f"one that {continual.method if continual.method != PLAIN else 'adapt_lr'} keeps",
            "Name it with --from, or train without a continual method.",
        )


def _require_adapter(lesson: Lesson) -> None:
    recipe = lesson.recipe
    if recipe.method == SFT_FULL and (
        recipe.continual.method != REPLAY or recipe.continual.adapt_lr
    ):
        raise BadInput(
            "recipe.continual.method",
            recipe.continual.method,
            "replay, where all weights are trained",
            "Train an adapter (sft-lora), or choose replay.",
        )
    if recipe.dora and recipe.continual.method in IN_COLUMNS:
        raise _dora(recipe.continual.method)


def _require_same_shape(lesson: Lesson) -> None:
    recipe, earlier = lesson.recipe, lesson.earlier
    assert earlier is not None
    if recipe.method == SFT_FULL:
        return
    if not (earlier.folder / ADAPTER_CONFIG).is_file():
        raise BadInput("earlier version", earlier.name, "an adapter", "Name one with --from.")
    config = adapter_config(earlier.folder)
    method = recipe.continual.method
    if method in IN_COLUMNS and (config.get("use_dora") or config.get("rank_pattern")):
        raise _dora(method)
    if method in IN_PLACE and config["r"] != recipe.r:
        raise BadInput(
            "recipe.r",
            recipe.r,
            f"{config['r']}, the rank of {earlier.name}: {method} goes on with its own matrices",
            "Set that rank, or choose progressive or orthogonal, which add ranks.",
        )
    if method in (PROGRESSIVE, ORTHOGONAL) and config["r"] + recipe.r > SERVABLE_RANKS[-1]:
        raise BadInput(
            "recipe.r",
            recipe.r,
            f"at most {SERVABLE_RANKS[-1] - config['r']} beside the {config['r']} ranks "
            f"of {earlier.name}",
            "Learn in fewer ranks, or train anew from the base on all datasets.",
        )


def _dora(method: str) -> BadInput:
    return BadInput(
        "adapter",
        "DoRA or unequal ranks",
        f"a plain LoRA of one rank for {method}",
        "Choose replay, ewc, si or lwf.",
    )
