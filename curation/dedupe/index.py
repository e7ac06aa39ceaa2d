"""The near-duplicate index in SQL: texts go in, are compared with what is there, and go out.

A text is put in once, by its own hash, with all keys that it is ever looked up by; so whether a
pair meets does not depend on which of the two came first. Texts are compared only after they were
committed (insert, commit, probe): two workers can then not both miss each other.
"""

import hashlib
from collections import ChainMap, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import psycopg
from sqlalchemy import text
from sqlmodel import Session

from curation.boilerplate import Templates
from curation.dedupe.buckets import Signed, array, by_index, shared_buckets
from curation.dedupe.compare import (
    EXAMPLE,
    PROMPT,
    Fingerprint,
    Part,
    duplicate_similarity,
    fingerprints,
    prompt_keys,
    prompt_similarity,
    world_salt,
)
from curation.dedupe.minhash import word_hashes
from curation.normalize import Normalized, normalize_all
from curation.recipe import RULE_VERSIONS, CurationRecipe

NEAR: Final = "near"
"""Kind of the edge between two texts of kind `example`; that of prompts is `prompt`."""
_LOADED_AT_ONCE: Final = 1000
_COMPARING_KNOBS: Final = (
    *("near_duplicate_threshold", "num_perm", "bands", "rows"),
    *("long_shingle", "short_shingle", "short_below", "tiny_below"),
)


@dataclass(slots=True)
class Compared:
    """What came of comparing some texts."""

    n_probed: int = 0
    """Texts that were looked up, prompts counted apart."""
    n_pairs: int = 0
    """Pairs that share a bucket, each verified."""
    n_edges: int = 0
    """Pairs found alike."""
    hot: list[dict[str, Any]] = field(default_factory=list)
    """Buckets over the cap, largest first: an alarm, for such texts are template as a rule."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """Two indexed texts of one kind that were compared and found alike; `low` is the lesser id."""

    low: int
    high: int
    kind: str
    similarity: float


def text_id_of(role: str, variant: str, kind: str, compared: str) -> int:
    """Return the id of a compared text: the first 64 bits, signed, of a SHA-256 of all four."""
    said = f"{role}\0{variant}\0{kind}\0{compared}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(said).digest()[:8], signed=True)


def text_ids_of(role: str, variant: str, compared: Normalized) -> tuple[int, int]:
    """Return the ids of an example's whole compared text and of its prompt alone."""
    whole = f"{compared.prompt}\0{compared.answer}"
    return (
        text_id_of(role, variant, EXAMPLE, whole),
        text_id_of(role, variant, PROMPT, compared.prompt),
    )


def comparison_version(recipe: CurationRecipe) -> int:
    """Return a number (31 bits) of all that keys and verified likenesses depend on but the texts.

    Keys and edges of another version count as absent: a changed recipe indexes and compares anew.
    """
    knobs = [getattr(recipe, name) for name in _COMPARING_KNOBS]
    said = repr((knobs, RULE_VERSIONS["normalize"], RULE_VERSIONS["signature"]))
    return int.from_bytes(hashlib.sha256(said.encode()).digest()[:4]) >> 1


def index_texts(
    session: Session, role: str, recipe: CurationRecipe, texts: Sequence[Normalized]
) -> list[tuple[int, int]]:
    """Index some compared texts, and their prompts, where they are not; return both ids of each.

    The caller commits before `compare_texts` is called on them.
    """
    ids = [text_ids_of(role, recipe.variant, one) for one in texts]
    if not ids:
        return ids
    _lock_index(session, role, recipe.variant, shared=True)
    fresh = _insert_unknown(session, role, recipe, ids)
    wanted = {pair: one for pair, one in zip(ids, texts, strict=True) if fresh & set(pair)}
    for signed in _signed(role, recipe, wanted):
        _copy_keys(session, {i: keys for i, keys in signed.keys.items() if i in fresh})
    return ids


def compare_texts(
    session: Session,
    role: str,
    recipe: CurationRecipe,
    templates: Templates,
    text_ids: Sequence[int],
) -> Compared:
    """Compare indexed texts, and their prompts, with all that share a bucket; keep what holds.

    Doing it again changes nothing. Texts without an example are passed over.
    """
    done = Compared()
    found: list[Likeness] = []
    for signed in sign_texts(session, role, recipe, templates, text_ids):
        shared = shared_buckets(session, signed, recipe)
        alike = verified(session, signed, shared.pairs, recipe, templates)
        found += alike
        done.n_probed += len(signed.keys)
        done.n_pairs += len(shared.pairs)
        done.n_edges += len(alike)
        done.hot += shared.hot
    _store_edges(session, found, comparison_version(recipe))
    return done


def sign_texts(
    session: Session,
    role: str,
    recipe: CurationRecipe,
    templates: Templates,
    text_ids: Iterable[int],
) -> tuple[Signed, Signed]:
    """Return the texts of the given ids, and the distinct prompts of these, with their keys."""
    loaded = _load(session, EXAMPLE, text_ids, templates)
    wanted = {(i, text_ids_of(role, recipe.variant, one)[1]): one for i, one in loaded.items()}
    return _signed(role, recipe, wanted)


def verified(
    session: Session,
    signed: Signed,
    pairs: Iterable[tuple[int, int]],
    recipe: CurationRecipe,
    templates: Templates,
) -> list[Likeness]:
    """Return which pairs of one kind are alike by exact Jaccard, in order of their ids.

    One text of each pair is signed; the other is read from one of its examples, some at a time.
    """
    waiting: dict[int, list[tuple[int, int]]] = defaultdict(list)
    here: list[tuple[int, int]] = []
    for pair in pairs:
        absent = [i for i in pair if i not in signed.prints]
        (waiting[absent[0]] if absent else here).append(pair)
    found = _alike(signed.kind, here, signed.prints, recipe)
    others = sorted(waiting)
    for start in range(0, len(others), _LOADED_AT_ONCE):
        loaded = _load(session, signed.kind, others[start : start + _LOADED_AT_ONCE], templates)
        known = ChainMap(_prints(loaded), signed.prints)
        found += _alike(signed.kind, [p for i in loaded for p in waiting[i]], known, recipe)
    return sorted(found, key=lambda one: (one.low, one.high))


def remove_texts(session: Session, text_ids: Sequence[int]) -> int:
    """Take texts that no example has any more out of index and evidence; return how many.

    Reads the band table once, however many texts there are: keys of older recipes go too.
    """
    if not text_ids:
        return 0
    given = {"ids": array(set(text_ids))}
    for row in session.execute(_WORLDS_OF, given).all():
        _lock_index(session, row.role, row.variant, shared=False)
    gone = session.execute(_WITHOUT_EXAMPLE, given).scalars().all()
    if gone:
        for statement in _REMOVALS:
            session.execute(statement, {"ids": array(gone)})
    return len(gone)


def _lock_index(session: Session, role: str, variant: str, *, shared: bool) -> None:
    """Keep a text from being removed while it is being put in, until the transaction ends."""
    session.execute(_LOCK_SHARED if shared else _LOCK, {"key": f"index:{role}:{variant}"})


def _insert_unknown(
    session: Session, role: str, recipe: CurationRecipe, ids: Sequence[tuple[int, int]]
) -> set[int]:
    """Insert the texts that are not indexed under this recipe; return their ids."""
    kinds = {i: kind for pair in ids for i, kind in zip(pair, (EXAMPLE, PROMPT), strict=True)}
    inserted = session.execute(
        _INSERT_UNKNOWN,
        {
            "ids": array(kinds),
            "kinds": array(kinds.values()),
            "role": role,
            "variant": recipe.variant,
            "version": comparison_version(recipe),
        },
    )
    return set(inserted.scalars())


def _signed(
    role: str, recipe: CurationRecipe, texts: Mapping[tuple[int, int], Normalized]
) -> tuple[Signed, Signed]:
    """Return some texts by (id, id of the prompt), and their distinct prompts, with their keys."""
    made = fingerprints(list(texts.values()), recipe, world_salt(role, recipe))
    wholes = {whole: one for (whole, _), one in zip(texts, made, strict=True)}
    prompts = {prompt: one for (_, prompt), one in zip(texts, made, strict=True)}
    keys = prompt_keys(
        [one.prompt for one in prompts.values()], recipe, world_salt(role, recipe, PROMPT)
    )
    return (
        Signed(EXAMPLE, wholes, {i: one.keys for i, one in wholes.items()}),
        Signed(PROMPT, prompts, dict(zip(prompts, keys, strict=True))),
    )


def _copy_keys(session: Session, keys: Mapping[int, Sequence[int]]) -> None:
    """Store the keys of some texts by COPY, its binary rows laid out by numpy."""
    counts = [len(own) for own in keys.values()]
    rows = np.empty(sum(counts), dtype=_BAND_ROW)
    rows["n_fields"], rows["key_size"], rows["id_size"] = 2, 8, 8
    rows["key"] = np.fromiter((k for own in keys.values() for k in own), np.int64, len(rows))
    rows["text_id"] = np.repeat(np.fromiter(keys, np.int64, len(keys)), counts)
    connection = session.connection().connection.driver_connection
    assert isinstance(connection, psycopg.Connection)
    with (
        connection.cursor() as cursor,
        cursor.copy("COPY text_band (key, text_id) FROM STDIN (FORMAT binary)") as copy,
    ):
        copy.write(_COPY_HEADER + rows.tobytes() + _COPY_TRAILER)


def _alike(
    kind: str,
    pairs: Iterable[tuple[int, int]],
    prints: Mapping[int, Fingerprint],
    recipe: CurationRecipe,
) -> list[Likeness]:
    """Return the likenesses among pairs; always asked of (low, high), for the answer may differ."""
    found = []
    for low, high in pairs:
        similarity = similarity_of(kind, prints[low], prints[high], recipe)
        if similarity is not None:
            found.append(Likeness(low, high, NEAR if kind == EXAMPLE else PROMPT, similarity))
    return found


def similarity_of(
    kind: str, low: Fingerprint, high: Fingerprint, recipe: CurationRecipe
) -> float | None:
    """Return how alike two texts of a kind are, or None if they are not."""
    if kind == PROMPT:
        return prompt_similarity(low.prompt, high.prompt, recipe)
    return duplicate_similarity(low, high, recipe)


def _load(
    session: Session, kind: str, ids: Iterable[int], templates: Templates
) -> dict[int, Normalized]:
    """Return the compared texts of some ids, each read from any one of its examples."""
    with by_index(session):
        rows = session.execute(_TEXTS_OF[kind], {"ids": array(ids)}).all()
    texts = [(prompt, answer if kind == EXAMPLE else "") for _, prompt, answer in rows]
    return dict(zip([row[0] for row in rows], normalize_all(texts, templates), strict=True))


def _prints(texts: Mapping[int, Normalized]) -> dict[int, Fingerprint]:
    """Return texts as they are compared, without keys."""
    words = word_hashes([part for one in texts.values() for part in (one.prompt, one.answer)])
    return {
        i: Fingerprint(Part(one.prompt, words.row(2 * n)), Part(one.answer, words.row(2 * n + 1)))
        for n, (i, one) in enumerate(texts.items())
    }


def _store_edges(session: Session, found: Sequence[Likeness], version: int) -> None:
    """Keep likenesses as evidence; all workers write them in one order, so none waits in a ring."""
    if found:
        session.execute(
            _STORE_EDGES,
            {
                "lows": array(one.low for one in found),
                "highs": array(one.high for one in found),
                "kinds": array(one.kind for one in found),
                "similarities": array(one.similarity for one in found),
                "version": version,
            },
        )


_COPY_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_TRAILER: Final = b"\xff\xff"
_BAND_ROW: Final = np.dtype(
    [
        ("n_fields", ">i2"),
        ("key_size", ">i4"),
        ("key", ">i8"),
        ("id_size", ">i4"),
        ("text_id", ">i8"),
    ]
)

_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))")
_LOCK_SHARED = text("SELECT pg_advisory_xact_lock_shared(hashtextextended(:key, 0))")

_INSERT_UNKNOWN = text(
    """
    INSERT INTO indexed_text (id, role, variant, kind, signature_version)
    SELECT id, :role, :variant, kind, :version
    FROM unnest(CAST(:ids AS bigint[]), CAST(:kinds AS text[])) AS given (id, kind)
    ORDER BY id
    ON CONFLICT (id) DO UPDATE SET signature_version = excluded.signature_version
    WHERE indexed_text.signature_version <> excluded.signature_version
    RETURNING id
    """
)

_TEXTS_OF: Final = {
    kind: text(
        f"""
        SELECT wanted.id, found.prompt, found.answer
        FROM unnest(CAST(:ids AS bigint[])) AS wanted (id)
        CROSS JOIN LATERAL (
            SELECT prompt, answer FROM example WHERE example.{column} = wanted.id LIMIT 1
        ) AS found
        """
    )
    for kind, column in ((EXAMPLE, "text_id"), (PROMPT, "prompt_text_id"))
}

_STORE_EDGES = text(
    """
    INSERT INTO text_edge (low, high, kind, similarity, rule_version, created_at)
    SELECT low, high, kind, similarity, :version, now()
    FROM unnest(
        CAST(:lows AS bigint[]), CAST(:highs AS bigint[]),
        CAST(:kinds AS text[]), CAST(:similarities AS float8[])
    ) AS given (low, high, kind, similarity)
    ORDER BY low, high
    ON CONFLICT (low, high) DO UPDATE
    SET kind = excluded.kind, similarity = excluded.similarity, rule_version = excluded.rule_version
    WHERE (text_edge.kind, text_edge.similarity, text_edge.rule_version)
        IS DISTINCT FROM (excluded.kind, excluded.similarity, excluded.rule_version)
    """
)

_WORLDS_OF = text(
    "SELECT DISTINCT role, variant FROM indexed_text WHERE id = ANY(CAST(:ids AS bigint[])) "
    "ORDER BY role, variant"
)
_WITHOUT_EXAMPLE = text(
    """
    SELECT id FROM unnest(CAST(:ids AS bigint[])) AS given (id)
    WHERE NOT EXISTS (SELECT 1 FROM example WHERE example.text_id = given.id)
      AND NOT EXISTS (SELECT 1 FROM example WHERE example.prompt_text_id = given.id)
    """
)
_REMOVALS: Final = tuple(
    text(f"DELETE FROM {table} WHERE {column} = ANY(CAST(:ids AS bigint[]))")
    for table, column in (
        ("text_edge", "low"),
        ("text_edge", "high"),
        ("indexed_text", "id"),
        ("text_band", "text_id"),
    )
)
