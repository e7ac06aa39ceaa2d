"""Repeats in meaning: other words for the same thing. Proposed here, never deleted by a cosine.

Embedding is a hundred times as dear as MinHash, so it looks only into dense neighbourhoods: kept
examples that answer one prompt, and those whose hashed word vectors fall into one bucket of random
hyperplanes (Charikar 2002, in the same band index as the MinHash keys) and have a high cosine.
Their prompts and their answers are embedded apart, chunk by chunk; where both are alike the pair is
written down as a `TextEdge` of kind `semantic`. An exact rule (the same Python program under other
names, the same code but for comments and layout) or a person disposes of it; until then both stay.
"""

import ast
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import BigInteger, bindparam, text
from sqlalchemy import Integer as Int
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlmodel import Session

from curation.dedupe.code import same_code
from curation.dedupe.minhash import band_keys, salt_of, word_hashes
from curation.embed import Vectors, embed_chunks, likeness
from curation.normalize import normalize
from curation.recipe import CurationRecipe
from curation.tables import TEXT_BAND, Embedding, IndexedText, TextEdge
from curation.templates import NO_TEMPLATES, Templates

SEMANTIC: Final = "semantic"
DUPLICATE, DISTINCT = "duplicate", "distinct"
SAME_PROGRAM: Final = "same program"
"""`TextEdge.disposed_by` of the exact rule."""

_DIMENSIONS: Final = 256
_TABLES: Final = 10
_BITS: Final = 12
"""Hyperplanes of one bucket: 10 tables of 12 find 82 % of pairs of cheap cosine 0.9."""
_CHEAP_COSINE: Final = 0.6
_NEIGHBOURS_AT_MOST: Final = 5
_MASK: Final = int(np.array([salt_of(SEMANTIC)]).view(np.int64)[0])
"""What a text's id is crossed with to mark it as looked at."""
HASHED: Final = "hashed-256"
"""Name of the cheap vectors, under which they are kept beside the embeddings."""


@dataclass(slots=True)
class Proposed:
    """What one pass looked at and wrote down."""

    n_examples: int = 0
    n_pairs: int = 0
    """Pairs in dense neighbourhoods, which were embedded."""
    n_proposed: int = 0
    n_disposed: int = 0
    """Of those, settled at once by an exact rule."""


@dataclass(frozen=True, slots=True)
class _Text:
    text_id: int
    example_id: UUID
    prompt: str
    answer: str
    exact_answer: str


def propose_repeats(
    session: Session, role: str, recipe: CurationRecipe, templates: Templates = NO_TEMPLATES
) -> Proposed:
    """Write down which newly kept examples say the same as others in other words.

    Nothing without `recipe.embedding_model`. Each kept example is looked at once per model. Where
    the exact rule settles a pair, its examples are marked to be settled again.

    Raises:
        BadInput: the model or its libraries are not there.
    """
    done = Proposed()
    if recipe.embedding_model is None:
        return done
    while batch := _next_texts(session, role, recipe, templates):
        done.n_examples += len(batch)
        pairs = _dense_pairs(session, role, recipe, templates, batch)
        done.n_pairs += len(pairs)
        edges = _alike(session, pairs, recipe)
        done.n_proposed += len(edges)
        done.n_disposed += sum(edge["disposed"] is not None for edge in edges)
        _store(session, role, recipe, batch, edges)
    return done


def forget(session: Session, role: str, variant: str, text_ids: Sequence[int]) -> None:
    """Take texts out of the neighbourhoods; the embeddings of their words go by their own hash."""
    known = _cheap_vectors(session, set(text_ids))
    if not known:
        return
    ids = sorted(known)
    keys = _bucket_keys(np.stack([known[i] for i in ids]), salt_of(role, variant, SEMANTIC))
    session.execute(
        _FORGET_BANDS, {"ids": np.repeat(ids, _TABLES).tolist(), "keys": keys.ravel().tolist()}
    )
    session.execute(_FORGET_VECTORS, {"ids": [str(i) for i in ids], "model": HASHED})
    session.execute(_FORGET_MARKS, {"ids": [i ^ _MASK for i in ids]})


def same_program(one: str, other: str) -> bool:
    """Return whether two Python texts are one program but for names, comments and docstrings.

    Names that the text itself binds (functions, arguments, variables) are numbered by first use;
    names from outside, attributes and constants must agree. False for what does not parse.
    """
    shapes = [_shape(code) for code in (one, other)]
    return shapes[0] is not None and shapes[0] == shapes[1]


def _next_texts(
    session: Session, role: str, recipe: CurationRecipe, templates: Templates
) -> list[_Text]:
    found = session.execute(
        _UNSEEN,
        {
            "role": role,
            "variant": recipe.variant,
            "mask": _MASK,
            "version": _model_version(recipe),
            "n": recipe.batch_size,
        },
    )
    return [_text(row, templates) for row in found.mappings()]


def _text(row: Any, templates: Templates) -> _Text:
    compared = normalize(row["prompt"], row["answer"], templates)
    return _Text(row["text_id"], row["id"], compared.prompt, compared.answer, row["answer"])


def _dense_pairs(
    session: Session,
    role: str,
    recipe: CurationRecipe,
    templates: Templates,
    batch: Sequence[_Text],
) -> list[tuple[_Text, _Text]]:
    """Return each new text with its likest neighbours by cheap cosine, each pair once."""
    vectors = hashed_vectors([f"{t.prompt}\n{t.answer}" for t in batch])
    keys = _bucket_keys(vectors, salt_of(role, recipe.variant, SEMANTIC))
    _index(session, recipe, role, batch, vectors, keys)
    found = _neighbours(session, keys, recipe)
    known = _cheap_vectors(session, {i for ids in found.values() for i in ids})
    wanted: set[tuple[int, int]] = set()
    for number, ids in found.items():
        own = batch[number].text_id
        others = [i for i in ids if i != own and i in known]
        if not others:
            continue
        cosines = np.stack([known[i] for i in others]) @ vectors[number]
        likest = np.argsort(-cosines, kind="stable")[:_NEIGHBOURS_AT_MOST]
        wanted |= {
            (min(own, others[k]), max(own, others[k]))
            for k in likest.tolist()
            if cosines[k] >= _CHEAP_COSINE
        }
    wanted |= _same_prompt(session, role, recipe, batch)
    texts = _load(session, role, recipe, templates, {i for pair in wanted for i in pair})
    return [(texts[a], texts[b]) for a, b in sorted(wanted) if a in texts and b in texts]


def _same_prompt(
    session: Session, role: str, recipe: CurationRecipe, batch: Sequence[_Text]
) -> set[tuple[int, int]]:
    """Return the pairs of a new text with the first few other answers to its very prompt."""
    found = session.execute(
        _SAME_PROMPT,
        {
            "ids": [t.text_id for t in batch],
            "role": role,
            "variant": recipe.variant,
            "cap": _NEIGHBOURS_AT_MOST,
        },
    )
    return {(min(pair), max(pair)) for pair in found}


def hashed_vectors(texts: Sequence[str]) -> NDArray[np.float32]:
    """Return a word vector of length 1 for each text, shape (n, 256), by signed feature hashing.

    Weinberger et al. 2009, over words and pairs of words, counts damped by their square root. A
    text without words is a row of zeros.
    """
    words = word_hashes(texts)
    owners = np.repeat(np.arange(len(texts)), words.lengths)
    follows = np.flatnonzero(owners[1:] == owners[:-1])
    pairs = words.values[follows] * np.uint64(3) + words.values[follows + 1]
    features = np.concatenate((words.values, pairs * np.uint64(0x9E3779B97F4A7C15)))
    places = (features >> np.uint64(40)).astype(np.int64) % _DIMENSIONS
    signs = np.where(features >> np.uint64(63), 1.0, -1.0)
    rows = np.concatenate((owners, owners[follows]))
    sums = np.zeros((len(texts), _DIMENSIONS), dtype=np.float32)
    np.add.at(sums, (rows, places), signs.astype(np.float32))
    damped = np.sign(sums) * np.sqrt(np.abs(sums))
    norms = np.linalg.norm(damped, axis=1, keepdims=True)
    return (damped / np.where(norms > 0, norms, 1.0)).astype(np.float32)


def _bucket_keys(vectors: NDArray[np.float32], salt: np.uint64) -> NDArray[np.int64]:
    """Return the bucket key of each vector in each table, shape (n, tables)."""
    planes = np.random.default_rng(0).standard_normal((_DIMENSIONS, _TABLES * _BITS))
    bits = (vectors @ planes.astype(np.float32) > 0).reshape(len(vectors), _TABLES, _BITS)
    codes = (bits * (1 << np.arange(_BITS))).sum(axis=2).astype(np.uint32)
    salts = np.full(len(vectors), salt, dtype=np.uint64)
    return band_keys(codes, _TABLES, 1, salts)


def _index(
    session: Session,
    recipe: CurationRecipe,
    role: str,
    batch: Sequence[_Text],
    vectors: NDArray[np.float32],
    keys: NDArray[np.int64],
) -> None:
    version = _model_version(recipe)
    marks = [
        {
            "id": t.text_id ^ _MASK,
            "role": role,
            "variant": recipe.variant,
            "kind": SEMANTIC,
            "signature_version": version,
        }
        for t in batch
    ]
    mark = insert(IndexedText)
    session.execute(
        mark.on_conflict_do_update(
            index_elements=["id"], set_={"signature_version": mark.excluded.signature_version}
        ),
        marks,
    )
    rows = [
        {
            "text_hash": str(t.text_id),
            "model": HASHED,
            "vector": v.astype("<f2").tobytes(),
            "n_chunks": 1,
        }
        for t, v in zip(batch, vectors, strict=True)
    ]
    session.execute(insert(Embedding).on_conflict_do_nothing(), rows)
    bands = [
        {"key": key, "text_id": t.text_id}
        for t, row in zip(batch, keys.tolist(), strict=True)
        for key in row
    ]
    session.execute(TEXT_BAND.insert(), bands)


def _neighbours(
    session: Session, keys: NDArray[np.int64], recipe: CurationRecipe
) -> dict[int, list[int]]:
    n = len(keys)
    numbers = np.repeat(np.arange(n), _TABLES).tolist()
    session.execute(text("SET LOCAL enable_seqscan = off"))
    rows = session.execute(
        _PROBE, {"numbers": numbers, "keys": keys.ravel().tolist(), "cap": recipe.hot_bucket_cap}
    ).all()
    session.execute(text("SET LOCAL enable_seqscan TO DEFAULT"))
    found: dict[int, list[int]] = defaultdict(list)
    for number, text_id in rows:
        found[number].append(text_id)
    return found


def _cheap_vectors(session: Session, ids: set[int]) -> dict[int, NDArray[np.float32]]:
    found = session.execute(_VECTORS, {"ids": [str(i) for i in ids], "model": HASHED})
    return {
        int(text_hash): np.frombuffer(vector, dtype="<f2").astype(np.float32)
        for text_hash, vector in found
    }


def _load(
    session: Session, role: str, recipe: CurationRecipe, templates: Templates, ids: set[int]
) -> dict[int, _Text]:
    found = session.execute(
        _KEPT_OF, {"role": role, "variant": recipe.variant, "ids": sorted(ids)}
    ).mappings()
    return {row["text_id"]: _text(row, templates) for row in found}


def _alike(
    session: Session, pairs: Sequence[tuple[_Text, _Text]], recipe: CurationRecipe
) -> list[dict[str, Any]]:
    """Return the edges of the pairs that are the same program, or alike in both parts."""
    assert recipe.embedding_model is not None
    texts = sorted({part for pair in pairs for t in pair for part in (t.prompt, t.answer)})
    vectors: dict[str, Vectors] = dict(
        zip(texts, embed_chunks(session, texts, recipe.embedding_model), strict=True)
    )
    edges = []
    for one, other in pairs:
        similarity = min(
            likeness(vectors[one.prompt], vectors[other.prompt]),
            likeness(vectors[one.answer], vectors[other.answer]),
        )
        is_same = one.prompt == other.prompt and _says_the_same(one, other)
        if is_same or similarity >= recipe.semantic_threshold:
            edges.append(
                {
                    "low": one.text_id,
                    "high": other.text_id,
                    "kind": SEMANTIC,
                    "similarity": similarity,
                    "rule_version": 1,
                    "disposed": DUPLICATE if is_same else None,
                    "disposed_by": SAME_PROGRAM if is_same else None,
                }
            )
    return edges


def _says_the_same(one: _Text, other: _Text) -> bool:
    """Return whether two answers differ in what no program is changed by: an exact rule."""
    answers = one.exact_answer, other.exact_answer
    return same_program(*answers) or same_code(*answers)


def _store(
    session: Session,
    role: str,
    recipe: CurationRecipe,
    batch: Sequence[_Text],
    edges: list[dict[str, Any]],
) -> None:
    if edges:
        session.execute(insert(TextEdge).on_conflict_do_nothing(), edges)
    settled = {e[side] for e in edges if e["disposed"] == DUPLICATE for side in ("low", "high")}
    if settled:
        session.execute(
            _UNSETTLE, {"role": role, "variant": recipe.variant, "ids": sorted(settled)}
        )


def _model_version(recipe: CurationRecipe) -> int:
    """Return a number (31 bits) of what a text was looked at with: another model looks again."""
    return int(salt_of(str(recipe.embedding_model), str(recipe.semantic_threshold))) >> 33


class _Numbered(ast.NodeTransformer):
    """Gives every name that the program binds a number, and drops docstrings and annotations."""

    def __init__(self, bound: set[str]) -> None:
        self.bound = bound
        self._numbers: dict[str, str] = {}

    def _name(self, name: str) -> str:
        if name not in self.bound:
            return name
        return self._numbers.setdefault(name, f"_{len(self._numbers)}")

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Name(self._name(node.id), node.ctx)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return ast.arg(self._name(node.arg))

    def visit_keyword(self, node: ast.keyword) -> ast.AST:
        self.generic_visit(node)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.name, node.returns = self._name(node.name), None
        node.body = _without_docstring(node.body)
        self.generic_visit(node)
        return node


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0]
    is_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return body[1:] or [ast.Pass()] if is_docstring else body


def _shape(code: str) -> str | None:
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    bound = {
        n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    }
    bound |= {n.arg for n in ast.walk(tree) if isinstance(n, ast.arg)}
    bound |= {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
    return ast.dump(_Numbered(bound).visit(tree))


_UNSEEN = text(
    """
    SELECT id, text_id, prompt, answer FROM example
    WHERE role = :role AND variant = :variant AND status = 'kept' AND text_id IS NOT NULL
      AND NOT EXISTS (SELECT 1 FROM indexed_text seen
                      WHERE seen.id = example.text_id # :mask AND seen.signature_version = :version)
    ORDER BY id LIMIT :n
    """
).bindparams(bindparam("mask", type_=BigInteger))

_KEPT_OF = text(
    """
    SELECT DISTINCT ON (text_id) id, text_id, prompt, answer FROM example
    WHERE text_id = ANY(:ids) AND role = :role AND variant = :variant AND status = 'kept'
    ORDER BY text_id, id
    """
).bindparams(bindparam("ids", type_=ARRAY(BigInteger)))

_SAME_PROMPT = text(
    """
    SELECT own.text_id, other.text_id FROM example own
    CROSS JOIN LATERAL (
        SELECT text_id FROM example
        WHERE prompt_text_id = own.prompt_text_id AND text_id <> own.text_id
          AND role = :role AND variant = :variant AND status = 'kept'
        ORDER BY id LIMIT :cap
    ) AS other
    WHERE own.text_id = ANY(:ids) AND own.role = :role AND own.variant = :variant
      AND own.status = 'kept'
    """
).bindparams(bindparam("ids", type_=ARRAY(BigInteger)))

_PROBE = text(
    """
    SELECT DISTINCT probed.number, found.text_id
    FROM unnest(:numbers, :keys) AS probed (number, key)
    CROSS JOIN LATERAL (
        SELECT text_id FROM text_band WHERE text_band.key = probed.key LIMIT :cap
    ) AS found
    ORDER BY 1, 2
    """
).bindparams(bindparam("numbers", type_=ARRAY(Int)), bindparam("keys", type_=ARRAY(BigInteger)))

_VECTORS = text(
    "SELECT text_hash, vector FROM embedding WHERE text_hash = ANY(:ids) AND model = :model"
)

_FORGET_BANDS = text(
    """
    DELETE FROM text_band USING unnest(:ids, :keys) AS gone (text_id, key)
    WHERE text_band.key = gone.key AND text_band.text_id = gone.text_id
    """
).bindparams(bindparam("ids", type_=ARRAY(BigInteger)), bindparam("keys", type_=ARRAY(BigInteger)))

_FORGET_MARKS = text("DELETE FROM indexed_text WHERE id = ANY(:ids)").bindparams(
    bindparam("ids", type_=ARRAY(BigInteger))
)

_FORGET_VECTORS = text("DELETE FROM embedding WHERE text_hash = ANY(:ids) AND model = :model")

_UNSETTLE = text(
    """
    UPDATE example SET needs_settling = true
    WHERE text_id = ANY(:ids) AND role = :role AND variant = :variant
    """
).bindparams(bindparam("ids", type_=ARRAY(BigInteger)))
