"""What is mixed into `train` beside the role's own rows: general data, and replay of earlier ones.

A share is of the whole mixed split, exact to the row while the sources last. The rows are those
with the least hash of seed and id: a reservoir sample that does not depend on the order in which
they are read, and that hardly changes when its source grows. Only a version's own rows are taken,
not what had been mixed into it, and none that is gone, was ruled out since, or would tell `train`
of what the role is tested on.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final
from uuid import UUID

from sqlalchemy import select, text
from sqlmodel import Session, col

from curation.dedupe.compare import PROMPT
from curation.dedupe.index import text_id_of
from curation.normalize import normalize
from curation.recipe import CurationRecipe
from curation.tables import SFT, Dataset
from curation.templates import NO_TEMPLATES, load_templates
from foundation.errors import BadInput, NotFound

GENERAL, REPLAY = "general", "replay"
_PROMPTS_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class MixedIn:
    """Rows of a published version that go into another one's `train`."""

    dataset_id: UUID
    origin: str
    """`general:<dataset>` or `replay:<dataset>`."""
    row_ids: list[UUID]
    """Sorted."""


@dataclass(frozen=True, slots=True)
class Amounts:
    """How many rows the recipe's shares ask for; fewer are mixed in where the sources end."""

    general: int
    replay: int


def amounts(recipe: CurationRecipe, n_own_train: int) -> Amounts:
    """Return the rows to mix into `n_own_train` own ones; none into none.

    Each share of the mixed split is met to less than one row.
    """
    general = _share(recipe.general_share) if recipe.general_dataset else Fraction(0)
    replay = _share(recipe.replay_share) if recipe.replay_datasets else Fraction(0)
    added = round(n_own_train / (1 - general - replay)) - n_own_train
    if not added:
        return Amounts(0, 0)
    n_general = round(added * general / (general + replay))
    return Amounts(n_general, added - n_general)


def mixed_in(
    session: Session, recipe: CurationRecipe, n_own_train: int, *, role: str | None = None
) -> list[MixedIn]:
    """Return the rows to mix into `train`, by the version that they come from.

    Args:
        session: in which the role's own rows are chosen already.
        recipe: names the versions, their shares, and the seed.
        n_own_train: rows of the role's own in `train`.
        role: whose version it is; what it tests on is then kept out of what is mixed in, and what
            it has itself is not taken again.

    Raises:
        BadInput: a version is named by something that is no id, or has no examples but pairs.
        NotFound: there is no such version.
    """
    general, replayed = sources(session, recipe)
    wanted = amounts(recipe, n_own_train)
    drawn = _Draw(session, recipe, role)
    found = [
        *drawn.take(GENERAL, [general] if general else [], wanted.general),
        *drawn.take(REPLAY, replayed, wanted.replay),
    ]
    return [mixed for mixed in found if mixed.row_ids]


def sources(session: Session, recipe: CurationRecipe) -> tuple[UUID | None, list[UUID]]:
    """Return the general version, if any, and those to replay; raises as `mixed_in`.

    Worth calling before a build starts, so that a wrong id costs no work.
    """
    named = [*filter(None, [recipe.general_dataset]), *recipe.replay_datasets]
    ids = [_id(name) for name in named]
    kinds = {
        row.id: row.kind
        for row in session.execute(
            select(col(Dataset.id), col(Dataset.kind)).where(col(Dataset.id).in_(ids))
        )
    }
    for identifier in ids:
        if identifier not in kinds:
            raise NotFound(
                "dataset to mix in",
                str(identifier),
                "the id of a published version",
                "List them with: flywheel dataset list",
            )
        if kinds[identifier] != SFT:
            raise BadInput(
                f"kind of dataset {identifier}, to be mixed in",
                kinds[identifier],
                f"{SFT!r}: examples",
                "Name a version of that kind.",
            )
    is_general = recipe.general_dataset is not None
    return (ids[0] if is_general else None), list(dict.fromkeys(ids[is_general:]))


def replayed_rows(session: Session, recipe: CurationRecipe) -> Iterator[UUID]:
    """Yield the training rows of the versions to be replayed; raises as `mixed_in`."""
    _, replayed = sources(session, recipe)
    yield from session.execute(_HELD, {"datasets": replayed}).scalars()


class _Draw:
    """Draws rows for one version, none of them twice."""

    def __init__(self, session: Session, recipe: CurationRecipe, role: str | None) -> None:
        self._session, self._recipe, self._role = session, recipe, role
        self._templates = NO_TEMPLATES if role is None else load_templates(session, role)
        self._gone: list[UUID] = []
        """Rows that are drawn already, or must not be."""

    def take(self, word: str, datasets: Sequence[UUID], count: int) -> Iterator[MixedIn]:
        """Yield `count` rows of the datasets; one that stands in several is the first one's."""
        rows: list[Any] = []
        while datasets and len(rows) < count:
            drawn = self._draw(datasets, count - len(rows))
            told = self._tested_on(drawn)
            self._gone += [row.row_id for row in drawn]
            rows += [row for row in drawn if row.row_id not in told]
            if not told:
                break
        for place, dataset in enumerate(datasets, start=1):
            ids = sorted(row.row_id for row in rows if row.place == place)
            yield MixedIn(dataset, f"{word}:{dataset}", ids)

    def _draw(self, datasets: Sequence[UUID], count: int) -> Sequence[Any]:
        return self._session.execute(
            _DRAWN,
            {
                "datasets": list(datasets),
                "gone": self._gone,
                "role": self._role,
                "variant": self._recipe.variant,
                "seed": str(self._recipe.seed),
                "count": count,
            },
        ).all()

    def _tested_on(self, drawn: Sequence[Any]) -> set[UUID]:
        """Return the drawn rows whose prompt, as compared, the role validates or tests on."""
        if self._role is None:
            return set()
        asked: dict[int, list[UUID]] = defaultdict(list)
        for start in range(0, len(drawn), _PROMPTS_AT_ONCE):
            ids = [row.row_id for row in drawn[start : start + _PROMPTS_AT_ONCE]]
            for row in self._session.execute(_PROMPTS, {"ids": ids}):
                compared = normalize(row.prompt, "", self._templates).prompt
                number = text_id_of(self._role, self._recipe.variant, PROMPT, compared)
                asked[number].append(row.id)
        held = self._session.execute(
            _HELD_OUT_PROMPTS,
            {"prompts": list(asked), "role": self._role, "variant": self._recipe.variant},
        )
        return {identifier for number in held.scalars() for identifier in asked[number]}


_HELD: Final = text(
    """
    SELECT DISTINCT r.row_id FROM dataset_shard s JOIN shard_row r ON r.shard = s.shard
    WHERE s.dataset_id = ANY(:datasets) AND s.split = 'train' AND s.origin = 'log'
    """
)

_DRAWN: Final = text(
    """
    SELECT r.row_id, min(array_position(CAST(:datasets AS uuid[]), s.dataset_id)) AS place
    FROM dataset_shard s
    JOIN shard_row r ON r.shard = s.shard
    JOIN example e ON e.id = r.row_id
    WHERE s.dataset_id = ANY(CAST(:datasets AS uuid[])) AND s.split = 'train' AND s.origin = 'log'
      AND e.split = 'train' AND (e.status = 'kept' OR e.drop_reason = 'over_quota')
      AND NOT r.row_id = ANY(CAST(:gone AS uuid[]))
      AND NOT EXISTS (
        SELECT FROM example own
        WHERE own.interaction_id = e.interaction_id AND own.status = 'kept'
          AND own.role = CAST(:role AS text) AND own.variant = :variant)
      AND NOT EXISTS (
        SELECT FROM example own
        WHERE own.episode_id = e.episode_id AND own.status = 'kept' AND own.split <> 'train'
          AND own.role = CAST(:role AS text) AND own.variant = :variant)
      AND NOT EXISTS (
        SELECT FROM example own
        WHERE own.split_key = e.split_key AND own.split_key <> '' AND own.status = 'kept'
          AND own.split <> 'train' AND own.role = CAST(:role AS text) AND own.variant = :variant)
    GROUP BY r.row_id
    ORDER BY md5(:seed || ':' || r.row_id::text), r.row_id
    LIMIT :count
    """
)
"""Without a role, none of the conditions on its own rows rules anything out."""


_PROMPTS: Final = text("SELECT id, prompt FROM example WHERE id = ANY(CAST(:ids AS uuid[]))")

_HELD_OUT_PROMPTS: Final = text(
    """
    SELECT DISTINCT prompt_text_id FROM example
    WHERE prompt_text_id = ANY(CAST(:prompts AS bigint[])) AND role = :role
      AND variant = :variant AND status = 'kept' AND split <> 'train'
    """
)


def _share(value: float) -> Fraction:
    """Return a share as it was written: 0.15 is 3/20, which its binary fraction is not."""
    return Fraction(str(value))


def _id(name: str) -> UUID:
    try:
        return UUID(name)
    except ValueError:
        raise BadInput(
            "dataset to mix in", name, "the id of a version", "See: flywheel dataset list"
        ) from None
