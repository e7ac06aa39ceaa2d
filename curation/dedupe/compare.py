"""Which examples repeat which: exact by hash, near by MinHash bands and a verified Jaccard.

Two examples are the same when their prompts *and* their answers are: one prompt with two answers is
two examples. Candidates come from equal band keys, kept in `example_band` and probed by index, and
each is verified on the exact shingle sets. An example joins a representative only by a direct
verified comparison (a star, never a chain), and the representative is the better-scored one.

In a short text every word counts, so below `short_below` words a repeat must also agree in what
carries meaning: the same numbers and operators, the same words of the answer in the same layout,
and a prompt that added or dropped words but swapped none ("sum" for "product") and moved none.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from functools import cached_property
from typing import Any, Final
from uuid import UUID

import numpy as np
from sqlalchemy import Integer, bindparam, delete, or_, select, text
from sqlalchemy import Uuid as UuidType
from sqlalchemy.dialects.postgresql import ARRAY, BIGINT
from sqlmodel import Session, col

from curation.columns import EXAMPLES, example
from curation.dedupe.minhash import (
    I64,
    U64,
    Ragged,
    band_keys,
    salt_of,
    shingle_hashes,
    signatures,
    word_hashes,
)
from curation.normalize import Normalized, normalize
from curation.recipe import RULE_VERSIONS, CurationRecipe
from curation.score.outcome import EXACT_DUPLICATE, NEAR_DUPLICATE, OVER_QUOTA, quality
from curation.tables import DROPPED, KEPT, ExampleBand

PROMPT_BANDS: Final = 16
"""Band numbers from here on index prompts alone; they tie examples to one split."""
_ANSWER_TAG: Final = np.uint64(0xA5A5_5A5A_C3C3_3C3C)
"""Sets answer shingles apart from prompt shingles in the one set of an example."""
_OPEN_REASONS: Final = (None, EXACT_DUPLICATE, NEAR_DUPLICATE, OVER_QUOTA)
_SENTENCE_MARKS: Final = frozenset(".,;:!?'\"`")


class Part:
    """A prompt or an answer as it is compared; what is costly is made when first needed."""

    def __init__(self, text: str, words: U64) -> None:
        self.text, self.words = text, words
        self._sets: dict[int, frozenset[int]] = {}

    def shingles(self, size: int) -> frozenset[int]:
        """Return the set of hashes of `size` consecutive words."""
        if size not in self._sets:
            one = Ragged(self.words, np.array([0, len(self.words)], dtype=np.int64))
            values = shingle_hashes(one, np.array([size])).values
            self._sets[size] = frozenset(values.tolist())
        return self._sets[size]

    @cached_property
    def numbers(self) -> Counter[str]:
        """Words that begin with a digit, with their counts."""
        return Counter(word for word in _words(self.text) if word[0].isdigit())

    @cached_property
    def operators(self) -> str:
        """Marks that are neither words nor punctuation of a sentence, in order."""
        return "".join(mark for mark in self.text if _is_operator(mark))

    @cached_property
    def layout(self) -> tuple[int, ...]:
        """Depth of each line."""
        return tuple(len(line) - len(line.lstrip("\t")) for line in self.text.split("\n"))


@dataclass(slots=True)
class Fingerprint:
    """What two examples are compared by; `own_keys` are stored, `probe_keys` looked up."""

    prompt: Part
    answer: Part
    own_keys: list[int] = field(default_factory=list)
    probe_keys: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Entry:
    """An example on its way through a batch: its columns, its compared text, its rank."""

    columns: dict[str, Any]
    text: Normalized
    quality: tuple[float, ...]
    is_stored: bool
    task_key: str | None = None
    fingerprint: Fingerprint | None = None
    anchor_keys: list[int] = field(default_factory=list)
    """Band keys of the prompt alone, where it stands for its group."""

    @property
    def id(self) -> UUID:
        """The example's id."""
        found: UUID = self.columns["id"]
        return found

    @property
    def rank(self) -> tuple[float, ...]:
        """Greater is better: quality, then the older one."""
        return (*self.quality, -self.id.int)

    @property
    def is_rejected(self) -> bool:
        """Whether form or outcome ruled it out before it was compared with anything."""
        return self.columns["drop_reason"] not in _OPEN_REASONS

    @property
    def is_kept(self) -> bool:
        """Whether it stands for its cluster."""
        return bool(self.columns["status"] == KEPT)

    def keep(self) -> None:
        """Make it the representative of its own cluster."""
        self.columns.update(
            status=KEPT, drop_reason=None, duplicate_of=None, similarity=None, cluster_id=self.id
        )

    def repeat(self, match: "Match") -> None:
        """Make it a repeat of the matched representative."""
        self.columns.update(
            status=DROPPED,
            drop_reason=EXACT_DUPLICATE if match.is_exact else NEAR_DUPLICATE,
            duplicate_of=match.kept.id,
            similarity=match.similarity,
            cluster_id=match.kept.id,
        )


@dataclass(frozen=True, slots=True)
class Match:
    """A representative that an entry repeats, and how closely."""

    kept: Entry
    similarity: float
    is_exact: bool


def fingerprints(
    texts: Sequence[Normalized], recipe: CurationRecipe, salt: np.uint64
) -> list[Fingerprint]:
    """Return the fingerprints of some examples, hashed in one go."""
    words = word_hashes([part for text in texts for part in (text.prompt, text.answer)])
    found = [
        Fingerprint(
            Part(text.prompt, words.row(2 * index)), Part(text.answer, words.row(2 * index + 1))
        )
        for index, text in enumerate(texts)
    ]
    owners, prompt_sizes, answer_sizes = [], [], []
    for index, made in enumerate(found):
        for prompt_size, answer_size in _size_pairs(made, recipe):
            owners.append(index)
            prompt_sizes.append(prompt_size)
            answer_sizes.append(answer_size)
    keys = _example_keys(words, owners, prompt_sizes, answer_sizes, recipe, salt)
    for owner, row in zip(owners, keys.tolist(), strict=True):
        made = found[owner]
        made.own_keys = made.own_keys or row
        made.probe_keys += row
    return found


def duplicate_similarity(
    one: Fingerprint, other: Fingerprint, recipe: CurationRecipe
) -> float | None:
    """Return the smaller Jaccard of answers and of prompts, or None if they are no repeats."""
    answers = answer_similarity(one.answer, other.answer, recipe)
    if answers is None:
        return None
    prompts = prompt_similarity(one.prompt, other.prompt, recipe)
    return None if prompts is None else min(answers, prompts)


def answer_similarity(one: Part, other: Part, recipe: CurationRecipe) -> float | None:
    """Return the Jaccard of two answers, or None if they differ; short ones to the word."""
    if _is_short(one, other, recipe) and (
        not np.array_equal(one.words, other.words)
        or one.operators != other.operators
        or one.layout != other.layout
    ):
        return None
    return _verified_jaccard(one, other, recipe)


def prompt_similarity(one: Part, other: Part, recipe: CurationRecipe) -> float | None:
    """Return the Jaccard of two prompts, or None if they ask for different things."""
    is_short = _is_short(one, other, recipe)
    if is_short and (one.numbers != other.numbers or one.operators != other.operators):
        return None
    similarity = _verified_jaccard(one, other, recipe)
    if is_short and similarity is not None and _swaps_words(one, other):
        return None
    return similarity


def jaccard(one: frozenset[int], other: frozenset[int]) -> float:
    """Return the share of common elements; 1.0 for two empty sets."""
    together = len(one | other)
    return len(one & other) / together if together else 1.0


def shingle_size(n_words: int, recipe: CurationRecipe) -> int:
    """Return the words per shingle of a text of `n_words` words."""
    if n_words < recipe.tiny_below:
        return 1
    return recipe.short_shingle if n_words < recipe.short_below else recipe.long_shingle


def find_repeats(index: "BandIndex", entries: Sequence[Entry]) -> list[Entry]:
    """Decide for each entry whether it is kept or repeats something; return all that was touched.

    `entries` are new or newly judged examples; the answer also holds stored ones whose verdict is
    open again: repeats of a representative that changed, and representatives (with their repeats)
    that a better entry beats. The caller writes all of them, then calls `index.add`.
    """
    pool = {entry.id: entry for entry in entries}
    index.remove([entry.id for entry in entries if entry.is_stored])
    members = index.members_of([entry.id for entry in entries if entry.is_stored])
    fresh = [entry for entry in (*entries, *members) if not entry.is_rejected]
    fresh = [entry for entry in fresh if pool.setdefault(entry.id, entry) is entry]
    stored: dict[UUID, list[Match]] = {}
    while fresh:
        index.sign(fresh)
        stored.update(index.matches(fresh, set(pool)))
        beaten = {
            match.kept.id: match.kept
            for entry in fresh
            for match in stored[entry.id]
            if entry.rank > match.kept.rank and match.kept.id not in pool
        }
        index.remove(list(beaten))
        reopened = {**beaten, **{entry.id: entry for entry in index.members_of(list(beaten))}}
        fresh = [entry for entry in reopened.values() if entry.id not in pool]
        pool.update({entry.id: entry for entry in fresh})
    _settle([e for e in pool.values() if not e.is_rejected], stored, index.recipe)
    return list(pool.values())


def _settle(entries: list[Entry], stored: dict[UUID, list[Match]], recipe: CurationRecipe) -> None:
    """Go through the entries, best first: each repeats something kept already, or is kept."""
    within = _KeptInBatch(recipe)
    in_batch = {entry.id for entry in entries}
    for entry in sorted(entries, key=lambda e: e.rank, reverse=True):
        matches = [m for m in stored[entry.id] if m.kept.id not in in_batch]
        matches += within.matches(entry)
        if matches:
            entry.repeat(max(matches, key=lambda m: (m.is_exact, m.similarity, m.kept.rank)))
        else:
            entry.keep()
            within.add(entry)


class _KeptInBatch:
    """The representatives of this batch, in memory, by hash and by band key."""

    def __init__(self, recipe: CurationRecipe) -> None:
        self.recipe = recipe
        self._by_hash: dict[str, Entry] = {}
        self._by_key: dict[int, list[Entry]] = defaultdict(list)

    def add(self, entry: Entry) -> None:
        assert entry.fingerprint is not None
        self._by_hash[entry.columns["norm_hash"]] = entry
        for key in entry.fingerprint.own_keys:
            self._by_key[key].append(entry)

    def matches(self, entry: Entry) -> list[Match]:
        exact = self._by_hash.get(entry.columns["norm_hash"])
        if exact is not None:
            return [Match(exact, 1.0, is_exact=True)]
        assert entry.fingerprint is not None
        near = {
            kept.id: kept
            for key in entry.fingerprint.probe_keys
            for kept in self._by_key.get(key, ())[: self.recipe.hot_bucket_cap]
        }
        return _verified(entry, near.values(), self.recipe)


class BandIndex:
    """The stored examples of one role and variant, found by hash or by band key."""

    def __init__(self, session: Session, role: str, recipe: CurationRecipe) -> None:
        self.session, self.role, self.recipe = session, role, recipe
        self.n_compared = 0
        """Pairs verified so far."""
        self.n_hot = 0
        """Pairs not compared because a bucket was over its cap: an alarm for template texts."""
        version = str(RULE_VERSIONS["signature"])
        self.salt = salt_of(role, recipe.variant, version)
        self.prompt_salt = salt_of(role, recipe.variant, version, "prompt")

    def sign(self, entries: Iterable[Entry]) -> None:
        """Give each entry its fingerprint."""
        unsigned = [entry for entry in entries if entry.fingerprint is None]
        made = fingerprints([entry.text for entry in unsigned], self.recipe, self.salt)
        for entry, fingerprint in zip(unsigned, made, strict=True):
            entry.fingerprint = fingerprint

    def matches(self, entries: Sequence[Entry], without: set[UUID]) -> dict[UUID, list[Match]]:
        """Return the stored representatives that each entry repeats, but for those in `without`."""
        exact = self._exact(entries, without)
        rest = [entry for entry in entries if entry.id not in exact]
        return {**exact, **self._near(rest, without)}

    def add(self, entries: Iterable[Entry]) -> None:
        """Store the band keys of kept entries, whose rows must exist."""
        self.store_keys(
            [
                (entry.id, band, key)
                for entry in entries
                if entry.fingerprint is not None
                for band, key in enumerate(entry.fingerprint.own_keys)
            ]
        )

    def store_keys(self, rows: list[tuple[UUID, int, int]]) -> None:
        """Store (example id, band, key) rows; one that is there already is replaced."""
        if rows:
            ids, bands, keys = zip(*rows, strict=True)
            self.session.execute(_STORE_KEYS, {"ids": ids, "bands": bands, "keys": keys})

    def remove(self, ids: Sequence[UUID], from_band: int = 0) -> None:
        """Take examples out of the index of whole texts (or of prompts, from `PROMPT_BANDS`)."""
        if ids:
            band = col(ExampleBand.band)
            self.session.execute(
                delete(ExampleBand).where(
                    col(ExampleBand.example_id).in_(ids),
                    band >= from_band,
                    band < from_band + PROMPT_BANDS,
                )
            )

    def probe(self, keys: Sequence[tuple[int, int]]) -> dict[int, list[UUID]]:
        """Return, per number, the indexed examples that share one of its (number, key) pairs.

        Forced to look each key up in the index: left alone, the planner soon reads the whole table.
        """
        if not keys:
            return {}
        numbers, values = zip(*keys, strict=True)
        arguments = {"numbers": numbers, "keys": values, "cap": self.recipe.hot_bucket_cap}
        self.session.execute(text("SET LOCAL enable_seqscan = off"))
        rows = self.session.execute(_PROBE, arguments).all()
        self.session.execute(text("SET LOCAL enable_seqscan TO DEFAULT"))
        found: dict[int, list[UUID]] = defaultdict(list)
        for number, example_id, is_over_cap in rows:
            if is_over_cap:
                self.n_hot += 1
            else:
                found[number].append(example_id)
        return found

    def members_of(self, ids: Sequence[UUID]) -> list[Entry]:
        """Return the stored repeats of some representatives."""
        if not ids:
            return []
        return self._load(example.cluster_id.in_(ids) & example.duplicate_of.in_(ids))

    def load(self, ids: Iterable[UUID]) -> dict[UUID, Entry]:
        """Return stored examples by id, with their fingerprints."""
        wanted = list(ids)
        loaded = self._load(example.id.in_(wanted)) if wanted else []
        self.sign(loaded)
        return {entry.id: entry for entry in loaded}

    def _exact(self, entries: Sequence[Entry], without: set[UUID]) -> dict[UUID, list[Match]]:
        loaded = self._load(
            (example.role == self.role)
            & (example.variant == self.recipe.variant)
            & example.norm_hash.in_({entry.columns["norm_hash"] for entry in entries})
            & or_(example.status == KEPT, example.drop_reason == OVER_QUOTA)
        )
        by_hash = {kept.columns["norm_hash"]: kept for kept in loaded if kept.id not in without}
        return {
            entry.id: [Match(by_hash[entry.columns["norm_hash"]], 1.0, is_exact=True)]
            for entry in entries
            if entry.columns["norm_hash"] in by_hash
        }

    def _near(self, entries: Sequence[Entry], without: set[UUID]) -> dict[UUID, list[Match]]:
        found = self.probe(
            [
                (number, key)
                for number, entry in enumerate(entries)
                if entry.fingerprint is not None
                for key in entry.fingerprint.probe_keys
            ]
        )
        ids = {i for candidates in found.values() for i in candidates} - without
        kept = self.load(ids)
        matches = {}
        for number, entry in enumerate(entries):
            candidates = [kept[i] for i in found.get(number, ()) if i in kept]
            self.n_compared += len(candidates)
            matches[entry.id] = _verified(entry, candidates, self.recipe)
        return matches

    def _load(self, condition: Any) -> list[Entry]:
        rows = self.session.execute(select(EXAMPLES).where(condition)).mappings().all()
        return [stored_entry(dict(row), self.recipe) for row in rows]


def stored_entry(columns: dict[str, Any], recipe: CurationRecipe) -> Entry:
    """Return the entry of a stored row."""
    return Entry(
        columns,
        normalize(columns["prompt"], columns["answer"]),
        quality(columns["score"], columns["scores"], columns["corrected"], recipe),
        is_stored=True,
    )


def _verified(entry: Entry, candidates: Iterable[Entry], recipe: CurationRecipe) -> list[Match]:
    assert entry.fingerprint is not None
    found = []
    for kept in candidates:
        assert kept.fingerprint is not None
        similarity = duplicate_similarity(entry.fingerprint, kept.fingerprint, recipe)
        if similarity is not None:
            found.append(Match(kept, similarity, is_exact=False))
    return found


def _size_pairs(made: Fingerprint, recipe: CurationRecipe) -> list[tuple[int, int]]:
    """Return the (prompt, answer) shingle sizes to look up, its own first; none without words.

    Near a boundary of lengths a repeat may have been indexed with the next size, so both count.
    """
    if not len(made.prompt.words) and not len(made.answer.words):
        return []
    prompt_sizes = _sizes_nearby(len(made.prompt.words), recipe)
    answer_sizes = _sizes_nearby(len(made.answer.words), recipe)
    return [(p, a) for p in prompt_sizes for a in answer_sizes]


def _sizes_nearby(n_words: int, recipe: CurationRecipe) -> list[int]:
    least = recipe.near_duplicate_threshold
    lengths = (n_words, int(n_words * least), int(n_words / least))
    return list(dict.fromkeys(shingle_size(n, recipe) for n in lengths))


def _example_keys(
    words: Ragged,
    owners: list[int],
    prompt_sizes: list[int],
    answer_sizes: list[int],
    recipe: CurationRecipe,
    salt: np.uint64,
) -> I64:
    """Return band keys over the union of tagged prompt and answer shingles, one row per owner."""
    rows = np.array([(2 * owner, 2 * owner + 1) for owner in owners], dtype=np.int64).reshape(-1)
    sizes = np.array(list(zip(prompt_sizes, answer_sizes, strict=True)), dtype=np.int64)
    shingles = shingle_hashes(words.take(rows), sizes.reshape(-1))
    is_answer = np.repeat(np.arange(len(rows)) % 2 == 1, shingles.lengths)
    tagged = np.where(is_answer, shingles.values ^ _ANSWER_TAG, shingles.values)
    both = Ragged(tagged, shingles.offsets[::2])
    salts = np.full(len(owners), salt, dtype=np.uint64)
    return band_keys(signatures(both, recipe.num_perm), recipe.bands, recipe.rows, salts)


def prompt_keys(
    parts: Sequence[Part], recipe: CurationRecipe, salt: np.uint64
) -> list[tuple[list[int], list[int]]]:
    """Return (own keys, keys to look up) of each prompt alone; a prompt without words has none."""
    owners, sizes = [], []
    for index, part in enumerate(parts):
        for size in _sizes_nearby(len(part.words), recipe) if len(part.words) else ():
            owners.append(index)
            sizes.append(size)
    offsets = np.cumsum([0, *(len(part.words) for part in parts)], dtype=np.int64)
    words = Ragged(np.concatenate([np.empty(0, np.uint64), *(p.words for p in parts)]), offsets)
    rows = words.take(np.array(owners, dtype=np.int64))
    found = signatures(shingle_hashes(rows, np.array(sizes, dtype=np.int64)), recipe.num_perm)
    salts = np.full(len(owners), salt, dtype=np.uint64)
    keys: list[tuple[list[int], list[int]]] = [([], []) for _ in parts]
    all_keys = band_keys(found, recipe.bands, recipe.rows, salts).tolist()
    for owner, row in zip(owners, all_keys, strict=True):
        own, probed = keys[owner]
        keys[owner] = (own or row, probed + row)
    return keys


def _verified_jaccard(one: Part, other: Part, recipe: CurationRecipe) -> float | None:
    shorter, longer = sorted((len(one.words), len(other.words)))
    threshold = recipe.near_duplicate_threshold
    if shorter < longer * threshold:
        return None
    size = shingle_size(shorter, recipe)
    similarity = jaccard(one.shingles(size), other.shingles(size))
    return similarity if similarity >= threshold else None


def _swaps_words(one: Part, other: Part) -> bool:
    """Return whether a text has other words in the place of the other's, or its words elsewhere."""
    ours, theirs = one.words.tolist(), other.words.tolist()
    added, dropped = set(), set()
    for tag, a, b, c, d in SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes():
        if tag == "replace":
            return True
        if tag != "equal":
            dropped.update(ours[a:b])
            added.update(theirs[c:d])
    return not added.isdisjoint(dropped)


def _is_short(one: Part, other: Part, recipe: CurationRecipe) -> bool:
    return min(len(one.words), len(other.words)) < recipe.short_below


def _is_operator(mark: str) -> bool:
    return not (mark.isalnum() or mark.isspace() or mark == "_" or mark in _SENTENCE_MARKS)


def _words(text: str) -> list[str]:
    return "".join(c if c.isalnum() or c == "_" else " " for c in text).split()


_STORE_KEYS = text(
    """
    INSERT INTO example_band (example_id, band, key)
    SELECT * FROM unnest(:ids, :bands, :keys)
    ON CONFLICT (example_id, band) DO UPDATE SET key = excluded.key
    """
).bindparams(
    bindparam("ids", type_=ARRAY(UuidType)),
    bindparam("bands", type_=ARRAY(Integer)),
    bindparam("keys", type_=ARRAY(BIGINT)),
)

_PROBE = text(
    """
    SELECT probed.number, found.example_id, min(found.place) > :cap
    FROM unnest(:numbers, :keys) AS probed (number, key)
    CROSS JOIN LATERAL (
        SELECT example_id, row_number() OVER (ORDER BY example_id) AS place
        FROM example_band
        WHERE example_band.key = probed.key
        LIMIT :cap + 1
    ) AS found
    GROUP BY probed.number, found.example_id
    ORDER BY probed.number, found.example_id
    """
).bindparams(
    bindparam("numbers", type_=ARRAY(Integer)),
    bindparam("keys", type_=ARRAY(BIGINT)),
)
