"""Step 7 of a build: which kept examples go into the next version, by the recipe's quotas.

Left out is not judged: `over_quota` rows stay good, and each choice starts from all of them anew.
Rows that a version to be replayed holds are left out of `train` too, since they come back through
`curation.choice.mix` at their stated share; but never so that no row of the role's own were left.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Final
from uuid import UUID

import numpy as np
from sqlalchemy import ColumnElement, and_, func, or_, select, update
from sqlmodel import Session

from curation.choice.balance import Choice, allowances, cells_of
from curation.choice.diversity import CHARACTERS, LEAST_QUALITY, pick, sketches
from curation.choice.mix import replayed_rows
from curation.choice.sources import keys_of, over_source
from curation.columns import EXAMPLES, example
from curation.dedupe.minhash import U32
from curation.normalize import COMPARED_ROLES
from curation.recipe import CurationRecipe
from curation.score.outcome import OVER_QUOTA
from curation.tables import DROPPED, KEPT, TRAIN
from foundation.chat import joined

POOL: Final = 200_000
"""Examples of one cell that a pick looks at, the best ones, to bound its work."""
_TEXTS_AT_ONCE: Final = 500
_IDS_AT_ONCE: Final = 10_000


def choose(session: Session, role: str, recipe: CurationRecipe) -> dict[str, int]:
    """Mark what the recipe leaves out, and take back what an earlier choice left out.

    Returns:
        Counts: `candidates` (0 where the recipe limits nothing), `chosen`, `left_out` and
        `replayed` in all, `source_capped` of them where the recipe caps sources; `newly_left_out`
        and `taken_back` against the last choice.
    """
    mine = and_(example.role == role, example.variant == recipe.variant)
    if not _limits(recipe):
        return {"candidates": 0, "taken_back": _take_back(session, mine)}
    rows = session.execute(
        select(
            example.id,
            example.task_type,
            example.difficulty,
            example.project,
            example.started_at,
            example.score,
            example.split,
            example.status,
        )
        .where(mine, or_(example.status == KEPT, example.drop_reason == OVER_QUOTA))
        .order_by(example.id)
    ).all()
    replayed = _replayed(session, role, recipe, {row.id for row in rows if row.split == TRAIN})
    choices = [Choice(*row[:6]) for row in rows if row.id not in replayed]
    keys = keys_of(session, [choice.id for choice in choices]) if recipe.max_source_share else {}
    capped = _over_source(choices, keys, recipe)
    left_out = over_quota(session, (one for one in choices if one.id not in capped), recipe)
    # Of what a quota takes, the best ones, one key may have too much again.
    gone = capped | left_out
    capped |= _over_source((one for one in choices if one.id not in gone), keys, recipe)
    left_out |= replayed | capped
    out = [row.id for row in rows if row.id in left_out and row.status == KEPT]
    back = [row.id for row in rows if row.id not in left_out and row.status != KEPT]
    _mark(session, out, DROPPED, OVER_QUOTA)
    _mark(session, back, KEPT, None)
    return {
        "candidates": len(rows),
        "chosen": len(rows) - len(left_out),
        "left_out": len(left_out),
        "replayed": len(replayed),
        "newly_left_out": len(out),
        "taken_back": len(back),
        **({} if recipe.max_source_share is None else {"source_capped": len(capped)}),
    }


def _over_source(
    choices: Iterable[Choice], keys: Mapping[UUID, str], recipe: CurationRecipe
) -> set[UUID]:
    """Return what the cap on one key leaves out, the worst of what rests on it."""
    if recipe.max_source_share is None or not keys:
        return set()
    best_first = [choice.id for choice in ordered(choices, recipe)]
    return over_source(best_first, keys, recipe.max_source_share)


def over_quota(session: Session, choices: Iterable[Choice], recipe: CurationRecipe) -> set[UUID]:
    """Return the ids that the recipe's quotas leave out; empty when there are none or they fit."""
    cells = cells_of(choices, recipe)
    allowed = allowances({cell: len(found) for cell, found in cells.items()}, recipe)
    pools = {
        cell: ordered(found, recipe)[: max(POOL, allowed[cell])]
        for cell, found in cells.items()
        if 0 < allowed[cell] < len(found)
    }
    sketched = _sketched(session, chain(*pools.values())) if recipe.diverse else None
    chosen = {cell: _take(pools[cell], allowed[cell], recipe, sketched) for cell in pools}
    return {
        choice.id
        for cell, found in cells.items()
        if allowed[cell] < len(found)
        for choice in found
        if choice.id not in chosen.get(cell, ())
    }


def ordered(choices: Iterable[Choice], recipe: CurationRecipe) -> list[Choice]:
    """Return the choices, the better-scored first, equal ones by lot (the seed and their id)."""
    return sorted(choices, key=lambda choice: (-_quality(choice, recipe), _lot(choice.id, recipe)))


def _take(
    pool: Sequence[Choice],
    count: int,
    recipe: CurationRecipe,
    sketched: Mapping[UUID, U32] | None,
) -> set[UUID]:
    if sketched is None:
        return {choice.id for choice in pool[:count]}
    quality = np.array([_quality(choice, recipe) for choice in pool])
    picked = pick(np.stack([sketched[choice.id] for choice in pool]), quality, count)
    return {pool[index].id for index in picked}


def _quality(choice: Choice, recipe: CurationRecipe) -> float:
    """Return the score; the control, which looks at no outcome, finds all alike."""
    return (choice.score or LEAST_QUALITY) if recipe.by_outcome else 1.0


def _lot(identifier: UUID, recipe: CurationRecipe) -> bytes:
    return hashlib.sha256(f"{recipe.seed}:{identifier}".encode()).digest()


def _limits(recipe: CurationRecipe) -> bool:
    return (
        recipe.max_per_task_type is not None
        or recipe.max_task_type_share < 1
        or recipe.max_examples is not None
        or recipe.max_source_share is not None
        or bool(recipe.replay_datasets)
    )


def _replayed(session: Session, role: str, recipe: CurationRecipe, own: set[UUID]) -> set[UUID]:
    """Return the role's own training rows that replaying brings back."""
    if not recipe.replay_datasets:
        return set()
    replayed = own & set(replayed_rows(session, recipe))
    return replayed if len(replayed) < len(own) else set()


def _sketched(session: Session, choices: Iterable[Choice]) -> dict[UUID, U32]:
    """Return the sketches of examples by id; a few hundred texts are in memory at a time."""
    found: dict[UUID, U32] = {}
    for ids in _batches([choice.id for choice in choices], _TEXTS_AT_ONCE):
        rows = session.execute(
            select(example.id, example.prompt, func.left(example.answer, CHARACTERS)).where(
                example.id.in_(ids)
            )
        ).all()
        texts = [f"{joined(row[1], COMPARED_ROLES)[:CHARACTERS]}\n{row[2]}" for row in rows]
        found.update(zip([row[0] for row in rows], sketches(texts), strict=True))
    return found


def _take_back(session: Session, mine: ColumnElement[bool]) -> int:
    taken = session.execute(
        update(EXAMPLES)
        .where(mine, example.drop_reason == OVER_QUOTA)
        .values(status=KEPT, drop_reason=None)
    )
    return int(taken.rowcount)  # type: ignore[attr-defined]


def _mark(session: Session, ids: Sequence[UUID], status: str, reason: str | None) -> None:
    for some in _batches(ids, _IDS_AT_ONCE):
        session.execute(
            update(EXAMPLES).where(example.id.in_(some)).values(status=status, drop_reason=reason)
        )


def _batches(ids: Sequence[UUID], size: int) -> Iterator[Sequence[UUID]]:
    for start in range(0, len(ids), size):
        yield ids[start : start + size]
