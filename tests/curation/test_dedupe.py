"""What counts as a repeat: short texts to the word, long ones by Jaccard, never by chance."""

import gzip
import json
import random

import numpy as np
import pytest
from sqlalchemy import text

from curation.build import build_dataset
from curation.dedupe.compare import BandIndex, duplicate_similarity, fingerprints
from curation.normalize import Normalized, normalize
from curation.recipe import CurationRecipe
from foundation.chat import message

RECIPE = CurationRecipe()
SALT = np.uint64(1)
ASK = "Write a function f(items) that returns the sum of the squares of the numbers above 3."
CODE = "def f(items):\n    return sum(x * x for x in items if x > 3)"


def similarity(one: tuple[str, str], other: tuple[str, str]) -> float | None:
    """Similarity of two (prompt, answer) pairs, None unless the index would also have found it."""
    made = fingerprints([normalize([message("user", p)], a) for p, a in (one, other)], RECIPE, SALT)
    found = duplicate_similarity(made[0], made[1], RECIPE)
    assert found == duplicate_similarity(made[1], made[0], RECIPE)
    if found is not None and found > 0.9:
        assert set(made[0].own_keys) & set(made[1].probe_keys)
        assert set(made[1].own_keys) & set(made[0].probe_keys)
    return found


@pytest.mark.parametrize(
    "prompt",
    [
        ASK + " Thanks!",
        "Hello. " + ASK,
        ASK.rstrip(".") + ", please.",
        ASK.replace(". ", ".  ").upper(),
    ],
)
def test_a_trivial_edit_of_the_prompt_is_a_repeat(prompt):
    assert similarity((ASK, CODE), (prompt, CODE)) >= 0.8


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        (ASK, CODE.replace("> 3", "> 4")),
        (ASK, CODE.replace(">", "<")),
        (ASK, CODE.replace("sum", "max")),
        (ASK, CODE.replace("x", "v")),
        (ASK.replace("3", "4"), CODE),
        (ASK.replace("sum", "product"), CODE),
        (ASK.replace("above", "below"), CODE),
    ],
)
def test_a_change_of_meaning_in_a_short_text_is_none(prompt, answer):
    assert similarity((ASK, CODE), (prompt, answer)) is None


def test_moved_words_and_moved_lines_are_not_repeats():
    assert similarity(("Take a from b.", "b - a"), ("Take b from a.", "b - a")) is None
    assert similarity(("Take a from b.", "b - a"), ("Take a from b.", "a - b")) is None
    inside = "def f(x):\n    for y in x:\n        t = y\n        return t"
    outside = "def f(x):\n    for y in x:\n        t = y\n    return t"
    assert similarity((ASK, inside), (ASK, outside)) is None
    assert similarity((ASK, inside), (ASK, inside.replace("    ", "  "))) == 1.0


def long_text(seed: int, n_words: int) -> list[str]:
    rng = random.Random(seed)
    return [f"w{rng.randrange(10**6)}" for _ in range(n_words)]


@pytest.mark.parametrize("n_words", [9, 10, 11, 12, 58, 59, 60, 61, 64, 70, 200])
def test_a_word_more_or_less_is_found_at_every_length(n_words):
    words = long_text(1, n_words)
    one, other = " ".join(words), " ".join([*words, "thanks"])
    answer = " ".join(long_text(2, n_words))
    assert similarity((one, answer), (other, answer)) >= 0.8


def test_long_texts_are_repeats_by_jaccard_of_both_parts():
    words = long_text(3, 200)
    edited = [*words]
    edited[100] = "changed"
    far = [word if n % 10 else "changed" for n, word in enumerate(words)]
    prompt, answer = " ".join(long_text(4, 200)), " ".join(words)
    assert 0.9 < similarity((prompt, answer), (prompt, " ".join(edited))) < 1
    assert similarity((prompt, answer), (prompt, " ".join(far))) is None
    assert similarity((prompt, "correct"), (prompt, "wrong: map")) is None, "the answer counts"


def test_texts_without_words_have_no_keys_and_break_nothing():
    made = fingerprints(
        [Normalized("", ""), Normalized("!!", "??"), Normalized("a", "")], RECIPE, SALT
    )
    assert [bool(one.own_keys) for one in made] == [False, False, True]
    assert fingerprints([], RECIPE, SALT) == []


def test_real_revisions_of_files_are_found_and_other_files_are_not(public_data):
    path = public_data / "near_dup_code_revisions" / "pairs_a.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        pairs = [json.loads(line) for line in file]
    texts = [normalize([], pair[name]) for pair in pairs for name in ("text_a", "text_b")]
    made = fingerprints(texts, RECIPE, SALT)
    found = [
        duplicate_similarity(made[2 * i], made[2 * i + 1], RECIPE) is not None
        and bool(set(made[2 * i].own_keys) & set(made[2 * i + 1].probe_keys))
        for i in range(len(pairs))
    ]
    close = [f for f, p in zip(found, pairs, strict=True) if p["label"] and p["jaccard5"] >= 0.8]
    assert sum(close) / len(close) > 0.9
    assert not any(f for f, p in zip(found, pairs, strict=True) if not p["label"])


def test_independent_programs_for_one_task_are_no_repeats(public_data):
    path = public_data / "near_dup_code_irplag" / "irplag_odd_cases.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    made = fingerprints([normalize([], row["text"]) for row in rows], RECIPE, SALT)
    originals = {r["case"]: m for r, m in zip(rows, made, strict=True) if r["kind"] == "original"}
    for row, one in zip(rows, made, strict=True):
        if row["kind"] == "non-plagiarized":
            assert duplicate_similarity(originals[row["case"]], one, RECIPE) is None


def test_a_probe_uses_the_index_and_respects_the_cap(session, log):
    for number in range(60):
        log.call(f"question {number}", f"answer {number}", passed=True, task_key=str(number))
    build_dataset(session, "coder")
    rows = (
        session.execute(text("SELECT example_id FROM example_band WHERE band = 0")).scalars().all()
    )
    session.execute(text("UPDATE example_band SET key = 16 WHERE band = 0"))
    index = BandIndex(session, "coder", CurationRecipe(hot_bucket_cap=50))
    found = index.probe([(7, 16), (8, 17)])
    assert found == {7: sorted(rows)[:50]}
    assert index.n_hot >= 1
    assert session.execute(text("SHOW enable_seqscan")).scalar_one() == "on"
    session.execute(text("SET LOCAL enable_seqscan = off"))
    plan = session.execute(
        text(
            "EXPLAIN SELECT * FROM unnest(ARRAY[1, 2]::bigint[]) AS p (key) CROSS JOIN LATERAL "
            "(SELECT example_id FROM example_band AS b WHERE b.key = p.key LIMIT 50) AS f"
        )
    )
    assert "ix_example_band_key" in "\n".join(plan.scalars())
