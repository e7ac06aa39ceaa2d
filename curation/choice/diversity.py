"""Which examples of a group to take: good ones, unlike each other before alike.

No model is asked. A text is sketched by MinHash values of its pairs of neighbouring words, so that
two texts agree in a value about as often as they share pairs. An example is worth its quality times
how new its values are: a value taken n times before counts sqrt(n + 1) - sqrt(n). Picking greedily
by such a sum of concave functions keeps within a constant factor of the best set (Nemhauser et al.
1978; Lin and Bilmes 2011); it is done by falling thresholds (Badanidiyuru and Vondrák 2014), which
bounds the work at a few dozen passes over the sketches. Like DEITA (Liu et al. 2024), it takes the
better one of two alike; unlike it, what is alike comes late and is not ruled out.
"""

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from curation.dedupe.minhash import U32, shingle_hashes, signatures, word_hashes

F64: TypeAlias = NDArray[np.float64]
I64: TypeAlias = NDArray[np.int64]

VALUES: Final = 32
"""MinHash values of a sketch: likeness to within about 0.09."""
NEIGHBOURS: Final = 2
"""Words of a shingle: longer ones are not shared by texts that are no repeats."""
CHARACTERS: Final = 2000
"""What is enough of a prompt, and of an answer, to sketch them."""
STEP: Final = 0.1
"""By which part the threshold falls from pass to pass."""
LEAST_QUALITY: Final = 0.01


def sketches(texts: Sequence[str]) -> U32:
    """Return the sketches of some texts, one row of `VALUES` each; case does not matter."""
    words = word_hashes([text.lower() for text in texts])
    sizes = np.full(len(texts), NEIGHBOURS, dtype=np.int64)
    return signatures(shingle_hashes(words, sizes), VALUES)


def pick(sketched: U32, quality: F64, count: int) -> list[int]:
    """Return the indices of `count` rows, as they were picked.

    Args:
        sketched: one row per example, shape (n, values); among equals the earlier row is picked.
        quality: of each row, in 0-1.
        count: how many; all are returned if there are no more.
    """
    if count >= len(sketched):
        return list(range(len(sketched)))
    features = _numbered(sketched)
    seen = np.zeros(int(features.max()) + 1, dtype=np.int64)
    worth = np.maximum(quality, LEAST_QUALITY)
    newness = _newness(len(sketched))
    open_rows: I64 = np.arange(len(sketched))
    picked: list[int] = []
    while len(picked) < count:
        gains = worth[open_rows] * newness[seen[features[open_rows]]].mean(axis=1)
        threshold = (1 - STEP) * gains.max()
        taken = set()
        for row in open_rows[gains >= threshold].tolist():
            values = features[row]
            if worth[row] * newness[seen[values]].mean() >= threshold:
                seen[values] += 1
                taken.add(row)
                if len(picked) + len(taken) == count:
                    break
        picked += sorted(taken)
        open_rows = open_rows[~np.isin(open_rows, list(taken))]
    return picked


def _newness(n: int) -> F64:
    """Return what the next occurrence of a value counts, by the number of those before it."""
    roots = np.sqrt(np.arange(n + 2, dtype=np.float64))
    return np.diff(roots)


def _numbered(sketched: U32) -> NDArray[Any]:
    """Return the sketches with small numbers for their values, different ones in each column."""
    numbered = np.empty(sketched.shape, dtype=np.int64)
    offset = 0
    for column in range(sketched.shape[1]):
        values, numbers = np.unique(sketched[:, column], return_inverse=True)
        numbered[:, column] = numbers + offset
        offset += len(values)
    return numbered
