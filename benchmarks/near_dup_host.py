"""A process that finds the near duplicates of some texts with one tool; see `benchmarks.near_dup`.

    python benchmarks/near_dup_host.py SUBJECT TEXTS

SUBJECT is `flywheel`, `datasketch`, `rensa`, `daft` or `datatrove`; all but the first run in a venv
of their own, so this file needs the standard library and the subject only. TEXTS holds a JSON list
of strings. A line of stdin asks for a round; it is answered by a line of JSON: CPU and wall time of
the round in seconds (all threads), how many texts were read, and which repeat an earlier one.

One definition for all: the words are the lower-case runs of letters, digits and underscores, the
signature has 128 values in 16 bands of 8 over the sets of 5 words, and two texts that share a band
are the same from an exact Jaccard of 0.8. The peers get the quickest Python we know around them,
and no masks. datatrove, which takes two hundred times as long, signs a part and decides nothing.
"""

import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

N_PERM, BANDS, ROWS, SIZE, THRESHOLD = 128, 16, 8, 5, 0.8
MOST_OF_DATATROVE = 400

_TO_WORDS = bytes(
    code | 0x20
    if 65 <= code <= 90
    else code
    if code == 95 or code >= 128 or chr(code).isalnum()
    else 32
    for code in range(256)
)

Dedupe = Callable[[Sequence[str]], tuple[int, list[int]]]
"""Reads the texts; returns how many it read and which repeat an earlier one."""


def words_of(text: str) -> list[bytes]:
    """Return the words of a text."""
    return text.encode().translate(_TO_WORDS).split()


def shingles_of(words: list[bytes]) -> set[bytes]:
    """Return the runs of five words; a shorter text is one run."""
    if len(words) <= SIZE:
        return {b" ".join(words)}
    return set(map(b" ".join, zip(*(words[step:] for step in range(SIZE)), strict=False)))


def is_same(one: set[bytes], other: set[bytes]) -> bool:
    """Return whether two sets have a Jaccard of at least 0.8."""
    shared = len(one & other)
    return shared >= THRESHOLD * (len(one) + len(other) - shared)


def decided(
    suspects: Iterable[int],
    near: Callable[[int], Iterable[int]],
    keep: Callable[[int], None],
    shingles: Callable[[int], set[bytes]],
) -> list[int]:
    """Go through the suspects in order; each repeats a text kept before, or is kept."""
    repeats, kept = [], dict[int, set[bytes]]()
    for index in suspects:
        own = shingles(index)
        if any(is_same(own, kept[other]) for other in near(index)):
            repeats.append(index)
        else:
            kept[index] = own
            keep(index)
    return repeats


def flywheel() -> Dedupe:
    """Ours, in memory."""
    from curation.dedupe.adhoc import dedupe_texts

    return lambda texts: (len(texts), sorted(dedupe_texts(texts)))


def datasketch() -> Dedupe:
    """Datasketch's bulk path with xxh32, the best of those measured."""
    import xxhash
    from datasketch import MinHash, MinHashLSH

    def dedupe(texts: Sequence[str]) -> tuple[int, list[int]]:
        sets = [shingles_of(words_of(text)) for text in texts]
        found = MinHash.bulk(sets, num_perm=N_PERM, hashfunc=xxhash.xxh32_intdigest)
        index = MinHashLSH(params=(BANDS, ROWS), num_perm=N_PERM)
        repeats = decided(
            range(len(texts)),
            lambda i: index.query(found[i]),
            lambda i: index.insert(i, found[i]),
            sets.__getitem__,
        )
        return len(texts), repeats

    return dedupe


def rensa() -> Dedupe:
    """Rensa's plain path; the `_rho` one skips most of a long text's words."""
    from rensa import RMinHash, RMinHashLSH  # type: ignore[import-not-found]

    def dedupe(texts: Sequence[str]) -> tuple[int, list[int]]:
        sets = [shingles_of(words_of(text)) for text in texts]
        found = RMinHash.from_token_sets(sets, N_PERM, 1)
        index = RMinHashLSH(THRESHOLD, N_PERM, BANDS)
        repeats = decided(
            range(len(texts)),
            lambda i: index.query(found[i]),
            lambda i: index.insert(i, found[i]),
            sets.__getitem__,
        )
        return len(texts), repeats

    return dedupe


def daft() -> Dedupe:
    """Daft's native signatures (xxhash); bands in numpy, sets only for texts that share one."""
    import daft as library
    import numpy as np

    def dedupe(texts: Sequence[str]) -> tuple[int, list[int]]:
        words = [b" ".join(words_of(text)) for text in texts]
        frame = library.from_pydict({"text": [each.decode() for each in words]})
        signed = library.col("text").minhash(
            num_hashes=N_PERM, ngram_size=SIZE, hash_function="xxhash"
        )
        column = frame.select(signed.alias("found")).to_arrow()["found"].combine_chunks()
        matrix = column.flatten().to_numpy().reshape(-1, BANDS, ROWS).astype(np.uint64)
        keys = np.zeros(matrix.shape[:2], dtype=np.uint64) + np.arange(BANDS, dtype=np.uint64)
        for row in range(ROWS):
            keys = (keys * np.uint64(0x9E3779B97F4A7C15)) ^ matrix[:, :, row]
        _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
        is_shared = (counts > 1)[inverse].reshape(keys.shape).any(axis=1)
        buckets: dict[int, list[int]] = {}

        def keep(index: int) -> None:
            for key in keys[index].tolist():
                buckets.setdefault(key, []).append(index)

        repeats = decided(
            np.flatnonzero(is_shared).tolist(),
            lambda i: {other for key in keys[i].tolist() for other in buckets.get(key, ())},
            keep,
            lambda i: shingles_of(words[i].split()),
        )
        return len(texts), repeats

    return dedupe


def datatrove() -> Dedupe:
    """The signature step of datatrove's pipeline, on the first few hundred texts."""
    from datatrove.pipeline.dedup import minhash  # type: ignore[import-not-found]
    from datatrove.utils.hashing import HashConfig  # type: ignore[import-not-found]

    config = minhash.MinhashConfig(
        n_grams=SIZE,
        num_buckets=BANDS,
        hashes_per_bucket=ROWS,
        hash_config=HashConfig(precision=32),
    )
    step = minhash.MinhashDedupSignature(output_folder="/nonexistent", config=config)

    def dedupe(texts: Sequence[str]) -> tuple[int, list[int]]:
        some = texts[:MOST_OF_DATATROVE]
        for text in some:
            step.get_signature(step.get_shingles(text))
        return len(some), []

    return dedupe


SUBJECTS: dict[str, Callable[[], Dedupe]] = {
    "flywheel": flywheel,
    "datasketch": datasketch,
    "rensa": rensa,
    "daft": daft,
    "datatrove": datatrove,
}


def timed(dedupe: Dedupe, texts: Sequence[str]) -> dict[str, Any]:
    """Run one round and return its times and what it found."""
    wall, cpu = time.perf_counter(), time.process_time()
    n_read, repeats = dedupe(texts)
    cpu_s = time.process_time() - cpu
    return {
        "cpu_s": cpu_s,
        "wall_s": time.perf_counter() - wall,
        "n_read": n_read,
        "repeats": repeats,
    }


def main() -> None:
    """Answer rounds until stdin ends."""
    subject, path = sys.argv[1:3]
    with open(path, encoding="utf-8") as file:
        texts = json.load(file)
    dedupe = SUBJECTS[subject]()
    timed(dedupe, texts[:200])  # imports, caches
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for _ in sys.stdin:
        sys.stdout.write(json.dumps(timed(dedupe, texts)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
