"""Signatures: golden values that the database relies on, and datasketch and theory as oracles."""

import random
import zlib

import numpy as np
import pytest
from datasketch import MinHash, MinHashLSH

from curation.dedupe.minhash import (
    Ragged,
    band_keys,
    permutations,
    salt_of,
    shingle_hashes,
    signatures,
    word_hashes,
)

GOLDEN_WORDS = [2458761495858270870, 2410895237357734839, 11700288418818270658]
GOLDEN_SIGNATURE = [350247561, 387368924, 212746729, 191191971]
GOLDEN_SIGNATURE_CRC = 869366595
GOLDEN_KEYS = [-4466883914829164032, -1686688365379322559]
GOLDEN_PERMUTATION = [3793791033, 1853398634]


def sign(texts: list[str], size: int = 5) -> tuple[Ragged, np.ndarray]:
    words = word_hashes(texts)
    shingles = shingle_hashes(words, np.full(len(texts), size))
    return shingles, signatures(shingles, 128)


def jaccard(one: np.ndarray, other: np.ndarray) -> float:
    a, b = set(one.tolist()), set(other.tolist())
    return len(a & b) / len(a | b)


def edited_pairs(n: int, seed: int) -> list[tuple[str, str]]:
    """Pairs of 200-word texts, 0 to 14 words replaced: Jaccard of 5-shingles 1.0 down to 0.5."""
    rng = random.Random(seed)
    pairs = []
    for _ in range(n):
        words = [f"w{rng.randrange(50_000)}" for _ in range(200)]
        edited = list(words)
        for place in rng.sample(range(200), rng.randrange(15)):
            edited[place] = f"e{rng.randrange(50_000)}"
        pairs.append((" ".join(words), " ".join(edited)))
    return pairs


def test_stored_values_never_change():
    text = "def add(a, b):\n    return a + b  # the sum of a and b, naïvely, multi_chunk_identifier"
    words = word_hashes([text]).values
    assert words[[0, -2, -1]].tolist() == GOLDEN_WORDS
    _, found = sign([text], size=3)
    assert found[0, :4].tolist() == GOLDEN_SIGNATURE
    assert zlib.crc32(found.tobytes()) == GOLDEN_SIGNATURE_CRC
    keys = band_keys(found, 16, 8, np.array([salt_of("coder", "default", "1")]))
    assert keys[0, :2].tolist() == GOLDEN_KEYS
    multipliers, increments = permutations(128)
    assert [int(multipliers[0]), int(increments[0])] == GOLDEN_PERMUTATION
    assert (multipliers % 2 == 1).all()


def test_words_are_hashed_alike_wherever_they_stand():
    texts = ["alpha beta alpha", "", "beta", "x" * 3_000_000 + " alpha", "äß alpha"]
    found = word_hashes(texts)
    assert found.lengths.tolist() == [3, 0, 1, 2, 2]
    alpha, beta, again = found.row(0).tolist()
    assert alpha == again == found.row(3).tolist()[1] == found.row(4).tolist()[1]
    assert beta == found.row(2).tolist()[0] != alpha
    assert word_hashes([]).lengths.tolist() == []
    assert word_hashes(["", "...", ""]).lengths.tolist() == [0, 0, 0]


def test_shingles_are_runs_of_words():
    words = word_hashes(["a b c d", "a", "", "b c d e f"])
    found = shingle_hashes(words, np.array([3, 3, 3, 3]))
    assert found.lengths.tolist() == [2, 1, 0, 3]
    assert found.row(0).tolist()[1] == found.row(3).tolist()[0], "b c d"
    assert shingle_hashes(words, np.array([1, 1, 1, 5])).lengths.tolist() == [4, 1, 0, 1]
    assert (signatures(found, 128)[2] == np.iinfo(np.uint32).max).all()


def test_a_signature_does_not_depend_on_its_neighbours():
    texts = [a for a, _ in edited_pairs(300, seed=4)] + ["", "one"]
    _, together = sign(texts)
    for index in (0, 150, 299, 300, 301):
        _, alone = sign([texts[index]])
        assert (alone[0] == together[index]).all()


def test_the_estimate_is_as_good_as_theory_and_datasketch():
    pairs = edited_pairs(300, seed=1)
    shingles, found = sign([text for pair in pairs for text in pair])
    exact = np.array([jaccard(shingles.row(2 * i), shingles.row(2 * i + 1)) for i in range(300)])
    ours = (found[0::2] == found[1::2]).mean(axis=1)
    theirs = []
    for i in range(300):
        one, other = MinHash(128), MinHash(128)
        one.update_batch([int(v).to_bytes(8) for v in shingles.row(2 * i)])
        other.update_batch([int(v).to_bytes(8) for v in shingles.row(2 * i + 1)])
        theirs.append(one.jaccard(other))
    theory = np.sqrt(exact * (1 - exact) / 128).mean()
    assert np.sqrt(((ours - exact) ** 2).mean()) < 1.5 * theory
    assert np.sqrt(((ours - exact) ** 2).mean()) < 1.3 * np.sqrt(
        ((np.array(theirs) - exact) ** 2).mean()
    )
    assert abs((ours - exact).mean()) < 0.01, "unbiased"


@pytest.mark.parametrize(("low", "high"), [(0.5, 0.6), (0.6, 0.7), (0.7, 0.8), (0.8, 0.9)])
def test_bands_find_what_theory_and_datasketch_say(low, high):
    pairs = edited_pairs(1500, seed=2)
    shingles, found = sign([text for pair in pairs for text in pair])
    exact = np.array([jaccard(shingles.row(2 * i), shingles.row(2 * i + 1)) for i in range(1500)])
    keys = band_keys(found, 16, 8, np.full(3000, np.uint64(7)))
    ours = (keys[0::2] == keys[1::2]).any(axis=1)
    inside = np.flatnonzero((exact >= low) & (exact < high))
    assert len(inside) > 60
    theory = (1 - (1 - exact[inside] ** 8) ** 16).mean()
    noise = 3 * np.sqrt(theory * (1 - theory) / len(inside)) + 0.01
    assert abs(ours[inside].mean() - theory) < noise
    lsh = MinHashLSH(params=(16, 8), num_perm=128)
    met = 0
    for i in inside:
        one, other = MinHash(128), MinHash(128)
        one.update_batch([int(v).to_bytes(8) for v in shingles.row(2 * i)])
        other.update_batch([int(v).to_bytes(8) for v in shingles.row(2 * i + 1)])
        lsh.insert(int(i), one)
        met += int(i) in lsh.query(other)
    assert abs(ours[inside].mean() - met / len(inside)) < 2 * noise


def test_band_keys_keep_worlds_and_bands_apart():
    _, found = sign(["some text of a few words here"])
    here = band_keys(found, 16, 8, np.array([salt_of("coder", "default", "1")]))
    there = band_keys(found, 16, 8, np.array([salt_of("coder", "unverified", "1")]))
    assert not set(here[0].tolist()) & set(there[0].tolist())
    assert (here[0] & 0x1F).tolist() == list(range(16))
    assert salt_of("a", "bc") != salt_of("ab", "c")
