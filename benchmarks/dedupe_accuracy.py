"""What the search for repeats finds and what it wrongly takes for one, with the counts behind it.

    python -m benchmarks.dedupe_accuracy [--quick]

Planted copies of known Jaccard in code and prose; unrelated texts that share a system prompt; and
two public sets (FLYWHEEL_TEST_DATA): revisions of files beside other files of their folder, and
plagiarised programs by level beside programs written independently for the same task. Three answers
are told apart: what the default recipe drops, what a recipe with a low threshold would drop, and
what is only proposed for review, by its likeness as code (`curation.dedupe.code`).
"""

import argparse
import gzip
import json
import os
import random
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.bars import Figure, report
from benchmarks.near_dup import code_and_prose
from curation.dedupe.adhoc import dedupe_texts
from curation.dedupe.code import PROPOSED_FROM, code_likeness
from curation.dedupe.compare import duplicate_similarity, fingerprints
from curation.dedupe.keys import world_salt
from curation.dedupe.planted import plant_and_measure
from curation.normalize import COMPARED_ROLES, normalize
from curation.recipe import CurationRecipe
from foundation.chat import joined, message

DATA = Path(
    os.environ.get("FLYWHEEL_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
)
REVISIONS, PLAGIARISM = "near_dup_code_revisions", "near_dup_code_irplag"
RECIPE = CurationRecipe()
LOW = replace(RECIPE, near_duplicate_threshold=0.5, profile="high-recall")
RECALL_FROM = {0.8: 0.95, 0.85: 0.99, 0.9: 0.99, 0.95: 0.99}
"""Least recall of planted copies, by the lower edge of their bin of Jaccard."""
N_SHARING, N_SHARED_WORDS, N_OWN_WORDS = 2_000, 170, 30


@dataclass(frozen=True)
class Pair:
    """Two texts, and whether one comes from the other."""

    one: str
    other: str
    is_related: bool
    jaccard5: float = 1.0
    level: str = ""


def measure(quick: bool = False) -> list[Figure]:
    """Return the figures; quick plants fewer copies."""
    return [
        *_planted(600 if quick else 6_000),
        *_sharing(),
        *_revisions(),
        *_plagiarism(),
    ]


def _planted(n: int) -> list[Figure]:
    texts = [normalize([], text) for text in code_and_prose(n // 3, seed=1)]
    figures = []
    for recipe in (RECIPE, replace(RECIPE, profile="high-recall")):
        found = plant_and_measure(texts, recipe, n_planted=n)
        bars = RECALL_FROM if recipe is RECIPE else {}
        figures += [
            Figure(
                f"planted copies found, Jaccard {each.low} to {each.high}, {recipe.profile}",
                each.recall,
                "",
                at_least=bars.get(each.low),
                detail={"n_met": each.n_met},
                note=f"{each.n_found} of {each.n_planted}",
            )
            for each in found.bins
            if each.low >= recipe.near_duplicate_threshold
        ]
        below = [each for each in found.bins if each.high <= recipe.near_duplicate_threshold]
        figures.append(
            Figure(
                f"pairs below Jaccard 0.8 called repeats, {recipe.profile}",
                float(found.n_false),
                "",
                at_most=0.0,
                note=f"{sum(each.n_planted for each in below)} copies planted below it, "
                f"{sum(each.n_met for each in below)} compared",
            )
        )
    return figures


def _sharing() -> list[Figure]:
    """Return how many unrelated texts stay that share a system prompt, or the same words inside."""
    rng = random.Random(0)
    shared = " ".join(f"rule{number}" for number in range(N_SHARED_WORDS))
    own = [
        [" ".join(f"w{rng.randrange(10**6)}" for _ in range(N_OWN_WORDS)) for _ in range(2)]
        for _ in range(N_SHARING)
    ]
    calls = [[message("system", shared), message("user", asked)] for asked, _ in own]
    cases = {
        "as a system prompt": [
            (joined(call, COMPARED_ROLES), answer)
            for call, (_, answer) in zip(calls, own, strict=True)
        ],
        "inside the compared text": [("", f"{shared} {answer}") for _, answer in own],
    }
    return [
        Figure(
            f"kept of {N_SHARING:,} unrelated texts with {N_SHARED_WORDS} words in common, {name}",
            float(N_SHARING - len(dedupe_texts(texts))),
            "",
            at_least=float(N_SHARING),
        )
        for name, texts in cases.items()
    ]


def _revisions() -> list[Figure]:
    rows = _rows(REVISIONS)
    pairs = [
        Pair(row["text_a"], row["text_b"], bool(row["label"]), row["jaccard5"]) for row in rows
    ]
    figures = []
    for name, verdicts in _verdicts(pairs):
        for least in (0.5, 0.8):
            chosen = [p.jaccard5 >= least or not p.is_related for p in pairs]
            about = f"revisions of a file, jaccard5 ≥ {least}, {name}"
            figures.append(_figure(about, pairs, verdicts, chosen))
    return figures or [Figure("revisions of a file", None, "", note=f"no {DATA / REVISIONS}")]


def _plagiarism() -> list[Figure]:
    rows = _rows(PLAGIARISM)
    originals = {row["case"]: row["text"] for row in rows if row["kind"] == "original"}
    pairs = [
        Pair(
            originals[row["case"]],
            row["text"],
            row["kind"] == "plagiarized",
            level=row.get("level") or "",
        )
        for row in rows
        if row["kind"] != "original"
    ]
    figures = []
    for name, verdicts in _verdicts(pairs):
        for level in sorted({pair.level for pair in pairs if pair.is_related}):
            chosen = [pair.level == level or not pair.is_related for pair in pairs]
            about = f"plagiarised programs, {level}, {name}"
            figures.append(_figure(about, pairs, verdicts, chosen))
    return figures or [Figure("plagiarised programs", None, "", note=f"no {DATA / PLAGIARISM}")]


def _verdicts(pairs: Sequence[Pair]) -> Iterable[tuple[str, list[bool]]]:
    """Yield what each of the three ways says of the pairs; nothing without pairs."""
    if pairs:
        yield "dropped", _dropped(pairs, RECIPE)
        yield "dropped with threshold 0.5, high-recall", _dropped(pairs, LOW)
        yield (
            "proposed as like code",
            [code_likeness(pair.one, pair.other) >= PROPOSED_FROM for pair in pairs],
        )


def _dropped(pairs: Sequence[Pair], recipe: CurationRecipe) -> list[bool]:
    """Return whether the index would find each pair and the comparison call it a repeat."""
    texts = [normalize([], text) for pair in pairs for text in (pair.one, pair.other)]
    made = fingerprints(texts, recipe, world_salt("coder", recipe))
    return [
        bool(set(one.keys) & set(other.keys))
        and duplicate_similarity(one, other, recipe) is not None
        for one, other in zip(made[0::2], made[1::2], strict=True)
    ]


def _figure(
    name: str, pairs: Sequence[Pair], verdicts: Sequence[bool], chosen: Sequence[bool]
) -> Figure:
    """Return the recall on the chosen pairs, with precision and counts beside it."""
    counts: dict[tuple[bool, bool], int] = defaultdict(int)
    for pair, verdict, is_chosen in zip(pairs, verdicts, chosen, strict=True):
        if is_chosen:
            counts[pair.is_related, verdict] += 1
    tp, fn = counts[True, True], counts[True, False]
    fp, tn = counts[False, True], counts[False, False]
    precision = tp / (tp + fp) if tp + fp else None
    said = "no positives" if precision is None else f"precision {precision:.3f}"
    return Figure(
        f"{name}: recall",
        tp / (tp + fn) if tp + fn else None,
        "",
        detail={"precision": precision, "tp": tp, "fn": fn, "fp": fp, "tn": tn},
        note=f"{said}: TP {tp}, FN {fn}, FP {fp}, TN {tn}",
    )


def _rows(name: str) -> list[dict[str, Any]]:
    """Return the rows of a public set, of all its files; none where it is absent."""
    rows = []
    for path in sorted((DATA / name).glob("*.jsonl*")):
        opened: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", encoding="utf-8") as file:
            rows += [json.loads(line) for line in file]
    return rows


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Measure what the search for repeats finds.")
    parser.add_argument("--quick", action="store_true", help="fewer planted copies, for a look")
    return report("dedupe_accuracy", measure(parser.parse_args().quick))


if __name__ == "__main__":
    sys.exit(main())
