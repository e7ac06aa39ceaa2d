"""The card of a dataset version: what went in, what fell out and why, and the proof of no leak.

Nothing in it depends on the clock or on how many builds it took, but for the `build` entry that the
database row adds.
"""

from collections import Counter
from itertools import combinations
from typing import Any, Final
from uuid import UUID

import numpy as np
from sqlalchemy import func, select, text
from sqlmodel import Session

from curation.choice.balance import UNTYPED
from curation.columns import example
from curation.dedupe.compare import BandIndex, duplicate_similarity, prompt_similarity
from curation.export import SPLITS
from curation.normalize import COMPARED_ROLES, comparable
from curation.recipe import RULE_VERSIONS, CurationRecipe
from curation.score.outcome import (
    EXACT_DUPLICATE,
    FAILED_OUTCOME,
    LOW_RATING,
    LOW_SCORE,
    NEAR_DUPLICATE,
    NO_OUTCOME,
    NOT_FAILED,
    OVER_QUOTA,
    TOO_LITTLE_FEEDBACK,
)
from curation.split import TASK_PREFIX
from curation.tables import KEPT, TRAIN, VALIDATION
from foundation.chat import joined

STEPS: Final = (
    (
        "proven",
        {FAILED_OUTCOME, NO_OUTCOME, NOT_FAILED, LOW_RATING, LOW_SCORE, TOO_LITTLE_FEEDBACK},
    ),
    ("unique", {EXACT_DUPLICATE, NEAR_DUPLICATE}),
    ("chosen", {OVER_QUOTA}),
)
"""Steps after `well_formed`, each with the reasons for which it drops."""
LARGE_GROUP_SHARE: Final = 0.2
PAIRS_PROVED_AT_MOST: Final = 200_000


class Tally:
    """Counts the rows of a version while they are written."""

    def __init__(self) -> None:
        self.splits: Counter[str] = Counter()
        self.task_types: Counter[str] = Counter()
        self.groups: Counter[str] = Counter()
        self.n_tokens: list[int] = []
        self.scores: list[float] = []
        self.n_corrected = self.n_verified = self.n_contradicted = 0
        self._episodes: dict[UUID, set[str]] = {}
        self._prompts: dict[str, set[str]] = {}

    def add(self, columns: dict[str, Any], split: str) -> None:
        """Count one kept example."""
        self.splits[split] += 1
        self.task_types[columns["task_type"] or UNTYPED] += 1
        self.groups[columns["split_key"]] += 1
        self.n_tokens.append(columns["n_tokens"])
        if columns["score"] is not None:
            self.scores.append(columns["score"])
        self.n_corrected += columns["corrected"]
        self.n_verified += columns["scores"].get("outcome") is True and not columns["corrected"]
        self.n_contradicted += bool(columns["scores"].get("contradicted"))
        if columns["episode_id"] is not None:
            self._episodes.setdefault(columns["episode_id"], set()).add(split)
        prompt = comparable(joined(columns["prompt"], COMPARED_ROLES))
        self._prompts.setdefault(prompt, set()).add(split)

    @property
    def n_rows(self) -> int:
        """Rows over all splits."""
        return self.splits.total()

    @property
    def n_shared_episodes(self) -> int:
        """Episodes with examples in more than one split."""
        return sum(len(splits) > 1 for splits in self._episodes.values())

    @property
    def n_shared_prompts(self) -> int:
        """Prompts (as compared) with examples in more than one split."""
        return sum(len(splits) > 1 for splits in self._prompts.values())

    @property
    def largest_group_share(self) -> float:
        """Share of the rows that the largest group of one split key holds; 0.0 without rows."""
        return max(self.groups.values(), default=0) / max(self.n_rows, 1)


def make_card(
    session: Session,
    role: str,
    recipe: CurationRecipe,
    tally: Tally,
    content_hash: str,
    leak_proof: dict[str, Any],
) -> dict[str, Any]:
    """Return the card as plain JSON values; shares are in 0-1, lengths in tokens (estimated)."""
    n_candidates, dropped = count_drops(session, role, recipe.variant)
    return {
        "role": role,
        "variant": recipe.variant,
        "content_hash": content_hash,
        "recipe": recipe.as_json(),
        "recipe_fingerprint": recipe.fingerprint,
        "rule_versions": dict(RULE_VERSIONS),
        "candidates": n_candidates,
        "kept": tally.n_rows,
        "dropped_by_reason": dropped,
        "steps": steps(n_candidates, dropped),
        "splits": {split: tally.splits[split] for split in SPLITS},
        "groups": len(tally.groups),
        "largest_group_share": tally.largest_group_share,
        "task_types": dict(sorted(tally.task_types.items())),
        "corrected_share": _share(tally.n_corrected, tally.n_rows),
        "verified_share": _share(tally.n_verified, tally.n_rows),
        "contradicted_share": _share(tally.n_contradicted, tally.n_rows),
        "mean_score": float(np.mean(tally.scores)) if tally.scores else None,
        "n_tokens": length_summary(tally.n_tokens),
        "leak_proof": leak_proof,
        "warnings": warnings_of(tally, leak_proof),
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


def steps(n_candidates: int, dropped: dict[str, int]) -> dict[str, int]:
    """Return how many examples were left after each step, in order."""
    later = {reason for _, reasons in STEPS for reason in reasons}
    left = n_candidates - sum(n for reason, n in dropped.items() if reason not in later)
    counts = {"candidates": n_candidates, "well_formed": left}
    for step, reasons in STEPS:
        left -= sum(dropped.get(reason, 0) for reason in reasons)
        counts[step] = left
    return counts


def length_summary(lengths: list[int]) -> dict[str, int]:
    """Return total, median, 95th percentile and maximum; all 0 for no lengths."""
    if not lengths:
        return {"total": 0, "p50": 0, "p95": 0, "max": 0}
    p50, p95 = np.percentile(lengths, [50, 95], method="higher")
    return {"total": sum(lengths), "p50": int(p50), "p95": int(p95), "max": max(lengths)}


def prove_no_leak(index: BandIndex, dataset_id: UUID, tally: Tally) -> dict[str, Any]:
    """Return what two splits of a stored version share: every number but the checked ones is 0.

    All pairs across splits that meet in a bucket of the near-duplicate index are verified anew.
    Prompts of tasks that the caller named may be alike: the name says they are different tasks.
    """
    pairs = _cross_split_pairs(index.session, dataset_id)
    entries = index.load({i for pair in pairs for i in pair})
    n_repeats = n_prompts = 0
    for one, other in ((entries[a], entries[b]) for a, b in pairs):
        assert one.fingerprint is not None
        assert other.fingerprint is not None
        a, b = one.fingerprint, other.fingerprint
        n_repeats += duplicate_similarity(a, b, index.recipe) is not None
        keys = (one.columns["split_key"], other.columns["split_key"])
        if not all(key.startswith(TASK_PREFIX) for key in keys):
            n_prompts += prompt_similarity(a.prompt, b.prompt, index.recipe) is not None
    return {
        "cross_split_repeats": n_repeats,
        "cross_split_similar_prompts": n_prompts,
        "cross_split_equal_prompts": tally.n_shared_prompts,
        "cross_split_episodes": tally.n_shared_episodes,
        "checked_pairs": len(pairs),
        "checked_all": len(pairs) < PAIRS_PROVED_AT_MOST,
    }


def warnings_of(tally: Tally, leak_proof: dict[str, Any]) -> list[str]:
    """Return what a reader of the dataset should know before training on it."""
    found = [
        f"{name.replace('_', ' ')}: {count}, expected 0"
        for name, count in leak_proof.items()
        if name.startswith("cross_split") and count
    ]
    found += [
        f"the {split} split is empty" for split in (TRAIN, VALIDATION) if not tally.splits[split]
    ]
    if tally.n_rows >= 10 and tally.largest_group_share > LARGE_GROUP_SHARE:
        found.append(
            f"one group holds {tally.largest_group_share:.0%} of the rows and falls in one split: "
            "name tasks by the attribute task_key, or shorten template text in user messages"
        )
    return found


def _cross_split_pairs(session: Session, dataset_id: UUID) -> set[tuple[UUID, UUID]]:
    """Return the pairs of members in different splits that share a bucket, up to a limit."""
    pairs: set[tuple[UUID, UUID]] = set()
    for ids, splits in session.execute(_SHARED_BUCKETS, {"dataset_id": dataset_id}):
        members = sorted(zip(ids, splits, strict=True))
        for (one, here), (other, there) in combinations(members, 2):
            if here != there:
                pairs.add((one, other))
            if len(pairs) == PAIRS_PROVED_AT_MOST:
                return pairs
    return pairs


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


_SHARED_BUCKETS = text(
    """
    SELECT array_agg(member.example_id), array_agg(member.split)
    FROM dataset_example AS member
    JOIN example_band AS band ON band.example_id = member.example_id
    WHERE member.dataset_id = :dataset_id
    GROUP BY band.key
    HAVING min(member.split) <> max(member.split)
    ORDER BY band.key
    """
)
