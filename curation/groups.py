"""Which examples must stay in one split: one task, one episode, prompts that ask the same.

A key per group is kept with each example (`split_key`), and new examples take the key of what they
are tied to. When one ties two groups together they become one, under the stricter split's key; a
published version is never touched.
"""

from collections.abc import Iterable, Sequence
from uuid import UUID

from sqlalchemy import select, update
from sqlmodel import Session

from curation.columns import EXAMPLES, example
from curation.dedupe.compare import (
    PROMPT_BANDS,
    BandIndex,
    Entry,
    Part,
    prompt_keys,
    prompt_similarity,
)
from curation.recipe import CurationRecipe
from curation.split import TASK_PREFIX, split_of, strictest, task_split_key


def assign_groups(index: BandIndex, entries: Sequence[Entry], *, again: bool = False) -> None:
    """Give each kept entry its split key and split; `again` also looks at those that have one.

    The entries' rows need not exist yet: the caller writes them, then calls `store_anchors`.
    Stored groups found to be one are renamed here.
    """
    for entry in entries:
        if entry.task_key is not None:
            entry.columns["split_key"] = task_split_key(entry.task_key)
    free = [e for e in entries if e.is_kept and (again or not e.columns["split_key"])]
    free = [e for e in free if not e.columns["split_key"].startswith(TASK_PREFIX)]
    if free:
        _tie(index, sorted(free, key=lambda e: e.id))
    for entry in entries:
        if entry.columns["split_key"]:
            entry.columns["split"] = split_of(entry.columns["split_key"], index.recipe)


def _tie(index: BandIndex, free: list[Entry]) -> None:
    groups = _Groups()
    for entry in free:
        groups.add(_label(entry))
    _tie_episodes(index, free, groups)
    _tie_prompts(index, free, groups)
    fresh = {_label(entry) for entry in free if not entry.columns["split_key"]}
    renamed = groups.renamed(index.recipe, fresh)
    for entry in free:
        label = _label(entry)
        entry.columns["split_key"] = renamed.get(label, label)
    stored = {old: new for old, new in renamed.items() if old not in fresh}
    _rename_stored(index.session, index.role, index.recipe, stored)


def _tie_episodes(index: BandIndex, free: list[Entry], groups: "_Groups") -> None:
    first: dict[UUID, str] = {}
    for entry in free:
        episode = entry.columns["episode_id"]
        if episode is not None:
            groups.join(first.setdefault(episode, _label(entry)), _label(entry))
    if not first:
        return
    rows = index.session.execute(
        select(example.episode_id, example.split_key)
        .where(
            example.episode_id.in_(list(first)),
            example.role == index.role,
            example.variant == index.recipe.variant,
            example.split_key != "",
        )
        .distinct()
    )
    for episode, label in rows:
        groups.join(first[episode], label)


def _tie_prompts(index: BandIndex, free: list[Entry], groups: "_Groups") -> None:
    """Join examples whose prompts are near-equal: each other's, and those of stored anchors.

    One anchor per distinct prompt is indexed, so a prompt asked a thousand times is one entry.
    """
    index.remove([entry.id for entry in free if entry.is_stored], from_band=PROMPT_BANDS)
    index.sign(free)
    distinct: dict[str, Entry] = {}
    for entry in free:
        groups.join(_label(distinct.setdefault(_prompt(entry).text, entry)), _label(entry))
    asked = list(distinct.values())
    keys = prompt_keys([_prompt(entry) for entry in asked], index.recipe, index.prompt_salt)
    for entry, (own, _) in zip(asked, keys, strict=True):
        entry.anchor_keys = own
    _tie_to_anchors(index, asked, [wanted for _, wanted in keys], groups)
    _tie_in_batch(asked, keys, groups, index.recipe)


def _tie_to_anchors(
    index: BandIndex, asked: list[Entry], keys: list[list[int]], groups: "_Groups"
) -> None:
    """Join with stored prompts; one that is indexed to the letter needs no anchor of its own."""
    probed = index.probe([(number, key) for number, row in enumerate(keys) for key in row])
    anchors = index.load({anchor for ids in probed.values() for anchor in ids})
    for number, entry in enumerate(asked):
        for found in (anchors[i] for i in probed.get(number, ())):
            if prompt_similarity(_prompt(entry), _prompt(found), index.recipe) is not None:
                groups.join(_label(entry), _label(found))
                if _prompt(entry).text == _prompt(found).text:
                    entry.anchor_keys = []


def _tie_in_batch(
    asked: list[Entry],
    keys: list[tuple[list[int], list[int]]],
    groups: "_Groups",
    recipe: CurationRecipe,
) -> None:
    """Join the prompts of one batch with each other."""
    buckets: dict[int, list[Entry]] = {}
    for entry, (own, wanted) in zip(asked, keys, strict=True):
        near = {other.id: other for key in wanted for other in buckets.get(key, ())}
        for other in near.values():
            if prompt_similarity(_prompt(entry), _prompt(other), recipe) is not None:
                groups.join(_label(entry), _label(other))
        for key in own:
            bucket = buckets.setdefault(key, [])
            if len(bucket) < recipe.hot_bucket_cap:
                bucket.append(entry)


def store_anchors(index: BandIndex, entries: Iterable[Entry]) -> None:
    """Index the prompts that stand for a group; the entries' rows must exist."""
    index.store_keys(
        [
            (entry.id, PROMPT_BANDS + band, key)
            for entry in entries
            for band, key in enumerate(entry.anchor_keys)
        ]
    )


def _rename_stored(
    session: Session, role: str, recipe: CurationRecipe, renamed: dict[str, str]
) -> None:
    for old, new in renamed.items():
        session.execute(
            update(EXAMPLES)
            .where(
                example.role == role, example.variant == recipe.variant, example.split_key == old
            )
            .values(split_key=new, split=split_of(new, recipe))
        )


def _label(entry: Entry) -> str:
    return entry.columns["split_key"] or f"example:{entry.id}"


def _prompt(entry: Entry) -> Part:
    assert entry.fingerprint is not None
    return entry.fingerprint.prompt


class _Groups:
    """Union-find over split keys."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def add(self, label: str) -> str:
        """Return the root of a label, new or known."""
        root = self._parent.setdefault(label, label)
        while root != self._parent[root]:
            root = self._parent[root]
        self._parent[label] = root
        return root

    def join(self, one: str, other: str) -> None:
        """Make two labels one group."""
        self._parent[self.add(one)] = self.add(other)

    def renamed(self, recipe: CurationRecipe, fresh: set[str]) -> dict[str, str]:
        """Return the new label of each label that loses its name; tasks never do.

        Labels that existed before win over fresh ones, the strictest split among them.
        """
        members: dict[str, list[str]] = {}
        for label in self._parent:
            members.setdefault(self.add(label), []).append(label)
        changed = {}
        for labels in members.values():
            winner = strictest([x for x in labels if x not in fresh] or [min(labels)], recipe)
            for label in labels:
                if label != winner and not label.startswith(TASK_PREFIX):
                    changed[label] = winner
        return changed
