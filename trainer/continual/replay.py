"""Replay: a share of every epoch is rows that earlier versions learned from.

What is replayed is drawn without looking at it from a reservoir that is uniform over all earlier
rows (Vitter's algorithm R), by the recipe's seed.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from foundation.errors import BadInput
from trainer.base import context_of
from trainer.data import Encoded, Row, encode
from trainer.lesson import Lesson
from trainer.recipe import Recipe

T = TypeVar("T")
Ids = tuple[list[int], list[int]]
"""The token ids of one row, and its labels."""


def reservoir(rows: Iterable[T], size: int, seed: int) -> list[T]:
    """Return `size` of the rows (all, if fewer), each equally likely, reading them once."""
    rng = random.Random(f"reservoir/{seed}")
    held: list[T] = []
    for seen, row in enumerate(rows):
        if seen < size:
            held.append(row)
        elif (place := rng.randrange(seen + 1)) < size:
            held[place] = row
    return held


def rows_beside(n_new: int, share: float) -> int:
    """Return how many old rows beside `n_new` make them `share` of all, to the nearest row."""
    return round(n_new * share / (1 - share))


def new_rows_of(recipe: Recipe) -> int:
    """Return how many new rows a recipe of so many steps has room for; 0 where epochs count.

    One corrected answer among 9 old ones, again in each of 30 steps, cost 16 of 82 points on the
    demo's base: the same 9. As many corrections among 420 old ones cost nothing.
    """
    slots = recipe.max_steps * recipe.effective_batch_size
    return round(slots * (1 - recipe.continual.replay_share))


def with_old_rows(lesson: Lesson, learned: Encoded, held_out: Encoded) -> tuple[Encoded, Encoded]:
    """Return the training and validation rows with old ones among them.

    The share is counted in rows that are learned: old ones that are too long, or have no answer,
    are passed over. Where there are fewer old rows than the share wants they come again; so do few
    new rows of a run of so many steps, that the old ones beside them need not. Validation
    gets its share too, of old rows that are not replayed as far as there are any, so that the best
    checkpoint is best at both; they were learned by the earlier version, and tell what is
    forgotten.
    """
    assert lesson.earlier is not None
    recipe = lesson.recipe
    share = recipe.continual.replay_share
    held = reservoir(lesson.earlier.rows, recipe.continual.replay_rows, recipe.seed)
    random.Random(f"replay/{recipe.seed}").shuffle(held)
    learned = _enough(learned, new_rows_of(recipe))
    wanted = rows_beside(len(learned), share)
    looks = rows_beside(len(held_out), share)
    old = learnable(lesson, held, wanted + looks)
    lesson.say("INFO", f"replaying {wanted:,} old rows beside {len(learned):,} new ones")
    return (
        _joined(learned, _again(old[:wanted], wanted)),
        _joined(held_out, old[wanted : wanted + looks]),
    )


def old_rows(lesson: Lesson, n: int) -> list[Ids]:
    """Return `n` of the earlier rows as token ids, to measure something on.

    Raises:
        BadInput: none of them can be learned.
    """
    assert lesson.earlier is not None
    return some_of(lesson, lesson.earlier.rows, n, f"rows that {lesson.earlier.name} learned from")


def some_of(lesson: Lesson, rows: Sequence[Row], n: int, what: str) -> list[Ids]:
    """Return `n` rows as token ids, drawn uniformly (all, if there are fewer).

    Raises:
        BadInput: none of them can be learned; naming `what`.
    """
    found = learnable(lesson, reservoir(rows, n, lesson.recipe.seed), n)
    if not found:
        raise BadInput(
            what,
            len(found),
            "at least one that can be learned",
            "Choose lwf, or go on from a version whose dataset is still there.",
        )
    return found


def learnable(lesson: Lesson, rows: Sequence[Row], n: int) -> list[Ids]:
    """Return the first `n` rows that can be learned (fewer, if there are fewer), as token ids."""
    recipe = lesson.recipe
    longest = min(recipe.max_length, context_of(lesson.base_model) or recipe.max_length)
    found: list[Ids] = []
    at = 0
    while len(found) < n and at < len(rows):
        chunk = rows[at : at + n]
        encoded = encode(chunk, lesson.tokenizer, longest, recipe.too_long)
        found += zip(encoded.input_ids, encoded.labels, strict=True)
        at += len(chunk)
    return found[:n]


def _again(old: Sequence[Ids], n: int) -> list[Ids]:
    return [old[i % len(old)] for i in range(n)] if old else []


def _enough(learned: Encoded, n: int) -> Encoded:
    """Return rows as often again as makes them at least `n`, or as they are if they are as many."""
    times = -(-n // len(learned)) if len(learned) else 1
    if times <= 1:
        return learned
    return replace(learned, input_ids=learned.input_ids * times, labels=learned.labels * times)


def _joined(new: Encoded, old: Sequence[Ids]) -> Encoded:
    return replace(
        new,
        input_ids=[*new.input_ids, *(ids for ids, _ in old)],
        labels=[*new.labels, *(labels for _, labels in old)],
    )
