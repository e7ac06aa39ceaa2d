"""Which examples a person should look at next: active learning with a small model. Pure.

The model is a logistic regression over hashed words and stored scores, fitted to the verdicts so
far; it says how likely a reviewer would call an answer good. Uncertainty sampling follows Lewis and
Gale (1994). Near-identical texts are all equally uncertain, so what is taken must also be unlike
what was taken before it; diversity alone is the farthest-first traversal of Gonzalez (1985).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from curation.semantic import hashed_vectors

LEAST_OF_A_SIDE: Final = 5
"""Verdicts of either sign without which there is nothing to tell apart."""
SAME_TEXT: Final = 0.95
"""Cosine from which a second text would teach the model nothing that the first does not."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Candidate:
    """An example that could be looked at, or that a verdict was given on."""

    id: UUID
    text: str
    score: float | None
    disagreement: float | None
    n_tokens: int
    outcome: bool | None
    is_good: bool | None = None
    """A person's verdict, if there is one."""

    @classmethod
    def of(cls, row: Any, is_good: bool | None = None) -> "Candidate":
        """Return the candidate of a row of `example` that has its text as `text`."""
        return cls(
            id=row.id,
            text=row.text,
            score=row.score,
            disagreement=row.disagreement,
            n_tokens=row.n_tokens,
            outcome=row.scores.get("outcome"),
            is_good=is_good,
        )


def chances_of_good(
    judged: Sequence[Candidate], pool: Sequence[Candidate], min_labels: int
) -> NDArray[np.float64] | None:
    """Return for each of `pool` how likely a person would call it good, 0-1.

    None where the verdicts are fewer than `min_labels`, or nearly all of one sign: then there is no
    model, and nothing is guessed.
    """
    verdicts = np.array([bool(one.is_good) for one in judged])
    n_good = int(verdicts.sum())
    if len(judged) < min_labels or min(n_good, len(judged) - n_good) < LEAST_OF_A_SIDE or not pool:
        return None
    from sklearn.linear_model import LogisticRegression  # slow to import

    model = LogisticRegression(class_weight="balanced", max_iter=1000)
    model.fit(_features(judged), verdicts)
    chances: NDArray[np.float64] = model.predict_proba(_features(pool))[:, 1]
    return chances


def by_uncertainty(
    pool: Sequence[Candidate], chances: NDArray[np.float64] | None, boundary: float
) -> list[int]:
    """Return the places in `pool` of what is least certain, most uncertain first.

    By the model's chances near one half if there are any, else by the score near `boundary`; what
    has no score is in neither doubt nor order, and left out.
    """
    if chances is not None:
        return [int(i) for i in np.argsort(np.abs(chances - 0.5), kind="stable")]
    scored = [(abs(one.score - boundary), i) for i, one in enumerate(pool) if one.score is not None]
    return [i for _, i in sorted(scored)]


def by_disagreement(pool: Sequence[Candidate]) -> list[int]:
    """Return the places of what its signals contradict each other on, the most first."""
    apart = [(-one.disagreement, i) for i, one in enumerate(pool) if one.disagreement]
    return [i for _, i in sorted(apart)]


def unlike(order: Sequence[int], vectors: Floats, n: int) -> list[int]:
    """Return the first `n` of `order` of which none says nearly the same as one before it."""
    taken: list[int] = []
    for place in order:
        if len(taken) == n:
            break
        if not taken or float((vectors[taken] @ vectors[place]).max()) < SAME_TEXT:
            taken.append(place)
    return taken


def farthest_first(vectors: Floats, known: Floats, n: int) -> list[int]:
    """Return `n` places, each the one least like all of `known` and those taken before it.

    Args:
        vectors: (candidates, dimensions), of length 1.
        known: (any number, dimensions), what has been looked at.
        n: how many; fewer where only repeats are left.
    """
    likest = np.full(len(vectors), -1.0, dtype=np.float32)
    if len(known) and len(vectors):
        likest = (vectors @ known.T).max(axis=1)
    taken: list[int] = []
    while len(taken) < min(n, len(vectors)):
        place = int(likest.argmin())
        if likest[place] >= SAME_TEXT:
            break
        taken.append(place)
        likest = np.maximum(likest, vectors @ vectors[place])
        likest[place] = 1.0
    return taken


def text_vectors(candidates: Sequence[Candidate]) -> Floats:
    """Return the hashed words of each candidate's text, shape (n, 256), of length 1."""
    return hashed_vectors([one.text for one in candidates])


def _features(candidates: Sequence[Candidate]) -> Floats:
    """Return words and scores side by side, shape (n, 261), each scaled to about one."""
    known = [
        (
            0.5 if one.score is None else one.score,
            float(one.score is not None),
            one.disagreement or 0.0,
            np.log1p(one.n_tokens) / 10,
            0.0 if one.outcome is None else 2.0 * one.outcome - 1.0,
        )
        for one in candidates
    ]
    return np.hstack((text_vectors(candidates), np.array(known, dtype=np.float32)))
