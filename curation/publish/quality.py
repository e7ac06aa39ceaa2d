"""How good a version is, measured against targets; what cannot be measured says why.

A target is met or it is not: nothing is rounded up, guessed or left out of a denominator. What
needs the text of rows is measured on a sample, those with the least hash of their id, which hardly
changes when a version grows.
"""

import hashlib
import heapq
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from sqlalchemy import func, select
from sqlmodel import Session, col

from curation import embed
from curation.boilerplate import NO_TEMPLATES, Templates
from curation.dedupe.planted import plant_and_measure
from curation.normalize import normalize
from curation.publish.consistency import agreement, habits
from curation.publish.rows import Row
from curation.recipe import CurationRecipe
from curation.semantic import HASHED, hashed_vectors
from curation.tables import Dataset, ReviewItem, ReviewLabel
from foundation.chat import joined, text_of
from foundation.intervals import wilson

COVERAGE_TARGET: Final = 0.80
CORRECT_TARGET: Final = 0.95
AGREEMENT_TARGET: Final = 0.90
PLANTED_TARGET: Final = 0.95

ENOUGH_ANSWERS: Final = 20
"""Answers that agreement in a habit is measured on at least."""
ENOUGH_LABELS: Final = 30
"""Labels that the share of right answers is estimated from at least."""
ENOUGH_TEXTS: Final = 100
"""Rows that novelty is measured on, exactly: it falls with the number of neighbours."""
NOVELTY_CHARS: Final = 2000
"""Characters of a text that its novelty is measured by."""
N_PLANTED: Final = 200
"""Copies planted to see how surely repeats are found; those below the threshold tell nothing."""
SAMPLE_SIZE: Final = 300
STALE_SHARE: Final = 0.1
"""Share of new rows from which novelty is measured anew: embedding is dear."""


@dataclass(frozen=True)
class Measure:
    """One figure of a version, a share in 0-1."""

    value: float | None
    n: int
    """Of how many it was taken."""
    why_not: str | None = None
    """Why there is no value."""
    target: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_met(self) -> bool | None:
        """Whether the target is reached; None without a target or a value."""
        if self.value is None or self.target is None:
            return None
        return self.value >= self.target

    def as_json(self) -> dict[str, Any]:
        """Return the figure as the card has it."""
        said = {"value": self.value, "n": self.n, "target": self.target, "met": self.is_met}
        return {**said, "why_not": self.why_not, **self.details}


def coverage(of_role: Iterable[str], of_version: Iterable[str]) -> Measure:
    """Return the share of the role's task types that have an example in the version."""
    wanted, had = set(of_role), set(of_version)
    if not wanted:
        why = "no interaction names its task_type"
        return Measure(None, 0, why, COVERAGE_TARGET)
    missing = sorted(wanted - had)
    value = 1 - len(missing) / len(wanted)
    return Measure(value, len(wanted), None, COVERAGE_TARGET, {"missing": missing})


def human_verified(n_human: int, n_rows: int) -> Measure:
    """Return the share of rows that a person accepted, edited or wrote."""
    if not n_rows:
        return Measure(None, 0, "the version has no rows", CORRECT_TARGET)
    return Measure(n_human / n_rows, n_rows, None, CORRECT_TARGET)


def right_in_sample(n_right: int, n_wrong: int) -> Measure:
    """Return the share that reviewers accepted of what was drawn for them at random.

    What they rejected or edited counts as wrong, though it is no longer in the version. With the
    95 % interval of Wilson (1927).
    """
    n = n_right + n_wrong
    if n < ENOUGH_LABELS:
        why = f"{n} labels on the random sample, at least {ENOUGH_LABELS} are needed"
        return Measure(None, n, why, CORRECT_TARGET)
    low, high = wilson(n_right / n, n)
    return Measure(n_right / n, n, None, CORRECT_TARGET, {"interval": [low, high]})


def style_agreement(rows: Sequence[Row]) -> Measure:
    """Return the mean agreement over the habits that enough of these answers show."""
    shown = [(row["task_type"] or "", habits(_answer(row))) for row in rows]
    found = {k: v for k, v in agreement(shown).items() if v[1] >= ENOUGH_ANSWERS}
    if not found:
        why = f"fewer than {ENOUGH_ANSWERS} answers"
        return Measure(None, len(rows), why, AGREEMENT_TARGET)
    value = sum(share for share, _ in found.values()) / len(found)
    by_habit = {name: {"agreement": share, "n": n} for name, (share, n) in found.items()}
    return Measure(value, len(rows), None, AGREEMENT_TARGET, {"by_habit": by_habit})


def evenness(counts: Mapping[str, int]) -> Measure:
    """Return the entropy of a distribution over that of an even one (Pielou 1966)."""
    known = [n for n in counts.values() if n]
    if len(known) < 2:
        return Measure(None, len(known), "fewer than two task types")
    total = sum(known)
    entropy = -sum(n / total * math.log(n / total) for n in known)
    return Measure(entropy / math.log(len(known)), len(known))


def novelty(
    session: Session, rows: Sequence[Row], recipe: CurationRecipe, n_rows: int, last: Dataset | None
) -> Measure:
    """Return the mean distance (1 - cosine) of a text to its nearest neighbour in the sample.

    By the recipe's embedding model; without one by hashed word vectors, which need no model. With a
    model, the last version's figure stands while the number of rows changed by less than a tenth.
    """
    texts = [novelty_text(row) for row in rows[:ENOUGH_TEXTS]]
    if len(rows) < ENOUGH_TEXTS:
        return Measure(None, len(rows), f"fewer than {ENOUGH_TEXTS} rows")
    if recipe.embedding_model is None:
        found = embed.mean_novelty(hashed_vectors(texts))
        return Measure(found, len(texts), details={"model": HASHED, "n_rows": n_rows})
    model = recipe.embedding_model
    before = (last.card.get("quality") or {}).get("novelty") if last is not None else None
    if before and before["value"] is not None and before["model"] == model:
        if abs(n_rows - before["n_rows"]) < STALE_SHARE * before["n_rows"]:
            kept = {"model": model, "n_rows": before["n_rows"]}
            return Measure(before["value"], before["n"], details=kept)
    found = embed.novelty(session, texts, model)
    return Measure(found, len(texts), details={"model": model, "n_rows": n_rows})


def planted_recall(
    rows: Sequence[Row], recipe: CurationRecipe, templates: Templates = NO_TEMPLATES
) -> Measure:
    """Return the share found of repeats planted among these rows, at the recipe's threshold."""
    texts = [normalize(row["prompt"], _answer(row), templates) for row in rows]
    found = plant_and_measure(texts, recipe, seed=recipe.seed, n_planted=N_PLANTED)
    said = found.as_json()
    if found.recall is None:
        why = f"no answer of {recipe.short_below} words to plant copies of"
        return Measure(None, 0, why, PLANTED_TARGET)
    n = sum(each.n_planted for each in found.bins if each.low >= found.threshold)
    details = {"n_false": said["n_false"], "bins": said["bins"]}
    return Measure(found.recall, n, None, PLANTED_TARGET, details)


def novelty_text(row: Row) -> str:
    """Return what is embedded of a row."""
    return f"{joined(row['prompt'])}\n{_answer(row)}"[:NOVELTY_CHARS]


def sample_of(ids: Iterable[UUID], size: int = SAMPLE_SIZE) -> list[UUID]:
    """Return the ids of least hash, in that order: the same ones while they are there."""
    return heapq.nsmallest(size, ids, key=lambda i: hashlib.blake2b(i.bytes).digest())


def labels_on_sample(session: Session, role: str) -> tuple[int, int]:
    """Return how many random review items of a role were accepted, and how many not."""
    rows = session.execute(
        select(col(ReviewLabel.action), func.count())
        .join(ReviewItem, col(ReviewItem.id) == col(ReviewLabel.item_id))
        .where(
            col(ReviewItem.role) == role,
            col(ReviewItem.kind) == "example",
            col(ReviewItem.reason) == "random",
            col(ReviewLabel.undone_at).is_(None),
        )
        .group_by(col(ReviewLabel.action))
    )
    counts = Counter({str(action): n for action, n in rows})
    return counts["accept"], counts["reject"] + counts["edit"]


def _answer(row: Row) -> str:
    said = row.get("completion") or row["chosen"]
    return text_of(said[0].get("content"))
