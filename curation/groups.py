"""Which examples must stay in one split: prompts that ask the same, one episode, one project.

A key per group is kept with each example (`split_key`), and new examples take the key of what they
are tied to. When one ties two groups together they become one, under the stricter split's key; a
published version is never touched. Examples that are no longer kept still tie: an earlier version
may have tested on them.

Prompts of two tasks that the caller named may be near: the names say they are two. Equal ones, as
compared, are one task whatever they are called. A task whose group took another name is found by
what its examples are called.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import TextClause, text
from sqlmodel import Session

from curation.boilerplate import Templates
from curation.dedupe.buckets import array, by_index
from curation.dedupe.compare import PROMPT
from curation.dedupe.index import comparison_version, text_id_of
from curation.dedupe.settle import lock_verdicts
from curation.recipe import CurationRecipe
from curation.split import TASK_PREFIX, group_split_key, split_of, strictest

_ROWS_AT_ONCE: Final = 10_000
_LABELS_OF_ONE: Final = 1000
"""Examples of one prompt or episode that are read for their keys: all of them have one key, but for
tasks that the caller named."""


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A kept example whose group is open."""

    id: UUID
    project: str
    episode_id: UUID | None
    prompt_text_id: int | None
    split_key: str
    task_key: str | None

    @property
    def label(self) -> str:
        """The key that it comes with, or the one that it would found a group with."""
        return self.split_key or group_split_key(self.project, self.id)


@dataclass(frozen=True, slots=True)
class Ties:
    """What is known of the things that newcomers share with each other and with older examples."""

    by_prompt: dict[int, set[str]]
    by_task: dict[str, set[str]]
    by_episode: dict[UUID, set[str]]
    by_project: dict[str, set[str]]
    near_prompts: list[tuple[int, int]]


class Groups:
    """Union-find over split keys."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def root(self, label: str) -> str:
        """Return the root of a label, new or known."""
        root = self._parent.setdefault(label, label)
        while root != self._parent[root]:
            self._parent[root] = self._parent[self._parent[root]]
            root = self._parent[root]
        self._parent[label] = root
        return root

    def join(self, labels: Iterable[str]) -> None:
        """Make some labels one group."""
        first = None
        for label in labels:
            first = first or label
            self._parent[self.root(label)] = self.root(first)

    def members(self) -> list[list[str]]:
        """Return the labels of each group."""
        found: dict[str, list[str]] = defaultdict(list)
        for label in self._parent:
            found[self.root(label)].append(label)
        return list(found.values())


def assign_groups(session: Session, role: str, recipe: CurationRecipe, templates: Templates) -> int:
    """Give the kept examples that `settle` left marked their split; return how many there were.

    Likenesses of prompts are read from the evidence that comparing left.
    """
    lock_verdicts(session, role, recipe.variant)
    world = {"role": role, "variant": recipe.variant}
    newcomers = [Newcomer(*row) for row in session.execute(_NEWCOMERS, world)]
    if not newcomers:
        return 0
    empty = text_id_of(role, recipe.variant, PROMPT, "")
    with by_index(session):
        ties = _ties(session, recipe, newcomers, world, empty)
        renamed = rename(tie(newcomers, ties), newcomers, recipe)
        _rename_stored(session, recipe, world, renamed)
        _store(session, recipe, newcomers, renamed)
    return len(newcomers)


def tie(newcomers: Sequence[Newcomer], ties: Ties) -> Groups:
    """Return the groups that the newcomers make with what they are tied to; pure."""
    groups = Groups()
    for one in newcomers:
        groups.root(one.label)
    for shared in (ties.by_prompt, ties.by_task, ties.by_episode, ties.by_project):
        for labels in shared.values():
            groups.join(sorted(labels))
    for low, high in ties.near_prompts:
        here, there = ties.by_prompt.get(low, set()), ties.by_prompt.get(high, set())
        if here and there and not all(label.startswith(TASK_PREFIX) for label in here | there):
            groups.join((min(here), min(there)))
    return groups


def rename(groups: Groups, newcomers: Iterable[Newcomer], recipe: CurationRecipe) -> dict[str, str]:
    """Return the new key of each label that loses its name; pure.

    Keys that existed before win over those that newcomers would found a group with, the strictest
    among them.
    """
    founding = {one.label for one in newcomers if not one.split_key}
    changed = {}
    for labels in groups.members():
        older = [label for label in labels if label not in founding]
        winner = strictest(older, recipe) if older else min(labels)
        changed.update({label: winner for label in labels if label != winner})
    return changed


def _ties(
    session: Session,
    recipe: CurationRecipe,
    newcomers: Sequence[Newcomer],
    world: dict[str, str],
    empty_prompt: int,
) -> Ties:
    by_prompt: dict[int, set[str]] = defaultdict(set)
    by_task: dict[str, set[str]] = defaultdict(set)
    by_episode: dict[UUID, set[str]] = defaultdict(set)
    by_project: dict[str, set[str]] = defaultdict(set)
    for one in newcomers:
        if one.prompt_text_id not in (None, empty_prompt):
            by_prompt[one.prompt_text_id].add(one.label)
        if one.task_key is not None:
            by_task[one.task_key].add(one.label)
        if one.episode_id is not None and "episode" in recipe.keep_together:
            by_episode[one.episode_id].add(one.label)
        if "project" in recipe.keep_together:
            by_project[one.project].add(one.label)
    near = _near_prompts(session, recipe, list(by_prompt))
    prompts = {i for pair in near for i in pair} | by_prompt.keys()
    _add_stored(session, _KEYS_BY_PROMPT, by_prompt, prompts, world)
    _add_stored(session, _KEYS_BY_TASK, by_task, list(by_task), world)
    _add_stored(session, _KEYS_BY_EPISODE, by_episode, list(by_episode), world)
    for project, labels in by_project.items():
        labels.update(session.execute(_KEY_BY_PROJECT, {**world, "project": project}).scalars())
    return Ties(by_prompt, by_task, by_episode, by_project, near)


def _near_prompts(
    session: Session, recipe: CurationRecipe, prompts: Sequence[int]
) -> list[tuple[int, int]]:
    version = comparison_version(recipe)
    return [
        (low, high)
        for some in _slices(prompts)
        for low, high in session.execute(_NEAR_PROMPTS, {"ids": array(some), "version": version})
    ]


def _add_stored(
    session: Session,
    query: TextClause,
    labels: dict[Any, set[str]],
    wanted: Iterable[Any],
    world: dict[str, str],
) -> None:
    for some in _slices(sorted(wanted)):
        given = {**world, "ids": list(some), "at_most": _LABELS_OF_ONE}
        for shared, split_key in session.execute(query, given):
            labels[shared].add(split_key)


def _rename_stored(
    session: Session, recipe: CurationRecipe, world: dict[str, str], renamed: dict[str, str]
) -> None:
    """Give the stored examples of groups that became one the key that won."""
    if renamed:
        wins = list(renamed.values())
        session.execute(
            _RENAME,
            {
                **world,
                "old": list(renamed),
                "new": wins,
                "splits": [split_of(key, recipe) for key in wins],
            },
        )


def _store(
    session: Session,
    recipe: CurationRecipe,
    newcomers: Sequence[Newcomer],
    renamed: dict[str, str],
) -> None:
    for some in _slices(newcomers):
        keys = [renamed.get(one.label, one.label) for one in some]
        session.execute(
            _STORE,
            {
                "ids": array(one.id for one in some),
                "keys": keys,
                "splits": [split_of(key, recipe) for key in keys],
            },
        )


def _slices(values: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (values[start : start + _ROWS_AT_ONCE] for start in range(0, len(values), _ROWS_AT_ONCE))


# `IS TRUE` keeps a condition from being looked up in an index that is no help: on statistics from
# before a bulk load the planner thinks all indexes alike.
_NEWCOMERS = text(
    """
    SELECT id, project, episode_id, prompt_text_id, split_key, scores->>'task_key'
    FROM example
    WHERE role = :role AND variant = :variant AND needs_settling AND (status = 'kept') IS TRUE
    ORDER BY id
    """
)

_NEAR_PROMPTS = text(
    """
    SELECT edge.low, edge.high
    FROM unnest(CAST(:ids AS bigint[])) AS given (id)
    CROSS JOIN LATERAL (
        SELECT low, high, kind, rule_version, disposed FROM text_edge WHERE low = given.id
        UNION ALL
        SELECT low, high, kind, rule_version, disposed FROM text_edge WHERE high = given.id
    ) AS edge
    WHERE edge.kind = 'prompt' AND edge.rule_version = :version
      AND edge.disposed IS DISTINCT FROM 'distinct'
    """
)

_KEYS_BY_PROMPT, _KEYS_BY_TASK, _KEYS_BY_EPISODE = (
    text(
        f"""
        SELECT given.id, found.split_key
        FROM unnest(CAST(:ids AS {kind}[])) AS given (id)
        CROSS JOIN LATERAL (
            SELECT DISTINCT split_key FROM (
                SELECT split_key FROM example
                WHERE ({column}) = given.id AND split_key <> ''
                  AND (role = :role) IS TRUE AND (variant = :variant) IS TRUE
                LIMIT :at_most
            ) AS tied
        ) AS found
        """
    )
    for column, kind in (
        *(("prompt_text_id", "bigint"), ("scores->>'task_key'", "text"), ("episode_id", "uuid")),
    )
)

_KEY_BY_PROJECT = text(
    """
    SELECT split_key FROM example
    WHERE role = :role AND variant = :variant AND status = 'kept'
      AND project = :project AND split_key <> ''
    LIMIT 1
    """
)

_RENAME = text(
    """
    UPDATE example SET split_key = given.new, split = given.split
    FROM unnest(CAST(:old AS text[]), CAST(:new AS text[]), CAST(:splits AS text[]))
        AS given (old, new, split)
    WHERE role = :role AND variant = :variant AND split_key = given.old
    """
)

_STORE = text(
    """
    UPDATE example SET split_key = given.key, split = given.split, needs_settling = false
    FROM unnest(CAST(:ids AS uuid[]), CAST(:keys AS text[]), CAST(:splits AS text[]))
        AS given (id, key, split)
    WHERE example.id = given.id
    """
)
