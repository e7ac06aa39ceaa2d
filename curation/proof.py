"""The proof that no split of a dataset version knows another: it looks again, trusting no evidence.

Every row in question is read, its texts are looked up in the index, and each pair that meets there
across two splits is verified anew; episodes and equal prompts are counted across splits. A version
that follows a proven one is proven by its new and moved rows, for the others are as they were.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlmodel import Session

from curation.boilerplate import Templates
from curation.dedupe.buckets import Signed, array, by_index, shared_buckets
from curation.dedupe.compare import EXAMPLE, PROMPT
from curation.dedupe.index import comparison_version, sign_texts, text_id_of, verified
from curation.recipe import CurationRecipe
from curation.split import TASK_PREFIX
from curation.tables import PREFERENCE, Dataset
from curation.templates import load_templates

_ROWS_AT_ONCE: Final = 2000


@dataclass(slots=True)
class Leaks:
    """What was found across splits: texts by the ids that meet, prompts, episodes."""

    repeats: set[tuple[int, int]] = field(default_factory=set)
    similar_prompts: set[tuple[int, int]] = field(default_factory=set)
    equal_prompts: set[int] = field(default_factory=set)
    episodes: set[UUID] = field(default_factory=set)
    n_rows: int = 0
    n_pairs: int = 0
    n_hot: int = 0


@dataclass(frozen=True, slots=True)
class Where:
    """Where the rows of one text stand."""

    splits: frozenset[str]
    is_named: bool
    """Whether the caller named the tasks of all of them."""


def prove_no_leak(
    session: Session,
    dataset: Dataset,
    recipe: CurationRecipe,
    templates: Templates,
    previous: Dataset | None = None,
) -> dict[str, Any]:
    """Return what two splits of a version share: every number that begins `cross_split` is 0.

    Prompts of tasks that the caller named may be alike: the name says they are different tasks.

    Args:
        session: sees the version's shards.
        dataset: the version; rows mixed in from others count.
        recipe: says what is alike.
        templates: of the role, as its texts were indexed by.
        previous: the version before; where its own proof is sound, only new and moved rows are
            looked at.
    """
    basis = f"{comparison_version(recipe)}:{templates.digest}"
    known = previous.card.get("leak_proof", {}) if previous is not None else {}
    is_built_on = known.get("basis") == basis and _is_clean(known)
    leaks = Leaks()
    for ids in _rows(session, dataset, previous if is_built_on else None):
        _look(session, dataset, recipe, templates, ids, leaks)
    return {
        "cross_split_repeats": len(leaks.repeats),
        "cross_split_similar_prompts": len(leaks.similar_prompts),
        "cross_split_equal_prompts": len(leaks.equal_prompts),
        "cross_split_episodes": len(leaks.episodes),
        "checked_rows": leaks.n_rows,
        "checked_pairs": leaks.n_pairs,
        "checked_all": leaks.n_hot == 0 and known.get("checked_all", True) is True,
        "built_on": str(previous.id) if previous is not None and is_built_on else None,
        "basis": basis,
    }


def prove_whole(session: Session, dataset: Dataset) -> dict[str, Any]:
    """Return the proof of a version from all of its rows, by the recipe that it was built with."""
    recipe = CurationRecipe.from_json(dataset.card.get("recipe"))
    return prove_no_leak(session, dataset, recipe, load_templates(session, dataset.role))


def _is_clean(proof: dict[str, Any]) -> bool:
    return not any(n for name, n in proof.items() if name.startswith("cross_split"))


def _rows(session: Session, dataset: Dataset, previous: Dataset | None) -> Iterator[Sequence[UUID]]:
    """Yield the ids of a version's rows, or of those that the one before has not in their split."""
    given = {"dataset_id": dataset.id, "previous_id": previous.id if previous else None}
    rows = session.execute(_ROWS if previous is None else _NEW_ROWS, given)
    yield from rows.scalars().partitions(_ROWS_AT_ONCE)


def _look(
    session: Session,
    dataset: Dataset,
    recipe: CurationRecipe,
    templates: Templates,
    ids: Sequence[UUID],
    leaks: Leaks,
) -> None:
    """Look for what some rows share with rows of other splits."""
    sources = _SOURCES_OF_PAIRS if dataset.kind == PREFERENCE else _SOURCES_OF_EXAMPLES
    rows = session.execute(sources, {"ids": array(ids)}).all()
    leaks.n_rows += len(rows)
    empty = text_id_of(dataset.role, recipe.variant, PROMPT, "")
    prompts = {row.prompt_text_id for row in rows} - {None, empty}
    where = _where(session, dataset, PROMPT, prompts)
    leaks.equal_prompts |= {i for i, found in where.items() if len(found.splits) > 1}
    if "episode" in recipe.keep_together:
        episodes = {row.episode_id for row in rows} - {None}
        leaks.episodes |= _torn_episodes(session, dataset, episodes)
    texts = {row.text_id for row in rows} - {None}
    for signed in sign_texts(session, dataset.role, recipe, templates, texts):
        _look_up(session, dataset, recipe, templates, signed, leaks)


def _look_up(
    session: Session,
    dataset: Dataset,
    recipe: CurationRecipe,
    templates: Templates,
    signed: Signed,
    leaks: Leaks,
) -> None:
    """Verify anew the pairs of texts that share a bucket and stand in different splits."""
    shared = shared_buckets(session, signed, recipe)
    where = _where(session, dataset, signed.kind, {i for pair in shared.pairs for i in pair})
    across = [pair for pair in shared.pairs if _are_apart(signed.kind, pair, where)]
    leaks.n_pairs += len(shared.pairs)
    leaks.n_hot += len(shared.hot)
    found = leaks.similar_prompts if signed.kind == PROMPT else leaks.repeats
    found |= {(a.low, a.high) for a in verified(session, signed, across, recipe, templates)}


def _are_apart(kind: str, pair: tuple[int, int], where: dict[int, Where]) -> bool:
    one, other = (where.get(i) for i in pair)
    if one is None or other is None or len(one.splits | other.splits) == 1:
        return False
    return kind == EXAMPLE or not (one.is_named and other.is_named)


def _where(session: Session, dataset: Dataset, kind: str, ids: Iterable[int]) -> dict[int, Where]:
    """Return where the rows of some texts stand; texts without rows in the version are left out."""
    splits: dict[int, set[str]] = defaultdict(set)
    is_named: dict[int, bool] = defaultdict(lambda: True)
    given = {"dataset_id": dataset.id, "ids": array(ids)}
    with by_index(session):
        for row in session.execute(_WHERE[dataset.kind == PREFERENCE, kind], given):
            splits[row.id].add(row.split)
            is_named[row.id] &= row.is_named
    return {i: Where(frozenset(found), is_named[i]) for i, found in splits.items()}


def _torn_episodes(session: Session, dataset: Dataset, episodes: set[UUID]) -> set[UUID]:
    given = {"dataset_id": dataset.id, "ids": array(episodes)}
    with by_index(session):
        return set(session.execute(_TORN[dataset.kind == PREFERENCE], given).scalars())


def _places(source: str, *, is_pairs: bool) -> str:
    """Return SQL of the split of each row of the version that was made of an example `source`.

    `OFFSET 0` has the row's shards looked up first: on the statistics of tables that were just
    filled, the planner would try every shard of the version for each row.
    """
    if is_pairs:
        return f"""
            SELECT shard.split
            FROM (
                SELECT shard_row.shard FROM preference_pair
                JOIN shard_row ON shard_row.row_id = preference_pair.id
                WHERE preference_pair.winner_id = {source}.interaction_id OFFSET 0
            ) AS held
            JOIN dataset_shard AS shard ON shard.shard = held.shard
            WHERE shard.dataset_id = :dataset_id
        """
    return f"""
        SELECT shard.split
        FROM (SELECT shard FROM shard_row WHERE row_id = {source}.id OFFSET 0) AS held
        JOIN dataset_shard AS shard ON shard.shard = held.shard
        WHERE shard.dataset_id = :dataset_id
    """


_ROWS = text("SELECT example_id FROM dataset_example WHERE dataset_id = :dataset_id")

# A row whose answer alone is another one is as it was: what may not cross splits has like prompts.
_NEW_ROWS = text(
    """
    SELECT shard_row.row_id
    FROM dataset_shard AS shard JOIN shard_row ON shard_row.shard = shard.shard
    WHERE shard.dataset_id = :dataset_id
    AND NOT EXISTS (
        SELECT 1 FROM dataset_shard AS same
        WHERE same.dataset_id = :previous_id AND same.split = shard.split
          AND same.shard = shard.shard
    )
    AND NOT EXISTS (
        SELECT 1 FROM shard_row AS before
        JOIN dataset_shard AS same ON same.shard = before.shard
        WHERE before.row_id = shard_row.row_id
          AND same.dataset_id = :previous_id AND same.split = shard.split
    )
    """
)

_SOURCES_OF_EXAMPLES, _SOURCES_OF_PAIRS = (
    text(
        f"""
        SELECT example.text_id, example.prompt_text_id, example.episode_id
        FROM unnest(CAST(:ids AS uuid[])) AS given (id) {joined}
        """
    )
    for joined in (
        "JOIN example ON example.id = given.id",
        "JOIN preference_pair AS pair ON pair.id = given.id JOIN example "
        "ON example.interaction_id = pair.winner_id AND example.variant = pair.variant",
    )
)

_WHERE: Final = {
    (is_pairs, kind): text(
        f"""
        SELECT given.id, place.split, bool_and(starts_with(source.split_key, '{TASK_PREFIX}'))
            AS is_named
        FROM unnest(CAST(:ids AS bigint[])) AS given (id)
        CROSS JOIN LATERAL (
            SELECT id, interaction_id, split_key FROM example WHERE example.{column} = given.id
        ) AS source
        CROSS JOIN LATERAL ({_places("source", is_pairs=is_pairs)}) AS place
        GROUP BY given.id, place.split
        """
    )
    for is_pairs in (False, True)
    for kind, column in ((EXAMPLE, "text_id"), (PROMPT, "prompt_text_id"))
}

_TORN: Final = {
    is_pairs: text(
        f"""
        SELECT given.id
        FROM unnest(CAST(:ids AS uuid[])) AS given (id)
        CROSS JOIN LATERAL (
            SELECT count(DISTINCT place.split) AS n_splits
            FROM (
                SELECT id, interaction_id FROM example WHERE example.episode_id = given.id
            ) AS source
            CROSS JOIN LATERAL ({_places("source", is_pairs=is_pairs)}) AS place
        ) AS found
        WHERE n_splits > 1
        """
    )
    for is_pairs in (False, True)
}
