"""The card of a dataset version: what went in, what fell out and why, and how good the rest is.

Nothing in it depends on the clock or on how many builds it took, but for the `build` entry that the
database row adds.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from uuid import UUID

import numpy as np
from sqlalchemy import func, select
from sqlmodel import Session

from curation.choice.balance import UNTYPED
from curation.choice.sources import rows_by_source
from curation.columns import example
from curation.export import SPLITS
from curation.preferences.sources import pairs_by_source
from curation.publish.chosen import Chosen
from curation.publish.folder import write_card_files
from curation.publish.quality import Measure, sample_of
from curation.recipe import RULE_VERSIONS, CurationRecipe
from curation.score.judge import reliability
from curation.score.outcome import (
    CONTAMINATED,
    EXACT_DUPLICATE,
    FAILED_OUTCOME,
    LOW_RATING,
    LOW_SCORE,
    NEAR_DUPLICATE,
    NO_OUTCOME,
    NOT_FAILED,
    OVER_QUOTA,
    SOURCE_CAP,
    TOO_LITTLE_FEEDBACK,
)
from curation.tables import EVAL, KEPT, POSITIVE, PREFERENCE, TRAIN, VALIDATION, Dataset
from foundation.artifacts import put

STEPS: Final = (
    (
        "proven",
        {FAILED_OUTCOME, NO_OUTCOME, NOT_FAILED, LOW_RATING, LOW_SCORE, TOO_LITTLE_FEEDBACK},
    ),
    ("unique", {EXACT_DUPLICATE, NEAR_DUPLICATE}),
    ("decontaminated", {CONTAMINATED}),
    ("chosen", {OVER_QUOTA, SOURCE_CAP}),
)
"""Steps after `well_formed`, each with the reasons for which it drops."""
NO_TASK: Final = (
    "no task: of the test split, no prompt that no training has seen has something to grade by; "
    "see docs/choosing.md"
)
LARGE_GROUP_SHARE: Final = 0.2
SCORE_BINS: Final = 10
LENGTH_BINS: Final = (0, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
"""Lower ends of the bins of token lengths; the last has no upper end."""


class Tally:
    """Counts the rows of a version as they are chosen."""

    def __init__(self) -> None:
        self.splits: Counter[str] = Counter()
        self.task_types: Counter[str] = Counter()
        self.groups: Counter[str] = Counter()
        self.difficulties: Counter[str] = Counter()
        self.languages: Counter[str] = Counter()
        self.code_languages: Counter[str] = Counter()
        self.projects: Counter[str] = Counter()
        self.bases: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.mixed: Counter[str] = Counter()
        self.n_tokens: list[int] = []
        self.scores: list[float] = []
        self._ids: list[UUID] = []
        self.n_corrected = self.n_verified = self.n_contradicted = self.n_human = 0

    def add(self, row: Chosen) -> None:
        """Count one row of the role's own."""
        self._ids.append(row.id)
        self.splits[row.split] += 1
        self.task_types[row.task_type or UNTYPED] += 1
        self.groups[row.split_key] += 1
        self.projects[row.project] += 1
        self.outcomes["corrected" if row.corrected else row.polarity] += 1
        for counter, value in (
            (self.difficulties, row.difficulty),
            (self.languages, row.language),
            (self.code_languages, row.code_language),
            (self.bases, row.basis),
        ):
            if value is not None:
                counter[value] += 1
        if row.n_tokens is not None:
            self.n_tokens.append(row.n_tokens)
        if row.score is not None:
            self.scores.append(row.score)
        self.n_corrected += row.corrected
        self.n_verified += row.polarity == POSITIVE and not row.corrected
        self.n_contradicted += bool(row.disagreement)
        self.n_human += row.corrected or row.reviewed in ("accepted", "edited")

    def add_mixed(self, origin: str, n_rows: int) -> None:
        """Count rows that were mixed into `train`."""
        self.mixed[origin] += n_rows

    @property
    def ids(self) -> list[UUID]:
        """Ids of the role's own rows, as they were added."""
        return self._ids

    @property
    def sample(self) -> list[UUID]:
        """Ids of the rows whose text is measured."""
        return sample_of(self._ids)

    @property
    def n_rows(self) -> int:
        """The role's own rows over all splits."""
        return self.splits.total()

    @property
    def largest_group_share(self) -> float:
        """Share of the rows that the largest group of one split key holds; 0.0 without rows."""
        return max(self.groups.values(), default=0) / max(self.n_rows, 1)


def make_card(
    session: Session,
    dataset: Dataset,
    recipe: CurationRecipe,
    tally: Tally,
    quality: Mapping[str, Measure],
    leak_proof: Mapping[str, Any],
    n_capped: int = 0,
) -> dict[str, Any]:
    """Return the card as plain JSON values; shares are in 0-1, lengths in tokens (estimated).

    Of the rows over quota, `n_capped` are counted as left out by the cap on one source.
    """
    n_candidates, dropped = count_drops(session, dataset.role, dataset.variant)
    if n_capped:
        n_capped = min(n_capped, dropped.get(OVER_QUOTA, 0))
        dropped = (
            Counter(dropped) - Counter({OVER_QUOTA: n_capped}) + Counter({SOURCE_CAP: n_capped})
        )
        dropped = dict(sorted(dropped.items()))
    judge = recipe.judge_model
    return {
        "role": dataset.role,
        "kind": dataset.kind,
        "variant": dataset.variant,
        "number": dataset.number,
        "content_hash": dataset.content_hash,
        "recipe": recipe.as_json(),
        "recipe_fingerprint": recipe.fingerprint,
        "rule_versions": dict(RULE_VERSIONS),
        "code_version": version("agent-flywheel"),
        "candidates": n_candidates,
        "kept": tally.n_rows,
        "dropped_by_reason": dropped,
        "steps": steps(n_candidates, dropped),
        "splits": {split: tally.splits[split] for split in SPLITS},
        "mixed_in": dict(sorted(tally.mixed.items())),
        "groups": len(tally.groups),
        "largest_group_share": tally.largest_group_share,
        "task_types": _largest_first(tally.task_types),
        "difficulties": _largest_first(tally.difficulties),
        "languages": _largest_first(tally.languages),
        "code_languages": _largest_first(tally.code_languages),
        "projects": _largest_first(tally.projects),
        "bases": _largest_first(tally.bases),
        "sources": (
            pairs_by_source(session, tally.ids, recipe)
            if dataset.kind == PREFERENCE
            else rows_by_source(session, tally.ids)
        ),
        "outcomes": _largest_first(tally.outcomes),
        "corrected_share": _share(tally.n_corrected, tally.n_rows),
        "verified_share": _share(tally.n_verified, tally.n_rows),
        "contradicted_share": _share(tally.n_contradicted, tally.n_rows),
        "mean_score": round(float(np.mean(tally.scores)), 6) if tally.scores else None,
        "scores": score_histogram(tally.scores),
        "n_tokens": length_summary(tally.n_tokens),
        "lengths": length_histogram(tally.n_tokens),
        "leak_proof": dict(leak_proof),
        "quality": {name: measure.as_json() for name, measure in quality.items()},
        "judge": None if judge is None else reliability(session, judge).as_json(),
        "warnings": warnings_of(dataset.kind, tally, quality, leak_proof),
    }


def count_drops(session: Session, role: str, variant: str) -> tuple[int, dict[str, int]]:
    """Return how many interactions were looked at, and how many fell out for each reason."""
    rows = session.execute(
        select(example.status, example.drop_reason, func.count())
        .where(example.role == role, example.variant == variant)
        .group_by(example.status, example.drop_reason)
    ).all()
    dropped = {reason: n for status, reason, n in rows if status != KEPT}
    return sum(n for _, _, n in rows), dict(sorted(dropped.items()))


def task_types_of(session: Session, role: str, variant: str) -> set[str]:
    """Return the task types of all that was looked at."""
    named = select(example.task_type).where(
        example.role == role, example.variant == variant, example.task_type.is_not(None)
    )
    return set(session.execute(named.distinct()).scalars())


def steps(n_candidates: int, dropped: Mapping[str, int]) -> dict[str, int]:
    """Return how many examples were left after each step, in order."""
    later = {reason for _, reasons in STEPS for reason in reasons}
    left = n_candidates - sum(n for reason, n in dropped.items() if reason not in later)
    counts = {"candidates": n_candidates, "well_formed": left}
    for step, reasons in STEPS:
        left -= sum(dropped.get(reason, 0) for reason in reasons)
        counts[step] = left
    return counts


def length_summary(lengths: Sequence[int]) -> dict[str, int]:
    """Return total, median, 95th percentile and maximum; all 0 for no lengths."""
    if not lengths:
        return {"total": 0, "p50": 0, "p95": 0, "max": 0}
    p50, p95 = np.percentile(lengths, [50, 95], method="higher")
    return {"total": sum(lengths), "p50": int(p50), "p95": int(p95), "max": max(lengths)}


def length_histogram(lengths: Sequence[int]) -> list[dict[str, int]]:
    """Return rows by token length, up to the last bin that has any; empty for no lengths."""
    counts = np.bincount(np.digitize(lengths, LENGTH_BINS[1:]))
    return [{"from": low, "n": int(n)} for low, n in zip(LENGTH_BINS, counts, strict=False)]


def score_histogram(scores: Sequence[float]) -> list[dict[str, float]]:
    """Return rows by score in tenths of 0-1; empty for no scores."""
    if not scores:
        return []
    counts, ends = np.histogram(scores, SCORE_BINS, (0.0, 1.0))
    return [
        {"from": round(float(low), 1), "n": int(n)}
        for low, n in zip(ends[:-1], counts, strict=True)
    ]


def warnings_of(
    kind: str, tally: Tally, quality: Mapping[str, Measure], leak_proof: Mapping[str, Any]
) -> list[str]:
    """Return what a reader of the dataset should know before training on it."""
    found = [
        f"{name.replace('_', ' ')}: {count}, expected 0"
        for name, count in leak_proof.items()
        if name.startswith("cross_split") and count
    ]
    if kind == EVAL and not tally.n_rows:
        found.append(NO_TASK)
    if kind != EVAL:
        found += [
            f"the {split} split is empty"
            for split in (TRAIN, VALIDATION)
            if not tally.splits[split]
        ]
    if tally.n_rows >= 10 and tally.largest_group_share > LARGE_GROUP_SHARE:
        found.append(
            f"one group holds {tally.largest_group_share:.0%} of the rows and falls in one split: "
            "name tasks by the attribute task_key, or shorten template text in user messages"
        )
    if tally.n_rows >= 10 and len(tally.task_types) == 1:
        found.append(f"all rows are of one task type: {next(iter(tally.task_types))}")
    found += [
        f"{name.replace('_', ' ')} is {measure.value:.1%}, its target {measure.target:.0%}"
        for name, measure in quality.items()
        if measure.is_met is False
    ]
    return found


def write_card(card: Mapping[str, Any], shards: Iterable[Mapping[str, Any]]) -> str:
    """Store a card and the list of its version's files; return the URI of the artifact."""
    with TemporaryDirectory(prefix="flywheel-card-") as folder:
        write_card_files(Path(folder), card, files=list(shards))
        return put(Path(folder)).uri


def _largest_first(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
