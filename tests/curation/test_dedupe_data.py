"""What the search for repeats says of real code: revisions of files, and copied programs."""

import gzip
import json

import pytest

from curation.dedupe.code import PROPOSED_FROM, code_likeness, same_code
from curation.dedupe.compare import duplicate_similarity, fingerprints
from curation.dedupe.keys import world_salt
from curation.normalize import normalize
from curation.recipe import CurationRecipe

RECIPE = CurationRecipe()


def dropped(pairs: list[tuple[str, str]]) -> list[bool]:
    """Whether a build would drop one text of each pair for the other."""
    texts = [normalize([], text) for pair in pairs for text in pair]
    made = fingerprints(texts, RECIPE, world_salt("coder", RECIPE))
    return [
        bool(set(one.keys) & set(other.keys))
        and duplicate_similarity(one, other, RECIPE) is not None
        for one, other in zip(made[0::2], made[1::2], strict=True)
    ]


@pytest.fixture(scope="module")
def revisions(public_data):
    with gzip.open(public_data / "near_dup_code_revisions" / "pairs_a.jsonl.gz", "rt") as file:
        return [json.loads(line) for line in file]


def test_close_revisions_are_dropped_and_other_files_never(revisions):
    found = dropped([(row["text_a"], row["text_b"]) for row in revisions])
    close = [f for f, r in zip(found, revisions, strict=True) if r["label"] and r["jaccard5"] > 0.8]
    assert sum(close) / len(close) > 0.9
    assert not any(f for f, r in zip(found, revisions, strict=True) if not r["label"])


def test_further_revisions_are_proposed_and_other_files_are_not(revisions):
    found = [code_likeness(row["text_a"], row["text_b"]) >= PROPOSED_FROM for row in revisions]
    near = [f for f, r in zip(found, revisions, strict=True) if r["label"] and r["jaccard5"] > 0.5]
    assert sum(near) / len(near) > 0.9
    assert not any(f for f, r in zip(found, revisions, strict=True) if not r["label"])
    assert not any(same_code(r["text_a"], r["text_b"]) for r in revisions if not r["label"])


def test_independent_programs_for_one_task_are_not_dropped(public_data):
    path = public_data / "near_dup_code_irplag" / "irplag_odd_cases.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    originals = {row["case"]: row["text"] for row in rows if row["kind"] == "original"}
    pairs = [(originals[r["case"]], r["text"]) for r in rows if r["kind"] == "non-plagiarized"]
    assert not any(dropped(pairs))
    assert not any(same_code(one, other) for one, other in pairs)
